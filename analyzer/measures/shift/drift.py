"""How far the data have moved at one place: a distance with an interval, beside what chance alone makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.values import Estimate
from analyzer.measures.random_streams import stream
from analyzer.measures.shift.samples import Samples

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator], tuple[NDArray[np.int64], NDArray[np.int64]]]

MOST_DRAWS = 100
"""Draws behind interval and chance level: each sorts every feature anew."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Drift:
    """How far the features of a place have moved, in standard deviations of both sides together.

    That unit bounds the distance by 2, where two sides of equal size are points apart; in standard deviations of the
    reference alone, one feature that hardly varies there would outweigh all others.

    Attributes:
        estimate: Mean over the features of their distances, with its interval.
        chance: 95 % quantile of that mean where both sides are draws from one distribution; None without draws.
        features: ``(d,)`` Wasserstein-1 distance of each feature; NaN for features that do not vary at all.
    """

    estimate: Estimate
    chance: float | None
    features: Floats


def drift(two: Samples, *, n_draws: int = MOST_DRAWS, seed: int = 0, level: float = 0.95) -> Drift:
    """Mean distance of the features, which do not have to be independent: whole rows are drawn.

    Resampling adds a distance of its own to that of the samples. The interval is the basic bootstrap's (Davison &
    Hinkley 1997, 5.2.1), which takes the draws' excess over the distance off it again. It begins at 0 where chance
    alone reaches the distance: near 0, which is the end of its range, no bootstrap holds.

    Args:
        two: The samples.
        n_draws: Draws behind the interval and the chance level, at most `MOST_DRAWS`; 0 computes neither.
        seed: Of the draws.
        level: Coverage of the interval.
    """
    n, m = len(two.reference), len(two.new)
    pooled = two.standardised
    constant = np.ptp(pooled, axis=0) == 0
    pooled = np.ascontiguousarray(pooled[:, ~constant].T)
    features = np.full(len(constant), np.nan)
    if constant.all():
        return Drift(estimate=Estimate(value=None, n=min(n, m)), chance=None, features=features)
    features[~constant] = _distances(pooled[:, :n], pooled[:, n:])
    value, draws = float(np.nanmean(features)), min(n_draws, MOST_DRAWS)
    if not draws:
        return Drift(estimate=Estimate(value=value, n=min(n, m)), chance=None, features=features)
    tail = 50 * (1 - level)

    def means(draw: Draw, purpose: int) -> Floats:
        rng = stream(seed, purpose)
        return np.array([_distances(*(pooled[:, rows] for rows in draw(rng))).mean() for _ in range(draws)])

    again = means(lambda rng: (rng.integers(0, n, n), n + rng.integers(0, m, m)), 61)
    apart = means(lambda rng: tuple(np.split(rng.permutation(n + m), [n])), 62)  # type: ignore[arg-type,return-value]
    chance = float(np.percentile(apart, 95))
    low, high = np.maximum(2 * value - np.percentile(again, [100 - tail, tail]), 0.0).tolist()
    estimate = Estimate(
        value=value,
        low=low if value > chance else 0.0,
        high=max(high, value),
        n=min(n, m),
        level=level,
        method="basic bootstrap",
    )
    return Drift(estimate=estimate, chance=chance, features=features)


def _distances(reference: Floats, new: Floats) -> Floats:
    """``(d,)`` Wasserstein-1 distance of ``(d, n)`` and ``(d, m)``: the area between the two quantile functions."""
    one, other = np.sort(reference), np.sort(new)
    n, m = one.shape[1], other.shape[1]
    if n == m:
        return np.asarray(np.abs(one - other).mean(axis=1))
    # Both quantile functions are steps; between two steps of either they do not change.
    ends = np.union1d(np.arange(1, n + 1) / n, np.arange(1, m + 1) / m)
    widths = np.diff(ends, prepend=0.0)
    middles = ends - widths / 2
    columns = [np.minimum((middles * size).astype(int), size - 1) for size in (n, m)]
    return np.asarray(np.abs(one[:, columns[0]] - other[:, columns[1]]) @ widths)
