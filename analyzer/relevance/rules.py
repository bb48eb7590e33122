"""How a linear layer hands relevance down: every rule as a value.

With ``z_ij = x_i w_ij`` and ``z_j = sum_i z_ij + b_j``, a rule says which share of the upper relevance ``R_j`` each
``z_ij`` gets. All rules here are sums of a share of ``z_ij`` and a share of ``|z_ij|``, so that one product with the
kernel and at most one with its absolute values (forward) and their transposes (backward) are all they cost.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from analyzer.backends import relevance_ops
from analyzer.errors import ConfigError
from analyzer.relevance.activation_ranges import RANGES, ROUNDING, Range, open_sides
from analyzer.relevance.public_ops import ops

Tensor = Any

STABILISER = 1e-6
"""Added to denominators with their sign, unless a rule says otherwise."""


class Terms(Protocol):
    """What a rule may ask of a linear layer; products are computed when asked for."""

    @property
    def bias(self) -> Tensor | None:
        """``b_j``, in a shape that broadcasts to the output; None without one."""

    @property
    def nonnegative(self) -> bool:
        """Whether no ``x_i`` can be negative."""

    @property
    def activation(self) -> str:
        """Name of the layer's own activation, ``"linear"`` without one."""

    @property
    def pair(self) -> int | None:
        """How many samples there are where two maps travel together, one after the other; None for one map."""

    def total(self) -> Tensor:
        """``z_j``, with the bias."""

    def signed(self) -> Tensor:
        """``sum_i z_ij``."""

    def absolute(self) -> Tensor:
        """``sum_i |z_ij|``."""

    def positive(self) -> Tensor:
        """``sum_i max(z_ij, 0)`` where no ``x_i`` is negative."""

    def negative(self) -> Tensor:
        """``sum_i min(z_ij, 0)`` where no ``x_i`` is negative."""

    def unweighted(self, weights: str, scale: Any = 1.0) -> tuple[Tensor, Tensor]:
        """A product with the inputs replaced: for rules that give relevance where ``x_i`` is 0.

        Args:
            weights: ``"square"``, ``"one"``, ``"positive"`` or ``"negative"``: what stands for the kernel.
            scale: What stands for the inputs.

        Returns:
            A part whose cotangent is relevance itself, not divided by ``x_i``; and the value of the product.
        """

    def passed(self) -> Tensor:
        """The input itself.

        Raises:
            Unsupported: If its shape is not that of the output.
        """


Back = Callable[[Tensor, list[Tensor]], list[Tensor]]
"""From the relevance of an output and the constants kept to the cotangent of each part."""

Absorbed = Callable[[list[Tensor]], tuple[Tensor | None, Tensor | None]]
"""From the constants kept to the shares that the bias and the stabiliser absorb; None for nothing."""


@dataclass(frozen=True)
class Spread:
    """Where the relevance ``R`` of an output goes.

    What happens on the way back is a function of what is kept, so that it costs nothing until relevance comes.

    Attributes:
        parts: Tensors that ``R`` reaches through their cotangents.
        kept: Constants.
        back: The cotangents.
        absorbed: The shares that are not handed on.
        epsilon: Where all goes to one part, over the output itself and this stabiliser; None elsewhere.
    """

    parts: list[Tensor]
    kept: list[Tensor]
    back: Back
    absorbed: Absorbed
    epsilon: float | None = None


def stabilised(z: Tensor, epsilon: float) -> Tensor:
    """``z + epsilon * sign(z)``, where 0 counts as positive."""
    return relevance_ops().stabilise(z, epsilon)


def _over(numerator: Tensor, denominator: Tensor) -> Tensor:
    """A quotient that is 0 where there is nothing to divide by."""
    zero = denominator == 0
    return ops.where(zero, ops.zeros_like(denominator), numerator / ops.where(zero, 1.0, denominator))


def _still(t: Tensor) -> Tensor:
    return ops.stop_gradient(t)


def _plus(t: Tensor, bias: Tensor | None) -> Tensor:
    return t if bias is None else t + bias


def _all_kept(*tensors: Tensor | None) -> list[Tensor]:
    return [_still(t) for t in tensors if t is not None]


def _unpacked(kept: list[Tensor], n: int) -> list[Any]:
    """What was kept, with None for a bias that is not there."""
    return [*kept, None][: n + 1]


@dataclass(frozen=True, kw_only=True)
class Rule(ABC):
    """How relevance goes through a linear layer.

    Attributes:
        zero_bias: Whether the bias is left out, so that it absorbs nothing.
    """

    zero_bias: bool = False

    def _bias(self, terms: Terms) -> Tensor | None:
        return None if self.zero_bias else terms.bias

    @abstractmethod
    def spread(self, terms: Terms) -> Spread:
        """Shares of the relevance of each output."""


