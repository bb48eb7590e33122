"""Flips of two versions against SciPy's binomial test, the score test by brute force, and simulated coverage."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest, norm, permutation_test
from sklearn.metrics import cohen_kappa_score, confusion_matrix

from analyzer.errors import ConfigError, DataError
from analyzer.measures.paired_proportions import clopper_pearson, mcnemar, paired_difference
from analyzer.measures.robustness import aura
from analyzer.measures.versions import flips, paired_aura, paired_means

pytestmark = pytest.mark.plain


def verdicts(b, c, both, neither):
    """Samples of two models by counts."""
    old = np.repeat([True, False, True, False], [b, c, both, neither])
    new = np.repeat([False, True, True, False], [b, c, both, neither])
    return old, new


def decisions(n=400, k=5, seed=0, old_accuracy=0.8, new_accuracy=0.7):
    """Labels, and decisions of two unrelated models whose errors fall evenly on the other classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(k, size=n)

    def decided(accuracy):
        return np.where(rng.random(n) < accuracy, labels, (labels + rng.integers(1, k, size=n)) % k)

    return labels, decided(old_accuracy), decided(new_accuracy)


def score_statistic(b, c, n, delta):
    """Tango's statistic, the rate of negative flips under δ found by maximising the trinomial likelihood."""
    low, high = max(0.0, -delta), (1 - delta) / 2

    def surprise(rate):
        shares = np.array([rate, rate + delta, 1 - 2 * rate - delta])
        counts = np.array([b, c, n - b - c])
        return -np.sum(counts[counts > 0] * np.log(np.maximum(shares[counts > 0], 1e-300)))

    rate = minimize_scalar(surprise, bounds=(low, high), method="bounded", options={"xatol": 1e-13}).x
    return (c - b - n * delta) / np.sqrt(n * (2 * rate + delta - delta**2))


class TestMcNemar:
    @pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (0, 6), (3, 3), (12, 3), (3, 12), (40, 41), (300, 200)])
    def test_exact_p_value_is_that_of_scipy(self, b, c):
        found = mcnemar(*verdicts(b, c, 20, 7))
        expected = binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
        assert (found.b, found.c, found.n) == (b, c, b + c + 27)
        assert found.p_value == pytest.approx(expected, rel=1e-12)
        assert found.change.value == pytest.approx((c - b) / found.n)

    @pytest.mark.parametrize(("successes", "n"), [(0, 9), (9, 9), (1, 9), (37, 400), (1, 1)])
    @pytest.mark.parametrize("level", [0.8, 0.95, 0.9995])
    def test_exact_interval_is_that_of_scipy(self, successes, n, level):
        found = clopper_pearson(successes, n, level)
        expected = binomtest(successes, n).proportion_ci(level, method="exact")
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
        assert (found.value, found.n, found.level) == (successes / n, n, level)

    def test_interval_of_the_share_and_the_test_say_the_same(self):
        for b in range(40):
            found = mcnemar(*verdicts(b, 15, 5, 5))
            significant = not found.negative_share.low <= 0.5 <= found.negative_share.high
            assert significant == (found.p_value < 0.05), b

    @pytest.mark.parametrize(("b", "c", "n"), [(12, 3, 100), (3, 12, 100), (0, 4, 30), (7, 0, 9), (2, 2, 500)])
    @pytest.mark.parametrize("level", [0.95, 0.999])
    def test_ends_are_where_the_score_test_just_rejects(self, b, c, n, level):
        found = paired_difference(b, c, n, level)
        z = norm.ppf((1 + level) / 2)
        assert score_statistic(b, c, n, found.low) == pytest.approx(z, rel=1e-4)
        assert score_statistic(b, c, n, found.high) == pytest.approx(-z, rel=1e-4)

    def test_without_flips_there_is_width(self):
        # Closed form: n δ² = z² δ (1 − δ).
        z2 = norm.ppf(0.975) ** 2
        found = paired_difference(0, 0, 50)
        assert (found.low, found.high) == pytest.approx((-z2 / (50 + z2), z2 / (50 + z2)), abs=1e-9)
        assert paired_difference(5, 0, 5).low == -1
        assert paired_difference(0, 5, 5).high == 1
        assert paired_difference(0, 0, 0).value is None

    @pytest.mark.parametrize("shares", [(0.02, 0.05), (0.2, 0.1), (0.01, 0.01)])
    def test_covers_as_often_as_it_says(self, shares):
        rng = np.random.default_rng(3)
        truth = shares[1] - shares[0]
        drawn = rng.multinomial(80, [*shares, 1 - sum(shares)], size=600)
        found = [paired_difference(int(b), int(c), 80) for b, c, _ in drawn]
        assert np.mean([e.low <= truth <= e.high for e in found]) > 0.93


