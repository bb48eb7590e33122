"""Relevance through LSTM and GRU in NumPy float64, step by step; notation as in `reference`.

Two rules for the products of a gate and a signal: ``signal``, where the signal takes all and gates get nothing (Arras
et al. 2017, 2019), and ``uniform``, where each of the two gets half (Achtibat et al. 2024). Sums share by value and
kernels follow the ε rule; activations are passed (identity), also those of gates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from analyzer.backends.reference import STABILISER, Array, Passed, as_array, divide, lrp_epsilon, per_sample, stabilised

RULES = ("signal", "uniform")


def sigmoid(t: Array) -> Array:
    """1 / (1 + exp(-t)), without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * t)))


@dataclass(frozen=True)
class RecurrentPassed(Passed):
    """Also the relevance of the initial states, ``(n, units)`` each: (h, c) of an LSTM, (h,) of a GRU."""

    states: tuple[Array, ...] = ()


@dataclass
class _Booked:
    """What linear maps and sums absorbed so far, ``(n,)``."""

    epsilon: float
    zero_bias: bool
    bias: Array | float = field(default=0.0)
    stabiliser: Array | float = field(default=0.0)

    def linear(self, x: Array, w: Array, b: Array | None, r: Array) -> Array:
        """ε rule; books what it absorbs and returns the lower relevance."""
        passed = lrp_epsilon(x, w, b, r, epsilon=self.epsilon, zero_bias=self.zero_bias)
        self.bias = self.bias + passed.bias
        self.stabiliser = self.stabiliser + passed.stabiliser
        return passed.lower

    def sum_of(self, terms: Sequence[Array], r: Array) -> list[Array]:
        """Shares of the terms of an element-wise sum, by value."""
        total = np.sum(terms, axis=0)
        quotient = divide(r, stabilised(total, self.epsilon))
        self.stabiliser = self.stabiliser + per_sample(r - total * quotient)
        return [term * quotient for term in terms]


def _gate_share(rule: str) -> float:
    if rule not in RULES:
        raise ValueError(f"Unknown rule for gates {rule!r}; known are {', '.join(RULES)}.")
    return {"signal": 0.0, "uniform": 0.5}[rule]


def _start(x: Array, units: int, count: int, given: Sequence[ArrayLike] | None) -> list[Array]:
    return [as_array(state) for state in given] if given is not None else [np.zeros((len(x), units))] * count


