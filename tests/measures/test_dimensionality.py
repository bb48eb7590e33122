"""Spectral measures against SciPy and closed forms; intrinsic dimension against planted manifolds."""

import dataclasses

import numpy as np
import pytest
import scipy.stats
from scipy.spatial.distance import cdist

from analyzer.measures.dimensionality import (
    dimensionality_of_covariance,
    dimensionality_of_rows,
    effective_rank,
    rankme,
    spectrum_measures,
    two_nn,
)

pytestmark = pytest.mark.plain


def normal(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def manifold(n, dimension, ambient, seed=0):
    """A flat, evenly filled patch of the given dimension, bent and rotated into a larger space."""
    rng = np.random.default_rng(seed)
    patch = rng.uniform(size=(n, dimension))
    bent = np.concatenate([patch, 0.2 * np.sin(2 * patch[:, :1]), 0.1 * patch[:, :1] ** 2], axis=1)
    return bent @ np.linalg.qr(rng.standard_normal((ambient, ambient)))[0][: dimension + 2]


@pytest.mark.parametrize(("n", "d"), [(50, 7), (7, 50), (20, 20)])
def test_every_measure_is_that_of_the_singular_values(n, d):
    rows = normal(n, d) @ np.diag(np.linspace(0.2, 2.0, d)) + 3.0
    found = dimensionality_of_rows(rows)
    singular = np.linalg.svd(rows - rows.mean(0), compute_uv=False)[: min(n - 1, d)]
    assert found.ceiling == min(n - 1, d)
    assert found.effective_rank == pytest.approx(np.exp(scipy.stats.entropy(singular)), rel=1e-9)
    assert found.stable_rank == pytest.approx((np.linalg.norm(singular) / singular[0]) ** 2, rel=1e-9)
    eigenvalues = singular**2
    assert found.participation_ratio == pytest.approx(eigenvalues.sum() ** 2 / (eigenvalues**2).sum(), rel=1e-9)
    assert found.numerical_rank == np.linalg.matrix_rank(rows - rows.mean(0), rtol=max(n, d) * 1.2e-7)
    share = np.linalg.svd(rows, compute_uv=False)
    share = share / share.sum() + 1e-7
    assert found.rankme == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-9)
    assert rankme(rows) == found.rankme
    assert effective_rank(rows) == found.effective_rank


@pytest.mark.parametrize(("n", "d"), [(50, 7), (7, 50)])
def test_covariance_and_rows_say_the_same(n, d):
    rows = normal(n, d) * np.linspace(0.5, 3, d) + 1.0
    by_rows = dimensionality_of_rows(rows)
    by_covariance = dimensionality_of_covariance(np.cov(rows.T), n, mean=rows.mean(0))
    for name, value in dataclasses.asdict(by_rows).items():
        assert getattr(by_covariance, name) == pytest.approx(value, rel=1e-5), name
    assert dimensionality_of_covariance(np.cov(rows.T), n).rankme is None
    # A common scale, of the rows or of the divisor of the covariance, says nothing.
    other = dimensionality_of_covariance(1e-30 * np.cov(rows.T), n)
    assert other.effective_rank == pytest.approx(by_rows.effective_rank, rel=1e-5)
    assert dimensionality_of_rows(1e6 * rows).stable_rank == pytest.approx(by_rows.stable_rank, rel=1e-9)


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_a_bottleneck_has_its_rank(rank):
    left = np.linalg.qr(normal(200, rank) - normal(200, rank).mean(0))[0]
    left = np.linalg.qr(left - left.mean(0))[0]
    rows = left @ np.linalg.qr(normal(64, rank, 1))[0].T
    found = dimensionality_of_rows(rows.astype(np.float32) + np.float32(2.0))
    for name in ("effective_rank", "participation_ratio", "stable_rank"):
        assert getattr(found, name) == pytest.approx(rank, rel=1e-2), name
    assert found.numerical_rank == rank
    found = dimensionality_of_covariance(np.cov(rows.T), 200)
    assert (found.numerical_rank, found.effective_rank) == (rank, pytest.approx(rank, rel=1e-6))


def test_a_covariance_summed_in_float32_does_not_pass_its_rounding_off_as_rank():
    rows = (normal(500, 2) @ normal(2, 512, 1)).astype(np.float32)
    rows -= rows.mean(0)
    found = dimensionality_of_covariance(rows.T @ rows / 499, 500, precision=1.2e-7)
    assert found.effective_rank == pytest.approx(effective_rank(rows), rel=1e-3)
    assert found.effective_rank <= 2


@pytest.mark.parametrize(
    ("n", "d", "expected"),
    [(8, 64, 6.9), (32, 64, 28.7), (200, 64, 61.0), (5000, 64, 63.9), (32, 4096, 29.8), (200, 4096, 178)],
)
def test_few_rows_bias_effective_rank_as_documented(n, d, expected):
    assert effective_rank(normal(n, d)) == pytest.approx(expected, rel=0.12)
    assert effective_rank(normal(n, d)) < min(n, d + 1)


