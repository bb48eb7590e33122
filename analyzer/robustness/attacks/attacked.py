"""`Attacked`: a model as attacks see it, logits of inputs that lie between 0 and 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.backends import engine
from analyzer.errors import Unsupported
from analyzer.inspection import compat
from analyzer.inspection.batching import in_batches
from analyzer.inspection.guard import untouched_process
from analyzer.inspection.logits import logits_out
from analyzer.inspection.view import ModelView
from analyzer.robustness.attacks.losses import margin
from analyzer.robustness.attacks.threat import Box

Tensor = Any
Array = NDArray[Any]


@dataclass(kw_only=True, eq=False)
class Attacked:
    """The logits of a classifier, as a pure function that programs are made of.

    Attributes:
        view: The opened model, of one float input and one output with a row of classes (or one logit) per sample.
        box: Bounds of the inputs; attacks see them as 0 and 1.
        batch_size: Most samples per batch.
    """

    view: ModelView
    box: Box
    batch_size: int = 128
    _programs: dict[Any, Callable[..., Any]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        declared = getattr(self.view.model, "inputs", None) or [None]
        if len(declared) > 1 or len(self.view.heads) > 1:
            raise Unsupported("Attacks need a model with one input and one output.")
        state = self.view.state
        self._values = [engine().stop_gradient(keras.ops.convert_to_tensor(v.value)) for v in state]

    @property
    def n_classes(self) -> int:
        """How many classes the model tells apart."""
        width = self.view.heads[0].shape[-1]
        return 2 if width == 1 else int(width or 0)

    def logits(self, values: list[Tensor], u: Tensor) -> Tensor:
        """Logits ``(n, classes)``; a single logit becomes two, the first of them 0.

        Args:
            values: Those of the model's variables.
            u: Inputs from 0 to 1.
        """
        ops, model = keras.ops, self.view.model
        mapping = list(zip(self.view.state, values, strict=True))
        x = u * self.box.range + self.box.low
        with (
            keras.StatelessScope(state_mapping=mapping),
            compat.plain_calls(model, self.view.places.values()),
            logits_out(self.view),
        ):
            outputs = keras.tree.flatten(model(x, training=False))
        z = ops.cast(outputs[0], "float32")
        if len(z.shape) != 2:
            raise Unsupported(
                f"Attacks need one decision per sample: an output of shape (samples, classes), not {tuple(z.shape)}."
            )
        return ops.concatenate([ops.zeros_like(z), z], axis=-1) if z.shape[-1] == 1 else z

    def program(self, key: Any, fn: Callable[..., Any]) -> Callable[..., Any]:
        """``fn(values, *tensors)`` compiled once for all attacks that give the same key; the values are filled in.

        Args:
            key: Says what the function computes.
            fn: A pure function.
        """
        if key not in self._programs:
            self._programs[key] = engine().jit(fn)
        program = self._programs[key]
        return lambda *tensors: program(self._values, *tensors)

    def release(self) -> None:
        """Drop the compiled programs."""
        engine().release(list(self._programs.values()))
        self._programs.clear()

    def to_unit(self, x: Array) -> NDArray[np.float32]:
        """Inputs as attacks see them."""
        return np.clip((x - self.box.low) / self.box.range, 0.0, 1.0).astype(np.float32)

    def to_data(self, u: Array) -> Array:
        """Inputs as the model sees them."""
        return u * self.box.range + self.box.low

    @untouched_process()
    def by_batch(self, arrays: list[Array], work: Callable[[list[Tensor], Array], list[Tensor]]) -> list[Array]:
        """Results of all samples, from batches of one size.

        Args:
            arrays: One row per sample each.
            work: From tensors of a batch and the positions of its rows to results, one row per sample each.
        """
        n = len(arrays[0])
        positions = _filled_up(n, self.batch_size)

        def run(batch: list[Array], rows: Array, n_real: int) -> list[Array]:
            tensors = [keras.ops.convert_to_tensor(array) for array in batch]
            with engine().inference():
                found = work(tensors, positions[rows])
            return [engine().to_numpy(tensor)[:n_real] for tensor in found]

        filled, model = [array[positions] for array in arrays], self.view.model
        parts = list(in_batches(model, filled, self.batch_size, run, forget=self.release, too_large="to be attacked."))
        return [np.concatenate(each)[:n] for each in zip(*parts, strict=True)]

    def all_logits(self, u: Array) -> NDArray[np.float32]:
        """Logits of all samples.

        Args:
            u: Inputs from 0 to 1.
        """
        program = self.program("logits", self.logits)
        return self.by_batch([u], lambda batch, _: [program(*batch)])[0]

    def correct(self, u: Array, y: Array) -> NDArray[np.bool_]:
        """Whether the true class has strictly the largest logit.

        Args:
            u: Inputs from 0 to 1.
            y: True classes.
        """

        def verdict(values: list[Tensor], u: Tensor, y: Tensor) -> Tensor:
            return margin(self.logits(values, u), y, y) < 0

        program = self.program("correct", verdict)
        return self.by_batch([u, y], lambda batch, _: [program(*batch)])[0]


def _filled_up(n: int, batch_size: int) -> NDArray[np.int64]:
    """Rows of n samples, the first repeated until few shapes of batches, and so few compiled programs, serve all."""
    size = batch_size * -(-n // batch_size) if n > batch_size else max(8, 1 << (n - 1).bit_length())
    return np.concatenate([np.arange(n), np.zeros(size - n, np.int64)])
