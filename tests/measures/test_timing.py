"""The median of repetitions and its interval."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analyzer.measures.timing import median_estimate

pytestmark = pytest.mark.plain


def test_interval_lies_between_the_order_statistics_of_the_table():
    # Conover (1999), table A3: for n = 20 the 6th and the 15th value enclose the median with 95.9 %.
    found = median_estimate(np.arange(1.0, 21.0)[::-1])
    assert (found.value, found.low, found.high, found.n) == (10.5, 6.0, 15.0, 20)


def test_too_few_repetitions_have_no_interval_and_none_has_no_median():
    five, six, none = (median_estimate(np.arange(n)) for n in (5, 6, 0))
    assert (five.value, five.low, five.high) == (2.0, None, None)
    assert (six.low, six.high) == (0.0, 5.0)
    assert (none.value, none.n) == (None, 0)


@pytest.mark.parametrize("n", [8, 31])
def test_it_covers_the_median_of_a_skewed_distribution(n):
    rng = np.random.default_rng(0)
    draws = rng.lognormal(size=(2000, n))
    found = [median_estimate(row) for row in draws]
    covered = np.mean([one.low <= 1.0 <= one.high for one in found])
    assert covered > 0.95 - 3 * stats.bernoulli(0.95).std() / np.sqrt(2000)
