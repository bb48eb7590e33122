"""Embeddings: the relevance of a token is the sum over its vector."""

from __future__ import annotations

from typing import Any

import keras

from analyzer.inspection import compat
from analyzer.relevance.flow import Tensor, is_float
from analyzer.relevance.public_ops import ops
from analyzer.relevance.registry import handles, handles_operations
from analyzer.relevance.selection import rule_for
from analyzer.relevance.tokens import looked_up
from analyzer.relevance.visit import Visit

L = keras.layers


@handles(L.Embedding)
def embedding(visit: Visit, inputs: Tensor, **_: Any) -> Tensor:
    """Sums what arrives over each vector; vectors of what is no input (positions) absorb like biases."""
    visit.record.input_shapes.append(tuple(inputs.shape))
    value = visit.call(inputs)
    y = by_token(visit, ops.stop_gradient(value), visit.flow.shadow(inputs))
    return visit.leave(compat.copy_mask(y, value))


def by_token(visit: Visit, value: Tensor, shadow: Tensor | None) -> Tensor:
    """Vectors ``(..., d)`` of tokens, whose shadow is ``(...)``; None for tokens that do not come from an input."""
    if shadow is None:
        visit.record.rule.append("constant")
        return visit.constant(value)
    visit.record.rule.append("sum over the vector")
    return looked_up(visit, value, ops.expand_dims(shadow, -1))


@handles(getattr(L, "ReversibleEmbedding", None))
def reversible_embedding(visit: Visit, inputs: Tensor, reverse: bool = False, **_: Any) -> Tensor:
    """An embedding, or backwards the linear layer with the same weights."""
    if not reverse:
        return embedding(visit, inputs)
    layer, x = visit.layer, visit.enter(inputs)
    kernel = ops.transpose(ops.convert_to_tensor(layer.embeddings)) if layer.tie_weights else layer.reverse_embeddings
    dtype = layer.reverse_dtype or layer.compute_dtype
    z = visit.linear(ops.cast(x, dtype), ops.cast(kernel, dtype), None, ops.matmul, rule=rule_for(visit, "dense", x))
    cap = layer.logit_soft_cap
    if cap is not None:
        z = visit.identity(z, ops.tanh(ops.stop_gradient(z) / cap) * cap)
    return visit.leave(z)


@handles(L.Masking)
def masking(visit: Visit, inputs: Tensor, **_: Any) -> Tensor:
    """What is masked is 0 and gets nothing; the mask goes on."""
    return visit.natural(inputs)


@handles_operations("one_hot")
def one_hot(visit: Visit, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Columns of a kernel chosen by tokens: an embedding in two steps."""
    shadow = visit.flow.shadow(x)
    if shadow is None:
        return visit.call(x, *args, **kwargs)
    given = dict(zip(("num_classes", "axis", "dtype"), args, strict=False)) | kwargs
    axis: int = given.get("axis", getattr(visit.layer, "axis", -1))
    classes: int = given.get("num_classes", getattr(visit.layer, "num_classes", 0))
    dtype = given.get("dtype", getattr(visit.layer, "dtype", None))
    # Made by comparing: PyTorch's own looks at the values, which a compiled pass does not have.
    shape = [1] * (len(x.shape) + 1)
    shape[axis] = classes
    found = ops.expand_dims(x, axis) == ops.reshape(ops.arange(classes, dtype=x.dtype), shape)
    value = ops.cast(found, dtype or keras.backend.floatx())
    if not is_float(value):
        return value
    visit.record.input_shapes.append(tuple(x.shape))
    visit.record.rule.append("sum over the vector")
    y = looked_up(visit, value, ops.expand_dims(shadow, axis))
    return visit.leave(visit.flow.mark(y, nonnegative=True))


@handles_operations("take")
def take(visit: Visit, x: Tensor, indices: Any, *args: Any, **kwargs: Any) -> Tensor:
    """Rows of a table chosen by tokens; of a tensor that depends on the input, its own gradient."""
    shadow = visit.flow.shadow(indices)
    if shadow is None or visit.flow.depends(x) or not is_float(x):
        return visit.natural(x, indices, *args, **kwargs)
    axis = kwargs.get("axis", args[0] if args else getattr(visit.layer, "axis", None))
    value = visit.call(x, indices, *args, **kwargs)
    after = 0 if axis is None else len(x.shape) - 1 - axis % len(x.shape)
    visit.record.input_shapes.append(tuple(indices.shape))
    visit.record.rule.append("sum over the vector")
    return visit.leave(looked_up(visit, value, ops.reshape(shadow, (*shadow.shape, *[1] * after))))
