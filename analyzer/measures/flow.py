"""Measures of a layer's activations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def effective_rank(rows: NDArray[np.floating]) -> float | None:
    """Exp of the Shannon entropy of the normalised singular values of the centred rows (Roy & Vetterli, EUSIPCO 2007).

    Args:
        rows: ``(n, d)`` one activation vector per row.

    Returns:
        A number from 1 to min(n − 1, d); None below two rows, for constant rows, or where a value is not finite.
    """
    rows = np.asarray(rows, dtype=np.float64)
    if len(rows) < 2 or not np.isfinite(rows).all():
        return None
    centred = rows - rows.mean(axis=0)
    gram = centred @ centred.T if centred.shape[0] < centred.shape[1] else centred.T @ centred
    values = np.sqrt(np.clip(np.linalg.eigvalsh(gram), 0.0, None))
    total = values.sum()
    # Rounding leaves singular values near sqrt(eps) of the largest; constant activations have nothing above it.
    if total <= 0 or values.max() <= 1e-12 * max(1.0, float(np.abs(rows).max())):
        return None
    share = values[values > 1e-8 * values.max()] / total
    # What rounding left above the cut must not lift the rank over its ceiling.
    return min(float(np.exp(-(share * np.log(share)).sum())), float(min(len(rows) - 1, rows.shape[1])))


def still_alive_bound(n: int, level: float = 0.95) -> float:
    """Largest rate at which a unit that was silent for n samples may still fire (Clopper & Pearson 1934, one-sided).

    Args:
        n: Number of independent samples.
        level: Confidence.
    """
    return float(1 - (1 - level) ** (1 / n))
