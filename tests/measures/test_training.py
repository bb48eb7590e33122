"""Curves with planted answers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analyzer.measures.curves import across_runs, band, expected_maximum, moving_average, noise_scale
from analyzer.measures.training import (
    area_under_learning_curve,
    corrected_epochs_to_convergence,
    corrected_peak,
    detrended_stability,
    epochs_to_convergence,
    final_gap,
    majority_share,
    normalized_area_under_learning_curve,
    overfitting_index,
    peak,
    training_stability_score,
)
from analyzer.measures.training_events import (
    divergence,
    double_descent,
    first_non_finite,
    late_improvement,
    learning_rate_steps,
    loss_spikes,
    overfitting,
    plateau_start,
)

pytestmark = pytest.mark.plain

NAN = float("nan")


def epochs(n):
    return np.arange(1, n + 1)


def rise(n=100, tau=10.0):
    """1 − exp(−t/τ): reaches 95 % of its limit at 3 τ, as exp(−3) < 0.05 < exp(−2.9)."""
    return 1 - np.exp(-epochs(n) / tau)


# ---- moving average


@given(st.integers(1, 60), st.integers(1, 70))
def test_moving_average_keeps_length_and_straight_lines(n, window):
    line = 3.0 - 0.5 * np.arange(n)
    np.testing.assert_allclose(moving_average(line, window), line, atol=1e-12)


@pytest.mark.parametrize("window", [3, 5, 9])
def test_odd_window_agrees_with_pandas_in_the_middle(window):
    values = np.random.default_rng(0).normal(size=40)
    half = window // 2
    expected = pd.Series(values).rolling(window, center=True).mean().to_numpy()
    np.testing.assert_allclose(moving_average(values, window)[half:-half], expected[half:-half])


def test_even_window_is_the_two_by_m_average():
    values = np.array([1.0, 4.0, 2.0, 8.0, 3.0, 9.0])
    smooth = moving_average(values, 4)
    assert smooth[2] == pytest.approx(0.5 * 1 / 4 + (4 + 2 + 8) / 4 + 0.5 * 3 / 4)
    assert smooth[1] == pytest.approx((1 + 4 + 2) / 3)
    assert (smooth[0], smooth[-1]) == (1.0, 9.0)


def test_moving_average_leaves_nan_out_and_does_not_reach_past_the_ends():
    values = np.array([NAN, 2.0, NAN, 4.0, NAN, NAN])
    np.testing.assert_allclose(moving_average(values, 3), [NAN, 2.0, 3.0, 4.0, NAN, NAN])


def test_moving_average_takes_runs_and_refuses_no_window():
    rows = np.random.default_rng(1).normal(size=(3, 12))
    np.testing.assert_array_equal(moving_average(rows, 4)[1], moving_average(rows[1], 4))
    with pytest.raises(ValueError, match="at least 1"):
        moving_average(rows, 0)


# ---- noise and runs


def test_noise_scale_sees_noise_and_not_the_curve():
    noise = np.random.default_rng(2).normal(0, 0.03, 2000)
    assert noise_scale(5 * np.exp(-np.arange(2000) / 300) + noise) == pytest.approx(0.03, rel=0.1)
    assert noise_scale(np.linspace(3, 1, 50)) == pytest.approx(0, abs=1e-14)
    assert noise_scale(np.array([1.0, 5.0, 1.0, 5.0])) == 0.0


def test_expected_maximum_agrees_with_simulation():
    rng = np.random.default_rng(3)
    for n in (2, 5, 30, 200):
        assert expected_maximum(n) == pytest.approx(rng.normal(size=(20000, n)).max(axis=1).mean(), abs=0.03)
    assert expected_maximum(1) == 0.0


def test_band_agrees_with_scipy_and_counts_runs():
    runs = np.array([[1.0, 2.0, 3.0], [2.0, 2.5, NAN], [4.0, 3.5, NAN]])
    result = band(runs)
    low, high = stats.t.interval(0.95, 2, loc=runs[:, 0].mean(), scale=stats.sem(runs[:, 0]))
    assert (result.low[0], result.high[0]) == pytest.approx((low, high))
    assert result.n.tolist() == [3, 3, 1]
    np.testing.assert_allclose(result.mean, [7 / 3, 8 / 3, 3])
    np.testing.assert_array_equal(result.minimum, [1, 2, 3])
    np.testing.assert_array_equal(result.maximum, [4, 3.5, 3])
    assert np.isnan(result.low[2])
    assert np.isnan(band(np.full((2, 1), NAN)).mean[0])


def test_across_runs():
    estimate = across_runs([1.0, None, 2.0, 4.0])
    low, high = stats.t.interval(0.95, 2, loc=7 / 3, scale=stats.sem([1, 2, 4]))
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((7 / 3, low, high))
    assert estimate.n == 3
    assert across_runs([5.0]).low is None
    bounded = across_runs([1.0, 2.0, 4.0], within=(1, 3))
    assert (bounded.value, bounded.low, bounded.high) == (estimate.value, 1.0, 3.0)
    assert across_runs([None]) is None


# ---- the guide's numbers


def test_exponential_rise_converges_at_three_tau():
    assert epochs_to_convergence(epochs(100), rise(), "up") == 30
    assert epochs_to_convergence(epochs(100), 2.0 + np.exp(-epochs(100) / 10) / np.exp(-0.1), "down") == 31
    assert corrected_epochs_to_convergence(epochs(100), rise(), "up", chance=0.0) == 30
    assert corrected_epochs_to_convergence(epochs(100), 5 - rise(), "down", chance=5.0) == 30


def test_convergence_respects_missing_epochs_and_counts_from_one():
    assert epochs_to_convergence(np.array([3, 6, 9]), np.array([NAN, 0.96, 1.0]), "up") == 6
    assert epochs_to_convergence(epochs(2), np.array([0.99, 1.0]), "up") == 1
    assert epochs_to_convergence(epochs(2), np.array([NAN, NAN]), "up") is None
    assert epochs_to_convergence(epochs(3), np.array([-3.0, -2.0, -1.0]), "up") is None


def test_majority_class_has_not_converged_at_once():
    curve = 0.9 + 0.08 * rise()
    assert epochs_to_convergence(epochs(100), curve, "up") == 5  # 0.08 * exp(-t / 10) < 0.049 at t > 4.9
    assert corrected_epochs_to_convergence(epochs(100), curve, "up", chance=0.9) == 30
    assert corrected_epochs_to_convergence(epochs(100), curve, "up") >= 30
    assert corrected_epochs_to_convergence(epochs(100), curve, "up", chance=0.99) is None
    assert corrected_epochs_to_convergence(epochs(5), np.full(5, 0.9), "up") is None


def test_peak_in_both_directions():
    curve = np.array([0.1, NAN, 0.7, 0.7, 0.2])
    assert peak(epochs(5), curve, "up") == (0.7, 3)
    assert peak(epochs(5), curve, "down") == (0.1, 1)
    assert peak(epochs(1), np.array([NAN]), "up") is None


def test_the_luck_of_a_maximum_is_taken_off():
    rng = np.random.default_rng(4)
    runs = 0.9 * rise() + rng.normal(0, 0.02, (200, 100))
    raw = np.mean([run.max() for run in runs])
    corrected = np.mean([corrected_peak(run, "up") for run in runs])
    assert raw > 0.94
    assert corrected == pytest.approx(0.9, abs=0.008)
    assert np.mean([-corrected_peak(-run, "down") for run in runs]) == pytest.approx(corrected)
    assert corrected_peak(np.linspace(0, 1, 20), "up") == pytest.approx(1.0)
    found = [corrected_epochs_to_convergence(epochs(100), run, "up", chance=0.0) for run in runs]
    assert np.mean(found) == pytest.approx(30, abs=1.5)


def test_one_lucky_epoch_is_not_convergence():
    curve = 0.5 + 0.4 * rise()
    curve[4] = 0.93
    assert epochs_to_convergence(epochs(100), curve, "up") == 5
    # 95 % of 0.9 (at most of 0.93) is reached where 0.4 * exp(-t / 10) < 0.045 (0.0165): t > 21.8 (31.9).
    assert 22 <= corrected_epochs_to_convergence(epochs(100), curve, "up", chance=0.0) <= 32
    curve[4] = 1.0
    assert 22 <= corrected_epochs_to_convergence(epochs(100), curve, "up", chance=0.0) <= 32


def test_a_sharp_early_peak_is_still_reached():
    curve = np.array([0.1, 0.9, 0.5, 0.4])
    assert corrected_epochs_to_convergence(epochs(4), curve, "up", chance=0.0) == 2


def test_gap_of_planted_lines():
    t = epochs(9).astype(float)
    train, validation = 2.0 - 0.2 * t, 2.0 - 0.1 * t
    assert overfitting_index(train, validation) == pytest.approx(0.1 * 8)
    assert final_gap(train, validation) == pytest.approx(0.9)
    assert final_gap(train, validation, normalized=True) == pytest.approx(0.9 / 1.1)
    assert overfitting_index(train, validation, normalized=True) == pytest.approx(0.8 / 1.2)
    assert overfitting_index(validation, train, normalized=True) == pytest.approx(-0.8 / 1.2)


@given(st.floats(1e-3, 1e3))
def test_normalised_gap_does_not_see_the_scale_of_the_loss(scale):
    train, validation = np.linspace(1, 0.1, 12), np.linspace(1.1, 0.4, 12)
    for measure in (overfitting_index, final_gap):
        plain = measure(train, validation, normalized=True)
        assert measure(scale * train, scale * validation, normalized=True) == pytest.approx(plain)


def test_gap_where_it_is_undefined():
    both = np.array([1.0, 2.0, NAN])
    assert overfitting_index(both, both) is None
    assert final_gap(np.array([NAN, 1.0]), np.array([1.0, NAN])) is None
    assert final_gap(both, np.array([1.5, 2.5, 9.0])) == pytest.approx(0.5)
    assert final_gap(np.array([-1.0]), np.array([-0.5])) == pytest.approx(0.5)
    assert final_gap(np.array([-1.0]), np.array([-0.5]), normalized=True) is None


def test_stability_of_a_trend_with_and_without_it():
    line = 5.0 - 0.3 * epochs(30)
    assert training_stability_score(line) == pytest.approx(0.3 * np.std(np.arange(10)))
    assert detrended_stability(epochs(30), line) == pytest.approx(0, abs=1e-12)
    zigzag = 5 + np.tile([0.1, -0.1], 15)
    slope = stats.linregress(np.arange(10), zigzag[-10:])
    residuals = zigzag[-10:] - slope.intercept - slope.slope * np.arange(10)
    expected = np.sqrt((residuals**2).sum() / 8)
    assert detrended_stability(epochs(30), zigzag) == pytest.approx(expected)
    assert detrended_stability(epochs(30), zigzag, normalized=True) == pytest.approx(expected / 5)
    assert training_stability_score(line[:2]) is None
    assert detrended_stability(epochs(2), line[:2]) is None
    assert detrended_stability(epochs(3), -line[:3], normalized=True) is None


def test_area_under_a_line_is_the_mean_of_its_ends():
    line = np.linspace(0.2, 0.8, 11)
    assert area_under_learning_curve(epochs(11), line) == pytest.approx(0.5)
    assert normalized_area_under_learning_curve(epochs(11), line, "up") == pytest.approx(0.5)
    assert normalized_area_under_learning_curve(epochs(11), line, "up", chance=0.0) == pytest.approx(0.5 / 0.8)
    assert normalized_area_under_learning_curve(epochs(11), 1 - line, "down") == pytest.approx(0.5)
    assert normalized_area_under_learning_curve(epochs(11), line, "down") is None
    assert area_under_learning_curve(epochs(1), line[:1]) is None
    with_gap = np.where(np.arange(11) == 4, NAN, line)
    assert area_under_learning_curve(epochs(11), with_gap) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("labels", "share"),
    [
        ([0, 0, 0, 1], 0.75),
        ([[2], [2], [1]], 2 / 3),
        ([[1, 0], [0, 1], [1, 0]], 2 / 3),
        ([True, False], 0.5),
        ([0.1, 0.2], None),
        ([[1, 1], [0, 1]], None),
        ([], None),
        (["a", "b"], None),
        ([1.0, NAN], None),
    ],
)
def test_majority_share(labels, share):
    assert majority_share(np.array(labels)) == (None if share is None else pytest.approx(share))


# ---- events


def test_plateau_starts_where_one_percent_is_left():
    # rise() is within 1 % of what it gains when exp(-t/10) < 0.01 * exp(-0.1), at t > 10 * (ln 100 + 0.1) = 47.05.
    assert plateau_start(epochs(100), rise(), "up") == 48
    assert plateau_start(epochs(100), -rise(), "down") == 48
    assert plateau_start(epochs(50), rise(50), "up") is None
    assert plateau_start(epochs(100), np.linspace(0, 1, 100), "up") is None
    assert plateau_start(epochs(20), np.ones(20), "up") is None
    noise = np.random.default_rng(5).normal(0, 0.01, 100)
    assert plateau_start(epochs(100), noise, "up") is None


def test_late_improvement_of_a_line_is_its_final_third():
    assert late_improvement(epochs(31), np.linspace(0, 1, 31), "up") == pytest.approx(11 / 30)
    assert late_improvement(epochs(100), rise(), "up") < 0.01
    assert late_improvement(epochs(30), np.ones(30), "down") is None


def test_first_non_finite_tells_nan_from_missing():
    curve = np.array([1.0, NAN, np.inf])
    assert first_non_finite(epochs(3), curve, np.array([True, False, True])) == 3
    assert first_non_finite(epochs(3), curve, np.array([True, True, True])) == 2
    assert first_non_finite(epochs(3), curve, np.array([True, False, False])) is None


def test_planted_divergence():
    curve = np.concatenate([np.linspace(2, 1, 20), [1.2, 1.4, 1.6, 1.8, 2.0, 2.2]])
    found = divergence(epochs(26), curve)
    assert found.epoch == 23
    assert (found.best, found.final) == (1.0, 2.0)
    assert divergence(epochs(10), 1 + epochs(10) / 2).epoch == 2
    assert divergence(epochs(10), np.geomspace(1, 100, 10)) is not None
    spike = np.linspace(2, 1, 20)
    spike[10] = 9
    assert divergence(epochs(20), spike) is None
    assert divergence(epochs(3), np.array([0.100, 0.101, 0.102])) is None


def test_planted_overfitting_starts_at_the_best_epoch():
    t = epochs(40)
    train = np.exp(-t / 10)
    validation = 0.5 + np.abs(t - 15) / 40
    found = overfitting(t, train, validation)
    assert found.epoch == 15
    assert found.rise == pytest.approx(23 / 40)
    assert overfitting(t, train, 0.5 + np.exp(-t / 10)) is None
    assert overfitting(t, 1 + t / 40, validation) is None
    assert overfitting(t, 1e-3 * train, 1e-3 * validation).epoch == 15
    assert overfitting(t[:22], train[:22], validation[:22]).epoch == 15
    assert overfitting(t[:17], train[:17], validation[:17]) is None


def test_healthy_noisy_losses_raise_no_alarm():
    rng = np.random.default_rng(6)
    alarms = 0
    for _ in range(300):
        n = int(rng.integers(5, 100))
        t, sigma = epochs(n), rng.choice([0.005, 0.02, 0.05])
        train = 2.3 * np.exp(-t / rng.uniform(2, 30)) + 0.2 + rng.normal(0, sigma / 2, n)
        validation = 2.1 * np.exp(-t / rng.uniform(2, 30)) + 0.3 + rng.normal(0, sigma, n)
        events = divergence(t, train), overfitting(t, train, validation), double_descent(t, validation)
        alarms += any(event is not None for event in events)
    assert alarms <= 6


def falling(n=40):
    """A loss that falls from 2.6 towards 0.3."""
    return 0.3 + 2.3 * np.exp(-epochs(n) / 6)


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("at", [3, 20, 36])
def test_planted_spikes_are_found_at_their_top(at, width):
    curve = falling()
    curve[at : at + width] += [1.5, 1.2][:width]
    (spike,) = loss_spikes("loss", epochs(40), curve)
    assert (spike.series, spike.epoch, spike.value) == ("loss", at + 1, curve[at])
    assert spike.level + spike.threshold < spike.value
    # The level is that of the smooth curve next to it.
    assert falling()[min(at + 3, 39)] <= spike.level <= falling()[at - 3]


def test_two_spikes_are_two():
    curve = falling()
    curve[[10, 25]] += 1.0
    assert [spike.epoch for spike in loss_spikes("loss", epochs(40), curve)] == [11, 26]


def test_what_is_no_isolated_spike():
    assert loss_spikes("loss", epochs(40), falling()) == ()
    assert loss_spikes("loss", epochs(40), np.ones(40)) == ()
    assert loss_spikes("loss", epochs(5), np.array([1.0, 0.9, 5.0, 0.8, 0.7])) == ()
    step = np.where(epochs(40) > 20, falling() + 1, falling())
    assert loss_spikes("loss", epochs(40), step) == ()
    wide = falling()
    wide[15:25] += 1.0
    assert loss_spikes("loss", epochs(40), wide) == ()
    small = falling()
    small[20] += 0.05
    assert loss_spikes("loss", epochs(40), small) == ()


@pytest.mark.parametrize("grows_with_level", [False, True])
def test_noise_is_no_spike(grows_with_level):
    rng = np.random.default_rng(7)
    alarms = 0
    for _ in range(400):
        n = int(rng.integers(5, 100))
        smooth = 0.3 + 2.1 * np.exp(-epochs(n) / rng.uniform(2, 30))
        noise = rng.normal(0, rng.choice([0.005, 0.05, 0.15]), n)
        alarms += bool(loss_spikes("loss", epochs(n), smooth * np.exp(noise) if grows_with_level else smooth + noise))
    assert alarms <= 2


def test_learning_rate_steps_are_lasting_changes():
    rate = np.repeat([0.1, 0.01, 0.001], [4, 3, 3])
    loss = np.arange(10.0, 0.0, -1.0)
    first, second = learning_rate_steps(epochs(10), rate, loss, run=2)
    assert (first.run, first.epoch, first.before, first.after) == (2, 5, 0.1, 0.01)
    assert (first.loss_before, first.loss_after) == (7.0, 4.0)
    assert (second.epoch, second.loss_after) == (8, 1.0)
    cosine = 0.05 * (1 + np.cos(np.pi * np.arange(30) / 30))
    assert learning_rate_steps(epochs(30), cosine) == ()
    assert learning_rate_steps(epochs(5), np.full(5, 0.1)) == ()
    assert learning_rate_steps(epochs(10), rate)[0].loss_before is None


def test_planted_double_descent():
    corners = ([1, 11, 21, 41], [1.6, 1.0, 1.6, 0.4])
    curve = np.interp(epochs(41), *corners)
    found = double_descent(epochs(41), curve)
    assert (found.first_minimum, found.hump, found.second_minimum) == (11, 21, 41)
    # The average over five epochs cuts (2 + 1 + 0 + 1 + 2) / 5 slopes of 0.06 off either corner.
    assert found.height == pytest.approx(0.6 - 2 * 1.2 * 0.06)
    assert double_descent(epochs(41), np.interp(epochs(41), [1, 20, 41], [2, 1, 2])) is None
    assert double_descent(epochs(41), np.linspace(2, 1, 41)) is None
    assert double_descent(epochs(41), np.interp(epochs(41), [1, 20, 41], [1, 2, 1])) is None
    one_spike = np.linspace(2, 1, 41)
    one_spike[20] = 2.5
    assert double_descent(epochs(41), one_spike) is None
