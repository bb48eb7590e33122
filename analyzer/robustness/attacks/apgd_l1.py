"""APGD in L1 (Croce & Hein, 2021, "Mind the box", arXiv 2103.01208): sparse steps, and balls that shrink towards ε.

Three walks follow one another, in balls of 3 ε, 2 ε and ε; each begins at the best point of the one before, brought
into its own ball. A step changes the values of the largest slopes, by one amount. How many depends on how many the best
point so far has changed: where that number falls, steps are long, else they become shorter.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.losses import Loss, margin
from analyzer.robustness.attacks.survivors import own_generators
from analyzer.robustness.attacks.threat import project, wide

Tensor = Any
Array = NDArray[Any]

STAGES = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))
"""Of each walk the radius, in ε, and its share of the steps."""
FIRST_SHARE = 0.2
"""Of the values that the first steps change."""
SPARSER = 1.5
"""By what steps change fewer values than the best point did."""
FEWER = 0.95
"""Below which share of the number before, at the last look, the number of changed values has fallen."""
SHORTER, SHORTEST = 1.5, 10.0
"""By what a step is divided where it has not, and at most."""
LOOKS = 0.04
"""Between two looks at that number, as a share of the steps of a walk."""


class Walk(NamedTuple):
    """Where each sample's walk is: one row per sample."""

    point: Tensor
    size: Tensor
    share: Tensor
    changed: Tensor
    best: Tensor
    best_loss: Tensor
    best_gradient: Tensor
    found: Tensor
    fooled: Tensor


def starts(u: Array, seed: int, *purpose: int) -> NDArray[np.float32]:
    """Where walks set out from before they are brought into the ball: noise, as published.

    Args:
        u: Samples, ``(n, ...)``.
        seed: Of all of them.
        purpose: See `own_generators`.
    """
    drawn = [rng.normal(size=u.shape[1:]) for rng in own_generators(u, seed, *purpose)]
    return np.asarray(drawn, np.float32)


def walk(step: Any, origin: Tensor, y: Tensor, t: Tensor, epsilon: Tensor, start: Tensor, steps: int) -> list[Tensor]:
    """All three walks of one batch.

    Args:
        step: The program of `stepper`.
        origin: Samples from 0 to 1.
        y: True classes.
        t: Classes aimed at.
        epsilon: The radii.
        start: From `starts`.
        steps: Moves of all three together.

    Returns:
        Whether each sample is fooled within its ε, and the first point that does.
    """
    ops, point, share = keras.ops, origin + start, None
    flags = [ops.convert_to_tensor(np.bool_(flag)) for flag in (False, True)]
    for factor, part in STAGES:
        radius, moves = factor * epsilon, max(1, round(part * steps))
        at = _beginning(project(point, origin, radius, "l1"), origin, radius, share)
        between, counts = max(1, int(LOOKS * moves)), flags[factor == 1]
        for k in range(moves + 1):
            at = step(at, origin, y, t, radius, flags[k > 0 and k % between == 0], counts)
        point = at.best
        share = 1 / SPARSER
    return [at.fooled, at.found]


def _beginning(point: Tensor, origin: Tensor, radius: Tensor, share: float | None) -> Walk:
    """Args: share: Of the values that the point changed, how many steps change; None for a share of all."""
    ops, nothing = keras.ops, keras.ops.zeros_like(radius) > 0
    d = float(np.prod(point.shape[1:]))
    changed = ops.full_like(radius, d) if share is None else _changed(point, origin)
    return Walk(
        point=point,
        size=radius,
        share=ops.full_like(radius, FIRST_SHARE) if share is None else share * changed / d,
        changed=changed,
        best=point,
        best_loss=ops.full_like(radius, -float("inf")),
        best_gradient=ops.zeros_like(point),
        found=origin,
        fooled=nothing,
    )


def _changed(point: Tensor, origin: Tensor) -> Tensor:
    """How many values differ, ``(n,)``."""
    ops = keras.ops
    return ops.sum(ops.cast(point != origin, "float32"), axis=tuple(range(1, len(point.shape))))


def stepper(attacked: Attacked, loss: Loss) -> Any:
    """A look at where the walks are, sometimes a verdict on the length of their steps, and a move.

    Args:
        attacked: The model.
        loss: What is raised.
    """

    def step(
        values: list[Tensor],
        at: Walk,
        origin: Tensor,
        y: Tensor,
        t: Tensor,
        radius: Tensor,
        look: Tensor,
        counts: Tensor,
    ) -> Walk:
        z, reached, gradient = attacked.slope(values, at.point, lambda z: loss(z, y, t))
        wrong = keras.ops.logical_and(margin(z, y, y) >= 0, counts)
        at, gradient = _reconsidered(_noted(at, reached, gradient, wrong), gradient, origin, radius, look)
        sparse = sparse_signs(gradient, at.share)
        return at._replace(point=project(at.point + wide(at.size, sparse) * sparse, origin, radius, "l1"))

    return step


def _noted(at: Walk, reached: Tensor, gradient: Tensor, wrong: Tensor) -> Walk:
    """What the point brings: whether it is the first that counts, and whether the best."""
    ops = keras.ops
    first = wide(ops.logical_and(wrong, ops.logical_not(at.fooled)), at.point)
    better = reached > at.best_loss
    return at._replace(
        found=ops.where(first, at.point, at.found),
        fooled=ops.logical_or(at.fooled, wrong),
        best=ops.where(wide(better, at.point), at.point, at.best),
        best_loss=ops.where(better, reached, at.best_loss),
        best_gradient=ops.where(wide(better, at.point), gradient, at.best_gradient),
    )


def _reconsidered(at: Walk, gradient: Tensor, origin: Tensor, radius: Tensor, look: Tensor) -> tuple[Walk, Tensor]:
    """At a look: walks whose best point changes fewer values than before go on from it with long steps."""
    ops = keras.ops
    changed = _changed(at.best, origin)
    fewer = changed < FEWER * at.changed
    shorter = ops.maximum(at.size / SHORTER, radius / SHORTEST)
    there = wide(ops.logical_and(look, fewer), at.point)
    d = float(np.prod(at.point.shape[1:]))
    at = at._replace(
        point=ops.where(there, at.best, at.point),
        size=ops.where(look, ops.where(fewer, radius, shorter), at.size),
        share=ops.where(look, changed / (SPARSER * d), at.share),
        changed=ops.where(look, changed, at.changed),
    )
    return at, ops.where(there, at.best_gradient, gradient)


def sparse_signs(gradient: Tensor, share: Tensor) -> Tensor:
    """The signs of the largest slopes, all of one size, of length 1 in L1.

    Args:
        gradient: ``(n, ...)``.
        share: Of the values that are not 0, ``(n,)``; at least one value, and more where slopes are equal.
    """
    ops = keras.ops
    flat = ops.reshape(gradient, (gradient.shape[0], -1))
    d = flat.shape[1]
    size = ops.abs(flat)
    rank = ops.cast(ops.clip((1 - share) * d, 0, d - 1), "int32")
    least = ops.take_along_axis(ops.sort(size, axis=1), rank[:, None], axis=1)
    signs = ops.where(size >= least, ops.sign(flat), 0.0)
    count = ops.sum(ops.abs(signs), axis=1, keepdims=True)
    return ops.reshape(signs / ops.maximum(count, 1.0), gradient.shape)
