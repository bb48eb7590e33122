"""DeepFool (Moosavi-Dezfooli et al., 2016, arXiv 1511.04599): to the nearest of the linearised boundaries, repeatedly.

Steps are added up without the bounds and only the sum is clipped. On a linear model it then keeps growing along the
shortest way of an unbounded input, which clipped is the shortest within the bounds too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from numpy.typing import NDArray

from analyzer.backends import engine
from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.losses import margin, targeted_margin
from analyzer.robustness.attacks.minimum_norm import (
    likeliest,
    nearer,
    nothing_yet,
    of_rightly_decided,
    to_boundary,
    towards,
)
from analyzer.robustness.attacks.outcomes import Distances
from analyzer.robustness.attacks.threat import Norm, check_norm, length, steepest, wide

Tensor = Any
Array = NDArray[Any]


_LEAST = 1e-4
"""The least step, as a share of the way so far: where the bounds take a part of every step, the boundary is neared
without end, until a step is lost to rounding."""


@dataclass(frozen=True, kw_only=True)
class DeepFool:
    """The published attack; a sample stops at its first point that is decided wrongly.

    Attributes:
        norm: ``"linf"`` or ``"l2"``.
        steps: Most steps; each costs a forward pass and a backward pass per candidate.
        candidates: Most classes that are looked at, the likeliest of the sample, the true one among them.
        overshoot: By what share the sum of the steps is lengthened, so that it crosses the boundary.
    """

    norm: Norm = "linf"
    steps: int = 50
    candidates: int = 10
    overshoot: float = 0.02

    def run(self, attacked: Attacked, u: Array, y: Array) -> Distances:
        """Find for each sample a wrong decision nearby.

        Args:
            attacked: The model.
            u: Samples from 0 to 1, ``(n, ...)``.
            y: True classes, ``(n,)``.

        Raises:
            ConfigError: If the norm is unknown.
        """
        check_norm(self.norm, ("linf", "l2"))
        return of_rightly_decided(attacked, u, y, lambda u, y: self._search(attacked, u, y))

    def _search(self, attacked: Attacked, u: Array, y: Array) -> tuple[Array, Array]:
        key = ("deepfool", self.norm, self.overshoot)
        step = attacked.program(key, _stepper(attacked, self.norm, self.overshoot))
        verdict = attacked.program(("deepfool verdict", self.norm), _judge(attacked, self.norm))

        def work(batch: list[Tensor], rows: Array) -> list[Tensor]:
            del rows
            origin, y, candidates = batch
            point, total = origin, keras.ops.zeros_like(origin)
            for _ in range(self.steps):
                point, total, wrong = step(point, total, origin, y, candidates)
                if engine().to_numpy(wrong).all():
                    break
            return list(verdict(point, origin, y))

        candidates = likeliest(attacked, u, y, self.candidates - 1)
        points, lengths = attacked.by_batch([u, y, candidates], work)
        return points, lengths


def _stepper(attacked: Attacked, norm: str, overshoot: float) -> Any:
    """One step of the samples that are still decided rightly, and which of them no longer are where it started."""
    ops = keras.ops

    def step(
        values: list[Tensor], point: Tensor, total: Tensor, origin: Tensor, y: Tensor, candidates: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        z, pullback = engine().vjp(lambda u: attacked.logits(values, u), point)
        wrong = margin(z, y, y) >= 0
        nearest = ops.full_like(z[:, 0], float("inf"))
        direction = ops.zeros_like(point)
        for rank in range(candidates.shape[1]):
            t = candidates[:, rank]
            gradient = pullback(towards(y, t, attacked.n_classes))
            distance = to_boundary(targeted_margin(z, y, t), gradient, norm)
            closer = distance < nearest
            nearest = ops.where(closer, distance, nearest)
            direction = ops.where(wide(closer, point), steepest(gradient, norm), direction)
        moving = ops.logical_and(ops.logical_not(wrong), nearest < float("inf"))
        amount = ops.maximum(nearest, _LEAST * length(total, norm))
        total = total + wide(ops.where(moving, amount, 0.0), point) * direction
        moved = ops.clip(origin + (1 + overshoot) * total, 0.0, 1.0)
        return ops.where(wide(moving, point), moved, point), total, wrong

    return step


def _judge(attacked: Attacked, norm: str) -> Any:
    def verdict(values: list[Tensor], point: Tensor, origin: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return nearer(attacked.logits(values, point), y, point, origin, *nothing_yet(origin), norm)

    return verdict
