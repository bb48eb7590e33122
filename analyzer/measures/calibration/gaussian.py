"""Calibration of heads that predict a mean and a variance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtr

from analyzer.data_types.calibration_parts import CalibrationVerdict
from analyzer.data_types.regression_calibration import Coverage, GaussianCalibration
from analyzer.data_types.values import Estimate
from analyzer.measures.calibration.means import MeanBootstrap
from analyzer.measures.calibration.null_test import LEVEL, independent_rows, make_verdict
from analyzer.measures.calibration.regression import point_estimates

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NOMINAL_LEVELS = (0.5, 0.8, 0.9, 0.95)
TEST_NAME = "Kolmogorov-Smirnov test of uniform probability integral transforms, Holm over targets"

_GRID = 200


def gaussian_crps(mean: Floats, std: Floats, truth: Floats) -> Floats:
    """CRPS of normal predictions in closed form (Gneiting & Raftery 2007, equation 21), in units of the truth."""
    z = (truth - mean) / std
    return np.asarray(std * (z * (2 * ndtr(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi)))


def gaussian_nll(mean: Floats, std: Floats, truth: Floats) -> Floats:
    """Negative log likelihood of normal predictions in nats, with its constant."""
    return np.asarray(0.5 * np.log(2 * np.pi) + np.log(std) + 0.5 * ((truth - mean) / std) ** 2)


def gaussian_calibration(
    mean: Floats,
    variance: Floats,
    truth: Floats,
    *,
    n_bootstrap: int = 1000,
    seed: int = 0,
    groups: Ints | None = None,
    level: float = LEVEL,
) -> GaussianCalibration:
    """Coverage, probability integral transforms (PIT), proper scores and verdict of normal predictions.

    Args:
        mean: ``(m, d)`` predicted means.
        variance: ``(m, d)`` predicted variances, positive.
        truth: ``(m, d)``.
        n_bootstrap: Bootstrap samples behind the intervals; 0 computes none.
        seed: Seed of the bootstrap.
        groups: ``(m,)`` sample of each row where rows are not independent; the test then looks at one row per group.
        level: Level of the verdict's test.
    """
    bootstrap = MeanBootstrap(len(truth), groups, n_bootstrap, seed)
    std = np.sqrt(variance)
    z = (truth - mean) / std
    pit = np.asarray(ndtr(z))
    points = point_estimates(mean, truth, bootstrap)
    verdict = _verdict(pit, z, groups, level, np.random.default_rng([seed, 2]))
    return GaussianCalibration(
        task="gaussian",
        n=len(truth),
        n_samples=bootstrap.units.n_independent,
        coverage=tuple(_coverage(nominal, z, std, bootstrap) for nominal in NOMINAL_LEVELS),
        miscalibration=_distance_from_uniform(pit, bootstrap, np.arange(1, 20) / 20),
        pit_ks=_pit_ks(pit, bootstrap),
        pit_p_value=verdict.p_value,
        crps=bootstrap.mean(gaussian_crps(mean, std, truth), bounds=(0.0, np.inf)),
        nll=bootstrap.mean(gaussian_nll(mean, std, truth)),
        sharpness=bootstrap.mean(std, bounds=(0.0, np.inf)),
        z_variance=_variance(z, bootstrap),
        bias=points.bias,
        rmse=points.rmse,
        mae=points.mae,
        r2=points.r2,
        verdict=verdict,
        pit=pit,
        prediction=mean,
        predicted_std=std,
        residual=truth - mean,
    )


def holm(p_values: list[float]) -> float:
    """Smallest p-value adjusted by Holm (1979): the level at which the first of several tests rejects."""
    return min(1.0, len(p_values) * min(p_values))


def _coverage(nominal: float, z: Floats, std: Floats, bootstrap: MeanBootstrap) -> Coverage:
    half = float(stats.norm.ppf((1 + nominal) / 2))
    width = bootstrap.mean(2 * half * std, bounds=(0.0, np.inf))
    return Coverage(nominal=nominal, observed=bootstrap.share(np.abs(z) <= half), width=width)


def _variance(z: Floats, bootstrap: MeanBootstrap) -> Estimate:
    d = z.shape[1]
    columns = np.concatenate([z, z**2], axis=1)
    return bootstrap.estimate(
        columns, lambda means: (means[:, d:] - means[:, :d] ** 2).mean(axis=1), bounds=(0.0, np.inf)
    )


def _pit_ks(pit: Floats, bootstrap: MeanBootstrap) -> Estimate:
    """KS distance, exact on the data; its spread from bootstrap samples on a grid."""
    coarse = _distance_from_uniform(pit, bootstrap, np.arange(1, _GRID) / _GRID, greatest=True)
    exact = float(np.mean([stats.kstest(column, "uniform").statistic for column in pit.T]))
    low, high = coarse.low, coarse.high
    return Estimate(
        value=exact,
        low=None if low is None else min(low, exact),
        high=None if high is None else max(high, exact),
        n=coarse.n,
        method=coarse.method,
    )


def _distance_from_uniform(pit: Floats, bootstrap: MeanBootstrap, grid: Floats, *, greatest: bool = False) -> Estimate:
    """Mean over targets of the mean or greatest gap between the grid and the share of PIT below it."""
    below = (pit[:, :, None] <= grid).reshape(len(pit), -1).astype(np.float64)
    shape = (-1, pit.shape[1], grid.size)

    def gap(means: Floats) -> Floats:
        gaps = np.abs(means.reshape(shape) - grid)
        return np.asarray((gaps.max(axis=2) if greatest else gaps.mean(axis=2)).mean(axis=1))

    return bootstrap.estimate(below, gap, method="noise-corrected bootstrap", bounds=(0.0, 1.0))


def _verdict(pit: Floats, z: Floats, groups: Ints | None, level: float, rng: np.random.Generator) -> CalibrationVerdict:
    rows = independent_rows(len(pit), groups, rng)
    p_values = [float(stats.kstest(column, "uniform").pvalue) for column in pit[rows].T]
    squares = z[rows][:, int(np.argmin(p_values))] ** 2
    # Under calibration the squares are chi-square with one degree of freedom: mean 1, variance 2.
    spread = float((squares.sum() - rows.size) / np.sqrt(2 * rows.size))
    return make_verdict(holm(p_values), spread, n=rows.size, level=level, test=TEST_NAME)
