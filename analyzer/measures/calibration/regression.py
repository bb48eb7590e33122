"""Residual diagnostics of point regressions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analyzer.data_types.regression_calibration import RegressionCalibration, ResidualShape
from analyzer.data_types.values import Estimate
from analyzer.measures.calibration.means import MeanBootstrap

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MIN_ROWS = 20


def regression_calibration(
    prediction: Floats,
    truth: Floats,
    *,
    task: str = "regression",
    n_bootstrap: int = 1000,
    seed: int = 0,
    groups: Ints | None = None,
) -> RegressionCalibration:
    """Bias, spread and shape of the residuals of point predictions.

    Args:
        prediction: ``(m, d)``.
        truth: ``(m, d)``.
        task: Kind of the output, for the result.
        n_bootstrap: Bootstrap samples behind the intervals; 0 computes none.
        seed: Seed of the bootstrap.
        groups: ``(m,)`` sample of each row where rows are not independent.
    """
    bootstrap = MeanBootstrap(len(truth), groups, n_bootstrap, seed)
    residual = truth - prediction
    points = point_estimates(prediction, truth, bootstrap)
    return RegressionCalibration(
        task=task,
        n=len(truth),
        n_samples=bootstrap.units.n_independent,
        bias=points.bias,
        rmse=points.rmse,
        mae=points.mae,
        r2=points.r2,
        residual_std=_root_mean(bootstrap, residual, centred=True),
        shape=tuple(residual_shape(prediction[:, j], residual[:, j], j) for j in range(truth.shape[1])),
        prediction=prediction,
        residual=residual,
    )


class PointEstimates(NamedTuple):
    """How far point predictions are off; see `RegressionCalibration`."""

    bias: Estimate
    rmse: Estimate
    mae: Estimate
    r2: Estimate


def point_estimates(prediction: Floats, truth: Floats, bootstrap: MeanBootstrap) -> PointEstimates:
    """Bias, RMSE, MAE and R^2 of point predictions ``(m, d)``, each a mean over the d targets."""
    residual = truth - prediction
    d = truth.shape[1]
    # Sums of squares lose digits far from 0, so R^2 is computed around the mean of the data.
    centred = truth - truth.mean(axis=0)

    def r_squared(means: Floats) -> Floats:
        error, first, second = means[:, :d], means[:, d : 2 * d], means[:, 2 * d :]
        variance = second - first**2
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((1 - np.where(variance > 0, error / variance, np.nan)).mean(axis=1))

    squares = np.concatenate([residual**2, centred, centred**2], axis=1)
    return PointEstimates(
        bias=bootstrap.mean(-residual),
        rmse=_root_mean(bootstrap, residual),
        mae=bootstrap.mean(np.abs(residual), bounds=(0.0, np.inf)),
        r2=bootstrap.estimate(squares, r_squared, bounds=(-np.inf, 1.0)),
    )


def residual_shape(prediction: Floats, residual: Floats, index: int = 0) -> ResidualShape:
    """Shape of the residuals ``(m,)`` of one target.

    Normality by D'Agostino & Pearson (1973); heteroscedasticity by Koenker's (1981) studentised Breusch-Pagan test:
    n R^2 of the regression of squared residuals on the prediction, chi-square with one degree of freedom.
    """
    n = residual.size
    constant = n < _MIN_ROWS or bool(np.ptp(residual) == 0)
    varies = not constant and bool(np.ptp(prediction) > 0)
    square = (residual - residual.mean()) ** 2
    correlation = np.corrcoef(square, prediction)[0, 1] if varies and np.ptp(square) > 0 else None
    return ResidualShape(
        index=index,
        skewness=None if constant else float(stats.skew(residual)),
        excess_kurtosis=None if constant else float(stats.kurtosis(residual)),
        normality_p_value=None if constant else float(stats.normaltest(residual).pvalue),
        heteroscedasticity_p_value=None if correlation is None else float(stats.chi2.sf(n * correlation**2, 1)),
        n=n,
    )


def _root_mean(bootstrap: MeanBootstrap, residual: Floats, *, centred: bool = False) -> Estimate:
    """Mean over targets of the root mean square of the residuals, around their mean where ``centred``."""
    d = residual.shape[1]

    def root(means: Floats) -> Floats:
        square = means[:, d:] - means[:, :d] ** 2 if centred else means[:, d:]
        return np.asarray(np.sqrt(np.maximum(square, 0.0)).mean(axis=1))

    return bootstrap.estimate(np.concatenate([residual, residual**2], axis=1), root, bounds=(0.0, np.inf))
