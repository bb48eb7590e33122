"""Brier score and log loss against scikit-learn, and decompositions that sum."""

import numpy as np
import pytest
from scipy.stats import entropy as scipy_entropy
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as sklearn_log_loss

from analyzer.measures.bootstrap import multiplicities, resampling_units
from analyzer.measures.calibration.classwise import ClassCounter, classwise_calibration_error, isotonic_runs
from analyzer.measures.calibration.decompositions import binned_terms, corp_references
from analyzer.measures.calibration.noise import expected_miscalibration, expected_reliability
from analyzer.measures.calibration.proper_scores import LOG_LOSS_CLIP, brier_score, entropy, log_loss
from analyzer.measures.calibration.statistics import ClassificationStatistics

pytestmark = pytest.mark.plain


def multiclass(n=400, k=5, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(k, 0.7), size=n)
    if ties:
        p = rng.multinomial(8, p) / 8
    labels = (np.cumsum(p**1.5 / (p**1.5).sum(axis=1, keepdims=True), axis=1) < rng.random((n, 1))).sum(axis=1)
    return p, labels.clip(0, k - 1)


def test_scores_are_those_of_scikit_learn():
    p, y = multiclass()
    assert brier_score(p, y).mean() == pytest.approx(brier_score_loss(y, p), abs=1e-12)
    assert log_loss(p, y).mean() == pytest.approx(sklearn_log_loss(y, p), abs=1e-12)
    assert entropy(p) == pytest.approx(scipy_entropy(p, axis=1), abs=1e-12)
    binary, hit = p[:, 0], (y == 0).astype(int)
    assert brier_score(binary, hit).mean() == pytest.approx(brier_score_loss(hit, binary), abs=1e-12)
    assert log_loss(binary, hit).mean() == pytest.approx(sklearn_log_loss(hit, binary), abs=1e-12)
    assert entropy(binary) == pytest.approx(scipy_entropy([binary, 1 - binary], axis=0), abs=1e-12)


def test_log_loss_of_the_impossible_is_clipped_where_stated():
    assert log_loss(np.array([[1.0, 0.0]]), np.array([1]))[0] == pytest.approx(-np.log(LOG_LOSS_CLIP))
    assert entropy(np.array([[1.0, 0.0]]))[0] == 0


@pytest.mark.parametrize("ties", [False, True])
def test_corp_parts_sum_and_are_those_of_isotonic_regression(ties):
    p, y = multiclass(ties=ties)
    y[:5] = range(5)
    exact = ClassificationStatistics(p, y, None, n_bins=15)(np.ones((1, 1)))
    onehot = np.eye(5)[y]
    recalibrated = np.stack(
        [IsotonicRegression().fit(p[:, k], onehot[:, k]).predict(p[:, k]) for k in range(5)], axis=1
    )
    base = onehot.mean(axis=0)

    def generalised_kl(x):
        return (-onehot * np.log(np.maximum(x, LOG_LOSS_CLIP)) + x - onehot).sum(axis=1).mean()

    scores = {
        "brier": lambda x: ((x - onehot) ** 2).sum(axis=1).mean(),
        "log_loss": generalised_kl,
    }
    for name, score in scores.items():
        mcb, dsc, unc = (exact[f"{name}_{part}"][0] for part in ("mcb", "dsc", "unc"))
        assert mcb - dsc + unc == pytest.approx(exact[name][0], abs=1e-12)
        assert mcb == pytest.approx(score(p) - score(recalibrated), abs=1e-9)
        assert dsc == pytest.approx(score(base[None] + 0 * p) - score(recalibrated), abs=1e-9)
        assert mcb > 0
        assert dsc > 0
    assert exact["log_loss"][0] == pytest.approx(sklearn_log_loss(y, p, labels=range(5)), abs=1e-9)
    assert exact["log_loss_unc"][0] == pytest.approx(scipy_entropy(base), abs=1e-12)