class TestFlips:
    def test_counts_are_those_of_the_tables(self):
        labels, old, new = decisions()
        found = flips(labels, old, new, 5)
        right, still = old == labels, new == labels
        assert found.churn.value == (old != new).mean()
        assert found.negative_flip_rate.value == (right & ~still).mean()
        assert found.positive_flip_rate.value == (still & ~right).mean()
        assert found.old_accuracy.value == right.mean()
        assert found.new_accuracy.value == still.mean()
        change = found.positive_flip_rate.value - found.negative_flip_rate.value
        assert found.net.change.value == pytest.approx(change) == pytest.approx(still.mean() - right.mean())
        assert found.churn.value >= found.negative_flip_rate.value + found.positive_flip_rate.value

    def test_classes_are_the_diagonals_of_confusion_matrices(self):
        labels, old, new = decisions(n=300, k=4, seed=2)
        found = flips(labels, old, new, 9).by_class
        assert [change.label for change in found] == [0, 1, 2, 3]
        before, after = (np.diag(confusion_matrix(labels, z, normalize="true")) for z in (old, new))
        for k, change in enumerate(found):
            assert (change.old.value, change.new.value) == pytest.approx((before[k], after[k]))
            assert change.test.change.value == pytest.approx(after[k] - before[k])
            assert change.test.n == (labels == k).sum()

    def test_unrelated_models_have_a_relative_churn_of_one(self):
        labels, old, new = decisions(n=200_000, k=5)
        found = flips(labels, old, new, 5)
        assert found.relative_churn.value == pytest.approx(1, abs=0.01)
        assert found.relative_negative_flips.value == pytest.approx(1, abs=0.02)
        assert found.expected_churn == pytest.approx(0.8 * 0.3 + 0.2 * 0.7 + 0.2 * 0.3 * 3 / 4, abs=0.005)

    def test_relative_churn_of_two_classes_is_one_minus_kappa_of_being_right(self):
        """Error consistency (Geirhos et al. 2020): with two classes who is wrong alike decides alike."""
        labels, old, new = decisions(n=500, k=2)
        found = flips(labels, old, new, 2)
        assert found.relative_churn.value == pytest.approx(1 - cohen_kappa_score(old == labels, new == labels))

    def test_equal_versions_do_not_churn_but_no_interval_is_empty(self):
        labels, old, _ = decisions()
        found = flips(labels, old, old, 5)
        assert found.churn.value == found.relative_churn.value == found.relative_negative_flips.value == 0
        assert found.net.p_value == 1
        assert found.net.negative_share.value is None
        for estimate in (found.churn, found.relative_churn, found.relative_negative_flips, found.net.change):
            assert estimate.low <= 0 < estimate.high < 0.1

    @pytest.mark.parametrize("accuracies", [(0.95, 0.9), (0.7, 0.8)])
    def test_relative_measures_cover_as_often_as_they_say(self, accuracies):
        hits = []
        for seed in range(120):
            found = flips(*decisions(300, 5, seed, *accuracies), 5)
            hits.append([e.low <= 1 <= e.high for e in (found.relative_churn, found.relative_negative_flips)])
        assert (np.mean(hits, axis=0) > 0.9).all()

    def test_what_has_no_denominator_is_undefined(self):
        labels = np.array([0, 1, 2])
        perfect = flips(labels, labels, labels, 3)
        assert perfect.relative_churn.value is None
        assert perfect.relative_negative_flips.value is None
        assert perfect.net.change.value == 0

    def test_forty_classes_of_chance_are_not_forty_tests(self):
        alarms, outside = 0, 0
        for seed in range(40):
            found = flips(*decisions(1600, 40, seed, 0.8, 0.8), 40).by_class
            alarms += any(change.adjusted_p_value < 0.05 for change in found)
            outside += any(change.test.change.low > 0 or change.test.change.high < 0 for change in found)
        assert alarms <= 4
        assert outside <= 6

    def test_a_class_that_was_lost_is_found(self):
        labels, old, _ = decisions(600, 10, 5, 0.9)
        new = np.where(labels == 3, 7, old)
        found = {change.label: change for change in flips(labels, old, new, 10).by_class}
        assert found[3].adjusted_p_value < 1e-6
        assert found[3].test.change.high < 0
        assert all(found[k].adjusted_p_value == 1 for k in range(10) if k != 3)

    @pytest.mark.parametrize(
        "arrays", [(np.zeros(3, int), np.zeros(2, int), np.zeros(3, int)), (np.zeros(0, int),) * 3]
    )
    def test_what_is_not_paired_is_refused(self, arrays):
        with pytest.raises(DataError, match="one label and two decisions per sample"):
            flips(*arrays, 3)
        with pytest.raises(DataError, match="same samples"):
            mcnemar(np.ones(3, bool), np.ones(2, bool))