def test_only_the_corrected_participation_ratio_agrees_across_sample_sizes():
    scales = np.geomspace(1, 0.1, 40)
    truth = (scales**2).sum() ** 2 / (scales**4).sum()
    for n in (20, 50, 400):
        draws = [dimensionality_of_rows(normal(n, 40, seed) * scales) for seed in range(60)]
        mean = np.mean([found.participation_ratio for found in draws])
        corrected = np.mean([found.participation_ratio_corrected for found in draws])
        # Iid rows: 1 / (1/PR + 1/(n - 1)) for the plain form.
        assert mean == pytest.approx(1 / (1 / truth + 1 / (n - 1)), rel=0.08)
        assert corrected == pytest.approx(truth, rel=0.08)


def test_corrected_participation_is_built_from_unbiased_parts():
    """Both parts, recovered from eigenvalues of Wishart draws, average to those of the population."""
    scales = np.array([2.0, 1.0, 0.5])
    n, parts = 6, []
    for seed in range(4000):
        eigenvalues = np.linalg.eigvalsh(np.cov((normal(n, 3, seed) * scales).T))
        square, of_square, m = eigenvalues.sum() ** 2, (eigenvalues**2).sum(), n - 1
        second = m**2 / ((m - 1) * (m + 2)) * (of_square - square / m)
        parts.append((square - 2 * second / m, second))
        if second > 1e-6:
            ratio = spectrum_measures(eigenvalues, n, 3).participation_ratio_corrected
            assert ratio == pytest.approx(np.clip(parts[-1][0] / second, 1, 3), rel=1e-9)
    expected = np.array([(scales**2).sum() ** 2, (scales**4).sum()])
    error = np.std(parts, axis=0) / np.sqrt(len(parts))
    assert np.all(np.abs(np.mean(parts, axis=0) - expected) < 4 * error)


@pytest.mark.parametrize(
    "rows",
    [
        np.ones((1, 3)),
        np.full((5, 3), 7.3),
        np.full((5, 3), np.nan),
        np.zeros((0, 3)),
        np.zeros((4, 3)),
        np.ones((3, 0)),
    ],
)
def test_nothing_is_said_where_nothing_varies(rows):
    found = dimensionality_of_rows(rows)
    for name in ("effective_rank", "participation_ratio", "participation_ratio_corrected", "stable_rank"):
        assert getattr(found, name) is None, name
    assert found.numerical_rank is None
    assert found.ceiling >= 0
    flat = dimensionality_of_covariance(np.zeros((3, 3)), 10, mean=np.ones(3))
    assert (flat.effective_rank, flat.stable_rank) == (None, None)
    assert flat.rankme == pytest.approx(1.0, abs=1e-4)
    assert dimensionality_of_covariance(np.full((3, 3), np.nan), 10).effective_rank is None


class TestTwoNN:
    @pytest.mark.parametrize(("dimension", "ambient"), [(1, 10), (2, 64), (5, 64)])
    def test_finds_planted_manifolds(self, dimension, ambient):
        found = two_nn(manifold(2000, dimension, ambient))
        assert found.value == pytest.approx(dimension, rel=0.12)
        assert found.low < found.value < found.high
        assert (found.n, found.method) == (2000, "gamma")

    def test_ten_dimensions_are_underestimated_a_little_as_documented(self):
        assert 8.0 < two_nn(manifold(2000, 10, 64)).value < 10.5

    def test_is_the_maximum_likelihood_of_the_ratios(self):
        rows = normal(60, 3)
        distances = np.sort(cdist(rows, rows), axis=1)
        logs = np.log(distances[:, 2] / distances[:, 1])
        found = two_nn(rows, discard=0.0)
        assert found.value == pytest.approx(59 / logs.sum(), rel=1e-9)
        low, high = scipy.stats.gamma.ppf([0.025, 0.975], 60) / logs.sum()
        assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)
        kept = np.sort(logs)[:54]
        assert two_nn(rows).value == pytest.approx(53 / (kept.sum() + 6 * kept[-1]), rel=1e-9)

    def test_interval_covers_the_dimension(self):
        found = [two_nn(np.random.default_rng(seed).uniform(size=(300, 2))) for seed in range(100)]
        # Ratios of neighbours are a little dependent: nominal 95, with room for that and for chance.
        assert sum(f.low <= 2 <= f.high for f in found) >= 84

    def test_repeated_rows_count_once(self):
        rows = normal(100, 3)
        assert two_nn(np.concatenate([rows, rows])) == two_nn(rows)
        close = np.concatenate([rows, rows + 1e-9])
        assert np.isfinite(two_nn(close).value)

    def test_neither_scale_nor_place_matters_and_large_sets_are_sampled(self):
        rows = manifold(500, 2, 8)
        assert two_nn(1e5 * rows + 3.0).value == pytest.approx(two_nn(rows).value, rel=1e-6)
        assert two_nn(rows, max_rows=200).n == 200
        assert two_nn(rows, max_rows=200) == two_nn(rows, max_rows=200)
        assert two_nn(rows, max_rows=200, seed=1) != two_nn(rows, max_rows=200)

    @pytest.mark.parametrize("rows", [np.eye(30), np.ones((30, 3)), normal(9, 2), np.full((30, 2), np.inf)])
    def test_has_no_value_without_neighbourhoods(self, rows):
        assert two_nn(rows).value is None
