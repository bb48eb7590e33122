"""The linear map of ``[x_t, h_{t-1}]`` that every gate has, as the terms that a rule asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from analyzer.errors import Unsupported
from analyzer.relevance.flow import Tensor
from analyzer.relevance.linear import Linear
from analyzer.relevance.public_ops import ops


@dataclass(frozen=True)
class Half:
    """The state's half of a product: a cotangent ``g`` gives the state the relevance ``weight * (factor g) Uᵀ``.

    Attributes:
        kernel: What stands for ``U``.
        weight: What stands for ``h``.
        value: Their product, without the factor.
        size: Whether it is a sum of magnitudes, so that the factor counts by its own.
    """

    kernel: Tensor
    weight: Tensor
    value: Tensor
    size: bool


@dataclass(kw_only=True)
class Block:
    """``x W + factor (h U) + bias`` for all time steps; see `analyzer.relevance.rules.Terms`.

    Attributes:
        of_input: ``x W``, through which relevance reaches the input.
        state: ``h`` before every step, a constant.
        kernel: ``U``.
        product: Of states and kernels.
        bias: Or None.
        activation: Name of the function that follows.
        state_nonnegative: Whether no state can be negative.
        factor: A gate over the outputs of the recurrent half; None for 1.
        inner_bias: What of the bias is under the factor, without it.
        to_gate: What share of the gated half's relevance is the gate's.
    """

    of_input: Linear
    state: Tensor
    kernel: Tensor
    product: Callable[[Tensor, Tensor], Tensor]
    bias: Tensor | None = None
    activation: str = "linear"
    state_nonnegative: bool = False
    factor: Tensor | None = None
    inner_bias: Tensor | None = None
    to_gate: float = 0.0
    _halves: list[tuple[Tensor, Half]] = field(default_factory=list, repr=False)

    @property
    def pair(self) -> int | None:
        """As of the layer's input."""
        return self.of_input.pair

    @property
    def nonnegative(self) -> bool:
        """Whether neither an input nor a state can be negative."""
        return self.state_nonnegative and self.of_input.nonnegative

    def total(self) -> Tensor:
        """The output."""
        y = ops.stop_gradient(self.signed())
        return y if self.bias is None else y + self.bias

    def signed(self) -> Tensor:
        """``sum_i z_ij``."""
        return self._joined(self.of_input.signed(), self.kernel, self.state)

    def absolute(self) -> Tensor:
        """``sum_i |z_ij|``."""
        return self._joined(self.of_input.absolute(), ops.abs(self.kernel), ops.abs(self.state), size=True)

    def positive(self) -> Tensor:
        """``sum_i max(z_ij, 0)`` where nothing that goes in is negative."""
        return self._joined(self.of_input.positive(), ops.maximum(self.kernel, 0), self.state)

    def negative(self) -> Tensor:
        """``sum_i min(z_ij, 0)`` where nothing that goes in is negative."""
        return self._joined(self.of_input.negative(), ops.minimum(self.kernel, 0), self.state)

    def unweighted(self, weights: str, scale: Any = 1.0) -> tuple[Tensor, Tensor]:
        """Inputs replaced; see `analyzer.relevance.rules.Terms`. The range of a box is that of inputs: no state's."""
        part, value = self.of_input.unweighted(weights, scale)
        if weights not in ("square", "one"):
            return self._joined(part, ops.zeros_like(self.kernel), self.state), value
        kernel = ops.square(self.kernel) if weights == "square" else ops.ones_like(self.kernel)
        joined = self._joined(part, kernel, ops.full_like(self.state, scale), size=True)
        return joined, value + self._gated(self._halves[-1][1].value, size=True)

    def passed(self) -> Tensor:
        """There is no one position of ``[x, h]`` for an output."""
        raise Unsupported(
            "The rule Pass() hands relevance on at the same position, which the matrix products of a recurrent layer "
            "do not have. Choose another rule for it."
        )

    def recurrent_half(self, product: Tensor) -> Half | None:
        """That of one of the products above; None for anything else."""
        return next((half for made, half in self._halves if made is product), None)

    def booked(self, bias: Tensor | None) -> Tensor | None:
        """The share that the bias absorbs, of which a part under a gate is the gate's.

        Args:
            bias: The share that the rule gives it.
        """
        own = self._under_gate(bias)
        return bias if own is None else bias - self.to_gate * own

    def of_gate(self, bias: Tensor | None, halves: Sequence[Half]) -> dict[str, Any]:
        """For the way back: the factor of each product's recurrent half, and what its gate gets.

        Args:
            bias: The share that the rule gives the bias.
            halves: Those of the rule's parts.
        """
        if self.factor is None:
            return {}
        factors = [self._gated(ops.ones_like(self.factor), size=half.size) for half in halves]
        if not self.to_gate:
            return {"factors": factors}
        own = self._under_gate(bias)
        values = [half.value for half in halves]
        return {"factors": factors, "values": values, "own": [] if own is None else [own]}

    def _under_gate(self, bias: Tensor | None) -> Tensor | None:
        if bias is None or self.inner_bias is None or self.bias is None or not self.to_gate:
            return None
        under, nothing = self.factor * self.inner_bias, self.bias == 0
        return ops.where(nothing, 0.0, bias * under / ops.where(nothing, 1.0, self.bias))

    def _gated(self, t: Tensor, *, size: bool) -> Tensor:
        if self.factor is None:
            return t
        return t * (ops.abs(self.factor) if size else self.factor)

    def _joined(self, of_input: Tensor, kernel: Tensor, weight: Tensor, *, size: bool = False) -> Tensor:
        value = self.product(weight, kernel)
        joined = of_input + self._gated(value, size=size)
        self._halves.append((joined, Half(kernel, weight, value, size)))
        return joined
