"""Decoupled direction and norm (Rony et al., 2019, arXiv 1811.09600): the shortest L2 step, its length found apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.losses import cross_entropy, margin
from analyzer.robustness.attacks.minimum_norm import nearer, nothing_yet, of_rightly_decided
from analyzer.robustness.attacks.outcomes import Distances
from analyzer.robustness.attacks.threat import length, steepest, wide

Tensor = Any
Array = NDArray[Any]

FIRST_RATE, LAST_RATE = 1.0, 0.01
"""Lengths of the steps along the gradient, in units of the box; between them the rate follows half a cosine."""


@dataclass(frozen=True, kw_only=True)
class DDN:
    """The published attack, without its rounding to 256 values; every point on the way counts.

    The gradient is that of cross-entropy in a form that does not saturate: its direction is the same.

    Attributes:
        steps: Gradients.
        gamma: By what share the length shrinks after a wrong decision, and grows after a right one.
        first_length: What the length begins with, in units of the box.
    """

    steps: int = 100
    gamma: float = 0.05
    first_length: float = 1.0

    def run(self, attacked: Attacked, u: Array, y: Array) -> Distances:
        """Find for each sample a wrong decision nearby, in the L2 norm.

        Args:
            attacked: The model.
            u: Samples from 0 to 1, ``(n, ...)``.
            y: True classes, ``(n,)``.
        """
        return of_rightly_decided(attacked, u, y, lambda u, y: self._search(attacked, u, y))

    def rates(self) -> NDArray[np.float32]:
        """Lengths of the steps along the gradient, ``(steps,)``."""
        share = (1 + np.cos(math.pi * np.arange(self.steps) / self.steps)) / 2
        return np.asarray(LAST_RATE + (FIRST_RATE - LAST_RATE) * share, np.float32)

    def _search(self, attacked: Attacked, u: Array, y: Array) -> tuple[Array, Array]:
        step = attacked.stepper(("ddn", self.gamma), _stepper(attacked, self.gamma))
        verdict = attacked.program("ddn verdict", _judge(attacked))

        def work(batch: list[Tensor], rows: Array) -> list[Tensor]:
            del rows
            origin, y = batch
            point, (best, shortest) = origin, nothing_yet(origin)
            budget = keras.ops.full_like(shortest, self.first_length)
            for rate in self.rates():
                point, budget, best, shortest = step(
                    point, origin, y, keras.ops.convert_to_tensor(rate), budget, best, shortest
                )
            return list(verdict(point, origin, y, best, shortest))

        points, lengths = attacked.by_batch([u, y], work)
        return points, lengths


def _stepper(attacked: Attacked, gamma: float) -> Any:
    """One step: the verdict on where it starts decides the length, the gradient there the direction."""
    ops = keras.ops

    def step(
        values: list[Tensor],
        point: Tensor,
        origin: Tensor,
        y: Tensor,
        rate: Tensor,
        budget: Tensor,
        best: Tensor,
        shortest: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        z, _, gradient = attacked.slope(values, point, lambda z: cross_entropy(z, y, y))
        best, shortest = nearer(z, y, point, origin, best, shortest, "l2")
        step = point - origin + rate * steepest(gradient, "l2")
        budget = budget * ops.where(margin(z, y, y) >= 0, 1 - gamma, 1 + gamma)
        # Nothing in the box is further away; a budget that outgrew it would take long to come back.
        budget = ops.minimum(budget, length(ops.maximum(origin, 1 - origin), "l2"))
        step = step * wide(budget / ops.maximum(length(step, "l2"), 1e-12), step)
        return ops.clip(origin + step, 0.0, 1.0), budget, best, shortest

    return step


def _judge(attacked: Attacked) -> Any:
    def verdict(
        values: list[Tensor], point: Tensor, origin: Tensor, y: Tensor, best: Tensor, shortest: Tensor
    ) -> tuple[Tensor, Tensor]:
        return nearer(attacked.logits(values, point), y, point, origin, best, shortest, "l2")

    return verdict
