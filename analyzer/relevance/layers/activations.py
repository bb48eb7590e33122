"""Activation layers: the identity rule, and softmax."""

from __future__ import annotations

from typing import Any

import keras

from analyzer.relevance.flow import Tensor
from analyzer.relevance.public_ops import ops
from analyzer.relevance.registry import handles
from analyzer.relevance.visit import Visit

L = keras.layers


@handles(L.Activation)
def activation(visit: Visit, inputs: Tensor, **_: Any) -> Tensor:
    return visit.leave(visit.activate(visit.enter(inputs), visit.layer.activation))


@handles(L.ReLU)
def relu(visit: Visit, inputs: Tensor, **_: Any) -> Tensor:
    layer, x = visit.layer, visit.enter(inputs)
    through_origin = layer.max_value is None and float(layer.threshold) == 0
    if through_origin:
        y = visit.call(x)
    else:
        y = visit.identity(x, visit.call(ops.stop_gradient(x)))
    return visit.leave(visit.flow.mark(y, nonnegative=float(layer.negative_slope) == 0))


@handles(L.LeakyReLU, L.PReLU)
def leaky(visit: Visit, inputs: Tensor, **_: Any) -> Tensor:
    # Straight lines through the origin: their gradient is the identity rule.
    return visit.leave(visit.call(visit.enter(inputs)))


@handles(L.ELU)
def elu(visit: Visit, inputs: Tensor, **_: Any) -> Tensor:
    x = visit.enter(inputs)
    return visit.leave(visit.identity(x, visit.call(ops.stop_gradient(x))))


@handles(L.Softmax)
def softmax(visit: Visit, inputs: Tensor, mask: Tensor | None = None, **_: Any) -> Tensor:
    x = visit.enter(inputs)
    if visit.cut:
        return visit.leave(x)
    y = visit.softmax(x, lambda z: visit.call(z) if mask is None else visit.call(z, mask=mask))
    return visit.leave(visit.flow.mark(y, nonnegative=True, gate=True))
