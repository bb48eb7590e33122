"""Layers whose own gradient is the rule: they move, copy, pool or drop values."""

from __future__ import annotations

from typing import Any

import keras

from analyzer.inspection.idle_layers import IDLE
from analyzer.relevance.flow import Tensor
from analyzer.relevance.public_ops import ops
from analyzer.relevance.registry import handles
from analyzer.relevance.visit import Visit

L = keras.layers

_MOVING = (
    L.Flatten,
    L.Reshape,
    L.Permute,
    L.RepeatVector,
    L.ZeroPadding1D,
    L.ZeroPadding2D,
    L.ZeroPadding3D,
    L.Cropping1D,
    L.Cropping2D,
    L.Cropping3D,
    L.UpSampling1D,
    L.UpSampling2D,
    L.UpSampling3D,
)

_IDLE = (*IDLE, L.InputLayer)


@handles(*_MOVING)
def moving(visit: Visit, *args: Any, **kwargs: Any) -> Tensor:
    return moved(visit, *args, **kwargs)


def moved(visit: Visit, *args: Any, **kwargs: Any) -> Any:
    """By its own gradient; what is 0 stays 0, so relevance reaches an input through it even there."""
    if not keras.ops.is_tensor(args[0]) or not visit.flow.depends(args[0]):
        y = visit.natural(*args, **kwargs)
        shadow = visit.flow.shadow(args[0]) if keras.ops.is_tensor(args[0]) else None
        return y if shadow is None else visit.flow.mark(y, shadow=visit.call(shadow, *args[1:], **kwargs))
    x = visit.enter(args[0])
    y = visit.call(x, *args[1:], **kwargs)
    y = visit.leave(visit.flow.mark(y, nonnegative=visit.flow.is_nonnegative(x)))
    shadow = visit.flow.shadow(x)
    if shadow is None:
        return y
    kept = visit.call(ops.ones_like(shadow), *args[1:], **kwargs)
    return visit.follow(y, visit.call(shadow, *args[1:], **kwargs), kept)


@handles(*_IDLE)
def idle(visit: Visit, inputs: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Nothing happens at inference."""
    del args, kwargs
    return visit.leave(visit.enter(inputs))
