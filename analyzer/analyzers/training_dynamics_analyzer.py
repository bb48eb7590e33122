"""Training dynamics: how a model came to be what it is, from its training history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analyzer.analyzers.base import BaseAnalyzer
from analyzer.analyzers.training_findings import findings_of
from analyzer.data_types.history import History
from analyzer.data_types.metric_names import Direction, Metric, Split, chance_level, choose_performance
from analyzer.data_types.training import Curve, LearningRateStep, Peak, RunDynamics, TrainingResult
from analyzer.data_types.values import Estimate
from analyzer.errors import Unsupported
from analyzer.measures.curves import across_runs, band, moving_average
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
    learning_rate_steps,
    overfitting,
    plateau_start,
)

if TYPE_CHECKING:
    from analyzer.config import AnalysisConfig
    from analyzer.data_types import AnalysisResults, DataInput

NO_HISTORY = "no training history was given: pass training_history={name: history} or --history name=log.csv"

_PLAIN_ACCURACY = ("accuracy", "acc", "categorical_accuracy", "sparse_categorical_accuracy")


class TrainingDynamicsAnalyzer(BaseAnalyzer):
    """Reads training histories: convergence, peak, generalisation gap, stability, and what went wrong when."""

    name = "training_dynamics"

    def requires_data(self) -> bool:
        """Histories are enough; labels, where given, tell the chance level of an accuracy."""
        return False

    def analyze(self, results: AnalysisResults, data: DataInput | None, cache: Mapping[str, Any]) -> None:
        """Write ``results.training_dynamics[model_name]`` from ``results.training_history``."""
        del cache
        histories: Mapping[str, History] = getattr(results, "training_history", None) or {}
        labels = getattr(data, "y_data", None)
        share = majority_share(labels) if isinstance(labels, np.ndarray) else None

        def work(name: str) -> TrainingResult:
            if name not in histories:
                raise Unsupported(NO_HISTORY)
            return training_dynamics(histories[name], self.config, majority=share)

        results.training_dynamics = self.each_model(work)


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
        reasons = "; ".join(history.unused.values())
        raise Unsupported(f"the training history has no metric whose direction is known: {reasons}")
    performance, why = choose_performance(history.metrics)
    loss = history.metrics.get("loss")
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
        peak_performance=_peak(history, performance, str(performance.validation), loss) if performance else None,
        peaks=_peaks(history, loss),
        learning_rate_steps=_steps(history, loss),
        runs=runs,
        curves=_curves(history, config),
        smoothing_window=config.smoothing_window if config.smooth_training_curves else None,
        findings=findings_of(history, loss, performance, runs, chance),
        **_summary(runs),
    )


def _chance(performance: Metric | None, majority: float | None) -> tuple[float | None, str]:
    """The chance level of the performance metric, and where it comes from."""
    if performance is None:
        return None, "no performance metric"
    known = chance_level(performance)
    if known is not None:
        return known, f"definition of {performance.name!r}"
    if majority is not None and performance.name in _PLAIN_ACCURACY:
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


def _summary(runs: tuple[RunDynamics, ...]) -> dict[str, Any]:
    return {name: across_runs([getattr(run, name) for run in runs]) for name in _SUMMARISED}


def _peak(history: History, metric: Metric, series: str, loss: Metric | None) -> Peak | None:
    """The best value of one series over all runs; None where no run has a finite value."""
    curves = history.series[series]
    best = [peak(history.epochs, curve, metric.direction) for curve in curves]
    value = across_runs([b[0] if b else None for b in best])
    epoch = across_runs([b[1] if b else None for b in best])
    corrected = across_runs([corrected_peak(curve, metric.direction) for curve in curves])
    if value is None or epoch is None or corrected is None:
        return None
    losses = _losses_at(history, [b[1] if b else None for b in best], loss)
    return Peak(series=series, direction=metric.direction, value=value, epoch=epoch, corrected=corrected, loss=losses)


def _losses_at(history: History, epochs: list[int | None], loss: Metric | None) -> Estimate | None:
    if loss is None or loss.validation is None:
        return None
    values: list[float | None] = []
    for row, epoch in enumerate(epochs):
        at = history.series[loss.validation][row, history.epochs == epoch]
        values.append(float(at[0]) if at.size and np.isfinite(at[0]) else None)
    return across_runs(values)


def _over_series(history: History) -> Iterator[tuple[str, Metric, Split]]:
    """Every recognised series with its metric and split, in order of metrics."""
    for metric in history.metrics.values():
        if metric.train is not None:
            yield metric.train, metric, "training"
        if metric.validation is not None:
            yield metric.validation, metric, "validation"


def _peaks(history: History, loss: Metric | None) -> dict[str, Peak]:
    peaks = {name: _peak(history, metric, name, loss) for name, metric, _ in _over_series(history)}
    return {name: found for name, found in peaks.items() if found is not None}


def _steps(history: History, loss: Metric | None) -> tuple[LearningRateStep, ...]:
    if history.learning_rate is None:
        return ()
    series = (loss.validation or loss.train) if loss else None
    steps: list[LearningRateStep] = []
    for row, rate in enumerate(history.series[history.learning_rate]):
        losses = history.series[series][row] if series else None
        steps += learning_rate_steps(history.epochs, rate, losses, run=row + 1)
    return tuple(steps)


def _curves(history: History, config: AnalysisConfig) -> dict[str, Curve]:
    """Every recognised series, and the learning rate as it is: smoothing would blur its steps."""
    window = config.smoothing_window if config.smooth_training_curves else None
    curves = {}
    for name, metric, split in _over_series(history):
        raw = history.series[name]
        smoothed = moving_average(raw, window) if window else None
        drawn = raw if smoothed is None else smoothed
        curves[name] = Curve(
            metric=metric.name,
            split=split,
            raw=raw,
            smoothed=smoothed,
            band=band(drawn) if history.n_runs > 1 else None,
        )
    if history.learning_rate is not None:
        raw = history.series[history.learning_rate]
        curves[history.learning_rate] = Curve(metric="learning_rate", split=None, raw=raw)
    return curves
