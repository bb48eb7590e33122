"""Numbers of one training run: convergence, peak, generalisation gap and stability.

All take the epoch numbers (counted from 1) or only curves over the same epochs; values that are not finite are left
out. A number that the curve cannot give is None.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from analyzer.data_types.metric_names import Direction
from analyzer.measures.curves import Curve, expected_maximum, moving_average, noise_scale

Epochs = NDArray[np.int64]

CONVERGED = 0.95
"""Share of the peak performance at which a run counts as converged."""

STABILITY_WINDOW = 10
"""Most epochs at the end of training over which stability is judged."""

_FEWEST_FOR_STABILITY = 3
_SMOOTHING = 5


def finite_part(epochs: Epochs, curve: Curve) -> tuple[Epochs, Curve]:
    """The epochs with a finite value, and the values.

    Args:
        epochs: Epoch numbers, shape ``(n_epochs,)``.
        curve: Values, same shape.
    """
    keep = np.isfinite(curve)
    return epochs[keep], np.asarray(curve[keep], dtype=np.float64)


def peak(epochs: Epochs, curve: Curve, direction: Direction) -> tuple[float, int] | None:
    """Best value and its (first) epoch; None without values.

    Args:
        epochs: Epoch numbers.
        curve: Values.
        direction: ``"up"`` where more is better.
    """
    at, values = finite_part(epochs, curve)
    if not values.size:
        return None
    index = int(np.argmax(values) if direction == "up" else np.argmin(values))
    return float(values[index]), int(at[index])


def corrected_peak(curve: Curve, direction: Direction) -> float | None:
    """Best value less what looking at many noisy epochs adds to it.

    The maximum of m epochs that differ by noise only lies σ·E[max of m normal draws] above their level. σ comes from
    second differences; m counts the epochs within the range that noise alone spans below the best one.

    Args:
        curve: Values.
        direction: ``"up"`` where more is better.
    """
    values = curve[np.isfinite(curve)]
    if not values.size:
        return None
    sign = _sign(direction)
    best = float((sign * values).max())
    sigma = noise_scale(values)
    m = int(np.sum(sign * values >= best - 2 * expected_maximum(values.size) * sigma))
    return sign * (best - sigma * expected_maximum(m))


def epochs_to_convergence(
    epochs: Epochs, curve: Curve, direction: Direction, fraction: float = CONVERGED
) -> int | None:
    """First epoch that reaches a fraction of the peak performance.

    Where more is better: the first with at least ``fraction`` · maximum; None where the maximum is not positive, which
    leaves a fraction of it without meaning. Where less is better: the first that has gone ``fraction`` of the way from
    the first recorded value to the minimum.

    Args:
        epochs: Epoch numbers, counted from 1.
        curve: Values.
        direction: ``"up"`` where more is better.
        fraction: Share of the peak, 0.95 in the usual definition.
    """
    at, values = finite_part(epochs, curve)
    if not values.size or (direction == "up" and values.max() <= 0):
        return None
    if direction == "up":
        reached = values >= fraction * values.max()
    else:
        reached = values <= values[0] - fraction * (values[0] - values.min())
    return int(at[np.argmax(reached)])


def corrected_epochs_to_convergence(
    epochs: Epochs, curve: Curve, direction: Direction, chance: float | None = None, fraction: float = CONVERGED
) -> int | None:
    """First epoch that has gone a fraction of the way from chance level to the corrected peak.

    So a model that always names the majority class has not converged at epoch 1, and neither one lucky epoch moves the
    goal (see `corrected_peak`) nor reaches it: the crossing is read from the isotonic fit (Barlow et al., Statistical
    Inference under Order Restrictions, 1972) of the curve up to the best epoch of its moving average.

    Args:
        epochs: Epoch numbers, counted from 1.
        curve: Values.
        direction: ``"up"`` where more is better.
        chance: Level without any skill; None takes the first recorded value.
        fraction: Share of the way.

    Returns:
        The epoch; None where the corrected peak is not better than the chance level.
    """
    at, values = finite_part(epochs, curve)
    top = corrected_peak(curve, direction)
    if top is None:
        return None
    sign = _sign(direction)
    base = sign * (float(values[0]) if chance is None else chance)
    rising = sign * values
    fit = isotonic_regression(rising[: int(np.argmax(moving_average(rising, _SMOOTHING))) + 1]).x
    # Where a single epoch stands out from all others, the fit ends below it, and its level is the goal.
    goal = min(sign * top, float(fit[-1]))
    if goal <= base:
        return None
    return int(at[np.argmax(fit >= base + fraction * (goal - base))])


def area_under_learning_curve(epochs: Epochs, curve: Curve) -> float | None:
    """Mean of a curve over the epochs (trapezoids, by epoch number), in units of the curve.

    Args:
        epochs: Epoch numbers.
        curve: Values.

    Returns:
        The mean height; None with fewer than two values.
    """
    at, values = finite_part(epochs, curve)
    if values.size < 2:
        return None
    return float(np.trapezoid(values, at) / (at[-1] - at[0]))


def normalized_area_under_learning_curve(
    epochs: Epochs, curve: Curve, direction: Direction, chance: float | None = None
) -> float | None:
    """Area under the learning curve on the scale from chance level (0) to the corrected peak (1).

    It tells how early a run gets to where it gets, whatever that level is.

    Args:
        epochs: Epoch numbers.
        curve: Values.
        direction: ``"up"`` where more is better.
        chance: Level without any skill; None takes the first recorded value.
    """
    area, top = area_under_learning_curve(epochs, curve), corrected_peak(curve, direction)
    if area is None or top is None:
        return None
    base = float(finite_part(epochs, curve)[1][0]) if chance is None else chance
    return (area - base) / (top - base) if _sign(direction) * (top - base) > 0 else None


def overfitting_index(train: Curve, validation: Curve, *, normalized: bool = False) -> float | None:
    """Mean of validation loss minus training loss over the final third of the epochs with both.

    Args:
        train: Training losses.
        validation: Validation losses over the same epochs.
        normalized: Divide by the larger of the two mean losses: 0 without a gap, 1 where the training loss is
            nothing beside the validation loss, negative where training is the harder part.

    Returns:
        The index; None with fewer than three epochs, or, normalised, for losses that are not positive.
    """
    train, validation = _paired(train, validation)
    if train.size < 3:
        return None
    start = 2 * train.size // 3
    return _gap(float(train[start:].mean()), float(validation[start:].mean()), normalized)


def final_gap(train: Curve, validation: Curve, *, normalized: bool = False) -> float | None:
    """Validation loss minus training loss at the last epoch with both.

    Args:
        train: Training losses.
        validation: Validation losses over the same epochs.
        normalized: Divide by the larger of the two, as in `overfitting_index`.
    """
    train, validation = _paired(train, validation)
    if not train.size:
        return None
    return _gap(float(train[-1]), float(validation[-1]), normalized)


def training_stability_score(validation: Curve, window: int = STABILITY_WINDOW) -> float | None:
    """Standard deviation (ddof 0) of the last validation losses; a trend counts as instability.

    Args:
        validation: Validation losses.
        window: Most epochs at the end to look at.

    Returns:
        The deviation in units of the loss; None with fewer than three losses.
    """
    last = validation[np.isfinite(validation)][-window:]
    return float(last.std()) if last.size >= _FEWEST_FOR_STABILITY else None


def detrended_stability(
    epochs: Epochs, validation: Curve, window: int = STABILITY_WINDOW, *, normalized: bool = False
) -> float | None:
    """Standard deviation of the last validation losses around their own least-squares line.

    Args:
        epochs: Epoch numbers.
        validation: Validation losses.
        window: Most epochs at the end to look at.
        normalized: Divide by the mean of the same losses.

    Returns:
        Root of the residual sum of squares by (n − 2); None with fewer than three losses, or, normalised, for losses
        that are not positive.
    """
    at, values = finite_part(epochs, validation)
    at, values = at[-window:], values[-window:]
    if values.size < _FEWEST_FOR_STABILITY or (normalized and values.min() <= 0):
        return None
    line = np.polynomial.Polynomial.fit(at, values, deg=1)
    deviation = float(np.sqrt(np.sum((values - line(at)) ** 2) / (values.size - 2)))
    return deviation / float(values.mean()) if normalized else deviation


def majority_share(labels: Any) -> float | None:
    """Share of the commonest class: the accuracy of a model that always names it.

    Args:
        labels: Class indices ``(n,)`` or ``(n, 1)``, or one-hot rows ``(n, K)``.

    Returns:
        The share; None where the labels are not classes.
    """
    values = np.asarray(labels)
    if values.dtype.kind not in "biuf" or not values.size or not np.all(np.isfinite(values)):
        return None
    if values.ndim == 2 and values.shape[1] > 1:
        one_hot = np.all((values == 0) | (values == 1)) and np.all(values.sum(axis=1) == 1)
        values = values.argmax(axis=1) if one_hot else np.empty(0)
    values = values.reshape(-1) if values.ndim <= 1 or values.shape[1:] == (1,) else np.empty(0)
    if not values.size or np.any(values != np.round(values)):
        return None
    return float(np.unique(values, return_counts=True)[1].max() / values.size)


def _sign(direction: Direction) -> int:
    return 1 if direction == "up" else -1


def _paired(train: Curve, validation: Curve) -> tuple[Curve, Curve]:
    both = np.isfinite(train) & np.isfinite(validation)
    return train[both], validation[both]


def _gap(train: float, validation: float, normalized: bool) -> float | None:
    gap = validation - train
    if not normalized:
        return gap
    larger = max(train, validation)
    return gap / larger if min(train, validation) >= 0 and larger > 0 else None
