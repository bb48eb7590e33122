"""Recalibration maps: right parameters, right gains, and no gain where there is none."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, softmax
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from analyzer.measures.calibration.suggestions import suggest_recalibration
from analyzer.measures.recalibration import METHODS, apply_map, cross_validated, fit_map, scores_of

pytestmark = pytest.mark.plain


def data(n=1500, k=4, seed=0, temperature=0.5):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, k)) * 2
    labels = (np.cumsum(softmax(logits, axis=1), axis=1) < rng.random((n, 1))).sum(axis=1).clip(0, k - 1)
    return logits / temperature, np.eye(k)[labels]


def loss(p, targets):
    return -(targets * np.log(p)).sum(axis=1).mean()


def test_temperature_is_the_maximum_of_likelihood():
    scores, targets = data()

    def nll(t):
        return -(targets * log_softmax(scores / t, axis=1)).sum()

    expected = minimize_scalar(nll, bounds=(0.1, 20), method="bounded", options={"xatol": 1e-9}).x
    fitted = fit_map("temperature", scores, targets, "softmax")
    assert fitted.temperature == pytest.approx(expected, rel=1e-5)
    assert fitted.temperature == pytest.approx(2.0, rel=0.1)


def test_probabilities_give_the_temperature_of_their_logits():
    scores, targets = data()
    from_p = fit_map("temperature", scores_of(softmax(scores, axis=1), "softmax"), targets, "softmax")
    assert from_p.temperature == pytest.approx(fit_map("temperature", scores, targets, "softmax").temperature, rel=1e-2)


def test_temperature_stops_at_its_range_where_all_is_right():
    scores, _ = data(n=100)
    right = np.eye(4)[scores.argmax(axis=1)]
    assert fit_map("temperature", scores, right, "softmax").temperature == 0.01
    assert fit_map("temperature", scores, np.eye(4)[scores.argmin(axis=1)], "softmax").temperature == 100


def test_platt_scaling_is_logistic_regression():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(800, 1)) * 2
    y = (rng.random((800, 1)) < expit(0.5 * z + 1)).astype(float)
    fitted = fit_map("vector", z, y, "sigmoid")
    # Our prior is worth one row of 800.
    reference = LogisticRegression(C=np.inf, tol=1e-10).fit(z, y[:, 0])
    assert fitted.weights[0] == pytest.approx(reference.coef_[0, 0], abs=0.01)
    assert fitted.biases[0] == pytest.approx(reference.intercept_[0], abs=0.02)


def test_vector_scaling_recovers_factors_and_offsets():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(20_000, 3)) * 2
    factors, offsets = np.array([0.5, 1.0, 1.5]), np.array([0.8, -0.3, -0.5])
    p = softmax(z * factors + offsets, axis=1)
    targets = np.eye(3)[(np.cumsum(p, axis=1) < rng.random((20_000, 1))).sum(axis=1).clip(0, 2)]
    fitted = fit_map("vector", z, targets, "softmax")
    assert fitted.weights == pytest.approx(factors, abs=0.05)
    # Only differences of offsets matter.
    assert np.array(fitted.biases) - fitted.biases[0] == pytest.approx(offsets - offsets[0], abs=0.08)


def test_vector_scaling_stays_finite_where_classes_are_separable():
    scores, _ = data(n=100)
    fitted = fit_map("vector", scores, np.eye(4)[scores.argmax(axis=1)], "softmax")
    assert np.all(np.abs(fitted.weights) < 100)


def test_isotonic_map_is_that_of_scikit_learn_up_to_its_grid():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.15, 0.95, size=(2000, 1))
    y = (rng.random((2000, 1)) < p**2).astype(float)
    fitted = fit_map("isotonic", scores_of(p, "sigmoid"), y, "sigmoid")
    ours = apply_map(fitted, scores_of(p, "sigmoid"))[:, 0]
    reference = IsotonicRegression(y_min=0, y_max=1).fit(p[:, 0], y[:, 0]).predict(p[:, 0])
    assert np.abs(ours - reference).mean() < 0.005
    assert np.all(np.diff(ours[np.argsort(p[:, 0])]) >= 0)
    assert np.diff(fitted.thresholds[0]).min() > 0.9e-3


@pytest.mark.parametrize("method", METHODS)
def test_maps_give_probabilities_and_lower_the_loss(method):
    scores, targets = data()
    p = apply_map(fit_map(method, scores, targets, "softmax"), scores)
    assert p.sum(axis=1) == pytest.approx(np.ones(len(p)))
    assert p.min() > 0
    assert loss(p, targets) < loss(softmax(scores, axis=1), targets)


def test_cross_validation_never_sees_its_own_rows():
    rng = np.random.default_rng(0)
    p = rng.uniform(size=(300, 1))
    coin = rng.integers(0, 2, size=(300, 1)).astype(float)
    folds = np.arange(300) % 5
    held_out = cross_validated("isotonic", scores_of(p, "sigmoid"), coin, "sigmoid", folds)
    own = apply_map(fit_map("isotonic", scores_of(p, "sigmoid"), coin, "sigmoid"), scores_of(p, "sigmoid"))
    assert ((own - coin) ** 2).mean() < 0.25 < ((held_out - coin) ** 2).mean()


def test_suggestions_gain_on_a_sharpened_model():
    scores, targets = data()
    p = softmax(scores, axis=1)
    suggestions = suggest_recalibration(p, targets, activation="softmax", n_bootstrap=200)
    assert sorted(s.map.method for s in suggestions) == sorted(METHODS)
    gains = [float(s.log_loss_gain) for s in suggestions]
    assert gains == sorted(gains, reverse=True)
    best = suggestions[0]
    assert best.helps
    assert best.log_loss_gain.low < best.log_loss_gain.value < best.log_loss_gain.high
    assert best.ece_gain.low > 0
    assert best.brier_gain.low > 0
    # What is gained on unseen rows is what a fresh sample confirms.
    fresh_scores, fresh_targets = data(n=20_000, seed=1)
    fresh = apply_map(best.map, scores_of(softmax(fresh_scores, axis=1), "softmax"))
    confirmed = loss(softmax(fresh_scores, axis=1), fresh_targets) - loss(fresh, fresh_targets)
    assert best.log_loss_gain.low < confirmed < best.log_loss_gain.high


def test_nothing_helps_a_calibrated_model():
    scores, targets = data(temperature=1.0)
    for suggestion in suggest_recalibration(
        softmax(scores, axis=1), targets, activation="softmax", logits=scores, n_bootstrap=200
    ):
        assert not suggestion.helps


def test_binary_and_multi_label_maps():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(1000, 3)) * 2
    y = (rng.random(z.shape) < expit(z)).astype(float)
    three = suggest_recalibration(expit(3 * z), y, activation="sigmoid", n_bootstrap=50)
    assert {s.map.activation for s in three} == {"sigmoid"}
    found = {s.map.method: s.map for s in three}
    assert found["temperature"].temperature == pytest.approx(3, rel=0.15)
    assert found["vector"].weights == pytest.approx([1 / 3] * 3, rel=0.25)
    one = suggest_recalibration(expit(3 * z[:, :1]), y[:, :1], activation="sigmoid", n_bootstrap=50)
    assert one[0].helps


def test_too_few_rows_or_one_class_suggest_nothing():
    scores, targets = data(n=40)
    assert suggest_recalibration(softmax(scores, axis=1), targets, activation="softmax") == ()
    one_class = np.tile([1.0, 0, 0, 0], (40, 1))
    assert suggest_recalibration(softmax(scores, axis=1), one_class, activation="softmax") == ()


def test_folds_hold_whole_groups():
    """With every row copied ten times, folds over rows would show each map its own test rows."""
    rng = np.random.default_rng(0)
    p = rng.uniform(size=(60, 1))
    coin = rng.integers(0, 2, size=(60, 1)).astype(float)
    p10, coin10, groups = np.repeat(p, 10, axis=0), np.repeat(coin, 10, axis=0), np.repeat(np.arange(60), 10)

    def isotonic_gain(**options):
        found = suggest_recalibration(p10, coin10, activation="sigmoid", n_bootstrap=0, **options)
        return next(float(s.brier_gain) for s in found if s.map.method == "isotonic")

    assert isotonic_gain() > isotonic_gain(groups=groups) + 0.02