def _steps_taken(x: Array, mask: ArrayLike | None) -> Array:
    """``(n, T, 1)``, False where a step is masked and the states are carried over."""
    taken = np.ones(x.shape[:2], dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    return taken[:, :, None]


# LSTM -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _LstmStep:
    """Before a step: h, c. In it: gates i, f, o, candidate g. After it: c_new, h_new."""

    h: Array
    c: Array
    i: Array
    f: Array
    g: Array
    o: Array
    c_new: Array
    h_new: Array


def lstm_steps(
    x: ArrayLike,
    kernel: ArrayLike,
    recurrent: ArrayLike,
    bias: ArrayLike | None,
    *,
    states: Sequence[ArrayLike] | None = None,
    mask: ArrayLike | None = None,
    activation: Callable[[Array], Array] = np.tanh,
    gate_activation: Callable[[Array], Array] = sigmoid,
) -> list[_LstmStep]:
    """The forward pass, step by step: c' = f c + i g, h' = o tanh(c'). Arguments as `lstm`; outputs are ``h_new``."""
    x, kernel, recurrent = as_array(x), as_array(kernel), as_array(recurrent)
    h, c = _start(x, recurrent.shape[0], 2, states)
    taken = _steps_taken(x, mask)
    steps = []
    for t in range(x.shape[1]):
        z = x[:, t] @ kernel + h @ recurrent + (0.0 if bias is None else as_array(bias))
        i, f, candidate, o = np.split(z, 4, axis=1)
        i, f, g, o = gate_activation(i), gate_activation(f), activation(candidate), gate_activation(o)
        c_new = np.where(taken[:, t], f * c + i * g, c)
        h_new = np.where(taken[:, t], o * activation(c_new), h)
        steps.append(_LstmStep(h, c, i, f, g, o, c_new, h_new))
        h, c = h_new, c_new
    return steps


def lstm(
    x: ArrayLike,
    kernel: ArrayLike,
    recurrent: ArrayLike,
    bias: ArrayLike | None,
    r: ArrayLike,
    *,
    rule: str = "signal",
    states: Sequence[ArrayLike] | None = None,
    r_states: Sequence[ArrayLike] | None = None,
    mask: ArrayLike | None = None,
    activation: Callable[[Array], Array] = np.tanh,
    gate_activation: Callable[[Array], Array] = sigmoid,
    epsilon: float = STABILISER,
    zero_bias: bool = False,
) -> RecurrentPassed:
    """Relevance of an LSTM's inputs (Arras et al. 2017).

    Backwards in time: R(h') goes to c' whole (o is a gate), R(c') is shared by f c and i g, f c gives to c, i g to g,
    and g's pre-activation by the ε rule to x and h. With ``rule="uniform"`` each product gives half to its gate, and
    the gate's pre-activation its part to x and h.

    Args:
        x: Inputs ``(n, T, i)``.
        kernel: ``(i, 4 units)`` in Keras' order: input gate, forget gate, candidate, output gate.
        recurrent: ``(units, 4 units)``.
        bias: ``(4 units,)`` or None.
        r: Relevance of the output of every step, ``(n, T, units)``; zeros but for the last where only it is returned.
        rule: One of `RULES`.
        states: Initial h and c, ``(n, units)`` each; zeros when None.
        r_states: Relevance of the final h and c, where they are used on their own.
        mask: ``(n, T)``, False where a step is left out: states are carried over, and so is their relevance.
        activation: Of the candidate and the cell.
        gate_activation: Of the three gates.
        epsilon: Of the stabiliser.
        zero_bias: Leave the bias out of the denominators; the forward pass keeps it.
    """
    to_gate = _gate_share(rule)
    x, kernel, recurrent, r = as_array(x), as_array(kernel), as_array(recurrent), as_array(r)
    kernels = np.split(np.concatenate([kernel, recurrent]), 4, axis=1)
    biases = [None] * 4 if bias is None else np.split(as_array(bias), 4)
    steps = lstm_steps(
        x, kernel, recurrent, bias, states=states, mask=mask, activation=activation, gate_activation=gate_activation
    )
    taken, booked, r_x = _steps_taken(x, mask), _Booked(epsilon, zero_bias), np.zeros_like(x)
    r_h, r_c = _start(x, recurrent.shape[0], 2, r_states)
    for t in reversed(range(x.shape[1])):
        step, went = steps[t], taken[:, t]
        # What arrives at a masked step is set aside and carried over it.
        r_out = r_h + r[:, t]
        r_cell = np.where(went, r_c + (1 - to_gate) * r_out, 0.0)
        kept, new = booked.sum_of([step.f * step.c, step.i * step.g], r_cell)
        upper = [to_gate * new, to_gate * kept, (1 - to_gate) * new, np.where(went, to_gate * r_out, 0.0)]
        below = np.concatenate([x[:, t], step.h], axis=1)
        lower = np.sum(
            [booked.linear(below, w, b, part) for w, b, part in zip(kernels, biases, upper, strict=True)], axis=0
        )
        r_x[:, t] = lower[:, : x.shape[2]]
        r_h = np.where(went, lower[:, x.shape[2] :], r_out)
        r_c = np.where(went, (1 - to_gate) * kept, r_c)
    return RecurrentPassed(r_x, np.asarray(booked.bias), np.asarray(booked.stabiliser), states=(r_h, r_c))


# GRU ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _GruStep:
    """Before a step: h. In it: gates z (update) and reset, candidate g. After it: h_new."""

    h: Array
    z: Array
    reset: Array
    g: Array
    h_new: Array


def _gru_biases(bias: ArrayLike | None, units: int) -> tuple[list[Array], list[Array]]:
    """Input and recurrent bias of (update, reset, candidate); Keras' is (2, 3 units) with ``reset_after``."""
    both = np.zeros((2, 3 * units))
    if bias is not None:
        given = as_array(bias)
        both[: given.ndim] = given
    return np.split(both[0], 3), np.split(both[1], 3)


def gru_steps(
    x: ArrayLike,
    kernel: ArrayLike,
    recurrent: ArrayLike,
    bias: ArrayLike | None,
    *,
    reset_after: bool = True,
    states: Sequence[ArrayLike] | None = None,
    mask: ArrayLike | None = None,
    activation: Callable[[Array], Array] = np.tanh,
    gate_activation: Callable[[Array], Array] = sigmoid,
) -> list[_GruStep]:
    """The forward pass, step by step: h' = z h + (1 - z) g. Arguments as `gru`; outputs are ``h_new``."""
    x, recurrent = as_array(x), as_array(recurrent)
    w, u = np.split(as_array(kernel), 3, axis=1), np.split(recurrent, 3, axis=1)
    b, rb = _gru_biases(bias, recurrent.shape[0])
    (h,) = _start(x, recurrent.shape[0], 1, states)
    taken = _steps_taken(x, mask)
    steps = []
    for t in range(x.shape[1]):
        z = gate_activation(x[:, t] @ w[0] + b[0] + h @ u[0] + rb[0])
        reset = gate_activation(x[:, t] @ w[1] + b[1] + h @ u[1] + rb[1])
        inner = reset * (h @ u[2] + rb[2]) if reset_after else (reset * h) @ u[2]
        g = activation(x[:, t] @ w[2] + b[2] + inner)
        h_new = np.where(taken[:, t], z * h + (1 - z) * g, h)
        steps.append(_GruStep(h, z, reset, g, h_new))
        h = h_new
    return steps


def gru(
    x: ArrayLike,
    kernel: ArrayLike,
    recurrent: ArrayLike,
    bias: ArrayLike | None,
    r: ArrayLike,
    *,
    reset_after: bool = True,
    rule: str = "signal",
    states: Sequence[ArrayLike] | None = None,
    r_states: Sequence[ArrayLike] | None = None,
    mask: ArrayLike | None = None,
    activation: Callable[[Array], Array] = np.tanh,
    gate_activation: Callable[[Array], Array] = sigmoid,
    epsilon: float = STABILISER,
    zero_bias: bool = False,
) -> RecurrentPassed:
    """Relevance of a GRU's inputs, by the same two rules as `lstm`.

    Backwards in time: R(h') is shared by z h and (1 - z) g; g's pre-activation is shared by x, the recurrent part under
    its reset gate, and the biases (the recurrent one times the gate with ``reset_after``), in one ε step. With
    ``rule="uniform"`` each product gives half to its gate; 1 - z is a function of the same pre-activation as z (sigmoid
    of its negative), so what it gets goes there whole.

    Args:
        x: Inputs ``(n, T, i)``.
        kernel: ``(i, 3 units)`` in Keras' order: update gate, reset gate, candidate.
        recurrent: ``(units, 3 units)``.
        bias: ``(2, 3 units)`` (input, recurrent) with ``reset_after``, else ``(3 units,)``; or None.
        r: Relevance of the output of every step, ``(n, T, units)``.
        reset_after: The gate is applied after the recurrent product (Keras' default) or before it.
        rule: One of `RULES`.
        states: Initial ``[h]``; zeros when None.
        r_states: Relevance of the final ``[h]``.
        mask: ``(n, T)``, False where a step is left out.
        activation: Of the candidate.
        gate_activation: Of both gates.
        epsilon: Of the stabiliser.
        zero_bias: Leave the biases out of the denominators; the forward pass keeps them.
    """
    to_gate = _gate_share(rule)
    x, recurrent, r = as_array(x), as_array(recurrent), as_array(r)
    w, u = np.split(as_array(kernel), 3, axis=1), np.split(recurrent, 3, axis=1)
    b, rb = _gru_biases(bias, recurrent.shape[0])
    steps = gru_steps(
        x,
        kernel,
        recurrent,
        bias,
        reset_after=reset_after,
        states=states,
        mask=mask,
        activation=activation,
        gate_activation=gate_activation,
    )
    taken, booked, r_x = _steps_taken(x, mask), _Booked(epsilon, zero_bias), np.zeros_like(x)
    (r_h,) = _start(x, recurrent.shape[0], 1, r_states)
    candidate = _candidate_reset_after if reset_after else _candidate_reset_before
    for t in reversed(range(x.shape[1])):
        step, went = steps[t], taken[:, t]
        r_out = r_h + r[:, t]
        kept, new = booked.sum_of([step.z * step.h, (1 - step.z) * step.g], np.where(went, r_out, 0.0))
        r_g = (1 - to_gate) * new
        r_below, r_before, r_reset = candidate(booked, x[:, t], step, w[2], u[2], b[2], rb[2], r_g, to_gate)
        below = np.concatenate([x[:, t], step.h], axis=1)
        lower = np.concatenate([r_below, r_before + (1 - to_gate) * kept], axis=1)
        for k, upper in enumerate([to_gate * (kept + new), r_reset]):
            lower = lower + booked.linear(below, np.concatenate([w[k], u[k]]), b[k] + rb[k], upper)
        r_x[:, t] = lower[:, : x.shape[2]]
        r_h = np.where(went, lower[:, x.shape[2] :], r_out)
    return RecurrentPassed(r_x, np.asarray(booked.bias), np.asarray(booked.stabiliser), states=(r_h,))


def _candidate_reset_after(
    booked: _Booked,
    x: Array,
    step: _GruStep,
    w: Array,
    u: Array,
    b: Array,
    rb: Array,
    r: Array,
    to_gate: float,
) -> tuple[Array, Array, Array]:
    """X w + b + reset (h u + rb): relevance of x, h and the reset gate."""
    # The linear map of [x, h] that this is once the gate is a number; its recurrent half then pays the gate.
    joined = np.concatenate([np.broadcast_to(w, (len(x), *w.shape)), u * step.reset[:, None, :]], axis=1)
    inner = 0.0 if booked.zero_bias else rb
    total = x @ w + (0.0 if booked.zero_bias else b) + step.reset * (step.h @ u + inner)
    quotient = divide(r, stabilised(total, booked.epsilon))
    lower = booked.linear(np.concatenate([x, step.h], axis=1), joined, b + step.reset * rb, r)
    # Half of what the recurrent bias took belongs to the gate, as with every part of the product.
    booked.bias = booked.bias - per_sample(to_gate * step.reset * inner * quotient)
    r_reset = to_gate * step.reset * (step.h @ u + inner) * quotient
    return lower[:, : x.shape[1]], (1 - to_gate) * lower[:, x.shape[1] :], r_reset


def _candidate_reset_before(
    booked: _Booked,
    x: Array,
    step: _GruStep,
    w: Array,
    u: Array,
    b: Array,
    rb: Array,
    r: Array,
    to_gate: float,
) -> tuple[Array, Array, Array]:
    """X w + b + (reset h) u: relevance of x, h and the reset gate."""
    lower = booked.linear(np.concatenate([x, step.reset * step.h], axis=1), np.concatenate([w, u]), b + rb, r)
    r_product = lower[:, x.shape[1] :]
    return lower[:, : x.shape[1]], (1 - to_gate) * r_product, to_gate * r_product
