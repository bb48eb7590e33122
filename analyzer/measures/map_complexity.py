"""How concentrated and how stable maps are: Gini, entropy, its rise, and sensitivity to the input.

Maps are rows ``(n, p)``. A map of zeros has no distribution and one that is not finite has no value: both give NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

Floats = NDArray[np.float64]


def gini(maps: Floats) -> Floats:
    """Gini index of abs(relevance): 0 where all features have the same, near 1 where one has all.

    G = Σ_i (2i − p − 1) a_(i) / (p Σ a) over the ascending a = abs(R) (Chalasani et al. 2020, arXiv 1810.06583).

    Args:
        maps: ``(n, p)``.

    Returns:
        ``(n,)``.
    """
    ascending = np.sort(np.abs(maps), axis=1)
    p = maps.shape[1]
    weights = 2.0 * np.arange(1, p + 1) - p - 1
    shares = _shares(ascending)
    return np.asarray(shares @ weights / p)


def entropy(maps: Floats) -> Floats:
    """Complexity: −Σ q ln q of the shares q = abs(R) / Σ abs(R), in nats (Bhatt et al. 2020, arXiv 2005.00631).

    0 where one feature has all, ln p where all have the same.

    Args:
        maps: ``(n, p)``.

    Returns:
        ``(n,)``.
    """
    shares = _shares(np.abs(maps))
    # Adding 0 turns the -0.0 of a single feature into 0.
    return np.asarray(-xlogy(shares, shares).sum(axis=1) + 0.0)


def relative_entropy_rise(maps: Floats, randomized: Floats) -> Floats:
    """How much more complex maps get once the model's parameters are random: (H(R_random) − H(R)) / H(R).

    Efficient MPRT of Hedström et al. (2024, arXiv 2405.02383), with `entropy` as H.

    Args:
        maps: ``(n, p)`` of the model.
        randomized: ``(n, p)`` of the model with random parameters.

    Returns:
        ``(n,)``; NaN where the first map has no entropy to rise from.
    """
    before, after = entropy(maps), entropy(randomized)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(before > 0, (after - before) / before, np.nan)


def relative_change(maps: Floats, perturbed: Floats) -> Floats:
    """‖R' − R‖ / ‖R‖ of two maps, the term of max-sensitivity (Yeh et al. 2019, arXiv 1901.09392).

    Args:
        maps: ``(n, p)``.
        perturbed: ``(n, p)`` of the same samples, slightly moved.

    Returns:
        ``(n,)``.
    """
    size = np.linalg.norm(maps, axis=1)
    change = np.linalg.norm(perturbed - maps, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(size > 0, change / size, np.nan)


def _shares(magnitudes: Floats) -> Floats:
    # Scaled first: sums of very small or very large maps would leave the range of floats.
    largest = magnitudes.max(axis=1, keepdims=True, initial=0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = np.where((largest > 0) & np.isfinite(largest), magnitudes / largest, np.nan)
        return np.asarray(scaled / scaled.sum(axis=1, keepdims=True))
