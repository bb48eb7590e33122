"""What is explained: classes, positions, boxes, masks, or any function of the outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.config import check_names
from analyzer.errors import ConfigError, DataError
from analyzer.inspection.trace import Head, named_outputs
from analyzer.inspection.view import ModelView
from analyzer.relevance.flow import Tensor, is_float
from analyzer.relevance.public_ops import ops
from analyzer.relevance.rules import STABILISER, stabilised

TASKS: tuple[str, ...] = ("binary", "multiclass", "multilabel", "regression", "box", "segmentation", "sequence")

PREDICTED = -1
"""Stands for the class that the model predicts."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is explained, brought into the form that a compiled pass computes.

    Attributes:
        head: Position of the output among the model's.
        task: What kind of output it is.
        shape: Shape of the output per sample.
        text: What is explained, for results.
        k: How many targets are explained at once.
        index: ``(k, n)`` or ``(k, 1)``: flat position in the output, `PREDICTED` for the predicted class; None for a
            mask, a box or a callable.
        function: From the model's outputs to ``(n,)``, for a callable target.
        start: ``"output"``, or the amount that relevance begins with.
        multiplier: What the start is multiplied with.
        threshold: Probability above which a pixel of a segmentation belongs to the mask.
        channel: Class of the mask that is explained; None for whichever is predicted.
    """

    head: int
    task: str
    shape: tuple[int, ...]
    text: str
    k: int = 1
    index: NDArray[np.int64] | None = None
    function: Callable[[Any], Tensor] | None = None
    start: float | str = "output"
    multiplier: float = 1.0
    threshold: float = 0.5
    channel: int | None = None

    @property
    def program_key(self) -> tuple[Any, ...]:
        """What a compiled pass depends on; the positions themselves are arguments."""
        kind = None if self.index is None else self.index.shape[0]
        return (
            self.head,
            self.task,
            self.shape,
            self.k,
            kind,
            self.function,
            self.start,
            self.multiplier,
            self.threshold,
            self.channel,
        )

    def indices(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Positions for some samples, ``(k, rows)``."""
        if self.index is None:
            return np.zeros((1, len(rows)), np.int32)
        index = self.index if self.index.shape[1] == 1 else self.index[:, rows]
        return np.ascontiguousarray(np.broadcast_to(index, (self.k, len(rows))), dtype=np.int32)

    def score(self, model: keras.Model, outputs: Any, index: Tensor) -> tuple[Tensor, Tensor]:
        """What relevance starts from.

        Args:
            model: The model.
            outputs: What it returned, last activations cut.
            index: From `indices`.

        Returns:
            ``(k, n)`` amounts, float32; and the positions explained, ``(k, n)``, -1 where there is none.
        """
        if self.function is not None:
            value = self._of_function(outputs)
            return self._started(value)[None], -ops.ones((1, value.shape[0]), "int32")
        named = named_outputs(model, outputs)
        logits = ops.cast(named[self.head][1], "float32")
        flat = ops.reshape(logits, (logits.shape[0], -1))
        weights = self.weights(model, outputs)
        if weights is not None:
            return ops.reshape(ops.sum(flat * weights, axis=-1), (1, -1)), -ops.ones((1, flat.shape[0]), "int32")
        return self._chosen(flat, index)

    def factor(self, value: Tensor) -> Tensor | float:
        """What a value explained is multiplied with so that relevance begins as was asked; a constant."""
        if self.start == "output":
            return self.multiplier
        return float(self.start) * self.multiplier / stabilised(ops.stop_gradient(value), STABILISER)

    def weights(self, model: keras.Model, outputs: Any) -> Tensor | None:
        """How much each value of the output counts where many are explained together (a mask, a box): ``(n, values)``.

        The start is the sum of ``weights * values``. None where a position or a function is explained.

        Args:
            model: The model.
            outputs: What it returned, last activations cut.
        """
        if self.function is not None or self.index is not None:
            return None
        logits = ops.cast(named_outputs(model, outputs)[self.head][1], "float32")
        flat = ops.stop_gradient(ops.reshape(logits, (logits.shape[0], -1)))
        mask = self._mask(logits) if self.task == "segmentation" else ops.ones_like(flat)
        count = 1 if self.start == "output" else ops.maximum(ops.sum(mask, axis=-1, keepdims=True), 1)
        return mask * self.factor(flat) / count

    def _of_function(self, outputs: Any) -> Tensor:
        """What a callable target makes of the outputs, ``(n,)``."""
        assert self.function is not None  # noqa: S101 - only asked of callable targets
        value = self.function(outputs)
        rows = keras.tree.flatten(outputs)[0].shape[0]
        known = keras.ops.is_tensor(value) and tuple(value.shape) in ((rows,), (rows, 1))
        if not known or not is_float(value):
            got = f"shape {tuple(value.shape)} and dtype {value.dtype}" if hasattr(value, "shape") else repr(value)
            raise ConfigError(
                f"The target {self.text!r} returned {got} for a batch of {rows} samples: expected one float number for "
                f"each, a tensor of shape ({rows},), made of the outputs with keras.ops."
            )
        return ops.cast(ops.reshape(value, (rows,)), "float32")

    def _started(self, value: Tensor) -> Tensor:
        return value * self.factor(value)

    def _mask(self, logits: Tensor) -> Tensor:
        """Pixels of the mask, ``(n, values)``, 1 or 0."""
        rows, classes = logits.shape[0], logits.shape[-1]
        still = ops.stop_gradient(logits)
        if classes == 1:
            mask = ops.sigmoid(still) > self.threshold
        else:
            # Not one_hot, which on PyTorch reads its argument on the host.
            chosen = ops.argmax(still, axis=-1, keepdims=True) if self.channel is None else self.channel
            own = ops.arange(classes, dtype="int32") == ops.cast(chosen, "int32")
            mask = ops.logical_and(own, ops.softmax(still, axis=-1) > self.threshold)
        return ops.reshape(ops.cast(mask, "float32"), (rows, -1))

    def _chosen(self, flat: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        still = ops.stop_gradient(flat)
        if self.task == "binary":
            predicted = ops.cast(still[:, 0] > 0, "int32")
            chosen = ops.where(index < 0, predicted[None, :], index)
            # For class 0 the logit speaks the other way round.
            value = flat[:, 0][None, :] * ops.cast(2 * chosen - 1, "float32")
        else:
            predicted = ops.cast(ops.argmax(still, axis=-1), "int32")
            chosen = ops.where(index < 0, predicted[None, :], index)
            value = ops.transpose(ops.take_along_axis(flat, ops.transpose(chosen), axis=1))
        return self._started(value), chosen


def resolve(
    view: ModelView,
    target: Any,
    n: int,
    *,
    task: str | None = None,
    start: float | str = "output",
    multiplier: float = 1.0,
    threshold: float = 0.5,
) -> Target:
    """Bring ``target=`` into the form that a compiled pass computes.

    Args:
        view: The opened model.
        target: See `analyzer.relevance.explain.explain`.
        n: Number of samples.
        task: What kind of output it is; None to go by its shape and last activation.
        start: Where relevance begins.
        multiplier: What that is multiplied with.
        threshold: For segmentation masks.

    Raises:
        ConfigError: If something is no target of this model, or an option has no such value.
    """
    _check_options(task, start, multiplier, threshold)
    common: dict[str, Any] = {"start": start, "multiplier": float(multiplier), "threshold": float(threshold)}
    head, target = _head(view.heads, target)
    shape = tuple(int(size or 0) for size in view.heads[head].shape[1:])
    kind = task or _task(view.heads[head])
    common |= {"head": head, "shape": shape, "task": kind}
    if callable(target):
        return Target(text=getattr(target, "__name__", "a function of the outputs"), function=target, **common)
    if kind == "segmentation" and not isinstance(target, tuple):
        channel = _channel(target, shape)
        which = "predicted" if channel is None else f"class {channel}"
        return Target(text=f"mask of the {which} pixels above {threshold:g}", channel=channel, **common)
    if kind == "box" and isinstance(target, str):
        _only_predicted(target)
        return Target(text="all coordinates of the box", **common)
    index = _index(target, shape, kind, n)
    return Target(text=_text(target, kind), k=len(index), index=index, **common)


def _check_options(task: str | None, start: Any, multiplier: Any, threshold: Any) -> None:
    if task is not None:
        check_names([task], list(TASKS), what="task")
    if not (start == "output" or (_is_number(start) and start != 0)):
        raise ConfigError(f"start={start!r}: expected 'output', or the amount that relevance begins with, e.g. 1.0.")
    if not _is_number(multiplier) or multiplier == 0:
        raise ConfigError(f"multiplier={multiplier!r}: expected a number other than 0.")
    if not _is_number(threshold) or not 0 <= threshold < 1:
        raise ConfigError(f"threshold={threshold!r}: expected a probability, at least 0 and below 1.")


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float | np.number) and bool(np.isfinite(value))


