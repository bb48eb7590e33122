"""Layers of attention, and the dot product of two tensors."""

from __future__ import annotations

import contextlib
import string
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from analyzer.inspection import compat
from analyzer.relevance.attending import dot_product, lower, selecting, weigh, weighted
from analyzer.relevance.flow import Tensor, is_float
from analyzer.relevance.public_ops import ops
from analyzer.relevance.registry import handles, handles_operations
from analyzer.relevance.visit import Visit

L = keras.layers

_MULTI_HEAD = (L.MultiHeadAttention, L.GroupQueryAttention)


@contextlib.contextmanager
def decomposed(visit: Visit) -> Iterator[None]:
    """A scope in which multi-head attention, of classes that call it in ways of their own too, goes by its rules."""
    if not isinstance(visit.layer, _MULTI_HEAD):
        yield
        return
    halves = False

    def gate(x: Tensor, project: Any) -> Tensor:
        nonlocal halves
        opened = project(x)
        if visit.flow.preset.product == "signal":
            visit.record.rule.append("signal")
            return ops.stop_gradient(opened)
        halves = True
        return _half(opened)

    def compute(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None = None,
        training: Any = None,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> tuple[Tensor, Tensor]:
        del training
        layer = visit.layer
        axes = getattr(layer, "attention_axes", None) or (1,)
        # Without a fused kernel, Keras' softmax gives nothing to a query that sees nothing.
        fused = not (layer.dropout > 0 or return_attention_scores or len(query.shape) != 4)
        output, weights = dot_product(
            visit,
            query,
            key,
            value,
            axes=axes,
            mask=attention_mask,
            causal=use_causal_mask,
            blind="everything" if fused else "nothing",
        )
        return _half(output) if halves else output, weights

    with compat.attention_by(visit.layer, compute, gate):
        yield


@handles(*_MULTI_HEAD)
def multi_head_attention(visit: Visit, *args: Any, **kwargs: Any) -> Any:
    """Projections by their own rules, attention between them in its parts; see `analyzer.relevance.attending`."""
    given = [t for t in keras.tree.flatten((args, kwargs)) if keras.ops.is_tensor(t)]
    entered = {id(t): visit.enter(t) for t in _each(given) if is_float(t)}
    args, kwargs = keras.tree.map_structure(lambda t: entered.get(id(t), t), (list(args), kwargs))
    # Classes that compute attention in their own way are user code.
    visit.flow.user_code = not compat.attends_as_keras(visit.layer)
    with decomposed(visit):
        result = visit.call(*args, **kwargs)
    for t in given:
        # The layer takes the masks off its inputs; whoever uses these next must find them so.
        if id(t) in entered and getattr(entered[id(t)], "_keras_mask", None) is None:
            compat.drop_mask(t)
    return keras.tree.map_structure(visit.leave, result)


def _each(tensors: Sequence[Tensor]) -> list[Tensor]:
    return list({id(t): t for t in tensors}.values())


def _half(t: Tensor) -> Tensor:
    """A factor of a product that gets half of its relevance."""
    return (t + ops.stop_gradient(t)) / 2


@handles_operations("dot_product_attention")
def dot_product_attention(
    visit: Visit,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    scale: float | None = None,
    is_causal: bool = False,
    flash_attention: bool | None = None,
    attn_logits_soft_cap: float | None = None,
) -> Tensor:
    """`keras.ops.dot_product_attention`, in its parts."""
    del flash_attention
    if attn_logits_soft_cap is not None:
        raise visit.refuse("a soft cap on attention scores has no rule; leave attn_logits_soft_cap at None.")
    y, _ = dot_product(
        visit,
        *(visit.enter(t) for t in (query, key, value)),
        scale=scale,
        bias=bias,
        mask=mask,
        causal=is_causal or bool(getattr(visit.layer, "is_causal", False)),
    )
    return visit.leave(y)


@handles(L.Attention, L.AdditiveAttention)
def attention(
    visit: Visit,
    inputs: Sequence[Tensor],
    mask: Sequence[Tensor | None] | None = None,
    return_attention_scores: bool = False,
    use_causal_mask: bool = False,
    **_: Any,
) -> Any:
    """Attention without projections: dot products, or sums of tanh."""
    query, value = (visit.enter(t) for t in inputs[:2])
    key = visit.enter(inputs[2]) if len(inputs) > 2 else value
    query_mask, value_mask = (None, None) if not mask else mask[:2]
    scores = _scores(visit, *selecting(visit, query, key))
    seen = None if value_mask is None else ops.expand_dims(ops.cast(value_mask, "bool"), -2)
    if use_causal_mask:
        upto = lower(*scores.shape[-2:])
        seen = upto if seen is None else ops.logical_and(seen, upto)
    weights = weigh(visit, scores, seen, -1, "everything", scores.dtype)
    y = weighted(visit, weights, value, ops.matmul)
    if query_mask is not None:
        y = ops.where(ops.expand_dims(ops.cast(query_mask, "bool"), -1), y, ops.cast(0, y.dtype))
    y = visit.leave(y)
    return (y, visit.leave(weights)) if return_attention_scores else y


def _scores(visit: Visit, query: Tensor, key: Tensor) -> Tensor:
    layer = visit.layer
    scale = None if layer.scale is None else ops.cast(ops.convert_to_tensor(layer.scale), query.dtype)
    additive = isinstance(layer, L.AdditiveAttention)
    if not additive and layer.score_mode == "dot":
        scores = visit.product(query, key, lambda q, k: ops.matmul(q, ops.swapaxes(k, -1, -2)))
        return scores if scale is None else scores * scale
    terms = ops.expand_dims(query, -2) + ops.expand_dims(key, -3)
    bent = _tanh(visit, terms, 1 if additive or scale is None else scale)
    if additive:
        return ops.sum(bent if scale is None else bent * scale, axis=-1)
    return ops.sum(bent, axis=-1) * ops.cast(ops.convert_to_tensor(layer.concat_score_weight), query.dtype)


def _tanh(visit: Visit, terms: Tensor, scale: Any) -> Tensor:
    y = ops.tanh(ops.stop_gradient(terms) * scale)
    return visit.identity(terms, y) if visit.flow.depends(terms) else y


@handles(L.Dot)
def dot(visit: Visit, inputs: Sequence[Tensor], **_: Any) -> Tensor:
    """Half to each factor, normalised by constants if at all."""
    layer = visit.layer
    a, b = (visit.enter(t) for t in inputs)
    axes = [layer.axes] * 2 if isinstance(layer.axes, int) else list(layer.axes)
    axes = [axis % len(t.shape) for axis, t in zip(axes, (a, b), strict=True)]
    if layer.normalize:
        a, b = (_normalised(t, axis) for t, axis in zip((a, b), axes, strict=True))
    first = string.ascii_lowercase[: len(a.shape)]
    second = first[0] + string.ascii_uppercase[1 : len(b.shape)]
    second = second.replace(second[axes[1]], first[axes[0]])
    rest = first.replace(first[axes[0]], "") + second[1:].replace(first[axes[0]], "")
    y = visit.product(a, b, lambda a, b: ops.einsum(f"{first},{second}->{rest}", a, b))
    return visit.leave(y if len(y.shape) > 1 else ops.expand_dims(y, -1))


def _normalised(t: Tensor, axis: int) -> Tensor:
    still = ops.stop_gradient(t)
    unit = ops.normalize(still, axis=axis, order=2)
    return t * ops.where(still == 0, ops.cast(0, t.dtype), unit / ops.where(still == 0, ops.ones_like(still), still))
