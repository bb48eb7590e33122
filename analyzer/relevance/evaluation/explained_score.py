"""`ExplainedScore`: the value that an explanation starts from, computed forward only."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.backends import engine
from analyzer.inspection import compat
from analyzer.inspection.batching import in_batches
from analyzer.inspection.guard import untouched_process
from analyzer.inspection.logits import logits_out
from analyzer.inspection.view import ModelView
from analyzer.relevance.targets import Target


class ExplainedScore:
    """The explained value of each sample, last softmax and sigmoid cut; one compiled forward pass.

    Args:
        view: The opened model.
        target: What is explained; its predicted classes are those of whatever x is given, until `fixed`.
        batch_size: Most samples per batch; a size that the model fixes goes before it, lack of memory halves it.
    """

    def __init__(self, view: ModelView, target: Target, batch_size: int = 32) -> None:
        self.view = view
        self.target = target
        self._batch_size = batch_size
        self._structure: Any = None
        self._program = engine().jit(self._forward)

    def __call__(self, arranged: Any) -> NDArray[np.float64]:
        """Scores of all samples, ``(n,)``.

        Args:
            arranged: Samples in the structure that the model is called with.

        Raises:
            DeviceMemoryError: If a single sample does not fit.
        """
        return self._all(arranged)[0]

    def fixed(self, arranged: Any) -> Self:
        """The same for the classes that the model predicts for these samples, whatever happens to them later."""
        chosen = self._all(arranged)[1]
        if self.target.index is not None:
            self.target = dataclasses.replace(self.target, index=chosen[None, :])
        return self

    def release(self) -> None:
        """Drop the compiled program."""
        engine().release([self._program])

    @untouched_process()
    def _all(self, arranged: Any) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        batches = in_batches(
            self.view.model,
            arranged,
            self._batch_size,
            self._run,
            forget=lambda: None,
            too_large="to compute what is explained.",
        )
        scores, chosen = zip(*batches, strict=True)
        return np.concatenate(scores).astype(np.float64), np.concatenate(chosen).astype(np.int64)

    def _run(self, batch: Any, rows: NDArray[np.int64], n_real: int) -> tuple[NDArray[Any], NDArray[Any]]:
        self._structure = keras.tree.map_structure(lambda _: 0, batch)
        flat = [keras.ops.convert_to_tensor(array) for array in keras.tree.flatten(batch)]
        index = keras.ops.convert_to_tensor(self.target.indices(rows))
        with engine().inference():
            score, chosen = self._program([variable.value for variable in self.view.state], flat, index)
        return engine().to_numpy(score)[0, :n_real], engine().to_numpy(chosen)[0, :n_real]

    def _forward(self, values: list[Any], flat: list[Any], index: Any) -> list[Any]:
        model, scoped = self.view.model, list(zip(self.view.state, values, strict=True))
        with (
            keras.StatelessScope(state_mapping=scoped),
            compat.plain_calls(model, self.view.places.values()),
            logits_out(self.view),
        ):
            outputs = model(keras.tree.pack_sequence_as(self._structure, flat), training=False)
            return list(self.target.score(model, outputs, index))