@dataclass(frozen=True)
class Epsilon(Rule):
    """LRP-ε: ``R_i = sum_j z_ij / (z_j + ε sign z_j) R_j`` (Bach et al., 2015); LRP-0 with ``epsilon=0``."""

    epsilon: float = STABILISER

    def spread(self, terms: Terms) -> Spread:
        """By value; what cancels keeps its sign."""
        part, bias = terms.signed(), self._bias(terms)
        whole = (bias is not None or terms.bias is None) and self.epsilon > 0
        kept = _all_kept(_plus(_still(part), bias), bias)
        return Spread([part], kept, self._back, self._absorbed, self.epsilon if whole else None)

    def _back(self, relevance: Tensor, kept: list[Tensor]) -> list[Tensor]:
        if self.epsilon == 0:
            return [_over(relevance, kept[0])]
        return [relevance / stabilised(kept[0], self.epsilon)]

    def _absorbed(self, kept: list[Tensor]) -> tuple[Tensor | None, Tensor | None]:
        total, bias = _unpacked(kept, 1)
        below = stabilised(total, self.epsilon)
        left = ops.where(below == 0, 1.0, _over(below - total, below))
        return None if bias is None else _over(bias, below), left


@dataclass(frozen=True)
class AlphaBeta(Rule):
    """LRP-αβ: ``α`` for what speaks for an output, ``β`` for what speaks against (Bach et al., 2015); ``α - β = 1``."""

    alpha: float = 2.0
    beta: float = 1.0
    epsilon: float = STABILISER

    def __post_init__(self) -> None:
        if self.alpha < 0 or self.beta < 0 or abs(self.alpha - self.beta - 1) > 1e-9:
            raise ConfigError(
                f"AlphaBeta(alpha={self.alpha}, beta={self.beta}): expected alpha - beta = 1 and both at least 0; only "
                "then is relevance conserved."
            )

    def spread(self, terms: Terms) -> Spread:
        """Both signs, from two products; only one where nothing is negative and nothing may be."""
        bias = self._bias(terms)
        if terms.nonnegative and self.beta == 0:
            positive = terms.positive()
            return Spread([positive], _all_kept(positive, bias), self._back_to_positive, self._left_of_positive)
        if terms.nonnegative:
            parts = [terms.positive(), terms.negative()]
            return Spread(parts, _all_kept(*parts, bias), self._back_to_halves, self._absorbed)
        parts = [terms.signed(), terms.absolute()]
        return Spread(parts, _products(parts, bias), self._back_to_products, self._absorbed_of_products)

    def _shares(self, above: Tensor, below: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Of what is positive and of what is negative, per unit of them."""
        up, down = (None, None) if bias is None else (ops.maximum(bias, 0), ops.minimum(bias, 0))
        return self.alpha / (_plus(above, up) + self.epsilon), self.beta / (_plus(below, down) - self.epsilon)

    def _back_to_positive(self, relevance: Tensor, kept: list[Tensor]) -> list[Tensor]:
        positive, bias = _unpacked(kept, 1)
        return [relevance / (_plus(positive, None if bias is None else ops.maximum(bias, 0)) + self.epsilon)]

    def _left_of_positive(self, kept: list[Tensor]) -> tuple[Tensor | None, Tensor | None]:
        positive, bias = _unpacked(kept, 1)
        up = None if bias is None else ops.maximum(bias, 0)
        below = _plus(positive, up) + self.epsilon
        return None if up is None else up / below, self.epsilon / below

    def _back_to_halves(self, relevance: Tensor, kept: list[Tensor]) -> list[Tensor]:
        above, below, bias = _unpacked(kept, 2)
        a, b = self._shares(above, below, bias)
        return [relevance * a, -relevance * b]

    def _absorbed(self, kept: list[Tensor]) -> tuple[Tensor | None, Tensor | None]:
        above, below, bias = _unpacked(kept, 2)
        a, b = self._shares(above, below, bias)
        taken = above * a - below * b
        if bias is None:
            return None, 1 - taken
        booked = ops.maximum(bias, 0) * a - ops.minimum(bias, 0) * b
        return booked, 1 - taken - booked

    def _back_to_products(self, relevance: Tensor, kept: list[Tensor]) -> list[Tensor]:
        above, below = _halves(kept)
        a = ops.where(above > 0, relevance * (self.alpha / 2) / (above + self.epsilon), 0)
        if self.beta == 0:
            return [a, a]
        b = ops.where(below < 0, relevance * (self.beta / 2) / (below - self.epsilon), 0)
        return [a - b, a + b]

    def _absorbed_of_products(self, kept: list[Tensor]) -> tuple[Tensor | None, Tensor | None]:
        above, below = _halves(kept)
        a = ops.where(above > 0, self.alpha / (above + self.epsilon), 0)
        b = ops.where(below < 0, self.beta / (below - self.epsilon), 0)
        left = 1 - above * a + below * b
        if len(kept) == 2:
            return None, left
        return ops.maximum(kept[2], 0) * a - ops.minimum(kept[2], 0) * b, left


def _products(parts: list[Tensor], bias: Tensor | None) -> list[Tensor]:
    """The signed and the absolute sum, each with the bias as one of its terms, and the bias."""
    z, q = _all_kept(*parts)
    return [z, q] if bias is None else [z + _still(bias), q + ops.abs(_still(bias)), _still(bias)]


def _halves(kept: list[Tensor]) -> tuple[Tensor, Tensor]:
    """What is positive and what is negative of a sum; where it has no such sign there is rounding, which is nothing."""
    z, q = kept[:2]
    above, below, floor = (z + q) / 2, (z - q) / 2, ROUNDING * q
    return ops.where(above > floor, above, 0), ops.where(below < -floor, below, 0)


@dataclass(frozen=True)
class ZPlus(AlphaBeta):
    """z⁺: only what speaks for an output gets relevance (Montavon et al., 2017); αβ with ``α=1, β=0``."""

    alpha: float = 1.0
    beta: float = 0.0


@dataclass(frozen=True)
class Gamma(Rule):
    """LRP-γ, generalised to inputs and outputs of either sign: what agrees with the output counts ``1 + γ`` times.

    Montavon et al. (2019), "Layer-wise relevance propagation: an overview"; for negative outputs Andéol et al. (2021).
    """

    gamma: float = 0.25
    epsilon: float = STABILISER

    def spread(self, terms: Terms) -> Spread:
        """What agrees is the positive part for positive outputs and the negative one for negative outputs."""
        parts = [terms.signed(), terms.absolute()]
        return Spread(parts, _products(parts, self._bias(terms)), self._back, self._absorbed)

    def _below(self, kept: list[Tensor]) -> Tensor:
        """The size of the denominator, which has the sign of the output."""
        z, q = kept[:2]
        return ops.abs(z) * (1 + self.gamma / 2) + q * (self.gamma / 2) + self.epsilon

    def _back(self, relevance: Tensor, kept: list[Tensor]) -> list[Tensor]:
        share = relevance / self._below(kept)
        return [share * ops.sign(kept[0]) * (1 + self.gamma / 2), share * (self.gamma / 2)]

    def _absorbed(self, kept: list[Tensor]) -> tuple[Tensor | None, Tensor | None]:
        below = self._below(kept)
        left = ops.where(kept[0] == 0, 1 - kept[1] * (self.gamma / 2) / below, self.epsilon / below)
        if len(kept) == 2:
            return None, left
        z, _, bias = kept
        return (bias * ops.sign(z) * (1 + self.gamma / 2) + ops.abs(bias) * (self.gamma / 2)) / below, left


@dataclass(frozen=True)
class Magnitude(Rule):
    """Magnitude flow: ``R_i = sum_j |z_ij| / (sum_i |z_ij| + |b_j|) R_j``, the default mode of DLBacktrace.

    arXiv 2411.12643. Everything keeps the sign of the start: it says how much, never "against".

    Attributes:
        gates: Whether contributions of the sign that changed nothing, where the layer's own activation is saturated,
            are left out; see `analyzer.relevance.activation_ranges`.
    """

    gates: bool = False

    def spread(self, terms: Terms) -> Spread:
        """By absolute value."""
        of = RANGES.get(terms.activation) if self.gates else None
        if of is not None:
            return self._gated(of, terms)
        part, bias = terms.absolute(), self._bias(terms)
        return Spread([part], _all_kept(part, bias), self._back, self._absorbed)

    def _gated(self, of: Range, terms: Terms) -> Spread:
        """``z⁺`` and ``|z⁻|`` are half of the sum, and of the difference, of the two products."""
        parts = [terms.signed(), terms.absolute()]
        kept = _all_kept(*parts, terms.total(), terms.bias)
        return Spread(parts, kept, functools.partial(self._back_gated, of), functools.partial(self._absorbed_gated, of))

    def _sides(self, of: Range, kept: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Which contributions take part, the sum of those, and what of it is the bias."""
        signed, absolute, total, bias = _unpacked(kept, 3)
        own = None if self.zero_bias or bias is None else ops.abs(bias)
        up, down = open_sides(of, signed, absolute, total, bias, own)
        return up, down, _plus((up * (absolute + signed) + down * (absolute - signed)) / 2, own), own

    def _back_gated(self, of: Range, relevance: Tensor, kept: list[Tensor]) -> list[Tensor]:
        up, down, below, _ = self._sides(of, kept)
        share = _over(relevance, below) / 2
        return [share * (up - down), share * (up + down)]

    def _absorbed_gated(self, of: Range, kept: list[Tensor]) -> tuple[Tensor | None, Tensor | None]:
        _, _, below, own = self._sides(of, kept)
        return None if own is None else _over(own, below), ops.cast(below == 0, below.dtype)

    def _below(self, kept: list[Tensor]) -> Tensor:
        q, bias = _unpacked(kept, 1)
        return _plus(q, None if bias is None else ops.abs(bias))

    def _back(self, relevance: Tensor, kept: list[Tensor]) -> list[Tensor]:
        return [_over(relevance, self._below(kept))]

    def _absorbed(self, kept: list[Tensor]) -> tuple[Tensor | None, Tensor | None]:
        below = self._below(kept)
        bias = None if len(kept) == 1 else _over(ops.abs(kept[1]), below)
        return bias, ops.cast(below == 0, below.dtype)


@dataclass(frozen=True)
class ZBox(Rule):
    """z-box for the first layer, whose inputs lie between ``low`` and ``high`` (Montavon et al., 2017)."""

    low: float
    high: float
    epsilon: float = STABILISER

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ConfigError(
                f"ZBox(low={self.low}, high={self.high}): expected low below high, as inputs are bounded."
            )

    def spread(self, terms: Terms) -> Spread:
        """``x_i w_ij - low w_ij⁺ - high w_ij⁻``, over its sum; relevance also where ``x_i`` is 0.

        The bias takes no part: of ``b``, ``b⁺`` and ``b⁻`` nothing is left.
        """
        part = terms.signed()
        low_part, low = terms.unweighted("positive", self.low)
        high_part, high = terms.unweighted("negative", self.high)
        return Spread([part, low_part, high_part], _all_kept(part - low - high), self._back, self._absorbed)

    def _back(self, relevance: Tensor, kept: list[Tensor]) -> list[Tensor]:
        each = relevance / stabilised(kept[0], self.epsilon)
        return [each, -each, -each]

    def _absorbed(self, kept: list[Tensor]) -> tuple[Tensor | None, Tensor | None]:
        below = stabilised(kept[0], self.epsilon)
        return None, (below - kept[0]) / below


@dataclass(frozen=True)
class WSquare(Rule):
    """w²: shares by squared weights, whatever the input (Montavon et al., 2017)."""

    def spread(self, terms: Terms) -> Spread:
        """``w_ij² / sum_i w_ij²``; the bias takes no part."""
        return _by_weight(terms, "square")


@dataclass(frozen=True)
class Flat(Rule):
    """Flat: equal shares for everything that an output is connected with (Lapuschkin et al., 2019)."""

    def spread(self, terms: Terms) -> Spread:
        """``1 / n``; the bias takes no part."""
        return _by_weight(terms, "one")


def _by_weight(terms: Terms, weights: str) -> Spread:
    part, total = terms.unweighted(weights)

    def back(relevance: Tensor, kept: list[Tensor]) -> list[Tensor]:
        return [_over(relevance, kept[0])]

    def absorbed(kept: list[Tensor]) -> tuple[Tensor | None, Tensor | None]:
        return None, ops.cast(kept[0] == 0, kept[0].dtype)

    return Spread([part], _all_kept(total), back, absorbed)


@dataclass(frozen=True)
class Pass(Rule):
    """Identity: relevance goes through unchanged; input and output have one shape."""

    epsilon: float = STABILISER

    def spread(self, terms: Terms) -> Spread:
        """All of it to the input at the same position."""
        part = terms.passed()
        return Spread([part], _all_kept(part), self._back, self._absorbed)

    def _back(self, relevance: Tensor, kept: list[Tensor]) -> list[Tensor]:
        return [relevance / stabilised(kept[0], self.epsilon)]

    def _absorbed(self, kept: list[Tensor]) -> tuple[Tensor | None, Tensor | None]:
        below = stabilised(kept[0], self.epsilon)
        return None, (below - kept[0]) / below
