"""The tiers of an analysis: how hard a model is attacked before its robustness is believed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from analyzer.config import Tier
from analyzer.errors import ConfigError
from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.autoattack import Attack, autoattack, standard_tier
from analyzer.robustness.attacks.nearest import shortened
from analyzer.robustness.attacks.outcomes import Distances
from analyzer.robustness.attacks.screen import screen
from analyzer.robustness.attacks.threat import Norm

Array = NDArray[Any]

LEAST_GAIN = 0.02
"""A stronger attack is run again where it brought a sample nearer by more than this share of ε_max."""


def attack_in_tier(
    attacked: Attacked,
    u: Array,
    y: Array,
    epsilons: Array,
    *,
    tier: Tier,
    norm: Norm = "linf",
    seed: int = 0,
    progress: Callable[[str, int, int], None] = lambda _what, _done, _total: None,
) -> Distances:
    """How far each sample is from a wrong decision, as far as the attacks of a tier can tell.

    The stronger tiers begin with what `screen` found and attack every sample just within that, and again while they
    find something nearer, so that their distances are never longer.

    Args:
        attacked: The model.
        u: Samples from 0 to 1, ``(n, ...)``.
        y: True classes, ``(n,)``.
        epsilons: Radii that `screen` tells apart, ascending, in units of the box; the last is the largest looked at.
        tier: ``"screen"``, ``"standard"`` or ``"full"``.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        seed: Of random starts and squares.
        progress: Called with what is being done, steps done and steps in all.

    Raises:
        ConfigError: If there is no such tier; see also `screen`.
        DataError: See `screen`.
    """
    if tier not in get_args(Tier):
        raise ConfigError(f"tier={tier!r}: expected one of {', '.join(get_args(Tier))}.")
    found = screen(attacked, u, y, epsilons, norm=norm, told=functools.partial(progress, "attacks"))
    if tier == "screen":
        return found
    made = {"standard": standard_tier, "full": autoattack}[tier]
    attack: Attack = made(attacked.n_classes, norm=norm, seed=seed)
    progress(f"attacks ({tier})", 0, 1)
    nearer = _nearer(attacked, attack, u, y, found, float(epsilons[-1]), norm)
    progress(f"attacks ({tier})", 1, 1)
    return nearer


def _nearer(
    attacked: Attacked, attack: Attack, u: Array, y: Array, found: Distances, largest: float, norm: Norm
) -> Distances:
    """Attack within the distances found, as long as that brings samples nearer."""
    distance, points = found.distance.copy(), found.points.copy()
    step = LEAST_GAIN * largest
    rows = np.flatnonzero(distance > 0)
    while len(rows):
        # A radius below the smallest step cannot be told from 0.
        radius = np.minimum(distance[rows], largest + step) - step
        rows, radius = rows[radius > 0], radius[radius > 0]
        if not len(rows):
            break
        hit = attack.run(attacked, u[rows], y[rows], radius)
        rows, radius = rows[hit.fooled], radius[hit.fooled]
        if not len(rows):
            break
        nearer, lengths = shortened(attacked, u[rows], hit.points[hit.fooled], y[rows], norm)
        distance[rows], points[rows] = np.minimum(lengths, radius), nearer
    return Distances(distance=distance, points=points)
