"""Sums per sample against NumPy on the whole arrays; invariance, telescoping, and the coverage of intervals."""

import numpy as np
import pytest

from analyzer.measures import activation_drift as drift

pytestmark = pytest.mark.plain


def rng(seed=0):
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(7,)))


def pair(n=40, shape=(5, 3), noise=0.3, seed=0):
    h = rng(seed).normal(size=(n, *shape)) + 0.5
    return h, h + noise * rng(seed + 1).normal(size=h.shape)


class TestSums:
    def test_raw_values_are_those_of_the_whole_array(self):
        h, shifted = (array.astype(np.float32) for array in pair())
        sums = drift.row_sums(h)
        wide = h.astype(np.float64)
        assert drift.mean_of(sums) == pytest.approx(wide.mean(), rel=1e-12)
        assert drift.std_of(sums) == pytest.approx(wide.std(ddof=1), rel=1e-12)
        assert drift.mean_magnitude(sums) == pytest.approx(np.abs(wide).mean(), rel=1e-12)
        assert sums.largest.max() == wide.max()
        change = drift.row_sums(h, minus=shifted)
        assert drift.mean_magnitude(change) == pytest.approx(
            np.abs(wide - shifted.astype(np.float64)).mean(), rel=1e-12
        )

    def test_batches_and_blocks_change_nothing(self, monkeypatch):
        h, _ = pair()
        whole = drift.row_sums(h)
        monkeypatch.setattr(drift, "_PIECE", 31)
        parts = drift.joined_sums([drift.row_sums(h[:7]), drift.row_sums(h[7:])])
        for name in ("total", "magnitude", "square", "largest"):
            np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-13)
        assert (parts.size, parts.n, parts.n_values) == (15, 40, 600)

    def test_rows_are_taken(self):
        h, _ = pair()
        rows = np.array([3, 11])
        np.testing.assert_array_equal(drift.row_sums(h).take(rows).square, drift.row_sums(h[rows]).square)

    def test_one_number_has_no_deviation_and_what_is_not_finite_stays_so(self):
        assert np.isnan(drift.std_of(drift.row_sums(np.ones((1, 1)))))
        broken = drift.row_sums(np.array([[1.0, np.inf], [1.0, 2.0]]))
        assert not np.isfinite(drift.mean_of(broken))
        assert np.isnan(drift.std_of(broken))
        drawn = drift.resampling(2, 50, 0)
        assert drift.relative_norm(broken, broken, drawn).estimate().value is None


