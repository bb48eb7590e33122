"""What attacks raise: functions of logits whose gradients do not vanish where a softmax saturates.

``z`` are logits ``(n, classes)``, ``y`` the true classes and ``t`` those that targeted losses aim at, ``(n,)``.
Each loss is one number per sample.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from analyzer.errors import ConfigError

Tensor = Any
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]

_NOTHING = 1e-12
"""Added to denominators that are differences of logits."""


def _at(z: Tensor, index: Tensor) -> Tensor:
    return keras.ops.take_along_axis(z, index[:, None], axis=-1)[:, 0]


def _others(z: Tensor, y: Tensor) -> Tensor:
    """The logits, that of the true class at minus infinity."""
    ops = keras.ops
    own = ops.arange(z.shape[-1], dtype="int32")[None, :] == ops.cast(y, "int32")[:, None]
    return ops.where(own, -float("inf"), z)


def margin(z: Tensor, y: Tensor, t: Tensor) -> Tensor:
    """``max_{c != y} z_c - z_y``: the decision is wrong from 0 on, since a tie is no decision for the true class."""
    del t
    return keras.ops.max(_others(z, y), axis=-1) - _at(z, y)


def targeted_margin(z: Tensor, y: Tensor, t: Tensor) -> Tensor:
    """``z_t - z_y``."""
    return _at(z, t) - _at(z, y)


def cross_entropy(z: Tensor, y: Tensor, t: Tensor) -> Tensor:
    """``logsumexp_{c != y}(z_c - z_y)``, of which cross-entropy is the softplus; it never saturates."""
    del t
    return keras.ops.logsumexp(_others(z, y), axis=-1) - _at(z, y)


def dlr(z: Tensor, y: Tensor, t: Tensor) -> Tensor:
    """Difference of logits ratio (Croce & Hein, 2020, arXiv 2003.01690): neither shift nor scale of logits matters."""
    ordered = keras.ops.sort(z, axis=-1)
    return margin(z, y, t) / (ordered[:, -1] - ordered[:, -3] + _NOTHING)


def targeted_dlr(z: Tensor, y: Tensor, t: Tensor) -> Tensor:
    """The same towards a class, as the paper's targeted attack divides it."""
    ordered = keras.ops.sort(z, axis=-1)
    below = ordered[:, -1] - (ordered[:, -3] + ordered[:, -4]) / 2
    return targeted_margin(z, y, t) / (below + _NOTHING)


LOSSES: dict[str, tuple[Loss, int]] = {
    "margin": (margin, 2),
    "targeted_margin": (targeted_margin, 2),
    "cross_entropy": (cross_entropy, 2),
    "dlr": (dlr, 3),
    "targeted_dlr": (targeted_dlr, 4),
}
"""By name: the loss, and how many classes it needs."""


def loss_named(name: str, n_classes: int) -> Loss:
    """A loss, if the model has classes enough for it.

    Args:
        name: One of `LOSSES`.
        n_classes: How many classes the model tells apart.

    Raises:
        ConfigError: If there is no such loss, or it needs more classes.
    """
    if name not in LOSSES:
        raise ConfigError(f"loss={name!r}: expected one of {', '.join(LOSSES)}.")
    loss, fewest = LOSSES[name]
    if n_classes < fewest:
        raise ConfigError(
            f"loss={name!r} compares {fewest} classes, but the model tells {n_classes} apart. Use loss='margin'."
        )
    return loss
