"""Activation layers: the identity rule, and softmax."""

from __future__ import annotations

from typing import Any

import keras

from analyzer.relevance.activating import elementwise, glu, log_softmax, sparsemax
from analyzer.relevance.flow import Tensor
from analyzer.relevance.public_ops import ops
from analyzer.relevance.registry import handles, handles_operations
from analyzer.relevance.visit import Visit

L = keras.layers


@handles(L.Activation)
def activation(visit: Visit, inputs: Tensor, **_: Any) -> Tensor:
    return visit.leave(visit.activate(visit.enter(inputs), visit.layer.activation))


@handles(L.ReLU)
def relu(visit: Visit, inputs: Tensor, **_: Any) -> Tensor:
    layer, x = visit.layer, visit.enter(inputs)
    if visit.cut:
        return visit.leave(x)
    through_origin = layer.max_value is None and float(layer.threshold) == 0
    y = visit.call(x) if through_origin else visit.identity(x, visit.call(ops.stop_gradient(x)))
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
    axis = layer_axis if isinstance(layer_axis := visit.layer.axis, int) else tuple(layer_axis)
    y = visit.softmax(x, lambda z: visit.call(z) if mask is None else visit.call(z, mask=mask), axis)
    return visit.leave(visit.flow.mark(y, nonnegative=True, gate=True))


@handles_operations("log_softmax", "sparsemax", "glu")
def mixing_operation(visit: Visit, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Functions that mix positions along an axis, called by user code or as operations of a Functional model."""
    x = visit.enter(x)
    if visit.cut:
        return visit.leave(x)
    axis = kwargs.get("axis", args[0] if args else getattr(visit.layer, "axis", -1))
    if visit.operation == "glu":
        return visit.leave(glu(visit, x, axis))
    rule = {"log_softmax": log_softmax, "sparsemax": sparsemax}[visit.operation]
    y = rule(visit, x, lambda z: visit.call(z, *args, **kwargs), axis)
    return visit.leave(visit.flow.mark(y, nonnegative=visit.operation == "sparsemax"))


@handles_operations("re_lu")
def written_relu(visit: Visit, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """What `keras.activations.relu` is in a Functional model; it may have a maximum or a threshold."""
    x = visit.enter(x)
    y = elementwise(visit, x, lambda z: visit.call(z, *args, **kwargs))
    return visit.leave(visit.flow.mark(y, nonnegative=not getattr(visit.layer, "negative_slope", 1)))
