"""What the training history of a model says: the result of the training dynamics analysis."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.evaluated_gap import EvaluatedOutput
from analyzer.data_types.metric_names import Direction, Metric, Split
from analyzer.data_types.values import Estimate, Finding


@dataclass(frozen=True, kw_only=True, eq=False)
class Band:
    """Several runs at every epoch; NaN where no run has a value, or too few for an interval.

    Attributes:
        mean: Mean over the runs, shape ``(n_epochs,)``.
        low: Lower end of the t interval of the mean; NaN with fewer than two runs.
        high: Upper end of it.
        minimum: Smallest value of any run.
        maximum: Largest value of any run.
        n: Number of runs with a value; it falls where runs were stopped early.
        level: Coverage of the interval.
    """

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]
    n: NDArray[np.int64]
    level: float = 0.95


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """One series of a history.

    Attributes:
        metric: Name of the metric; ``"learning_rate"`` for the learning rate, ``"gap"`` for validation minus
            training loss.
        split: Which data it was measured on; None for the learning rate and the gap.
        raw: As logged, shape ``(n_runs, n_epochs)``; NaN where nothing was recorded.
        smoothed: Moving average of it, same shape; None where smoothing is off and for the learning rate.
        band: The runs together, from ``smoothed`` where there is one, else from ``raw``; None for a single run.
    """

    metric: str
    split: Split | None
    raw: NDArray[np.float64]
    smoothed: NDArray[np.float64] | None = None
    band: Band | None = None


@dataclass(frozen=True, kw_only=True)
class Peak:
    """The best value of one series.

    Attributes:
        series: Name of the series as logged.
        direction: ``"up"`` where more is better.
        value: Best value that was logged, mean over runs.
        epoch: Its epoch, counted from 1, mean over runs.
        corrected: Best value with the luck of having looked at many noisy epochs taken off.
        loss: Validation loss at that epoch, mean over runs; None without one.
    """

    series: str
    direction: Direction
    value: Estimate
    epoch: Estimate
    corrected: Estimate
    loss: Estimate | None = None


@dataclass(frozen=True, kw_only=True)
class LearningRateStep:
    """A lasting change of the learning rate.

    Attributes:
        run: Number of the run, counted from 1.
        epoch: First epoch under the new rate.
        before: Rate before it.
        after: Rate from then on.
        loss_before: Loss at the last epoch under the old rate; None where it is not known.
        loss_after: Loss at the last epoch before the next step (or the end); None where it is not known.
    """

    run: int
    epoch: int
    before: float
    after: float
    loss_before: float | None = None
    loss_after: float | None = None


@dataclass(frozen=True, kw_only=True)
class DoubleDescent:
    """A loss that falls, rises and falls again.

    Attributes:
        first_minimum: Epoch of the minimum before the hump.
        hump: Epoch of the hump.
        second_minimum: Epoch of the minimum after it.
        height: Height of the hump over the higher of the two minima, in units of the loss.
    """

    first_minimum: int
    hump: int
    second_minimum: int
    height: float


@dataclass(frozen=True, kw_only=True)
class LossSpike:
    """One or two epochs with a loss far above the epochs before and after them.

    Attributes:
        series: Name of the series as logged.
        epoch: Epoch of the highest loss.
        value: The loss there.
        level: The higher of the levels before and after.
        threshold: Height over the level that counts.
    """

    series: str
    epoch: int
    value: float
    level: float
    threshold: float


@dataclass(frozen=True, kw_only=True)
class RunDynamics:
    """The numbers of one run; None where the series they need was not recorded.

    The fields are those of `TrainingResult`, as plain numbers, and:

    Attributes:
        peak_value: Best value of the performance metric.
        peak_epoch: Its epoch.
        corrected_peak: Best value less the expected luck of a maximum over noisy epochs.
        plateau_epoch: First epoch from which the best value did not get better any more; None where it still did.
        divergence_epoch: First epoch of the final stretch with an exploded training loss; None where it did not.
        non_finite_epoch: First epoch with a NaN or infinite loss; None where all are finite.
        overfitting_epoch: Epoch of the best validation loss, where it rose lastingly after; else None.
        double_descent: The hump of the validation loss; None where there is none.
        loss_spikes: Isolated spikes of the training and the validation loss.
    """

    epochs_to_convergence: int | None = None
    corrected_epochs_to_convergence: int | None = None
    peak_value: float | None = None
    peak_epoch: int | None = None
    corrected_peak: float | None = None
    area_under_learning_curve: float | None = None
    normalized_area_under_learning_curve: float | None = None
    overfitting_index: float | None = None
    normalized_overfitting_index: float | None = None
    final_gap: float | None = None
    normalized_final_gap: float | None = None
    training_stability_score: float | None = None
    detrended_stability: float | None = None
    normalized_detrended_stability: float | None = None
    plateau_epoch: int | None = None
    divergence_epoch: int | None = None
    non_finite_epoch: int | None = None
    overfitting_epoch: int | None = None
    double_descent: DoubleDescent | None = None
    loss_spikes: tuple[LossSpike, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingResult:
    """The training dynamics of one model.

    Every estimate but the evaluated ones is a mean over runs with a t interval and their number; with one run it has no
    interval. A number is None where the series it needs was not recorded; ``notes`` say which.

    Attributes:
        n_runs: Number of runs (seeds); 0 where there is no history, only evaluated losses.
        epochs: Epoch numbers, counted from 1, shape ``(n_epochs,)``.
        performance: The metric behind peak and convergence; None where there is none with validation values.
        performance_reason: Why it is that metric.
        loss: The loss behind gap, overfitting and stability; None where no ``loss`` was logged.
        metrics: All recognised metrics by name, with their directions.
        unused: Series that are not used, each with the reason.
        notes: What was assumed, and what is missing.
        chance: Level of the performance metric without any skill; None where it is not known, and the first epoch
            stands for it.
        chance_source: Where it comes from, or why the first epoch stands for it.
        epochs_to_convergence: First epoch with 95 % of the peak validation performance; for metrics where less is
            better, the first with 95 % of the way from the first epoch to the best.
        overfitting_index: Mean of validation loss minus training loss in the final third of the epochs.
        training_stability_score: Standard deviation of the last (up to ten) validation losses.
        peak_performance: Best validation performance and its epoch.
        final_gap: Validation loss minus training loss at the last epoch with both.
        corrected_epochs_to_convergence: First epoch with 95 % of the way from chance to the corrected peak, read from
            the isotonic fit of the curve.
        area_under_learning_curve: Mean of the performance over the epochs, in its own units.
        normalized_area_under_learning_curve: The same on the scale from chance (0) to the corrected peak (1).
        normalized_overfitting_index: The overfitting index by the larger of the two losses, within [-1, 1].
        normalized_final_gap: The final gap by the larger of the two losses, within [-1, 1].
        detrended_stability: Standard deviation of the last validation losses around their own line.
        normalized_detrended_stability: The same by their mean.
        plateau_epoch: First epoch from which the best value did not get better any more.
        evaluated_gap: Loss on the data of the analysis minus loss on the training data, both evaluated by the finished
            model without dropout; None unless ``evaluate_train`` asked for it, and for models with several outputs.
        normalized_evaluated_gap: The same by the larger of the two losses, within [-1, 1].
        evaluated: Loss and metrics on both data, by output.
        peaks: Best value of every recognised series, by name as logged.
        learning_rate_steps: Lasting changes of the learning rate.
        runs: The numbers of each run.
        curves: Every recognised series and the learning rate, by name as logged.
        gap: Validation minus training loss by epoch; None where one of the two was not logged.
        smoothing_window: Epochs in one moving average; None where smoothing is off.
        findings: What is wrong or worth knowing.
    """

    n_runs: int
    epochs: NDArray[np.int64]
    performance: Metric | None
    performance_reason: str
    loss: Metric | None
    metrics: dict[str, Metric] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    chance: float | None = None
    chance_source: str = ""
    epochs_to_convergence: Estimate | None = None
    overfitting_index: Estimate | None = None
    training_stability_score: Estimate | None = None
    peak_performance: Peak | None = None
    final_gap: Estimate | None = None
    corrected_epochs_to_convergence: Estimate | None = None
    area_under_learning_curve: Estimate | None = None
    normalized_area_under_learning_curve: Estimate | None = None
    normalized_overfitting_index: Estimate | None = None
    normalized_final_gap: Estimate | None = None
    detrended_stability: Estimate | None = None
    normalized_detrended_stability: Estimate | None = None
    plateau_epoch: Estimate | None = None
    evaluated_gap: Estimate | None = None
    normalized_evaluated_gap: Estimate | None = None
    evaluated: dict[str, EvaluatedOutput] = field(default_factory=dict)
    peaks: dict[str, Peak] = field(default_factory=dict)
    learning_rate_steps: tuple[LearningRateStep, ...] = ()
    runs: tuple[RunDynamics, ...] = ()
    curves: dict[str, Curve] = field(default_factory=dict)
    gap: Curve | None = None
    smoothing_window: int | None = None
    findings: tuple[Finding, ...] = ()