def _head(heads: Sequence[Head], target: Any) -> tuple[int, Any]:
    names = [head.name for head in heads]
    if isinstance(target, Mapping):
        if len(target) != 1:
            raise ConfigError(f"target={target!r}: expected one output's name, e.g. {{{names[0]!r}: 'predicted'}}.")
        ((name, target),) = target.items()
        check_names([name], names, what="output")
        return names.index(name), target
    if len(names) > 1 and not callable(target):
        raise ConfigError(
            f"The model has {len(names)} outputs ({', '.join(names)}): say which one is explained, "
            f"target={{{names[0]!r}: {target!r}}}, or give a function of the outputs."
        )
    return 0, target


def _task(head: Head) -> str:
    """By the output's shape and last activation."""
    sizes = head.shape[1:]
    if len(sizes) >= 3:
        return "segmentation"
    if len(sizes) == 2:
        return "sequence"
    if not sizes or sizes[0] == 1:
        return "binary" if head.activation == "sigmoid" else "regression"
    return "multilabel" if head.activation == "sigmoid" else "multiclass"


def _channel(target: Any, shape: tuple[int, ...]) -> int | None:
    if isinstance(target, str):
        _only_predicted(target)
        return None
    if not _is_whole(target) or not -shape[-1] <= target < shape[-1]:
        raise ConfigError(
            f"target={target!r}: the masks have {shape[-1]} classes; give 0 to {shape[-1] - 1}, or 'predicted'."
        )
    return int(target) % shape[-1]


