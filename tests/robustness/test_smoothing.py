"""Randomised smoothing against the closed form of half-spaces and the exact distances of a linear softmax."""

import keras
import numpy as np
import pytest
from scipy.stats import binomtest, norm

from analyzer.errors import ConfigError
from analyzer.inspection import open_model
from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.threat import Box
from analyzer.robustness.certificates.smoothing import ABSTAIN, certify, lower_share, predict
from tests.robustness import oracle

WEIGHTS, BIAS = np.array([[3.0], [-4.0]]), np.array([1.0])


def half_space(box, batch_size=4000):
    """A sigmoid of ``3 a - 4 b + 1``: its boundary is a line, ``|3 a - 4 b + 1| / 5`` away."""
    model = oracle.trained(WEIGHTS, BIAS, activation="sigmoid")
    return Attacked(view=open_model(model, np.zeros((1, 2), "float32")), box=box, batch_size=batch_size)


DATA = Box(low=-10.0, high=30.0, source="given")


def signed(x):
    return (x @ WEIGHTS + BIAS)[:, 0] / 5


@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_the_radius_of_a_half_space_is_its_distance_in_units_of_the_data(sigma):
    x = np.random.default_rng(0).uniform(-1, 1, (20, 2)) * sigma
    distance = np.abs(signed(x))
    found = certify(half_space(DATA), x, sigma=sigma, n_estimation=20_000, alpha=0.001)
    sure = found.prediction != ABSTAIN
    assert sure.mean() > 0.8
    np.testing.assert_array_equal(found.prediction[sure], (signed(x) > 0)[sure])
    # The share decided alike is Phi(distance / sigma), so the radius is the distance but for what is not sure of it.
    assert (found.radius[sure] <= distance[sure]).all()
    hits = 20_000 * norm.cdf(distance / sigma)
    expected = sigma * norm.ppf(lower_share(np.round(hits).astype(int), 20_000, 0.001))
    np.testing.assert_allclose(found.radius[sure], expected[sure], atol=0.04 * sigma)
    np.testing.assert_allclose(found.radius[sure], sigma * norm.ppf(found.share[sure]))
    assert np.isnan(found.radius[~sure]).all()
    assert (found.share[~sure] <= 0.5).all()


def test_the_confidence_is_kept():
    # Many samples at one distance: the share of bounds above the truth is alpha at most.
    rng = np.random.default_rng(1)
    along = rng.uniform(-5, 5, 300)
    x = np.stack([4 * along / 5, (3 * 4 * along / 5 + 1 - 5 * 0.3) / 4], axis=1)
    np.testing.assert_allclose(signed(x), 0.3)
    found = certify(half_space(DATA), x, sigma=1.0, n_estimation=200, alpha=0.1, n_selection=200)
    too_high = int((found.share > norm.cdf(0.3)).sum())
    assert too_high >= 10
    assert binomtest(too_high, 300, 0.1, alternative="greater").pvalue > 0.01


def test_draws_that_select_a_class_are_not_those_that_its_share_is_estimated_from():
    # On the boundary the class of the majority, judged by the draws that chose it, would be sure twice as often.
    along = np.random.default_rng(3).uniform(-5, 5, 300)
    x = np.stack([4 * along / 5, (3 * 4 * along / 5 + 1) / 4], axis=1)
    np.testing.assert_allclose(signed(x), 0, atol=1e-12)
    found = certify(half_space(DATA), x, sigma=1.0, n_estimation=400, n_selection=400, alpha=0.3)
    sure = int((found.prediction != ABSTAIN).sum())
    assert binomtest(sure, 300, 0.3, alternative="greater").pvalue > 0.01
    assert binomtest(sure, 300, 0.2).pvalue < 0.01


