"""Similarity of models: representations, predictions, and statistics of weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy
from scipy.stats import norm, t
from sklearn.decomposition import PCA

from analyzer.data_types.values import Estimate

Floats = NDArray[np.float64]

FEWEST_MODELS = 3
"""Two models are always one line apart: two points have one principal component, whatever they are."""

MOST_COMPONENTS = 3


@dataclass(frozen=True)
class Coordinates:
    """Points of models along the principal components of their statistics.

    Attributes:
        coordinates: ``(models, components)``.
        explained_variance: Share of the variance along each component.
        n_features: Statistics that differ between the models.
    """

    coordinates: Floats
    explained_variance: Floats
    n_features: int


def linear_cka(x: NDArray[np.floating], y: NDArray[np.floating], *, level: float = 0.95) -> Estimate:
    """Linear centred kernel alignment of two representations of the same samples, without bias.

    HSIC(K, L) / √(HSIC(K, K) HSIC(L, L)) (Kornblith et al. 2019) with the unbiased HSIC of Song et al. (2012), as in
    Nguyen, Raghu & Kornblith (2021): unrelated representations give 0 on average however wide they are, so values can
    be slightly negative. Invariant to rotation, shift and common scale of either representation. The interval is that
    of the delete-one jackknife with Student's t.

    Args:
        x: ``(n, d1)``.
        y: ``(n, d2)``, rows of the same samples.
        level: Coverage of the interval.

    Returns:
        The estimate; its value is None for fewer than 4 samples, values that are not finite, or a representation that
        does not vary.

    Raises:
        ValueError: If the numbers of rows differ.
    """
    first, second = _same_rows(x, y)
    n = len(first)
    if n < 4 or not (np.all(np.isfinite(first)) and np.all(np.isfinite(second))):
        return Estimate(value=None, n=n, level=level)
    gram_x, gram_y = _hollow_gram(first), _hollow_gram(second)
    cross, own_x, own_y = _unbiased_hsic(gram_x, gram_y), _unbiased_hsic(gram_x, gram_x), _unbiased_hsic(gram_y, gram_y)
    value = _alignment(cross, own_x, own_y)
    if value is None:
        return Estimate(value=None, n=n, level=level)
    low, high = _jackknife(gram_x, gram_y, value, level)
    return Estimate(value=value, low=low, high=high, n=n, level=level, method="jackknife" if low is not None else None)


def linear_cka_biased(x: NDArray[np.floating], y: NDArray[np.floating]) -> float | None:
    """Linear CKA with the biased HSIC of Gretton et al. (2005): ‖XᵀY‖² / (‖XᵀX‖ ‖YᵀY‖) of centred columns.

    It lies in [0, 1] and is near 1 for any two representations much wider than the number of samples.

    Args:
        x: ``(n, d1)``.
        y: ``(n, d2)``, rows of the same samples.

    Returns:
        The alignment; None for a representation that does not vary.

    Raises:
        ValueError: If the numbers of rows differ.
    """
    first, second = (z - z.mean(axis=0) for z in _same_rows(x, y))
    gram_x, gram_y = first @ first.T, second @ second.T
    return _alignment(*(float(np.vdot(a, b)) for a, b in ((gram_x, gram_y), (gram_x, gram_x), (gram_y, gram_y))))


def agreement(
    first: NDArray[np.integer], second: NDArray[np.integer], groups: NDArray[np.integer] | None = None
) -> Estimate:
    """Share of samples on which two models decide alike, with the interval of Wilson (1927).

    Args:
        first: Decisions of one model: ``(n,)`` classes, or ``(n, labels)`` that must all be equal.
        second: Decisions of the other.
        groups: ``(n,)`` groups of rows that are not independent; the interval then rests on the groups.

    Returns:
        The estimate; n is the number of rows, or of groups.

    Raises:
        ValueError: If the shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"Decisions of shape {first.shape} and {second.shape} cannot be compared.")
    same = (first == second).reshape(len(first), -1).all(axis=1) if len(first) else np.zeros(0, dtype=bool)
    if groups is not None:
        return mean_with_interval(same.astype(np.float64), groups, bounds=(0.0, 1.0))
    return wilson(int(same.sum()), len(same))


def wilson(successes: int, n: int, level: float = 0.95) -> Estimate:
    """A proportion with the score interval of Wilson (1927).

    Args:
        successes: Number of successes.
        n: Number of trials.
        level: Coverage of the interval.
    """
    if n == 0:
        return Estimate(value=None, n=0, level=level)
    z2 = float(norm.ppf((1 + level) / 2)) ** 2
    share = successes / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    low, high = max(float(centre - half), 0.0), min(float(centre + half), 1.0)
    return Estimate(value=share, low=min(low, share), high=max(high, share), n=n, level=level, method="Wilson")


def js_divergence(p: Floats, q: Floats) -> Floats:
    """Jensen–Shannon divergence of each pair of distributions in nats, between 0 and ln 2 (Lin 1991).

    Args:
        p: ``(n, K)`` probabilities, or ``(n,)`` of one of two classes.
        q: Likewise.

    Returns:
        ``(n,)``.
    """
    if p.ndim == 1:
        p, q = np.stack([1 - p, p], axis=1), np.stack([1 - q, q], axis=1)
    middle = (p + q) / 2
    entropies = [-xlogy(z, z).sum(axis=1) for z in (middle, p, q)]
    return np.asarray(np.clip(entropies[0] - (entropies[1] + entropies[2]) / 2, 0.0, np.log(2.0)))


