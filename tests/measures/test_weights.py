"""Statistics and matrix measures of weights against SciPy, NumPy and closed forms."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from analyzer.measures import matrices, weights
from analyzer.measures.matrices import dead_channels, duplicate_channels, spectrum
from analyzer.measures.weights import histogram, weight_statistics

pytestmark = pytest.mark.plain


@pytest.fixture
def sample():
    return (np.random.default_rng(0).gamma(2.0, size=(7, 5, 30)) - 1.0).astype(np.float32)


class TestStatistics:
    def test_agree_with_scipy_and_numpy(self, sample):
        x = sample.astype(np.float64).ravel()
        found = weight_statistics([sample])
        assert found.size == x.size
        expected = {
            "mean": x.mean(),
            "std": x.std(),
            "median": np.median(x),
            "min": x.min(),
            "max": x.max(),
            "skewness": scipy.stats.skew(x),
            "kurtosis": scipy.stats.kurtosis(x),
            "l1": np.linalg.norm(x, 1),
            "l2": np.linalg.norm(x, 2),
            "rms": np.sqrt(np.mean(x * x)),
            "max_norm": np.linalg.norm(x, np.inf),
            "positive_share": np.mean(x > 0),
            "negative_share": np.mean(x < 0),
        }
        for name, value in expected.items():
            assert getattr(found, name) == pytest.approx(value, rel=1e-12), name

    def test_pieces_and_several_tensors_make_no_difference(self, sample, monkeypatch):
        whole, counts = weight_statistics([sample]), histogram([sample])
        monkeypatch.setattr(weights, "_PIECE", 17)
        parts = [sample[:3], sample[3:]]
        for name, value in vars(weight_statistics(parts)).items():
            expected = getattr(whole, name)
            assert value is expected or value == pytest.approx(expected, rel=1e-12), name
        assert np.array_equal(histogram(parts).counts, counts.counts)

    def test_zeros_near_zeros_and_signs(self):
        x = np.array([0.0, 0.0, 1e-5, -1e-5, 1.0, -2.0, 3.0, 1.0])
        found = weight_statistics([x])
        assert found.zero_share == 2 / 8
        assert found.near_zero_share == 4 / 8
        assert (found.positive_share, found.negative_share) == (4 / 8, 2 / 8)

    @given(st.floats(1e-20, 1e20))
    def test_near_zero_and_extremes_do_not_see_scale(self, factor):
        x = np.random.default_rng(1).standard_cauchy(200)
        for name in ("near_zero_share", "extreme_share", "skewness", "kurtosis"):
            assert getattr(weight_statistics([x * factor]), name) == pytest.approx(
                getattr(weight_statistics([x]), name), rel=1e-9
            )

    def test_share_at_extremes(self):
        clipped = np.clip(np.random.default_rng(0).normal(size=10_000), -1, 1)
        expected = 2 * scipy.stats.norm.sf(1)
        assert weight_statistics([clipped]).extreme_share == pytest.approx(expected, abs=0.01)
        uniform = np.random.default_rng(0).uniform(-1, 1, size=100_000)
        assert weight_statistics([uniform]).extreme_share == pytest.approx(0.001, abs=5e-4)

    def test_what_is_undefined_is_none(self):
        empty, one, constant = (weight_statistics([x]) for x in (np.zeros((0, 3)), np.ones(1), np.full(9, 0.1)))
        assert (empty.size, empty.mean, empty.l2, empty.zero_share) == (0, None, None, None)
        assert (one.mean, one.std, one.skewness, one.kurtosis, one.extreme_share) == (1.0, 0.0, None, None, None)
        assert (constant.std, constant.skewness, constant.rms) == (0.0, None, pytest.approx(0.1))

    def test_non_finite_values_are_counted_and_leave_no_norm(self):
        found = weight_statistics([np.array([1.0, np.nan, np.inf, -np.inf, 3.0])])
        assert (found.size, found.n_nan, found.n_inf) == (5, 1, 2)
        assert (found.mean, found.min, found.max) == (2.0, 1.0, 3.0)
        assert (found.l1, found.l2, found.rms, found.max_norm) == (None,) * 4
        nothing = weight_statistics([np.full(3, np.nan)])
        assert (nothing.n_nan, nothing.mean) == (3, None)

    @pytest.mark.parametrize("factor", [1e-200, 1e200])
    def test_norms_neither_overflow_nor_vanish(self, factor):
        found = weight_statistics([np.array([3.0, -4.0]) * factor])
        assert found.l2 == pytest.approx(5.0 * factor, rel=1e-12)
        assert found.l1 == pytest.approx(7.0 * factor, rel=1e-12)


class TestHistogram:
    def test_counts_every_finite_value_once_between_the_extremes(self, sample):
        found = histogram([sample, np.array([np.nan, np.inf])])
        assert found.counts.sum() == sample.size
        assert (found.edges[0], found.edges[-1]) == (sample.min(), sample.max())
        assert len(found.counts) == weights.HISTOGRAM_BINS

    def test_constant_and_neighbouring_values_have_one_bin(self):
        assert histogram([np.full(5, 2.0)]).counts.tolist() == [5]
        assert histogram([np.array([1.0, np.nextafter(1.0, 2.0)])]).counts.tolist() == [2]
        assert histogram([np.array([np.nan])]) is None


class TestSpectrum:
    @pytest.mark.parametrize("shape", [(1, 30, 12), (1, 12, 30), (3, 6, 8), (1, 5, 1)])
    def test_agrees_with_dense_svd(self, shape):
        blocks = np.random.default_rng(0).normal(size=shape)
        singular = np.linalg.svd(blocks, compute_uv=False)
        found = spectrum(blocks)
        assert found.norm == pytest.approx(singular.max(), rel=1e-10)
        shares = singular[:, 0] ** 2 / (singular**2).sum(axis=1)
        assert found.top_energy_share == pytest.approx(shares.max(), rel=1e-10)
        assert (found.rank, found.full_rank) == (min(shape[1:]), min(shape[1:]))

    def test_lanczos_agrees_with_dense_svd_and_is_repeatable(self, monkeypatch):
        blocks = np.random.default_rng(0).normal(size=(2, 120, 90))
        expected = np.linalg.norm(blocks, 2, axis=(1, 2)).max()
        monkeypatch.setattr(matrices, "FULL_DECOMPOSITION", 10)
        found, again = spectrum(blocks, seed=3), spectrum(blocks, seed=3)
        assert found.norm == pytest.approx(expected, rel=1e-8)
        assert found.rank is None
        assert found.iterations > 0
        assert found == again

    def test_rank_of_a_product_in_float32(self):
        rng = np.random.default_rng(0)
        for rank in (1, 3):
            product = (rng.normal(size=(20, rank)) @ rng.normal(size=(rank, 15))).astype(np.float32)
            found = spectrum(product[None])
            assert found.rank == rank
            assert (found.top_energy_share > 0.999) == (rank == 1)

    def test_zero_empty_and_non_finite(self):
        zero = spectrum(np.zeros((1, 4, 4)))
        assert (zero.norm, zero.rank, zero.top_energy_share) == (0.0, 0, None)
        assert spectrum(np.zeros((1, 0, 4))) is None
        assert spectrum(np.array([[[1.0, np.nan]]])) is None

    @given(st.floats(1e-30, 1e30))
    def test_scales_with_the_matrix(self, factor):
        blocks = np.random.default_rng(2).normal(size=(1, 9, 7))
        one, other = spectrum(blocks), spectrum(blocks * factor)
        assert other.norm == pytest.approx(factor * one.norm, rel=1e-9)
        assert (other.rank, other.top_energy_share) == (one.rank, pytest.approx(one.top_energy_share, rel=1e-9))


class TestChannels:
    def test_dead_channels_are_those_that_vanish_beside_the_others(self):
        blocks = np.random.default_rng(0).normal(size=(1, 20, 6))
        blocks[0, :, 1] = 0.0
        blocks[0, :, 4] *= 1e-7
        blocks[0, :, 5] *= 1e-2
        for factor in (1e-12, 1.0, 1e12):
            assert np.flatnonzero(dead_channels(blocks * factor)[0]).tolist() == [1, 4]

    def test_all_zero_is_all_dead_and_one_alive_leaves_the_rest_dead(self):
        assert dead_channels(np.zeros((1, 3, 4))).all()
        lone = np.zeros((1, 64, 64))
        lone[0, 3, 7] = 1.0
        assert dead_channels(lone).sum() == 63

    def test_duplicates_are_found_whatever_their_scale_and_place(self):
        rng = np.random.default_rng(0)
        blocks = rng.normal(size=(1, 27, 16))
        assert duplicate_channels(blocks) == 0
        blocks[0, :, 9] = 3.0 * blocks[0, :, 2]
        blocks[0, :, 5] = blocks[0, :, 2] + 1e-3 * rng.normal(size=27)
        blocks[0, :, 7] = -blocks[0, :, 3]
        assert duplicate_channels(blocks) == 2
        assert duplicate_channels(blocks[:, :, rng.permutation(16)] * 1e-5) == 2

    def test_dead_channels_and_other_blocks_are_no_duplicates(self):
        blocks = np.random.default_rng(0).normal(size=(2, 27, 4))
        blocks[0, :, :2] = 0.0
        blocks[1, :, 3] = blocks[0, :, 3]
        assert duplicate_channels(blocks) == 0

    def test_long_filters_are_screened_by_projection_without_loss(self):
        rng = np.random.default_rng(0)
        filters = rng.normal(size=(2000, 60))
        filters[:, 30:45] = filters[:, :15] + 0.05 * rng.normal(size=(2000, 15))
        assert duplicate_channels(filters[None]) == 15

    @pytest.mark.parametrize("rows", [4, 6, 9])
    def test_chance_alone_gives_no_duplicates(self, rows):
        rng = np.random.default_rng(rows)
        alarms = sum(duplicate_channels(rng.normal(size=(1, rows, 32))) > 0 for _ in range(400))
        # Binomial(400, 1e-4): more than 1 has probability below 0.1 %.
        assert alarms <= 1

    def test_too_short_filters_cannot_be_told_from_chance(self):
        assert duplicate_channels(np.ones((1, 1, 8))) is None
        assert duplicate_channels(np.random.default_rng(0).normal(size=(1, 2, 64))) is None
        assert duplicate_channels(np.full((1, 9, 3), np.nan)) is None

    @given(hnp.arrays(np.float64, (1, 12, 5), elements=st.floats(-1, 1, width=32)), st.permutations(range(5)))
    def test_unit_permutation_changes_nothing(self, blocks, order):
        permuted = blocks[:, :, list(order)]
        assert dead_channels(permuted).sum() == dead_channels(blocks).sum()
        one, other = spectrum(blocks), spectrum(permuted)
        assert math.isclose(one.norm, other.norm, rel_tol=1e-9, abs_tol=1e-12)
