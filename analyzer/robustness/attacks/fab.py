"""FAB and FAB-T, the fast adaptive boundary attack (Croce & Hein, 2020, arXiv 1907.02044).

Every step linearises the boundary to another class where the point is, and projects both the point and the sample onto
that hyperplane within the box. The next point lies between the two, a little beyond them. FAB-T aims at one class after
the other; FAB takes at every step the class whose linearised boundary is nearest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.backends import engine
from analyzer.errors import ConfigError
from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.l1 import filled
from analyzer.robustness.attacks.losses import margin, targeted_margin
from analyzer.robustness.attacks.minimum_norm import (
    likeliest,
    nearer,
    nothing_yet,
    of_rightly_decided,
    to_boundary,
    towards,
)
from analyzer.robustness.attacks.nearest import shortened
from analyzer.robustness.attacks.outcomes import Distances
from analyzer.robustness.attacks.survivors import own_starts
from analyzer.robustness.attacks.threat import Norm, check_norm, length, project, wide

Tensor = Any
Array = NDArray[Any]

_NOTHING = 1e-8
"""The least that a length counts in a quotient of two, and the least share of the largest slope that counts as one."""

FAR = {"linf": 0.3, "l2": 1.0, "l1": 5.0}
"""How far random starts think of where nothing was found, in units of the box: the published defaults of ε."""


@dataclass(frozen=True, kw_only=True)
class FAB:
    """The published attack, first from the samples themselves; every point on the way counts.

    Attributes:
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        targeted: Whether to aim at one class after the other.
        targets: Most classes that are aimed at, or chosen from, the likeliest first.
        restarts: How often to search; from the second time on from random points, at most half as far from the sample
            as what was found (and where nothing was, as half of `FAR`).
        seed: Of those points.
        steps: Steps per class and restart; each costs two forward passes and a backward pass per class chosen from.
        alpha_max: The largest share of the sample's projection in the next point, which keeps it from straying.
        overshoot: How far beyond a projection to go (η); 1 ends on the hyperplane.
        backward: What share of a step that led to a wrong decision is kept (β), to meet the boundary nearer.
    """

    norm: Norm = "linf"
    targeted: bool = True
    targets: int = 9
    restarts: int = 1
    seed: int = 0
    steps: int = 100
    alpha_max: float = 0.1
    overshoot: float = 1.05
    backward: float = 0.9

    def run(self, attacked: Attacked, u: Array, y: Array) -> Distances:
        """Find for each sample a wrong decision nearby.

        Args:
            attacked: The model.
            u: Samples from 0 to 1, ``(n, ...)``.
            y: True classes, ``(n,)``.

        Raises:
            ConfigError: If the norm is unknown, or a number is below 1.
        """
        check_norm(self.norm)
        for name in ("targets", "restarts", "steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: expected 1 or more.")
        return of_rightly_decided(attacked, u, y, lambda u, y: self._search(attacked, u, y))

    def _search(self, attacked: Attacked, u: Array, y: Array) -> tuple[Array, Array]:
        key = ("fab", self.norm, self.alpha_max, self.overshoot, self.backward)
        step = attacked.program(key, _stepper(attacked, self))

        def work(batch: list[Tensor], rows: Array) -> list[Tensor]:
            origin, y, targets = batch
            best, shortest = nothing_yet(origin)
            each = range(targets.shape[1]) if self.targeted else [slice(None)]
            for restart in range(self.restarts):
                for rank, one in enumerate(each):
                    point = self._start(u[rows], origin, shortest, (restart, rank))
                    t = targets[:, one : one + 1] if isinstance(one, int) else targets
                    for _ in range(self.steps):
                        point, best, shortest = step(point, origin, y, t, best, shortest)
            return [best, shortest]

        points, lengths = attacked.by_batch([u, y, likeliest(attacked, u, y, self.targets)], work)
        return self._nearest(attacked, u, y, points, lengths)

    def _start(self, u: Array, origin: Tensor, shortest: Tensor, purpose: tuple[int, int]) -> Tensor:
        if purpose[0] == 0:
            return origin
        step = keras.ops.convert_to_tensor(own_starts(u, self.norm, self.seed, *purpose))
        radius = keras.ops.minimum(shortest, FAR[self.norm]) / 2
        return project(origin + step * wide(radius, step), origin, radius, self.norm)

    def _nearest(self, attacked: Attacked, u: Array, y: Array, points: Array, lengths: Array) -> tuple[Array, Array]:
        """The final search, along the segment from each sample to the point that was found."""
        hit = np.flatnonzero(np.isfinite(lengths))
        if len(hit):
            points[hit], lengths[hit] = shortened(attacked, u[hit], points[hit], y[hit], self.norm)
        return points, lengths


def onto_hyperplane(x: Tensor, w: Tensor, missing: Tensor, norm: str) -> Tensor:
    """The shortest step within the box to the hyperplane on which ``w @ step`` is what is missing.

    In Linf and L2 it is ``sign * min(λ * pace, room)``, where the pace is 1 (Linf) or ``|w|`` (L2): what it gains is a
    piecewise linear function of λ that bends where a value meets a bound, so the bends are sorted and the piece that
    reaches the hyperplane is solved. In L1 the values of the steepest slopes go as far as they can, one after another.
    Where the box does not reach it, the step leads to the corner nearest to it.

    Args:
        x: Points from 0 to 1, ``(n, d)``.
        w: Normals, ``(n, d)``; a step of length 0 where all is 0.
        missing: ``(n,)`` of either sign.
        norm: One of `analyzer.robustness.attacks.threat.NORMS`.

    Returns:
        ``(n, d)``.
    """
    ops = keras.ops
    largest = ops.max(ops.abs(w), axis=1, keepdims=True)
    w = w / ops.where(largest > 0, largest, 1.0)
    need = ops.abs(missing)[:, None] / ops.where(largest > 0, largest, 1.0)
    sign = ops.sign(w) * ops.sign(missing)[:, None]
    room = ops.where(sign > 0, 1 - x, x)
    slope = ops.where(ops.abs(w) > _NOTHING, ops.abs(w), 0.0)
    counts = slope > 0
    if norm == "l1":
        return sign * filled(slope, ops.where(counts, room, 0.0), ops.where(counts, slope, 1.0), need)
    pace = ops.cast(counts, "float32") if norm == "linf" else slope
    bend = ops.where(counts, room / ops.where(counts, pace, 1.0), 0.0)
    piece = _first_bend_beyond(bend, slope * pace, need)
    # Summed anew, not taken from running sums: those lose digits where few values are left to move.
    free = ops.logical_and(counts, bend >= piece)
    gained = ops.sum(ops.where(free, 0.0, slope * room), axis=1, keepdims=True)
    rise = ops.sum(ops.where(free, slope * pace, 0.0), axis=1, keepdims=True)
    factor = ops.where(rise > 0, (need - gained) / ops.where(rise > 0, rise, 1.0), float("inf"))
    return sign * ops.where(counts, ops.minimum(ops.where(free, factor * pace, room), room), 0.0)


def _first_bend_beyond(bend: Tensor, rises: Tensor, need: Tensor) -> Tensor:
    """The smallest λ among the bends that gains what is needed, ``(n, 1)``; infinity where none does."""
    ops = keras.ops
    order = ops.argsort(bend, axis=1)
    bend, rises = (ops.take_along_axis(each, order, axis=1) for each in (bend, rises))
    # What still rises from each bend on, summed from the end; a value gains ``bend * rise`` until it meets its bound.
    left = ops.flip(ops.cumsum(ops.flip(rises, axis=1), axis=1), axis=1) - rises
    reached = ops.cumsum(bend * rises, axis=1) + bend * left
    return ops.min(ops.where(reached >= need, bend, float("inf")), axis=1, keepdims=True)


def _stepper(attacked: Attacked, attack: FAB) -> Any:
    """One step towards a class, the verdict on where it leads, and part of the way back where that is wrong."""
    ops, norm = keras.ops, attack.norm

    def step(
        values: list[Tensor], point: Tensor, origin: Tensor, y: Tensor, t: Tensor, best: Tensor, shortest: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        missing, gradient = _nearest_boundary(attacked, values, point, y, t, norm)
        x, start, w = (ops.reshape(each, (each.shape[0], -1)) for each in (point, origin, gradient))
        beyond = missing + ops.sum(w * (x - start), axis=1)
        points, normals, gaps = (ops.concatenate(pair) for pair in ([x, start], [w, w], [missing, beyond]))
        here, there = ops.split(onto_hyperplane(points, normals, gaps, norm), 2)
        near, far = (ops.maximum(length(each, norm), _NOTHING) for each in (here, there))
        alpha = ops.minimum(near / (near + far), attack.alpha_max)[:, None]
        moved = (1 - alpha) * (x + attack.overshoot * here) + alpha * (start + attack.overshoot * there)
        point = ops.reshape(ops.clip(moved, 0.0, 1.0), point.shape)
        reached = attacked.logits(values, point)
        best, shortest = nearer(reached, y, point, origin, best, shortest, norm)
        back = origin + attack.backward * (point - origin)
        return ops.where(wide(margin(reached, y, y) >= 0, point), back, point), best, shortest

    return step


def _nearest_boundary(
    attacked: Attacked, values: list[Tensor], point: Tensor, y: Tensor, targets: Tensor, norm: str
) -> tuple[Tensor, Tensor]:
    """What ``z_t - z_y`` misses to 0, and its gradient, for the class t whose linearised boundary is nearest.

    Args:
        attacked: The model.
        values: Those of its variables.
        point: Where to linearise.
        y: True classes.
        targets: ``(n, k)`` classes to choose from.
        norm: What distances are measured in.
    """
    ops = keras.ops
    z, pullback = engine().vjp(lambda u: attacked.logits(values, u), point)

    def linearised(t: Tensor) -> tuple[Tensor, Tensor]:
        return -targeted_margin(z, y, t), pullback(towards(y, t, attacked.n_classes))

    missing, gradient = linearised(targets[:, 0])
    for rank in range(1, targets.shape[1]):
        other, slope = linearised(targets[:, rank])
        closer = to_boundary(other, slope, norm) < to_boundary(missing, gradient, norm)
        missing = ops.where(closer, other, missing)
        gradient = ops.where(wide(closer, point), slope, gradient)
    return missing, gradient
