"""What suggestions are drawn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.outputs import OutputData
from analyzer.diagnosis.modeltrace.outcomes import predicted
from analyzer.inspection.model_config import CompiledLosses
from analyzer.inspection.view import ModelView

Told = Callable[[str, int, int], None]

LABELS = "It needs samples with labels of a model that chooses one class per sample: give x and y."


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """Everything that is known about a model.

    Attributes:
        view: The opened model.
        arranged: Samples in the structure that it is called with; None without.
        y: Their labels, or None.
        shifted: The same samples shifted; None without.
        history: The training history, or None.
        losses: The compiled losses.
        task: The user's word for what the output predicts.
        batch_size: Most samples per batch.
        n_bootstrap: Draws behind intervals.
        seed: Seed of every random choice.
        told: Told of progress.
    """

    view: ModelView
    arranged: Any | None
    y: Any = None
    shifted: Any | None = None
    history: Any = None
    losses: CompiledLosses = None
    task: str | None = None
    batch_size: int = 128
    n_bootstrap: int = 1000
    seed: int = 0
    told: Told = lambda _what, _done, _total: None

    def output(self, view: ModelView, arranged: Any, rows: NDArray[Any] | None = None) -> OutputData | None:
        """The output of a model on some samples.

        Args:
            view: The model.
            arranged: Its samples.
            rows: Which labels belong to them; None for all, in order.
        """
        y = self.y if rows is None or self.y is None else labels_at(self.y, rows)
        return predicted(view, arranged, y, losses=self.losses, task=self.task, batch_size=self.batch_size)


def labels_at(y: Any, rows: NDArray[Any]) -> Any:
    """Labels of some samples.

    Args:
        y: An array, or a dict by output.
        rows: Their positions.
    """
    if isinstance(y, dict):
        return {name: np.asarray(labels)[rows] for name, labels in y.items()}
    return np.asarray(y)[rows]