def test_radii_of_a_linear_softmax_are_below_the_exact_distances():
    data, labels = oracle.digits()
    kernel, bias = oracle.linear_weights(data[:1400], labels[:1400])
    x, y = data[1400:1500], labels[1400:1500]
    z = x @ kernel + bias
    gaps = np.where(np.eye(10)[y] > 0, np.inf, z[np.arange(100), y][:, None] - z)
    steps = np.linalg.norm(kernel[:, y].T[:, :, None] - kernel[None], axis=1)
    exact = (gaps / np.where(steps > 0, steps, 1)).min(1)
    attacked = oracle.attacked(oracle.trained(kernel, bias), x, batch_size=1100)
    found = certify(attacked, x, sigma=0.25, n_estimation=1000)
    sure = (found.prediction == y) & (exact > 0)
    assert sure.mean() > 0.7
    # All noise that keeps the decision lies in one of its half-spaces, so the exact distance bounds the radius.
    assert (found.radius[sure] <= exact[sure]).mean() >= 0.999
    assert np.median(found.radius[sure] / exact[sure]) > 0.6
    assert found.n == 100
    right = found.certified_accuracy(y, 0.1)
    assert right.value == np.mean((found.prediction == y) & (np.nan_to_num(found.radius) >= 0.1))
    assert right.low < right.value < right.high
    assert found.certified_accuracy(y, 5.0).value == 0


@pytest.mark.parametrize(("hits", "draws"), [(0, 20), (1, 20), (17, 20), (20, 20), (9999, 10_000)])
def test_lower_shares_are_those_of_clopper_and_pearson(hits, draws):
    found = lower_share(np.array([hits]), draws, 0.01)[0]
    assert found == pytest.approx(binomtest(hits, draws, alternative="greater").proportion_ci(0.99, "exact").low)
    if hits == draws:
        assert found == pytest.approx(0.01 ** (1 / draws))


def test_neither_batches_nor_neighbours_nor_the_process_change_a_sample():
    x = np.random.default_rng(2).uniform(-1, 1, (5, 2))
    options = {"sigma": 0.7, "n_estimation": 333, "n_selection": 20}
    whole = certify(half_space(DATA), x, **options)
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - what must not change
    parts = certify(half_space(DATA, batch_size=7), x[::-1][:3], **options)
    np.testing.assert_array_equal(parts.share, whole.share[::-1][:3])
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    other = certify(half_space(DATA), x, seed=1, **options)
    assert (other.share != whole.share).any()


def test_predictions_abstain_where_two_classes_are_as_frequent():
    x = np.array([[-1 / 3, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    found = predict(half_space(DATA), x, sigma=0.5, draws=400)
    np.testing.assert_array_equal(found.prediction, [ABSTAIN, 1, 0])
    assert found.p_value[0] > 0.001
    assert (found.p_value[1:] <= 0.001).all()
    same = certify(half_space(DATA), x, sigma=0.5, n_selection=400, n_estimation=400)
    np.testing.assert_array_equal(same.prediction, found.prediction)
    assert same.share[0] < 0.5 < same.share[1]


def test_a_constant_model_decides_for_nothing():
    view = open_model(oracle.trained(np.zeros((2, 3)), np.zeros(3)), np.zeros((1, 2), "float32"))
    attacked = Attacked(view=view, box=DATA, batch_size=64)
    x = np.ones((2, 2))
    assert (certify(attacked, x, sigma=1.0, n_estimation=50, n_selection=5).prediction == ABSTAIN).all()
    assert (predict(attacked, x, sigma=1.0, draws=50).prediction == ABSTAIN).all()


def test_noise_is_not_clipped_to_the_bounds_of_the_inputs():
    # At the edge of the box half of the noise is outside of it; clipped, all of it would be decided alike.
    box = Box(low=0.0, high=1.0, source="given")
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.set_weights([np.array([[1.0]]), np.array([0.1])])
    attacked = Attacked(view=open_model(model, np.zeros((1, 1), "float32")), box=box)
    found = certify(attacked, np.zeros((1, 1)), sigma=1.0, n_estimation=4000)
    assert found.share[0] == pytest.approx(norm.cdf(0.1), abs=0.05)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"sigma": 0.0}, r"sigma=0\.0"),
        ({"sigma": 1, "alpha": 1.0}, r"alpha=1\.0"),
        ({"sigma": 1, "n_selection": 0}, "n_s"),
    ],
)
def test_bad_options_are_refused(options, match):
    with pytest.raises(ConfigError, match=match):
        certify(half_space(DATA), np.zeros((1, 2)), **options)
