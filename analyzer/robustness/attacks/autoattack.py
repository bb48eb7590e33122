"""AutoAttack (Croce & Hein, 2020, arXiv 2003.01690): attacks one after another, each on the samples that are left."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from analyzer.robustness.attacks.apgd import APGD
from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.fab import FAB
from analyzer.robustness.attacks.outcomes import Distances, Found
from analyzer.robustness.attacks.square import Square
from analyzer.robustness.attacks.survivors import first_found
from analyzer.robustness.attacks.threat import Norm

Array = NDArray[Any]


class Attack(Protocol):
    """An attack within a given ε."""

    def run(self, attacked: Attacked, u: Array, y: Array, epsilon: Array) -> Found:
        """Attack samples, each within its own ε."""


class MinimumNorm(Protocol):
    """An attack that looks for the nearest wrong decision."""

    def run(self, attacked: Attacked, u: Array, y: Array) -> Distances:
        """Find for each sample a wrong decision nearby."""


@dataclass(frozen=True, kw_only=True)
class Within:
    """A minimum-norm attack as one within ε: what it finds counts where it is near enough.

    Attributes:
        attack: What looks for the nearest wrong decision.
    """

    attack: MinimumNorm

    def run(self, attacked: Attacked, u: Array, y: Array, epsilon: Array) -> Found:
        """Attack samples, each within its own ε.

        Args:
            attacked: The model.
            u: Samples from 0 to 1, ``(n, ...)``.
            y: True classes, ``(n,)``.
            epsilon: ``(n,)``, in units of the box.
        """
        found = self.attack.run(attacked, u, y)
        near = found.distance <= epsilon
        points = np.where(near.reshape(-1, *(1 for _ in u.shape[1:])), found.points, u)
        return Found(fooled=near, points=points.astype(np.float32))


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Attacks in order: a sample is robust only if none of them fools it.

    Attributes:
        attacks: Each is run on the samples that the earlier ones left.
    """

    attacks: tuple[Attack, ...]

    def run(self, attacked: Attacked, u: Array, y: Array, epsilon: Array) -> Found:
        """Attack samples, each within its own ε.

        Args:
            attacked: The model.
            u: Samples from 0 to 1, ``(n, ...)``.
            y: True classes, ``(n,)``.
            epsilon: ``(n,)``, in units of the box.

        Raises:
            ConfigError: If an attack does not fit the model.
        """

        def attempt(attack: Attack, rows: Array) -> Found:
            return attack.run(attacked, u[rows], y[rows], epsilon[rows])

        return first_found(attacked, u, y, [functools.partial(attempt, attack) for attack in self.attacks])


def standard_tier(n_classes: int, *, norm: Norm = "linf", seed: int = 0) -> Ensemble:
    """APGD on cross-entropy, then targeted APGD: the parts of AutoAttack that decide nearly every sample.

    Args:
        n_classes: How many classes the model tells apart; with fewer than 4, to which no targeted DLR loss applies,
            targeted APGD raises the margin instead.
        norm: ``"linf"`` or ``"l2"``.
        seed: Of random starts.
    """
    targeted = "targeted_dlr" if n_classes >= 4 else "targeted_margin"
    return Ensemble(attacks=(APGD(norm=norm, seed=seed), APGD(loss=targeted, norm=norm, seed=seed + 1)))


def autoattack(n_classes: int, *, norm: Norm = "linf", seed: int = 0) -> Ensemble:
    """AutoAttack's standard version: APGD-CE, APGD-T, FAB-T and Square, each as published.

    Args:
        n_classes: See `standard_tier`.
        norm: ``"linf"`` or ``"l2"``.
        seed: Of random starts and squares.
    """
    first = standard_tier(n_classes, norm=norm, seed=seed).attacks
    return Ensemble(attacks=(*first, Within(attack=FAB(norm=norm)), Square(norm=norm, seed=seed)))
