"""Attacks one after another, and what AutoAttack is made of."""

import dataclasses
from dataclasses import dataclass, field

import numpy as np
import pytest

from analyzer.errors import ConfigError
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
    epsilon = np.maximum(exact, 0.01) * np.where(np.arange(len(x)) % 2, 0.99, 1.01)
    found = standard_tier(2).run(oracle.attacked(oracle.trained(kernel, bias), x), x, y, epsilon)
    np.testing.assert_array_equal(found.fooled, epsilon >= exact)


def described(attack):
    """Name, loss, restarts and targets of an attack, as far as it has them."""
    inner = getattr(attack, "attack", attack)
    names = ("loss", "restarts", "targeted", "targets")
    return (type(inner).__name__, *(getattr(inner, name) for name in names if hasattr(inner, name)))


CE, DLR, APGD_T = ("APGD", "cross_entropy"), ("APGD", "dlr"), ("APGD", "targeted_dlr", 1)
PUBLISHED = {
    "standard": [(*CE, 1), APGD_T, ("FAB", 1, True), ("Square",)],
    "plus": [(*CE, 5), (*DLR, 5), ("FAB", 5, False), ("Square",), APGD_T, ("FAB", 1, True)],
    "rand": [(*CE, 1), (*DLR, 1)],
}


@pytest.mark.parametrize(("norm", "targets"), [("linf", 9), ("l2", 9), ("l1", 5)])
@pytest.mark.parametrize("version", PUBLISHED)
def test_autoattack_is_what_was_published(version, norm, targets):
    ensemble = autoattack(10, norm=norm, version=version)
    for attack, expected in zip(ensemble.attacks, PUBLISHED[version], strict=True):
        inner, found = getattr(attack, "attack", attack), described(attack)
        assert found[: len(expected)] == expected
        assert inner.norm == norm
        assert getattr(inner, "queries", 5000) == 5000
        assert getattr(inner, "steps", 100) == 100
        if expected == APGD_T or expected[-1] is True:
            assert inner.targets == targets
    assert ensemble.draws == (20 if version == "rand" else 1)


def test_few_classes_get_losses_that_apply():
    for version in ("standard", "plus", "rand"):
        two, three = ([described(attack)[1] for attack in autoattack(n, version=version).attacks[:2]] for n in (2, 3))
        assert two == ["cross_entropy", "targeted_margin" if version == "standard" else "margin"]
        assert three == ["cross_entropy", "targeted_margin" if version == "standard" else "dlr"]


def test_an_unknown_version_is_refused():
    with pytest.raises(ConfigError, match="version='fast': expected one of standard, plus, rand"):
        autoattack(10, version="fast")


def standard(n_classes):
    """The whole of the standard version, with a sixth of its queries, which take most of its time."""
    *others, square = autoattack(n_classes).attacks
    return Ensemble(attacks=(*others, dataclasses.replace(square, queries=800)))


def test_a_whole_run_has_no_wrong_verdict_on_a_linear_softmax():
    x, y = oracle.digits()
    kernel, bias = oracle.linear_weights(x[:1400], y[:1400])
    rows = np.flatnonzero(y < 4)[-8:]
    x, y, kernel, bias = x[rows], y[rows], kernel[:, :4], bias[:4]
    exact = oracle.exact_distances(x, y, kernel, bias)
    # Every sample is attacked a little within its distance, and a little beyond.
    rows, sides = np.repeat(np.flatnonzero(exact > 0), 2), np.tile([-1, 1], np.count_nonzero(exact > 0))
    epsilon = exact[rows] + 1.5e-4 * sides
    attacked = oracle.attacked(oracle.trained(kernel, bias), x)
    found = standard(4).run(attacked, x[rows], y[rows], epsilon)
    np.testing.assert_array_equal(found.fooled, sides > 0)
    assert (np.abs(found.points - x[rows]).max(1) <= epsilon + 1e-6).all()


def test_a_whole_run_on_a_net_misses_nothing_that_a_search_of_corners_finds():
    rng = np.random.default_rng(1)
    _, model = oracle.small_net(rng)
    x = rng.uniform(0.2, 0.8, (12, 8)).astype("float32")
    attacked = oracle.attacked(model, x)
    y, epsilon = attacked.all_logits(x).argmax(1), np.full(12, 0.1)
    found = standard(5).run(attacked, x, y, epsilon)
    assert 1 <= np.count_nonzero(found.fooled) < 12
    assert not attacked.correct(found.points[found.fooled], y[found.fooled]).any()
    assert (np.abs(found.points - x).max(1) <= 0.1 + 1e-6).all()
    # All corners of the ball, its faces and its middle: 3^8 points.
    steps = 0.1 * np.stack(np.meshgrid(*[[-1, 0, 1]] * 8), axis=-1).reshape(-1, 8)
    for row in np.flatnonzero(~found.fooled):
        assert attacked.correct((x[row] + steps).astype("float32"), np.full(len(steps), y[row])).all()
