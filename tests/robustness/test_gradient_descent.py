"""FGSM and projected gradient descent against closed forms on a linear softmax."""

import numpy as np
import pytest
from scipy.special import softmax

from analyzer.errors import ConfigError, DataError
from analyzer.robustness.attacks.gradient_descent import PGD, fgsm
from analyzer.robustness.attacks.survivors import own_generators
from tests.robustness import oracle

X, Y = oracle.digits()
KERNEL, BIAS = oracle.linear_weights(X[:1400], Y[:1400])
TEST, LABELS = X[1400:1440], Y[1400:1440]
WRONG = (LABELS + 1) % 10
"""Classes that the model decides nearly no sample for, so that an attack finds what it begins with."""


def attacked(batch_size=128):
    return oracle.attacked(oracle.trained(KERNEL, BIAS), TEST, batch_size=batch_size)


def gradients(x, y):
    """Of cross-entropy, up to a positive factor: the mean kernel of the other classes, weighed by their softmax."""
    z = x.astype("float64") @ KERNEL + BIAS
    z[np.arange(len(x)), y] = -np.inf
    return softmax(z, axis=1) @ KERNEL.T - KERNEL.T[y]


def decided(points):
    return (points.astype("float64") @ KERNEL + BIAS).argmax(1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fgsm_is_one_step_of_length_epsilon_up_the_gradient(norm):
    exact = oracle.exact_distances(TEST, LABELS, KERNEL, BIAS, norm)
    epsilon = np.full(len(TEST), 1.5 * np.median(exact))
    found = fgsm(norm=norm).run(attacked(), TEST, LABELS, epsilon)
    slope = gradients(TEST, LABELS)
    unit = np.sign(slope) if norm == "linf" else slope / np.linalg.norm(slope, axis=1, keepdims=True)
    expected = np.clip(TEST + epsilon[:, None] * unit, 0, 1)
    clean = decided(TEST) == LABELS
    np.testing.assert_array_equal(found.fooled, (decided(expected) != LABELS) | ~clean)
    fallen = found.fooled & clean
    assert 5 < np.count_nonzero(fallen) < np.count_nonzero(clean)
    np.testing.assert_allclose(found.points[fallen], expected[fallen], atol=1e-6)
    np.testing.assert_array_equal(found.points[~found.fooled], TEST[~found.fooled])


def test_a_random_start_is_drawn_from_the_ball_around_each_sample():
    epsilon = np.linspace(0.01, 0.5, len(TEST))
    found = PGD(random_start=True, steps=1).run(attacked(), TEST, WRONG, epsilon)
    drawn = np.stack([rng.uniform(-1, 1, 64) for rng in own_generators(TEST, 0, 0)])
    expected = np.clip(TEST + epsilon[:, None] * drawn, 0, 1)
    at_once = decided(expected) != WRONG
    assert at_once.sum() > 30
    np.testing.assert_allclose(found.points[at_once], expected[at_once], atol=1e-6)
    still = PGD(steps=1).run(attacked(), TEST, WRONG, epsilon)
    unlike = decided(TEST) != WRONG
    np.testing.assert_array_equal(still.points[unlike], TEST[unlike])


def test_starts_are_the_samples_own_and_seeds_change_them():
    epsilon = np.full(len(TEST), 0.1)
    whole = PGD(random_start=True, steps=3).run(attacked(), TEST, WRONG, epsilon)
    rows = np.arange(len(TEST))[::-3]
    part = PGD(random_start=True, steps=3).run(attacked(4), TEST[rows], WRONG[rows], epsilon[rows])
    np.testing.assert_allclose(part.points, whole.points[rows], atol=1e-6)
    other = PGD(random_start=True, steps=3, seed=1).run(attacked(), TEST, WRONG, epsilon)
    assert np.abs(other.points - whole.points).max() > 0.05


def test_targeted_losses_aim_at_the_class_given_or_else_the_likeliest():
    epsilon = np.full(len(TEST), 0.5)
    z = TEST.astype("float64") @ KERNEL + BIAS
    z[np.arange(len(TEST)), LABELS] = -np.inf
    ranked = np.argsort(-z, axis=1)
    attack = fgsm(loss="targeted_margin")
    clean = decided(TEST) == LABELS
    for t, given in ((ranked[:, 0], None), (ranked[:, 0], ranked[:, 0]), (ranked[:, 4], ranked[:, 4])):
        found = attack.run(attacked(), TEST, LABELS, epsilon, given)
        expected = np.clip(TEST + 0.5 * np.sign(KERNEL.T[t] - KERNEL.T[LABELS]), 0, 1)
        fallen = found.fooled & clean
        assert fallen.sum() > 30
        np.testing.assert_allclose(found.points[fallen], expected[fallen], atol=1e-6)


def test_steps_add_up_to_the_length_that_is_said():
    # Far from any bound a linear model is walked along in a straight line: three steps of a quarter of the ball.
    x = np.full((4, 64), 0.5, "float32")
    clean = decided(x)
    towards = (clean + 3) % 10
    found = PGD(loss="targeted_margin", steps=3, step_size=0.25).run(
        oracle.attacked(oracle.trained(KERNEL, BIAS, scale=1.0), x), x, clean, np.full(4, 0.4), towards
    )
    lengths = np.abs(found.points - x).max(1) / 0.4
    quarters = np.array(
        [np.min([k for k in (1, 2, 3) if wrong_after(x[i], clean[i], towards[i], k)]) for i in range(4)]
    )
    np.testing.assert_allclose(lengths, quarters / 4, atol=1e-5)


def wrong_after(x, y, t, k):
    return decided((x + 0.1 * k * np.sign(KERNEL.T[t] - KERNEL.T[y]))[None])[0] != y


@pytest.mark.parametrize(
    ("options", "epsilon", "match"),
    [
        ({}, np.zeros(40), "epsilon=0: expected finite radii above 0"),
        ({}, np.full(40, -0.1), r"epsilon=-0.1: expected"),
        ({}, np.full(40, np.nan), "epsilon=nan: expected"),
        ({}, np.full(40, np.inf), "epsilon=inf: expected"),
        ({}, np.full(3, 0.1), r"epsilon of shape \(3,\): expected one per sample"),
        ({"steps": 0}, np.full(40, 0.1), "steps=0: expected 1 or more"),
        ({"norm": "l3"}, np.full(40, 0.1), "norm='l3'"),
        ({"loss": "hinge"}, np.full(40, 0.1), "loss='hinge'"),
    ],
)
def test_bad_options_are_named(options, epsilon, match):
    with pytest.raises(ConfigError, match=match):
        PGD(**options).run(attacked(), TEST, LABELS, epsilon)


@pytest.mark.parametrize(
    ("u", "y", "match"),
    [
        (TEST * 255, LABELS, "Attacks see inputs from 0 to 1; these reach from 0 to 255"),
        (TEST * np.float32(np.nan), LABELS, "NaN"),
        (TEST, LABELS + 5, "whole numbers from 0 to 9"),
        (TEST, LABELS - 1, "whole numbers from 0 to 9"),
        (TEST, LABELS.astype("float32"), "got float32"),
        (TEST, LABELS[:5], r"of shape \(5,\)"),
    ],
)
def test_samples_and_classes_that_do_not_fit_are_refused(u, y, match):
    with pytest.raises(DataError, match=match):
        PGD().run(attacked(), u, y, np.full(40, 0.1))
