"""Attacks one after another, and what AutoAttack is made of."""

from dataclasses import dataclass, field

import numpy as np

from analyzer.robustness.attacks.autoattack import Ensemble, Within, autoattack, standard_tier
from analyzer.robustness.attacks.outcomes import Distances, Found
from tests.robustness import oracle


@dataclass
class Fools:
    """An attack that fools the samples whose first value is below a bound, and tells how many it was given."""

    below: float
    asked: list = field(default_factory=list)

    def run(self, attacked, u, y, epsilon):
        self.asked.append(len(u))
        return Found(fooled=u[:, 0] < self.below, points=u + np.float32(self.below))


def test_attacks_run_in_turn_on_the_samples_that_are_left():
    u = np.stack([np.linspace(0, 0.9, 10), np.ones(10)], axis=1).astype("float32")
    model = oracle.trained(np.array([[0.0, 1.0], [1.0, 0.0]]), np.zeros(2))
    y = np.array([1] + [0] * 9)
    attacks = (Fools(0.25), Fools(0.45), Fools(0.05))
    found = Ensemble(attacks=attacks).run(oracle.attacked(model, u), u, y, np.full(10, 0.1))
    # The first sample is decided wrongly as it is, and nobody attacks it.
    assert [attack.asked for attack in attacks] == [[9], [7], [5]]
    np.testing.assert_array_equal(found.fooled, u[:, 0] < 0.45)
    moved = np.repeat([0, 0.25, 0.45, 0], [1, 2, 2, 5])
    np.testing.assert_allclose(found.points - u, np.stack([moved, moved], axis=1), atol=1e-6)


def test_a_nearest_decision_counts_within_epsilon():
    class Nearest:
        def run(self, attacked, u, y):
            return Distances(distance=np.array([0.1, 0.3, np.inf]), points=u + np.float32(0.1))

    u = np.zeros((3, 2), "float32")
    found = Within(attack=Nearest()).run(None, u, np.zeros(3), np.array([0.1, 0.2, 0.2]))
    assert found.fooled.tolist() == [True, False, False]
    np.testing.assert_array_equal(found.points[:, 0] > 0, found.fooled)


def test_the_standard_tier_decides_two_classes_exactly():
    x, y = oracle.digits()
    rows = np.flatnonzero(y < 2)[-40:]
    x, y = x[rows], y[rows]
    kernel, bias = oracle.linear_weights(*oracle.digits())
    kernel, bias = kernel[:, :2], bias[:2]
    exact = oracle.exact_distances(x, y, kernel, bias)
    epsilon = exact * np.where(np.arange(len(x)) % 2, 0.99, 1.01)
    found = standard_tier(2).run(oracle.attacked(oracle.trained(kernel, bias), x), x, y, epsilon)
    np.testing.assert_array_equal(found.fooled, epsilon >= exact)


def test_autoattack_is_what_was_published():
    names = [type(attack).__name__ for attack in autoattack(10).attacks]
    assert names == ["APGD", "APGD", "Within", "Square"]
    ce, targeted, fab, square = autoattack(10, norm="l2").attacks
    assert (ce.loss, ce.steps, ce.restarts) == ("cross_entropy", 100, 1)
    assert (targeted.loss, targeted.steps, targeted.targets) == ("targeted_dlr", 100, 9)
    assert (fab.attack.steps, fab.attack.targets) == (100, 9)
    assert square.queries == 5000
    assert {attack.norm for attack in (ce, targeted, fab.attack, square)} == {"l2"}
