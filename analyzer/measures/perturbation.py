"""Perturbation of features in the order of their relevance: orders, areas under curves, and random subsets.

Everything works on rows: one sample each, its features flattened. A row whose scores are not finite, or all equal,
names no feature before another: its orders mean nothing, and `is_informative` says so.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def is_informative(scores: Floats) -> NDArray[np.bool_]:
    """``(n,)``: whether a map is finite and prefers any feature at all.

    Args:
        scores: ``(n, p)`` relevance of features.
    """
    finite = np.all(np.isfinite(scores), axis=1)
    spread = np.ptp(np.where(np.expand_dims(finite, 1), scores, 0.0), axis=1)
    return np.asarray(finite & (spread > 0))


def relevance_ranks(scores: Floats, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rank of each feature, 0 for the most relevant.

    Removing ranks below k is "most relevant first" (MoRF), removing ranks of at least p − k "least relevant first"
    (LeRF): one order and its exact reverse (Samek et al. 2017, arXiv 1509.06321).

    Args:
        scores: ``(n, p)``; what is not finite counts as least relevant.
        rng: Breaks ties, so that the position of a feature in memory decides nothing.

    Returns:
        ``(n, p)``, a permutation of 0 to p − 1 in each row.
    """
    usable = np.where(np.isfinite(scores), scores, -np.inf)
    order = np.lexsort((rng.random(scores.shape), -usable), axis=1)
    ranks = np.empty(scores.shape, np.int64)
    np.put_along_axis(ranks, order, np.broadcast_to(np.arange(scores.shape[1]), scores.shape), axis=1)
    return ranks


def removal_counts(n_features: int, steps: int) -> NDArray[np.int64]:
    """How many features are gone at each point of a curve, from none to all, evenly spaced.

    Args:
        n_features: Number of features p.
        steps: Points after the first; with fewer features, one for each.
    """
    return np.unique(np.round(np.linspace(0, n_features, steps + 1)).astype(np.int64))


def area(fraction: Floats, curves: Floats) -> Floats:
    """Area under each curve by the trapezoid rule, over the width of ``fraction``: the mean height.

    Args:
        fraction: ``(s,)`` ascending.
        curves: ``(n, s)``.

    Returns:
        ``(n,)``; NaN where a curve is.
    """
    width = fraction[-1] - fraction[0]
    return np.asarray(np.trapezoid(curves, fraction, axis=1) / width if width > 0 else np.full(len(curves), np.nan))


def abpc(fraction: Floats, most_first: Floats, least_first: Floats) -> Floats:
    """Area between the perturbation curves, AUC(LeRF) − AUC(MoRF) (Schulz et al. 2020; larger is better).

    Args:
        fraction: ``(s,)`` share of the features that is gone, 0 to 1.
        most_first: ``(n, s)`` score with the most relevant features gone.
        least_first: ``(n, s)`` with the least relevant gone.

    Returns:
        ``(n,)``.
    """
    return area(fraction, least_first) - area(fraction, most_first)


def drop(fraction: Floats, curves: Floats) -> Floats:
    """Unperturbed score minus the area under the curve.

    Comprehensiveness for a MoRF curve (larger is better), sufficiency for a LeRF curve (smaller is better) (DeYoung et
    al. 2020, arXiv 1911.03429), averaged over the share removed.

    Args:
        fraction: ``(s,)``, the first of them 0.
        curves: ``(n, s)``.
    """
    return np.asarray(curves[:, 0] - area(fraction, curves))


def random_subsets(n: int, n_features: int, size: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """``(n, p)``: in each row, a random subset of exactly ``size`` features."""
    ranks = rng.random((n, n_features)).argsort(axis=1).argsort(axis=1)
    return np.asarray(ranks < size)
