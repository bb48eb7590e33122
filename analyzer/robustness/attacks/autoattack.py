"""AutoAttack (Croce & Hein, 2020, arXiv 2003.01690): attacks one after another, each on the samples that are left."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ConfigError
from analyzer.robustness.attacks.apgd import APGD
from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.fab import FAB
from analyzer.robustness.attacks.outcomes import Distances, Found
from analyzer.robustness.attacks.square import Square
from analyzer.robustness.attacks.survivors import first_found
from analyzer.robustness.attacks.threat import Norm, check_epsilon, check_norm

Array = NDArray[Any]
Version = Literal["standard", "plus", "rand"]

TARGETS: dict[Norm, int] = {"linf": 9, "l2": 9, "l1": 5}
"""Most classes that targeted attacks aim at."""
DRAWS = 20
"""Evaluations of a random model behind each gradient and verdict."""
VERDICTS = 5
"""Further means of as many evaluations that what was found has to stand."""


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
        return Found(fooled=near, points=_where(near, found.points, u))


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Attacks in order: a sample is robust only if none of them fools it.

    Attributes:
        attacks: Each is run on the samples that the earlier ones left.
        draws: How many evaluations of a random model are averaged, in gradients and in verdicts. What is found then
            counts only if most of `VERDICTS` further means decide it wrongly.
    """

    attacks: tuple[Attack, ...]
    draws: int = 1

    def run(self, attacked: Attacked, u: Array, y: Array, epsilon: Array) -> Found:
        """Attack samples, each within its own ε.

        Args:
            attacked: The model.
            u: Samples from 0 to 1, ``(n, ...)``.
            y: True classes, ``(n,)``.
            epsilon: ``(n,)``, in units of the box.

        Raises:
            ConfigError: If an attack does not fit the model, or a radius is not above 0.
            DataError: If samples are outside of 0 to 1, or classes are not the model's.
        """
        radii = check_epsilon(epsilon, len(u))

        averaged = self.draws > 1 and attacked.is_random(u)
        model = attacked.averaging(self.draws) if averaged else attacked

        def attempt(attack: Attack, rows: Array) -> Found:
            found = attack.run(model, u[rows], y[rows], radii[rows])
            return _confirmed(model, u[rows], y[rows], found) if averaged else found

        try:
            return first_found(model, u, y, [functools.partial(attempt, attack) for attack in self.attacks])
        finally:
            if averaged:
                model.release()


def _confirmed(attacked: Attacked, u: Array, y: Array, found: Found) -> Found:
    """What most of several new verdicts of a random model agree with: a single one may be luck."""
    wrong = sum((~attacked.correct(found.points, y)).astype(int) for _ in range(VERDICTS))
    fooled = found.fooled & (2 * np.asarray(wrong) > VERDICTS)
    return Found(fooled=fooled, points=_where(fooled, found.points, u))


def _where(rows: Array, points: Array, u: Array) -> NDArray[np.float32]:
    return np.where(rows.reshape(-1, *(1 for _ in u.shape[1:])), points, u).astype(np.float32)


def standard_tier(n_classes: int, *, norm: Norm = "linf", seed: int = 0) -> Ensemble:
    """APGD on cross-entropy, then targeted APGD: the parts of AutoAttack that decide nearly every sample.

    Args:
        n_classes: How many classes the model tells apart; with fewer than 4, to which no targeted DLR loss applies,
            targeted APGD raises the margin instead.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        seed: Of random starts.
    """
    return Ensemble(attacks=(APGD(norm=norm, seed=seed), _targeted(n_classes, norm, seed + 1)))


def autoattack(n_classes: int, *, norm: Norm = "linf", version: Version = "standard", seed: int = 0) -> Ensemble:
    """AutoAttack as published: attacks, their order and their steps; in L1 five targets instead of nine.

    ``"standard"`` is APGD-CE, APGD-T, FAB-T and Square. ``"plus"`` is APGD-CE, APGD-DLR and FAB with five restarts
    each, Square, APGD-T and FAB-T. ``"rand"``, for models that draw random numbers, is APGD-CE and APGD-DLR on
    gradients averaged over 20 evaluations. Its authors judge every point by its last evaluation alone, so that one
    lucky draw counts; here the mean of 20 decides, and what is found has to be confirmed, see `Ensemble`.

    Args:
        n_classes: See `standard_tier`; with fewer than 3, to which no DLR loss applies, APGD raises the margin instead.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        version: ``"standard"``, ``"plus"`` or ``"rand"``.
        seed: Of random starts and squares.

    Raises:
        ConfigError: If there is no such version.
    """
    check_norm(norm)
    targeted, aimed = _targeted(n_classes, norm, seed + 1), Within(attack=FAB(norm=norm, targets=TARGETS[norm]))
    square = Square(norm=norm, seed=seed)
    if version == "standard":
        return Ensemble(attacks=(APGD(norm=norm, seed=seed), targeted, aimed, square))
    restarts = 5 if version == "plus" else 1
    ratio = "dlr" if n_classes >= 3 else "margin"
    first = (
        APGD(norm=norm, restarts=restarts, seed=seed),
        APGD(loss=ratio, norm=norm, restarts=restarts, seed=seed + 2),
    )
    if version == "rand":
        return Ensemble(attacks=first, draws=DRAWS)
    if version == "plus":
        free = FAB(norm=norm, targeted=False, targets=n_classes - 1, restarts=restarts, seed=seed)
        return Ensemble(attacks=(*first, Within(attack=free), square, targeted, aimed))
    raise ConfigError(f"version={version!r}: expected one of standard, plus, rand.")


def _targeted(n_classes: int, norm: Norm, seed: int) -> APGD:
    loss = "targeted_dlr" if n_classes >= 4 else "targeted_margin"
    return APGD(loss=loss, norm=norm, targets=TARGETS[norm], seed=seed)
