"""Tiers: the stronger ones go on where the screen stopped, and never report a longer distance."""

import numpy as np
import pytest

from analyzer.robustness.attacks import tiers
from analyzer.robustness.attacks.outcomes import Distances
from analyzer.robustness.attacks.tiers import attack_in_tier
from tests.robustness.oracle import attacked, digits, exact_distances, linear_weights, trained

N, LARGEST = 24, 0.1
RADII = np.linspace(0, LARGEST, 21)[1:]


@pytest.fixture(scope="module")
def oracle():
    x, y = digits()
    kernel, bias = linear_weights(x[:1400], y[:1400])
    test, labels = x[1400 : 1400 + N], y[1400 : 1400 + N]
    return attacked(trained(kernel, bias), test), test, labels, exact_distances(test, labels, kernel, bias)


def test_the_screen_tells_how_far_it_is(oracle):
    model, u, y, exact = oracle
    told = []
    found = attack_in_tier(model, u, y, RADII, tier="screen", progress=lambda *step: told.append(step))
    within = exact < LARGEST * (1 - 1e-3)
    np.testing.assert_allclose(found.distance[within], exact[within], rtol=0.02, atol=1e-3)
    assert told[0] == ("attacks", 0, 9)
    assert told[-1] == ("attacks", 9, 9)


@pytest.mark.parametrize("tier", ["standard", "full"])
def test_stronger_tiers_find_what_a_weak_screen_missed(oracle, tier, monkeypatch):
    model, u, y, exact = oracle
    # The walk alone is tested here: 5000 queries of Square would find nothing more on a linear model.
    monkeypatch.setattr(tiers, "autoattack", tiers.standard_tier)

    def blind(attacked, u, y, epsilons, **_):
        correct = attacked.correct(u, y)
        return Distances(distance=np.where(correct, np.inf, 0.0), points=u)

    monkeypatch.setattr(tiers, "screen", blind)
    found = attack_in_tier(model, u, y, RADII, tier=tier)
    step = tiers.LEAST_GAIN * LARGEST
    assert (found.distance >= exact - 1e-4).all()
    near = exact < LARGEST - 1e-4
    assert (found.distance[near] <= np.maximum(exact[near], step) + step + 1e-4).all()
    assert np.isinf(found.distance[exact > LARGEST + 1e-4]).all()
    fallen = np.isfinite(found.distance) & (found.distance > 0)
    lengths = np.abs(found.points - u)[fallen].max(axis=1)
    np.testing.assert_allclose(lengths, found.distance[fallen], rtol=1e-3, atol=1e-4)
