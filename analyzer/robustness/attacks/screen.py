"""The `screen` tier: how far each sample is from being decided wrongly, as far as multi-targeted PGD can tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ConfigError
from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.gradient_descent import PGD
from analyzer.robustness.attacks.minimum_norm import likeliest
from analyzer.robustness.attacks.nearest import shortened
from analyzer.robustness.attacks.outcomes import Distances
from analyzer.robustness.attacks.threat import Norm, check_epsilon, check_norm

Array = NDArray[Any]

TARGETS = 9
"""Most classes that are aimed at, the likeliest first."""
STEPS = 40


def screen(
    attacked: Attacked,
    u: Array,
    y: Array,
    epsilons: Array,
    *,
    norm: Norm = "linf",
    told: Callable[[int, int], None] = lambda _done, _total: None,
) -> Distances:
    """Attack every sample by margin PGD towards its likeliest classes, each at the ε that still tells something.

    For every class a sample starts at the largest ε at which it still holds, and only where that succeeds the smallest
    one is searched for by bisection. So what is found at one ε counts at all larger ones, and curves are monotone.

    Args:
        attacked: The model.
        u: Samples from 0 to 1, ``(n, ...)``.
        y: True classes, ``(n,)``.
        epsilons: The radii that are told apart, ascending, in units of the box.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        told: Called with how many of the classes were aimed at and how many there are.

    Raises:
        ConfigError: If radii do not ascend, are not above 0 or not finite, or the norm is unknown.
        DataError: If samples are outside of 0 to 1, or classes are not the model's.
    """
    check_norm(norm)
    grid = check_epsilon(epsilons)
    if (np.diff(grid) <= 0).any():
        raise ConfigError(f"epsilons={grid.tolist()}: expected radii that ascend, each once.")
    attack = PGD(loss="targeted_margin", norm=norm, steps=STEPS)
    search = _Search(grid, attacked.correct(u, y), u)
    targets = likeliest(attacked, u, y, TARGETS).T
    for i, t in enumerate(targets):
        told(i, len(targets))
        low = np.zeros(len(u), np.int64)
        probe = search.upper - 1
        while len(rows := np.flatnonzero(probe >= low)):
            found = attack.run(attacked, u[rows], y[rows], grid[probe[rows]], t[rows])
            search.note(rows[found.fooled], probe, found.points[found.fooled])
            missed = rows[~found.fooled]
            low[missed] = probe[missed] + 1
            probe[rows] = (low[rows] + search.upper[rows] - 1) // 2
    told(len(targets), len(targets))
    return search.shortened(attacked, y, norm)


class _Search:
    """The smallest radius of the grid at which each sample falls, so far."""

    def __init__(self, grid: Array, correct: Array, u: Array) -> None:
        self.grid, self.u = grid, u
        self.upper = np.where(correct, len(grid), 0)
        self.correct = correct
        self.points = u.astype(np.float32).copy()

    def note(self, rows: Array, probe: Array, points: Array) -> None:
        """Samples fell at the radius that was tried."""
        self.upper[rows] = probe[rows]
        self.points[rows] = points

    def shortened(self, attacked: Attacked, y: Array, norm: Norm) -> Distances:
        """What was found, moved towards the samples as far as the decision stays wrong."""
        distance = np.where(self.correct, np.inf, 0.0)
        fallen = np.flatnonzero(self.correct & (self.upper < len(self.grid)))
        if len(fallen):
            points, lengths = shortened(attacked, self.u[fallen], self.points[fallen], y[fallen], norm)
            # Rounding may put a step a hair above the radius that it was found within.
            distance[fallen] = np.minimum(lengths, self.grid[self.upper[fallen]])
            self.points[fallen] = points
        return Distances(distance=distance, points=self.points)
