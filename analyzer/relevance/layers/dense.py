"""Dense, EinsumDense and convolutions: linear maps with a kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from analyzer.relevance.flow import Tensor
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
    scaling: Callable[[Tensor, Tensor], Tensor] | None,
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
    layer = visit.layer
    x = visit.enter(inputs)
    kernel, bias = ops.convert_to_tensor(layer.kernel), None
    if layer.use_bias:
        bias = ops.convert_to_tensor(layer.bias)
        if channels_first:
            bias = ops.reshape(bias, (-1, *[1] * (len(inputs.shape) - 2)))
    linear = layer.activation is None or getattr(layer.activation, "__name__", "") == "linear" or visit.cut
    z = visit.linear(
        x,
        ops.cast(kernel, x.dtype),
        None if bias is None else ops.cast(bias, x.dtype),
        product,
        rule=rule_for(visit, kind, x),
        scaling=scaling if linear else None,
    )
    if visit.is_pending(z):
        return z
    return visit.leave(visit.activate(z, layer.activation))


@handles(L.Dense)
def dense(visit: Visit, inputs: Tensor, **_: Any) -> Tensor:
    return linear_layer(visit, inputs, ops.matmul, kind="dense", scaling=lambda kernel, factor: kernel * factor)


@handles(L.EinsumDense)
def einsum_dense(visit: Visit, inputs: Tensor, **_: Any) -> Tensor:
    equation = visit.layer.equation
    return linear_layer(visit, inputs, lambda x, w: ops.einsum(equation, x, w), kind="dense", scaling=None)


@handles(L.Conv1D, L.Conv2D, L.Conv3D)
def convolution(visit: Visit, inputs: Tensor, **_: Any) -> Tensor:
    layer = visit.layer

    def product(x: Tensor, kernel: Tensor) -> Tensor:
        padding = layer.padding
        if padding == "causal":
            x, padding = _padded_before(layer, x), "valid"
        return ops.conv(
            x,
            kernel,
            strides=list(layer.strides),
            padding=padding,
            dilation_rate=layer.dilation_rate,
            data_format=layer.data_format,
        )

    first = layer.data_format == "channels_first"

    def scaling(kernel: Tensor, factor: Tensor) -> Tensor:
        return kernel * ops.reshape(factor, (-1,))

    return linear_layer(visit, inputs, product, kind="convolution", scaling=scaling, channels_first=first)


def _padded_before(layer: Any, x: Tensor) -> Tensor:
    """Zeros before the first step, as many as keep the future out of sight."""
    before = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
    axes = [[0, 0], [before, 0], [0, 0]] if layer.data_format == "channels_last" else [[0, 0], [0, 0], [before, 0]]
    return ops.pad(x, axes)
