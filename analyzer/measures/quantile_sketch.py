"""Percentiles from the kept samples.

The pass keeps a seeded random subset of samples and positions, chosen before it starts. Such a subset is itself a
sketch: subsets of several batches merge by concatenation, every percentile is unbiased by place, and its error is known
without assumptions from order statistics. A t-digest or KLL sketch would be smaller but has no such interval, and its
numbers depend on the order of the batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

Floats = NDArray[np.float64]

PERCENTS = (1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 99.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Percentiles:
    """Percentiles of the population behind a sample.

    Attributes:
        percents: Which ones, 0 to 100.
        values: ``(percents, ...)`` percentiles of the sample; NaN for a unit with values that are not finite.
        lows: Lower ends of the intervals; NaN where so few samples bound nothing.
        highs: Upper ends; NaN likewise.
        n: Independent samples that the intervals rest on.
        level: Coverage of each interval.
    """

    percents: tuple[float, ...]
    values: Floats
    lows: Floats
    highs: Floats
    n: int
    level: float


def percentiles_with_interval(
    values: NDArray[np.floating],
    percents: Sequence[float] = PERCENTS,
    *,
    n_independent: int | None = None,
    level: float = 0.95,
) -> Percentiles:
    """Percentiles with distribution-free intervals between order statistics (Thompson 1936).

    The number of values below a percentile of the population is binomial, so two of the ordered values hold it between
    them with at least the stated probability, whatever the distribution.

    Args:
        values: ``(m,)``, or ``(m, ...)`` with the percentiles taken along the first axis, e.g. one column per unit.
        percents: Which percentiles, 0 to 100.
        n_independent: Independent samples among the m values, where several positions of one sample were kept; the
            intervals are then those of so many values, which holds even if positions repeat each other. None is m.
        level: Coverage of each interval.

    Raises:
        ValueError: If a percentile is outside 0 to 100, or there are more independent samples than values.
    """
    rows = np.asarray(values, dtype=np.float64)
    m = len(rows)
    n = m if n_independent is None else n_independent
    if not all(0 <= percent <= 100 for percent in percents):
        raise ValueError(f"Percentiles {tuple(percents)}: each must be between 0 and 100.")
    if n > m:
        raise ValueError(f"{n} independent samples among {m} values: at most one per value.")
    shape = (len(percents), *rows.shape[1:])
    missing = np.full(shape, np.nan)
    if n < 1:
        return Percentiles(
            percents=tuple(percents), values=missing, lows=missing.copy(), highs=missing.copy(), n=n, level=level
        )
    finite = np.isfinite(rows).all(axis=0)
    ordered = np.sort(np.where(finite, rows, np.nan), axis=0)
    share = np.asarray(percents, dtype=np.float64) / 100
    lower, upper = _ranks(share, n, level)
    return Percentiles(
        percents=tuple(percents),
        values=np.asarray(np.quantile(ordered, share, axis=0)),
        lows=_at(ordered, np.ceil(lower * m / n).astype(np.int64), lower > 0),
        highs=_at(ordered, np.floor((upper - 1) * m / n).astype(np.int64) + 1, upper <= n),
        n=n,
        level=level,
    )


def _ranks(share: Floats, n: int, level: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ranks 1 to n of the order statistics around each quantile; 0 and n + 1 stand for no bound."""
    tail = (1 - level) / 2
    lower = binom.ppf(tail, n, share)
    upper = binom.ppf(1 - tail, n, share) + 1
    return np.clip(lower, 0, n).astype(np.int64), np.clip(upper, 1, n + 1).astype(np.int64)


def _at(ordered: Floats, rank: NDArray[np.int64], exists: NDArray[np.bool_]) -> Floats:
    """The values at the ranks, NaN where there is no bound."""
    found = ordered[np.clip(rank, 1, len(ordered)) - 1]
    return np.asarray(np.where(exists.reshape(-1, *[1] * (ordered.ndim - 1)), found, np.nan))
