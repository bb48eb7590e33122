"""How well a model does on the samples looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from analyzer.data_types.outputs import OutputTask
from analyzer.data_types.values import Estimate, Finding


@dataclass(frozen=True, kw_only=True, eq=False)
class PerformanceResult:
    """Performance of one output.

    Attributes:
        task: What the output predicts, whether it returns logits, and how we know.
        n: Samples looked at.
        accuracy: Share of samples (positions) whose most probable class is the label; of label entries on the right
            side of 1/2 for multilabel; None for regression. Wilson interval where rows are independent.
        loss: Mean compiled loss without regularisation; where there is none, log loss in nats for classes and mean
            squared error for regression. Bootstrap interval.
        loss_name: Which loss that is.
        metrics: Compiled metrics, and the usual ones of the task, by name; intervals by bootstrap where the metric is
            a mean over samples.
        notes: What could not be computed, and why.
        findings: What is wrong.
    """

    task: OutputTask
    n: int
    accuracy: Estimate | None = None
    loss: Estimate | None = None
    loss_name: str | None = None
    metrics: dict[str, Estimate] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """One row, for `AnalysisResults.to_frame`."""
        row: dict[str, Any] = {"task": self.task.kind, "n": self.n, "loss_name": self.loss_name}
        for name, estimate in {"accuracy": self.accuracy, "loss": self.loss, **self.metrics}.items():
            if estimate is not None:
                row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        return [row]
