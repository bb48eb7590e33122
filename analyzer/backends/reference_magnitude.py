"""DLBacktrace's two modes in NumPy float64 (Sankarapu et al. 2024, arXiv 2411.12643), conserving in every case.

Shapes and notation as in `reference`: P_j and N_j are the sums of the positive contributions and of the absolute
negative ones, t_j = P_j - N_j + b_j the pre-activation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from analyzer.backends.reference import (
    Array,
    Passed,
    as_array,
    bias_row,
    contributions,
    distribute,
    divide,
    per_sample,
)


@dataclass(frozen=True)
class Gate:
    """Where an activation is saturated, by its pre-activation t.

    Attributes:
        low: Below it positive contributions did not matter; None for no such end.
        high: Above it negative contributions did not matter.
        function: A non-monotone activation, which also drops the side without which its value would be the same.
        tolerance: How near "the same" is.
    """

    low: float | None = None
    high: float | None = None
    function: Callable[[Array], Array] | None = None
    tolerance: float = 1e-5


def _swish(t: Array) -> Array:
    """As published: with 0.75, not 1."""
    return np.asarray(t * 0.5 * (1 + np.tanh(0.375 * t)))


GATES = {
    "linear": Gate(),
    "tanh": Gate(-2.0, 2.0),
    "sigmoid": Gate(-4.0, 4.0),
    "relu": Gate(low=0.0),
    "swish": Gate(low=-6.0, function=_swish),
    "softmax": Gate(-1.0, 2.0),
}
"""The published table of activation ranges."""


def magnitude(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None,
    r: ArrayLike,
    *,
    gate: Gate | None = None,
    epsilon: float = 0.0,
    zero_bias: bool = False,
) -> Passed:
    """Magnitude flow, DLBacktrace's default mode: R_i = Σ_j |z_ij| / (P_j + N_j + |b_j|) R_j.

    The closed form of the paper's two steps (the positive part receives P / (P + N + |b|) of R_j and shares it by
    z⁺ / P, the negative part likewise).

    With a gate, for a monotone activation: t < low drops the positive contributions, t > high the negative ones, and
    the side that stays is normalised anew, |z_ij⁻| / (N_j + |b_j|) or z_ij⁺ / (P_j + |b_j|). For a non-monotone one,
    where both sides are still there, the negative ones are dropped if f(t) = f(P + b⁺), else the positive ones if
    f(t) = f(-(N - b⁻)). A gate that would leave nothing to receive the relevance, not even a bias, does not fire. t
    always has its bias, also with ``zero_bias``: whether a unit is saturated is a fact about the model.

    Different from the published packages, on purpose: low = 0 of ReLU fires (their test for "is there a range" takes 0
    for none); f(t) = f(...) is tested to a tolerance, not by equality of floats; a unit without any contribution gives
    its relevance to bias or stabiliser, not NaN; one whose contributions have one sign conserves (0.1.24 hands down
    S / (1 + S) of it on CPU); convolutions are gated by t and normalised anew like dense layers, and softmax does not
    halve the relevance.

    Args:
        x: Inputs ``(n, i)``.
        w: Weights ``(i, j)`` or ``(n, i, j)``.
        b: Bias ``(j,)``, ``(n, j)`` or None.
        r: Upper relevance ``(n, j)``.
        gate: Of the activation that follows; None for none.
        epsilon: Of the stabiliser; the published rule has none.
        zero_bias: Leave the bias out of the denominator.
    """
    z = contributions(x, w)
    bias = bias_row(b, zero_bias=zero_bias, units=z.shape[2])
    true_bias = bias_row(b, zero_bias=False, units=z.shape[2])
    keep_positive, keep_negative = _open_sides(z, true_bias, np.abs(bias), gate or Gate())
    shares = np.maximum(z, 0) * keep_positive[:, None, :] + np.maximum(-z, 0) * keep_negative[:, None, :]
    return distribute(shares, np.abs(bias), r, epsilon)


def _open_sides(z: Array, bias: Array, receiving: Array, gate: Gate) -> tuple[Array, Array]:
    """1 where the positive, and where the negative contributions of a unit take part, ``(n, j)`` each."""
    positive, negative = np.maximum(z, 0).sum(axis=1), np.maximum(-z, 0).sum(axis=1)
    t = positive - negative + bias
    shut_positive = (t < (-np.inf if gate.low is None else gate.low)) & (negative + receiving > 0)
    shut_negative = (t > (np.inf if gate.high is None else gate.high)) & (positive + receiving > 0)
    if gate.function is not None:
        both = (positive > 0) & (negative > 0) & ~shut_positive & ~shut_negative
        value = gate.function(t)
        alone = [gate.function(positive + np.maximum(bias, 0)), gate.function(-(negative - np.minimum(bias, 0)))]
        same = [np.abs(value - one) <= gate.tolerance for one in alone]
        shut_negative |= both & same[0]
        shut_positive |= both & same[1] & ~same[0]
    return (~shut_positive).astype(np.float64), (~shut_negative).astype(np.float64)


def magnitude_shares(x: ArrayLike, r: ArrayLike, *, connections: ArrayLike | None = None) -> Passed:
    """|x| shares, DLBacktrace's rule for adds and averages: R_i = Σ_j |x_i| / Σ_i |x_i| R_j.

    Args:
        x: Inputs ``(n, i)``.
        r: Upper relevance ``(n, j)``.
        connections: ``(i, j)``, which inputs each output sees; all when None.
    """
    x, r = as_array(x), as_array(r)
    joined = np.ones((x.shape[1], r.shape[1])) if connections is None else as_array(connections)
    return magnitude(x, joined, None, r)


def contrastive(
    x: ArrayLike, w: ArrayLike, b: ArrayLike | None, supporting: ArrayLike, opposing: ArrayLike
) -> tuple[Passed, Passed]:
    """DLBacktrace's contrastive mode on a layer: two maps travel together, each by one side of every unit.

    Only positive contributions: both maps go down by z_ij / P_j; only negative ones: both by |z_ij| / N_j. Both sides
    and t > 0: the larger of the two relevances of the unit goes to the positive contributions, the other to the
    negative ones, and each keeps its name (supporting > opposing: supporting → z⁺; else opposing → z⁺). t < 0:
    mirrored, the larger one goes to the negative contributions. t = 0: both by |z_ij| / (P_j + N_j), where the
    published code drops both.

    The bias decides t and absorbs nothing, except that of a unit without any contribution: both maps stay in its bias
    (or, without one, are booked under the stabiliser). Nothing is dropped where the two maps are equal, nor where a
    convolution's unit has one side only, as in the published array version.

    Args:
        x: Inputs ``(n, i)``.
        w: Weights ``(i, j)`` or ``(n, i, j)``.
        b: Bias ``(j,)``, ``(n, j)`` or None.
        supporting: Upper relevance for, ``(n, j)``.
        opposing: Upper relevance against, ``(n, j)``.

    Returns:
        The lower supporting and the lower opposing relevance.
    """
    supporting, opposing = as_array(supporting), as_array(opposing)
    z = contributions(x, w)
    bias = bias_row(b, zero_bias=False, units=z.shape[2])
    up, down = np.maximum(z, 0), np.maximum(-z, 0)
    t = z.sum(axis=1) + bias
    supports_up = (t > 0) == (supporting > opposing)
    one_sided_or_even = (up.sum(axis=1) == 0) | (down.sum(axis=1) == 0) | (t == 0)

    def handed_down(r: Array, takes_up: Array) -> Passed:
        side = np.where(takes_up[:, None, :], up, down)
        shares = np.where(one_sided_or_even[:, None, :], up + down, side)
        total = shares.sum(axis=1)
        lower = (shares * divide(r, total)[:, None, :]).sum(axis=2)
        stuck = np.where(total == 0, r, 0.0)
        has_bias = bias != 0
        return Passed(lower, per_sample(stuck * has_bias), per_sample(stuck * ~has_bias))

    return handed_down(supporting, supports_up), handed_down(opposing, ~supports_up)
