"""Measures of confidence against correctness, each against a plain computation of its own."""

import numpy as np
import pytest
from scipy.stats import kstwobign
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score

from analyzer.measures.bootstrap import multiplicities, resampling_units
from analyzer.measures.calibration import binned, cumulative, selective
from analyzer.measures.calibration.tally import CellCounter, equal_mass_edges, tally

pytestmark = pytest.mark.plain

MEASURES = (
    binned.expected_calibration_error,
    binned.maximum_calibration_error,
    binned.root_mean_square_calibration_error,
    binned.debiased_squared_calibration_error,
    cumulative.ks_calibration_error,
    selective.auroc_of_errors,
    selective.area_under_risk_coverage,
    selective.area_under_generalized_risk_coverage,
)


def sample(n=500, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    confidence = rng.beta(4, 1.5, size=n)
    if ties:
        confidence = np.round(confidence, 1)
    return confidence, rng.random(n) < confidence**1.5


def bins_by_loop(confidence, correct, edges):
    for i in range(len(edges) - 1):
        inside = (confidence > edges[i]) & (confidence <= edges[i + 1])
        if i == 0:
            inside |= confidence == edges[0]
        if inside.any():
            yield inside.sum(), correct[inside].mean(), confidence[inside].mean()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("binning", ["equal width", "equal mass"])
def test_binned_errors_are_those_of_a_loop_over_bins(ties, binning):
    confidence, correct = sample(ties=ties)
    edges = np.linspace(0, 1, 16) if binning == "equal width" else equal_mass_edges(confidence, 15)
    rows = list(bins_by_loop(confidence, correct, edges))
    n = np.array([r[0] for r in rows])
    a, c = (np.array([r[i] for r in rows]) for i in (1, 2))
    share, gap = n / n.sum(), np.abs(a - c)
    t = tally(confidence, correct)
    assert binned.expected_calibration_error(t, binning)[0] == pytest.approx((share * gap).sum(), abs=1e-12)
    assert binned.maximum_calibration_error(t, binning)[0] == pytest.approx(gap.max(), abs=1e-12)
    rms = np.sqrt((share * gap**2).sum())
    assert binned.root_mean_square_calibration_error(t, binning)[0] == pytest.approx(rms, abs=1e-12)
    many = n > 1
    debiased = (share * (gap**2 - a * (1 - a) / np.maximum(n - 1, 1)))[many].sum()
    assert binned.debiased_squared_calibration_error(t, binning)[0] == pytest.approx(debiased, abs=1e-12)


def test_ece_is_that_of_scikit_learn_bins():
    confidence, correct = sample()
    accuracy, mean = calibration_curve(correct, confidence, n_bins=10)
    count = np.histogram(confidence, np.linspace(0, 1, 11))[0]
    expected = (count[count > 0] / count.sum() * np.abs(accuracy - mean)).sum()
    assert binned.expected_calibration_error(tally(confidence, correct, n_bins=10))[0] == pytest.approx(expected)


def test_confidence_of_one_lies_in_the_last_bin():
    t = tally(np.array([0.95, 1.0]), np.array([False, True]), n_bins=10)
    assert binned.expected_calibration_error(t)[0] == pytest.approx(0.475)


def test_debiased_square_is_unbiased_around_zero_where_ece_is_not():
    squares, plain = [], []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        confidence = rng.uniform(0.5, 1, 300)
        t = tally(confidence, rng.random(300) < confidence)
        squares.append(binned.debiased_squared_calibration_error(t)[0])
        plain.append(binned.expected_calibration_error(t)[0])
    assert abs(np.mean(squares)) < 3 * np.std(squares) / np.sqrt(300)
    assert np.mean(plain) > 0.04


@pytest.mark.parametrize("ties", [False, True])
def test_ks_is_the_largest_cumulative_gap_between_distinct_confidences(ties):
    confidence, correct = sample(ties=ties)
    largest = max(
        abs((correct[confidence <= c].sum() - confidence[confidence <= c].sum()) / len(correct))
        for c in set(confidence)
    )
    assert cumulative.ks_calibration_error(tally(confidence, correct))[0] == pytest.approx(largest, abs=1e-12)


def test_tail_of_the_brownian_maximum():
    # 5 % and 1 % points of max |W| on [0, 1], from 4 Phi(-x) with its next terms negligible.
    assert cumulative.brownian_maximum_tail(2.241403) == pytest.approx(0.05, abs=1e-6)
    assert cumulative.brownian_maximum_tail(2.807034) == pytest.approx(0.01, abs=1e-6)
    assert cumulative.brownian_maximum_tail(0.0) == 1
    assert cumulative.brownian_maximum_tail(0.2999) == pytest.approx(cumulative.brownian_maximum_tail(0.3001), abs=1e-4)
    assert not np.isclose(cumulative.brownian_maximum_tail(1.0), kstwobign.sf(1.0), atol=0.05)


def test_ks_p_value_is_nearly_uniform_under_calibration():
    p_values = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        confidence = rng.uniform(0.3, 1, 1000)
        ks = cumulative.ks_calibration_error(tally(confidence, rng.random(1000) < confidence))[0]
        p_values.append(cumulative.ks_calibration_p_value(confidence, ks))
    assert 0.02 < np.mean(np.array(p_values) < 0.05) < 0.08
    assert 0.42 < np.mean(p_values) < 0.58


def test_ks_p_value_of_certain_predictions():
    assert cumulative.ks_calibration_p_value(np.ones(5), 0.0) == 1
    assert cumulative.ks_calibration_p_value(np.ones(5), 0.2) == 0


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_is_that_of_scikit_learn(ties):
    confidence, correct = sample(ties=ties)
    expected = roc_auc_score(correct, confidence)
    assert selective.auroc_of_errors(tally(confidence, correct))[0] == pytest.approx(expected, abs=1e-12)


def test_auroc_without_errors_is_undefined():
    assert np.isnan(selective.auroc_of_errors(tally(np.array([0.5, 0.9]), np.array([True, True])))[0])


def test_aurc_is_the_mean_risk_over_coverages():
    confidence, correct = sample()
    wrong = ~correct[np.argsort(-confidence)]
    risks = np.cumsum(wrong) / np.arange(1, len(wrong) + 1)
    assert selective.area_under_risk_coverage(tally(confidence, correct))[0] == pytest.approx(risks.mean(), abs=1e-12)


def test_aurc_of_ties_is_the_mean_over_their_orders():
    confidence, correct = sample(n=60, ties=True)
    rng = np.random.default_rng(1)
    areas = []
    for _ in range(4000):
        shuffled = rng.permutation(60)
        order = shuffled[np.argsort(-confidence[shuffled], kind="stable")]
        areas.append((np.cumsum(~correct[order]) / np.arange(1, 61)).mean())
    value = selective.area_under_risk_coverage(tally(confidence, correct))[0]
    assert value == pytest.approx(np.mean(areas), abs=4 * np.std(areas) / np.sqrt(4000))


@pytest.mark.parametrize("ties", [False, True])
def test_augrc_follows_from_auroc_and_accuracy(ties):
    confidence, correct = sample(ties=ties)
    t = tally(confidence, correct)
    accuracy, auroc = correct.mean(), roc_auc_score(correct, confidence)
    expected = (1 - auroc) * accuracy * (1 - accuracy) + (1 - accuracy) ** 2 / 2
    assert selective.area_under_generalized_risk_coverage(t)[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_weighted_sample_is_the_sample_with_repeated_rows(measure):
    confidence, correct = sample(n=120, seed=3)
    units = resampling_units(120, None, np.random.default_rng(0))
    counter = CellCounter(confidence, correct, units)
    weights = multiplicities(120, 4, np.random.default_rng(1))
    together = measure(counter(weights))
    for weight, value in zip(weights, together, strict=True):
        repeated = np.repeat(np.arange(120), weight.astype(int))
        once = CellCounter(confidence, correct, resampling_units(120, None, np.random.default_rng(0)))
        alone = once(np.bincount(repeated, minlength=120)[None].astype(float))
        assert value == pytest.approx(measure(alone)[0], abs=1e-12)
    # Bins of equal mass are those of the data, so only measures that use none see the same rows as new data.
    if measure in (cumulative.ks_calibration_error, selective.auroc_of_errors, selective.area_under_risk_coverage):
        assert together[-1] == pytest.approx(measure(tally(confidence[repeated], correct[repeated]))[0], abs=1e-12)


def test_merged_cells_change_measures_little():
    confidence, correct = sample(n=20_000)
    exact, merged = tally(confidence, correct), CellCounter(confidence, correct, max_cells=1000).whole()
    assert merged.value.size < 1100
    assert binned.expected_calibration_error(merged) == pytest.approx(
        binned.expected_calibration_error(exact), abs=1e-9
    )
    for measure in MEASURES[4:]:
        assert measure(merged) == pytest.approx(measure(exact), abs=2e-4)
