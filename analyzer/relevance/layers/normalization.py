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
    if folded is not None:
        return _folded(visit, folded, scale, offset)
    x = visit.enter(inputs)
    if visit.flow.preset.batch_normalization == "pass":
        terms = Linear(flow=visit.flow, x=x, kernel=scale, own_bias=offset, product=ops.multiply)
        return visit.leave(visit.spread(terms, Pass()))
    visit.record.rule.append("affine")
    return visit.leave(visit.affine(x, scale, offset))


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


@handles(L.LayerNormalization)
def layer_normalization(visit: Visit, inputs: Tensor, **_: Any) -> Tensor:
    """Centred, and divided by a constant (Ali et al., 2022)."""
    layer, x = visit.layer, visit.enter(inputs)
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    wide = ops.cast(x, "float32") if x.dtype in ("float16", "bfloat16") else x
    centred = wide - ops.mean(wide, axis=axes, keepdims=True)
    variance = ops.mean(ops.square(ops.stop_gradient(centred)), axis=axes, keepdims=True)
    y = centred * ops.rsqrt(variance + layer.epsilon)
    shape = [size if i in [a % len(x.shape) for a in axes] else 1 for i, size in enumerate(x.shape)]
    scale = ops.reshape(ops.convert_to_tensor(layer.gamma), shape) if layer.scale else None
    offset = ops.reshape(ops.convert_to_tensor(layer.beta), shape) if layer.center else None
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
