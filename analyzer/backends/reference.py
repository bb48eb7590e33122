"""Relevance rules in NumPy float64, slow and plain: what the three backends are compared with.

Every rule takes a layer as its dense matrix, so a convolution, a pooling or a projection is brought here by
`linear_map` first. Shapes: inputs ``x`` (n, i); weights ``w`` (i, j), or (n, i, j) where the map depends on the sample;
bias ``b`` (j,), (n, j) or None; upper relevance ``r`` (n, j). What comes back is the lower relevance (n, i), and per
sample what was absorbed on the way: lower + absorbed = upper holds for every rule and every input.

Notation: contribution z_ij = x_i w_ij, pre-activation t_j = Σ_i z_ij + b_j, P_j and N_j the sums of the positive
contributions and of the absolute negative ones, v⁺ = max(v, 0), v⁻ = min(v, 0), stab(t) = t + ε sign(t) with
sign(0) = +1. A share whose denominator is exactly zero is zero: the relevance of that unit goes to the stabiliser.
With ``zero_bias`` a rule sees the layer without its bias: nothing is absorbed by it.

DLBacktrace's modes are in `reference_magnitude`, pooling, products, softmax and normalisation in
`reference_operations`, attention in `reference_attention`, LSTM and GRU in `reference_recurrent`. Nothing here is
imported from, or shared with, the engines under test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

STABILISER = 1e-6
"""Absolute ε, of all rules unless said."""


@dataclass(frozen=True)
class Passed:
    """What went through a layer, and what stayed.

    Attributes:
        lower: Relevance of the layer's inputs, in their shape.
        bias: Absorbed by biases, ``(n,)``.
        stabiliser: Absorbed by ε, and the relevance of units with a zero denominator, ``(n,)``.
        softmax: Absorbed by the softmax rule, ``(n,)``; a single 0 where there is none.
    """

    lower: Array
    bias: Array
    stabiliser: Array
    softmax: Array = field(default_factory=lambda: np.zeros(1))

    @property
    def absorbed(self) -> Array:
        """All that did not reach the inputs, ``(n,)``."""
        return self.bias + self.stabiliser + self.softmax


def linear_map(call: Callable[[Array], Any], shape: tuple[int, ...]) -> tuple[Array, Array]:
    """The dense matrix and bias of an affine map, by applying it to the basis vectors.

    Args:
        call: From a batch ``(n, *shape)`` to a batch of any shape; float64 comes in.
        shape: Shape of one sample.

    Returns:
        ``w`` (i, j) and ``b`` (j,), of the flattened samples: ``call(x) = x @ w + b``.

    Raises:
        ValueError: If the map is not affine (to 1e-4, for maps that compute in float32).
    """
    size = int(np.prod(shape))

    def flat(x: Array) -> Array:
        return np.asarray(call(x.reshape(-1, *shape)), dtype=np.float64).reshape(len(x), -1)

    b = flat(np.zeros((1, size)))[0]
    w = flat(np.eye(size)) - b
    # Both signs and several magnitudes: an activation or a product would show.
    probe = np.random.default_rng(0).normal(size=(2, size)) * [[1.0], [3.0]]
    expected = probe @ w + b
    gap = np.abs(flat(probe) - expected).max()
    if gap > 1e-4 * max(1.0, np.abs(expected).max()):
        raise ValueError(f"The map is not affine: it is off its own matrix by {gap:.3g}; linearise it before.")
    return w, b


def as_array(values: ArrayLike) -> Array:
    """``values`` as float64."""
    return np.asarray(values, dtype=np.float64)


def sign(t: Array) -> Array:
    """-1 where ``t`` is negative, else 1, also at 0."""
    return np.where(t >= 0, 1.0, -1.0)


def stabilised(t: Array, epsilon: float) -> Array:
    """stab(t) = t + ε sign(t)."""
    return t + epsilon * sign(t)


def divide(numerator: Array, denominator: Array) -> Array:
    """The quotient, and zero where the denominator is zero."""
    zero = denominator == 0
    return np.where(zero, 0.0, numerator / np.where(zero, 1.0, denominator))


def per_sample(amounts: Array) -> Array:
    """The sum of ``amounts`` (n, ...) over everything but the samples."""
    return np.asarray(amounts.reshape(len(amounts), -1).sum(axis=1))


def contributions(x: ArrayLike, w: ArrayLike) -> Array:
    """z_ij = x_i w_ij, ``(n, i, j)``.

    Raises:
        ValueError: If the shapes are not (n, i) and (i, j) or (n, i, j).
    """
    x, w = as_array(x), as_array(w)
    if x.ndim != 2 or w.ndim not in (2, 3) or w.shape[-2] != x.shape[1]:
        raise ValueError(f"Expected x (n, i) and w (i, j) or (n, i, j); got {x.shape} and {w.shape}.")
    return x[:, :, None] * w


def bias_row(b: ArrayLike | None, *, zero_bias: bool, units: int) -> Array:
    """The bias as ``(1, j)`` or ``(n, j)``; zeros where there is none or it is left out."""
    if b is None or zero_bias:
        return np.zeros((1, units))
    return np.atleast_2d(as_array(b))


def distribute(shares: Array, bias: Array, r: ArrayLike, epsilon: float) -> Passed:
    """R_i = Σ_j shares_ij / stab(Σ_i shares_ij + bias_j) R_j: the step that all rules have in common.

    Args:
        shares: ``(n, i, j)``, signed, not normalised.
        bias: ``(1, j)`` or ``(n, j)``, its share in the same units.
        r: Upper relevance ``(n, j)``.
        epsilon: Of the stabiliser.
    """
    r = as_array(r)
    if r.shape != (shares.shape[0], shares.shape[2]):
        raise ValueError(f"Expected upper relevance {(shares.shape[0], shares.shape[2])}; got {r.shape}.")
    total = shares.sum(axis=1) + bias
    denominator = stabilised(total, epsilon)
    quotient = divide(r, denominator)
    lower = (shares * quotient[:, None, :]).sum(axis=2)
    lost = np.where(denominator == 0, r, epsilon * sign(total) * quotient)
    return Passed(lower, per_sample(bias * quotient), per_sample(lost))


# Rules for hidden layers ----------------------------------------------------------------------------------------------


def lrp_0(x: ArrayLike, w: ArrayLike, b: ArrayLike | None, r: ArrayLike, *, zero_bias: bool = False) -> Passed:
    """LRP-0: R_i = Σ_j z_ij / t_j R_j (Bach et al. 2015, eq. 56 without its ε).

    Args:
        x: Inputs ``(n, i)``.
        w: Weights ``(i, j)`` or ``(n, i, j)``.
        b: Bias ``(j,)``, ``(n, j)`` or None.
        r: Upper relevance ``(n, j)``.
        zero_bias: Leave the bias out.
    """
    return lrp_epsilon(x, w, b, r, epsilon=0.0, zero_bias=zero_bias)


def lrp_epsilon(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None,
    r: ArrayLike,
    *,
    epsilon: float = STABILISER,
    zero_bias: bool = False,
) -> Passed:
    """ε rule: R_i = Σ_j z_ij / stab(t_j) R_j (Bach et al. 2015; Montavon et al. 2019).

    Args: as `lrp_0`, with ``epsilon`` of the stabiliser.
    """
    z = contributions(x, w)
    return distribute(z, bias_row(b, zero_bias=zero_bias, units=z.shape[2]), r, epsilon)


def lrp_gamma(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None,
    r: ArrayLike,
    *,
    gamma: float = 0.25,
    epsilon: float = STABILISER,
    zero_bias: bool = False,
) -> Passed:
    """Generalised γ rule, for inputs and pre-activations of either sign (Montavon et al. 2019; Andéol et al. 2021).

    Where t_j >= 0 the positive contributions weigh 1 + γ, that is W + γW⁺ on x⁺ and W + γW⁻ on x⁻, with bias b + γb⁺:
    R_i = Σ_j (z_ij + γ z_ij⁺) / stab(Σ_i (z_ij + γ z_ij⁺) + b_j + γ b_j⁺) R_j. Where t_j < 0 the negative ones do:
    z_ij + γ z_ij⁻ and b + γb⁻. With ``zero_bias`` t_j is the sum without the bias.
    """
    z = contributions(x, w)
    bias = bias_row(b, zero_bias=zero_bias, units=z.shape[2])
    up = z.sum(axis=1) + bias >= 0
    favoured = np.where(up[:, None, :], np.maximum(z, 0), np.minimum(z, 0))
    favoured_bias = np.where(up, np.maximum(bias, 0), np.minimum(bias, 0))
    return distribute(z + gamma * favoured, bias + gamma * favoured_bias, r, epsilon)


def z_plus(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None,
    r: ArrayLike,
    *,
    epsilon: float = STABILISER,
    zero_bias: bool = False,
) -> Passed:
    """z+ rule: R_i = Σ_j z_ij⁺ / stab(P_j + b_j⁺) R_j, with z⁺ = x⁺W⁺ + x⁻W⁻ (Montavon et al. 2017)."""
    z = contributions(x, w)
    bias = bias_row(b, zero_bias=zero_bias, units=z.shape[2])
    return distribute(np.maximum(z, 0), np.maximum(bias, 0), r, epsilon)


def alpha_beta(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None,
    r: ArrayLike,
    *,
    alpha: float = 2.0,
    beta: float = 1.0,
    epsilon: float = STABILISER,
    zero_bias: bool = False,
) -> Passed:
    """αβ rule: R_i = Σ_j (α z_ij⁺ / stab(P_j + b_j⁺) - β z_ij⁻ / stab(-N_j + b_j⁻)) R_j (Bach et al. 2015, eq. 60).

    Taken literally: a unit without negative contributions hands down α R_j, and one without positive ones -β R_j. What
    the missing side should have carried is booked under the stabiliser, so that the sum still holds.

    Raises:
        ValueError: If α - β is not 1.
    """
    if not np.isclose(alpha - beta, 1):
        raise ValueError(f"The αβ rule needs alpha - beta = 1; got {alpha} - {beta} = {alpha - beta}.")
    z = contributions(x, w)
    r = as_array(r)
    bias = bias_row(b, zero_bias=zero_bias, units=z.shape[2])
    above = distribute(np.maximum(z, 0), np.maximum(bias, 0), alpha * r, epsilon)
    # A negative total is stabilised away from zero, as sign(t) would: -N - ε.
    below = distribute(np.maximum(-z, 0), np.maximum(-bias, 0), beta * r, epsilon)
    return Passed(above.lower - below.lower, above.bias - below.bias, above.stabiliser - below.stabiliser)


def identity(r: ArrayLike) -> Passed:
    """Pass, or identity: R_i = R_j (Bach et al. 2015; Achtibat et al. 2024).

    For element-wise activations, dropout and reshapes.
    """
    r = as_array(r)
    return Passed(r, np.zeros(len(r)), np.zeros(len(r)))


def norm(x: ArrayLike, r: ArrayLike, *, connections: ArrayLike | None = None, epsilon: float = STABILISER) -> Passed:
    """Norm: every output shares by the values alone, R_i = Σ_j x_i / stab(Σ_i x_i) R_j. Sums, averages, residual adds.

    Args:
        x: Inputs ``(n, i)``.
        r: Upper relevance ``(n, j)``.
        connections: ``(i, j)``, how often input i enters output j; all once when None.
        epsilon: Of the stabiliser.
    """
    x, r = as_array(x), as_array(r)
    joined = np.ones((x.shape[1], r.shape[1])) if connections is None else as_array(connections)
    return lrp_epsilon(x, joined, None, r, epsilon=epsilon)


# Rules for the first layer: relevance also where x = 0 ----------------------------------------------------------------


def z_box(
    x: ArrayLike, w: ArrayLike, r: ArrayLike, *, low: ArrayLike, high: ArrayLike, epsilon: float = STABILISER
) -> Passed:
    """z-box rule: shares x_i w_ij - low_i w_ij⁺ - high_i w_ij⁻, for inputs in [low, high] (Montavon et al. 2017).

    The bias plays no part (its three terms cancel). ``low <= 0 <= high``; numbers, or one value per input.
    """
    x, w = as_array(x), as_array(w)
    below = contributions(np.broadcast_to(as_array(low), x.shape), np.maximum(w, 0))
    above = contributions(np.broadcast_to(as_array(high), x.shape), np.minimum(w, 0))
    return distribute(contributions(x, w) - below - above, np.zeros((1, w.shape[-1])), r, epsilon)


def w_squared(w: ArrayLike, r: ArrayLike, *, epsilon: float = STABILISER) -> Passed:
    """w² rule: R_i = Σ_j w_ij² / stab(Σ_i w_ij²) R_j, whatever the inputs and the bias (Montavon et al. 2017)."""
    w = as_array(w)
    return flat(w**2, r, epsilon=epsilon)


def flat(connections: ArrayLike, r: ArrayLike, *, epsilon: float = STABILISER) -> Passed:
    """Flat rule: every output is shared equally by the inputs it sees (Lapuschkin et al. 2019).

    Args:
        connections: ``(i, j)``, how often input i enters output j: the layer's matrix with all weights set to one. A
            zero here means outside the window, which a zero weight does not.
        r: Upper relevance ``(n, j)``.
        epsilon: Of the stabiliser.
    """
    r = as_array(r)
    joined = as_array(connections)
    return lrp_epsilon(np.ones((len(r), joined.shape[-2])), joined, None, r, epsilon=epsilon)
