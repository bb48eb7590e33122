"""Convolutions: plain, depthwise, separable and transposed, on one to three axes."""

from __future__ import annotations

from typing import Any

import keras

from analyzer.relevance.flow import Tensor
from analyzer.relevance.layers.dense import last_step, linear_layer
from analyzer.relevance.public_ops import ops
from analyzer.relevance.registry import handles
from analyzer.relevance.selection import rule_for
from analyzer.relevance.visit import Visit

L = keras.layers


@handles(L.Conv1D, L.Conv2D, L.Conv3D)
def convolution(visit: Visit, inputs: Tensor, **_: Any) -> Tensor:
    layer = visit.layer

    def product(x: Tensor, kernel: Tensor) -> Tensor:
        padding = layer.padding
        if padding == "causal":
            x, padding = _padded_before(layer, x), "valid"
        if _channels_first(layer):
            return ops.conv(x, kernel, padding=padding, **_geometry(layer))
        return visit.flow.backend.convolve(
            x,
            kernel,
            layer.strides,
            padding,
            layer.dilation_rate,
            lambda x, kernel: ops.conv(x, kernel, padding=padding, **_geometry(layer)),
        )

    return linear_layer(
        visit, inputs, product, kind="convolution", scaling=_by_last_axis, channels_first=_channels_first(layer)
    )


@handles(L.DepthwiseConv1D, L.DepthwiseConv2D)
def depthwise(visit: Visit, inputs: Tensor, **_: Any) -> Tensor:
    layer = visit.layer

    def product(x: Tensor, kernel: Tensor) -> Tensor:
        return ops.depthwise_conv(x, kernel, padding=layer.padding, **_geometry(layer))

    def scaling(kernel: Tensor, factor: Tensor) -> Tensor:
        # Output channels are numbered by input channel, then by multiple of it: as the last axes of the kernel.
        return kernel * ops.reshape(factor, tuple(kernel.shape[-2:]))

    return linear_layer(
        visit, inputs, product, kind="convolution", scaling=scaling, channels_first=_channels_first(layer)
    )


@handles(L.SeparableConv1D, L.SeparableConv2D)
def separable(visit: Visit, inputs: Tensor, **_: Any) -> Tensor:
    """A depthwise convolution without a bias, then one of size 1: two linear layers, each by the rule."""
    layer, x = visit.layer, visit.enter(inputs)

    def by_depth(x: Tensor, kernel: Tensor) -> Tensor:
        return ops.depthwise_conv(x, kernel, padding=layer.padding, **_geometry(layer))

    def by_point(x: Tensor, kernel: Tensor) -> Tensor:
        return ops.conv(x, kernel, strides=1, padding="valid", data_format=layer.data_format)

    kernel = ops.cast(ops.convert_to_tensor(layer.depthwise_kernel), x.dtype)
    between = visit.linear(x, kernel, None, by_depth, rule=rule_for(visit, "convolution", x))
    return last_step(
        visit,
        between,
        ops.convert_to_tensor(layer.pointwise_kernel),
        by_point,
        kind="convolution",
        scaling=_by_last_axis,
        channels_first=_channels_first(layer),
    )


@handles(L.Conv1DTranspose, L.Conv2DTranspose, L.Conv3DTranspose)
def transposed(visit: Visit, inputs: Tensor, **_: Any) -> Tensor:
    layer = visit.layer

    def product(x: Tensor, kernel: Tensor) -> Tensor:
        return ops.conv_transpose(
            x, kernel, padding=layer.padding, output_padding=layer.output_padding, **_geometry(layer)
        )

    def scaling(kernel: Tensor, factor: Tensor) -> Tensor:
        # Of a transposed kernel the output channels come before the input channels.
        return kernel * ops.reshape(factor, (-1, 1))

    return linear_layer(
        visit, inputs, product, kind="convolution", scaling=scaling, channels_first=_channels_first(layer)
    )


def _geometry(layer: Any) -> dict[str, Any]:
    return {"strides": layer.strides, "dilation_rate": layer.dilation_rate, "data_format": layer.data_format}


def _channels_first(layer: Any) -> bool:
    return bool(layer.data_format == "channels_first")


def _by_last_axis(kernel: Tensor, factor: Tensor) -> Tensor:
    return kernel * ops.reshape(factor, (-1,))


def _padded_before(layer: Any, x: Tensor) -> Tensor:
    """Zeros before the first step, as many as keep the future out of sight."""
    before = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
    return ops.pad(x, [[0, 0], [before, 0], [0, 0]] if not _channels_first(layer) else [[0, 0], [0, 0], [before, 0]])
