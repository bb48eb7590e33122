"""From raw outputs and the user's labels to `OutputData`: probabilities, logits and labels in one matching form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from analyzer.data_types.data_input import DataInput
from analyzer.data_types.outputs import OutputData, OutputTask
from analyzer.errors import DataError, Unsupported
from analyzer.inspection.model_config import CompiledLosses
from analyzer.inspection.task import PROBABILITY_TOLERANCE, Evidence, detect_task, losses_by_output
from analyzer.inspection.trace import Head

_CLASS_KINDS = ("binary", "multiclass", "multilabel", "sequence", "segmentation")


@dataclass(frozen=True, kw_only=True)
class OutputHints:
    """What is known about a model's outputs besides the model itself.

    Attributes:
        model_name: Name under which the user knows the model.
        task: The user's word for all models, or by model or output name.
        from_logits: The user's word on logits, likewise.
        losses: The compiled losses.
        class_names: Names of the classes.
    """

    model_name: str
    task: str | Mapping[str, str] | None = None
    from_logits: bool | Mapping[str, bool] | None = None
    losses: CompiledLosses = None
    class_names: tuple[str, ...] = ()

    def word(self, said: Any, output: str) -> Any:
        """What the user said for an output: by output name, by model name, or for all."""
        if isinstance(said, Mapping):
            return said.get(output, said.get(self.model_name))
        return said


def describe_outputs(
    heads: Sequence[Head],
    raws: Sequence[NDArray[Any]],
    logits: Sequence[NDArray[Any] | None],
    data: DataInput,
    hints: OutputHints,
) -> dict[str, OutputData]:
    """Bring every output and its labels into the form that analyses need.

    Args:
        heads: The outputs' names and origins.
        raws: What the model returned for each, ``(n, ...)``.
        logits: What entered the last softmax or sigmoid of each, or None.
        data: The samples looked at.
        hints: What is known besides.

    Raises:
        DataError: If labels do not fit an output.
        Unsupported: If outputs are not finite.
    """
    evidences = _evidence(heads, raws, data, hints)
    return {
        evidence.head.name: _describe(evidence, logit, data, hints)
        for evidence, logit in zip(evidences, logits, strict=True)
    }


def check_labels(heads: Sequence[Head], data: DataInput, hints: OutputHints) -> None:
    """Refuse labels that do not fit the outputs, before the model runs over the data.

    Args:
        heads: The outputs' names, origins and shapes.
        data: The samples looked at.
        hints: What is known besides.

    Raises:
        DataError: If labels do not fit an output.
    """
    # Only the shape of the outputs is known; a zero that is never read stands for all of them.
    stand_ins = [np.broadcast_to(np.float32(0), (len(data), *(size or 1 for size in head.shape[1:]))) for head in heads]
    for evidence in _evidence(heads, stand_ins, data, hints):
        task = detect_task(evidence)
        if evidence.labels is not None and task.kind != "unknown":
            normalise_labels(evidence.head.name, evidence.labels, evidence.outputs.shape, task)


def _evidence(
    heads: Sequence[Head], raws: Sequence[NDArray[Any]], data: DataInput, hints: OutputHints
) -> list[Evidence]:
    names = [head.name for head in heads]
    labels = _labels_by_output(data.y_data, names)
    losses = losses_by_output(hints.losses, names)
    return [
        Evidence(
            head=head,
            word=hints.word(hints.task, head.name),
            from_logits=hints.word(hints.from_logits, head.name),
            loss=losses.get(head.name),
            outputs=raw,
            labels=labels.get(head.name),
        )
        for head, raw in zip(heads, raws, strict=True)
    ]


def _describe(evidence: Evidence, logit: NDArray[Any] | None, data: DataInput, hints: OutputHints) -> OutputData:
    head, raw, y = evidence.head, evidence.outputs, evidence.labels
    _check_finite(head.name, raw)
    task = detect_task(evidence)
    probabilities, logits = _probabilities(head, raw, logit, task)
    groups = None
    if task.kind in ("sequence", "segmentation", "multilabel") and raw.ndim > 2:
        groups = np.repeat(np.arange(len(raw)), int(np.prod(raw.shape[1:-1], dtype=np.int64)))
    labels = None if y is None or task.kind == "unknown" else normalise_labels(head.name, y, raw.shape, task)
    weight = data.sample_weight
    if weight is not None and groups is not None:
        weight = weight[groups]
    return OutputData(
        name=head.name,
        task=task,
        raw=raw,
        probabilities=probabilities,
        logits=logits,
        labels=labels,
        groups=groups,
        sample_weight=weight,
        class_names=hints.class_names if len(hints.class_names) == task.n_classes else (),
    )


def _check_finite(name: str, raw: NDArray[Any]) -> None:
    bad = ~np.isfinite(np.asarray(raw, dtype=np.float64)).reshape(len(raw), -1).all(axis=1)
    if bad.any():
        raise Unsupported(
            f"Output {name!r} is NaN or infinite for {int(bad.sum())} of {len(raw)} samples (first: sample "
            f"{int(np.argmax(bad))}). Look for NaN or infinite weights in the weight analysis."
        )


def _probabilities(
    head: Head, raw: NDArray[Any], logit: NDArray[Any] | None, task: OutputTask
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    if task.kind not in _CLASS_KINDS:
        return None, None
    values = _rows(raw, task)
    if task.from_logits:
        link = expit if task.kind in ("binary", "multilabel") else lambda z: softmax(z, axis=-1)
        return np.asarray(link(values), dtype=np.float64), values
    _check_probabilities(head.name, values, task)
    if task.kind not in ("binary", "multilabel"):
        values = values / values.sum(axis=-1, keepdims=True)
    return np.clip(values, 0.0, 1.0), None if logit is None else _rows(logit, task)


def _rows(values: NDArray[Any], task: OutputTask) -> NDArray[np.float64]:
    values = np.asarray(values, dtype=np.float64)
    if task.kind == "binary":
        if values.size != len(values):
            raise Unsupported(
                f"A binary task has one probability per sample; the output has shape {values.shape}. Say "
                "task='multiclass' for two softmax columns, or task='multilabel' for independent labels."
            )
        return values.reshape(len(values))
    return values.reshape(-1, values.shape[-1]) if values.ndim > 1 else values.reshape(-1, 1)


def _check_probabilities(name: str, values: NDArray[np.float64], task: OutputTask) -> None:
    if values.size and (values.min() < -PROBABILITY_TOLERANCE or values.max() > 1 + PROBABILITY_TOLERANCE):
        raise Unsupported(
            f"Output {name!r} should hold probabilities ({task.reason.split('.')[0]}), but ranges from "
            f"{values.min():.4g} to {values.max():.4g}. If it returns logits, say from_logits=True."
        )
    if task.kind in ("multiclass", "sequence", "segmentation"):
        off = float(np.abs(values.sum(axis=-1) - 1).max(initial=0.0))
        if off > PROBABILITY_TOLERANCE:
            raise Unsupported(
                f"Rows of output {name!r} should sum to 1 ({task.reason.split('.')[0]}), but are off by up to "
                f"{off:.3g}. If its columns are independent, say task='multilabel'; for logits, from_logits=True."
            )


def _labels_by_output(y: Any, names: list[str]) -> dict[str, NDArray[Any]]:
    if y is None:
        return {}
    if isinstance(y, Mapping):
        unknown = sorted(set(y) - set(names))
        if unknown and not (len(y) == len(names) == 1):
            raise DataError(f"y names outputs {unknown}, the model has {names}. Use the model's output names as keys.")
        return {names[0]: next(iter(y.values()))} if unknown else dict(y)
    if len(names) == 1:
        return {names[0]: y}
    raise DataError(
        f"The model has {len(names)} outputs ({', '.join(names)}) and y is one array of shape {y.shape}. Give "
        "y_data={output name: array}; in an .npz file, one key y_<output name> each."
    )


def normalise_labels(name: str, y: NDArray[Any], shape: tuple[int, ...], task: OutputTask) -> NDArray[Any]:
    """Bring labels into the form that fits the task.

    Args:
        name: Name of the output, for messages.
        y: Labels as given: sparse, one-hot, or real numbers.
        shape: Shape of the output, ``(n, ...)``.
        task: What the output predicts.

    Returns:
        See `OutputData.labels`.

    Raises:
        DataError: If shape or values do not fit.
    """
    if task.kind in ("regression", "gaussian", "quantile"):
        return _real_labels(name, y, shape, task)
    if task.kind == "binary":
        flat = _flat_binary(name, y)
        _check_classes(name, flat, 2)
        return flat.astype(np.int64)
    if task.kind == "multilabel":
        if y.shape != shape and (*y.shape, 1) != shape:
            raise DataError(
                f"Output {name!r} predicts {shape[-1]} independent labels: y should have shape {shape} with zeros and "
                f"ones, got {y.shape}. For exclusive classes say task='multiclass'."
            )
        _check_classes(name, y.reshape(-1), 2)
        return y.reshape(-1, shape[-1]).astype(np.int64)
    return _class_indices(name, y, shape)


def _class_indices(name: str, y: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.int64]:
    n_classes = shape[-1]
    if y.shape == shape:
        rows = y.reshape(-1, n_classes)
        if not (np.isin(rows, (0, 1)).all() and (rows.sum(axis=1) == 1).all()):
            raise DataError(
                f"y for output {name!r} has one column per class, so each row must hold a single 1 and zeros; it does "
                "not. Give class indices, one-hot rows, or say task='multilabel'."
            )
        return np.asarray(rows.argmax(axis=1), dtype=np.int64)
    if y.shape not in (shape[:-1], (*shape[:-1], 1)):
        raise DataError(
            f"y for output {name!r} has shape {y.shape}; expected class indices of shape {shape[:-1]} or one-hot rows "
            f"of shape {shape}."
        )
    flat = y.reshape(-1)
    _check_classes(name, flat, n_classes)
    return flat.astype(np.int64)


def _flat_binary(name: str, y: NDArray[Any]) -> NDArray[Any]:
    if y.ndim > 1 and y.size != len(y):
        raise DataError(
            f"Output {name!r} is one probability per sample: y should hold 0 or 1 with shape (n,) or (n, 1), got "
            f"{y.shape}. One-hot labels belong to a softmax over two classes."
        )
    return y.reshape(-1)


def _check_classes(name: str, flat: NDArray[Any], n_classes: int) -> None:
    whole = flat.dtype.kind in "iub" or (flat.dtype.kind == "f" and np.array_equal(flat, np.round(flat)))
    if not whole or not np.isfinite(flat).all():
        raise DataError(
            f"y for output {name!r} should hold whole class numbers, got dtype {flat.dtype} with values such as "
            f"{flat[:3].tolist()}. Encode the labels as 0..{n_classes - 1}."
        )
    if flat.size and (flat.min() < 0 or flat.max() >= n_classes):
        raise DataError(
            f"y for output {name!r} has labels from {int(flat.min())} to {int(flat.max())}; the model has {n_classes} "
            f"classes, so they must lie in 0..{n_classes - 1}. Subtract 1 if they start at 1."
        )


def _real_labels(name: str, y: NDArray[Any], shape: tuple[int, ...], task: OutputTask) -> NDArray[np.float64]:
    n, width = shape[0], int(np.prod(shape[1:], dtype=np.int64))
    targets = {"regression": width, "gaussian": width // 2, "quantile": width // max(len(task.quantiles), 1)}[task.kind]
    if targets * {"regression": 1, "gaussian": 2, "quantile": max(len(task.quantiles), 1)}[task.kind] != width:
        raise DataError(
            f"Output {name!r} has {width} columns, which does not fit task={task.kind!r}: gaussian needs a mean and a "
            "variance per target, quantile one column per level and target."
        )
    if y.dtype.kind not in "iufb" or y.size != n * targets:
        raise DataError(
            f"y for output {name!r} has shape {y.shape} and dtype {y.dtype}; expected {targets} real number(s) per "
            f"sample, shape ({n}, {targets}). If y holds classes, say task='binary' or task='multiclass'."
        )
    real = y.reshape(n, targets).astype(np.float64)
    if not np.isfinite(real).all():
        raise DataError(f"y for output {name!r} contains NaN or infinite values. Drop or impute those samples.")
    return real
