"""Auto-PGD (Croce & Hein, 2020, arXiv 2003.01690): projected gradient descent that chooses its steps itself."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ConfigError
from analyzer.robustness.attacks import apgd_l1
from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.losses import Loss, loss_named, margin
from analyzer.robustness.attacks.minimum_norm import likeliest
from analyzer.robustness.attacks.outcomes import Found
from analyzer.robustness.attacks.survivors import Attempt, first_found, own_starts
from analyzer.robustness.attacks.threat import Norm, check_epsilon, check_norm, project, steepest, wide

Tensor = Any
Array = NDArray[Any]

MOMENTUM = 0.75
"""How much of a move is the new step; the rest repeats the last move."""
RISING = 0.75
"""The share of steps between two checkpoints that must raise the loss, or steps are halved."""


@dataclass(frozen=True, kw_only=True)
class APGD:
    """Projected gradient descent with momentum, whose steps start at 2 ε and are halved where they bring too little.

    Every point on the way counts, not the last alone. Targeted losses aim at one class after the other, the likeliest
    first, each time on the samples that are left. In L1 the walk is that of `apgd_l1`.

    Attributes:
        loss: One of `analyzer.robustness.attacks.losses.LOSSES`.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        steps: Moves per start; there is one gradient more.
        restarts: Random starts, for targeted losses in each class.
        targets: Most classes that targeted losses aim at.
        seed: Of the random starts.
    """

    loss: str = "cross_entropy"
    norm: Norm = "linf"
    steps: int = 100
    restarts: int = 1
    targets: int = 9
    seed: int = 0

    def run(self, attacked: Attacked, u: Array, y: Array, epsilon: Array) -> Found:
        """Attack samples, each within its own ε.

        Args:
            attacked: The model.
            u: Samples from 0 to 1, ``(n, ...)``.
            y: True classes, ``(n,)``.
            epsilon: ``(n,)``, in units of the box.

        Raises:
            ConfigError: If norm or loss are unknown, the loss needs more classes, a number is below 1, or a radius is
                not above 0.
            DataError: If samples are outside of 0 to 1, or classes are not the model's.
        """
        check_norm(self.norm)
        loss_named(self.loss, attacked.n_classes)
        for name in ("steps", "restarts", "targets"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: expected 1 or more.")
        radii = check_epsilon(epsilon, len(u)).astype(np.float32)
        return first_found(attacked, u, y, self._attempts(attacked, u, y, radii))

    def _attempts(self, attacked: Attacked, u: Array, y: Array, epsilon: Array) -> Iterator[Attempt]:
        aimed = self.loss.startswith("targeted")
        aims = likeliest(attacked, u, y, self.targets) if aimed else y[:, None]
        for restart in range(self.restarts):
            for rank, t in enumerate(aims.T):
                yield functools.partial(self._from_a_start, attacked, [u, y, t, epsilon], (restart, rank))

    def _from_a_start(self, attacked: Attacked, arrays: list[Array], purpose: tuple[int, int], rows: Array) -> Found:
        """One walk per sample from a random point of its ball."""
        u, y, t, epsilon = (array[rows] for array in arrays)
        loss = loss_named(self.loss, attacked.n_classes)
        make = apgd_l1.stepper(attacked, loss) if self.norm == "l1" else _stepper(attacked, loss, self.norm)
        step = attacked.stepper(("apgd", self.loss, self.norm), make)

        def work(batch: list[Tensor], at: Array) -> list[Tensor]:
            origin, y, t, epsilon = batch
            if self.norm == "l1":
                noise = keras.ops.convert_to_tensor(apgd_l1.starts(u[at], self.seed, *purpose))
                return apgd_l1.walk(step, origin, y, t, epsilon, noise, self.steps)
            start = own_starts(u[at], self.norm, self.seed, *purpose)
            walk = _beginning(origin, keras.ops.convert_to_tensor(start), epsilon, self.norm)
            for span, share in _spans(self.steps):
                amounts = keras.ops.convert_to_tensor(span), keras.ops.convert_to_tensor(share)
                walk = step(walk, origin, y, t, epsilon, *amounts)
            return [walk.fooled, walk.found]

        fooled, points = attacked.by_batch([u, y, t, epsilon], work)
        return Found(fooled=fooled, points=points)


def checkpoints(steps: int) -> list[int]:
    """Steps after which the length of steps is reconsidered: 0, then .22 of all, then gaps shrinking by .03 to .06.

    Args:
        steps: How many there are.
    """
    at, gap = [0, 22], 22
    while at[-1] < 100:
        gap = max(gap - 3, 6)
        at.append(at[-1] + gap)
    return sorted({-(-share * steps // 100) for share in at if share <= 100})


def _spans(steps: int) -> list[tuple[Array, Array]]:
    """For each look: how many steps lie between this checkpoint and the last, -1 between them, and the momentum."""
    at, spans = checkpoints(steps), np.full(steps + 1, -1.0, np.float32)
    spans[at] = np.diff(at, prepend=0)
    moves = np.full(steps + 1, MOMENTUM, np.float32)
    moves[0] = 1.0
    return list(zip(spans, moves, strict=True))


class _Walk(NamedTuple):
    """Where each sample's walk is: one row per sample."""

    point: Tensor
    previous: Tensor
    loss: Tensor
    size: Tensor
    rises: Tensor
    best: Tensor
    best_loss: Tensor
    best_gradient: Tensor
    best_before: Tensor
    halved: Tensor
    found: Tensor
    fooled: Tensor


