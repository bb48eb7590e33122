"""Shapley values against brute force over all orders, their axioms, and the coverage of sampled ones."""

from itertools import permutations

import numpy as np
import pytest

from analyzer.errors import ConfigError
from analyzer.measures.shapley import shapley_values

pytestmark = pytest.mark.plain


def game(n_players, seed, shape=()):
    """A game of random worths, v(none) included."""
    worths = np.random.default_rng(seed).normal(size=(2**n_players, *shape))
    return lambda coalition: worths[int(coalition @ 2 ** np.arange(n_players))]


def over_all_orders(value, n_players):
    """The definition, order by order."""
    total, orders = 0.0, list(permutations(range(n_players)))
    for order in orders:
        coalition = np.zeros(n_players, bool)
        added = [None] * n_players
        for player in order:
            before = np.asarray(value(coalition))
            coalition[player] = True
            added[player] = value(coalition) - before
        total = total + np.array(added)
    return total / len(orders)


@pytest.mark.parametrize("n_players", [1, 2, 3, 5, 6])
def test_exact_values_are_the_mean_over_all_orders(n_players):
    value = game(n_players, seed=n_players)
    found = shapley_values(value, n_players)
    assert found.exact
    assert found.n_evaluations == 2**n_players
    np.testing.assert_allclose(found.values, over_all_orders(value, n_players), atol=1e-12)
    np.testing.assert_array_equal(found.interval, np.stack([found.values] * 2, axis=-1))


def test_an_array_of_games_is_split_game_by_game():
    value = game(4, seed=0, shape=(3, 2))
    found = shapley_values(value, 4)
    assert (found.values.shape, found.interval.shape) == ((4, 3, 2), (4, 3, 2, 2))
    for i, j in np.ndindex(3, 2):
        np.testing.assert_allclose(
            found.values[:, i, j], over_all_orders(lambda c, i=i, j=j: value(c)[i, j], 4), atol=1e-12
        )


def test_sampled_values_add_up_to_the_total_and_repeat_no_coalition():
    seen = []
    value = game(12, seed=1)
    found = shapley_values(lambda c: seen.append(c.tobytes()) or value(c), 12, n_permutations=20)
    assert not found.exact
    assert found.n_evaluations == len(seen) == len(set(seen)) <= 20 * 11 + 2
    total = value(np.ones(12, bool)) - value(np.zeros(12, bool))
    np.testing.assert_allclose(found.values.sum(), total, atol=1e-12)


def test_sampled_intervals_cover_the_exact_values():
    value = game(8, seed=2)
    exact = shapley_values(value, 8)
    assert exact.exact
    covered = []
    for seed in range(60):
        found = shapley_values(value, 8, n_permutations=24, seed=seed)
        assert not found.exact
        covered.append((found.interval[:, 0] <= exact.values) & (exact.values <= found.interval[:, 1]))
    assert 0.92 <= np.mean(covered) <= 0.98


def test_an_order_with_its_reverse_leaves_nothing_open_in_a_game_of_pairs():
    """Worths that are sums over members and pairs of members: an order and its reverse halve a pair's worth."""
    rng = np.random.default_rng(3)
    own, together = rng.normal(size=16), np.triu(rng.normal(size=(16, 16)), 1)
    found = shapley_values(lambda c: own @ c + c @ together @ c, 16, n_permutations=4)
    assert not found.exact
    np.testing.assert_allclose(found.values, own + (together + together.T).sum(axis=1) / 2, atol=1e-12)
    np.testing.assert_allclose(np.ptp(found.interval, axis=-1), 0, atol=1e-11)


def test_seeds_decide_the_orders():
    value = game(12, seed=4)
    one, same, other = (shapley_values(value, 12, n_permutations=10, seed=seed).values for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize(("n_players", "n_permutations"), [(0, 200), (3, 3)])
def test_no_player_and_too_few_orders_are_refused(n_players, n_permutations):
    with pytest.raises(ConfigError, match=r"expected at least 4|at least one player"):
        shapley_values(lambda c: c.sum(), n_players, n_permutations=n_permutations)
