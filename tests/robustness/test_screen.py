"""The screen tier against the exact robustness of a linear softmax, and against what must not matter."""

import functools

import numpy as np
import pytest

from analyzer.errors import ConfigError
from analyzer.robustness.attacks.screen import screen
from tests.robustness import oracle

X, Y = oracle.digits()
KERNEL, BIAS = oracle.linear_weights(X[:1400], Y[:1400])
TEST, LABELS = X[1400:], Y[1400:]


SAMPLES = {"linf": slice(None), "l2": slice(None), "l1": slice(None, None, 4)}
"""In L1 every step sorts all values."""


@functools.cache
def exact(norm):
    return oracle.exact_distances(TEST[SAMPLES[norm]], LABELS[SAMPLES[norm]], KERNEL, BIAS, norm)


def grid(norm):
    known = exact(norm)[exact(norm) > 0]
    return np.quantile(known, [0.1, 0.3, 0.5, 0.7, 0.9])


@functools.cache
def screened(norm):
    """What is found between the quantiles too, for distances that are near."""
    model, radii = oracle.trained(KERNEL, BIAS), np.linspace(0, grid(norm)[-1], 9)[1:-1]
    u, y = TEST[SAMPLES[norm]], LABELS[SAMPLES[norm]]
    return screen(oracle.attacked(model, u), u, y, np.sort([*radii, *grid(norm)]), norm=norm)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_robust_accuracy_of_a_linear_softmax_is_exact_to_half_a_point(norm):
    for epsilon in grid(norm):
        sure = np.abs(exact(norm) - epsilon) > 1e-4
        robust, found = exact(norm)[sure] > epsilon, screened(norm).robust_at(epsilon)[sure]
        assert abs(found.mean() - robust.mean()) <= 0.005
        # What is found is a proof: no sample that is robust can be said not to be.
        assert not (robust & ~found).any()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_distances_are_upper_bounds_and_near(norm):
    found = screened(norm).distance
    known = np.isfinite(found) & (exact(norm) > 0)
    assert (found[known] >= exact(norm)[known] * (1 - 1e-3)).all()
    assert np.median(found[known] / exact(norm)[known]) < 1.05
    np.testing.assert_array_equal(found == 0, exact(norm) == 0)


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_the_scale_of_logits_does_not_matter(scale):
    radii = grid("linf")
    plain, scaled = (
        screen(oracle.attacked(oracle.trained(KERNEL, BIAS, scale=s), TEST[:50]), TEST[:50], LABELS[:50], radii)
        for s in (1.0, scale)
    )
    for epsilon in radii:
        assert np.count_nonzero(plain.robust_at(epsilon) != scaled.robust_at(epsilon)) <= 1


def test_a_constant_model_decides_nothing_rightly():
    model = oracle.trained(np.zeros_like(KERNEL), np.zeros_like(BIAS))
    found = screen(oracle.attacked(model, TEST[:20]), TEST[:20], LABELS[:20], grid("linf"))
    assert (found.distance == 0).all()


def test_points_are_in_the_box_no_further_than_said_and_wrong():
    model = oracle.trained(KERNEL, BIAS)
    attacked = oracle.attacked(model, TEST[:60])
    found = screen(attacked, TEST[:60], LABELS[:60], grid("linf"))
    fallen = np.isfinite(found.distance)
    assert fallen.any()
    assert found.points.min() >= 0
    assert found.points.max() <= 1
    steps = np.abs(found.points - TEST[:60])[fallen].max(1)
    assert (steps <= found.distance[fallen] + 1e-6).all()
    assert not attacked.correct(found.points[fallen], LABELS[:60][fallen]).any()


@pytest.mark.parametrize(
    ("epsilons", "match"),
    [
        ([0.2, 0.1], "expected radii that ascend"),
        ([0.1, 0.1], "expected radii that ascend, each once"),
        ([0.0, 0.1], "epsilon=0: expected finite radii above 0"),
        ([0.1, np.inf], "epsilon=inf"),
        ([], r"epsilon of shape \(0,\): expected one or more"),
    ],
)
def test_radii_that_are_no_grid_are_refused(epsilons, match):
    with pytest.raises(ConfigError, match=match):
        screen(oracle.attacked(oracle.trained(KERNEL, BIAS), TEST), TEST[:3], LABELS[:3], epsilons)
