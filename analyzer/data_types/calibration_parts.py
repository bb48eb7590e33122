"""What the results of the calibration analysis are made of: verdicts, bins, curves, decompositions, maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.values import Estimate

Floats = NDArray[np.float64]
Direction = Literal["calibrated", "over-confident", "under-confident", "miscalibrated"]
MapMethod = Literal["temperature", "vector", "isotonic"]

PER_SAMPLE: dict[str, Any] = {"per_sample": True}
"""Metadata of fields that hold one row per sample."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibrationVerdict:
    """The answer of one named test against a perfectly calibrated null.

    Attributes:
        text: For people, e.g. ``"over-confident (p = 0.001, n = 3000)"``.
        direction: What was found; ``"calibrated"`` means not distinguishable from it.
        p_value: Probability of a statistic at least this extreme if the predictions were perfectly calibrated.
        level: Level of the test.
        test: Name of the test.
        n: Number of independent rows that the test used.
    """

    text: str
    direction: Direction
    p_value: float
    level: float
    test: str
    n: int

    @property
    def calibrated(self) -> bool:
        """Whether the predictions are not distinguishable from calibrated ones."""
        return self.direction == "calibrated"


@dataclass(frozen=True, kw_only=True, eq=False)
class ReliabilityBins:
    """Points of a reliability diagram; empty bins are left out.

    Attributes:
        lower: Left edges, shape ``(b,)``.
        upper: Right edges.
        confidence: Mean confidence in each bin (the x of the diagram).
        accuracy: Share correct in each bin.
        count: Number of rows in each bin.
        band_low: Lower end of the band in which ``accuracy`` would lie for calibrated predictions, pointwise.
        band_high: Upper end of that band.
        band_level: Coverage of the band.
    """

    lower: Floats
    upper: Floats
    confidence: Floats
    accuracy: Floats
    count: NDArray[np.int64]
    band_low: Floats
    band_high: Floats
    band_level: float = 0.95


@dataclass(frozen=True, kw_only=True, eq=False)
class SmoothCurve:
    """Kernel-smoothed reliability curve at the self-consistent bandwidth of smECE.

    Attributes:
        confidence: Points on [0, 1] where the density is not negligible, shape ``(t,)``.
        accuracy: Share correct at these points: confidence plus smoothed residual.
        density: Smoothed density of the confidence at these points.
        bandwidth: Standard deviation of the reflected Gaussian kernel.
    """

    confidence: Floats
    accuracy: Floats
    density: Floats
    bandwidth: float


@dataclass(frozen=True, kw_only=True, eq=False)
class CorpScore:
    """CORP decomposition of a proper score: score = mcb - dsc + unc.

    Attributes:
        mcb: Miscalibration: what isotonic recalibration would gain.
        dsc: Discrimination: what the recalibrated predictions gain over the base rates.
        unc: Uncertainty: score of the base rates.
    """

    mcb: Estimate
    dsc: Estimate
    unc: Estimate


@dataclass(frozen=True, kw_only=True, eq=False)
class BinnedScore:
    """Binned decomposition of the Brier score with Stephenson's within-bin terms.

    brier = reliability - resolution + uncertainty + within_bin_variance - within_bin_covariance.
    """

    reliability: Estimate
    resolution: Estimate
    uncertainty: Estimate
    within_bin_variance: Estimate
    within_bin_covariance: Estimate


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassCalibration:
    """One class against the rest, over all rows.

    Attributes:
        index: Index of the class.
        name: Name of the class.
        ece: ECE of the probability of this class (equal-width bins); ``value`` is None where the class is absent
            from the labels.
        n: Number of rows that truly are of this class.
        base_rate: Share of rows of this class.
        mean_probability: Mean predicted probability of this class.
    """

    index: int
    name: str
    ece: Estimate
    n: int
    base_rate: float
    mean_probability: float


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibrationMap:
    """A recalibration map with its fitted parameters.

    With K classes or labels (1 for binary):

    Attributes:
        method: ``"temperature"``, ``"vector"`` or ``"isotonic"``.
        activation: ``"softmax"`` over classes, or ``"sigmoid"`` for binary and multi-label outputs.
        temperature: Divides the logits; above 1 means over-confident. None for other methods.
        weights: K factors of the logits; empty for other methods.
        biases: K offsets of the logits; empty for other methods.
        thresholds: Per class, ascending probabilities at the knots of the isotonic map; empty for other methods.
        values: Per class, recalibrated probabilities at these knots.
    """

    method: MapMethod
    activation: Literal["softmax", "sigmoid"]
    temperature: float | None = None
    weights: tuple[float, ...] = ()
    biases: tuple[float, ...] = ()
    thresholds: tuple[tuple[float, ...], ...] = ()
    values: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class RecalibrationSuggestion:
    """A recalibration map fitted on all rows, with what it gains on rows that it has not seen.

    Attributes:
        map: The map.
        log_loss_gain: Cross-validated decrease of the log loss (positive is better).
        brier_gain: Cross-validated decrease of the Brier score.
        ece_gain: Cross-validated decrease of the ECE.
        folds: Number of folds.
    """

    map: CalibrationMap
    log_loss_gain: Estimate
    brier_gain: Estimate
    ece_gain: Estimate
    folds: int

    @property
    def helps(self) -> bool:
        """Whether the gain in log loss is distinguishable from none."""
        return self.log_loss_gain.low is not None and self.log_loss_gain.low > 0
