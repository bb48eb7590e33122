"""Bounds, balls and their errors."""

import keras
import numpy as np
import pytest

from analyzer.backends import engine
from analyzer.errors import ConfigError, DataError
from analyzer.robustness.attacks.threat import box_of, check_norm, length, project, random_steps, steepest

RNG = np.random.default_rng(0)
X = RNG.uniform(0, 1, (40, 3, 4)).astype("float32")
FAR = (X + RNG.normal(0, 0.5, X.shape)).astype("float32")
EPSILON = RNG.uniform(0.01, 0.6, 40).astype("float32")


def numpy(fn, *arrays, **options):
    return engine().to_numpy(fn(*(keras.ops.convert_to_tensor(a) for a in arrays), **options))


def lengths(step, norm):
    order = np.inf if norm == "linf" else 2
    return np.linalg.norm(step.reshape(len(step), -1).astype("float64"), order, axis=1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
class TestBall:
    def test_length_is_the_norm(self, norm):
        np.testing.assert_allclose(numpy(length, FAR - X, norm=norm), lengths(FAR - X, norm), rtol=1e-5)

    def test_a_projected_point_is_in_the_ball_and_in_the_box(self, norm):
        point = numpy(project, FAR, X, EPSILON, norm=norm)
        assert (lengths(point - X, norm) <= EPSILON * (1 + 1e-5)).all()
        assert point.min() >= 0
        assert point.max() <= 1

    def test_a_point_inside_stays(self, norm):
        near = np.clip(X + 1e-3, 0, 1).astype("float32")
        np.testing.assert_allclose(numpy(project, near, X, EPSILON, norm=norm), near, atol=1e-6)

    def test_the_steepest_step_has_length_1_and_none_rises_faster(self, norm):
        gradient = (FAR - X).astype("float32")
        best = numpy(steepest, gradient, norm=norm)
        np.testing.assert_allclose(lengths(best, norm), 1, rtol=1e-5)
        rise = (best * gradient).reshape(40, -1).sum(1)
        for _ in range(50):
            other = random_steps(RNG, X.shape, norm)
            assert ((other * gradient).reshape(40, -1).sum(1) <= rise + 1e-4).all()

    def test_random_steps_fill_the_ball(self, norm):
        drawn = lengths(random_steps(np.random.default_rng(1), (4000, 3), norm), norm)
        assert drawn.max() <= 1 + 1e-6
        # The share of a ball of three dimensions within half its radius is an eighth, in any norm.
        assert abs((drawn < 0.5).mean() - 0.125) < 0.02


def test_bounds_are_those_given_or_those_of_the_data():
    assert box_of(X * 255, (0, 255)).range == 255
    box = box_of(X)
    assert (box.low, box.high) == (X.min(), X.max())


@pytest.mark.parametrize(
    ("x", "bounds", "error", "match"),
    [
        (X, (0.5, 1.0), DataError, "outside bounds"),
        (X, (1.0, 0.0), ConfigError, "larger largest"),
        ((X * 255).astype("int32"), None, DataError, "float values"),
        (np.full_like(X, np.nan), None, DataError, "NaN"),
        (np.zeros_like(X), None, DataError, "give bounds"),
    ],
)
def test_bad_input_is_one_clear_error(x, bounds, error, match):
    with pytest.raises(error, match=match):
        box_of(x, bounds)


def test_an_unknown_norm_is_refused():
    with pytest.raises(ConfigError, match="expected one of linf, l2"):
        check_norm("l3")
