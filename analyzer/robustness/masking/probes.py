"""The short runs that flags are judged by: what happens around samples, and what other attacks find."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.inspection import compat
from analyzer.inspection.logits import logits_out
from analyzer.measures.random_streams import stream
from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.gradient_descent import PGD, fgsm
from analyzer.robustness.attacks.losses import LOSSES, Loss, loss_named, margin
from analyzer.robustness.attacks.screen import screen
from analyzer.robustness.attacks.square import Square
from analyzer.robustness.attacks.threat import Norm, length, project, random_steps, wide

Tensor = Any
Array = NDArray[Any]
Bools = NDArray[np.bool_]

PASSES = 5
"""Forward passes that are compared."""
DRAWS = 10
"""Random points per sample."""
QUERIES = 500
"""Of the Square attack, per sample."""
UNTARGETED = ("margin", "cross_entropy", "dlr")
"""Losses whose gradients are looked at."""
NEGLIGIBLE = 1e-12
"""L2 gradients of this length are lost in the division by it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Probed:
    """The samples that flags are judged on, all of them decided rightly.

    Attributes:
        attacked: The model.
        u: Samples from 0 to 1, ``(n, ...)``.
        y: True classes, ``(n,)``.
        norm: What steps are measured in.
        seed: Of everything random.
    """

    attacked: Attacked
    u: NDArray[np.float32]
    y: Array
    norm: Norm
    seed: int

    def passes(self) -> Array:
        """Logits of several passes over the same samples, each beginning where the last one left the model's state.

        What is random runs uncompiled: a compiled program would repeat the numbers it was made with.

        Returns:
            ``(passes, n, classes)``.
        """
        state = self.attacked.view.state

        def work(batch: list[Tensor], rows: Array) -> list[Tensor]:
            del rows
            values = [keras.ops.convert_to_tensor(v.value) for v in state]
            found = []
            for _ in range(PASSES):
                z, values = _outputs_and_state(self.attacked, values, batch[0])
                found.append(z)
                # Moves the seed that layers without one of their own draw from; the scope above would put it back.
                keras.random.uniform((1,))
            return found

        return np.stack(self.attacked.by_batch([self.u], work))

    def logits_among_others(self) -> Array:
        """Logits of all samples, from batches whose every other sample was replaced by noise."""
        noise = stream(self.seed, 0).uniform(0, 1, self.u.shape).astype(np.float32)
        odd = (np.arange(len(self.u)) % 2 == 1).reshape(-1, *(1 for _ in self.u.shape[1:]))
        among = [self.attacked.all_logits(np.where(odd == kept, self.u, noise)) for kept in (False, True)]
        return np.where(odd.reshape(-1, 1), among[1], among[0])

    def vanishing(self) -> dict[str, Bools]:
        """By loss, the samples at which its gradient to the input gives no direction."""
        names = [name for name in UNTARGETED if self.attacked.n_classes >= LOSSES[name][1]]
        program = self.attacked.program(("slopes", self.norm), _slopes(self.attacked, names, self.norm))
        sizes = self.attacked.by_batch([self.u, self.y], lambda batch, _: program(*batch))
        least = NEGLIGIBLE if self.norm == "l2" else 0.0
        return {name: ~(np.isfinite(size) & (size > least)) for name, size in zip(names, sizes, strict=True)}

    def margins_around(self, epsilon: float) -> Array:
        """Margins at random points of the balls; in Linf at random corners, which lie furthest.

        Returns:
            ``(draws, n)``.
        """
        rng, found = stream(self.seed, 1), []
        program = self.attacked.program(("margin nearby", self.norm), _margin_nearby(self.attacked, self.norm))
        for _ in range(DRAWS):
            steps = random_steps(rng, self.u.shape, self.norm)
            steps = np.sign(steps) if self.norm == "linf" else steps
            arrays = [self.u, self.y, steps, self._radii(epsilon)]
            found += self.attacked.by_batch(arrays, lambda batch, _: [program(*batch)])
        return np.stack(found)

    def one_step(self, epsilon: float) -> Bools:
        """Samples that one step as long as ε fools."""
        return self._by_gradient(fgsm(loss="margin", norm=self.norm), epsilon)

    def many_steps(self, epsilon: float) -> Bools:
        """Samples that projected gradient descent fools, from the samples themselves."""
        return self._by_gradient(PGD(loss="margin", norm=self.norm), epsilon)

    def targeted(self, epsilon: float, among: Bools) -> Bools:
        """Samples that multi-targeted descent fools, the strongest that gradients offer here.

        Args:
            epsilon: The radius.
            among: ``(n,)`` samples to attack; the others count as not fooled.
        """

        def attack(u: Array, y: Array) -> Bools:
            return screen(self.attacked, u, y, np.array([epsilon]), norm=self.norm).distance <= epsilon

        return self._of_some(among, attack)

    def square(self, epsilon: float, among: Bools) -> Bools:
        """Samples that random search by squares fools.

        Args:
            epsilon: The radius.
            among: ``(n,)`` samples to attack; the others count as not fooled.
        """
        search = Square(norm=self.norm, queries=QUERIES, seed=self.seed)

        def attack(u: Array, y: Array) -> Bools:
            return search.run(self.attacked, u, y, epsilon=np.full(len(u), epsilon, np.float32)).fooled

        return self._of_some(among, attack)

    def hold_anywhere(self, among: Bools) -> Bools:
        """Samples that no gradient fools though the whole box is allowed, whatever the norm.

        Args:
            among: ``(n,)`` samples to attack; the others count as fooled.
        """
        boxwide = dataclasses.replace(self, norm="linf")
        left = among & ~boxwide.many_steps(1.0)
        return left & ~boxwide.targeted(1.0, left)

    def _of_some(self, among: Bools, attack: Callable[[Array, Array], Bools]) -> Bools:
        fooled, rows = np.zeros(len(self.u), bool), np.flatnonzero(among)
        if len(rows):
            fooled[rows] = attack(self.u[rows], self.y[rows])
        return fooled

    def _by_gradient(self, attack: PGD, epsilon: float) -> Bools:
        return attack.run(self.attacked, self.u, self.y, epsilon=self._radii(epsilon), t=self.y).fooled

    def _radii(self, epsilon: float) -> NDArray[np.float32]:
        return np.full(len(self.u), epsilon, np.float32)


