"""Attention in its parts: scores, softmax, weighted sum, each by its rule.

Fused kernels hide the softmax from the gradient's way, so what a layer fuses is computed here step by step. AttnLRP
(Achtibat et al., 2024, arXiv 2402.05602) shares products equally between their factors and lets relevance through the
softmax; CP-LRP (Ali et al., 2022, arXiv 2202.07304) takes the weights as constants, and values get everything.
"""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from typing import Any

import keras

from analyzer.relevance.flow import Tensor, is_float
from analyzer.relevance.public_ops import ops
from analyzer.relevance.visit import Visit

HIDDEN = -1e30
"""Score of what a query does not see: finite, so that nothing is multiplied with infinity; its weight is exactly 0."""


def dot_product(
    visit: Visit,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    axes: Sequence[int] = (1,),
    scale: float | None = None,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    causal: bool = False,
    blind: str = "everything",
) -> tuple[Tensor, Tensor]:
    """softmax(scale Q Kᵀ + bias) V.

    Args:
        visit: The call.
        query: ``(n, ..., T, ..., heads, size)``.
        key: Likewise, with S where the query has T; a divisor of the number of heads is shared by groups.
        value: As the key, with a size of its own.
        axes: Axes of positions, T and S.
        scale: Of the scores; 1 / sqrt(size) when None.
        bias: Added to the scores.
        mask: False (or 0) where a query does not see a key; broadcasts to the scores, axes of heads may be missing.
        causal: Whether later keys are hidden, too.
        blind: What a query sees that is shown nothing: ``"everything"`` or ``"nothing"``, as layers differ in that.

    Returns:
        What the query's positions get; and the weights ``(n, ..., heads, T, ..., S, ...)``.
    """
    axes = [axis % len(query.shape) for axis in axes]
    rows, columns, scored = _letters(len(query.shape), axes)
    key, value = (_grouped(t, query.shape[-2]) for t in (key, value))
    query, key = selecting(visit, query, key)
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scaled = query * ops.cast(scale, query.dtype)
    scores = visit.product(scaled, key, lambda q, k: ops.einsum(f"{rows},{columns}->{scored}", q, k))
    if bias is not None:
        scores = _biased(visit, scores, bias)
    seen = _seen(mask, scores, len(axes), causal)
    keys = -1 if len(axes) == 1 else tuple(range(len(scores.shape) - len(axes), len(scores.shape)))
    weights = weigh(visit, scores, seen, keys, blind, query.dtype)
    output = weighted(visit, weights, value, lambda a, v: ops.einsum(f"{scored},{columns}->{rows}", a, v))
    return output, weights


def selecting(visit: Visit, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Queries and keys, which weights are made of: constants in CP-LRP."""
    if visit.flow.preset.attention != "cp_lrp":
        return tensors
    visit.record.rule.append("constant attention weights")
    return tuple(ops.stop_gradient(t) for t in tensors)


def weigh(
    visit: Visit, scores: Tensor, seen: Tensor | None, axis: int | tuple[int, ...], blind: str, dtype: Any
) -> Tensor:
    """Attention weights by the softmax rule, in ``dtype``.

    Args:
        visit: The call.
        scores: Of each query and key.
        seen: False where a query does not see a key, or None.
        axis: Of the keys.
        blind: As in `dot_product`.
        dtype: Of the weights; the softmax itself is computed in float32 at least.
    """
    wide = ops.cast(scores, "float32") if keras.backend.standardize_dtype(scores.dtype) != "float64" else scores
    if seen is not None:
        wide = ops.where(seen, wide, ops.cast(HIDDEN, wide.dtype))
    weights = visit.softmax(wide, axis=axis) if visit.flow.depends(wide) else ops.softmax(wide, axis=axis)
    if seen is not None and blind == "nothing":
        weights = ops.where(seen, weights, ops.cast(0, weights.dtype))
    return visit.flow.mark(ops.cast(weights, dtype), nonnegative=True)


def weighted(visit: Visit, weights: Tensor, value: Tensor, total: Any) -> Tensor:
    """The sum of values by their weights: half of its relevance to each, all to values whose weights are constants."""
    if visit.flow.depends(weights) and visit.flow.depends(value):
        visit.record.rule.append("uniform")
        return visit.halved(weights, value, total)
    return total(weights, value)


def lower(rows: int, columns: int) -> Tensor:
    """What is not later: True on the diagonal and below."""
    return ops.expand_dims(ops.arange(rows), 1) >= ops.arange(columns)


def _letters(rank: int, axes: Sequence[int]) -> tuple[str, str, str]:
    """Subscripts of queries, of keys, and of scores."""
    rows = string.ascii_lowercase[:rank]
    columns = "".join(c.upper() if i in axes else c for i, c in enumerate(rows))
    batch = "".join(c for i, c in enumerate(rows[:-1]) if i not in axes)
    return rows, columns, batch + "".join(rows[i] for i in axes) + "".join(columns[i] for i in axes)


def _grouped(t: Tensor, heads: int) -> Tensor:
    """Keys or values of fewer heads, repeated for the queries that share them."""
    return t if t.shape[-2] == heads else ops.repeat(t, heads // t.shape[-2], axis=-2)


def _biased(visit: Visit, scores: Tensor, bias: Tensor) -> Tensor:
    bias = ops.cast(bias, scores.dtype)
    if visit.flow.depends(bias):
        return scores + bias
    # Biases can be masks: what is infinite there has a weight of 0, and absorbs nothing.
    finite = ops.where(ops.isfinite(bias), bias, ops.cast(0, bias.dtype))
    whole = ops.broadcast_to(finite, scores.shape)
    return visit.absorb(scores + ops.maximum(bias, ops.cast(HIDDEN, bias.dtype)), "absorbed_by_bias", whole)


def _seen(mask: Tensor | None, scores: Tensor, positions: int, causal: bool) -> Tensor | None:
    """What queries see, in a shape that broadcasts to the scores."""
    found = None
    if mask is not None:
        found = mask > 0.5 if is_float(mask) else ops.cast(mask, "bool")
        for _ in range(len(scores.shape) - len(found.shape)):
            found = ops.expand_dims(found, axis=-2 * positions - 1)
    if causal:
        upto = lower(*scores.shape[-2:])
        found = upto if found is None else ops.logical_and(found, upto)
    return found
