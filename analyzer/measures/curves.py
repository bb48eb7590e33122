"""Curves over epochs: smoothing, noise, and several runs together.

A curve is a float64 array over epochs; NaN is where nothing was recorded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analyzer.data_types.training import Band
from analyzer.data_types.values import Estimate

Curve = NDArray[np.float64]

_MAD_TO_SIGMA = 1.4826
_SECOND_DIFFERENCE_SCALE = np.sqrt(6.0)


def moving_average(curve: Curve, window: int) -> Curve:
    """Centred moving average of the same length.

    An even window takes half of the value at either end (a 2 × m average), so that nothing is shifted. Towards the
    ends the window shrinks symmetrically: a straight line stays what it is, and the ends are the raw values. NaN is
    left out of each mean; before the first and after the last recorded value the result is NaN.

    Args:
        curve: Values, shape ``(..., n_epochs)``.
        window: Number of epochs in one mean, at least 1.

    Returns:
        Averages, same shape.

    Raises:
        ValueError: If the window is below 1.
    """
    if window < 1:
        raise ValueError(f"window={window}: expected at least 1 epoch.")
    values = np.asarray(curve, dtype=np.float64)
    n = values.shape[-1]
    half = min(window // 2, max(n - 1, 0))
    place = np.arange(n)
    reach = np.minimum(np.minimum(place, place[::-1]), half)
    finite = np.isfinite(values)
    filled = np.where(finite, values, 0.0)
    total, weight = np.zeros_like(values), np.zeros_like(values)
    for offset in range(-half, half + 1):
        inside = np.abs(offset) <= reach
        source = np.clip(place + offset, 0, max(n - 1, 0))
        share = 0.5 if window % 2 == 0 and abs(offset) == window // 2 else 1.0
        part = share * inside * finite[..., source]
        total += part * filled[..., source]
        weight += part
    # A shrunken window consists of whole epochs, a full even one of halves at its ends: weights settle both.
    average = np.full_like(values, np.nan)
    np.divide(total, weight, out=average, where=weight > 0)
    seen = np.logical_or.accumulate(finite, axis=-1)
    to_come = np.logical_or.accumulate(finite[..., ::-1], axis=-1)[..., ::-1]
    average[~(seen & to_come)] = np.nan
    return average


def noise_scale(values: Curve) -> float:
    """Standard deviation of the noise on top of a smooth curve, from its second differences.

    For independent noise the second difference has variance 6 σ² and a smooth curve hardly any (Gasser, Sroka and
    Jennen-Steinmetz, Residual variance and residual pattern in nonlinear regression, Biometrika 1986); the median makes
    it blind to single jumps.

    Args:
        values: Finite values in order, shape ``(n,)``.

    Returns:
        σ in units of the curve; 0 with fewer than five values, where noise and shape cannot be told apart.
    """
    if values.size < 5:
        return 0.0
    return float(_MAD_TO_SIGMA * np.median(np.abs(np.diff(values, n=2))) / _SECOND_DIFFERENCE_SCALE)


def expected_maximum(n: int) -> float:
    """Expected maximum of n standard normal draws (Blom, Statistical estimates and transformed beta-variables, 1958).

    Args:
        n: Number of draws, at least 1.
    """
    return float(stats.norm.ppf((n - 0.375) / (n + 0.25)))


def band(curves: Curve, level: float = 0.95) -> Band:
    """Several runs at every epoch.

    Args:
        curves: One row per run, shape ``(n_runs, n_epochs)``; NaN is left out.
        level: Coverage of the t interval of the mean.

    Returns:
        Mean, interval and range, each of shape ``(n_epochs,)``.
    """
    finite = np.isfinite(curves)
    n = finite.sum(axis=0)
    filled = np.where(finite, curves, 0.0)
    mean = np.where(n > 0, filled.sum(axis=0) / np.maximum(n, 1), np.nan)
    squares = (np.where(finite, curves - mean, 0.0) ** 2).sum(axis=0)
    spread = np.sqrt(squares / np.maximum(n - 1, 1) / np.maximum(n, 1))
    half = np.where(n > 1, stats.t.ppf((1 + level) / 2, np.maximum(n - 1, 1)) * spread, np.nan)
    return Band(
        mean=mean,
        low=mean - half,
        high=mean + half,
        minimum=np.where(n > 0, np.where(finite, curves, np.inf).min(axis=0), np.nan),
        maximum=np.where(n > 0, np.where(finite, curves, -np.inf).max(axis=0), np.nan),
        n=n.astype(np.int64),
        level=level,
    )


def across_runs(
    values: Sequence[float | None], level: float = 0.95, *, within: tuple[float, float] | None = None
) -> Estimate | None:
    """Mean over runs with its t interval.

    Args:
        values: One number per run; None is left out.
        level: Coverage of the interval.
        within: Least and greatest possible value, such as the first and the last epoch: the interval ends there.

    Returns:
        The estimate, without an interval for a single run; None where no run has a number.
    """
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    if known.size == 0:
        return None
    mean = float(known.mean())
    if known.size == 1:
        return Estimate(value=mean, n=1, level=level)
    half = float(stats.t.ppf((1 + level) / 2, known.size - 1) * known.std(ddof=1) / np.sqrt(known.size))
    least, greatest = within or (-np.inf, np.inf)
    return Estimate(
        value=mean,
        low=max(mean - half, float(least)),
        high=min(mean + half, float(greatest)),
        n=int(known.size),
        level=level,
        method="t interval over runs",
    )
