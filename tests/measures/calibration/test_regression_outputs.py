"""Residuals, Gaussian heads and quantile heads against independent formulas."""

import numpy as np
import pytest
from scipy import integrate, stats
from sklearn.metrics import mean_absolute_error, mean_pinball_loss, r2_score, root_mean_squared_error

from analyzer.measures.calibration.gaussian import gaussian_calibration, gaussian_crps, gaussian_nll
from analyzer.measures.calibration.quantiles import quantile_calibration
from analyzer.measures.calibration.regression import regression_calibration, residual_shape

pytestmark = pytest.mark.plain


def heads(n=600, d=1, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    mean, variance = rng.normal(size=(n, d)), rng.uniform(0.2, 2, size=(n, d))
    return mean, variance * scale, mean + np.sqrt(variance) * rng.normal(size=(n, d))


@pytest.mark.parametrize("d", [1, 3])
def test_point_measures_are_those_of_scikit_learn(d):
    prediction, _, truth = heads(d=d)
    r = regression_calibration(prediction + 0.2, truth, n_bootstrap=100)
    assert r.bias.value == pytest.approx((prediction + 0.2 - truth).mean())
    assert r.rmse.value == pytest.approx(root_mean_squared_error(truth, prediction + 0.2))
    assert r.mae.value == pytest.approx(mean_absolute_error(truth, prediction + 0.2))
    assert r.r2.value == pytest.approx(r2_score(truth, prediction + 0.2))
    assert r.residual_std.value == pytest.approx((truth - prediction).std(axis=0).mean())
    for estimate in (r.bias, r.rmse, r.mae, r.r2, r.residual_std):
        assert estimate.low < estimate.value < estimate.high
        assert estimate.n == 600
    assert len(r.shape) == d


def test_r2_far_from_zero_and_of_a_constant_target():
    prediction, _, truth = heads()
    r = regression_calibration(prediction + 1e6, truth + 1e6, n_bootstrap=0)
    assert r.r2.value == pytest.approx(r2_score(truth, prediction), abs=1e-6)
    constant = regression_calibration(prediction, np.ones_like(prediction), n_bootstrap=20)
    assert constant.r2.value is None
    assert constant.rmse.value > 0


def test_shape_of_residuals():
    rng = np.random.default_rng(0)
    prediction = rng.uniform(1, 2, 2000)
    normal = residual_shape(prediction, rng.normal(size=2000))
    assert normal.normality_p_value > 0.01
    assert normal.heteroscedasticity_p_value > 0.01
    assert residual_shape(prediction, rng.exponential(size=2000)).normality_p_value < 1e-6
    assert residual_shape(prediction, rng.normal(size=2000) * prediction).heteroscedasticity_p_value < 1e-6
    short = residual_shape(prediction[:5], rng.normal(size=5))
    assert (short.skewness, short.normality_p_value, short.heteroscedasticity_p_value) == (None, None, None)


def test_heteroscedasticity_test_keeps_its_level_without_normal_residuals():
    rng = np.random.default_rng(0)
    p_values = [
        residual_shape(rng.normal(size=300), rng.laplace(size=300)).heteroscedasticity_p_value for _ in range(300)
    ]
    assert 0.02 < np.mean(np.array(p_values) < 0.05) < 0.085


def test_crps_is_its_integral_and_nll_that_of_scipy():
    mean, std, truth = 0.3, 1.7, 2.1

    def integrand(x):
        return (stats.norm.cdf(x, mean, std) - (x >= truth)) ** 2

    expected = integrate.quad(integrand, -30, truth)[0] + integrate.quad(integrand, truth, 30)[0]
    assert gaussian_crps(np.array(mean), np.array(std), np.array(truth)) == pytest.approx(expected, abs=1e-7)
    nll = gaussian_nll(np.array(mean), np.array(std), np.array(truth))
    assert nll == pytest.approx(-stats.norm.logpdf(truth, mean, std))


def test_calibrated_gaussian_head():
    mean, variance, truth = heads()
    r = gaussian_calibration(mean, variance, truth, n_bootstrap=200)
    for coverage in r.coverage:
        assert coverage.observed.low <= coverage.nominal <= coverage.observed.high
        half = stats.norm.ppf((1 + coverage.nominal) / 2)
        inside = np.abs(truth - mean) <= half * np.sqrt(variance)
        assert coverage.observed.value == pytest.approx(inside.mean())
        assert coverage.width.value == pytest.approx((2 * half * np.sqrt(variance)).mean())
    pit = stats.norm.cdf(truth, mean, np.sqrt(variance))
    assert r.pit == pytest.approx(pit)
    expected = stats.kstest(pit[:, 0], "uniform")
    assert (r.pit_ks.value, r.pit_p_value) == pytest.approx((expected.statistic, expected.pvalue))
    assert r.z_variance.low < 1 < r.z_variance.high
    assert r.miscalibration.low < 0.005
    assert r.sharpness.value == pytest.approx(np.sqrt(variance).mean())
    assert r.verdict.text == "not distinguishable from calibrated at n = 600"


@pytest.mark.parametrize(("scale", "direction"), [(0.4, "over-confident"), (2.5, "under-confident")])
def test_wrong_variances_are_named(scale, direction):
    mean, variance, truth = heads(scale=scale, d=2)
    r = gaussian_calibration(mean, variance, truth, n_bootstrap=0)
    assert r.verdict.direction == direction
    assert r.verdict.n == 600


def test_pit_test_keeps_its_level():
    alarms = 0
    for seed in range(200):
        mean, variance, truth = heads(n=200, d=3, seed=seed)
        alarms += not gaussian_calibration(mean, variance, truth, n_bootstrap=0).verdict.calibrated
    assert alarms <= 19


LEVELS = (0.05, 0.5, 0.95)


def test_calibrated_quantile_head():
    mean, variance, truth = heads()
    prediction = mean + np.sqrt(variance) * stats.norm.ppf(LEVELS)
    r = quantile_calibration(prediction, truth[:, 0], LEVELS, n_bootstrap=200)
    for j, tau in enumerate(LEVELS):
        assert r.pinball[j].value == pytest.approx(mean_pinball_loss(truth[:, 0], prediction[:, j], alpha=tau))
        assert r.coverage[j].observed.value == pytest.approx((truth[:, 0] <= prediction[:, j]).mean())
        assert r.coverage[j].nominal == tau
    assert r.mean_pinball.value == pytest.approx(np.mean([float(p) for p in r.pinball]))
    assert [interval.nominal for interval in r.intervals] == [0.9]
    assert r.intervals[0].observed.low < 0.9 < r.intervals[0].observed.high
    assert r.crossing.value == 0
    assert r.miscalibration.low < 0.01
    assert r.verdict.calibrated


def test_narrow_and_crossing_quantiles():
    mean, variance, truth = heads()
    narrow = mean + 0.5 * np.sqrt(variance) * stats.norm.ppf(LEVELS)
    assert quantile_calibration(narrow, truth[:, 0], LEVELS, n_bootstrap=0).verdict.direction == "over-confident"
    crossed = narrow.copy()
    crossed[:150] = crossed[:150, ::-1]
    assert quantile_calibration(crossed, truth[:, 0], LEVELS, n_bootstrap=0).crossing.value == 0.25


def test_quantile_test_keeps_its_level():
    alarms = 0
    for seed in range(200):
        mean, variance, truth = heads(n=200, seed=seed)
        prediction = mean + np.sqrt(variance) * stats.norm.ppf(LEVELS)
        alarms += not quantile_calibration(prediction, truth[:, 0], LEVELS, n_bootstrap=0).verdict.calibrated
    assert alarms <= 19
