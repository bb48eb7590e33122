"""Bounds, balls and their errors."""

import keras
import numpy as np
import pytest
from scipy.optimize import linprog

from analyzer.backends import engine
from analyzer.errors import ConfigError, DataError
from analyzer.robustness.attacks.threat import box_of, check_norm, length, project, raised, random_steps
from tests.robustness import oracle

RNG = np.random.default_rng(0)
X = RNG.uniform(0, 1, (40, 3, 4)).astype("float32")
FAR = (X + RNG.normal(0, 0.5, X.shape)).astype("float32")
EPSILON = RNG.uniform(0.01, 0.6, 40).astype("float32")
NORMS = ["linf", "l2", "l1"]


def numpy(fn, *arrays, **options):
    return engine().to_numpy(fn(*(keras.ops.convert_to_tensor(a) for a in arrays), **options))


def lengths(step, norm):
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    return np.linalg.norm(step.reshape(len(step), -1).astype("float64"), order, axis=1)


@pytest.mark.parametrize("norm", NORMS)
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

    def test_no_step_of_the_length_rises_faster(self, norm):
        gradient, size = (FAR - X).astype("float32"), np.full(40, 0.05, "float32")
        centre = np.full_like(X, 0.5)
        best = numpy(raised, centre, gradient, size, norm=norm) - centre
        np.testing.assert_allclose(lengths(best, norm), 0.05, rtol=1e-4)
        rise = (best * gradient).reshape(40, -1).sum(1)
        for _ in range(50):
            other = 0.05 * random_steps(RNG, X.shape, norm)
            assert ((other * gradient).reshape(40, -1).sum(1) <= rise + 1e-4).all()

    def test_random_steps_fill_the_ball(self, norm):
        drawn = lengths(random_steps(np.random.default_rng(1), (4000, 3), norm), norm)
        assert drawn.max() <= 1 + 1e-6
        # The share of a ball of three dimensions within half its radius is an eighth, in any norm.
        assert abs((drawn < 0.5).mean() - 0.125) < 0.02


def test_projections_onto_the_l1_ball_within_the_box_are_the_nearest_points():
    rng = np.random.default_rng(2)
    x = rng.uniform(size=(300, 12)).round(1)
    step = rng.normal(0, 1, x.shape) * rng.choice([0.0, 0.1, 3.0], x.shape)
    radius = rng.uniform(0.01, 6, 300)
    found = numpy(project, *(each.astype("float32") for each in (x + step, x, radius)), norm="l1")
    expected = [a + oracle.nearest_in_l1(b, a, c) for a, b, c in zip(x, step, radius, strict=True)]
    np.testing.assert_allclose(found, expected, atol=3e-6)
    reached = np.abs(found - x).sum(1)
    assert 30 < np.count_nonzero(reached < radius - 1e-3) < 270
    # Where all values are at their bounds, the first bend is a piece of its own.
    corner = (x + 100 * np.sign(step + 0.1)).astype("float32")
    far = numpy(project, corner, x.astype("float32"), radius.astype("float32"), norm="l1")
    assert (np.abs(far - x).sum(1) <= radius * (1 + 1e-5)).all()
    expected = [a + oracle.nearest_in_l1(b - a, a, c) for a, b, c in zip(x, corner, radius, strict=True)]
    np.testing.assert_allclose(far, expected, atol=1e-4)


def test_the_steepest_l1_step_is_that_of_a_linear_program():
    rng = np.random.default_rng(3)
    x, gradient = rng.uniform(size=(30, 6)).round(1), rng.normal(size=(30, 6)) * rng.choice([0.0, 1.0], (30, 6))
    size = rng.uniform(0.1, 4, 30)
    found = numpy(raised, *(each.astype("float32") for each in (x, gradient, size)), norm="l1")
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-6
    assert (np.abs(found - x).sum(1) <= size * (1 + 1e-5)).all()
    for i in range(30):
        bounds = [*((0, 1 - v) for v in x[i]), *((0, v) for v in x[i])]
        both = np.concatenate([gradient[i], -gradient[i]])
        most = linprog(-both, A_ub=np.ones((1, 12)), b_ub=[size[i]], bounds=bounds)
        np.testing.assert_allclose(gradient[i] @ (found[i] - x[i]), -most.fun, atol=1e-5)


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
    with pytest.raises(ConfigError, match="expected one of linf, l2, l1"):
        check_norm("l3")