def mean_with_interval(
    values: Floats, groups: NDArray[np.integer] | None = None, *, bounds: tuple[float, float], level: float = 0.95
) -> Estimate:
    """Mean of a bounded quantity with Student's interval, cut at the bounds.

    Args:
        values: ``(n,)``.
        groups: ``(n,)`` groups of rows that are not independent: the interval rests on the sums of whole groups
            (the linearised ratio of Cochran 1977, section 6.3).
        bounds: Smallest and largest possible value.
        level: Coverage of the interval.
    """
    counts = np.ones(len(values))
    sums = np.asarray(values, dtype=np.float64)
    if groups is not None and len(values):
        index = np.unique(groups, return_inverse=True)[1].reshape(-1)
        sums = np.asarray(np.bincount(index, weights=sums), dtype=np.float64)
        counts = np.bincount(index).astype(np.float64)
    n = len(sums)
    if n == 0 or not np.all(np.isfinite(sums)):
        return Estimate(value=None, n=n, level=level)
    mean = float(sums.sum() / counts.sum())
    if n < 2:
        return Estimate(value=mean, n=n, level=level)
    residual = (sums - mean * counts) / counts.mean()
    half = float(t.ppf((1 + level) / 2, n - 1) * np.sqrt(np.sum(residual**2) / (n - 1) / n))
    low, high = max(mean - half, bounds[0]), min(mean + half, bounds[1])
    return Estimate(value=mean, low=low, high=high, n=n, level=level, method="Student's t")


def statistics_pca(statistics: Mapping[str, Sequence[float | None]]) -> Coordinates | str:
    """Principal components of standardised statistics of several models.

    A statistic that is undefined for one model, or equal for all, says nothing about their distances and is left out.

    Args:
        statistics: Equally many statistics of each model, in one order.

    Returns:
        The coordinates, rows in the order of the mapping; or one sentence that says why there are none.
    """
    if len(statistics) < FEWEST_MODELS:
        return f"{len(statistics)} models of one architecture; a map needs at least {FEWEST_MODELS}."
    table = np.array([[np.nan if v is None else v for v in row] for row in statistics.values()], dtype=np.float64)
    table = table[:, np.all(np.isfinite(table), axis=0)]
    spread = table.std(axis=0)
    varies = spread > 1e-9 * np.abs(table).max(axis=0, initial=0.0)
    if not varies.any():
        return "The models have identical weight statistics."
    standard = (table[:, varies] - table[:, varies].mean(axis=0)) / spread[varies]
    count = min(MOST_COMPONENTS, len(statistics) - 1, int(varies.sum()))
    pca = PCA(n_components=count, svd_solver="full").fit(standard)
    return Coordinates(
        coordinates=np.asarray(pca.transform(standard), dtype=np.float64),
        explained_variance=np.asarray(pca.explained_variance_ratio_, dtype=np.float64),
        n_features=int(varies.sum()),
    )


def _same_rows(x: NDArray[np.floating], y: NDArray[np.floating]) -> tuple[Floats, Floats]:
    if len(x) != len(y):
        raise ValueError(f"Representations of {len(x)} and {len(y)} samples: CKA compares the same samples.")
    return tuple(np.asarray(z, dtype=np.float64).reshape(len(z), -1) for z in (x, y))  # type: ignore[return-value]


def _hollow_gram(x: Floats) -> Floats:
    """Gram matrix of centred rows at unit scale, with a zero diagonal."""
    centred = x - x.mean(axis=0)
    largest = np.abs(centred).max(initial=0.0)
    centred = centred / largest if largest > 1e-7 * np.abs(x).max(initial=0.0) else np.zeros_like(centred)
    gram = centred @ centred.T
    np.fill_diagonal(gram, 0.0)
    return np.asarray(gram)


def _unbiased_hsic(k: Floats, other: Floats) -> float:
    chained = float(k.sum(axis=0) @ other.sum(axis=0))
    return float(_hsic_from_sums(np.vdot(k, other), k.sum(), other.sum(), chained, len(k)))


def _hsic_from_sums(cross: Any, all_k: Any, all_other: Any, chained: Any, n: int) -> Any:
    """Song et al. (2012), equation 5, from ΣK∘L, ΣK, ΣL and 1ᵀKL1 of hollow Gram matrices."""
    return (cross + all_k * all_other / ((n - 1) * (n - 2)) - 2 * chained / (n - 2)) / (n * (n - 3))


def _alignment(cross: float, own_x: float, own_y: float) -> float | None:
    return float(cross / np.sqrt(own_x * own_y)) if own_x > 0 and own_y > 0 else None


def _jackknife(gram_x: Floats, gram_y: Floats, value: float, level: float) -> tuple[float | None, float | None]:
    """Student's interval from all delete-one values, each in O(n) by taking its row out of the sums."""
    n = len(gram_x)
    own_x, own_y = _delete_one(gram_x, gram_x), _delete_one(gram_y, gram_y)
    if n < 5 or np.any(own_x <= 0) or np.any(own_y <= 0):
        return None, None
    values = _delete_one(gram_x, gram_y) / np.sqrt(own_x * own_y)
    error = float(np.sqrt((n - 1) / n * np.sum((values - values.mean()) ** 2)))
    half = float(t.ppf((1 + level) / 2, n - 1)) * error
    return max(value - half, -1.0), max(min(value + half, 1.0), value)


def _delete_one(k: Floats, other: Floats) -> Floats:
    """Unbiased HSIC without each sample in turn; the caller has at least 5."""
    rows_k, rows_other, rows_both = k.sum(axis=1), other.sum(axis=1), (k * other).sum(axis=1)
    chained = rows_k @ rows_other - rows_k * rows_other - other @ rows_k - k @ rows_other + rows_both
    cross = rows_both.sum() - 2 * rows_both
    all_k, all_other = k.sum() - 2 * rows_k, other.sum() - 2 * rows_other
    return np.asarray(_hsic_from_sums(cross, all_k, all_other, chained, max(len(k) - 1, 4)))
