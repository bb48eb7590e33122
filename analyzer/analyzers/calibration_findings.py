"""What the calibration of an output says about trouble, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from analyzer.data_types.calibration import ClassificationCalibration, MultiLabelCalibration
from analyzer.data_types.calibration_parts import CalibrationVerdict, RecalibrationSuggestion
from analyzer.data_types.regression_calibration import GaussianCalibration, QuantileCalibration, RegressionCalibration
from analyzer.data_types.values import Estimate, Finding, Severity

MATERIAL_ERROR = 0.02
"""Calibration error that matters in practice: a smaller one is a remark even where a large sample proves it."""
FEW_SAMPLES = 100
"""Samples below which only gross miscalibration can be seen."""
MATERIAL_BIAS = 0.1
"""Bias, in standard deviations of the residuals, that matters in practice."""
HETEROSCEDASTIC_LEVEL = 0.001
"""Level of the test of a constant residual variance; strict, since large samples reject almost everything."""


def classification_findings(result: ClassificationCalibration) -> Iterator[Finding]:
    """Findings about predictions over exclusive classes."""
    yield from _few_samples(result.n_samples)
    if not result.verdict.calibrated:
        evidence = {
            "p_value": result.verdict.p_value,
            "level": result.verdict.level,
            "n": result.verdict.n,
            "mean_confidence": result.mean_confidence.value,
            "accuracy": result.accuracy.value,
            "smece": result.smece.value,
            "threshold": MATERIAL_ERROR,
        }
        words = (
            f"mean confidence is {float(result.mean_confidence):.3f} at an accuracy of {float(result.accuracy):.3f} "
            f"(smooth calibration error {float(result.smece):.3f})"
        )
        yield _miscalibrated(result.verdict, result.smece, words, result.recalibration, evidence)
    absent = [entry.name for entry in result.per_class if entry.n == 0]
    if len(absent) == result.n_classes - 1:
        yield Finding(
            kind="one_class_only",
            layer=None,
            severity="warning",
            evidence={"n_absent": len(absent), "n_classes": result.n_classes},
            message="The labels hold a single class: nothing can be said about telling classes apart. Audit on data "
            "with all classes.",
        )
    elif absent:
        yield Finding(
            kind="absent_classes",
            layer=None,
            severity="info",
            evidence={"n_absent": len(absent), "n_classes": result.n_classes, "first": absent[0]},
            message=f"{len(absent)} of {result.n_classes} classes do not occur in the labels (first: {absent[0]}); "
            "their calibration is unknown. Draw a larger or stratified sample.",
        )


def multilabel_findings(result: MultiLabelCalibration) -> Iterator[Finding]:
    """Findings about independent labels."""
    yield from _few_samples(result.n_samples)
    if not result.verdict.calibrated:
        evidence: dict[str, float | int | str | bool | None] = {
            "p_value": result.verdict.p_value,
            "level": result.verdict.level,
            "n": result.verdict.n,
            "worst_label": result.worst_label,
            "smece": result.smece.value,
            "threshold": MATERIAL_ERROR,
        }
        words = f"the mean smooth calibration error over labels is {float(result.smece):.3f}"
        yield _miscalibrated(result.verdict, result.smece, words, result.recalibration, evidence)
    absent = [entry.name for entry in result.labels if entry.n_positive == 0]
    if absent:
        yield Finding(
            kind="absent_classes",
            layer=None,
            severity="info",
            evidence={"n_absent": len(absent), "n_classes": len(result.labels), "first": absent[0]},
            message=f"{len(absent)} of {len(result.labels)} labels are never present (first: {absent[0]}). Draw a "
            "larger sample to judge them.",
        )


def regression_findings(result: RegressionCalibration) -> Iterator[Finding]:
    """Findings about the residuals of point predictions."""
    yield from _bias(result.bias, result.residual_std.value)
    for shape in result.shape:
        p_value = shape.heteroscedasticity_p_value
        if p_value is not None and p_value < HETEROSCEDASTIC_LEVEL:
            yield Finding(
                kind="heteroscedastic_residuals",
                layer=None,
                severity="info",
                evidence={"target": shape.index, "p_value": p_value, "level": HETEROSCEDASTIC_LEVEL, "n": shape.n},
                message=f"The spread of the residuals of target {shape.index} depends on the prediction (p = "
                f"{p_value:.2g}): one error bar for all predictions would be wrong. Predict a variance or quantiles.",
            )


def gaussian_findings(result: GaussianCalibration) -> Iterator[Finding]:
    """Findings about predicted means and variances."""
    yield from _few_samples(result.n_samples)
    yield from _bias(result.bias, result.sharpness.value)
    if not result.verdict.calibrated:
        inside = result.coverage[2]
        yield _interval_miscalibration(
            result.verdict,
            f"intervals that should hold {inside.nominal:.0%} of the truths hold {float(inside.observed):.1%}. "
            f"Multiply the predicted variance by {float(result.z_variance):.3g}, or fit it on held-out data",
            {"z_variance": result.z_variance.value, "coverage": inside.observed.value, "nominal": inside.nominal},
        )


def quantile_findings(result: QuantileCalibration) -> Iterator[Finding]:
    """Findings about predicted quantiles."""
    yield from _few_samples(result.n_samples)
    if not result.verdict.calibrated:
        worst = max(result.coverage, key=lambda entry: abs(float(entry.observed) - entry.nominal))
        yield _interval_miscalibration(
            result.verdict,
            f"{float(worst.observed):.1%} of the truths lie below the quantile of level {worst.nominal:g}. Shift the "
            "quantiles by those of the residuals on held-out data (conformal calibration)",
            {"coverage": worst.observed.value, "nominal": worst.nominal},
        )
    if result.crossing.value:
        yield Finding(
            kind="crossing_quantiles",
            layer=None,
            severity="warning",
            evidence={"share": result.crossing.value, "threshold": 0.0, "n": result.crossing.n},
            message=f"{result.crossing.value:.1%} of the predictions have quantiles out of order. Sort them, or "
            "predict positive increments.",
        )


def _few_samples(n: int) -> Iterator[Finding]:
    if n < FEW_SAMPLES:
        yield Finding(
            kind="few_samples",
            layer=None,
            severity="info",
            evidence={"n": n, "threshold": FEW_SAMPLES},
            message=f"{n} samples show only gross miscalibration; intervals are wide. Use {FEW_SAMPLES} or more.",
        )


def _miscalibrated(
    verdict: CalibrationVerdict,
    error: Estimate,
    words: str,
    suggestions: tuple[RecalibrationSuggestion, ...],
    evidence: Mapping[str, float | int | str | bool | None],
) -> Finding:
    advice = "More data will show whether recalibration helps."
    helpful = [suggestion for suggestion in suggestions if suggestion.helps]
    if helpful:
        best = helpful[0]
        evidence = {**evidence, "method": best.map.method, "log_loss_gain": best.log_loss_gain.value}
        advice = (
            f"recalibrate(model, result) with method {best.map.method!r} lowers the log loss on unseen rows by "
            f"{float(best.log_loss_gain):.3g} nats."
        )
    material = error.high is None or error.high >= MATERIAL_ERROR
    return Finding(
        kind=verdict.direction.replace("-", "_"),
        layer=None,
        severity="warning" if material else "info",
        evidence=evidence,
        message=f"The model is {verdict.text}: {words}. {advice}",
    )


def _interval_miscalibration(
    verdict: CalibrationVerdict, words: str, numbers: dict[str, float | int | str | bool | None]
) -> Finding:
    return Finding(
        kind=verdict.direction.replace("-", "_"),
        layer=None,
        severity="warning",
        evidence={"p_value": verdict.p_value, "level": verdict.level, "n": verdict.n, **numbers},
        message=f"The predicted uncertainty is {verdict.text}: {words}.",
    )


def _bias(bias: Estimate, scale: float | None) -> Iterator[Finding]:
    """A bias that is distinguishable from none; a warning where it is large against the spread."""
    if bias.value is None or bias.low is None or bias.high is None or bias.low <= 0 <= bias.high:
        return
    share = None if not scale else abs(bias.value) / scale
    severity: Severity = "warning" if share is not None and share >= MATERIAL_BIAS else "info"
    yield Finding(
        kind="biased_predictions",
        layer=None,
        severity=severity,
        evidence={"bias": bias.value, "share_of_std": share, "threshold": MATERIAL_BIAS, "n": bias.n},
        message=f"Predictions are off by {bias.value:+.3g} on average (interval {bias.low:.3g} to {bias.high:.3g}). "
        "Subtract it, or check the targets' scaling.",
    )
