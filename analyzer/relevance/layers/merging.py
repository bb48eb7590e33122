"""Layers with several inputs: sums by value, products by the preset's rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from analyzer.relevance.flow import Tensor
from analyzer.relevance.public_ops import ops
from analyzer.relevance.registry import handles, handles_operations
from analyzer.relevance.visit import Visit

L = keras.layers


@handles(L.Add, L.Average, L.Subtract, L.Maximum, L.Minimum, L.Concatenate)
@handles_operations("add", "subtract", "maximum", "minimum", "concatenate")
def by_value(visit: Visit, *args: Any, **kwargs: Any) -> Tensor:
    """Sums split by the values of their terms; of maxima the winner takes all."""
    negative = isinstance(visit.layer, L.Subtract) or visit.record.kind in ("subtract", "Subtract")
    return visit.natural(*args, nonnegative=False if negative else None, **kwargs)


@handles(L.Multiply)
def multiply(visit: Visit, inputs: Sequence[Tensor], **_: Any) -> Tensor:
    """The uniform rule over all factors."""
    factors = [visit.enter(t) for t in inputs]
    product = factors[0]
    if sum(visit.flow.depends(t) for t in factors) <= 2:
        for factor in factors[1:]:
            product = visit.product(product, factor, ops.multiply)
        return visit.leave(product)
    for factor in factors[1:]:
        product = product * factor
    visit.record.rule.append("uniform")
    n = len(factors)
    return visit.leave((product + (n - 1) * ops.stop_gradient(product)) / n)


@handles_operations("multiply")
def multiply_operation(visit: Visit, x1: Any, x2: Any) -> Tensor:
    return visit.leave(visit.product(visit.enter(x1), visit.enter(x2), ops.multiply))
