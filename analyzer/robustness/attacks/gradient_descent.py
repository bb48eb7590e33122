"""Attacks within a given ε that follow the gradient: FGSM and projected gradient descent (Madry et al., 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.backends import engine
from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.losses import loss_named, margin
from analyzer.robustness.attacks.outcomes import Found
from analyzer.robustness.attacks.threat import Norm, check_norm, project, random_steps, steepest, wide

Tensor = Any
Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class PGD:
    """Projected gradient descent; every point on the way counts, not the last alone.

    Attributes:
        loss: One of `analyzer.robustness.attacks.losses.LOSSES`.
        norm: ``"linf"`` or ``"l2"``.
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

    def run(self, attacked: Attacked, u: Array, y: Array, t: Array, epsilon: Array) -> Found:
        """Attack samples, each within its own ε.

        Args:
            attacked: The model.
            u: Samples from 0 to 1, ``(n, ...)``.
            y: True classes, ``(n,)``.
            t: Classes that targeted losses aim at, ``(n,)``.
            epsilon: ``(n,)``, in units of the box.

        Raises:
            ConfigError: If norm or loss are unknown, or the loss needs more classes.
        """
        check_norm(self.norm)
        step = attacked.program(("pgd", self.loss, self.norm), _stepper(attacked, self.loss, self.norm))
        verdict = attacked.program("pgd verdict", _judge(attacked))
        start = self._starts(u.shape)

        def work(batch: list[Tensor], rows: Array) -> list[Tensor]:
            origin, y, t, epsilon = batch
            point = origin
            if start is not None:
                point = project(origin + _scaled(start[rows], epsilon), origin, epsilon, self.norm)
            size = epsilon * (2.5 / self.steps if self.step_size is None else self.step_size)
            best, fooled = origin, keras.ops.zeros_like(epsilon) > 0
            for _ in range(self.steps):
                point, best, fooled = step(point, origin, y, t, epsilon, size, best, fooled)
            best, fooled = verdict(point, y, best, fooled)
            return [fooled, best]

        fooled, points = attacked.by_batch([u, y, t, epsilon.astype(np.float32)], work)
        return Found(fooled=fooled, points=points)

    def _starts(self, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
        return random_steps(np.random.default_rng(self.seed), shape, self.norm) if self.random_start else None


def fgsm(*, loss: str = "cross_entropy", norm: Norm = "linf") -> PGD:
    """The fast gradient sign method (Goodfellow et al., 2015): one step as long as ε.

    Args:
        loss: See `PGD`.
        norm: See `PGD`.
    """
    return PGD(loss=loss, norm=norm, steps=1, step_size=1.0)


def _scaled(steps: Array, epsilon: Tensor) -> Tensor:
    return keras.ops.convert_to_tensor(steps) * wide(epsilon, steps)


def _stepper(attacked: Attacked, name: str, norm: str) -> Any:
    """One step: a forward and a backward pass to the input, and the verdict on where it started."""
    loss, ops = loss_named(name, attacked.n_classes), keras.ops

    def step(
        values: list[Tensor],
        point: Tensor,
        origin: Tensor,
        y: Tensor,
        t: Tensor,
        epsilon: Tensor,
        size: Tensor,
        best: Tensor,
        fooled: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        z, pullback = engine().vjp(lambda u: attacked.logits(values, u), point)
        fixed = engine().stop_gradient(z)
        _, of_logits = engine().value_and_grad(lambda z: ops.sum(loss(z, y, t)), fixed)
        gradient = pullback(of_logits)
        best, fooled = _noted(fixed, y, point, best, fooled)
        return project(point + wide(size, point) * steepest(gradient, norm), origin, epsilon, norm), best, fooled

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
