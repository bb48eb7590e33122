"""Activation functions: the identity rule where they are element-wise, and what the others need."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras

from analyzer.relevance.flow import Tensor
from analyzer.relevance.public_ops import ops

if TYPE_CHECKING:
    from analyzer.relevance.visit import Visit

Activation = Callable[..., Any]

THROUGH_ORIGIN = (keras.activations.relu, keras.activations.leaky_relu, keras.ops.relu, keras.ops.leaky_relu)
"""Straight lines through the origin: their plain gradient already is the identity rule. With other arguments than as
always (a maximum, a threshold) they are other functions."""

NONNEGATIVE = (
    "relu6",
    "sigmoid",
    "softmax",
    "softplus",
    "hard_sigmoid",
    "exponential",
    "exp",
    "sparsemax",
    "sparse_plus",
    "sparse_sigmoid",
    "squareplus",
)
"""No result is negative."""

GATES = ("sigmoid", "softmax", "hard_sigmoid", "sparsemax", "sparse_sigmoid")
"""What opens and shuts something else when it is multiplied with it."""


def name_of(activation: Activation | None) -> str:
    """The name of an activation function; ``"linear"`` for none."""
    if activation is None:
        return "linear"
    return str(getattr(activation, "__name__", type(activation).__name__))


def activated(visit: Visit, z: Tensor, activation: Activation | None, axis: Any = -1) -> Tensor:
    """The result of an activation, made so that its gradient is the rule.

    Element-wise functions hand relevance on at the same position; straight lines through the origin do so by their own
    gradient. Softmax, sparsemax and their logarithms mix positions, GLU is a product of two halves.

    Args:
        visit: The call.
        z: What goes in.
        activation: A function, or a layer, whose own rule is applied; None for none.
        axis: Where a function that mixes positions does so.

    Raises:
        Unsupported: If the result has another shape and the function is not known.
    """
    name = name_of(activation)
    if activation is None or name == "linear":
        return z
    if isinstance(activation, keras.layers.Layer):
        return activation(z)
    if name in ("softmax", "log_softmax", "sparsemax"):
        y = {"softmax": softmax, "log_softmax": log_softmax, "sparsemax": sparsemax}[name](visit, z, activation, axis)
    elif name == "glu":
        y = glu(visit, z, axis)
    elif activation in THROUGH_ORIGIN:
        y = activation(z)
    else:
        y = elementwise(visit, z, activation)
    nonnegative = name in NONNEGATIVE or activation in (THROUGH_ORIGIN[0], THROUGH_ORIGIN[2])
    return visit.flow.mark(y, nonnegative=nonnegative, gate=name in GATES)


def elementwise(visit: Visit, z: Tensor, function: Activation) -> Tensor:
    """The identity rule."""
    y = function(ops.stop_gradient(z))
    if tuple(y.shape) != tuple(z.shape):
        raise visit.refuse(
            f"its activation {name_of(function)!r} turns the shape {tuple(z.shape)} into {tuple(y.shape)}, and no "
            "rule is known for it. Make it a layer of its own and give that one a rule with @register_rule."
        )
    return visit.identity(z, y)


def softmax(visit: Visit, z: Tensor, function: Activation | None = None, axis: Any = -1) -> Tensor:
    """The softmax rule of AttnLRP: the plain gradient, ``R_i = x_i (R_i - s_i sum R)`` (Achtibat et al., 2024)."""
    visit.record.rule.append("softmax")
    y = ops.softmax(z, axis=axis) if function is None else function(z)
    # Of the cotangent g, g_i y_i arrives at i and z_i y_i (g_i - sum_k g_k y_k) goes on. Summed over i, what is left
    # is the sum of g_i times the following; masked positions, whose z is no number to go by, have y = 0.
    still, weights = ops.stop_gradient(z), ops.stop_gradient(y)
    seen = ops.where(weights > 0, still * weights, 0)
    mean = ops.sum(seen, axis=axis, keepdims=True)
    return visit.absorb(y, "absorbed_by_softmax", weights - (seen - weights * mean))


def log_softmax(visit: Visit, z: Tensor, function: Activation | None = None, axis: Any = -1) -> Tensor:
    """The same for its logarithm, ``z - logsumexp(z)``: ``R_i = z_i (g_i - s_i sum g)``, and ``R = g_i y_i``."""
    visit.record.rule.append("softmax")
    y = ops.log_softmax(z, axis=axis) if function is None else function(z)
    still, value = ops.stop_gradient(z), ops.stop_gradient(y)
    mean = ops.sum(ops.exp(value) * still, axis=axis, keepdims=True)
    return visit.absorb(y, "absorbed_by_softmax", value - still + mean)


def sparsemax(visit: Visit, z: Tensor, function: Activation | None = None, axis: Any = -1) -> Tensor:
    """The plain gradient: on its support, sparsemax is ``z`` minus a threshold that is the mean of it less ``1/n``."""
    visit.record.rule.append("softmax")
    y = ops.sparsemax(z, axis=axis) if function is None else function(z)
    weights = ops.stop_gradient(y)
    support = ops.cast(weights > 0, z.dtype)
    size = ops.maximum(ops.sum(support, axis=axis, keepdims=True), 1)
    inside = ops.where(support > 0, z, 0)
    kept = support * (inside - ops.sum(inside, axis=axis, keepdims=True) / size)
    # Made anew, since the backends' own gradients differ; the value is the function's.
    bound = visit.flow.backend.bind(y, [kept], [weights], _over_support)
    return visit.absorb(bound, "absorbed_by_softmax", weights - ops.stop_gradient(kept))


def _over_support(relevance: Tensor, kept: list[Tensor]) -> list[Tensor]:
    inside = kept[0] > 0
    return [ops.where(inside, relevance / ops.where(inside, kept[0], 1.0), 0.0)]


def glu(visit: Visit, z: Tensor, axis: Any = -1) -> Tensor:
    """One half times the sigmoid of the other, by the preset's rule for products."""
    value, below = ops.split(z, 2, axis=axis)
    gate = visit.identity(below, ops.sigmoid(ops.stop_gradient(below)))
    return visit.product(value, visit.flow.mark(gate, nonnegative=True, gate=True), ops.multiply)
