"""Layers whose own gradient is the rule: they move, copy, pool or drop values."""

from __future__ import annotations

from typing import Any

import keras

from analyzer.relevance.flow import Tensor
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

_IDLE = (
    L.Identity,
    L.Dropout,
    L.SpatialDropout1D,
    L.SpatialDropout2D,
    L.SpatialDropout3D,
    L.AlphaDropout,
    L.GaussianDropout,
    L.GaussianNoise,
    L.ActivityRegularization,
    L.InputLayer,
)


@handles(*_MOVING)
def moving(visit: Visit, *args: Any, **kwargs: Any) -> Tensor:
    """What is 0 stays 0: relevance reaches an input through it even there."""
    shadow = visit.flow.shadow(args[0])
    y = visit.natural(*args, **kwargs)
    return y if shadow is None else visit.flow.mark(y, shadow=visit.call(shadow))


@handles(*_IDLE)
def idle(visit: Visit, inputs: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Nothing happens at inference."""
    del args, kwargs
    return visit.leave(visit.enter(inputs))


@handles(
    L.AveragePooling1D,
    L.AveragePooling2D,
    L.AveragePooling3D,
    L.GlobalAveragePooling1D,
    L.GlobalAveragePooling2D,
    L.GlobalAveragePooling3D,
    L.MaxPooling1D,
    L.MaxPooling2D,
    L.MaxPooling3D,
    L.GlobalMaxPooling1D,
    L.GlobalMaxPooling2D,
    L.GlobalMaxPooling3D,
)
def pooling(visit: Visit, *args: Any, **kwargs: Any) -> Tensor:
    """Means by value; of maxima the winner takes all."""
    return visit.natural(*args, **kwargs)
