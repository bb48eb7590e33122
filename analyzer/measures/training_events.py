"""What happens during training: plateaus, divergence, overfitting, steps of the learning rate, double descent.

Every change is judged against two scales: the noise of the curve itself, and how far training moved the curve.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analyzer.data_types.metric_names import Direction
from analyzer.data_types.training import DoubleDescent, LearningRateStep, LossSpike
from analyzer.measures.curves import Curve, expected_maximum, moving_average, noise_scale
from analyzer.measures.training import Epochs, finite_part

NOISE_FACTOR = 4.0
"""A change counts when it exceeds this many standard deviations of the noise."""

PLATEAU_TOLERANCE = 0.01
"""Share of the whole improvement that may still be to come on a plateau."""

PLATEAU_LENGTH = 0.2
"""Share of the epochs that a plateau must last, and at least `PLATEAU_EPOCHS`."""

PLATEAU_EPOCHS = 5

OVERFITTING_RISE = 0.1
"""Rise of the validation loss that counts as overfitting, relative to its best level."""

DIVERGENCE_RISE = 0.5
"""Rise of the training loss that counts as divergence, relative to what training had gained."""

DOUBLE_DESCENT_HEIGHT = 0.1
"""Height of the hump relative to the whole descent."""

SPIKE_RISE = 0.1
"""Height of an isolated spike that counts, relative to what training had gained."""

SPIKE_NOISE_FACTOR = 6.0
"""The same in standard deviations of the noise; above `NOISE_FACTOR`, as the worst of all epochs is looked for."""

SPIKE_SHARE = 0.02
"""The same relative to the level of the loss, for a loss that hardly moves."""

RATE_CHANGE = 0.1
"""Relative change of the learning rate that counts as a step."""

_SMOOTHING = 5
_LASTING = 3


@dataclass(frozen=True, kw_only=True)
class Rise:
    """A loss that went up and stayed there.

    Attributes:
        epoch: Epoch where it starts.
        best: Lowest loss before.
        final: Level at the end.
        rise: Difference of the two.
        threshold: Rise that counts.
    """

    epoch: int
    best: float
    final: float
    rise: float
    threshold: float


def plateau_start(epochs: Epochs, curve: Curve, direction: Direction) -> int | None:
    """First epoch from which the best value did not get better any more.

    "Not better" allows 1 % of the whole improvement, and what the luck of the remaining noisy epochs adds to a best
    value. The stretch must last a fifth of the epochs and at least five.

    Args:
        epochs: Epoch numbers.
        curve: Values.
        direction: ``"up"`` where more is better.

    Returns:
        The epoch; None where the curve kept improving, never improved beyond its noise, or is too short.
    """
    at, values = finite_part(epochs, curve)
    if values.size <= PLATEAU_EPOCHS:
        return None
    rising = values if direction == "up" else -values
    luck = 2 * expected_maximum(values.size) * noise_scale(values)
    gained = float(rising.max() - rising[0])
    if gained <= luck:
        return None
    start = int(np.argmax(np.maximum.accumulate(rising) >= rising.max() - max(PLATEAU_TOLERANCE * gained, luck)))
    lasts = values.size - 1 - start
    return int(at[start]) if lasts >= max(PLATEAU_EPOCHS, PLATEAU_LENGTH * values.size) else None


def late_improvement(epochs: Epochs, curve: Curve, direction: Direction) -> float | None:
    """Share of the whole improvement that came in the final third of the epochs.

    Args:
        epochs: Epoch numbers.
        curve: Values.
        direction: ``"up"`` where more is better.

    Returns:
        The share of best-so-far values; None where the curve never improved beyond its noise, or is too short.
    """
    _, values = finite_part(epochs, curve)
    if values.size <= PLATEAU_EPOCHS:
        return None
    best = np.maximum.accumulate(values if direction == "up" else -values)
    gained = float(best[-1] - best[0])
    if gained <= 2 * expected_maximum(values.size) * noise_scale(values):
        return None
    return float(best[-1] - best[2 * values.size // 3 - 1]) / gained


def first_non_finite(epochs: Epochs, curve: Curve, recorded: np.ndarray) -> int | None:
    """First epoch in which NaN or infinity was recorded.

    Args:
        epochs: Epoch numbers.
        curve: Values.
        recorded: Whether a value was written at each epoch.
    """
    broken = recorded & ~np.isfinite(curve)
    return int(epochs[np.argmax(broken)]) if broken.any() else None


def divergence(epochs: Epochs, train: Curve) -> Rise | None:
    """A training loss that lost at least half of what it had gained, and did not come back.

    Args:
        epochs: Epoch numbers.
        train: Training losses.

    Returns:
        The rise, with the first epoch of the final stretch above the threshold; None where there is none.
    """
    at, values = finite_part(epochs, train)
    if values.size < _LASTING:
        return None
    best = float(values.min())
    # A loss that only ever rose has gained nothing: half of its own best level stands for the gain.
    gained = max(float(values[0]) - best, abs(best) / 2)
    threshold = max(DIVERGENCE_RISE * gained, NOISE_FACTOR * noise_scale(values))
    above = values > best + threshold
    if not above[-_LASTING:].all():
        return None
    start = int(values.size - np.argmin(above[::-1]))
    final = float(np.median(values[-_LASTING:]))
    return Rise(epoch=int(at[start]), best=best, final=final, rise=final - best, threshold=threshold)


def overfitting(epochs: Epochs, train: Curve, validation: Curve) -> Rise | None:
    """A validation loss that rose lastingly after its best epoch while the training loss kept falling.

    Args:
        epochs: Epoch numbers.
        train: Training losses.
        validation: Validation losses over the same epochs.

    Returns:
        The rise, with the epoch of the best validation loss; None where there is none.
    """
    both = np.isfinite(train) & np.isfinite(validation)
    at, fit, held_out = epochs[both], train[both], validation[both]
    if held_out.size <= _LASTING:
        return None
    best_at = int(np.argmin(held_out))
    after = held_out[best_at + 1 :]
    if after.size < _LASTING or fit[-_LASTING:].mean() >= fit[best_at]:
        return None
    best, final = float(held_out[best_at]), float(np.median(after[-PLATEAU_EPOCHS:]))
    # Beside a best loss of almost nothing every rise is large; what training had gained sets the scale then.
    level = max(abs(best), OVERFITTING_RISE * float(held_out[0] - best))
    threshold = max(OVERFITTING_RISE * level, NOISE_FACTOR * noise_scale(held_out))
    if final - best <= threshold:
        return None
    return Rise(epoch=int(at[best_at]), best=best, final=final, rise=final - best, threshold=threshold)


def loss_spikes(series: str, epochs: Epochs, loss: Curve) -> tuple[LossSpike, ...]:
    """Isolated spikes: one or two epochs far above the median of three epochs on either side.

    The noise of a loss may be the same everywhere or grow with its level, so a spike must stand out of both: beside the
    values, their logarithms are judged where all are positive. A rise that stays is `divergence`, a first or last epoch
    has no two sides, and fewer than ten epochs are too few to tell a spike from noise.

    Args:
        series: Name of the series, for the result.
        epochs: Epoch numbers.
        loss: Losses.
    """
    at, values = finite_part(epochs, loss)
    if values.size < 2 * _SMOOTHING:
        return ()
    gained = float(values[0] - values.min())
    share = SPIKE_SHARE * float(np.abs(np.median(values)))
    threshold = max(SPIKE_RISE * gained, SPIKE_NOISE_FACTOR * noise_scale(values), share)
    levels = np.full(values.shape, np.inf)
    for i in range(1, values.size - 1):
        before, after = values[max(i - _LASTING, 0) : i], values[i + 1 : i + 1 + _LASTING]
        levels[i] = max(np.median(before), np.median(after))
    goal = levels + threshold
    if values.min() > 0:
        goal = np.maximum(goal, levels * np.exp(SPIKE_NOISE_FACTOR * noise_scale(np.log(values))))
    stands_out = np.flatnonzero(values > goal)
    groups = np.split(stands_out, np.flatnonzero(np.diff(stands_out) > 1) + 1) if stands_out.size else []
    tops = [int(group[np.argmax(values[group])]) for group in groups]
    return tuple(
        LossSpike(
            series=series,
            epoch=int(at[i]),
            value=float(values[i]),
            level=float(levels[i]),
            threshold=float(goal[i] - levels[i]),
        )
        for i in tops
    )


def learning_rate_steps(
    epochs: Epochs, rate: Curve, loss: Curve | None = None, *, run: int = 1
) -> tuple[LearningRateStep, ...]:
    """Lasting changes of the learning rate, as ``ReduceLROnPlateau`` or a staircase schedule make them.

    A change of over 10 % is a step where the rate stands still in the epoch before or after it; schedules that move in
    every epoch, such as a cosine, have none.

    Args:
        epochs: Epoch numbers.
        rate: Learning rates.
        loss: Losses over the same epochs, to see what each step did; None leaves that out.
        run: Number of the run, for the result.
    """
    positive = np.where(rate > 0, rate, np.nan)
    keep = np.isfinite(positive)
    at, values = epochs[keep], positive[keep]
    if values.size < 2:
        return ()
    change = np.abs(np.diff(np.log(values)))
    still = np.concatenate(([False], change < 1e-6, [False]))
    is_step = (change > np.log1p(RATE_CHANGE)) & (still[:-2] | still[2:])
    firsts = np.flatnonzero(is_step) + 1
    ends = np.append(firsts, values.size)[1:] - 1
    losses = np.full(values.shape, np.nan) if loss is None else loss[keep]
    return tuple(
        LearningRateStep(
            run=run,
            epoch=int(at[first]),
            before=float(values[first - 1]),
            after=float(values[first]),
            loss_before=_or_none(losses[first - 1]),
            loss_after=_or_none(losses[end]),
        )
        for first, end in zip(firsts, ends, strict=True)
    )


def double_descent(epochs: Epochs, loss: Curve) -> DoubleDescent | None:
    """A loss that falls, rises and falls again, over epochs (Nakkiran et al., Deep Double Descent, ICLR 2020).

    On the moving average over five epochs: the hump with the greatest height over the lower points on both its sides,
    where that exceeds a tenth of the whole descent and the noise, and each way takes at least three epochs.

    Args:
        epochs: Epoch numbers.
        loss: Validation losses, or another quantity where less is better.
    """
    at, values = finite_part(epochs, loss)
    if values.size < 2 * _SMOOTHING:
        return None
    smooth = moving_average(values, _SMOOTHING)
    before = np.minimum.accumulate(smooth)
    after = np.minimum.accumulate(smooth[::-1])[::-1]
    heights = smooth - np.maximum(before, after)
    hump = int(np.argmax(heights))
    first = int(np.argmin(smooth[: hump + 1]))
    second = hump + int(np.argmin(smooth[hump:]))
    height = float(heights[hump])
    threshold = max(DOUBLE_DESCENT_HEIGHT * float(smooth[0] - smooth.min()), NOISE_FACTOR * noise_scale(values))
    if height <= threshold or first == 0 or min(hump - first, second - hump) < _LASTING:
        return None
    return DoubleDescent(
        first_minimum=int(at[first]), hump=int(at[hump]), second_minimum=int(at[second]), height=height
    )


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
