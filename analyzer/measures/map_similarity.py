"""Similarity of maps, sample by sample: correlation, rank correlation, cosine, and structural similarity of images.

A constant map correlates with nothing, and one that is not finite has no value: both give NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata

Floats = NDArray[np.float64]
MapSimilarity = Literal["spearman", "pearson", "cosine", "ssim"]

SSIM_SIGMA = 1.5
"""Standard deviation of the window in pixels, and what follows: Wang et al. 2004, section III-C."""
SSIM_RADIUS = 5
SSIM_K1, SSIM_K2 = 0.01, 0.03


def pearson(x: Floats, y: Floats) -> Floats:
    """Correlation of each row of ``x`` with that of ``y``.

    Args:
        x: ``(n, p)``.
        y: ``(n, p)``.

    Returns:
        ``(n,)`` between −1 and 1.
    """
    return cosine(_centred(x), _centred(y))


def spearman(x: Floats, y: Floats) -> Floats:
    """Rank correlation of each row of ``x`` with that of ``y``; ties share their mean rank.

    Args:
        x: ``(n, p)``.
        y: ``(n, p)``.

    Returns:
        ``(n,)`` between −1 and 1.
    """
    return pearson(_ranked(x), _ranked(y))


def cosine(x: Floats, y: Floats) -> Floats:
    """Cosine between each row of ``x`` and that of ``y``; NaN for rows of zeros.

    Args:
        x: ``(n, p)``.
        y: ``(n, p)``.

    Returns:
        ``(n,)`` between −1 and 1.
    """
    return np.asarray(np.clip(np.einsum("np,np->n", _unit(x), _unit(y)), -1.0, 1.0))


def ssim(x: Floats, y: Floats) -> Floats:
    """Mean structural similarity of two images (Wang et al. 2004), with the Gaussian window of the paper.

    The dynamic range is that of both maps together: relevance has no range of its own.

    Args:
        x: ``(n, height, width)``.
        y: ``(n, height, width)``.

    Returns:
        ``(n,)``; NaN where a map is constant.
    """
    return np.array([_ssim(one, other) for one, other in zip(x, y, strict=True)], dtype=np.float64)


ROW_SIMILARITIES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "spearman": spearman,
    "pearson": pearson,
    "cosine": cosine,
}
"""Similarities of flattened maps by name."""


def _centred(x: Floats) -> Floats:
    centred = x - x.mean(axis=1, keepdims=True)
    # Rounding leaves a constant row a spread of about 1e-16 of its size: that is no direction.
    flat = np.ptp(x, axis=1, keepdims=True) <= 1e-13 * np.abs(x).max(axis=1, keepdims=True, initial=0.0)
    return np.asarray(np.where(flat, 0.0, centred))


def _ranked(x: Floats) -> Floats:
    finite = np.isfinite(x).all(axis=1, keepdims=True)
    return np.where(finite, rankdata(np.where(finite, x, 0.0), axis=1), np.nan)


def _unit(x: Floats) -> Floats:
    largest = np.abs(x).max(axis=1, keepdims=True, initial=0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = np.where((largest > 0) & np.isfinite(largest), x / largest, np.nan)
        return np.asarray(scaled / np.linalg.norm(scaled, axis=1, keepdims=True))


def _ssim(x: Floats, y: Floats) -> float:
    if not (np.isfinite(x).all() and np.isfinite(y).all()) or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    span = max(x.max(), y.max()) - min(x.min(), y.min())
    c1, c2 = (SSIM_K1 * span) ** 2, (SSIM_K2 * span) ** 2

    def window(image: Floats) -> Floats:
        return np.asarray(gaussian_filter(image, SSIM_SIGMA, radius=SSIM_RADIUS))

    mean_x, mean_y = window(x), window(y)
    var_x, var_y = window(x * x) - mean_x**2, window(y * y) - mean_y**2
    covariance = window(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return float((luminance * structure).mean())
