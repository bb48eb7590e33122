"""Relevance through attention in NumPy float64: AttnLRP and CP-LRP, with masks; notation as in `reference`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analyzer.backends.reference import STABILISER, Array, Passed, as_array, lrp_epsilon, per_sample
from analyzer.backends.reference_operations import bilinear, constant_weights, masked_softmax
from analyzer.backends.reference_operations import softmax as softmax_rule

RULES = ("attn_lrp", "cp_lrp")


@dataclass(frozen=True)
class AttentionWeights:
    """Kernels as Keras shapes them; a bias is None or has the kernel's output shape.

    Attributes:
        query: ``(d_query, heads, size)``.
        key: ``(d_key, kv_heads, size)``; fewer heads than the query's are shared by groups (GroupQueryAttention).
        value: ``(d_value, kv_heads, value_size)``.
        output: ``(heads, value_size, d_out)``.
    """

    query: Array
    key: Array
    value: Array
    output: Array
    query_bias: Array | None = None
    key_bias: Array | None = None
    value_bias: Array | None = None
    output_bias: Array | None = None


@dataclass(frozen=True)
class AttentionPassed:
    """Relevance of the three inputs of attention, in their shapes, and what was absorbed, ``(n,)`` each."""

    query: Array
    key: Array
    value: Array
    bias: Array
    stabiliser: Array
    softmax: Array


def dot_product_attention(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    r: ArrayLike,
    *,
    rule: str = "attn_lrp",
    scale: float | None = None,
    mask: ArrayLike | None = None,
    epsilon: float = STABILISER,
) -> AttentionPassed:
    """Relevance of softmax(scale Q Kᵀ) V.

    ``attn_lrp`` (Achtibat et al. 2024): half of R to V and half to the weights, `softmax` to the scores, half of
    that to Q and to K. The same as gradient times input with dQ / 4, dK / 4 and dV / 2, where ε = 0 and no score or
    output is exactly 0. ``cp_lrp`` (Ali et al. 2022): the weights are constants, V gets all.

    Args:
        q: ``(n, heads, T, size)``.
        k: ``(n, heads, S, size)``.
        v: ``(n, heads, S, value_size)``.
        r: Upper relevance ``(n, heads, T, value_size)``.
        rule: One of `RULES`.
        scale: Of the scores; 1 / sqrt(size) when None.
        mask: Broadcasts to ``(n, heads, T, S)``, False where a query does not see a key. Such a pair passes exactly
            0. A query that sees nothing has weights 0.
        epsilon: Of the stabiliser.

    Raises:
        ValueError: If the rule is unknown.
    """
    if rule not in RULES:
        raise ValueError(f"Unknown attention rule {rule!r}; known are {', '.join(RULES)}.")
    q, k, v = as_array(q), as_array(k), as_array(v)
    scaled = q * (1 / np.sqrt(q.shape[-1]) if scale is None else scale)
    scores = scaled @ k.swapaxes(-1, -2)
    weights = masked_softmax(scores, mask)
    none = np.zeros(len(q))
    if rule == "cp_lrp":
        r_v, lost = constant_weights(weights, v, r, epsilon=epsilon)
        return AttentionPassed(np.zeros_like(q), np.zeros_like(k), r_v, none, lost, none)
    r_weights, r_v, lost_above = bilinear(weights, v, r, epsilon=epsilon)
    passed = softmax_rule(scores, r_weights, mask=mask)
    r_q, r_k, lost_below = bilinear(scaled, k.swapaxes(-1, -2), passed.lower, epsilon=epsilon)
    return AttentionPassed(r_q, r_k.swapaxes(-1, -2), r_v, none, lost_above + lost_below, passed.softmax)


def multi_head_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    weights: AttentionWeights,
    r: ArrayLike,
    *,
    rule: str = "attn_lrp",
    mask: ArrayLike | None = None,
    epsilon: float = STABILISER,
    zero_bias: bool = False,
) -> AttentionPassed:
    """Projections by the ε rule, `dot_product_attention` by head between them.

    Args:
        query: ``(n, T, d_query)``.
        key: ``(n, S, d_key)``.
        value: ``(n, S, d_value)``.
        weights: Kernels and biases.
        r: Upper relevance ``(n, T, d_out)``.
        rule: One of `RULES`.
        mask: Broadcasts to ``(n, heads, T, S)``, or ``(n, T, S)`` or ``(T, S)`` for all heads.
        epsilon: Of the stabiliser.
        zero_bias: Leave the four biases out of the denominators; the forward pass keeps them.
    """
    inputs = [as_array(part) for part in (query, key, value)]
    q, k, v = _projected(inputs, weights)
    seen = _by_head(mask)
    context = _context(q, k, v, seen)
    above = _projection(context, weights.output, weights.output_bias, r, epsilon=epsilon, zero_bias=zero_bias)
    r_context = above.lower.reshape(*context.shape[:2], *weights.output.shape[:2]).swapaxes(1, 2)
    inner = dot_product_attention(q, k, v, r_context, rule=rule, mask=seen, epsilon=epsilon)
    below = [
        _projection(x, kernel, bias, _shared_heads(upper, kernel.shape[1]), epsilon=epsilon, zero_bias=zero_bias)
        for x, (kernel, bias), upper in zip(
            inputs, _kernels(weights), (inner.query, inner.key, inner.value), strict=True
        )
    ]
    parts = [above, *below]
    return AttentionPassed(
        query=below[0].lower,
        key=below[1].lower,
        value=below[2].lower,
        bias=np.sum([part.bias for part in parts], axis=0),
        stabiliser=np.sum([part.stabiliser for part in parts], axis=0) + inner.stabiliser,
        softmax=inner.softmax,
    )


def self_attention(
    x: ArrayLike,
    weights: AttentionWeights,
    r: ArrayLike,
    *,
    rule: str = "attn_lrp",
    mask: ArrayLike | None = None,
    epsilon: float = STABILISER,
    zero_bias: bool = False,
) -> Passed:
    """`multi_head_attention` of ``x`` (n, T, d) with itself: its relevance as query, key and value together."""
    found = multi_head_attention(x, x, x, weights, r, rule=rule, mask=mask, epsilon=epsilon, zero_bias=zero_bias)
    return Passed(found.query + found.key + found.value, found.bias, found.stabiliser, found.softmax)


def attention_output(
    query: ArrayLike, key: ArrayLike, value: ArrayLike, weights: AttentionWeights, *, mask: ArrayLike | None = None
) -> Array:
    """The forward pass ``(n, T, d_out)`` that `multi_head_attention` explains; arguments as there."""
    q, k, v = _projected([as_array(part) for part in (query, key, value)], weights)
    out = _context(q, k, v, _by_head(mask)) @ as_array(weights.output).reshape(-1, weights.output.shape[-1])
    return np.asarray(out if weights.output_bias is None else out + weights.output_bias)


def _kernels(weights: AttentionWeights) -> list[tuple[Array, Array | None]]:
    return [
        (weights.query, weights.query_bias),
        (weights.key, weights.key_bias),
        (weights.value, weights.value_bias),
    ]


def _projected(inputs: list[Array], weights: AttentionWeights) -> tuple[Array, Array, Array]:
    """Q, K and V ``(n, heads, T, size)``, shared heads repeated."""
    found = []
    for x, (kernel, bias) in zip(inputs, _kernels(weights), strict=True):
        heads = np.einsum("ntd,dhs->nhts", x, kernel)
        if bias is not None:
            heads += as_array(bias)[:, None, :]
        found.append(np.repeat(heads, weights.query.shape[1] // kernel.shape[1], axis=1))
    return found[0], found[1], found[2]


def _shared_heads(upper: Array, heads: int) -> Array:
    """The relevance of repeated heads, summed over those that share one: ``(n, T, heads · size)``."""
    n, _, steps, size = upper.shape
    summed = upper.reshape(n, heads, -1, steps, size).sum(axis=2)
    return np.asarray(summed.swapaxes(1, 2).reshape(n, steps, heads * size))


def _by_head(mask: ArrayLike | None) -> NDArray[np.bool_] | None:
    """A mask of (n, T, S) gets an axis for the heads."""
    if mask is None:
        return None
    mask = np.asarray(mask, dtype=bool)
    return mask[:, None] if mask.ndim == 3 else mask


def _context(q: Array, k: Array, v: Array, mask: ArrayLike | None) -> Array:
    """The weighted values, heads side by side: ``(n, T, heads · value_size)``."""
    scores = q / np.sqrt(q.shape[-1]) @ k.swapaxes(-1, -2)
    out = (masked_softmax(scores, mask) @ v).swapaxes(1, 2)
    return np.asarray(out.reshape(*out.shape[:2], -1))


def _projection(
    x: Array, kernel: Array, bias: Array | None, r: ArrayLike, *, epsilon: float, zero_bias: bool
) -> Passed:
    """The ε rule of a projection, position by position; ``kernel`` of any rank, as a matrix on ``x``'s last axis."""
    w = as_array(kernel).reshape(x.shape[-1], -1)
    passed = lrp_epsilon(
        x.reshape(-1, x.shape[-1]),
        w,
        None if bias is None else as_array(bias).reshape(-1),
        as_array(r).reshape(-1, w.shape[1]),
        epsilon=epsilon,
        zero_bias=zero_bias,
    )
    bias_taken, lost = passed.bias.reshape(len(x), -1), passed.stabiliser.reshape(len(x), -1)
    return Passed(passed.lower.reshape(x.shape), per_sample(bias_taken), per_sample(lost))
