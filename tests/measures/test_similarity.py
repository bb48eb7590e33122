"""Similarity of models against closed forms, brute force and the laws that the measures promise."""

from itertools import permutations
from typing import ClassVar

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from analyzer.measures.similarity import (
    Coordinates,
    agreement,
    js_divergence,
    linear_cka,
    linear_cka_biased,
    mean_with_interval,
    statistics_pca,
    wilson,
)

pytestmark = pytest.mark.plain


def rotation(d, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 6))
    return x, x @ rng.normal(size=(6, 9)) + 0.5 * rng.normal(size=(40, 9))


def brute_force_hsic(k, other):
    """Song et al. (2012), equation 4: averages over distinct pairs, triples and quadruples."""
    n = len(k)
    pairs = np.mean([k[i, j] * other[i, j] for i, j in permutations(range(n), 2)])
    triples = np.mean([k[i, j] * other[i, q] for i, j, q in permutations(range(n), 3)])
    quads = np.mean([k[i, j] * other[q, r] for i, j, q, r in permutations(range(n), 4)])
    return pairs + quads - 2 * triples


class TestCka:
    def test_unbiased_agrees_with_the_definition_over_distinct_samples(self):
        rng = np.random.default_rng(1)
        x = rng.normal(size=(7, 3))
        y = x[:, :2] + rng.normal(size=(7, 2))
        k, other = x @ x.T, y @ y.T
        expected = brute_force_hsic(k, other) / np.sqrt(brute_force_hsic(k, k) * brute_force_hsic(other, other))
        assert linear_cka(x, y).value == pytest.approx(expected, rel=1e-10)

    def test_biased_agrees_with_the_gram_form(self, pair):
        x, y = pair
        n = len(x)
        h = np.eye(n) - 1 / n
        k, other = h @ x @ x.T @ h, h @ y @ y.T @ h
        expected = np.trace(k @ other) / np.sqrt(np.trace(k @ k) * np.trace(other @ other))
        assert linear_cka_biased(x, y) == pytest.approx(expected, rel=1e-12)

    def test_same_representation_up_to_rotation_shift_and_scale_is_one(self, pair):
        x, _ = pair
        found = linear_cka(x, 7.0 * x @ rotation(6) + 3.0)
        assert found.value == pytest.approx(1.0, abs=1e-9)
        assert found.low == pytest.approx(1.0, abs=1e-6)

    def test_invariance_holds_for_related_representations(self, pair):
        x, y = pair
        moved = linear_cka(1e4 * x @ rotation(6, 1) - 5.0, 1e-4 * y @ rotation(9, 2) + 1.0)
        assert moved.value == pytest.approx(linear_cka(x, y).value, rel=1e-6)
        assert linear_cka(y, x).value == pytest.approx(linear_cka(x, y).value, rel=1e-12)

    def test_unrelated_wide_representations_are_zero_on_average_and_the_biased_form_is_not(self):
        rng = np.random.default_rng(0)
        draws = [(rng.normal(size=(30, 200)), rng.normal(size=(30, 200))) for _ in range(50)]
        unbiased = [linear_cka(x, y).value for x, y in draws]
        assert abs(np.mean(unbiased)) < 3 * np.std(unbiased) / np.sqrt(50)
        assert np.mean([linear_cka_biased(x, y) for x, y in draws]) > 0.8

    def test_jackknife_is_that_of_leaving_each_sample_out(self, pair):
        x, y = (z[:12] for z in pair)
        n = len(x)
        left = np.array([linear_cka(np.delete(x, i, 0), np.delete(y, i, 0)).value for i in range(n)])
        error = np.sqrt((n - 1) / n * np.sum((left - left.mean()) ** 2))
        found = linear_cka(x, y)
        assert found.value - found.low == pytest.approx(scipy.stats.t.ppf(0.975, n - 1) * error, rel=1e-6)

    def test_interval_covers_the_value_of_the_population(self):
        rng = np.random.default_rng(0)
        mix = rng.normal(size=(4, 5))

        def draw(n):
            x = rng.normal(size=(n, 4))
            return x, x @ mix + rng.normal(size=(n, 5))

        truth = linear_cka(*draw(3000)).value
        found = [linear_cka(*draw(60)) for _ in range(100)]
        covered = sum(f.low <= truth <= f.high for f in found)
        # Binomial(100, 0.95): fewer than 86 has probability below 0.1 %.
        assert covered >= 86

    def test_undefined_and_wrong_use(self):
        x = np.random.default_rng(0).normal(size=(10, 3))
        assert linear_cka(x, np.ones((10, 2))).value is None
        assert linear_cka(x, np.full((10, 2), 0.1) + 1e-17).value is None
        assert linear_cka(x[:3], x[:3]).value is None
        assert linear_cka(x, np.full((10, 2), np.nan)).value is None
        assert linear_cka_biased(x, np.ones((10, 2))) is None
        with pytest.raises(ValueError, match="10 and 9 samples"):
            linear_cka(x, x[:9])


