"""Layers with several inputs: sums by value or magnitude, of maxima the winner, products by the preset's rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from analyzer.relevance.flow import Tensor
from analyzer.relevance.public_ops import ops
from analyzer.relevance.registry import handles, handles_operations
from analyzer.relevance.sharing import by_magnitude
from analyzer.relevance.visit import Visit

L = keras.layers


@handles(L.Add, L.Average)
def sums(visit: Visit, inputs: Sequence[Tensor], **kwargs: Any) -> Tensor:
    """Sums split by the values of their terms, or by their magnitudes."""
    return _sum(visit, list(inputs), lambda terms: visit.call(terms, **kwargs), positive=True)


@handles(L.Subtract)
def difference(visit: Visit, inputs: Sequence[Tensor], **kwargs: Any) -> Tensor:
    return _sum(visit, list(inputs), lambda terms: visit.call(terms, **kwargs), positive=False)


@handles_operations("add")
def add(visit: Visit, x1: Any, x2: Any) -> Tensor:
    return _sum(visit, [x1, x2], lambda terms: visit.call(*terms), positive=True)


@handles_operations("subtract")
def subtract(visit: Visit, x1: Any, x2: Any) -> Tensor:
    return _sum(visit, [x1, x2], lambda terms: visit.call(*terms), positive=False)


def _sum(visit: Visit, terms: list[Any], call: Callable[[list[Any]], Tensor], *, positive: bool) -> Tensor:
    terms = [t if keras.ops.is_tensor(t) else ops.convert_to_tensor(t, _dtype(terms)) for t in terms]
    known = positive and all(visit.flow.is_nonnegative(t) for t in terms)
    live = [visit.flow.depends(t) for t in terms]
    if visit.flow.preset.sum == "magnitude" and any(live):
        terms = [visit.enter(t) for t in terms]
        y = by_magnitude(visit, call([ops.stop_gradient(t) for t in terms]), terms)
    else:
        terms = [visit.enter(t) if of_input else visit.constant(t) for t, of_input in zip(terms, live, strict=True)]
        y = call(terms)
    return visit.leave(visit.flow.mark(y, nonnegative=known))


def _dtype(terms: Sequence[Any]) -> str:
    """Of the tensors among some terms, the others being numbers."""
    tensors = [t for t in terms if keras.ops.is_tensor(t)]
    return str(keras.backend.standardize_dtype(tensors[0].dtype))


@handles(L.Concatenate)
@handles_operations("concatenate")
def joined(visit: Visit, *args: Any, **kwargs: Any) -> Tensor:
    """Side by side: every part keeps its own."""
    return visit.natural(*args, **kwargs)


@handles(L.Maximum, L.Minimum)
def extremes(visit: Visit, inputs: Sequence[Tensor], **_: Any) -> Tensor:
    """The winner takes all; of equal ones the first, on every backend."""
    return _winner(visit, list(inputs), largest=isinstance(visit.layer, L.Maximum))


@handles_operations("maximum", "minimum")
def extreme_operations(visit: Visit, x1: Any, x2: Any) -> Tensor:
    return _winner(visit, [x1, x2], largest=visit.record.kind.lower() == "maximum")


def _winner(visit: Visit, terms: list[Any], *, largest: bool) -> Tensor:
    terms = [t if keras.ops.is_tensor(t) else ops.convert_to_tensor(t, _dtype(terms)) for t in terms]
    known = [visit.flow.is_nonnegative(t) for t in terms]
    visit.record.rule.append("winner takes all")
    terms = [visit.enter(t) if visit.flow.depends(t) else visit.constant(t) for t in terms]
    best = terms[0]
    for other in terms[1:]:
        before, after = ops.stop_gradient(best), ops.stop_gradient(other)
        best = ops.where(before >= after if largest else before <= after, best, other)
    return visit.leave(visit.flow.mark(best, nonnegative=any(known) if largest else all(known)))


@handles(L.Multiply)
def multiply(visit: Visit, inputs: Sequence[Tensor], **_: Any) -> Tensor:
    """All factors that depend on the input get the same share; or all goes to those that are no gates."""
    factors = [visit.enter(t) for t in inputs]
    live = [t for t in factors if visit.flow.depends(t)]
    if len(live) <= 2:
        product = factors[0]
        for factor in factors[1:]:
            product = visit.product(product, factor, ops.multiply)
        return visit.leave(product)
    signals = [t for t in live if not visit.flow.is_gate(t)]
    taking = signals if visit.flow.preset.product == "signal" and 0 < len(signals) < len(live) else live
    visit.record.rule.append("uniform" if len(taking) == len(live) else "signal")
    product = None
    for factor in factors:
        one = factor if any(factor is t for t in taking) else ops.stop_gradient(factor)
        product = one if product is None else product * one
    n, known = len(taking), all(visit.flow.is_nonnegative(t) for t in factors)
    y = (product + (n - 1) * ops.stop_gradient(product)) / n
    return visit.leave(visit.flow.mark(y, nonnegative=known))


@handles_operations("multiply")
def multiply_operation(visit: Visit, x1: Any, x2: Any) -> Tensor:
    return visit.leave(visit.product(visit.enter(x1), visit.enter(x2), ops.multiply))
