"""Drift: distances as SciPy computes them, an interval that covers, and a chance level that holds."""

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from analyzer.measures.shift.drift import drift
from analyzer.measures.shift.samples import samples

pytestmark = pytest.mark.plain


@pytest.mark.parametrize("m", [40, 57, 80])
def test_distances_are_those_of_scipy(m):
    rng = np.random.default_rng(0)
    reference, new = rng.normal(2, 3, (40, 5)), rng.normal(2.5, 4, (m, 5)).round(1)
    found = drift(samples(reference, new), n_draws=0)
    expected = [
        wasserstein_distance(a, b) / np.concatenate([a, b]).std() for a, b in zip(reference.T, new.T, strict=True)
    ]
    np.testing.assert_allclose(found.features, expected, rtol=1e-10)
    assert found.estimate.value == pytest.approx(np.mean(expected))
    assert found.estimate.low is None
    assert found.chance is None


def test_features_that_never_vary_do_not_count_and_points_apart_are_2():
    rng = np.random.default_rng(0)
    reference, new = rng.normal(size=(30, 3)), rng.normal(size=(30, 3))
    reference[:, 0] = new[:, 0] = 4.0
    reference[:, 1], new[:, 1] = 1.0, 7.0
    found = drift(samples(reference, new), n_draws=5)
    assert np.isnan(found.features[0])
    assert found.features[1] == pytest.approx(2)
    assert found.estimate.value == pytest.approx(found.features[1:].mean())
    assert drift(samples(reference[:, :1], new[:, :1]), n_draws=5).estimate.value is None


def test_an_offset_is_covered_and_found_beyond_chance():
    """Two normal distributions of variance 1 whose means are 0.5 apart: together they have variance 1 + 0.25²."""
    truth = 0.5 / np.sqrt(1.0625)
    covered = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        common = rng.normal(size=(2, 150, 1))
        reference, new = (rng.normal(size=(2, 150, 4)) + common) / np.sqrt(2)
        found = drift(samples(reference, new + 0.5), n_draws=100, seed=seed)
        covered += found.estimate.low <= truth <= found.estimate.high
        assert found.estimate.low < found.estimate.value < found.estimate.high
        assert found.estimate.value > found.chance
    # 95 % of 60 are 57; fewer than 51 would have a chance of about one in a thousand.
    assert covered >= 51


def test_chance_is_rarely_exceeded_where_nothing_shifts():
    exceeded = 0
    for seed in range(100):
        reference, new = np.random.default_rng(seed).normal(size=(2, 60, 3))
        found = drift(samples(reference, new), n_draws=100, seed=seed)
        exceeded += found.estimate.value > found.chance
        assert (found.estimate.low > 0) == (found.estimate.value > found.chance)
    # 5 expected; more than 13 have a chance of about one in a thousand.
    assert exceeded <= 13
