"""Percentiles against NumPy, and their intervals against the populations they come from."""

import numpy as np
import pytest
import scipy.stats

from analyzer.measures.quantile_sketch import PERCENTS, percentiles_with_interval

pytestmark = pytest.mark.plain


def test_values_are_those_of_numpy_for_one_unit_and_for_many():
    rows = np.random.default_rng(0).standard_normal((80, 5))
    found = percentiles_with_interval(rows)
    assert found.values == pytest.approx(np.percentile(rows, PERCENTS, axis=0))
    single = percentiles_with_interval(rows[:, 2])
    assert single.values == pytest.approx(found.values[:, 2])
    assert single.highs == pytest.approx(found.highs[:, 2], nan_ok=True)
    assert (found.n, found.percents, found.values.shape) == (80, PERCENTS, (7, 5))


def test_interval_of_the_median_has_the_ranks_of_the_sign_test():
    found = percentiles_with_interval(np.random.default_rng(0).permutation(np.arange(1.0, 26.0)), (50,))
    # Published table for n = 25: ranks 8 and 18 hold the median with 95.7 %.
    assert (found.lows[0], found.highs[0]) == (8.0, 18.0)


def test_few_samples_bound_no_extreme():
    found = percentiles_with_interval(np.arange(50.0), (1, 50, 99))
    assert np.isnan(found.lows).tolist() == [True, False, False]
    assert np.isnan(found.highs).tolist() == [False, False, True]


@pytest.mark.parametrize("percent", [5, 25, 50, 95])
@pytest.mark.parametrize("draw", ["standard_cauchy", "standard_exponential"])
def test_intervals_cover_whatever_the_distribution(percent, draw):
    truth = {"standard_cauchy": scipy.stats.cauchy, "standard_exponential": scipy.stats.expon}[draw].ppf(percent / 100)
    rows = getattr(np.random.default_rng(percent), draw)((200, 2000))
    found = percentiles_with_interval(rows, (percent,))
    covered = np.mean((found.lows[0] <= truth) & (truth <= found.highs[0]))
    assert 0.935 < covered <= 0.99


def test_positions_that_repeat_each_other_add_no_certainty():
    rows = np.random.default_rng(0).standard_normal(60)
    repeated = percentiles_with_interval(np.repeat(rows, 9), n_independent=60)
    alone = percentiles_with_interval(rows)
    assert repeated.lows == pytest.approx(alone.lows, nan_ok=True)
    assert repeated.highs == pytest.approx(alone.highs, nan_ok=True)
    assert repeated.n == 60


def test_sparse_units_and_units_that_are_not_finite():
    rows = np.zeros((100, 3))
    rows[:, 1] = np.arange(100)
    rows[3, 2] = np.nan
    found = percentiles_with_interval(rows)
    assert found.values[:, 0].tolist() == [0.0] * 7
    assert np.isnan(found.values[:, 2]).all()
    assert np.isnan(found.lows[:, 2]).all()
    assert found.values[3, 1] == pytest.approx(49.5)
    empty = percentiles_with_interval(np.zeros((0, 3)))
    assert empty.n == 0
    assert np.isnan(empty.values).all()


def test_wrong_use():
    with pytest.raises(ValueError, match="between 0 and 100"):
        percentiles_with_interval(np.arange(5.0), (101,))
    with pytest.raises(ValueError, match="6 independent samples among 5"):
        percentiles_with_interval(np.arange(5.0), n_independent=6)
