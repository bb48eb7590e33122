"""Statistics of the values of one weight tensor: moments, norms, shares and the histogram.

Everything is accumulated in float64 in pieces, so that a tensor of any size needs a fixed amount of extra memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.weights import Histogram, WeightStatistics

HISTOGRAM_BINS = 64
"""Bins of every histogram: enough to see clusters, few enough to keep inside the JSON."""

NEAR_ZERO = 1e-3
"""A weight is near zero up to this fraction of the tensor's RMS: it adds less than a millionth of the squared norm that
its place would have on average, whatever the scale. A normal tensor has 0.08 % of such weights."""

AT_EXTREME = 1e-3
"""A weight lies at the extreme within this fraction of the largest magnitude. A uniform tensor has 0.1 % there."""

_PIECE = 1 << 22


def weight_statistics(tensors: Sequence[NDArray[Any]]) -> WeightStatistics:
    """Describe the values of one or several tensors taken together.

    Moments use the population formulas: g1 = m3 / m2^1.5 and g2 = m4 / m2² − 3 (Joanes & Gill 1998). They, the
    extremes, the shares and the median are over the finite values; norms are undefined unless all values are finite.

    Args:
        tensors: Arrays of any shape and real dtype.

    Returns:
        The statistics, without those of matrices; None where undefined.
    """
    size = sum(t.size for t in tensors)
    n_nan = sum(int(np.isnan(p).sum()) for p in _pieces(tensors))
    n_inf = sum(int(np.isinf(p).sum()) for p in _pieces(tensors))
    n = size - n_nan - n_inf
    if n == 0:
        return WeightStatistics(size=size, n_nan=n_nan, n_inf=n_inf)
    low = min(float(p.min()) for p in _finite(tensors))
    high = max(float(p.max()) for p in _finite(tensors))
    largest = max(abs(low), abs(high))
    mean = sum(float(p.sum()) for p in _finite(tensors)) / n
    second, third, fourth = _central_moments(tensors, mean, largest, n) if low < high else (0.0, 0.0, 0.0)
    l1, rms = _norms(tensors, largest, n)
    whole = n == size
    return WeightStatistics(
        size=size,
        n_nan=n_nan,
        n_inf=n_inf,
        mean=mean,
        std=largest * float(np.sqrt(second)),
        median=_median(tensors),
        min=low,
        max=high,
        skewness=third / second**1.5 if second > 0 else None,
        kurtosis=fourth / second**2 - 3.0 if second > 0 else None,
        l1=l1 if whole else None,
        l2=rms * float(np.sqrt(n)) if whole else None,
        rms=rms if whole else None,
        max_norm=largest if whole else None,
        zero_share=_share(tensors, n, lambda p: p == 0.0),
        near_zero_share=_share(tensors, n, lambda p: np.abs(p) <= NEAR_ZERO * rms),
        positive_share=_share(tensors, n, lambda p: p > 0.0),
        negative_share=_share(tensors, n, lambda p: p < 0.0),
        extreme_share=_extreme_share(tensors, largest, n),
    )


def histogram(tensors: Sequence[NDArray[Any]], bins: int = HISTOGRAM_BINS) -> Histogram | None:
    """Count the finite values between equally spaced edges from the smallest to the largest.

    Args:
        tensors: Arrays of any shape and real dtype, counted together.
        bins: Number of bins; tensors of one repeated value get one bin of unit width around it.

    Returns:
        The histogram, or None without finite values.
    """
    extremes = [(float(p.min()), float(p.max())) for p in _finite(tensors)]
    if not extremes:
        return None
    low, high = min(e[0] for e in extremes), max(e[1] for e in extremes)
    edges = np.linspace(low, high, bins + 1) if low < high else np.array([low - 0.5, low + 0.5])
    if not np.all(np.diff(edges) > 0):  # neighbouring floats: no room for bins between them
        edges = np.array([low, high])
    counts = sum(np.histogram(p, edges)[0] for p in _finite(tensors))
    return Histogram(counts=np.asarray(counts, dtype=np.int64), edges=edges)


def _pieces(tensors: Sequence[NDArray[Any]]) -> Iterator[NDArray[np.float64]]:
    for tensor in tensors:
        flat = tensor.reshape(-1)
        for start in range(0, flat.size, _PIECE):
            yield np.asarray(flat[start : start + _PIECE], dtype=np.float64)


def _finite(tensors: Sequence[NDArray[Any]]) -> Iterator[NDArray[np.float64]]:
    for piece in _pieces(tensors):
        finite = piece[np.isfinite(piece)]
        if finite.size:
            yield finite


def _central_moments(
    tensors: Sequence[NDArray[Any]], mean: float, largest: float, n: int
) -> tuple[float, float, float]:
    """Second to fourth, in units of the largest magnitude, so that powers neither overflow nor vanish."""
    sums = np.zeros(3)
    for piece in _finite(tensors):
        deviation = (piece - mean) / largest
        square = deviation * deviation
        sums += square.sum(), (square * deviation).sum(), (square * square).sum()
    second, third, fourth = sums / n
    return float(second), float(third), float(fourth)


def _norms(tensors: Sequence[NDArray[Any]], largest: float, n: int) -> tuple[float, float]:
    """Sum of magnitudes and RMS; scaled by the largest magnitude, so that squares neither overflow nor vanish."""
    if largest == 0.0:
        return 0.0, 0.0
    scaled = [np.abs(piece / largest) for piece in _finite(tensors)]
    total, squares = sum(float(s.sum()) for s in scaled), sum(float((s * s).sum()) for s in scaled)
    return largest * total, largest * float(np.sqrt(squares / n))


def _median(tensors: Sequence[NDArray[Any]]) -> float:
    finite = np.concatenate([t.reshape(-1)[np.isfinite(t.reshape(-1))] for t in tensors])
    return float(np.median(finite, overwrite_input=True))


def _share(tensors: Sequence[NDArray[Any]], n: int, test: Any) -> float:
    return sum(int(np.count_nonzero(test(piece))) for piece in _finite(tensors)) / n


def _extreme_share(tensors: Sequence[NDArray[Any]], largest: float, n: int) -> float | None:
    """Share at the largest magnitude beyond the one weight that defines it; None where that is all there is."""
    if largest == 0.0 or n < 2:
        return None
    bound = (1.0 - AT_EXTREME) * largest
    at_extreme = sum(int(np.count_nonzero(np.abs(piece) >= bound)) for piece in _finite(tensors))
    return (at_extreme - 1) / (n - 1)
