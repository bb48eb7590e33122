"""`Linear`: the terms of one linear layer, computed when a rule asks for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from analyzer.errors import Unsupported
from analyzer.relevance.flow import Flow, Tensor
from analyzer.relevance.public_ops import ops
from analyzer.relevance.rules import STABILISER, stabilised

Scaling = Callable[[Tensor, Tensor], Tensor]
"""From a kernel and one factor per output channel to the kernel of the scaled layer."""


@dataclass(kw_only=True)
class Linear:
    """``y = (product(x, kernel) + bias) * factor + offset``; see `analyzer.relevance.rules.Terms`.

    Attributes:
        flow: The pass that this belongs to.
        x: What goes in.
        kernel: The weights, before the factor.
        own_bias: The layer's bias, or None.
        product: Linear in input and kernel.
        scaling: How a factor is put into the kernel; None where nothing can be folded in.
        value: What the layer itself computes, where that is not the product; None elsewhere.
        activation: Name of the activation that follows in the same layer.
        factor: What a folded normalisation multiplies channels with; None without one.
        offset: What it adds.
    """

    flow: Flow
    x: Tensor
    kernel: Tensor
    own_bias: Tensor | None
    product: Callable[[Tensor, Tensor], Tensor]
    scaling: Scaling | None = None
    value: Tensor | None = None
    activation: str = "linear"
    factor: Tensor | None = None
    offset: Tensor | None = None
    _signed: Tensor | None = field(default=None, repr=False)

    @property
    def nonnegative(self) -> bool:
        """Whether no input can be negative."""
        return self.flow.is_nonnegative(self.x)

    @property
    def pair(self) -> int | None:
        """How many samples there are where two maps travel together, one after the other; None for one map."""
        return int(self.flow.sources[0].shape[0]) // 2 if self.flow.preset.contrastive else None

    @property
    def bias(self) -> Tensor | None:
        """Of the folded layer."""
        if self.own_bias is None or self.factor is None:
            return self.own_bias if self.offset is None else self.offset
        return self.own_bias * self.factor + (0 if self.offset is None else self.offset)

    def signed(self) -> Tensor:
        """``sum_i z_ij``."""
        if self._signed is None:
            self._signed = self.product(self.x, self.kernel)
        return self._signed if self.factor is None else self._signed * self.factor

    def absolute(self) -> Tensor:
        """``sum_i |z_ij|``."""
        x = self.x if self.nonnegative else ops.abs(self.x)
        q = self.product(x, ops.abs(self.kernel))
        return q if self.factor is None else q * ops.abs(self.factor)

    def positive(self) -> Tensor:
        """``sum_i max(z_ij, 0)`` for inputs that are not negative."""
        return self.product(self.x, ops.maximum(self._scaled_kernel(), 0))

    def negative(self) -> Tensor:
        """``sum_i min(z_ij, 0)`` for inputs that are not negative."""
        return self.product(self.x, ops.minimum(self._scaled_kernel(), 0))

    def total(self) -> Tensor:
        """The output."""
        if self.value is not None:
            return self.value
        y = self.signed()
        return y if self.bias is None else y + self.bias

    def unweighted(self, weights: str, scale: Any = 1.0) -> tuple[Tensor, Tensor]:
        """A part that gives relevance itself, and its value; see `analyzer.relevance.rules.Terms`."""
        kernel = self._scaled_kernel()
        stands_for = {
            "square": lambda: ops.square(kernel),
            "one": lambda: ops.ones_like(kernel),
            "positive": lambda: ops.maximum(kernel, 0),
            "negative": lambda: ops.minimum(kernel, 0),
        }[weights]()
        shadow = self.flow.shadow(self.x)
        if shadow is None:
            # Relevance R at x needs the cotangent R / x: all but what sits where x is 0.
            shadow = self.x / stabilised(ops.stop_gradient(self.x), STABILISER)
        filled = ops.full_like(ops.stop_gradient(self.x), scale)
        part = self.product(ops.cast(shadow, self.x.dtype) * ops.cast(scale, self.x.dtype), stands_for)
        return part, self.product(filled, stands_for)

    def passed(self) -> Tensor:
        """The input itself, for the rule that changes nothing."""
        if tuple(self.x.shape) != tuple(self.total().shape):
            raise Unsupported(
                f"The rule Pass() hands relevance on at the same position, but the layer turns {tuple(self.x.shape)} "
                f"into {tuple(self.total().shape)}. Choose another rule for it."
            )
        return self.x

    def followed_by(self, factor: Tensor, offset: Tensor) -> Linear:
        """The same layer with an affine map per output channel folded in."""
        return dataclasses.replace(self, factor=factor, offset=offset, _signed=self._signed)

    def _scaled_kernel(self) -> Tensor:
        if self.factor is None:
            return self.kernel
        assert self.scaling is not None  # noqa: S101 - a factor comes by folding, which asks for it
        return self.scaling(self.kernel, self.factor)
