"""Bootstrap: units, multiplicities, and intervals that cover."""

import numpy as np
import pytest
from scipy import stats

from analyzer.measures.bootstrap import interval_estimate, multiplicities, resampling_units, unit_sums, wilson

pytestmark = pytest.mark.plain


def test_every_sample_draws_as_many_units_as_there_are():
    weights = multiplicities(50, 200, np.random.default_rng(0))
    assert weights.shape == (200, 50)
    assert np.all(weights.sum(axis=1) == 50)
    assert weights.mean() == 1
    assert 0.8 < weights.var() < 1.2


def test_rows_of_a_group_are_one_unit():
    groups = np.array([7, 7, 3, 3, 9])
    units = resampling_units(5, groups, np.random.default_rng(0))
    assert units.count == units.n_independent == 3
    assert units.of_row.tolist() == [1, 1, 0, 0, 2]
    assert unit_sums(np.array([[1.0], [2], [3], [4], [5]]), units).ravel().tolist() == [7, 3, 5]


def test_many_units_are_bundled_at_random_into_few():
    units = resampling_units(10_000, None, np.random.default_rng(0), max_units=100)
    assert units.count == 100
    assert units.n_independent == 10_000
    assert np.all(np.bincount(units.of_row) == 100)
    values = np.arange(10_000.0)[:, None]
    # Consecutive rows are not bundled together, or a trend in the data would widen every interval.
    assert unit_sums(values, units).std() < 0.2 * 100 * values.std()


def test_wilson_is_that_of_scipy():
    for k, n in ((0, 20), (20, 20), (7, 30)):
        ours, theirs = wilson(k, n), stats.binomtest(k, n).proportion_ci(method="wilson")
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert wilson(0, 0).value is None


def test_bias_corrected_interval_of_a_mean_covers():
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        x = rng.exponential(size=80)
        draws = multiplicities(80, 400, rng) @ x / 80
        e = interval_estimate(x.mean(), draws, n=80)
        covered += e.low <= 1 <= e.high
    # 95 % aimed at; a binomial count of 200 lies above 179 with probability 0.999.
    assert covered > 179


def test_bias_correction_moves_against_the_bias_of_the_draws():
    draws = np.random.default_rng(0).normal(1.0, 1.0, 4000)
    plain_low, plain_high = np.quantile(draws, [0.025, 0.975])
    e = interval_estimate(0.0, draws, n=10)
    assert e.low < plain_low - 1.5
    assert e.high < plain_high - 1.5
    reversed_one = interval_estimate(0.0, draws, n=10, method="reverse percentile bootstrap")
    assert (reversed_one.low, reversed_one.high) == pytest.approx((-plain_high, -plain_low))


def test_known_noise_replaces_the_bias_of_the_draws():
    draws = np.random.default_rng(0).normal(3.0, 1.0, 4000)
    e = interval_estimate(5.0, draws, n=10, noise=2.0, method="reverse percentile bootstrap")
    assert (e.low, e.high) == pytest.approx((3 - 1.96, 5.0), abs=0.1)


def test_noise_corrected_interval_of_a_distance_reaches_zero_where_there_is_none():
    """|N(t, 1)| estimates t >= 0; the percentile interval of its draws never holds t = 0."""
    rng = np.random.default_rng(0)
    for truth in (0.0, 1.0, 4.0):
        covered, percentile = 0, 0
        for _ in range(300):
            # Five bins of equal noise: a distance like RMSCE.
            gaps = truth + rng.normal(size=5)
            value = np.sqrt(np.mean(gaps**2))
            draws = np.sqrt(np.mean((gaps + rng.normal(size=(400, 5))) ** 2, axis=1))
            e = interval_estimate(value, draws, n=5, method="noise-corrected bootstrap", bounds=(0.0, np.inf))
            covered += e.low <= truth <= e.high
            percentile += np.quantile(draws, 0.025) <= truth <= np.quantile(draws, 0.975)
        assert covered >= 270
        if truth == 0:
            assert percentile < 30


def test_interval_holds_the_value_and_stays_in_bounds():
    draws = np.random.default_rng(0).normal(0.5, 0.2, 1000)
    for method in ("BC bootstrap", "reverse percentile bootstrap", "noise-corrected bootstrap"):
        e = interval_estimate(0.05, draws, n=10, method=method, bounds=(0.0, 1.0))
        assert 0 <= e.low <= 0.05 <= e.high <= 1
        assert e.method == method


def test_undefined_values_and_missing_draws_are_none():
    assert interval_estimate(float("nan"), np.ones(100), n=3).value is None
    without = interval_estimate(0.3, np.empty(0), n=3)
    assert (without.value, without.low, without.high, without.method) == (0.3, None, None, None)
    mostly_undefined = np.full(100, np.nan)
    assert interval_estimate(0.3, mostly_undefined, n=3).low is None
