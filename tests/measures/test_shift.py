"""Shift tests against brute force and other implementations, and their p-values without shift."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import false_discovery_control, hypergeom, ks_2samp
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import roc_auc_score

from analyzer.errors import ConfigError, DataError
from analyzer.measures.shift import kernel as kernel_module
from analyzer.measures.shift.features import feature_tests
from analyzer.measures.shift.kernel import classifier_test, held_out_operator, mmd_test, pooled_kernel
from analyzer.measures.shift.samples import samples
from analyzer.measures.shift.two_sample import two_sample_tests

pytestmark = pytest.mark.plain


def gaussians(n=40, m=30, d=5, shift=0.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.standard_normal((m, d)) + shift


class TestFeatures:
    def test_ks_of_each_column_is_that_of_scipy(self):
        reference, new = gaussians(shift=0.4)
        found = feature_tests(samples(reference, new))
        for k in range(5):
            expected = ks_2samp(reference[:, k], new[:, k])
            assert found.statistic[k] == pytest.approx(expected.statistic)
            assert found.p_value[k] == pytest.approx(expected.pvalue)
        assert (found.n_reference, found.n_new) == (40, 30)

    def test_adjusted_p_values_are_those_of_the_definitions(self):
        reference, new = gaussians(d=12, shift=np.linspace(0, 1, 12))
        found = feature_tests(samples(reference, new))
        p, m = found.p_value, 12
        rank = np.argsort(np.argsort(p, kind="stable"), kind="stable") + 1
        for k in range(m):
            up, down = rank >= rank[k], rank <= rank[k]
            assert found.benjamini_hochberg[k] == pytest.approx(min(1.0, np.min(m * p[up] / rank[up])))
            assert found.holm[k] == pytest.approx(min(1.0, np.max((m + 1 - rank[down]) * p[down])))
        assert found.benjamini_hochberg == pytest.approx(false_discovery_control(p))
        assert found.any_p_value == pytest.approx(min(1.0, m * p.min()))
        assert (found.holm >= found.benjamini_hochberg).all()

    def test_wasserstein_of_a_moved_copy_is_the_way_in_standard_deviations(self):
        reference, _ = gaussians(n=50)
        found = feature_tests(samples(reference, reference + 0.3)).wasserstein
        assert found == pytest.approx(0.3 / reference.std(axis=0))

    def test_wasserstein_is_the_mean_gap_of_sorted_values(self):
        reference, new = gaussians(n=30, m=30, shift=0.2)
        expected = np.abs(np.sort(reference, axis=0) - np.sort(new, axis=0)).mean(axis=0) / reference.std(axis=0)
        assert feature_tests(samples(reference, new)).wasserstein == pytest.approx(expected)

    def test_a_constant_feature_has_no_unit(self):
        reference, new = gaussians()
        reference[:, 2] = new[:, 2] = 7.0
        found = feature_tests(samples(reference, new))
        assert np.isnan(found.wasserstein).tolist() == [False, False, True, False, False]
        assert (found.statistic[2], found.p_value[2]) == (0.0, 1.0)

    def test_the_effect_stays_where_the_p_value_falls_with_n(self):
        rng = np.random.default_rng(0)
        small, large = (
            feature_tests(samples(rng.normal(size=(n, 1)), rng.normal(0.2, size=(n, 1)))) for n in (100, 8000)
        )
        assert large.p_value[0] < 1e-10 < small.p_value[0]
        assert large.wasserstein[0] == pytest.approx(0.2, abs=0.03)


class TestMMD:
    def test_statistic_and_p_value_by_loops(self):
        reference, new = gaussians(n=12, m=10, d=3, shift=0.8)
        rows = np.concatenate([reference, new])
        rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
        sigma = np.median(pdist(rows))

        def mmd(x, y):
            def k(a, b):
                return np.exp(-np.sum((a - b) ** 2) / (2 * sigma**2))

            within = [np.mean([k(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]) for z in (x, y)]
            return within[0] + within[1] - 2 * np.mean([k(a, b) for a in x for b in y])

        kernel = pooled_kernel(samples(reference, new))
        found = mmd_test(kernel, n_permutations=299)
        assert kernel.bandwidth == pytest.approx(sigma)
        assert found.statistic == pytest.approx(mmd(rows[:12], rows[12:]), rel=1e-10)
        rng = np.random.default_rng(5)
        shuffled = [rows[rng.permutation(22)] for _ in range(299)]
        as_large = sum(mmd(z[:12], z[12:]) >= found.statistic for z in shuffled)
        assert found.p_value == pytest.approx((1 + as_large) / 300, abs=0.03)

    def test_p_value_counts_the_data_themselves(self):
        found = mmd_test(pooled_kernel(samples(*gaussians(shift=5.0))), n_permutations=99)
        assert found.p_value == 0.01
        assert found.n_permutations == 99

    def test_equal_rows_on_both_sides_are_no_shift(self):
        rows = np.ones((20, 3))
        kernel = pooled_kernel(samples(rows, rows))
        for test in (mmd_test, classifier_test):
            assert test(kernel, n_permutations=50).p_value == 1.0

    def test_it_is_zero_on_average_without_shift(self):
        values = [mmd_test(pooled_kernel(samples(*gaussians(seed=s))), n_permutations=1).statistic for s in range(300)]
        assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(300)

    def test_units_of_features_do_not_matter(self):
        reference, new = gaussians(shift=0.3)
        scale = np.array([1e-6, 1.0, 1e6, 3.0, 1e200])
        plain, scaled = pooled_kernel(samples(reference, new)), pooled_kernel(samples(reference * scale, new * scale))
        assert scaled.matrix == pytest.approx(plain.matrix, abs=1e-12)

    def test_rows_above_the_limit_are_drawn_by_seed_and_this_is_said(self):
        reference, new = gaussians(n=300, m=60)
        found = mmd_test(pooled_kernel(samples(reference, new), max_rows=100), n_permutations=20)
        assert (found.n_reference, found.of_reference, found.n_new, found.of_new) == (100, 300, 60, 60)
        again, other = (pooled_kernel(samples(reference, new), max_rows=100, seed=s).matrix for s in (0, 1))
        assert np.array_equal(again, pooled_kernel(samples(reference, new), max_rows=100).matrix)
        assert not np.array_equal(again, other)

    def test_mostly_equal_rows_have_a_bandwidth(self):
        rows = (np.arange(40) < 4).astype(float)[:, None]
        # Four of forty: more than half of the pairs are equal, the others one step apart.
        kernel = pooled_kernel(samples(rows[::2], rows[1::2]))
        assert kernel.bandwidth == pytest.approx(1 / rows.std())

    def test_p_value_of_a_binary_feature_is_fishers(self):
        # With n = m the statistic only tells how unequal the ones are shared, which permutations tie on.
        reference, new = np.zeros((20, 1)), np.zeros((20, 1))
        reference[:9], new[:3] = 1.0, 1.0
        found = mmd_test(pooled_kernel(samples(reference, new)), n_permutations=9999)
        shares = hypergeom(40, 12, 20).pmf(np.arange(13))
        assert found.p_value == pytest.approx(shares[:4].sum() + shares[9:].sum(), abs=0.01)


class TestClassifier:
    def test_held_out_predictions_are_those_of_refitting(self):
        rng = np.random.default_rng(0)
        matrix, targets = pooled_kernel(samples(*gaussians())).matrix, rng.standard_normal(70)
        fold = rng.permutation(np.arange(70) % 5)
        found = held_out_operator(matrix, fold, ridge=0.3) @ targets
        for k in range(5):
            inside, outside = np.flatnonzero(fold == k), np.flatnonzero(fold != k)
            # An intercept is fitted by centring the kernel and the targets of the training rows.
            train, test = matrix[np.ix_(outside, outside)], matrix[np.ix_(inside, outside)]
            means = train.mean(axis=0)
            train_c = train - means[:, None] - means[None, :] + means.mean()
            test_c = test - test.mean(axis=1, keepdims=True) - means[None, :] + means.mean()
            model = KernelRidge(alpha=0.3, kernel="precomputed").fit(
                train_c, targets[outside] - targets[outside].mean()
            )
            assert found[inside] == pytest.approx(model.predict(test_c) + targets[outside].mean(), abs=1e-8)

    def test_auc_of_columns_is_that_of_scikit_learn(self):
        rng = np.random.default_rng(0)
        scores, sides = (
            rng.integers(0, 6, (40, 3)).astype(float),
            rng.permuted(np.repeat([[0.0], [1.0]], 20, 0), axis=0),
        )
        found = kernel_module._auc(scores, np.repeat(sides, 3, axis=1))
        assert found == pytest.approx([roc_auc_score(sides[:, 0], scores[:, k]) for k in range(3)])

    def test_the_far_are_told_apart_and_the_same_are_not(self):
        far = classifier_test(pooled_kernel(samples(*gaussians(shift=4.0))), n_permutations=99)
        assert far.statistic > 0.99
        assert far.p_value == 0.01
        same = [
            classifier_test(pooled_kernel(samples(*gaussians(seed=s))), n_permutations=1).statistic for s in range(100)
        ]
        assert np.mean(same) == pytest.approx(0.5, abs=4 * np.std(same) / np.sqrt(100))

    def test_p_values_are_uniform_without_shift(self):
        p = [
            classifier_test(pooled_kernel(samples(*gaussians(30, 20, 4, seed=s))), n_permutations=99, seed=s).p_value
            for s in range(150)
        ]
        assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.08)
        assert np.mean(p) == pytest.approx(0.505, abs=0.1)


class TestBadInput:
    @pytest.mark.parametrize(
        ("reference", "new", "message"),
        [
            (np.zeros((20, 3)), np.zeros((20, 4)), "shapes after the first axis must be equal"),
            (np.zeros((20, 3)), np.zeros((9, 3)), "9 rows of new data: shift tests need 10"),
            (np.zeros((20, 0)), np.zeros((20, 0)), "no features"),
            (np.full((20, 3), np.nan), np.zeros((20, 3)), "20 of 20 rows of reference data hold NaN"),
        ],
    )
    def test_data(self, reference, new, message):
        with pytest.raises(DataError, match=message):
            two_sample_tests(reference, new)

    def test_options(self):
        reference, new = gaussians()
        with pytest.raises(ConfigError, match="n_permutations=0"):
            two_sample_tests(reference, new, n_permutations=0)
        with pytest.raises(ConfigError, match="max_rows=5"):
            two_sample_tests(reference, new, max_rows=5)

    def test_rows_of_any_shape_are_flattened(self):
        reference, new = gaussians(d=6, shift=0.2)
        flat = two_sample_tests(reference, new, n_permutations=50)
        shaped = two_sample_tests(reference.reshape(-1, 2, 3), new.reshape(-1, 2, 3), n_permutations=50)
        assert flat.p_values == shaped.p_values