def test_binary_corp_is_that_of_one_probability():
    p, y = multiclass(k=2)
    binary = ClassificationStatistics(p, y, None, n_bins=15, binary=True)(np.ones((1, 1)))
    fit = IsotonicRegression().fit(p[:, 1], y).predict(p[:, 1])
    assert binary["brier"][0] == pytest.approx(brier_score_loss(y, p[:, 1]), abs=1e-12)
    assert binary["brier_mcb"][0] == pytest.approx(binary["brier"][0] - ((fit - y) ** 2).mean(), abs=1e-12)
    log = np.where(y == 1, fit, 1 - fit)
    assert binary["log_loss_mcb"][0] == pytest.approx(binary["log_loss"][0] + np.log(log).mean(), abs=1e-12)
    parts = binary["brier_mcb"] - binary["brier_dsc"] + binary["brier_unc"]
    assert parts == pytest.approx(binary["brier"], abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_isotonic_fit_is_constant_on_runs_whatever_the_weights(ties):
    p, y = multiclass(n=150, ties=ties)
    rng = np.random.default_rng(0)
    for k in range(5):
        hit = (y == k).astype(float)
        runs = isotonic_runs(p[:, k], y == k)
        for _ in range(5):
            weight = rng.integers(1, 4, size=150).astype(float)
            fit = IsotonicRegression().fit(p[:, k], hit, sample_weight=weight).predict(p[:, k])
            for run in np.unique(runs):
                assert np.ptp(fit[runs == run]) == pytest.approx(0, abs=1e-12)
    if not ties:
        assert runs.max() + 1 <= (y == 4).sum() + 1


def test_corp_of_bootstrap_samples_is_that_of_repeated_rows():
    p, y = multiclass(n=200)
    units = resampling_units(200, None, np.random.default_rng(0))
    weights = multiplicities(200, 6, np.random.default_rng(1))
    brier, log = corp_references(ClassCounter(p, y, units)(weights))
    for i, weight in enumerate(weights):
        rows = np.repeat(np.arange(200), weight.astype(int))
        alone_brier, alone_log = corp_references(ClassCounter(p[rows], y[rows]).whole())
        assert brier.recalibrated[i] == pytest.approx(alone_brier.recalibrated[0], abs=1e-12)
        assert log.recalibrated[i] == pytest.approx(alone_log.recalibrated[0], abs=1e-12)
        assert log.base_rates[i] == pytest.approx(alone_log.base_rates[0], abs=1e-12)


@pytest.mark.parametrize("n_bins", [1, 4, 15])
def test_binned_terms_sum_to_the_brier_score(n_bins):
    p, y = multiclass()
    of_label = p[np.arange(len(y)), y]
    terms = binned_terms(
        ClassCounter(p, y, n_bins=n_bins).whole(), np.array([(p**2).sum(axis=1).mean()]), np.array([of_label.mean()])
    )
    total = (
        terms["reliability"]
        - terms["resolution"]
        + terms["uncertainty"]
        + terms["within_bin_variance"]
        - terms["within_bin_covariance"]
    )
    assert total[0] == pytest.approx(brier_score(p, y).mean(), abs=1e-12)
    if n_bins == 15:
        # Without the within-bin terms it does not add up.
        three = terms["reliability"] - terms["resolution"] + terms["uncertainty"]
        assert abs(three[0] - brier_score(p, y).mean()) > 1e-3


def test_classwise_error_is_binned_on_each_probability_over_all_rows():
    p, y = multiclass()
    expected = []
    for k in range(5):
        bins = np.ceil(p[:, k] * 15).clip(1, 15)
        gaps = [abs(((y == k) - p[:, k])[bins == b].sum()) for b in range(1, 16)]
        expected.append(sum(gaps) / len(y))
    assert classwise_calibration_error(ClassCounter(p, y).whole())[0] == pytest.approx(np.array(expected), abs=1e-12)


def test_expected_noise_is_the_mean_over_calibrated_data():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(4, 0.8), size=300)
    found = {"brier_mcb": [], "log_loss_mcb": [], "reliability": []}
    for _ in range(60):
        labels = (np.cumsum(p, axis=1) < rng.random((300, 1))).sum(axis=1).clip(0, 3)
        exact = ClassificationStatistics(p, labels, None, n_bins=15)(np.ones((1, 1)))
        for name, values in found.items():
            values.append(exact[name][0])
    brier, log = expected_miscalibration(p, np.random.default_rng(1))
    reliability, inflation = expected_reliability(p, 15)
    assert brier == pytest.approx(np.mean(found["brier_mcb"]), rel=0.1)
    assert log == pytest.approx(np.mean(found["log_loss_mcb"]), rel=0.1)
    assert reliability == pytest.approx(np.mean(found["reliability"]), rel=0.1)
    assert 0 < inflation < reliability
