"""Outputs that share their relevance out by values alone: sums, means and pooling by magnitude."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from analyzer.relevance.flow import Tensor
from analyzer.relevance.public_ops import ops

if TYPE_CHECKING:
    from analyzer.relevance.visit import Visit


def by_share(visit: Visit, y: Tensor, part: Tensor) -> Tensor:
    """``y``, whose relevance goes to the terms of ``part`` by their values: ``R_i = sum_j term_ij / part_j R_j``.

    Args:
        visit: The call.
        y: What is handed on.
        part: A sum (or mean) of terms of one sign, of the same shape; where it is 0 the stabiliser takes all.
    """
    still = ops.stop_gradient(part)
    bound = visit.flow.backend.bind(y, [part], [still], _quotient)
    if not visit.flow.options.ledger:
        return bound
    return visit.absorb(bound, "absorbed_by_stabiliser", ops.stop_gradient(y) * ops.cast(still == 0, y.dtype))


def by_magnitude(visit: Visit, y: Tensor, terms: Sequence[Tensor]) -> Tensor:
    """``y``, whose relevance goes to what it was made of by absolute value: ``R_k = |t_k| / sum_l |t_l| R``.

    What does not depend on the input absorbs its share like a bias.

    Args:
        visit: The call.
        y: What is handed on.
        terms: Tensors that broadcast to its shape.
    """
    visit.record.rule.append("magnitude")
    shape = tuple(y.shape)
    wide = [ops.abs(ops.broadcast_to(ops.cast(t, y.dtype), shape)) for t in terms]
    live = [t for t in wide if visit.flow.depends(t)]
    fixed = [t for t in wide if not visit.flow.depends(t)]
    whole = sum(ops.stop_gradient(t) for t in wide)
    bound = visit.flow.backend.bind(y, live, [whole] * len(live), _quotients)
    if not visit.flow.options.ledger:
        return bound
    still = ops.stop_gradient(y)
    if fixed:
        bound = visit.absorb(bound, "absorbed_by_bias", _quotient(still * sum(fixed), [whole])[0])
    return visit.absorb(bound, "absorbed_by_stabiliser", still * ops.cast(whole == 0, y.dtype))


def _quotient(relevance: Tensor, kept: list[Tensor]) -> list[Tensor]:
    none = kept[0] == 0
    return [ops.where(none, ops.zeros_like(relevance), relevance / ops.where(none, ops.ones_like(kept[0]), kept[0]))]


def _quotients(relevance: Tensor, kept: list[Tensor]) -> list[Tensor]:
    return _quotient(relevance, kept) * len(kept)
