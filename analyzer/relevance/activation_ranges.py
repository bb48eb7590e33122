"""Where an activation is saturated: the ranges with which the magnitude flow leaves out what did not matter.

DLBacktrace (arXiv 2411.12643): below the range the positive contributions to a pre-activation changed nothing, above
it the negative ones; the side that stays receives all of the relevance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from analyzer.relevance.public_ops import ops

Tensor = Any

ROUNDING = 2e-6
"""Share of a sum of magnitudes below which the difference of two float32 products is rounding."""


@dataclass(frozen=True)
class Range:
    """Where an activation is not saturated, by its pre-activation.

    Attributes:
        low: Below it positive contributions did not matter; None for no such end.
        high: Above it negative contributions did not matter.
        function: A non-monotone activation, which also leaves out the side without which its value is the same.
        tolerance: How near "the same" is.
    """

    low: float | None = None
    high: float | None = None
    function: Callable[[Tensor], Tensor] | None = None
    tolerance: float = 1e-5


def _swish(t: Tensor) -> Tensor:
    # As published: with 0.75, not 1.
    return t * ops.sigmoid(0.75 * t)


RANGES = {
    "tanh": Range(-2.0, 2.0),
    "sigmoid": Range(-4.0, 4.0),
    "silu": Range(low=-6.0, function=_swish),
    "swish": Range(low=-6.0, function=_swish),
    "softmax": Range(-1.0, 2.0),
}
"""The published table, by name of the activation. ReLU's range begins at 0, where no relevance comes from below."""


def open_sides(
    of: Range, signed: Tensor, absolute: Tensor, total: Tensor, bias: Tensor | None, receiving: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Whether the positive, and whether the negative contributions to each unit take part, as 0 and 1.

    A range that would leave nothing to receive the relevance, not even a bias, leaves out nothing.

    Args:
        of: The range.
        signed: Sum of the contributions.
        absolute: Sum of their magnitudes.
        total: The pre-activation, with its bias.
        bias: The layer's bias; None without one.
        receiving: The bias as far as it takes part in sharing out; None if it does not.
    """
    floor = ROUNDING * absolute
    positive, negative = (absolute + signed) / 2, (absolute - signed) / 2
    positive, negative = ops.where(positive > floor, positive, 0), ops.where(negative > floor, negative, 0)
    taken = 0 if receiving is None else ops.abs(receiving)
    never = ops.zeros_like(total) > 0
    shut_positive = never if of.low is None else ops.logical_and(total < of.low, negative + taken > 0)
    shut_negative = never if of.high is None else ops.logical_and(total > of.high, positive + taken > 0)
    if of.function is not None:
        both = ops.logical_and(positive > 0, negative > 0)
        both = ops.logical_and(both, ops.logical_not(ops.logical_or(shut_positive, shut_negative)))
        up, down = (0, 0) if bias is None else (ops.maximum(bias, 0), ops.minimum(bias, 0))
        value = of.function(total)
        without_negative = ops.abs(value - of.function(positive + up)) <= of.tolerance
        without_positive = ops.abs(value - of.function(down - negative)) <= of.tolerance
        shut_negative = ops.logical_or(shut_negative, ops.logical_and(both, without_negative))
        without_positive = ops.logical_and(without_positive, ops.logical_not(without_negative))
        shut_positive = ops.logical_or(shut_positive, ops.logical_and(both, without_positive))
    dtype = total.dtype
    return ops.cast(ops.logical_not(shut_positive), dtype), ops.cast(ops.logical_not(shut_negative), dtype)
