"""How a linear layer hands relevance down: every rule as a value.

With ``z_ij = x_i w_ij`` and ``z_j = sum_i z_ij + b_j``, a rule says which share of the upper relevance ``R_j`` each
``z_ij`` gets. All rules here are sums of a share of ``z_ij`` and a share of ``|z_ij|``, so that one product with the
kernel and at most one with its absolute values (forward) and their transposes (backward) are all they cost.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
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
    """

    parts: list[Tensor]
    kept: list[Tensor]
    back: Back
    absorbed: Absorbed


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
        return Spread([part], _all_kept(_plus(_still(part), bias), bias), self._back, self._absorbed)

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
        return Spread(parts, _all_kept(*parts, bias), self._back_to_products, self._absorbed_of_products)

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

    def _halves(self, kept: list[Tensor]) -> list[Tensor]:
        """From the two products; what is left of a sum that has no such sign is rounding, and counts as nothing."""
        z, q = kept[:2]
        above, below = (z + q) / 2, (z - q) / 2
        floor = ROUNDING * q
        return [ops.where(above > floor, above, 0), ops.where(below < -floor, below, 0), *kept[2:]]

    def _back_to_products(self, relevance: Tensor, kept: list[Tensor]) -> list[Tensor]:
        above, below, bias = _unpacked(self._halves(kept), 2)
        a, b = self._shares(above, below, bias)
        a = ops.where(above > 0, a, 0) * relevance / 2
        if self.beta == 0:
            return [a, a]
        b = ops.where(below < 0, b, 0) * relevance / 2
        return [a - b, a + b]

    def _absorbed_of_products(self, kept: list[Tensor]) -> tuple[Tensor | None, Tensor | None]:
        return self._absorbed(self._halves(kept))


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
        parts, bias = [terms.signed(), terms.absolute()], self._bias(terms)
        return Spread(parts, _all_kept(*parts, bias), self._back, self._absorbed)

    def _whole(self, kept: list[Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
        """The sign of the output, the stabilised denominator, and what of it is the bias."""
        z, q, bias = _unpacked(kept, 2)
        side = ops.where(_plus(z, bias) >= 0, ops.ones_like(z), -ops.ones_like(z))
        own = None if bias is None else bias + self.gamma * side * ops.maximum(bias * side, 0)
        return side, _plus(z * (1 + self.gamma / 2) + q * side * (self.gamma / 2), own) + side * self.epsilon, own

    def _back(self, relevance: Tensor, kept: list[Tensor]) -> list[Tensor]:
        side, below, _ = self._whole(kept)
        share = _over(relevance, below)
        return [share * (1 + self.gamma / 2), share * side * (self.gamma / 2)]

    def _absorbed(self, kept: list[Tensor]) -> tuple[Tensor | None, Tensor | None]:
        side, below, own = self._whole(kept)
        left = ops.where(below == 0, 1.0, _over(side * self.epsilon, below))
        return None if own is None else _over(own, below), left


@dataclass(frozen=True)
class Magnitude(Rule):
    """Magnitude flow: ``R_i = sum_j |z_ij| / (sum_i |z_ij| + |b_j|) R_j``, the default mode of DLBacktrace.

    arXiv 2411.12643. Everything keeps the sign of the start: it says how much, never "against".
    """

    def spread(self, terms: Terms) -> Spread:
        """By absolute value."""
        part, bias = terms.absolute(), self._bias(terms)
        return Spread([part], _all_kept(part, bias), self._back, self._absorbed)

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
        """``x_i w_ij - low w_ij⁺ - high w_ij⁻``, over its sum; relevance also where ``x_i`` is 0."""
        part, bias = terms.signed(), self._bias(terms)
        low_part, low = terms.unweighted("positive", self.low)
        high_part, high = terms.unweighted("negative", self.high)
        total = _plus(_still(part) - low - high, bias)
        return Spread([part, low_part, high_part], _all_kept(total, bias), self._back, self._absorbed)

    def _back(self, relevance: Tensor, kept: list[Tensor]) -> list[Tensor]:
        each = relevance / stabilised(kept[0], self.epsilon)
        return [each, -each, -each]

    def _absorbed(self, kept: list[Tensor]) -> tuple[Tensor | None, Tensor | None]:
        total, bias = _unpacked(kept, 1)
        below = stabilised(total, self.epsilon)
        return None if bias is None else bias / below, (below - total) / below


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
