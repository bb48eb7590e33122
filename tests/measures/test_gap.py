"""The difference of two estimates against published intervals, closed forms and coverage."""

from __future__ import annotations

import numpy as np
import pytest

from analyzer.data_types.values import Estimate
from analyzer.measures.bootstrap import wilson
from analyzer.measures.gap import difference, relative_difference

pytestmark = pytest.mark.plain


def estimate(value, low=None, high=None, n=100):
    return Estimate(value=value, low=low, high=high, n=n)


def test_difference_of_proportions_is_newcombe():
    # Newcombe, Interval estimation for the difference between independent proportions, Statistics in Medicine 1998,
    # table II, method 10: 56/70 − 48/80.
    gap = difference(wilson(48, 80), wilson(56, 70))
    assert gap.value == pytest.approx(0.2)
    assert (gap.low, gap.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert gap.n == 70


def test_difference_of_symmetric_intervals_adds_squares():
    gap = difference(estimate(1.0, 0.7, 1.3, n=50), estimate(3.0, 2.6, 3.4, n=80))
    assert (gap.value, gap.low, gap.high) == pytest.approx((2.0, 1.5, 2.5))
    assert (gap.n, gap.level, gap.method) == (50, 0.95, "MOVER")


def test_each_end_moves_by_the_ends_that_matter():
    gap = difference(estimate(1.0, 0.9, 2.0), estimate(3.0, 2.0, 3.1))
    assert gap.low == pytest.approx(2 - np.sqrt(2))
    assert gap.high == pytest.approx(2 + np.sqrt(0.02))


def test_without_intervals_or_values():
    gap = difference(estimate(1.0), estimate(3.0, 2.6, 3.4))
    assert (gap.value, gap.low, gap.high, gap.method) == (2.0, None, None, None)
    assert difference(estimate(None), estimate(3.0)).value is None


def test_an_interval_beside_its_value_never_shrinks_the_other():
    gap = difference(estimate(1.0, 1.1, 1.3), estimate(3.0, 2.6, 3.4))
    assert gap.low <= gap.value <= gap.high


@pytest.mark.parametrize(("train", "held_out", "expected"), [(0.5, 1.0, 0.5), (1.0, 0.5, -0.5), (2.0, 2.0, 0.0)])
def test_relative_difference_is_by_the_larger(train, held_out, expected):
    assert relative_difference(estimate(train), estimate(held_out)).value == pytest.approx(expected)


def test_relative_difference_and_its_interval():
    share = relative_difference(estimate(1.0, 0.5, 2.0), estimate(4.0, 2.0, 8.0))
    reach = np.sqrt(2) * np.log(2)
    assert share.value == pytest.approx(0.75)
    assert share.low == pytest.approx(1 - np.exp(-(np.log(4) - reach)))
    assert share.high == pytest.approx(1 - np.exp(-(np.log(4) + reach)))
    mirrored = relative_difference(estimate(4.0, 2.0, 8.0), estimate(1.0, 0.5, 2.0))
    assert (mirrored.value, mirrored.low, mirrored.high) == pytest.approx((-share.value, -share.high, -share.low))


def test_relative_difference_where_it_is_undefined():
    assert relative_difference(estimate(0.0), estimate(1.0)) is None
    assert relative_difference(estimate(None), estimate(1.0)) is None
    share = relative_difference(estimate(0.1, 0.0, 0.2), estimate(1.0, 0.9, 1.1))
    assert (share.value, share.low) == (pytest.approx(0.9), None)


def test_coverage_of_the_difference_of_skewed_means():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(2000):
        train, held_out = rng.exponential(0.5, 300), rng.exponential(1.0, 200)
        pair = []
        for values in (train, held_out):
            half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
            pair.append(estimate(values.mean(), values.mean() - half, values.mean() + half))
        gap, share = difference(*pair), relative_difference(*pair)
        covered.append([gap.low <= 0.5 <= gap.high, share.low <= 0.5 <= share.high])
    assert np.mean(covered, axis=0) == pytest.approx([0.95, 0.95], abs=0.015)
