"""The points of a reliability diagram, with the band in which calibrated predictions would lie."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from analyzer.data_types.calibration_parts import ReliabilityBins
from analyzer.measures.calibration.tally import equal_mass_edges, equal_width_edges

Floats = NDArray[np.float64]


def reliability_bins(
    confidence: Floats,
    correct: NDArray[np.bool_],
    *,
    n_bins: int = 15,
    binning: str = "equal width",
    band_level: float = 0.95,
) -> ReliabilityBins:
    """Mean confidence, share correct and consistency band of every non-empty bin.

    The band follows Bröcker & Smith (2007), "Increasing the reliability of reliability diagrams": the share correct of
    n_b rows whose outcomes are drawn from the predictions, here by its binomial law at the bin's mean confidence
    (slightly wider than the exact law, whose variance is smaller by that of the confidence within the bin).

    Args:
        confidence: ``(m,)`` in [0, 1].
        correct: ``(m,)`` outcomes.
        n_bins: Number of bins.
        binning: ``"equal width"`` or ``"equal mass"``.
        band_level: Pointwise coverage of the band.
    """
    edges = equal_width_edges(n_bins) if binning == "equal width" else equal_mass_edges(confidence, n_bins)
    of_row = np.searchsorted(edges[1:-1], confidence, side="left")
    count = np.bincount(of_row, minlength=len(edges) - 1)
    filled = count > 0
    size = count[filled]
    mean = np.clip(np.bincount(of_row, confidence, minlength=count.size)[filled] / size, 0.0, 1.0)
    accuracy = np.bincount(of_row, correct, minlength=count.size)[filled] / size
    tail = (1 - band_level) / 2
    return ReliabilityBins(
        lower=edges[:-1][filled],
        upper=edges[1:][filled],
        confidence=mean,
        accuracy=accuracy,
        count=size,
        band_low=np.asarray(binom.ppf(tail, size, mean) / size),
        band_high=np.asarray(binom.ppf(1 - tail, size, mean) / size),
        band_level=band_level,
    )