def _beginning(origin: Tensor, start: Tensor, epsilon: Tensor, norm: str) -> _Walk:
    ops = keras.ops
    point = project(origin + start * wide(epsilon, start), origin, epsilon, norm)
    none, nothing = ops.zeros_like(epsilon), ops.zeros_like(epsilon) > 0
    lowest = ops.full_like(epsilon, -float("inf"))
    return _Walk(
        point=point,
        previous=point,
        loss=-lowest,
        size=2 * epsilon,
        rises=none,
        best=point,
        best_loss=lowest,
        best_gradient=ops.zeros_like(point),
        best_before=lowest,
        halved=nothing,
        found=origin,
        fooled=nothing,
    )


def _stepper(attacked: Attacked, loss: Loss, norm: str) -> Any:
    """A look at where the walks are, at checkpoints a verdict on the length of their steps, and a move."""

    def step(
        values: list[Tensor],
        walk: _Walk,
        origin: Tensor,
        y: Tensor,
        t: Tensor,
        epsilon: Tensor,
        span: Tensor,
        share: Tensor,
    ) -> _Walk:
        z, reached, gradient = attacked.slope(values, walk.point, lambda z: loss(z, y, t))
        walk = _noted(walk, reached, gradient, margin(z, y, y) >= 0)
        walk, gradient = _reconsidered(walk, gradient, span)
        return _moved(walk, gradient, origin, epsilon, share, norm)

    return step


def _noted(walk: _Walk, reached: Tensor, gradient: Tensor, wrong: Tensor) -> _Walk:
    """What the point brings: whether it is the first that fools, whether the best, and whether the loss rose."""
    ops = keras.ops
    first = wide(ops.logical_and(wrong, ops.logical_not(walk.fooled)), walk.point)
    better = reached > walk.best_loss
    return walk._replace(
        found=ops.where(first, walk.point, walk.found),
        fooled=ops.logical_or(walk.fooled, wrong),
        best=ops.where(wide(better, walk.point), walk.point, walk.best),
        best_loss=ops.where(better, reached, walk.best_loss),
        best_gradient=ops.where(wide(better, walk.point), gradient, walk.best_gradient),
        rises=walk.rises + ops.cast(reached > walk.loss, "float32"),
        loss=reached,
    )


def _reconsidered(walk: _Walk, gradient: Tensor, span: Tensor) -> tuple[_Walk, Tensor]:
    """At a checkpoint: walks that rose too seldom, or whose best stands still, go on from it with half the steps."""
    ops = keras.ops
    now = span >= 0
    seldom = walk.rises < RISING * span
    still = ops.logical_and(ops.logical_not(walk.halved), walk.best_loss <= walk.best_before)
    halve = ops.logical_and(now, ops.logical_or(seldom, still))
    there = wide(halve, walk.point)
    walk = walk._replace(
        point=ops.where(there, walk.best, walk.point),
        loss=ops.where(halve, walk.best_loss, walk.loss),
        size=ops.where(halve, walk.size / 2, walk.size),
        rises=ops.where(now, 0.0, walk.rises),
        best_before=ops.where(now, walk.best_loss, walk.best_before),
        halved=ops.where(now, halve, walk.halved),
    )
    return walk, ops.where(there, walk.best_gradient, gradient)


def _moved(walk: _Walk, gradient: Tensor, origin: Tensor, epsilon: Tensor, share: Tensor, norm: str) -> _Walk:
    """A step up the gradient, mixed with the last move."""
    point = walk.point
    ahead = project(point + wide(walk.size, point) * steepest(gradient, norm), origin, epsilon, norm)
    mixed = point + share * (ahead - point) + (1 - share) * (point - walk.previous)
    return walk._replace(point=project(mixed, origin, epsilon, norm), previous=point)
