"""Cumulative calibration error: the Kolmogorov-Smirnov distance between confidence and accuracy, with its p-value."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from analyzer.measures.calibration.tally import Tally

Floats = NDArray[np.float64]


def ks_calibration_error(tally: Tally) -> Floats:
    """KS calibration error: largest absolute cumulative sum of correct - confidence, over ascending confidence, by n.

    Gupta et al. (2021), "Calibration of neural networks using splines"; Arrieta-Ibarra et al. (2022), "Metrics of
    calibration for probabilistic predictions". No bins. Ties are crossed in one step.

    Args:
        tally: Counts of B samples.

    Returns:
        ``(B,)`` values in [0, 1].
    """
    walk = np.cumsum(tally.correct - tally.confidence, axis=1)
    largest: Floats = np.abs(walk, out=walk).max(axis=1)
    return largest / tally.total


def ks_calibration_p_value(confidence: Floats, ks: float) -> float:
    """Asymptotic p-value of the KS calibration error of independent rows.

    If the predictions are calibrated, the walk of cumulated residuals has independent steps of variance c (1 - c) and
    tends to a Brownian motion; the statistic is its largest absolute value (Arrieta-Ibarra et al. 2022, section 3.4).

    Args:
        confidence: ``(n,)`` confidence of each row.
        ks: KS calibration error.
    """
    scale = np.sqrt(np.sum(confidence * (1 - confidence))) / confidence.size
    if scale == 0:
        return 1.0 if ks == 0 else 0.0
    return brownian_maximum_tail(ks / scale)


def brownian_maximum_tail(x: float) -> float:
    """P(max |W(t)| >= x) for a standard Brownian motion W on [0, 1].

    Feller (1971), volume 2, section X.5: the reflection series
    1 - sum_k (-1)^k [Phi((2k + 1) x) - Phi((2k - 1) x)], which in tails is
    2 sum_{k >= 0} (-1)^k 2 Phi(-(2k + 1) x).
    """
    if x <= 0.3:
        # Both series agree, but this one converges slowly near 0, where the probability is 1 to 1e-5.
        orders = np.arange(20)
        odd = 2 * orders + 1
        terms = (-1.0) ** orders / odd * np.exp(-((odd * np.pi) ** 2) / (8 * max(x, 1e-3) ** 2))
        return float(1 - 4 / np.pi * terms.sum())
    orders = np.arange(200)
    return float(np.clip(4 * np.sum((-1.0) ** orders * ndtr(-(2 * orders + 1) * x)), 0.0, 1.0))