def _only_predicted(target: str) -> None:
    if target != "predicted":
        raise ConfigError(
            f"target={target!r}: expected 'predicted', a class, a list of classes, an array with a class for each "
            "sample, a tuple that indexes the output of a sample, {output name: target}, or a function of the outputs."
        )


def _is_whole(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | np.integer)


def _index(target: Any, shape: tuple[int, ...], task: str, n: int) -> NDArray[np.int64]:
    """Flat positions, ``(k, n)`` or ``(k, 1)``."""
    if isinstance(target, np.ndarray):
        if target.shape != (n,) or not np.issubdtype(target.dtype, np.integer):
            raise DataError(
                f"target is an array of shape {target.shape} and dtype {target.dtype}: expected one whole number for "
                f"each of the {n} samples, or a list of classes to explain them all at once."
            )
        return np.array([[_flat(int(one), shape, task) for one in target]], np.int64)
    several = list(target) if isinstance(target, list) else [target]
    if not several:
        raise ConfigError("target=[]: expected at least one class.")
    return np.array([[_flat(one, shape, task)] for one in several], np.int64)


def _flat(target: Any, shape: tuple[int, ...], task: str) -> int:
    if isinstance(target, str):
        _only_predicted(target)
        if task == "sequence":
            raise ConfigError(
                f"The output has shape {shape} per sample, a prediction at each position: say which one, "
                "target=(position, class), or give a function of the outputs."
            )
        return PREDICTED if task != "regression" or int(np.prod(shape)) > 1 else 0
    position = target if isinstance(target, tuple) else (target,)
    if not position or not all(_is_whole(one) for one in position):
        _only_predicted(repr(target))
    sizes = (2,) if task == "binary" else shape or (1,)
    if len(position) != len(sizes):
        raise ConfigError(f"target={target!r}: the output has shape {sizes} per sample; give {len(sizes)} numbers.")
    for one, size in zip(position, sizes, strict=True):
        if not -size <= one < size:
            raise ConfigError(f"target={target!r} is out of range: the output has shape {sizes} per sample.")
    return int(np.ravel_multi_index([one % size for one, size in zip(position, sizes, strict=True)], sizes))


def _text(target: Any, task: str) -> str:
    if isinstance(target, np.ndarray):
        return "a class for each sample"
    what = "coordinate" if task == "box" else "output" if task == "regression" else "class"
    return f"the predicted {what}" if isinstance(target, str) else f"{what} {target}"