class TestPairedMeans:
    def test_aura_of_both_and_their_difference(self):
        rng = np.random.default_rng(0)
        a = np.concatenate([np.zeros(20), rng.gamma(2, 0.05, 180), [np.inf] * 10])
        b = np.where(np.isinf(a), a, a * 1.2 + 0.001)
        found = paired_aura(a, b, 0.2)
        assert found.old.value == pytest.approx(aura(a, 0.2).value)
        assert found.new.value == pytest.approx(aura(b, 0.2).value)
        assert found.change.value == pytest.approx(found.new.value - found.old.value)
        assert found.change.low > 0
        assert found.p_value < 0.001
        # Paired: far narrower than the two intervals, which overlap.
        assert found.old.high > found.new.low
        assert found.change.high - found.change.low < (found.old.high - found.old.low) / 3

    def test_p_value_is_that_of_scipy_and_the_interval_covers(self):
        rng = np.random.default_rng(1)
        old = rng.normal(size=60)
        new = old + rng.normal(0.2, 1.0, 60)
        expected = permutation_test(
            (new, old), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", n_resamples=20_000
        ).pvalue
        assert paired_means(old, new).p_value == pytest.approx(expected, abs=0.015)
        hits = 0
        for seed in range(100):
            values = np.random.default_rng(seed).exponential(size=(2, 50))
            change = paired_means(*values, seed=seed, n_bootstrap=400).change
            hits += change.low <= 0 <= change.high
        assert hits > 90

    def test_many_samples_are_flipped_in_bundles(self):
        rng = np.random.default_rng(2)
        old = rng.normal(size=30_000)
        assert paired_means(old, old + rng.normal(0, 1, 30_000), n_bootstrap=100).p_value > 0.01
        assert paired_means(old, old + rng.normal(0.05, 1, 30_000), n_bootstrap=100).p_value < 0.001

    def test_robust_accuracies_by_the_test_of_verdicts(self):
        a, b = np.array([0.0, 0.1, 0.3, np.inf]), np.array([0.2, 0.0, 0.0, np.inf])
        found = mcnemar(a > 0.05, b > 0.05)
        assert (found.b, found.c, found.n) == (2, 1, 4)

    def test_bad_input(self):
        with pytest.raises(ConfigError, match="above 0"):
            paired_aura(np.zeros(3), np.zeros(3), 0.0)
        with pytest.raises(DataError, match="same samples in the same order"):
            paired_aura(np.zeros(3), np.zeros(4), 0.1)
        with pytest.raises(DataError, match="finite"):
            paired_aura(np.zeros(3), np.array([0.0, np.nan, 1.0]), 0.1)
