"""smECE against the kernel written out, and against closed forms."""

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from analyzer.measures.bootstrap import multiplicities, resampling_units
from analyzer.measures.calibration.smooth import merge_close, smooth_calibration_error, smooth_curve
from analyzer.measures.calibration.smooth import smooth_error_and_bandwidth as error_and_bandwidth
from analyzer.measures.calibration.tally import CellCounter, tally

pytestmark = pytest.mark.plain

GRID = (np.arange(800) + 0.5) / 800


def reflected_kernel(points, bandwidth):
    """Gaussian reflected at 0 and 1, as the sum over its mirror images."""
    return sum(
        norm.pdf(GRID[:, None], sign * points[None] + 2 * shift, bandwidth)
        for shift in range(-2, 3)
        for sign in (1, -1)
    )


def by_definition(confidence, correct):
    def error(bandwidth):
        return np.abs(reflected_kernel(confidence, bandwidth) @ (correct - confidence)).mean() / len(confidence)

    bandwidth = brentq(lambda s: error(s) - s, 5e-3, 0.5, xtol=1e-7)
    return error(bandwidth), bandwidth


@pytest.mark.parametrize("power", [1.0, 1.6, 0.5])
@pytest.mark.parametrize("n", [40, 120])
def test_it_is_the_fixed_point_of_its_definition(power, n):
    rng = np.random.default_rng(n)
    confidence = rng.beta(3, 1, size=n)
    correct = rng.random(n) < confidence**power
    value, bandwidth = error_and_bandwidth(tally(confidence, correct))
    assert (value[0], bandwidth[0]) == pytest.approx(by_definition(confidence, correct), abs=2e-5)


def test_residuals_of_one_sign_give_their_mean():
    confidence = np.random.default_rng(0).uniform(0.6, 0.99, 200)
    value = smooth_calibration_error(tally(confidence, np.zeros(200, bool)))[0]
    assert value == pytest.approx(confidence.mean(), abs=1e-5)


def test_certain_and_right_is_zero_and_certain_and_wrong_is_one():
    assert smooth_calibration_error(tally(np.ones(50), np.ones(50, bool)))[0] == pytest.approx(0.0, abs=1e-9)
    assert smooth_calibration_error(tally(np.ones(50), np.zeros(50, bool)))[0] == pytest.approx(1.0, abs=1e-5)


def test_tiny_errors_are_resolved():
    confidence = np.full(1000, 1 - 1e-4)
    assert smooth_calibration_error(tally(confidence, np.ones(1000, bool)))[0] == pytest.approx(1e-4, rel=1e-2)


def test_samples_are_evaluated_together_as_alone():
    rng = np.random.default_rng(5)
    confidence = rng.uniform(size=150)
    correct = rng.random(150) < confidence
    counter = CellCounter(confidence, correct, resampling_units(150, None, rng))
    weights = multiplicities(150, 30, rng)
    together = smooth_calibration_error(counter(weights))
    alone = [smooth_calibration_error(counter(weight[None]))[0] for weight in weights]
    assert together == pytest.approx(np.array(alone), abs=2e-6)


def test_many_points_are_merged_without_harm():
    rng = np.random.default_rng(5)
    confidence = np.sort(rng.uniform(size=30_000))
    correct = rng.random(30_000) < confidence**1.2
    residual, points = merge_close((correct - confidence)[None] / 30_000, confidence)
    assert points.size < 17_000
    assert residual.sum() == pytest.approx((correct - confidence).mean())
    value = smooth_calibration_error(tally(confidence, correct))[0]
    thinned = CellCounter(confidence, correct, max_cells=8000).whole()
    assert value == pytest.approx(smooth_calibration_error(thinned)[0], abs=1e-5)


def test_curve_is_the_confidence_plus_the_kernel_regression_of_the_residual():
    rng = np.random.default_rng(2)
    confidence = rng.beta(3, 1, size=400)
    correct = rng.random(400) < confidence**2
    curve = smooth_curve(tally(confidence, correct))
    kernel = np.array(
        [
            sum(norm.pdf(t, s * confidence + 2 * k, curve.bandwidth) for k in range(-3, 4) for s in (1, -1))
            for t in curve.confidence
        ]
    )
    assert curve.density == pytest.approx(kernel.mean(axis=1), abs=1e-6)
    residual = kernel @ (correct - confidence) / kernel.sum(axis=1)
    assert curve.accuracy == pytest.approx(np.clip(curve.confidence + residual, 0, 1), abs=1e-6)
    assert curve.density.min() >= 0.02 * curve.density.max()
