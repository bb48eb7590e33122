"""Attacks within a given ε that follow the gradient: FGSM and projected gradient descent (Madry et al., 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ConfigError
from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.losses import loss_named, margin
from analyzer.robustness.attacks.minimum_norm import likeliest
from analyzer.robustness.attacks.outcomes import Found
from analyzer.robustness.attacks.survivors import own_starts
from analyzer.robustness.attacks.threat import Norm, check_epsilon, check_norm, into, project, raised, region, wide

Tensor = Any
Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class PGD:
    """Projected gradient descent; every point on the way counts, not the last alone.

    Attributes:
        loss: One of `analyzer.robustness.attacks.losses.LOSSES`.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        steps: Gradients per start.
        step_size: Length of a step, in ε; None for ``2.5 / steps``, which can cross the ball and come back.
        random_start: Whether to begin at a random point of the ball instead of at the sample.
        seed: Of the random starts.
    """

    loss: str = "margin"
    norm: Norm = "linf"
    steps: int = 20
    step_size: float | None = None
    random_start: bool = False
    seed: int = 0

    def run(self, attacked: Attacked, u: Array, y: Array, epsilon: Array, t: Array | None = None) -> Found:
        """Attack samples, each within its own ε.

        Args:
            attacked: The model.
            u: Samples from 0 to 1, ``(n, ...)``.
            y: True classes, ``(n,)``.
            epsilon: ``(n,)``, in units of the box.
            t: Classes that targeted losses aim at, ``(n,)``; None for the likeliest other class of each sample.

        Raises:
            ConfigError: If norm or loss are unknown, the loss needs more classes, or a number is out of range.
            DataError: If samples are outside of 0 to 1, or classes are not the model's.
        """
        check_norm(self.norm)
        if self.steps < 1:
            raise ConfigError(f"steps={self.steps}: expected 1 or more.")
        attacked.check(u, y)
        radii = check_epsilon(epsilon, len(u)).astype(np.float32)
        step = attacked.stepper(("pgd", self.loss, self.norm), _stepper(attacked, self.loss, self.norm))
        verdict = attacked.program("pgd verdict", _judge(attacked))
        if t is None:
            t = likeliest(attacked, u, y, 1)[:, 0] if self.loss.startswith("targeted") else y

        def work(batch: list[Tensor], rows: Array) -> list[Tensor]:
            origin, y, t, epsilon = batch
            point = self._start(u[rows], origin, epsilon)
            size = epsilon * (2.5 / self.steps if self.step_size is None else self.step_size)
            within = region(origin, epsilon, self.norm)
            best, fooled = origin, keras.ops.zeros_like(epsilon) > 0
            for _ in range(self.steps):
                point, best, fooled = step(point, within, y, t, size, best, fooled)
            best, fooled = verdict(point, y, best, fooled)
            return [fooled, best]

        fooled, points = attacked.by_batch([u, y, t, radii], work)
        return Found(fooled=fooled, points=points)

    def _start(self, u: Array, origin: Tensor, epsilon: Tensor) -> Tensor:
        if not self.random_start:
            return origin
        step = keras.ops.convert_to_tensor(own_starts(u, self.norm, self.seed, 0))
        return project(origin + step * wide(epsilon, step), origin, epsilon, self.norm)


def fgsm(*, loss: str = "cross_entropy", norm: Norm = "linf") -> PGD:
    """The fast gradient sign method (Goodfellow et al., 2015): one step as long as ε.

    Args:
        loss: See `PGD`.
        norm: See `PGD`.
    """
    return PGD(loss=loss, norm=norm, steps=1, step_size=1.0)


def _stepper(attacked: Attacked, name: str, norm: str) -> Any:
    """One step: a forward and a backward pass to the input, and the verdict on where it started."""
    loss = loss_named(name, attacked.n_classes)

    def step(
        values: list[Tensor],
        point: Tensor,
        within: list[Tensor],
        y: Tensor,
        t: Tensor,
        size: Tensor,
        best: Tensor,
        fooled: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        z, _, gradient = attacked.slope(values, point, lambda z: loss(z, y, t))
        best, fooled = _noted(z, y, point, best, fooled)
        return into(raised(point, gradient, size, norm), within, norm), best, fooled

    return step


def _judge(attacked: Attacked) -> Any:
    def verdict(values: list[Tensor], point: Tensor, y: Tensor, best: Tensor, fooled: Tensor) -> tuple[Tensor, Tensor]:
        return _noted(attacked.logits(values, point), y, point, best, fooled)

    return verdict


def _noted(z: Tensor, y: Tensor, point: Tensor, best: Tensor, fooled: Tensor) -> tuple[Tensor, Tensor]:
    """The first point found for each sample, and whether there is one."""
    ops = keras.ops
    wrong = margin(z, y, y) >= 0
    newly = ops.logical_and(wrong, ops.logical_not(fooled))
    return ops.where(wide(newly, point), point, best), ops.logical_or(fooled, wrong)