class TestAgreement:
    def test_wilson_agrees_with_the_roots_of_the_score_equation(self):
        for successes, n in [(0, 10), (3, 10), (10, 10), (480, 500)]:
            found, p = wilson(successes, n), successes / n
            z2 = scipy.stats.norm.ppf(0.975) ** 2
            roots = np.sort(np.roots([1 + z2 / n, -(2 * p + z2 / n), p * p]).real)
            assert (found.low, found.high) == pytest.approx(tuple(np.clip(roots, 0, 1)), abs=1e-9)
            assert found.low <= found.value <= found.high
        assert wilson(0, 0).value is None

    def test_share_of_equal_decisions(self):
        found = agreement(np.array([0, 1, 2, 2]), np.array([0, 1, 1, 2]))
        assert (found.value, found.n, found.method) == (0.75, 4, "Wilson")
        labels = agreement(np.array([[0, 1], [1, 1]]), np.array([[0, 1], [1, 0]]))
        assert labels.value == 0.5
        with pytest.raises(ValueError, match="cannot be compared"):
            agreement(np.zeros(3, int), np.zeros(4, int))

    def test_groups_widen_the_interval_to_that_of_whole_samples(self):
        rng = np.random.default_rng(0)
        per_sample = rng.integers(0, 2, size=50)
        rows = np.repeat(per_sample, 20)
        groups = np.repeat(np.arange(50), 20)
        grouped = agreement(rows, np.ones_like(rows), groups)
        samples = mean_with_interval(per_sample.astype(float), bounds=(0.0, 1.0))
        assert grouped.n == 50
        assert (grouped.value, grouped.low, grouped.high) == pytest.approx((samples.value, samples.low, samples.high))


class TestJensenShannon:
    @given(st.integers(2, 6), st.integers(0, 1000))
    def test_agrees_with_scipy(self, classes, seed):
        p, q = np.random.default_rng(seed).dirichlet(np.full(classes, 0.3), size=(2, 5))
        expected = [scipy.spatial.distance.jensenshannon(a, b) ** 2 for a, b in zip(p, q, strict=True)]
        assert js_divergence(p, q) == pytest.approx(np.array(expected), abs=1e-12)

    def test_ends_and_the_binary_form(self):
        certain = np.eye(3)
        assert js_divergence(certain, np.roll(certain, 1, axis=0)) == pytest.approx(np.full(3, np.log(2)))
        assert js_divergence(certain, certain).tolist() == [0.0, 0.0, 0.0]
        p, q = np.array([0.1, 0.9]), np.array([0.2, 0.9])
        assert js_divergence(p, q) == pytest.approx(
            js_divergence(np.stack([1 - p, p], 1), np.stack([1 - q, q], 1)), abs=1e-15
        )

    def test_mean_has_students_interval_within_its_bounds(self):
        values = np.random.default_rng(0).uniform(0, 0.2, size=30)
        found = mean_with_interval(values, bounds=(0.0, 1.0))
        expected = scipy.stats.t.interval(0.95, 29, values.mean(), scipy.stats.sem(values))
        assert (found.low, found.high) == pytest.approx(expected)
        assert mean_with_interval(np.array([0.0, 0.9]), bounds=(0.0, 1.0)).high == 1.0
        assert mean_with_interval(np.zeros(0), bounds=(0.0, 1.0)).value is None


class TestPca:
    STATISTICS: ClassVar = {f"m{i}": list(row) for i, row in enumerate(np.random.default_rng(0).normal(size=(5, 8)))}

    def test_distances_along_all_components_are_those_of_standardised_statistics(self):
        three = {name: self.STATISTICS[name] for name in list(self.STATISTICS)[:4]}
        found = statistics_pca(three)
        table = np.array(list(three.values()))
        standard = (table - table.mean(0)) / table.std(0)
        expected = scipy.spatial.distance.pdist(standard)
        assert scipy.spatial.distance.pdist(found.coordinates) == pytest.approx(expected)
        assert found.explained_variance.sum() == pytest.approx(1.0)

    def test_order_of_models_does_not_matter(self):
        names = list(self.STATISTICS)
        found = statistics_pca(self.STATISTICS).coordinates
        other = statistics_pca({name: self.STATISTICS[name] for name in reversed(names)}).coordinates
        assert other[::-1] == pytest.approx(found)

    def test_undefined_and_constant_statistics_are_left_out(self):
        rows = {name: [*row, None if name == "m2" else 1.0, 4.0] for name, row in self.STATISTICS.items()}
        found = statistics_pca(rows)
        assert isinstance(found, Coordinates)
        assert found.n_features == 8
        assert found.coordinates == pytest.approx(statistics_pca(self.STATISTICS).coordinates)

    def test_two_models_and_identical_models_have_a_reason(self):
        assert "at least 3" in statistics_pca({"a": [1.0], "b": [2.0]})
        assert "identical" in statistics_pca({name: [1.0, 0.1] for name in "abc"})
