"""What a classifier decides: one class per sample, or none where two share the largest logit."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.backends import engine
from analyzer.inspection import compat
from analyzer.inspection.batching import in_batches
from analyzer.inspection.guard import untouched_process
from analyzer.inspection.logits import logits_out
from analyzer.inspection.view import ModelView

UNDECIDED = -1
"""No class has strictly the largest logit, or one is NaN: wrong whatever is true."""


class Logits:
    """The logits of a model's first output, its last softmax or sigmoid cut; one compiled forward pass.

    Args:
        view: The opened model.
        batch_size: Most samples per batch; a size that the model fixes goes before it, lack of memory halves it.
    """

    def __init__(self, view: ModelView, batch_size: int = 128) -> None:
        self.view = view
        self._batch_size = batch_size
        self._program = engine().jit(self._forward)

    @untouched_process()
    def __call__(self, arranged: Any) -> NDArray[np.float32]:
        """Logits ``(n, classes)``; a single logit becomes two, the first of them 0.

        Args:
            arranged: Samples in the structure that the model is called with.

        Raises:
            DeviceMemoryError: If a single sample does not fit.
        """
        batches = in_batches(
            self.view.model,
            arranged,
            self._batch_size,
            self._run,
            forget=self.release,
            too_large="to compute its logits.",
        )
        z = np.concatenate(list(batches)).astype(np.float32)
        return np.concatenate([np.zeros_like(z), z], axis=-1) if z.shape[-1] == 1 else z

    def release(self) -> None:
        """Drop the compiled program."""
        engine().release([self._program])

    def _run(self, batch: Any, rows: NDArray[np.int64], n_real: int) -> NDArray[Any]:
        del rows
        values = [variable.value for variable in self.view.state]
        tensors = [keras.ops.convert_to_tensor(array) for array in keras.tree.flatten(batch)]
        self._structure = batch
        with engine().inference():
            return engine().to_numpy(self._program(values, tensors))[:n_real]

    def _forward(self, values: list[Any], flat: list[Any]) -> Any:
        model = self.view.model
        mapping = list(zip(self.view.state, values, strict=True))
        with (
            keras.StatelessScope(state_mapping=mapping),
            compat.plain_calls(model, self.view.places.values()),
            logits_out(self.view),
        ):
            outputs = model(keras.tree.pack_sequence_as(self._structure, flat), training=False)
        return keras.tree.flatten(outputs)[0]


def decided(logits: NDArray[Any]) -> NDArray[np.int64]:
    """The class of strictly the largest logit of each sample, `UNDECIDED` where there is none.

    Args:
        logits: ``(n, classes)``.
    """
    largest = logits.max(axis=-1, keepdims=True)
    alone = (logits == largest).sum(axis=-1) == 1
    return np.asarray(np.where(alone, logits.argmax(axis=-1), UNDECIDED), np.int64)
