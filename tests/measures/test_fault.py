"""Shifts, gains and shares against closed forms of linear chains in float64, and the coverage of group intervals."""

import numpy as np
import pytest

from analyzer.measures.fault import (
    FEWEST,
    Groups,
    carries_all,
    decided_rightly,
    lead,
    log_amplifications,
    noise_gain,
    noise_like,
    relative_shift,
    strongest_other,
)

pytestmark = pytest.mark.plain


def orthogonal(size, seed):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]


class TestAmplification:
    def test_of_a_linear_chain_is_the_ratio_of_singular_values(self):
        """Samples along one singular direction of every layer, shifts along another."""
        spectra = np.array([[3.0, 0.5, 1.0, 2.0], [1.0, 4.0, 0.25, 2.0], [0.1, 0.7, 5.0, 1.0]])
        bases = [orthogonal(4, seed) for seed in range(4)]
        h, moved = bases[0][:, :1].T, (bases[0][:, :1] + 1e-3 * bases[0][:, 1:2]).T
        shifts = [relative_shift(h, moved)]
        for before, spectrum, after in zip(bases, spectra, bases[1:], strict=False):
            matrix = before @ np.diag(spectrum) @ after.T
            h, moved = h @ matrix, moved @ matrix
            shifts.append(relative_shift(h, moved))
        found = log_amplifications(np.stack(shifts))
        np.testing.assert_allclose(found[:, 0], np.log(spectra[:, 1] / spectra[:, 0]), atol=1e-9)

    def test_logarithms_add_up_to_the_whole_and_no_scale_matters(self):
        rng = np.random.default_rng(0)
        hs = [rng.normal(size=(6, width)) for width in (5, 3, 4, 2)]
        moved = [h + rng.normal(size=h.shape) for h in hs]
        found = log_amplifications(np.stack([relative_shift(a, b) for a, b in zip(hs, moved, strict=True)]))
        first, last = (np.linalg.norm(moved[i] - hs[i], axis=1) / np.linalg.norm(hs[i], axis=1) for i in (0, -1))
        np.testing.assert_allclose(found.sum(axis=0), np.log(last / first), atol=1e-12)
        scaled = [relative_shift(c * a, c * b) for c, a, b in zip((1, 1e6, 1e-6, 1), hs, moved, strict=True)]
        np.testing.assert_allclose(log_amplifications(np.stack(scaled)), found, atol=1e-12)

    def test_a_shift_that_vanishes_on_the_way_leaves_the_sample_out(self):
        shifts = np.array([[0.1, 0.1, 0.1], [0.2, 0.0, np.nan], [0.4, 0.1, 0.1]])
        found = log_amplifications(shifts)
        np.testing.assert_allclose(found[:, 0], np.log([2, 2]))
        assert np.isnan(found[:, 1:]).all()

    def test_nothing_is_relative_to_zero(self):
        assert np.isnan(relative_shift(np.zeros((1, 3)), np.ones((1, 3)))).all()
        assert np.isnan(relative_shift(np.ones((1, 3)), np.full((1, 3), np.inf))).all()
        assert relative_shift(np.ones((2, 2, 2)), np.ones((2, 2, 2))).tolist() == [0, 0]


