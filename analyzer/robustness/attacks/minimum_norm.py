"""What attacks share that look for the nearest wrong decision instead of one within a given ε."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.losses import margin
from analyzer.robustness.attacks.outcomes import Distances
from analyzer.robustness.attacks.threat import length, wide

Tensor = Any
Array = NDArray[Any]

DUAL = {"linf": "l1", "l2": "l2", "l1": "linf"}
"""For each norm that of gradients, which says how much a step of length 1 gains at most."""

Search = Callable[[Array, Array], tuple[Array, Array]]
"""From samples and their true classes to points whose decision is wrong and the lengths of the steps to them."""


def of_rightly_decided(attacked: Attacked, u: Array, y: Array, search: Search) -> Distances:
    """Distances of all samples, from a search among those that are decided rightly: the others are at distance 0.

    Args:
        attacked: The model.
        u: Samples from 0 to 1, ``(n, ...)``.
        y: True classes, ``(n,)``.
        search: Gives infinite lengths where it found nothing.
    """
    correct = attacked.correct(u, y)
    distance = np.where(correct, np.inf, 0.0)
    points = u.astype(np.float32)
    rows = np.flatnonzero(correct)
    if len(rows):
        found, lengths = search(points[rows], y[rows])
        distance[rows] = lengths
        hit = np.isfinite(lengths)
        points[rows[hit]] = found[hit]
    return Distances(distance=distance, points=points)


def likeliest(attacked: Attacked, u: Array, y: Array, most: int) -> Array:
    """The classes of the largest logits of each sample, the true one left out, the likeliest first: ``(n, k)``.

    Args:
        attacked: The model.
        u: Samples from 0 to 1.
        y: True classes.
        most: Largest ``k``.
    """
    z = attacked.all_logits(u)
    others = np.where(np.arange(z.shape[1]) == y[:, None], -np.inf, z)
    return np.argsort(-others, axis=1, kind="stable")[:, : min(most, z.shape[1] - 1)]


def nothing_yet(origin: Tensor) -> tuple[Tensor, Tensor]:
    """What `nearer` starts from: the samples themselves, at infinite distances.

    Args:
        origin: The samples.
    """
    ops = keras.ops
    return origin, ops.full((origin.shape[0],), float("inf"), dtype="float32")


def nearer(
    z: Tensor, y: Tensor, point: Tensor, origin: Tensor, best: Tensor, shortest: Tensor, norm: str
) -> tuple[Tensor, Tensor]:
    """The nearest points so far whose decision is wrong, and the lengths of the steps to them.

    Args:
        z: Logits of the points.
        y: True classes.
        point: The points.
        origin: The samples.
        best: The nearest before.
        shortest: How near, ``(n,)``; infinity for none.
        norm: What lengths are measured in.
    """
    ops = keras.ops
    step = length(point - origin, norm)
    better = ops.logical_and(margin(z, y, y) >= 0, step < shortest)
    return ops.where(wide(better, point), point, best), ops.where(better, step, shortest)


def towards(y: Tensor, t: Tensor, n_classes: int) -> Tensor:
    """The cotangent of logits whose pullback is the gradient of ``z_t - z_y``, ``(n, classes)``.

    Args:
        y: True classes.
        t: Other classes.
        n_classes: How many there are.
    """
    ops = keras.ops
    return ops.one_hot(t, n_classes, dtype="float32") - ops.one_hot(y, n_classes, dtype="float32")


def to_boundary(difference: Tensor, gradient: Tensor, norm: str) -> Tensor:
    """How far the linearised boundary is: the difference of logits by the dual norm of its gradient, ``(n,)``.

    Args:
        difference: ``z_t - z_y``, ``(n,)``.
        gradient: Of that difference, ``(n, ...)``.
        norm: What distances are measured in; infinity where the gradient is 0.
    """
    ops = keras.ops
    dual = length(gradient, DUAL[norm])
    known = dual > 0
    return ops.where(known, ops.abs(difference) / ops.where(known, dual, 1.0), float("inf"))
