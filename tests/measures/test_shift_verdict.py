"""The verdict on shift: silent without shift, awake to shifts that some tests cannot see; and the verdict on harm."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from analyzer.data_types.values import Estimate
from analyzer.errors import ConfigError, DataError
from analyzer.measures.bootstrap import wilson
from analyzer.measures.shift.accuracy_estimates import AccuracyEstimate
from analyzer.measures.shift.features import feature_tests
from analyzer.measures.shift.samples import samples
from analyzer.measures.shift.two_sample import two_sample_tests
from analyzer.measures.shift.verdict import harm_from_estimates, harm_from_labels, permutations_needed, shift_verdict

pytestmark = pytest.mark.plain

DIGITS = load_digits().data / 16


def gaussians(n=40, m=30, d=5, shift=0.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.standard_normal((m, d)) + shift


def digits(n, m, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(DIGITS))
    return DIGITS[rows[:n]], DIGITS[rows[n : n + m]].copy(), rng


def with_permuted_columns(rows, rng, columns=8):
    """Each of some columns shuffled among the rows: every marginal stays exactly what it was."""
    shuffled = rows.copy()
    for column in rng.choice(np.flatnonzero(DIGITS.std(axis=0) > 0.1), columns, replace=False):
        shuffled[:, column] = rng.permutation(shuffled[:, column])
    return shuffled


def verdict_of(reference, new, **options):
    return shift_verdict({"inputs": two_sample_tests(reference, new, **options)})


def test_without_shift_at_most_19_of_200_comparisons_alarm():
    rng = np.random.default_rng(0)
    alarms = uncorrected = 0
    for draw in range(200):
        reference, new = rng.standard_normal((2, 100, 64))
        tests = two_sample_tests(reference, new, n_permutations=99, seed=draw)
        alarms += shift_verdict({"inputs": tests}).shifted
        uncorrected += bool((tests.features.p_value <= 0.05).any())
    assert alarms <= 19
    assert uncorrected > 100


def test_permuted_columns_are_found_though_no_single_feature_shows_them():
    for seed in range(3):
        reference, new, rng = digits(250, 250, seed)
        permuted = with_permuted_columns(new, rng)
        verdict = verdict_of(reference, permuted)
        assert verdict.shifted
        assert verdict.alarms[0].test == "classifier"
        # The test of single features cannot tell: its p-values are those without permutation.
        before, after = (feature_tests(samples(reference, rows)) for rows in (new, permuted))
        np.testing.assert_array_equal(before.p_value, after.p_value)
        assert after.any_p_value > 0.05
        assert not verdict_of(reference, new).shifted


@pytest.mark.parametrize("corrupt", ["contrast", "noise", "pixel"])
def test_other_shifts_of_digits_are_found(corrupt):
    reference, new, rng = digits(150, 150)
    new = {
        "contrast": lambda: new * 0.5,
        "noise": lambda: new + 0.05 * rng.standard_normal(new.shape),
        "pixel": lambda: np.roll(new.reshape(-1, 8, 8), 1, axis=2).reshape(-1, 64),
    }[corrupt]()
    verdict = verdict_of(reference, new)
    assert verdict.shifted
    assert verdict.p_value <= 0.003


def test_smooth_shifts_that_ks_misses_are_found_by_mmd():
    verdict = verdict_of(*gaussians(100, 100, 64, shift=0.15))
    adjusted = {test.test: test.adjusted for test in verdict.tests}
    assert adjusted["KS"] > 0.05 >= adjusted["MMD"]


def test_the_family_spans_all_places():
    reference, new = gaussians(100, 100, 8)
    tests = {
        "inputs": two_sample_tests(reference, new),
        "dense": two_sample_tests(reference, new + 1.0, seed=1),
    }
    verdict = shift_verdict(tests)
    assert [(test.place, test.test) for test in verdict.tests] == [
        (place, test) for place in ("inputs", "dense") for test in ("KS", "MMD", "classifier")
    ]
    assert {test.place for test in verdict.alarms} == {"dense"}
    mmd = verdict.tests[4]
    assert (mmd.p_value, mmd.adjusted) == (0.001, pytest.approx(0.005))


def test_too_few_permutations_for_the_family_are_an_error():
    tests = two_sample_tests(*gaussians(), n_permutations=99)
    assert not shift_verdict({"inputs": tests}).shifted
    with pytest.raises(ConfigError, match=r"n_permutations=99 can never alarm .* use 999 or more"):
        shift_verdict(dict.fromkeys("abc", tests))
    assert permutations_needed(1) == 999
    n = permutations_needed(50)
    assert 3 * 50 / (1 + n) <= 0.05 / 2


@pytest.mark.parametrize(
    ("hits", "harm"),
    [((96, 95), "undecided"), ((960, 950), "not harmful"), ((960, 900), "harmful"), ((9600, 9500), "not harmful")],
)
def test_harm_by_labels(hits, harm):
    n = {96: 100, 960: 1000, 9600: 10000}[hits[0]]
    verdict = harm_from_labels(wilson(hits[0], n), wilson(hits[1], n))
    assert (verdict.harm, verdict.basis) == (harm, "labels")
    assert verdict.change.value == pytest.approx((hits[1] - hits[0]) / n)


def test_a_small_loss_is_harmful_where_less_is_accepted():
    assert harm_from_labels(wilson(9600, 10000), wilson(9500, 10000), tolerance=0.001).harm == "harmful"


@pytest.mark.parametrize(("values", "harm"), [((0.8, 0.7, 0.95), "suspected"), ((0.95, 0.7, 0.88), "undecided")])
def test_harm_without_labels_is_never_more_than_suspected(values, harm):
    estimates = [AccuracyEstimate(method="AC", accuracy=Estimate(value=v, n=50)) for v in values]
    verdict = harm_from_estimates(wilson(95, 100), estimates)
    assert (verdict.harm, verdict.basis) == (harm, "label-free estimates")
    assert verdict.change.value == pytest.approx(np.median(values) - 0.95)
    assert verdict.change.low is None
    assert verdict.tolerance == pytest.approx(0.101)


def test_options():
    reference, new = gaussians()
    tests = two_sample_tests(reference, new)
    with pytest.raises(ConfigError, match=r"level=1\.5"):
        shift_verdict({"inputs": tests}, level=1.5)
    with pytest.raises(DataError, match="No place"):
        shift_verdict({})
    with pytest.raises(ConfigError, match="tolerance=0"):
        harm_from_labels(wilson(9, 10), wilson(8, 10), tolerance=0)
    with pytest.raises(DataError, match="need an interval"):
        harm_from_labels(Estimate(value=0.9, n=10), wilson(8, 10))
    with pytest.raises(DataError, match="one estimate at least"):
        harm_from_estimates(wilson(9, 10), [])
