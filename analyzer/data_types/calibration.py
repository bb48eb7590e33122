"""Results of the calibration analysis for classes and labels: one frozen dataclass per kind of output.

Every scalar is an `Estimate` with its n; a measure that is undefined for the data has ``value=None`` or is None itself.
Fields with metadata ``{"per_sample": True}`` hold one row per sample (or position).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.calibration_parts import (
    PER_SAMPLE,
    BinnedScore,
    CalibrationVerdict,
    ClassCalibration,
    CorpScore,
    Floats,
    RecalibrationSuggestion,
    ReliabilityBins,
    SmoothCurve,
)
from analyzer.data_types.values import Estimate, Finding


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassificationCalibration:
    """Calibration of one output with exclusive classes (binary, multiclass, and these at every position).

    The confidence is the probability of the predicted class (top label). Brier and log loss are over all classes; the
    Brier score of a binary output is the mean of (P(y=1) - y)^2.

    Attributes:
        task: Kind of the output.
        from_logits: Whether the model returns logits.
        n: Number of rows (samples, or positions).
        n_samples: Number of samples; below ``n`` where samples have positions. Intervals resample samples.
        n_classes: Number of classes.
        n_bins: Bins of the binned measures.
        ece: Expected calibration error, equal-width bins.
        ece_equal_mass: The same with equally filled bins.
        mce: Largest gap of an equal-width bin.
        rmsce: Root mean square gap over equal-width bins.
        debiased_l2: Root of the debiased squared gap over equal-mass bins, 0 where that is negative.
        debiased_l2_squared: The debiased squared gap with its sign; unbiased around 0 for calibrated predictions.
        smece: Smooth calibration error at its self-consistent bandwidth.
        ks: Largest cumulative gap between accuracy and confidence.
        ks_p_value: Asymptotic p-value of ``ks`` against calibration; None where rows are not independent.
        classwise_ece: Mean over classes of the one-vs-rest ECE over all rows.
        accuracy: Share correct.
        mean_confidence: Mean probability of the predicted class.
        confidence_gap: Mean confidence minus accuracy; positive means over-confident.
        mean_entropy: Mean entropy in nats.
        mean_entropy_normalized: Mean entropy divided by ln K.
        brier: Brier score.
        log_loss: Log loss in nats.
        log_loss_clip: Probabilities below this count as this in the log loss.
        brier_corp: CORP decomposition of the Brier score.
        log_loss_corp: CORP decomposition of the log loss.
        brier_binned: Binned decomposition of the Brier score.
        auroc_errors: Probability that a correct row is more confident than a wrong one; undefined without both.
        aurc: Area under the risk-coverage curve.
        augrc: Area under the generalised risk-coverage curve.
        per_class: One entry per class.
        verdict: Answer of the test against calibrated predictions.
        reliability: Equal-width bins of the reliability diagram.
        reliability_equal_mass: Equally filled bins of the reliability diagram.
        smooth_curve: Smoothed reliability curve.
        confidence: Confidence of each row, shape ``(n,)``.
        entropy: Entropy of each row in nats.
        correct: Whether each row is right.
        predicted: Predicted class of each row.
        recalibration: Suggested maps, the greatest gain in log loss first.
        notes: What was left out and why.
        findings: Statements about trouble.
    """

    task: str
    from_logits: bool
    n: int
    n_samples: int
    n_classes: int
    n_bins: int
    ece: Estimate
    ece_equal_mass: Estimate
    mce: Estimate
    rmsce: Estimate
    debiased_l2: Estimate
    debiased_l2_squared: Estimate
    smece: Estimate
    ks: Estimate
    ks_p_value: float | None
    classwise_ece: Estimate
    accuracy: Estimate
    mean_confidence: Estimate
    confidence_gap: Estimate
    mean_entropy: Estimate
    mean_entropy_normalized: Estimate
    brier: Estimate
    log_loss: Estimate
    log_loss_clip: float
    brier_corp: CorpScore
    log_loss_corp: CorpScore
    brier_binned: BinnedScore
    auroc_errors: Estimate
    aurc: Estimate
    augrc: Estimate
    per_class: tuple[ClassCalibration, ...]
    verdict: CalibrationVerdict
    reliability: ReliabilityBins
    reliability_equal_mass: ReliabilityBins
    smooth_curve: SmoothCurve
    confidence: Floats = field(metadata=PER_SAMPLE)
    entropy: Floats = field(metadata=PER_SAMPLE)
    correct: NDArray[np.bool_] = field(metadata=PER_SAMPLE)
    predicted: NDArray[np.int64] = field(metadata=PER_SAMPLE)
    recalibration: tuple[RecalibrationSuggestion, ...] = ()
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelCalibration:
    """One label of a multi-label output: the probability that it is present against whether it is.

    Attributes:
        index: Index of the label.
        name: Name of the label.
        n: Number of rows.
        n_positive: Number of rows that have the label.
        mean_probability: Mean predicted probability.
        ece: ECE of the probability, equal-width bins.
        smece: Smooth calibration error.
        ks: Largest cumulative gap.
        ks_p_value: Its asymptotic p-value; None where rows are not independent.
        brier: Mean of (p - y)^2.
        log_loss: Binary log loss in nats.
        brier_corp: CORP decomposition of the Brier score.
        verdict: Answer of the test for this label alone, p-value before Holm's correction.
        reliability: Bins of the reliability diagram.
        smooth_curve: Smoothed reliability curve.
    """

    index: int
    name: str
    n: int
    n_positive: int
    mean_probability: float
    ece: Estimate
    smece: Estimate
    ks: Estimate
    ks_p_value: float | None
    brier: Estimate
    log_loss: Estimate
    brier_corp: CorpScore
    verdict: CalibrationVerdict
    reliability: ReliabilityBins
    smooth_curve: SmoothCurve


@dataclass(frozen=True, kw_only=True, eq=False)
class MultiLabelCalibration:
    """Calibration of L independent labels: L binary problems, never a softmax.

    Attributes:
        task: Kind of the output.
        from_logits: Whether the model returns logits.
        n: Number of rows.
        n_samples: Number of samples.
        n_bins: Bins of the binned measures.
        ece: Mean over labels of the ECE.
        smece: Mean over labels of the smooth calibration error.
        brier: Mean over labels of the Brier score.
        log_loss: Mean over labels of the binary log loss.
        log_loss_clip: Probabilities below this count as this in the log loss.
        accuracy: Share of right decisions at 0.5, over rows and labels.
        mean_confidence: Mean of max(p, 1 - p) over rows and labels.
        mean_entropy: Mean binary entropy over rows and labels, in nats.
        mean_entropy_normalized: The same divided by ln 2.
        worst_label: Name of the label with the greatest ECE.
        labels: One entry per label.
        verdict: Holm over the labels.
        confidence: max(p, 1 - p), shape ``(n, L)``.
        entropy: Binary entropies in nats, shape ``(n, L)``.
        correct: Right at 0.5, shape ``(n, L)``.
        recalibration: Suggested maps, the greatest gain in log loss first.
        notes: What was left out and why.
        findings: Statements about trouble.
    """

    task: str
    from_logits: bool
    n: int
    n_samples: int
    n_bins: int
    ece: Estimate
    smece: Estimate
    brier: Estimate
    log_loss: Estimate
    log_loss_clip: float
    accuracy: Estimate
    mean_confidence: Estimate
    mean_entropy: Estimate
    mean_entropy_normalized: Estimate
    worst_label: str
    labels: tuple[LabelCalibration, ...]
    verdict: CalibrationVerdict
    confidence: Floats = field(metadata=PER_SAMPLE)
    entropy: Floats = field(metadata=PER_SAMPLE)
    correct: NDArray[np.bool_] = field(metadata=PER_SAMPLE)
    recalibration: tuple[RecalibrationSuggestion, ...] = ()
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
