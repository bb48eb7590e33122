"""Preprocessing inside a model: scaling as an affine map, resizing by its gradient, augmentation as identity."""

from __future__ import annotations

from typing import Any

import keras

from analyzer.relevance.flow import Tensor
from analyzer.relevance.layers.structure import moved
from analyzer.relevance.public_ops import ops
from analyzer.relevance.registry import handles
from analyzer.relevance.visit import Visit

L = keras.layers

_AT_TRAINING = (
    "AugMix",
    "CutMix",
    "MixUp",
    "RandAugment",
    "RandomBrightness",
    "RandomColorDegeneration",
    "RandomColorJitter",
    "RandomContrast",
    "RandomElasticTransform",
    "RandomErasing",
    "RandomFlip",
    "RandomGaussianBlur",
    "RandomGrayscale",
    "RandomHue",
    "RandomInvert",
    "RandomPerspective",
    "RandomPosterization",
    "RandomRotation",
    "RandomSaturation",
    "RandomSharpness",
    "RandomShear",
    "RandomTranslation",
    "RandomZoom",
)
"""Layers that change nothing at inference."""


@handles(*(getattr(L, name, None) for name in _AT_TRAINING))
def augmentation(visit: Visit, data: Any, *args: Any, **kwargs: Any) -> Any:
    """What it computes at inference, which is what came in, at most in another dtype."""
    return moved(visit, data, *args, **kwargs)


@handles(L.Resizing, L.CenterCrop, L.RandomCrop)
def resizing(visit: Visit, *args: Any, **kwargs: Any) -> Any:
    """Every pixel of the result is a mean of pixels, or one of them."""
    return moved(visit, *args, **kwargs)


@handles(L.Rescaling)
def rescaling(visit: Visit, inputs: Tensor, **_: Any) -> Tensor:
    x = visit.enter(inputs)
    y = visit.call(x)
    visit.record.rule.append("affine")
    return _scaled(visit, visit.flow.shadow(x), y, visit.call(ops.zeros_like(y)))


@handles(L.Normalization)
def normalization(visit: Visit, inputs: Tensor, **_: Any) -> Tensor:
    """By constants learnt or given: what a value of 0 becomes absorbs like a bias."""
    layer, x = visit.layer, visit.enter(inputs)
    mean, variance = (ops.cast(ops.convert_to_tensor(t), layer.compute_dtype) for t in (layer.mean, layer.variance))
    spread = ops.maximum(ops.sqrt(variance), keras.config.epsilon())
    shadow, x = visit.flow.shadow(x), ops.cast(x, layer.compute_dtype)
    y = mean + x * spread if layer.invert else (x - mean) / spread
    visit.record.rule.append("affine")
    return _scaled(visit, shadow, y, mean if layer.invert else -mean / spread)


def _scaled(visit: Visit, shadow: Tensor | None, y: Tensor, offset: Tensor) -> Tensor:
    """Every value stays where it is, so a rule for the first layer may look through to the input."""
    if shadow is not None and not visit.flow.depends(y):
        # Whole numbers have no gradient: what arrives is handed to them as it is.
        shadow = visit.booked_shadow(shadow, "relevance_out")
        part = ops.cast(ops.broadcast_to(shadow, tuple(y.shape)), y.dtype)
        y = visit.flow.backend.bind(y, [part], [], _as_it_is)
    else:
        y = visit.absorb(y, "absorbed_by_bias", ops.stop_gradient(offset))
    y = visit.leave(y)
    return y if shadow is None else visit.follow(y, ops.broadcast_to(shadow, tuple(y.shape)))


def _as_it_is(relevance: Tensor, kept: list[Tensor]) -> list[Tensor]:
    del kept
    return [relevance]
