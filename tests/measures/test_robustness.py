"""AURA is the area under the robust-accuracy curve, and moves with what it should."""

import numpy as np
import pytest
from scipy.integrate import trapezoid

from analyzer.errors import ConfigError
from analyzer.measures.robustness import aura, aura_shares, robust_accuracy

pytestmark = pytest.mark.plain

DISTANCES = np.concatenate([np.zeros(60), np.random.default_rng(0).gamma(2.0, 0.05, 400), np.full(40, np.inf)])


def test_is_the_area_under_the_curve_of_robust_accuracy():
    radii = np.linspace(0, 0.2, 20001)
    curve = [(epsilon < DISTANCES).mean() for epsilon in radii]
    assert aura(DISTANCES, 0.2, n_bootstrap=0).value == pytest.approx(trapezoid(curve, radii) / 0.2, abs=1e-4)


def test_stays_between_nothing_and_clean_accuracy():
    found = aura(DISTANCES, 0.2, seed=1)
    assert 0 < found.low < found.value < found.high < (DISTANCES > 0).mean()
    assert found.n == len(DISTANCES)
    assert aura(np.zeros(5), 1.0, n_bootstrap=0).value == 0
    assert aura(np.full(5, np.inf), 1.0, n_bootstrap=0).value == 1


def test_units_do_not_matter():
    assert np.allclose(aura_shares(DISTANCES * 255, 51.0), aura_shares(DISTANCES, 0.2))


def test_robust_accuracy_falls_with_the_radius_from_the_clean_one():
    found = [robust_accuracy(DISTANCES, epsilon).value for epsilon in (0.0, 0.05, 0.1, 1.0)]
    assert found[0] == (DISTANCES > 0).mean()
    assert found == sorted(found, reverse=True)
    assert found[-1] == 40 / 500


@pytest.mark.parametrize("radius", [0.0, -1.0, float("nan")])
def test_a_radius_that_is_none_is_refused(radius):
    with pytest.raises(ConfigError, match="above 0"):
        aura(DISTANCES, radius)
