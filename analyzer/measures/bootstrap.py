"""The bootstrap behind every interval: whole units are resampled, and its own bias is corrected.

A bootstrap sample is a row of multiplicities: how often each unit was drawn. Measures that are functions of weighted
sums are then evaluated on all samples at once by matrix products. A unit is a row, a group of rows that are not
independent, or, above `MAX_UNITS`, a random bundle of these (the variance of a sum over exchangeable bundles is that
of the sum over rows, so the intervals stay the same up to a relative error of 1/sqrt(2 MAX_UNITS), about 2 %).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from analyzer.data_types.values import Estimate

Floats = NDArray[np.float64]
IntervalMethod = Literal["BC bootstrap", "reverse percentile bootstrap", "noise-corrected bootstrap"]

MAX_UNITS = 2000
"""Most units that are resampled one by one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Units:
    """Which unit each row belongs to.

    Attributes:
        of_row: Unit of each row, shape ``(m,)``, values 0 to ``count - 1``.
        count: Number of units.
        n_independent: Number of independent rows or groups before bundling.
    """

    of_row: NDArray[np.int64]
    count: int
    n_independent: int


def resampling_units(
    n_rows: int, groups: NDArray[np.int64] | None, rng: np.random.Generator, max_units: int = MAX_UNITS
) -> Units:
    """Divide rows into the units that a bootstrap resamples.

    Args:
        n_rows: Number of rows m.
        groups: ``(m,)`` group of each row, resampled as a whole; None where rows are independent.
        rng: Bundles units at random where there are more than ``max_units``.
        max_units: Most units.
    """
    of_row = np.arange(n_rows) if groups is None else np.unique(groups, return_inverse=True)[1].reshape(-1)
    independent = int(of_row.max()) + 1 if n_rows else 0
    if independent > max_units:
        bundles = rng.permutation(np.arange(independent) % max_units)
        of_row = bundles[of_row]
    return Units(of_row=of_row.astype(np.int64), count=min(independent, max_units), n_independent=independent)


def multiplicities(n_units: int, n_draws: int, rng: np.random.Generator) -> Floats:
    """How often each of ``n_units`` units appears in each of ``n_draws`` bootstrap samples, shape (draws, units)."""
    drawn = rng.integers(n_units, size=(n_draws, n_units))
    drawn += np.arange(n_draws)[:, None] * n_units
    return np.bincount(drawn.ravel(), minlength=n_draws * n_units).reshape(n_draws, n_units).astype(np.float64)


def unit_sums(values: Floats, units: Units) -> Floats:
    """Sums over the rows of each unit, ``(m, p)`` to ``(units, p)``."""
    if units.count == len(values) and units.n_independent == len(values):
        return values[np.argsort(units.of_row)]
    return np.stack([np.bincount(units.of_row, column, minlength=units.count) for column in values.T], axis=1)


def interval_estimate(
    value: float,
    draws: Floats,
    *,
    n: int,
    center: float | None = None,
    noise: float | None = None,
    method: IntervalMethod = "BC bootstrap",
    bounds: tuple[float, float] = (-np.inf, np.inf),
    level: float = 0.95,
) -> Estimate:
    """An estimate with its bias-corrected bootstrap interval.

    - ``"BC bootstrap"`` (Efron 1987, without acceleration), for smooth measures: the percentiles are shifted by twice
      the normal quantile of the share of draws below the plug-in value.
    - ``"reverse percentile bootstrap"`` (Davison & Hinkley 1997, section 5.2, "basic"), for measures that noise
      inflates by a constant: the deviations of the draws from the plug-in value are subtracted from the value.
    - ``"noise-corrected bootstrap"``, for distances from calibration such as ECE, whose percentile interval moves the
      wrong way. Noise adds up in squares: a plug-in distance of truth t and noise b is near sqrt(t^2 + b^2), its draws
      near sqrt(t^2 + 2 b^2), so the lower end is a reversed percentile of squares, which removes b. The upper end is
      the value plus the upper spread of the draws: conservative, since the value is inflated already.

    An interval always holds ``value`` itself; where a correction would move it off, it is widened, which only makes it
    conservative.

    Args:
        value: Value on the data; NaN where undefined.
        draws: ``(B,)`` values on bootstrap samples; those that are NaN are left out. Empty computes no interval.
        n: Number of rows.
        center: True value of the bootstrap world: the plug-in value on the data. Differs from ``value`` for debiased
            measures and where draws are evaluated on coarser data; None takes ``value``.
        noise: What noise alone adds, where it is known better than from the draws: to the value, or to its square for
            the noise-corrected bootstrap. The draws then only tell the spread.
        method: How the interval is made.
        bounds: Range of the measure.
        level: Coverage that the interval aims at.
    """
    if not np.isfinite(value):
        return Estimate(value=None, n=n, level=level)
    value = float(value)
    draws = draws[np.isfinite(draws)]
    if draws.size < 20:
        return Estimate(value=value, n=n, level=level)
    anchor = value if center is None else float(center)
    tail = (1 - level) / 2
    if method == "BC bootstrap":
        low, high = np.quantile(draws, _bias_corrected_levels(draws, anchor, tail)) + (value - anchor)
    elif method == "reverse percentile bootstrap":
        anchor = anchor if noise is None else draws.mean() - noise
        low, high = value - (np.quantile(draws, [1 - tail, tail]) - anchor)
    else:
        square = anchor**2 if noise is None else np.mean(draws**2) - noise
        top = np.quantile(draws, 1 - tail)
        low = np.sqrt(max(value**2 - (top**2 - square), 0.0))
        high = value + top - draws.mean()
    low, high = np.clip([low, high], *bounds)
    return Estimate(
        value=value, low=float(min(low, value)), high=float(max(high, value)), n=n, level=level, method=method
    )


def wilson(successes: int, n: int, level: float = 0.95) -> Estimate:
    """A proportion of independent rows with its interval (Wilson 1927), which has width even at 0 and 1."""
    if n == 0:
        return Estimate(value=None, n=0, level=level)
    z = float(norm.ppf((1 + level) / 2))
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Estimate(
        value=share,
        low=float(min(max(middle - half, 0.0), share)),
        high=float(max(min(middle + half, 1.0), share)),
        n=n,
        level=level,
        method="Wilson",
    )


def _bias_corrected_levels(draws: Floats, anchor: float, tail: float) -> list[float]:
    below = (np.sum(draws < anchor) + np.sum(draws == anchor) / 2) / draws.size
    # A share of 0 or 1 would send the shift to infinity; half a draw is as far as B draws can tell.
    shift = norm.ppf(np.clip(below, 0.5 / draws.size, 1 - 0.5 / draws.size))
    return [float(norm.cdf(2 * shift + norm.ppf(tail))), float(norm.cdf(2 * shift + norm.ppf(1 - tail)))]
