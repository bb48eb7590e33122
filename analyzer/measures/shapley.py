"""Shapley values: the one split of a total among players that is fair to the order in which they join."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from analyzer.errors import ConfigError
from analyzer.measures.random_streams import stream

Floats = NDArray[np.float64]
Coalition = NDArray[np.bool_]

LEVEL = 0.95


@dataclass(frozen=True, kw_only=True, eq=False)
class ShapleyValues:
    """What each player brings; over all players the values add up to v(all) − v(none), sampled or not.

    Attributes:
        values: ``(players, …)``, in the unit of v; behind the first axis the shape of what v returned.
        interval: ``(players, …, 2)``: 95 % interval of what the sampling of orders leaves open. It says nothing of the
            data that v was measured on. Both ends are the value where all coalitions were tried.
        n_evaluations: How many coalitions were evaluated.
        exact: Whether these were all.
    """

    values: Floats
    interval: Floats
    n_evaluations: int
    exact: bool


def shapley_values(
    value: Callable[[Coalition], float | Floats], n_players: int, *, n_permutations: int = 200, seed: int = 0
) -> ShapleyValues:
    """Mean of what a player adds to those who joined before it, over all orders of joining (Shapley 1953).

    All 2^players coalitions are evaluated where the orders asked for would need as many. Else orders are drawn (Castro
    et al. 2009), each together with its reverse, which takes out what is linear in the position (Mitchell et al. 2022,
    arXiv 2104.12199); no coalition is evaluated twice.

    Args:
        value: v: from the coalition, ``(players,)`` of booleans, to a number, or to an array whose entries are games of
            their own, for instance one per sample.
        n_players: Number of players.
        n_permutations: Most orders, at least 4; odd numbers are rounded down.
        seed: Seed of the orders.

    Returns:
        The values. They are NaN where v is.

    Raises:
        ConfigError: If there is no player, or there are fewer than 4 orders.
    """
    if n_players < 1:
        raise ConfigError(f"n_players={n_players!r}: a total is split among at least one player.")
    if n_permutations < 4:
        raise ConfigError(f"n_permutations={n_permutations!r}: expected at least 4; below, there is no interval.")
    known: dict[bytes, Floats] = {}

    def worth(coalition: Coalition) -> Floats:
        key = np.packbits(coalition).tobytes()
        if key not in known:
            known[key] = np.asarray(value(coalition.copy()), dtype=np.float64)
        return known[key]

    n_pairs = n_permutations // 2
    exact = 2**n_players <= 2 * n_pairs * (n_players - 1) + 2
    found = _from_all(worth, n_players) if exact else _from_orders(worth, n_players, n_pairs, stream(seed, 71))
    values, interval = found
    return ShapleyValues(values=values, interval=interval, n_evaluations=len(known), exact=exact)


def _from_all(worth: Callable[[Coalition], Floats], n: int) -> tuple[Floats, Floats]:
    """Every coalition, weighted by the share of orders in which exactly its members come first."""
    coalitions = (np.arange(2**n)[:, None] >> np.arange(n)) & 1 == 1
    nobody = worth(coalitions[0])
    gains = np.stack([worth(coalition) - nobody for coalition in coalitions])
    joined = np.array([0.0] + [1 / (n * comb(n - 1, size - 1)) for size in range(1, n + 1)])
    missed = np.array([1 / (n * comb(n - 1, size)) for size in range(n)] + [0.0])
    size = coalitions.sum(axis=1)
    weights = np.where(coalitions, joined[size][:, None], -missed[size][:, None])
    values: Floats = np.tensordot(weights.T, gains, axes=1)
    return values, np.stack([values, values], axis=-1)


def _from_orders(
    worth: Callable[[Coalition], Floats], n: int, n_pairs: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Mean over pairs of an order and its reverse, with Student's interval."""
    pairs: list[Any] = []
    for _ in range(n_pairs):
        order = rng.permutation(n)
        pairs.append((_added(worth, order) + _added(worth, order[::-1])) / 2)
    drawn = np.stack(pairs)
    values: Floats = drawn.mean(axis=0)
    half = student.ppf((1 + LEVEL) / 2, n_pairs - 1) * drawn.std(axis=0, ddof=1) / np.sqrt(n_pairs)
    return values, np.stack([values - half, values + half], axis=-1)


def _added(worth: Callable[[Coalition], Floats], order: NDArray[np.int64]) -> Floats:
    """What each player adds when they join in this order, ``(players, …)``."""
    coalition = np.zeros(len(order), np.bool_)
    before = worth(coalition)
    added = np.empty((len(order), *before.shape))
    for player in order:
        coalition[player] = True
        after = worth(coalition)
        added[player] = after - before
        before = after
    return added
