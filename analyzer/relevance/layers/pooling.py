"""Pooling: means by value or magnitude; of maxima the winner takes all, or the window shares."""

from __future__ import annotations

import functools
from typing import Any

import keras

from analyzer.relevance.flow import Tensor
from analyzer.relevance.public_ops import ops
from analyzer.relevance.registry import handles
from analyzer.relevance.sharing import by_share
from analyzer.relevance.visit import Visit

L = keras.layers


@handles(
    L.AveragePooling1D,
    L.AveragePooling2D,
    L.AveragePooling3D,
    L.GlobalAveragePooling1D,
    L.GlobalAveragePooling2D,
    L.GlobalAveragePooling3D,
    getattr(L, "AdaptiveAveragePooling1D", None),
    getattr(L, "AdaptiveAveragePooling2D", None),
    getattr(L, "AdaptiveAveragePooling3D", None),
)
def average_pooling(visit: Visit, inputs: Tensor, **kwargs: Any) -> Tensor:
    """By value, which is the plain gradient; or by magnitude, where the same mean of magnitudes shares out."""
    if visit.flow.preset.sum != "magnitude" or not visit.flow.depends(inputs):
        return visit.natural(inputs, **kwargs)
    x = visit.enter(inputs)
    visit.record.rule.append("magnitude")
    y = by_share(visit, visit.call(ops.stop_gradient(x), **kwargs), visit.call(ops.abs(x), **kwargs))
    return visit.leave(visit.flow.mark(y, nonnegative=visit.flow.is_nonnegative(x)))


@handles(L.MaxPooling1D, L.MaxPooling2D, L.MaxPooling3D)
def max_pooling(visit: Visit, inputs: Tensor, **_: Any) -> Tensor:
    layer = visit.layer
    if layer.data_format == "channels_last":
        visit.call = functools.partial(
            visit.flow.backend.max_pool,
            window=layer.pool_size,
            strides=layer.strides,
            padding=layer.padding,
            plain=visit.call,
        )

    def mean(x: Tensor) -> Tensor:
        return ops.average_pool(
            x,
            layer.pool_size,
            strides=layer.strides,
            padding=layer.padding,
            data_format=layer.data_format,
        )

    return _of_maxima(visit, inputs, mean)


@handles(L.GlobalMaxPooling1D, L.GlobalMaxPooling2D, L.GlobalMaxPooling3D)
def global_max_pooling(visit: Visit, inputs: Tensor, **_: Any) -> Tensor:
    layer, rank = visit.layer, len(inputs.shape)
    axes = list(range(1, rank - 1) if layer.data_format == "channels_last" else range(2, rank))
    return _of_maxima(visit, inputs, lambda x: ops.mean(x, axis=axes, keepdims=layer.keepdims))


@handles(
    getattr(L, "AdaptiveMaxPooling1D", None),
    getattr(L, "AdaptiveMaxPooling2D", None),
    getattr(L, "AdaptiveMaxPooling3D", None),
)
def adaptive_max_pooling(visit: Visit, inputs: Tensor, **_: Any) -> Tensor:
    layer = visit.layer
    return _of_maxima(
        visit,
        inputs,
        lambda x: ops.adaptive_average_pool(x, output_size=layer.output_size, data_format=layer.data_format),
    )


def _of_maxima(visit: Visit, inputs: Tensor, mean: Any) -> Tensor:
    """The winner takes all, which is the plain gradient; or all in the window share by magnitude."""
    if visit.flow.preset.pooling == "winner" or not visit.flow.depends(inputs):
        visit.record.rule.append("winner takes all")
        return visit.natural(inputs)
    x = visit.enter(inputs)
    visit.record.rule.append("proportional")
    # How many share does not matter: shares of a mean of magnitudes are those of their sum.
    y = by_share(visit, visit.call(ops.stop_gradient(x)), mean(ops.abs(x)))
    return visit.leave(visit.flow.mark(y, nonnegative=visit.flow.is_nonnegative(x)))
