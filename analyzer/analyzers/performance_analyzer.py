"""How well each model does: accuracy, loss and the compiled metrics, from the gathered predictions."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from analyzer.analyzers.base import BaseAnalyzer, material, outcome
from analyzer.analyzers.compiled_metrics import CompiledMetrics
from analyzer.data_types import AnalysisResults, DataInput, OutputData, for_outputs
from analyzer.data_types.performance import PerformanceResult
from analyzer.errors import Unsupported
from analyzer.inspection.needs import Need, Predictions
from analyzer.measures.performance import Scores, classification_scores, mean_estimate, regression_scores

if TYPE_CHECKING:
    from analyzer.config import AnalysisConfig

_NO_LABELS = "No labels were given: pass y_data (key y in an .npz file) to measure performance."


class PerformanceAnalyzer(BaseAnalyzer):
    """Accuracy, loss and metrics of every output that has labels."""

    name: ClassVar[str] = "performance"

    def requires_data(self) -> bool:
        """Performance is measured on data."""
        return True

    def needs(self) -> tuple[Need, ...]:
        """Predictions."""
        return (Predictions(),)

    def analyze(self, results: AnalysisResults, data: DataInput | None, cache: Mapping[str, Any]) -> None:
        """Fill ``results.performance``."""
        del data
        results.performance = self.each_model(lambda name: self._model(name, cache))

    def _model(self, name: str, cache: Mapping[str, Any]) -> Any:
        outputs: dict[str, OutputData] = material(cache, name, Predictions())
        compiled = CompiledMetrics(cache[name]["compile_config"], list(outputs))
        work = functools.partial(measure_performance, compiled=compiled, config=self.config)
        if len(outputs) == 1:
            return work(next(iter(outputs.values())))
        return for_outputs({key: outcome(functools.partial(work, output)) for key, output in outputs.items()})


def measure_performance(output: OutputData, compiled: CompiledMetrics, config: AnalysisConfig) -> PerformanceResult:
    """Accuracy, loss and metrics of one output.

    Args:
        output: Predictions and labels.
        compiled: Loss and metrics that the model was compiled with.
        config: The options.

    Raises:
        Unsupported: If there are no labels, or the task is not known.
    """
    if output.labels is None:
        raise Unsupported(_NO_LABELS if output.task.kind != "unknown" else output.task.reason)
    scores = _scores(output, config)
    notes: list[str] = []
    loss, loss_name = scores.loss, scores.loss_name
    compiled_loss = compiled.loss(output, notes)
    if compiled_loss is not None:
        loss_name, values = compiled_loss
        loss = mean_estimate(
            values, output.groups, output.sample_weight, n_bootstrap=config.n_bootstrap, seed=config.seed
        )
    return PerformanceResult(
        task=output.task,
        n=output.n,
        accuracy=scores.accuracy,
        loss=loss,
        loss_name=loss_name,
        metrics={**scores.metrics, **compiled.metrics(output, notes)},
        notes=tuple(notes),
    )


def _scores(output: OutputData, config: AnalysisConfig) -> Scores:
    options = {"n_bootstrap": config.n_bootstrap, "seed": config.seed}
    if output.probabilities is not None:
        return classification_scores(output, **options)
    if output.task.kind in ("regression", "gaussian", "quantile"):
        return regression_scores(output, **options)
    raise Unsupported(output.task.reason)