class TestScaleFree:
    def test_values_are_norms_over_norms(self):
        h, shifted = pair()
        drawn = drift.resampling(len(h), 200, 0)
        sums, after, change = drift.row_sums(h), drift.row_sums(shifted), drift.row_sums(h, minus=shifted)
        relative = np.linalg.norm(h - shifted) / np.linalg.norm(h)
        assert drift.relative_norm(change, sums, drawn).value == pytest.approx(relative, rel=1e-12)
        magnitude = np.abs(shifted).mean() / np.abs(h).mean() - 1
        assert drift.relative_change_of_magnitude(sums, after, drawn, drawn).value == pytest.approx(magnitude, rel=1e-9)
        rms = np.sqrt(np.square(h).mean())
        assert drift.over_rms(1, sums, drawn).value == pytest.approx(h.mean() / rms, rel=1e-12)
        assert drift.over_rms(2, sums, drawn).value == pytest.approx(h.std() / rms, rel=1e-9)

    def test_factors_change_no_value_and_no_interval(self):
        h, shifted = pair()
        drawn = drift.resampling(len(h), 200, 0)

        def measured(factor):
            sums, after = drift.row_sums(factor * h), drift.row_sums(factor * shifted)
            change = drift.row_sums(factor * h, minus=factor * shifted)
            return [
                drift.relative_norm(change, sums, drawn).estimate(),
                drift.relative_change_of_magnitude(sums, after, drawn, drawn).estimate(),
                drift.over_rms(1, sums, drawn).estimate(),
                drift.over_rms(2, sums, drawn).estimate(),
            ]

        for one, other in zip(measured(1.0), measured(1e-3), strict=True):
            np.testing.assert_allclose([one.value, one.low, one.high], [other.value, other.low, other.high], rtol=1e-9)
            assert one.low < one.value < one.high

    def test_sets_of_other_sizes_have_a_change_of_magnitude(self):
        h, shifted = pair()
        first, second = drift.resampling(40, 100, 0), drift.resampling(13, 100, 0, 1)
        found = drift.relative_change_of_magnitude(drift.row_sums(h), drift.row_sums(shifted[:13]), first, second)
        assert found.value == pytest.approx(np.abs(shifted[:13]).mean() / np.abs(h).mean() - 1, rel=1e-12)
        assert found.estimate().low < found.value < found.estimate().high

    def test_nothing_is_made_of_zeros(self):
        zeros, drawn = drift.row_sums(np.zeros((6, 2))), drift.resampling(6, 50, 0)
        some = drift.row_sums(np.ones((6, 2)))
        assert drift.relative_norm(zeros, zeros, drawn).estimate().value is None
        assert drift.relative_change_of_magnitude(zeros, some, drawn, drawn).estimate().value is None
        assert drift.over_rms(1, zeros, drawn).estimate().value is None
        assert drift.log_amplification([zeros], [some], [some], [some], drawn).estimate().value is None
        assert drift.log_amplification([], [], [some], [some], drawn).estimate().value is None
        assert drift.relative_norm(zeros, some, drawn).estimate().value == 0.0

    def test_amplifications_telescope_over_a_chain_of_products(self):
        x, shifted = pair(shape=(4,))
        chain, values, changes = [rng(5).normal(size=(4, 6)), rng(6).normal(size=(6, 3))], [x], [x - shifted]
        for matrix in chain:
            values.append(values[-1] @ matrix)
            changes.append(changes[-1] @ matrix)
        drawn = drift.resampling(len(x), 30, 0)
        sums = [(drift.row_sums(change), drift.row_sums(value)) for change, value in zip(changes, values, strict=True)]

        def log(first, second):
            return drift.log_amplification(
                [sums[first][0]], [sums[first][1]], [sums[second][0]], [sums[second][1]], drawn
            )

        assert log(0, 1).value + log(1, 2).value == pytest.approx(log(0, 2).value, abs=1e-12)
        np.testing.assert_allclose(log(0, 1).draws + log(1, 2).draws, log(0, 2).draws, atol=1e-12)
        expected = np.log(np.linalg.norm(changes[1]) / np.linalg.norm(values[1]))
        expected -= np.log(np.linalg.norm(changes[0]) / np.linalg.norm(values[0]))
        assert log(0, 1).value == pytest.approx(expected, abs=1e-12)

    def test_means_leave_out_what_is_undefined_and_differences_keep_pairs(self):
        one, two = drift.Bootstrapped(1.0, np.array([0.5, 1.5]), 9), drift.Bootstrapped(3.0, np.array([2.0, 4.0]), 7)
        nothing = drift.Bootstrapped(np.nan, np.full(2, np.nan), 9)
        mean = drift.mean_of_layers([one, nothing, two])
        assert (mean.value, mean.n, mean.draws.tolist()) == (2.0, 7, [1.25, 2.75])
        assert drift.mean_of_layers([nothing]).estimate().value is None
        assert drift.mean_of_layers([]).n == 0
        difference = drift.difference_of(two, one)
        assert (difference.value, difference.draws.tolist()) == (2.0, [1.5, 2.5])

    def test_intervals_cover_the_true_value(self):
        truth, covered = 0.3 / np.sqrt(1.25), 0
        for run in range(100):
            h, shifted = pair(n=60, shape=(3,), seed=100 + 2 * run)
            drawn = drift.resampling(60, 200, run)
            found = drift.relative_norm(drift.row_sums(h, minus=shifted), drift.row_sums(h), drawn).estimate()
            covered += found.low <= truth <= found.high
        # 95 of 100 with a standard deviation of 2.2.
        assert covered >= 87


class TestComposite:
    def test_it_is_the_published_sum(self):
        assert drift.modeltrace_composite(1.0, 0.5, 2.0, 2.0) == pytest.approx(0.4 * 0.5 + 0.6 * 2.0)
        assert drift.modeltrace_composite(0.5, 1.0, 2.0, 3.0) == pytest.approx(0.2 + 0.8 + 0.6)


class TestResampling:
    def test_it_is_shared_repeatable_and_of_its_purpose(self):
        first, again, other = (drift.resampling(30, 20, 3, *purpose) for purpose in ((), (), (1,)))
        np.testing.assert_array_equal(first.draws, again.draws)
        assert not np.array_equal(first.draws, other.draws)
        assert first.draws.sum(axis=1).tolist() == [30.0] * 20

    def test_no_draws_no_interval(self):
        h, shifted = pair()
        drawn = drift.resampling(40, 0, 0)
        found = drift.relative_norm(drift.row_sums(h, minus=shifted), drift.row_sums(h), drawn).estimate()
        assert found.value is not None
        assert found.low is None

    def test_many_samples_are_bundled(self):
        drawn = drift.resampling(5000, 10, 0)
        values = rng().normal(size=5000)
        total, draws = drawn.totals(values)
        assert total == pytest.approx(values.sum())
        assert draws.shape == (10,)
        assert drawn.n == 5000
