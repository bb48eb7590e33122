"""Linear CKA between many representations of the same samples: each Gram matrix is made once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FEWEST_SAMPLES = 4
"""The unbiased HSIC averages over four distinct samples."""


def cka_matrix(representations: Sequence[NDArray[np.floating]]) -> Floats:
    """Unbiased linear CKA of every pair of representations, e.g. of all layers of a model.

    The value of `analyzer.measures.similarity.linear_cka` for each pair (Kornblith et al. 2019 with the unbiased HSIC
    of Song et al. 2012, as in Nguyen, Raghu & Kornblith 2021), without its interval: that HSIC is an inner product of
    double-centred Gram matrices (Székely & Rizzo 2014), so that one matrix product gives all pairs. It holds one vector
    of n(n − 1)/2 numbers per representation: 1 MB at n = 512.

    Args:
        representations: ``(n, ...)`` each, rows of the same samples; what follows the first axis is flattened.

    Returns:
        ``(L, L)`` from −1 to 1, unrelated representations 0 on average. NaN beside a representation that does not vary
        or is not finite, and everywhere below `FEWEST_SAMPLES` samples.

    Raises:
        ValueError: If the numbers of rows differ.
    """
    stacked = _stacked(representations)
    return _cosines(stacked, stacked)


def cka_between(first: Sequence[NDArray[np.floating]], second: Sequence[NDArray[np.floating]]) -> Floats:
    """Unbiased linear CKA of every representation of one model with every one of another; see `cka_matrix`.

    Args:
        first: ``(n, ...)`` each.
        second: ``(n, ...)`` each, rows of the same samples.

    Returns:
        ``(len(first), len(second))``.

    Raises:
        ValueError: If the numbers of rows differ.
    """
    stacked = _stacked([*first, *second])
    return _cosines(stacked[: len(first)], stacked[len(first) :])


def centred_gram(rows: NDArray[np.floating]) -> Floats:
    """Gram matrix of a representation, double-centred without bias, above its diagonal and at unit norm.

    The inner product of two of them is their CKA, so a caller that sees representations one at a time keeps these and
    lets the rows go.

    Args:
        rows: ``(n, ...)``.

    Returns:
        ``(n(n − 1)/2,)``; NaN below `FEWEST_SAMPLES` samples, and for rows that do not vary or are not finite.
    """
    values = np.asarray(rows, dtype=np.float64).reshape(len(rows), -1)
    n = len(values)
    above = np.triu_indices(n, 1)
    if n < FEWEST_SAMPLES or not np.isfinite(values).all():
        return np.full(above[0].size, np.nan)
    centred = values - values.mean(axis=0)
    largest = np.abs(centred).max(initial=0.0)
    if largest <= 1e-7 * np.abs(values).max(initial=0.0):
        return np.full(above[0].size, np.nan)
    centred /= largest
    gram = centred @ centred.T
    np.fill_diagonal(gram, 0.0)
    sums = gram.sum(axis=0)
    gram += sums.sum() / ((n - 1) * (n - 2)) - (sums[:, None] + sums[None, :]) / (n - 2)
    vector = gram[above]
    norm = np.linalg.norm(vector)
    # At four samples of one dimension, centring can leave nothing but rounding.
    return np.asarray(vector / norm if norm > 1e-13 * n else np.full(vector.size, np.nan))


def _stacked(representations: Sequence[NDArray[np.floating]]) -> Floats:
    sizes = {len(rows) for rows in representations}
    if len(sizes) > 1:
        raise ValueError(f"Representations of {sorted(sizes)} samples: CKA compares the same samples.")
    return np.stack([centred_gram(rows) for rows in representations]) if representations else np.zeros((0, 0))


def _cosines(first: Floats, second: Floats) -> Floats:
    return np.asarray(np.clip(first @ second.T, -1.0, 1.0))
