"""Branches: parts of a model that something goes around, and how much of the damage each of them does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.diagnosis.cases import Cases
from analyzer.diagnosis.patchable import Patchable
from analyzer.inspection.call_graph import Firing
from analyzer.inspection.followed import Followed
from analyzer.inspection.selection import LayerCall
from analyzer.inspection.view import ModelView
from analyzer.measures.shapley import ShapleyValues, shapley_values

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class BranchShares:
    """The damage, split among branches.

    Attributes:
        by_branch: ``(n,)`` lead that each branch takes away, by id, in logits.
        around: ``(n,)`` what is left of the damage with all branches as in the moved run: it goes around them.
        order_errors: Half width of the 95 % interval of what the sampling of orders leaves open in the mean over the
            failures, by id, in logits; 0 where all coalitions were tried.
        exact: Whether they were.
        n_evaluations: How many coalitions were tried for each batch, at most.
    """

    by_branch: dict[str, Floats]
    around: Floats
    order_errors: dict[str, float]
    exact: bool
    n_evaluations: int


def find_branches(view: ModelView, places: Sequence[Followed], carrying_all: Collection[str]) -> tuple[LayerCall, ...]:
    """Ends of branches: calls that something goes around, and whose result is merged into what everything goes through.

    Branches within branches (a residual block inside one, the projections of an attention layer) are left out: they
    act through the outer one. Where results are merged by operations between layers, which cannot be seen, whatever
    goes into them counts.

    Args:
        view: The opened model, traced.
        places: What was patched.
        carrying_all: Ids of those that everything goes through, as found by patching.
    """
    graph = _Graph(view, places, carrying_all)
    return tuple(place.call for place in places if place.call.id not in carrying_all and graph.is_end(place.position))


class _Graph:
    """Who takes what whom returns."""

    def __init__(self, view: ModelView, places: Sequence[Followed], carrying_all: Collection[str]) -> None:
        self._firings = view.firings
        self._carrying = {place.position: place.call.id in carrying_all for place in places}
        self._takers: dict[int, list[int]] = defaultdict(list)
        for position, firing in enumerate(view.firings):
            for source in {*firing.sources, *firing.closes}:
                self._takers[source].append(position)

    def is_end(self, position: int) -> bool:
        """Whether a call that does not carry all is the end of a branch."""
        takers = self._takers[position]
        merged = not takers or any(self._merges(self._firings[taker], taker) for taker in takers)
        return merged and all(self._is_open(owner, position) for owner in self._owners(position))

    def _merges(self, firing: Firing, position: int) -> bool:
        if len(set(firing.sources)) > 1 or firing.closes:
            return self._carrying.get(position, False)
        return firing.inferred

    def _is_open(self, owner: int, position: int) -> bool:
        """Whether what happens in a container is no part of a branch: it carries all, or hands on just this result."""
        if owner in self._carrying:
            return self._carrying[owner]
        ends = [p for p in self._carrying if owner in self._owners(p) and self._leaves(owner, p)]
        return position in ends or (bool(ends) and all(self._carrying[end] for end in ends))

    def _leaves(self, owner: int, position: int) -> bool:
        takers = self._takers[position]
        return not takers or any(owner != taker and owner not in self._owners(taker) for taker in takers)

    def _owners(self, position: int) -> list[int]:
        owners = []
        while (owner := self._firings[position].inside) is not None:
            owners.append(owner)
            position = owner
        return owners


def split_among(
    model: Patchable, cases: Cases, branches: Sequence[LayerCall], *, n_permutations: int = 40, seed: int = 0
) -> BranchShares:
    """Shapley values of branches: what each takes away from the lead, averaged over the orders of patching them.

    The worth of a set of branches is the lead that the clean run loses with their results from the moved run. What
    follows is computed anew, so that a branch which only hands on what an earlier one did gets less than that one.

    Args:
        model: The model.
        cases: The samples, and how they were moved.
        branches: The players.
        n_permutations: Most orders, where there are more sets of branches than these would try.
        seed: Seed of the orders.

    Raises:
        ConfigError: If a branch returns no row per sample.
    """
    shares, errors = np.empty((len(branches), len(cases.y))), np.zeros(len(branches))
    parts: list[ShapleyValues] = []
    for rows, x, moved in cases.batches(model.batch_size):
        recorded = model.activations(moved, branches)
        patches = [(call, recorded[call.id]) for call in branches]
        found = shapley_values(
            _game(model, cases, rows, x, patches), len(branches), n_permutations=n_permutations, seed=seed
        )
        shares[:, rows] = found.values[:, :-1]
        # Batches see the same orders, so their errors may add up.
        errors += np.ptp(found.interval[:, -1], axis=-1) / 2
        parts.append(found)
    names = [call.id for call in branches]
    return BranchShares(
        by_branch=dict(zip(names, shares, strict=True)),
        around=cases.lost - shares.sum(axis=0),
        order_errors=dict(zip(names, (errors / cases.failed.sum()).tolist(), strict=True)),
        exact=all(part.exact for part in parts),
        n_evaluations=max(part.n_evaluations for part in parts),
    )


def _game(
    model: Patchable, cases: Cases, rows: slice, x: Any, patches: Sequence[tuple[LayerCall, NDArray[Any]]]
) -> Callable[[NDArray[np.bool_]], Floats]:
    """The games of some samples, and behind them that of their failures together."""

    def worth(coalition: NDArray[np.bool_]) -> Floats:
        chosen = dict(patch for patch, inside in zip(patches, coalition, strict=True) if inside)
        z = cases.z.copy()
        if chosen:
            z[rows] = model.logits(x, chosen)
        lost = cases.taken_away(z)[rows]
        return np.append(lost, lost[cases.failed[rows]].sum())

    return worth
