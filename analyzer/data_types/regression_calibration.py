"""Results of the calibration analysis for regression outputs: points, Gaussian heads and quantile heads."""

from __future__ import annotations

from dataclasses import dataclass, field

from analyzer.data_types.calibration_parts import PER_SAMPLE, CalibrationVerdict, Floats
from analyzer.data_types.values import Estimate, Finding


@dataclass(frozen=True, kw_only=True, eq=False)
class ResidualShape:
    """What the residuals of one target look like; p-values are None where a test is undefined.

    Attributes:
        index: Index of the target.
        skewness: Skewness of the residuals.
        excess_kurtosis: Excess kurtosis of the residuals.
        normality_p_value: D'Agostino and Pearson's test of normal residuals.
        heteroscedasticity_p_value: Koenker's test of a residual variance that depends on the prediction.
        n: Number of rows.
    """

    index: int
    skewness: float | None
    excess_kurtosis: float | None
    normality_p_value: float | None
    heteroscedasticity_p_value: float | None
    n: int


@dataclass(frozen=True, kw_only=True, eq=False)
class RegressionCalibration:
    """Residual diagnostics of a point regression. Points carry no uncertainty, hence there is no verdict on it.

    With d targets, the scalars are means over targets.

    Attributes:
        task: Kind of the output.
        n: Number of rows.
        n_samples: Number of samples.
        bias: Mean of prediction minus truth.
        rmse: Root mean square error.
        mae: Mean absolute error.
        r2: Coefficient of determination; undefined for a constant target.
        residual_std: Standard deviation of the residuals.
        shape: Shape of the residuals, one entry per target.
        prediction: Predictions, shape ``(n, d)``.
        residual: Truth minus prediction, shape ``(n, d)``.
        notes: What was left out and why.
        findings: Statements about trouble.
    """

    task: str
    n: int
    n_samples: int
    bias: Estimate
    rmse: Estimate
    mae: Estimate
    r2: Estimate
    residual_std: Estimate
    shape: tuple[ResidualShape, ...]
    prediction: Floats = field(metadata=PER_SAMPLE)
    residual: Floats = field(metadata=PER_SAMPLE)
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Coverage:
    """How often the truth fell where it was predicted to.

    Attributes:
        nominal: Predicted probability: of the central interval (Gaussian heads), or of lying at or below the
            quantile (quantile heads).
        observed: Share of rows where it did.
        width: Mean width of the interval; None for a single quantile.
    """

    nominal: float
    observed: Estimate
    width: Estimate | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class GaussianCalibration:
    """Calibration of a head that predicts mean and variance. With d targets, the scalars are means over targets.

    Attributes:
        task: Kind of the output.
        n: Number of rows.
        n_samples: Number of samples.
        coverage: Central intervals at nominal levels.
        miscalibration: Mean over the levels 0.05, 0.10, ..., 0.95 of the absolute gap between level and the share of
            probability integral transforms below it.
        pit_ks: Kolmogorov distance of the probability integral transforms from uniform.
        pit_p_value: p-value of ``pit_ks`` (Holm over targets).
        crps: Continuous ranked probability score, in units of the target.
        nll: Negative log likelihood in nats.
        sharpness: Mean predicted standard deviation.
        z_variance: Variance of (truth - mean) / standard deviation; 1 when calibrated, above 1 when over-confident.
        bias: Mean of prediction minus truth.
        rmse: Root mean square error of the mean.
        mae: Mean absolute error of the mean.
        r2: Coefficient of determination of the mean.
        verdict: Answer of the PIT test.
        pit: Probability integral transforms, shape ``(n, d)``.
        prediction: Predicted means, shape ``(n, d)``.
        predicted_std: Predicted standard deviations, shape ``(n, d)``.
        residual: Truth minus mean, shape ``(n, d)``.
        notes: What was left out and why.
        findings: Statements about trouble.
    """

    task: str
    n: int
    n_samples: int
    coverage: tuple[Coverage, ...]
    miscalibration: Estimate
    pit_ks: Estimate
    pit_p_value: float
    crps: Estimate
    nll: Estimate
    sharpness: Estimate
    z_variance: Estimate
    bias: Estimate
    rmse: Estimate
    mae: Estimate
    r2: Estimate
    verdict: CalibrationVerdict
    pit: Floats = field(metadata=PER_SAMPLE)
    prediction: Floats = field(metadata=PER_SAMPLE)
    predicted_std: Floats = field(metadata=PER_SAMPLE)
    residual: Floats = field(metadata=PER_SAMPLE)
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantileCalibration:
    """Calibration of a head that predicts quantiles.

    Attributes:
        task: Kind of the output.
        n: Number of rows.
        n_samples: Number of samples.
        levels: Levels of the quantiles, ascending.
        coverage: Share of rows at or below each quantile.
        intervals: Central intervals made of symmetric pairs of quantiles.
        pinball: Pinball loss of each quantile.
        mean_pinball: Mean pinball loss.
        crossing: Share of rows whose quantiles are not in order.
        miscalibration: Mean over levels of the absolute gap between level and observed share.
        verdict: Exact binomial tests of the levels, Holm-corrected.
        prediction: Predicted quantiles, shape ``(n, q)``.
        residual: Truth minus each quantile, shape ``(n, q)``.
        notes: What was left out and why.
        findings: Statements about trouble.
    """

    task: str
    n: int
    n_samples: int
    levels: tuple[float, ...]
    coverage: tuple[Coverage, ...]
    intervals: tuple[Coverage, ...]
    pinball: tuple[Estimate, ...]
    mean_pinball: Estimate
    crossing: Estimate
    miscalibration: Estimate
    verdict: CalibrationVerdict
    prediction: Floats = field(metadata=PER_SAMPLE)
    residual: Floats = field(metadata=PER_SAMPLE)
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
