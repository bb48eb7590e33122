"""Relevance rules of pooling, products, softmax and normalisation in NumPy float64; notation as in `reference`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from analyzer.backends.reference import (
    STABILISER,
    Array,
    Passed,
    as_array,
    divide,
    lrp_epsilon,
    norm,
    per_sample,
    sign,
    stabilised,
)
from analyzer.backends.reference_magnitude import magnitude_shares

Windows = Sequence[Sequence[int]]
"""For each pooled output, the (flat) indices of the inputs it sees. Padding is left out."""

# Pooling --------------------------------------------------------------------------------------------------------------


def window_matrix(windows: Windows, size: int) -> Array:
    """``(i, j)``: 1 where input i is in window j."""
    joined = np.zeros((size, len(windows)))
    for j, window in enumerate(windows):
        joined[list(window), j] = 1
    return joined


def winner_take_all(x: ArrayLike, windows: Windows, r: ArrayLike, *, share_ties: bool = True) -> Passed:
    """Max pooling: the largest input of a window takes all of its relevance (Bach et al. 2015; Montavon et al. 2019).

    Args:
        x: Inputs ``(n, i)``.
        windows: One list of input indices per output.
        r: Upper relevance ``(n, j)``.
        share_ties: Winners of equal value share equally (DLBacktrace); else the first one takes all, as gradients do.
    """
    x, r = as_array(x), as_array(r)
    lower = np.zeros_like(x)
    for j, window in enumerate(windows):
        index = np.asarray(window, dtype=int)
        inside = x[:, index]
        wins = (inside == inside.max(axis=1, keepdims=True)).astype(np.float64)
        if not share_ties:
            wins *= np.cumsum(wins, axis=1) == 1
        lower[:, index] += wins / wins.sum(axis=1, keepdims=True) * r[:, j, None]
    return Passed(lower, np.zeros(len(x)), np.zeros(len(x)))


def proportional_pool(
    x: ArrayLike, windows: Windows, r: ArrayLike, *, epsilon: float = STABILISER, absolute: bool = False
) -> Passed:
    """Average pooling: R_i = x_i / stab(Σ_window x) R_j, or with ``absolute`` |x_i| / Σ_window |x| R_j (DLBacktrace).

    The sum, not the average, is stabilised (the rule `norm` of Montavon et al. 2019). Arguments as `winner_take_all`.
    """
    joined = window_matrix(windows, as_array(x).shape[1])
    if absolute:
        return magnitude_shares(x, r, connections=joined)
    return norm(x, r, connections=joined, epsilon=epsilon)


# Products and softmax -------------------------------------------------------------------------------------------------


def uniform_product(shapes: Sequence[tuple[int, ...]], r: ArrayLike) -> list[Array]:
    """Uniform rule for a product of n factors: R / n each (Achtibat et al. 2024).

    Args:
        shapes: Shape of each factor, of ``r``'s rank; an axis of 1 was broadcast and gets the sum over that axis.
        r: Relevance of the product.

    Returns:
        One array per factor. Nothing is absorbed.
    """
    r = as_array(r)
    found = []
    for shape in shapes:
        axes = tuple(a for a, (mine, its) in enumerate(zip(shape, r.shape, strict=True)) if mine == 1 != its)
        found.append((r / len(shapes)).sum(axis=axes, keepdims=True).reshape(shape))
    return found


def signal_take_all(shapes: Sequence[tuple[int, ...]], r: ArrayLike, *, signal: int) -> list[Array]:
    """Product of gates and one signal: the signal gets R, gates get nothing (Arras et al. 2017, 2019).

    Args:
        shapes: Shape of each factor; the signal's is that of ``r``.
        r: Relevance of the product.
        signal: Index of the signal.
    """
    return [as_array(r) if k == signal else np.zeros(shape) for k, shape in enumerate(shapes)]


def bilinear(a: ArrayLike, v: ArrayLike, r: ArrayLike, *, epsilon: float = STABILISER) -> tuple[Array, Array, Array]:
    """Uniform rule of a matrix product O = A V (Achtibat et al. 2024).

    R_ji(A) = Σ_p A_ji V_ip / stab(2 O_jp) R_jp and R_ip(V) = Σ_j of the same.

    Args:
        a: ``(n, ..., j, i)``.
        v: ``(n, ..., i, p)``.
        r: ``(n, ..., j, p)``.
        epsilon: Of the stabiliser.

    Returns:
        Relevance of A, of V, and what the stabiliser absorbed ``(n,)``: with ε = 0, also that of an O of exactly 0.
    """
    a, v, r = as_array(a), as_array(v), as_array(r)
    out = a @ v
    denominator = stabilised(2 * out, epsilon)
    quotient = divide(r, denominator)
    lost = np.where(denominator == 0, r, epsilon * sign(out) * quotient)
    return a * (quotient @ v.swapaxes(-1, -2)), v * (a.swapaxes(-1, -2) @ quotient), per_sample(lost)


def constant_weights(a: ArrayLike, v: ArrayLike, r: ArrayLike, *, epsilon: float = STABILISER) -> tuple[Array, Array]:
    """CP-LRP's O = A V, with constant weights A: R_ip(V) = Σ_j A_ji V_ip / stab(O_jp) R_jp (Ali et al. 2022).

    Shapes as in `bilinear`.

    Returns:
        Relevance of V, and what the stabiliser absorbed ``(n,)``.
    """
    a, v, r = as_array(a), as_array(v), as_array(r)
    out = a @ v
    denominator = stabilised(out, epsilon)
    quotient = divide(r, denominator)
    lost = np.where(denominator == 0, r, epsilon * sign(out) * quotient)
    return v * (a.swapaxes(-1, -2) @ quotient), per_sample(lost)


def masked_softmax(x: ArrayLike, mask: ArrayLike | None = None) -> Array:
    """Softmax over the last axis, exactly 0 where ``mask`` is False; a row without any True is all zeros."""
    x = as_array(x)
    allowed = np.broadcast_to(True if mask is None else np.asarray(mask, dtype=bool), x.shape)
    shifted = np.where(allowed, x, -np.inf)
    peak = np.where(allowed.any(axis=-1, keepdims=True), shifted.max(axis=-1, keepdims=True), 0.0)
    e = np.exp(shifted - peak)
    return divide(e, np.broadcast_to(e.sum(axis=-1, keepdims=True), e.shape))


def softmax(x: ArrayLike, r: ArrayLike, *, mask: ArrayLike | None = None) -> Passed:
    """AttnLRP's softmax rule: R_i = x_i (R_i^out - s_i Σ_j R_j^out) (Achtibat et al. 2024, Prop. 3.1).

    The linear part of a Taylor expansion at x: its constant absorbs the rest, in either sign, and that is booked under
    softmax. Adding a constant to all x keeps the sum and moves single shares.

    Args:
        x: Logits ``(n, ..., k)``.
        r: Upper relevance, in their shape.
        mask: False where a logit takes no part; its relevance is exactly 0.
    """
    x, r = as_array(x), as_array(r)
    s = masked_softmax(x, mask)
    allowed = np.broadcast_to(True if mask is None else np.asarray(mask, dtype=bool), x.shape)
    lower = np.where(allowed, x, 0.0) * (r - s * r.sum(axis=-1, keepdims=True))
    return Passed(lower, np.zeros(len(x)), np.zeros(len(x)), per_sample(r) - per_sample(lower))


# Normalisation --------------------------------------------------------------------------------------------------------


def group_norm(
    x: ArrayLike,
    groups: Windows,
    gamma: ArrayLike | None,
    beta: ArrayLike | None,
    r: ArrayLike,
    *,
    variance_epsilon: float = 1e-3,
    centre: bool = True,
    epsilon: float = STABILISER,
    zero_bias: bool = False,
) -> Passed:
    """Y = γ (x - mean) / σ + β by group, with the normaliser 1/σ a constant (Ali et al. 2022; Achtibat et al. 2024).

    What is left is a linear map, (I - 11ᵀ/m) diag(γ/σ) with bias β, to which the ε rule is applied. Its true gradient
    would send the sum to zero.

    Args:
        x: Inputs ``(n, i)``.
        groups: Indices that share mean and variance; every index in one group. A sequence: one group per token.
        gamma: Scale, one number or ``(i,)``; None for 1.
        beta: Offset ``(i,)`` or None.
        r: Upper relevance ``(n, i)``.
        variance_epsilon: The layer's own ε.
        centre: False for RMS normalisation: no mean is taken off, and σ² is the mean of squares.
        epsilon: Of the stabiliser.
        zero_bias: Leave β out.
    """
    x = as_array(x)
    scale = np.broadcast_to(as_array(1.0 if gamma is None else gamma), x.shape[1:])
    w = np.zeros((len(x), x.shape[1], x.shape[1]))
    for group in groups:
        index = np.asarray(group, dtype=int)
        m, inside = len(index), x[:, index]
        spread = inside.var(axis=1) if centre else (inside**2).mean(axis=1)
        block = np.eye(m) - (1 / m if centre else 0.0)
        w[:, index[:, None], index] = block * scale[index] / np.sqrt(spread + variance_epsilon)[:, None, None]
    return lrp_epsilon(x, w, beta, r, epsilon=epsilon, zero_bias=zero_bias)


def layer_norm(
    x: ArrayLike,
    gamma: ArrayLike | None,
    beta: ArrayLike | None,
    r: ArrayLike,
    *,
    variance_epsilon: float = 1e-3,
    epsilon: float = STABILISER,
    zero_bias: bool = False,
) -> Passed:
    """LayerNorm over all i: `group_norm` with one group."""
    every = [range(as_array(x).shape[1])]
    return group_norm(x, every, gamma, beta, r, variance_epsilon=variance_epsilon, epsilon=epsilon, zero_bias=zero_bias)


def rms_norm(
    x: ArrayLike,
    gamma: ArrayLike | None,
    r: ArrayLike,
    *,
    variance_epsilon: float = 1e-6,
    epsilon: float = STABILISER,
) -> Passed:
    """RMSNorm over all i: y = γ x / rms(x) with 1/rms constant, so that each element keeps its relevance."""
    every = [range(as_array(x).shape[1])]
    return group_norm(x, every, gamma, None, r, variance_epsilon=variance_epsilon, centre=False, epsilon=epsilon)


def batch_norm(
    x: ArrayLike,
    gamma: ArrayLike | None,
    beta: ArrayLike | None,
    mean: ArrayLike,
    variance: ArrayLike,
    r: ArrayLike,
    *,
    variance_epsilon: float = 1e-3,
    epsilon: float = STABILISER,
    zero_bias: bool = False,
) -> Passed:
    """BatchNorm in inference as the affine map it is, ε rule: y = s x + (β - s mean), s = γ / sqrt(variance + ε).

    Statistics have the shape of one sample, ``(i,)`` (repeat those of a channel). The alternative is
    `fold_batch_norm`, which moves what the bias absorbs to the layer before (Guillemot et al. 2020).
    """
    s, shift = _batch_norm_affine(gamma, beta, mean, variance, variance_epsilon)
    return lrp_epsilon(x, np.diag(s), shift, r, epsilon=epsilon, zero_bias=zero_bias)


def fold_batch_norm(
    w: ArrayLike,
    b: ArrayLike | None,
    gamma: ArrayLike | None,
    beta: ArrayLike | None,
    mean: ArrayLike,
    variance: ArrayLike,
    *,
    variance_epsilon: float = 1e-3,
) -> tuple[Array, Array]:
    """Weights and bias of a linear layer with the BatchNorm behind it: w s, and (b - mean) s + β.

    Args:
        w: ``(i, j)``.
        b: ``(j,)`` or None.
        gamma: ``(j,)`` or None, as the others.
        beta: Offset.
        mean: Moving mean.
        variance: Moving variance.
        variance_epsilon: The layer's own ε.
    """
    s, shift = _batch_norm_affine(gamma, beta, mean, variance, variance_epsilon)
    return as_array(w) * s, (0.0 if b is None else as_array(b)) * s + shift


def _batch_norm_affine(
    gamma: ArrayLike | None, beta: ArrayLike | None, mean: ArrayLike, variance: ArrayLike, variance_epsilon: float
) -> tuple[Array, Array]:
    s = (1.0 if gamma is None else as_array(gamma)) / np.sqrt(as_array(variance) + variance_epsilon)
    return s, (0.0 if beta is None else as_array(beta)) - s * as_array(mean)
