"""Binned distances between confidence and accuracy, and the points of a reliability diagram.

All take a `Tally` of B samples and return ``(B,)``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analyzer.measures.calibration.tally import Tally

Floats = NDArray[np.float64]


def expected_calibration_error(tally: Tally, binning: str = "equal width") -> Floats:
    """ECE: mean absolute gap between accuracy and mean confidence over bins, weighted by their rows.

    Naeini, Cooper & Hauskrecht (2015), Guo et al. (2017); with ``"equal mass"`` bins Nguyen & O'Connor (2015). Biased
    upward by noise where the predictions are calibrated.
    """
    count, gap = _bin_gaps(tally, binning)
    return np.asarray(np.abs(gap).sum(axis=1) / count.sum(axis=1))


def maximum_calibration_error(tally: Tally, binning: str = "equal width") -> Floats:
    """MCE: largest gap of any non-empty bin (Naeini et al. 2015); ruled by the bin with the fewest rows."""
    count, gap = _bin_gaps(tally, binning)
    gaps: Floats = np.max(np.abs(gap) / np.where(count > 0, count, 1.0), axis=1)
    return gaps


def root_mean_square_calibration_error(tally: Tally, binning: str = "equal width") -> Floats:
    """RMSCE: root of the mean squared gap over bins, weighted by their rows (Hendrycks et al. 2019)."""
    return np.sqrt(squared_calibration_error(tally, binning))


def squared_calibration_error(tally: Tally, binning: str = "equal mass") -> Floats:
    """Plug-in squared L2 calibration error: mean squared gap over bins, weighted by their rows."""
    count, gap = _bin_gaps(tally, binning)
    return np.asarray((gap**2 / np.where(count > 0, count, 1.0)).sum(axis=1) / count.sum(axis=1))


def debiased_squared_calibration_error(tally: Tally, binning: str = "equal mass") -> Floats:
    """Squared L2 calibration error without the part that sampling noise adds, with its sign.

    Kumar, Liang & Ma (2019), definition 5.2: from the squared gap of each bin subtract the estimated variance of its
    accuracy, a (1 - a) / (n_b - 1). Unbiased around 0 for calibrated predictions and independent rows. Bins with a
    single row have no variance estimate and add nothing.
    """
    count, gap = _bin_gaps(tally, binning)
    accuracy = _by_bin(tally.correct, tally, binning) / np.where(count > 0, count, 1.0)
    usable = count > 1
    safe = np.where(usable, count, 2.0)
    terms = np.where(usable, (gap / safe) ** 2 - accuracy * (1 - accuracy) / (safe - 1), 0.0)
    total: Floats = (count * terms).sum(axis=1) / count.sum(axis=1)
    return total


def _bin_gaps(tally: Tally, binning: str) -> tuple[Floats, Floats]:
    """Rows per bin, and summed correctness minus summed confidence per bin, both ``(B, bins)``."""
    count = _by_bin(tally.count, tally, binning)
    return count, _by_bin(tally.correct - tally.confidence, tally, binning)


def _by_bin(values: Floats, tally: Tally, binning: str) -> Floats:
    return np.add.reduceat(values, tally.bins[binning], axis=1)
