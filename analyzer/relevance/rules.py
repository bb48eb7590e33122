"""How a linear layer hands relevance down: every rule as a value.

With ``z_ij = x_i w_ij`` and ``z_j = sum_i z_ij + b_j``, a rule says which share of the upper relevance ``R_j`` each
``z_ij`` gets. All rules here are sums of a share of ``z_ij`` and a share of ``|z_ij|``, so that one product with the
kernel and at most one with its absolute values (forward) and their transposes (backward) are all they cost.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from analyzer.errors import ConfigError
from analyzer.relevance.public_ops import ops

Tensor = Any

STABILISER = 1e-6
"""Added to denominators with their sign, unless a rule says otherwise."""


ROUNDING = 2e-6
"""Share of a sum of magnitudes below which the difference of two float32 products is rounding."""


class Terms(Protocol):
    """What a rule may ask of a linear layer; products are computed when asked for."""

    @property
    def bias(self) -> Tensor | None:
        """``b_j``, in a shape that broadcasts to the output; None without one."""

    @property
    def nonnegative(self) -> bool:
        """Whether no ``x_i`` can be negative."""

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


@dataclass(frozen=True)
class Spread:
    """Where the relevance ``R`` of an output goes.

    Attributes:
        parts: Tensors and shares: each part receives the cotangent ``R * share``.
        bias: Share that the bias absorbs.
        stabiliser: Share that the stabiliser absorbs, or that finds no taker.
    """

    parts: Sequence[tuple[Tensor, Tensor]]
    bias: Tensor | None = None
    stabiliser: Tensor | None = None


def stabilised(z: Tensor, epsilon: float) -> Tensor:
    """``z + epsilon * sign(z)``, where 0 counts as positive."""
    return z + ops.where(z >= 0, ops.cast(epsilon, z.dtype), ops.cast(-epsilon, z.dtype))


def _over(numerator: Tensor, denominator: Tensor) -> Tensor:
    """A quotient that is 0 where there is nothing to divide by."""
    zero = denominator == 0
    return ops.where(zero, ops.zeros_like(denominator), numerator / ops.where(zero, 1.0, denominator))


def _still(t: Tensor) -> Tensor:
    return ops.stop_gradient(t)


def _plus(t: Tensor, bias: Tensor | None) -> Tensor:
    return t if bias is None else t + bias


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
        total = _plus(_still(part), bias)
        below = stabilised(total, self.epsilon)
        share = 1 / below if self.epsilon > 0 else _over(ops.ones_like(below), below)
        return Spread(
            parts=[(part, share)],
            bias=None if bias is None else bias * share,
            stabiliser=(below - total) * share,
        )


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
        """Both signs, from two products."""
        if self.beta == 0 and terms.nonnegative:
            return self._positive_only(terms)
        bias = self._bias(terms)
        parts, above, below = self._halves(terms)
        up = None if bias is None else ops.maximum(bias, 0)
        down = None if bias is None else ops.minimum(bias, 0)
        for_whole, against_whole = _plus(above, up), _plus(below, down)
        for_share = self.alpha / (for_whole + self.epsilon)
        against_share = self.beta / (against_whole - self.epsilon)
        booked = None if bias is None else up * for_share - down * against_share
        left = 1 - for_whole * for_share + against_whole * against_share
        # Where nothing has a sign there is only rounding to share out.
        shares = ops.where(above > 0, for_share, 0), ops.where(below < 0, against_share, 0)
        return Spread(parts=parts(*shares), bias=booked, stabiliser=left)

    def _halves(self, terms: Terms) -> tuple[Callable[[Tensor, Tensor], Any], Tensor, Tensor]:
        """Sums of what is positive and of what is negative, and how shares of them become parts."""
        if terms.nonnegative:
            positive, negative = terms.positive(), terms.negative()
            return lambda a, b: [(positive, a), (negative, -b)], _still(positive), _still(negative)
        signed, absolute = terms.signed(), terms.absolute()
        z, q = _still(signed), _still(absolute)
        above, below = (z + q) / 2, (z - q) / 2
        above = ops.where(above > ROUNDING * q, above, 0)
        below = ops.where(below < -ROUNDING * q, below, 0)
        return lambda a, b: [(signed, (a - b) / 2), (absolute, (a + b) / 2)], above, below

    def _positive_only(self, terms: Terms) -> Spread:
        part, bias = terms.positive(), self._bias(terms)
        above = None if bias is None else ops.maximum(bias, 0)
        below = _plus(_still(part), above) + self.epsilon
        share = 1 / below
        return Spread(
            parts=[(part, share)], bias=None if above is None else above * share, stabiliser=self.epsilon * share
        )


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
        signed, absolute, bias = terms.signed(), terms.absolute(), self._bias(terms)
        z, q = _still(signed), _still(absolute)
        up = _plus(z, bias) >= 0
        side = ops.where(up, ops.ones_like(z), -ops.ones_like(z))
        total = z * (1 + self.gamma / 2) + q * side * (self.gamma / 2)
        own = None
        if bias is not None:
            own = bias + self.gamma * ops.where(up, ops.maximum(bias, 0), ops.minimum(bias, 0))
        whole = _plus(total, own)
        below = whole + side * self.epsilon
        share = _over(ops.ones_like(z), below)
        return Spread(
            parts=[(signed, share * (1 + self.gamma / 2)), (absolute, share * side * (self.gamma / 2))],
            bias=None if own is None else own * share,
            stabiliser=(below - whole) * share,
        )


@dataclass(frozen=True)
class Magnitude(Rule):
    """Magnitude flow: ``R_i = sum_j |z_ij| / (sum_i |z_ij| + |b_j|) R_j``, the default mode of DLBacktrace.

    arXiv 2411.12643. Everything keeps the sign of the start: it says how much, never "against".
    """

    def spread(self, terms: Terms) -> Spread:
        """By absolute value."""
        part, bias = terms.absolute(), self._bias(terms)
        below = _plus(_still(part), None if bias is None else ops.abs(bias))
        share = _over(ops.ones_like(below), below)
        return Spread(
            parts=[(part, share)],
            bias=None if bias is None else ops.abs(bias) * share,
            stabiliser=ops.cast(below == 0, below.dtype),
        )


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
        """``x_i w_ij - low w_ij⁺ - high w_ij⁻``, over its sum; relevance also where ``x_i`` is 0."""
        part, bias = terms.signed(), self._bias(terms)
        low_part, low = terms.unweighted("positive", self.low)
        high_part, high = terms.unweighted("negative", self.high)
        total = _plus(_still(part) - low - high, bias)
        below = stabilised(total, self.epsilon)
        share = 1 / below
        return Spread(
            parts=[(part, share), (low_part, -share), (high_part, -share)],
            bias=None if bias is None else bias * share,
            stabiliser=(below - total) * share,
        )


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
    share = _over(ops.ones_like(total), total)
    return Spread(parts=[(part, share)], stabiliser=ops.cast(total == 0, total.dtype))


@dataclass(frozen=True)
class Pass(Rule):
    """Identity: relevance goes through unchanged; input and output have one shape."""

    epsilon: float = STABILISER

    def spread(self, terms: Terms) -> Spread:
        """All of it to the input at the same position."""
        part = terms.passed()
        x = _still(part)
        below = stabilised(x, self.epsilon)
        share = 1 / below
        return Spread(parts=[(part, share)], stabiliser=(below - x) * share)