def _outputs_and_state(attacked: Attacked, values: list[Tensor], u: Tensor) -> tuple[Tensor, list[Tensor]]:
    """What the model returns without its last activation, and what its variables hold afterwards."""
    view = attacked.view
    mapping = list(zip(view.state, values, strict=True))
    with (
        keras.StatelessScope(state_mapping=mapping) as scope,
        compat.plain_calls(view.model, view.places.values()),
        logits_out(view),
    ):
        outputs = keras.tree.flatten(view.model(attacked.to_data(u), training=False))
    after = [scope.get_current_value(variable) for variable in view.state]
    kept = [old if new is None else new for old, new in zip(values, after, strict=True)]
    return keras.ops.cast(outputs[0], "float32"), kept


def _slopes(attacked: Attacked, names: list[str], norm: str) -> Any:
    """Length of the gradient of each loss to the input."""
    losses = [loss_named(name, attacked.n_classes) for name in names]

    def lengths(values: list[Tensor], u: Tensor, y: Tensor) -> list[Tensor]:
        gradients = [attacked.slope(values, u, functools.partial(_of_logits, loss, y))[2] for loss in losses]
        return [length(gradient, norm) for gradient in gradients]

    return lengths


def _of_logits(loss: Loss, y: Tensor, z: Tensor) -> Tensor:
    return loss(z, y, y)


def _margin_nearby(attacked: Attacked, norm: str) -> Any:
    def nearby(values: list[Tensor], u: Tensor, y: Tensor, step: Tensor, epsilon: Tensor) -> Tensor:
        point = project(u + wide(epsilon, u) * step, u, epsilon, norm)
        return margin(attacked.logits(values, point), y, y)

    return nearby
