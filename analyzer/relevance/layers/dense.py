"""Dense and EinsumDense, and what all linear layers have in common: a kernel, a bias and an activation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from analyzer.relevance.activating import name_of
from analyzer.relevance.flow import Tensor
from analyzer.relevance.layers.quantized import before_activation, is_quantized, kernel_of
from analyzer.relevance.linear import Scaling
from analyzer.relevance.public_ops import ops
from analyzer.relevance.registry import handles
from analyzer.relevance.selection import rule_for
from analyzer.relevance.visit import Visit

L = keras.layers


def linear_layer(
    visit: Visit,
    inputs: Tensor,
    product: Callable[[Tensor, Tensor], Tensor],
    *,
    kind: str,
    scaling: Scaling | None,
    channels_first: bool = False,
) -> Tensor:
    """A layer with a kernel, a bias and an activation.

    Args:
        visit: The call.
        inputs: What it was called with.
        product: The linear map.
        kind: ``"dense"`` or ``"convolution"``: which of the preset's rules is meant.
        scaling: How a factor per channel is put into the kernel.
        channels_first: Whether channels are on axis 1 of the output.
    """
    x = visit.enter(inputs)
    return last_step(visit, x, kernel_of(visit), product, kind=kind, scaling=scaling, channels_first=channels_first)


def last_step(
    visit: Visit,
    x: Tensor,
    kernel: Tensor,
    product: Callable[[Tensor, Tensor], Tensor],
    *,
    kind: str,
    scaling: Scaling | None,
    channels_first: bool,
) -> Tensor:
    """The linear map with bias and activation, from an input that was entered; see `linear_layer`."""
    layer = visit.layer
    linear = visit.cut or name_of(layer.activation) == "linear"
    bias = bias_of(layer, len(x.shape), channels_first=channels_first)
    z = visit.linear(
        x,
        ops.cast(kernel, x.dtype),
        None if bias is None else ops.cast(bias, x.dtype),
        product,
        rule=rule_for(visit, kind, x),
        scaling=scaling if linear and not is_quantized(layer) else None,
        value=before_activation(visit, x),
        activation="linear" if linear else name_of(layer.activation),
    )
    if visit.is_pending(z):
        return z
    return visit.leave(visit.activate(z, layer.activation))


def bias_of(layer: Any, rank: int, *, channels_first: bool = False) -> Tensor | None:
    """The bias, in a shape that broadcasts to an output of some rank; None without one."""
    bias = getattr(layer, "bias", None)
    if bias is None:
        return None
    bias = ops.convert_to_tensor(bias)
    return ops.reshape(bias, (-1, *[1] * (rank - 2))) if channels_first else bias


def _by_column(kernel: Tensor, factor: Tensor) -> Tensor:
    return kernel * ops.reshape(factor, (-1,))


@handles(L.Dense)
def dense(visit: Visit, inputs: Tensor, **_: Any) -> Tensor:
    return linear_layer(visit, inputs, ops.matmul, kind="dense", scaling=_by_column)


@handles(L.EinsumDense)
def einsum_dense(visit: Visit, inputs: Tensor, **_: Any) -> Tensor:
    equation = visit.layer.equation
    return linear_layer(visit, inputs, lambda x, w: ops.einsum(equation, x, w), kind="dense", scaling=None)
