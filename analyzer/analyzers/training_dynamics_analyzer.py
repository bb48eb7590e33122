"""Training dynamics: how a model came to be what it is, from its training history."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analyzer.analyzers.base import BaseAnalyzer, outcome
from analyzer.analyzers.training_findings import evaluation_findings, findings_of
from analyzer.analyzers.training_series import best_of, curves, gap, peaks, rate_steps
from analyzer.data_types.history import History
from analyzer.data_types.metric_names import Direction, Metric, chance_level, choose_performance, loss_of, plain_name
from analyzer.data_types.training import RunDynamics, TrainingResult
from analyzer.data_types.values import Failed, Skipped
from analyzer.errors import Unsupported
from analyzer.measures.curves import across_runs
from analyzer.measures.training import (
    area_under_learning_curve,
    corrected_epochs_to_convergence,
    corrected_peak,
    detrended_stability,
    epochs_to_convergence,
    final_gap,
    majority_share,
    normalized_area_under_learning_curve,
    overfitting_index,
    peak,
    training_stability_score,
)
from analyzer.measures.training_events import (
    divergence,
    double_descent,
    first_non_finite,
    loss_spikes,
    overfitting,
    plateau_start,
)

if TYPE_CHECKING:
    from analyzer.config import AnalysisConfig
    from analyzer.data_types import AnalysisResults, DataInput
    from analyzer.inspection.needs import Need

NO_HISTORY = "no training history was given: pass training_history={name: history} or --history name=log.csv"

_PLAIN_ACCURACY = ("accuracy", "acc", "categorical_accuracy", "sparse_categorical_accuracy")


class TrainingDynamicsAnalyzer(BaseAnalyzer):
    """Reads training histories: convergence, peak, generalisation gap, stability, and what went wrong when."""

    name = "training_dynamics"

    def requires_data(self) -> bool:
        """Histories are enough; labels, where given, tell the chance level of an accuracy."""
        return False

    def compared_needs(self) -> tuple[Need, ...]:
        """Predictions, where the training data are to be evaluated."""
        if not self.config.evaluate_train:
            return ()
        from analyzer.inspection.needs import Predictions

        return (Predictions(),)

    def analyze(self, results: AnalysisResults, data: DataInput | None, cache: Mapping[str, Any]) -> None:
        """Write ``results.training_dynamics[model_name]`` from ``results.training_history``."""
        histories: Mapping[str, History] = getattr(results, "training_history", None) or {}
        labels = getattr(data, "y_data", None)
        share = majority_share(labels) if isinstance(labels, np.ndarray) else None

        def work(name: str) -> TrainingResult:
            try:
                if name not in histories:
                    raise Unsupported(NO_HISTORY)
                dynamics = training_dynamics(histories[name], self.config, majority=share)
            except Unsupported as reason:
                if not self.config.evaluate_train:
                    raise
                dynamics = _without_history(str(reason))
            return self._with_evaluation(dynamics, name, cache) if self.config.evaluate_train else dynamics

        results.training_dynamics = self.each_model(work)

    def _with_evaluation(self, dynamics: TrainingResult, name: str, cache: Mapping[str, Any]) -> TrainingResult:
        """The result with what the finished model does on its training data; why not becomes a note."""
        from analyzer.analyzers.train_evaluation import evaluate_both, headline

        evaluated = outcome(lambda: evaluate_both(cache, name, self.config))
        if isinstance(evaluated, Skipped | Failed):
            if not dynamics.n_runs:
                raise Unsupported(f"{'; '.join(dynamics.notes)}; nor was the gap evaluated: {evaluated.reason}")
            note = f"The training data were not evaluated: {evaluated.reason}"
            return dataclasses.replace(dynamics, notes=(*dynamics.notes, note))
        findings = dynamics.findings + evaluation_findings(evaluated, dynamics)
        return dataclasses.replace(dynamics, evaluated=evaluated, findings=findings, **headline(evaluated))


def training_dynamics(history: History, config: AnalysisConfig, *, majority: float | None = None) -> TrainingResult:
    """The training dynamics of one model.

    Args:
        history: What was logged, see `analyzer.data_types.history.read_history`.
        config: Its smoothing options are used.
        majority: Share of the commonest class among labels, the chance level of an accuracy; None where not known.

    Raises:
        Unsupported: If no metric of the history is recognised.
    """
    if not history.metrics:
        reasons = "; ".join(dict.fromkeys(history.unused.values()))
        raise Unsupported(f"the training history has no metric whose direction is known: {reasons}")
    performance, why = choose_performance(history.metrics)
    loss = loss_of(history.metrics)
    chance, chance_source = _chance(performance, majority)
    runs = tuple(_run(history, row, loss, performance, chance) for row in range(history.n_runs))
    return TrainingResult(
        n_runs=history.n_runs,
        epochs=history.epochs,
        performance=performance,
        performance_reason=why,
        loss=loss,
        metrics=history.metrics,
        unused=history.unused,
        notes=history.notes + _missing(loss, performance),
        chance=chance,
        chance_source=chance_source,
        peak_performance=best_of(history, performance, str(performance.validation), loss) if performance else None,
        peaks=peaks(history, loss),
        learning_rate_steps=rate_steps(history, loss),
        runs=runs,
        curves=curves(history, config),
        gap=gap(history, loss, config),
        smoothing_window=config.smoothing_window if config.smooth_training_curves else None,
        findings=findings_of(history, loss, performance, runs, chance),
        **_summary(runs, history.epochs),
    )


def _without_history(reason: str) -> TrainingResult:
    """A result for what the data say, where a history says nothing."""
    return TrainingResult(
        n_runs=0,
        epochs=np.empty(0, dtype=np.int64),
        performance=None,
        performance_reason=reason,
        loss=None,
        notes=(reason,),
    )


def _chance(performance: Metric | None, majority: float | None) -> tuple[float | None, str]:
    """The chance level of the performance metric, and where it comes from."""
    if performance is None:
        return None, "no performance metric"
    known = chance_level(performance)
    if known is not None:
        return known, f"definition of {performance.name!r}"
    if majority is not None and plain_name(performance.name) in _PLAIN_ACCURACY:
        return majority, "share of the commonest class among the labels looked at"
    return None, "not known; the value after the first epoch stands for it"


def _missing(loss: Metric | None, performance: Metric | None) -> tuple[str, ...]:
    notes = []
    if loss is None:
        notes.append("No series 'loss' or 'val_loss': no gap, overfitting index or stability.")
    elif loss.validation is None:
        notes.append("No series 'val_loss': no gap, overfitting index or stability; pass validation data to fit().")
    elif loss.train is None:
        notes.append("No series 'loss': no gap and no overfitting index.")
    if performance is None:
        notes.append("No metric with validation values: no peak and no convergence.")
    return tuple(notes)


def _run(
    history: History, row: int, loss: Metric | None, performance: Metric | None, chance: float | None
) -> RunDynamics:
    numbers: dict[str, Any] = {}
    if performance is not None:
        values = history.series[str(performance.validation)][row]
        numbers |= _performance_numbers(history.epochs, values, performance.direction, chance)
    if loss is not None:
        numbers |= _loss_numbers(history, loss, row)
    return RunDynamics(**numbers)


def _performance_numbers(
    epochs: NDArray[np.int64], values: NDArray[np.float64], direction: Direction, chance: float | None
) -> dict[str, Any]:
    best = peak(epochs, values, direction)
    return {
        "epochs_to_convergence": epochs_to_convergence(epochs, values, direction),
        "corrected_epochs_to_convergence": corrected_epochs_to_convergence(epochs, values, direction, chance),
        "peak_value": best[0] if best else None,
        "peak_epoch": best[1] if best else None,
        "corrected_peak": corrected_peak(values, direction),
        "area_under_learning_curve": area_under_learning_curve(epochs, values),
        "normalized_area_under_learning_curve": normalized_area_under_learning_curve(epochs, values, direction, chance),
        "plateau_epoch": plateau_start(epochs, values, direction),
    }


def _loss_numbers(history: History, loss: Metric, row: int) -> dict[str, Any]:
    epochs = history.epochs
    train = history.series[loss.train][row] if loss.train else None
    held_out = history.series[loss.validation][row] if loss.validation else None
    broken = [
        first_non_finite(epochs, history.series[name][row], history.recorded[name][row])
        for name in (loss.train, loss.validation)
        if name
    ]
    numbers: dict[str, Any] = {"non_finite_epoch": min((e for e in broken if e is not None), default=None)}
    logged = [(name, history.series[name][row]) for name in (loss.train, loss.validation) if name]
    numbers["loss_spikes"] = tuple(spike for name, curve in logged for spike in loss_spikes(name, epochs, curve))
    if train is not None:
        rise = divergence(epochs, train)
        numbers["divergence_epoch"] = rise.epoch if rise else None
    if held_out is not None:
        numbers["training_stability_score"] = training_stability_score(held_out)
        numbers["detrended_stability"] = detrended_stability(epochs, held_out)
        numbers["normalized_detrended_stability"] = detrended_stability(epochs, held_out, normalized=True)
        numbers["double_descent"] = double_descent(epochs, held_out)
    if train is not None and held_out is not None:
        rise = overfitting(epochs, train, held_out)
        numbers["overfitting_epoch"] = rise.epoch if rise else None
        numbers["overfitting_index"] = overfitting_index(train, held_out)
        numbers["normalized_overfitting_index"] = overfitting_index(train, held_out, normalized=True)
        numbers["final_gap"] = final_gap(train, held_out)
        numbers["normalized_final_gap"] = final_gap(train, held_out, normalized=True)
    return numbers


_SUMMARISED = (
    "epochs_to_convergence",
    "corrected_epochs_to_convergence",
    "area_under_learning_curve",
    "normalized_area_under_learning_curve",
    "overfitting_index",
    "normalized_overfitting_index",
    "final_gap",
    "normalized_final_gap",
    "training_stability_score",
    "detrended_stability",
    "normalized_detrended_stability",
    "plateau_epoch",
)


_EPOCHS = ("epochs_to_convergence", "corrected_epochs_to_convergence", "plateau_epoch")


def _summary(runs: tuple[RunDynamics, ...], epochs: NDArray[np.int64]) -> dict[str, Any]:
    span = float(epochs[0]), float(epochs[-1])
    return {
        name: across_runs([getattr(run, name) for run in runs], within=span if name in _EPOCHS else None)
        for name in _SUMMARISED
    }
