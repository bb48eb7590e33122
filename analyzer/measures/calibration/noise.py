"""What sampling noise alone adds to measures that the bootstrap cannot correct by itself.

A bin with one row, or an isotonic fit, follows its data so closely that bootstrap samples show too little noise.
Here the noise is that of perfectly calibrated predictions: outcomes drawn from the predictions, whose true
miscalibration is 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from analyzer.measures.calibration.decompositions import stacked_isotonic_blocks
from analyzer.measures.calibration.null_test import resample_labels
from analyzer.measures.calibration.tally import equal_width_edges

Floats = NDArray[np.float64]

_LABEL_SETS = 20
_BIN_SETS = 200
_MAX_CELLS = 4096
_LABELS_AT_ONCE = 4_000_000


def noise_of_parts(
    probabilities: Floats, *, n_bins: int, rng: np.random.Generator, brier_scale: float = 1.0
) -> dict[str, float]:
    """Expected values under calibration: of MCB, reliability and the squared MCE.

    Args:
        probabilities: ``(m, K)``.
        n_bins: Number of equal-width bins.
        rng: Source of outcomes.
        brier_scale: Factor of the Brier score.

    Returns:
        The noise in the named measures (for ``"mce"``: in its square). Discrimination and resolution are inflated by
        as much as miscalibration and reliability.
    """
    brier, log = expected_miscalibration(probabilities, rng)
    reliability, resolution = expected_reliability(probabilities, n_bins)
    return {
        "brier_mcb": brier * brier_scale,
        "brier_dsc": brier * brier_scale,
        "log_loss_mcb": log,
        "log_loss_dsc": log,
        "reliability": reliability * brier_scale,
        "resolution": resolution * brier_scale,
        "mce": expected_squared_maximum(probabilities.max(axis=1), n_bins, rng),
    }


def expected_miscalibration(probabilities: Floats, rng: np.random.Generator) -> tuple[float, float]:
    """Mean MCB of Brier score and log loss over sets of labels drawn from the probabilities ``(m, K)``."""
    n_rows, n_classes = probabilities.shape
    n_sets = int(np.clip(_LABELS_AT_ONCE // n_rows, 2, _LABEL_SETS))
    labels = resample_labels(np.cumsum(probabilities, axis=1), rng, n_sets)
    brier, log = 0.0, 0.0
    for k in range(n_classes):
        forecast = probabilities[:, k]
        count, starts, order = _cells(forecast)
        hits = np.add.reduceat((labels[order] == k).astype(np.float64), starts, axis=0).T
        tiled = np.tile(count, n_sets)
        blocks = stacked_isotonic_blocks(hits.ravel() / tiled, tiled, np.repeat(np.arange(n_sets), count.size))
        size, positive = np.add.reduceat(tiled, blocks), np.add.reduceat(hits.ravel(), blocks)
        rate = positive / size
        positives = hits.sum(axis=1)
        of_positives = np.log(np.maximum(forecast, 1e-300)) @ (labels == k)
        linear = n_sets * forecast.sum() - positives.sum()
        square = n_sets * (forecast**2).sum() - 2 * float((forecast @ (labels == k)).sum()) + positives.sum()
        brier += float(square - (positive * (1 - rate)).sum())
        log += float(linear - of_positives.sum() + xlogy(positive, rate).sum())
    return brier / (n_sets * n_rows), log / (n_sets * n_rows)


def expected_reliability(probabilities: Floats, n_bins: int) -> tuple[float, float]:
    """Expected reliability term of calibrated predictions, and the expected inflation of their resolution.

    In closed form: the share correct of a bin has variance sum p (1 - p) / n_b^2 (Bröcker 2012, "Estimating reliability
    and resolution of probability forecasts through decomposition of the empirical score").
    """
    n_rows, n_classes = probabilities.shape
    bins = np.searchsorted(equal_width_edges(n_bins)[1:-1], probabilities, side="left")
    bins += n_bins * np.arange(n_classes)
    variance = (probabilities * (1 - probabilities)).ravel()
    count = np.bincount(bins.ravel(), minlength=n_bins * n_classes)
    total = np.bincount(bins.ravel(), variance, minlength=n_bins * n_classes)
    reliability = float((total[count > 0] / count[count > 0]).sum() / n_rows)
    return reliability, reliability - float(variance.sum()) / n_rows**2


def expected_squared_maximum(confidence: Floats, n_bins: int, rng: np.random.Generator) -> float:
    """Expected square of the MCE of calibrated predictions, with binomial outcomes per bin."""
    bins = np.searchsorted(equal_width_edges(n_bins)[1:-1], confidence, side="left")
    count = np.bincount(bins, minlength=n_bins)
    filled = count > 0
    mean = np.clip(np.bincount(bins, confidence, minlength=n_bins)[filled] / count[filled], 0.0, 1.0)
    share = rng.binomial(count[filled], mean, size=(_BIN_SETS, int(filled.sum()))) / count[filled]
    return float((np.abs(share - mean).max(axis=1) ** 2).mean())


def _cells(forecast: Floats) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Rows per distinct forecast (or quantile cell, where there are many), first row of each, and the sorting order."""
    order = np.argsort(forecast, kind="stable")
    rises = np.append(True, np.diff(forecast[order]) > 0)
    starts = np.flatnonzero(rises)
    if starts.size > _MAX_CELLS:
        starts = starts[np.linspace(0, starts.size, _MAX_CELLS, endpoint=False).astype(np.int64)]
    return np.diff(np.append(starts, forecast.size)).astype(np.float64), starts, order
