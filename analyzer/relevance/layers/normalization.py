"""Normalisations: statistics are constants, so that relevance is not swallowed."""

from __future__ import annotations

from typing import Any

import keras

from analyzer.relevance.flow import Tensor
from analyzer.relevance.linear import Linear
from analyzer.relevance.public_ops import ops
from analyzer.relevance.registry import handles
from analyzer.relevance.rules import Pass
from analyzer.relevance.visit import Visit

L = keras.layers


@handles(L.BatchNormalization)
def batch_normalization(visit: Visit, inputs: Tensor, **_: Any) -> Tensor:
    """Folded into the linear layer before it, as an affine map, or passed by, as the preset says."""
    layer = visit.layer
    dtype = inputs.dtype
    scale = ops.rsqrt(ops.convert_to_tensor(layer.moving_variance) + layer.epsilon)
    if layer.scale:
        scale = scale * ops.convert_to_tensor(layer.gamma)
    offset = -ops.convert_to_tensor(layer.moving_mean) * scale
    if layer.center:
        offset = offset + ops.convert_to_tensor(layer.beta)
    axis = layer.axis % len(inputs.shape)
    shape = [1] * len(inputs.shape)
    shape[axis] = -1
    scale, offset = (ops.cast(ops.reshape(t, shape), dtype) for t in (scale, offset))
    folded = visit.flow.folded.pop(id(inputs), None)
    if folded is not None and axis == _channels(folded[0].layer, len(inputs.shape)):
        return _folded(visit, folded, scale, offset)
    if folded is not None:
        before, terms, rule = folded
        inputs = before.leave(before.spread(terms, rule))
    x = visit.enter(inputs)
    # Two maps are conserved in every layer: each channel has one contribution, its offset only decides.
    if visit.flow.preset.batch_normalization == "pass" or visit.flow.preset.contrastive:
        terms = Linear(flow=visit.flow, x=x, kernel=scale, own_bias=offset, product=ops.multiply)
        return visit.leave(visit.spread(terms, Pass()))
    visit.record.rule.append("affine")
    return visit.leave(visit.affine(x, scale, offset))


def _channels(layer: Any, rank: int) -> int:
    """The axis of a linear layer's output channels."""
    return 1 if getattr(layer, "data_format", None) == "channels_first" else rank - 1


def _folded(visit: Visit, folded: Any, scale: Tensor, offset: Tensor) -> Tensor:
    """One linear layer out of two: relevance leaves where the first one's input is."""
    before, terms, rule = folded
    y = before.spread(terms.followed_by(scale, offset), rule)
    visit.record.rule.append(f"folded into {before.record.id}")
    visit.record.input_shapes.append(tuple(y.shape))
    y = before.leave(y)
    if visit.flow.options.ledger:
        y = visit.flow.like(visit._book(y, {"relevance_out": y}), y)
    return visit.leave(y)


def _wide(x: Tensor) -> Tensor:
    """In float32 where it was in half precision, as Keras computes its normalisations."""
    return ops.cast(x, "float32") if keras.backend.standardize_dtype(x.dtype) in ("float16", "bfloat16") else x


@handles(L.LayerNormalization)
def layer_normalization(visit: Visit, inputs: Tensor, **_: Any) -> Tensor:
    """Centred, and divided by a constant (Ali et al., 2022)."""
    layer, x = visit.layer, visit.enter(inputs)
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    wide = _wide(x)
    centred = wide - ops.mean(wide, axis=axes, keepdims=True)
    variance = ops.mean(ops.square(ops.stop_gradient(centred)), axis=axes, keepdims=True)
    scaled_only = getattr(layer, "rms_scaling", False)
    y = (wide if scaled_only else centred) * ops.rsqrt(variance + layer.epsilon)
    shape = [size if i in [a % len(x.shape) for a in axes] else 1 for i, size in enumerate(x.shape)]
    scale = ops.reshape(ops.convert_to_tensor(layer.gamma), shape) if layer.scale or scaled_only else None
    offset = ops.reshape(ops.convert_to_tensor(layer.beta), shape) if layer.center and not scaled_only else None
    visit.record.rule.append("constant normaliser")
    return visit.leave(ops.cast(visit.affine(y, scale, offset), x.dtype))


@handles(L.GroupNormalization)
def group_normalization(visit: Visit, inputs: Tensor, **_: Any) -> Tensor:
    """Centred within each group of channels, and divided by a constant."""
    layer, x = visit.layer, visit.enter(inputs)
    shape, axis = tuple(x.shape), layer.axis % len(x.shape)
    wide = _wide(x)
    groups = ops.reshape(wide, (*shape[:axis], layer.groups, shape[axis] // layer.groups, *shape[axis + 1 :]))
    axes = [a for a in range(1, len(groups.shape)) if a != axis]
    centred = groups - ops.mean(groups, axis=axes, keepdims=True)
    variance = ops.mean(ops.square(ops.stop_gradient(centred)), axis=axes, keepdims=True)
    y = ops.reshape(centred * ops.rsqrt(variance + layer.epsilon), shape)
    along = [-1 if a == axis else 1 for a in range(len(shape))]
    scale = ops.reshape(ops.convert_to_tensor(layer.gamma), along) if layer.scale else None
    offset = ops.reshape(ops.convert_to_tensor(layer.beta), along) if layer.center else None
    visit.record.rule.append("constant normaliser")
    return visit.leave(ops.cast(visit.affine(y, scale, offset), x.dtype))


@handles(getattr(L, "RMSNormalization", None))
def rms_normalization(visit: Visit, inputs: Tensor, **_: Any) -> Tensor:
    layer, x = visit.layer, visit.enter(inputs)
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    square = ops.mean(ops.square(ops.stop_gradient(x)), axis=axes, keepdims=True)
    visit.record.rule.append("constant normaliser")
    return visit.leave(x * ops.rsqrt(square + layer.epsilon) * ops.convert_to_tensor(layer.scale))


@handles(L.UnitNormalization)
def unit_normalization(visit: Visit, inputs: Tensor, **_: Any) -> Tensor:
    x = visit.enter(inputs)
    still = ops.stop_gradient(x)
    norm = ops.where(still == 0, 1.0, visit.call(still) / ops.where(still == 0, 1.0, still))
    visit.record.rule.append("constant normaliser")
    return visit.leave(x * norm)


@handles(L.SpectralNormalization)
def spectral_normalization(visit: Visit, inputs: Tensor, **kwargs: Any) -> Tensor:
    """At inference nothing but the layer inside, whose kernel was normalised in training."""
    visit.record.rule.append("its parts")
    return visit.leave(visit.call(visit.enter(inputs), **kwargs))
