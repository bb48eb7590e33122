"""Every series of a history as results show it: its best value, its curve, its learning rate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.history import History
from analyzer.data_types.metric_names import Metric, Split
from analyzer.data_types.training import Curve, LearningRateStep, Peak
from analyzer.data_types.values import Estimate
from analyzer.measures.curves import across_runs, band, moving_average
from analyzer.measures.training import corrected_peak, peak
from analyzer.measures.training_events import learning_rate_steps

if TYPE_CHECKING:
    from analyzer.config import AnalysisConfig


def best_of(history: History, metric: Metric, series: str, loss: Metric | None) -> Peak | None:
    """The best value of one series over all runs.

    Args:
        history: What was logged.
        metric: The metric that the series belongs to.
        series: Its name as logged.
        loss: The loss to report at that epoch; None without one.

    Returns:
        The peak; None where no run has a finite value.
    """
    curves = history.series[series]
    best = [peak(history.epochs, curve, metric.direction) for curve in curves]
    value = across_runs([b[0] if b else None for b in best])
    epoch = across_runs([b[1] if b else None for b in best], within=(history.epochs[0], history.epochs[-1]))
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


def peaks(history: History, loss: Metric | None) -> dict[str, Peak]:
    """The best value of every recognised series that has one.

    Args:
        history: What was logged.
        loss: The loss to report at their epochs; None without one.
    """
    found = {name: best_of(history, metric, name, loss) for name, metric, _ in _over_series(history)}
    return {name: best for name, best in found.items() if best is not None}


def rate_steps(history: History, loss: Metric | None) -> tuple[LearningRateStep, ...]:
    """Steps of the learning rate in every run, with what the loss did.

    Args:
        history: What was logged.
        loss: The loss; None without one.
    """
    if history.learning_rate is None:
        return ()
    series = (loss.validation or loss.train) if loss else None
    steps: list[LearningRateStep] = []
    for row, rate in enumerate(history.series[history.learning_rate]):
        losses = history.series[series][row] if series else None
        steps += learning_rate_steps(history.epochs, rate, losses, run=row + 1)
    return tuple(steps)


def curves(history: History, config: AnalysisConfig) -> dict[str, Curve]:
    """Every recognised series, and the learning rate as it is: smoothing would blur its steps.

    Args:
        history: What was logged.
        config: Its smoothing options are used.
    """
    found = {
        name: _curve(history.series[name], metric.name, split, config) for name, metric, split in _over_series(history)
    }
    if history.learning_rate is not None:
        raw = history.series[history.learning_rate]
        found[history.learning_rate] = Curve(metric="learning_rate", split=None, raw=raw)
    return found


def gap(history: History, loss: Metric | None, config: AnalysisConfig) -> Curve | None:
    """Validation minus training loss, run by run, so that its band is that of the difference.

    Args:
        history: What was logged.
        loss: The loss; None without one.
        config: Its smoothing options are used.
    """
    if loss is None or loss.train is None or loss.validation is None:
        return None
    return _curve(history.series[loss.validation] - history.series[loss.train], "gap", None, config)


def _curve(raw: NDArray[np.float64], metric: str, split: Split | None, config: AnalysisConfig) -> Curve:
    smoothed = moving_average(raw, config.smoothing_window) if config.smooth_training_curves else None
    drawn = raw if smoothed is None else smoothed
    return Curve(metric=metric, split=split, raw=raw, smoothed=smoothed, band=band(drawn) if len(raw) > 1 else None)