class TestNoiseGain:
    def test_a_rotation_of_any_scale_has_gain_1(self):
        h = np.random.default_rng(0).normal(size=(5, 7))
        noised = [h + noise_like(h, 0.3, np.random.default_rng(seed)) for seed in range(3)]
        turn = 40 * orthogonal(7, 1)
        np.testing.assert_allclose(noise_gain(h @ turn, np.stack(noised) @ turn, 0.3), 1, atol=1e-12)

    def test_of_a_linear_map_is_its_frobenius_norm_over_its_action(self):
        rng = np.random.default_rng(0)
        h, matrix = rng.normal(size=(4, 6)), rng.normal(size=(6, 3)) * np.arange(1, 7)[:, None]
        noised = np.stack([h + noise_like(h, 0.1, rng) for _ in range(20_000)])
        length = np.linalg.norm(h, axis=1) / np.linalg.norm(h @ matrix, axis=1)
        expected = np.linalg.norm(matrix) / np.sqrt(6) * length
        np.testing.assert_allclose(noise_gain(h @ matrix, noised @ matrix, 0.1), expected, rtol=0.02)

    def test_noise_has_its_length_and_no_direction(self):
        h = np.random.default_rng(0).normal(size=(2000, 2, 3))
        noise = noise_like(h, 0.5, np.random.default_rng(1))
        np.testing.assert_allclose(relative_shift(h, h + noise), 0.5, atol=1e-12)
        unit = noise.reshape(2000, 6) / np.linalg.norm(noise.reshape(2000, 6), axis=1, keepdims=True)
        np.testing.assert_allclose(unit.T @ unit / 2000, np.eye(6) / 6, atol=0.02)

    def test_logits_of_zero_have_none(self):
        assert np.isnan(noise_gain(np.zeros((1, 2)), np.ones((3, 1, 2)), 0.1)).all()


class TestDecisions:
    z = np.array([[3.0, 1.0, 2.0], [1.0, 1.0, 0.0], [0.0, 5.0, 4.0]])
    y = np.array([0, 0, 2])

    def test_a_tie_is_no_decision(self):
        assert decided_rightly(self.z, self.y).tolist() == [True, False, False]

    def test_the_lead_is_over_the_strongest_other_class(self):
        other = strongest_other(self.z, self.y)
        assert other.tolist() == [2, 1, 1]
        assert lead(self.z, self.y, other).tolist() == [1, 0, -1]

    def test_what_carries_all_gives_the_moved_run_in_every_sample(self):
        z, moved = np.zeros((4, 3)), np.random.default_rng(0).normal(size=(4, 3))
        assert carries_all(moved * (1 + 1e-6), moved, z)
        almost = moved.copy()
        almost[2, 0] += 0.01
        assert not carries_all(almost, moved, z)


class TestGroups:
    def test_means_leave_out_what_is_unknown(self):
        groups = Groups(np.array([True] * 6 + [False] * 6), n_bootstrap=200)
        values = np.arange(12.0)
        values[[0, 11]] = np.nan
        found = groups.mean(values)
        assert (found.failures.value, found.failures.n) == (3, 5)
        assert (found.controls.value, found.controls.n) == (8, 5)
        assert (found.excess.value, found.excess.n) == (-5, 10)
        assert found.failures.low < 3 < found.failures.high

    def test_shares_of_both_groups_are_in_units_of_what_failures_lose(self):
        rng = np.random.default_rng(0)
        failed = np.arange(40) < 15
        parts = rng.normal(1.0, 0.3, size=(3, 40))
        lost = parts.sum(axis=0)
        groups = Groups(failed, n_bootstrap=300)
        found = [groups.share(part, lost) for part in parts]
        assert sum(each.failures.value for each in found) == pytest.approx(1)
        whole = groups.share(lost, lost)
        assert (whole.failures.low, whole.failures.high) == pytest.approx((1, 1))
        assert whole.controls.value == pytest.approx(lost[~failed].mean() / lost[failed].mean())
        assert sum(each.controls.value for each in found) == pytest.approx(whole.controls.value)

    def test_intervals_cover_the_true_excess(self):
        rng = np.random.default_rng(1)
        failed = np.arange(70) < 30
        covered = []
        for seed in range(200):
            values = np.where(failed, rng.normal(2.0, 1.0, 70), rng.exponential(0.5, 70))
            excess = Groups(failed, n_bootstrap=300, seed=seed).mean(values).excess
            covered.append(excess.low <= 1.5 <= excess.high)
        assert 0.9 <= np.mean(covered) <= 0.99

    def test_a_handful_of_samples_has_no_interval_and_no_controls_no_value(self):
        values = np.arange(FEWEST - 1.0)
        found = Groups(np.ones(len(values), bool)).mean(values)
        assert (found.failures.value, found.failures.low) == (values.mean(), None)
        assert (found.controls.value, found.excess.value) == (None, None)
        found = Groups(np.ones(FEWEST, bool)).mean(np.arange(float(FEWEST)))
        assert found.failures.low < found.failures.high
