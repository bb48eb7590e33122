"""One recurrent cell over a sequence: values forwards, then relevance backwards in time, each in one loop.

Everything but the recurrence itself is computed for all time steps at once: the projection of the inputs, the gates,
what the rules keep, and the way from the gates to the inputs. What is left in the loops is one step's recurrent
product, so neither the size of the program nor the time that it takes to compile grows with the length of the
sequence. In the loops arrays have time first, elsewhere samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from analyzer.errors import Unsupported
from analyzer.relevance.flow import Tensor
from analyzer.relevance.layers.recurrent_block import Block
from analyzer.relevance.layers.recurrent_cells import CellRule, Step
from analyzer.relevance.public_ops import ops
from analyzer.relevance.rules import STABILISER, Back, Rule, stabilised
from analyzer.relevance.visit import Visit, describe


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a cell made of a sequence, all of it live.

    Attributes:
        outputs: ``(samples, time, ..., units)``.
        states: After the last step, ``(samples, ..., units)`` each; the first is the last output.
    """

    outputs: Tensor
    states: list[Tensor]


def run_cell(visit: Visit, cell: CellRule, x: Tensor, states: Sequence[Tensor], mask: Tensor | None, rule: Rule) -> Ran:
    """A cell over a sequence, made so that its gradient is relevance.

    Args:
        visit: The call of the recurrent layer.
        cell: What the cell computes.
        x: ``(samples, time, ..., features)``, in the order in which steps are taken, already entered.
        states: Before the first step; those that do not depend on the input book what they get like a bias.
        mask: ``(samples, time)``, False where a step is left out and states are carried over; None for all steps.
        rule: For the matrix products.
    """
    live = visit.flow.depends(x) or any(map(visit.flow.depends, states))
    x = _booking_constant(visit, x) if live else x
    taken = None if mask is None else _taken(mask, rank=len(states[0].shape))
    before, after = _forwards(cell, ops.stop_gradient(x), [ops.stop_gradient(s) for s in states], taken)
    # All results in one tensor: outputs by time, then the final states but the first, the last output.
    ends = [state[:, None] for state in after]
    packed = ops.concatenate([before[0][:, 1:], *ends], axis=1)
    if not live:
        return _unpacked(packed, len(states))
    maps = _spread(visit, cell.blocks(x, before), rule)
    parts = [one.carrier for one in maps] + [_state_carrier(visit, state) for state in states]
    kept = {"maps": [one.kept for one in maps], "shares": cell.shares, "taken": [] if taken is None else [taken]}
    if visit.flow.options.ledger:
        one = ops.ones((int(x.shape[0]), 1), "float32")
        parts.append(visit._book(one, {"absorbed_by_stabiliser": one}))
    structure = keras.tree.map_structure(lambda _: 0, kept)
    back = _backwards(cell, structure, [one.back for one in maps], len(states), visit.flow.options.ledger)
    return _unpacked(visit.flow.backend.bind(packed, parts, keras.tree.flatten(kept), back), len(states))


def moved(visit: Visit, t: Tensor, move: Callable[[Tensor], Tensor]) -> Tensor:
    """A tensor whose values change places, and with it what is known of it."""
    shadow = visit.flow.shadow(t)
    return visit.flow.mark(
        move(t),
        nonnegative=visit.flow.is_nonnegative(t),
        gate=visit.flow.is_gate(t),
        shadow=None if shadow is None else move(shadow),
    )


def _booking_constant(visit: Visit, t: Tensor) -> Tensor:
    """A tensor that books what it gets like a bias, if it does not depend on the input."""
    if visit.flow.depends(t) or not visit.flow.options.ledger:
        return t
    return visit.flow.like(visit._book(t, {"absorbed_by_bias": t}), t)


def _taken(mask: Tensor, rank: int) -> Tensor:
    """1 where a step is taken, in as many axes as a step of all samples has, and time."""
    return ops.cast(ops.reshape(mask, (*mask.shape, *[1] * (rank - 1))), "float32")


def _timed(t: Tensor) -> Tensor:
    """From samples first to time first, and back."""
    return ops.moveaxis(t, 0, 1)


# ---- forwards
def _forwards(
    cell: CellRule, x: Tensor, states: list[Tensor], taken: Tensor | None
) -> tuple[list[Tensor], list[Tensor]]:
    """States before every step, and after the last."""

    def step(carried: list[Tensor], given: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        new = cell.step(given[0], carried)
        if taken is not None:
            new = [ops.where(given[1] > 0, a, b) for a, b in zip(new, carried, strict=True)]
        return new, carried

    given = [_timed(cell.project(x)), *([] if taken is None else [_timed(taken)])]
    after, before = ops.scan(step, states, given)
    return [_timed(state) for state in before], list(after)


def _unpacked(packed: Tensor, states: int) -> Ran:
    length = packed.shape[1] - (states - 1)
    return Ran(outputs=packed[:, :length], states=[packed[:, length - 1 + i] for i in range(states)])


# ---- rules
@dataclass(frozen=True, kw_only=True)
class _Map:
    """A linear map and how its relevance is spread.

    Attributes:
        carrier: Its cotangent is the relevance of the map's output; the input's half of the map hangs on it.
        kept: What is needed for the state's half.
        back: From relevance to the cotangents of the parts.
    """

    carrier: Tensor
    kept: dict[str, Any]
    back: Back


def _spread(visit: Visit, blocks: list[Block], rule: Rule) -> list[_Map]:
    visit.record.rule.append(describe(rule))
    maps = []
    for block in blocks:
        spread = rule.spread(block)
        halves = [block.recurrent_half(part) for part in spread.parts]
        one = ops.ones_like(ops.stop_gradient(spread.parts[0]))
        if any(half is None for half in halves):
            raise Unsupported(
                f"{visit.record.id!r} ({visit.record.kind}): {describe(rule)} changes the products that it is given "
                "before it shares them out; inside recurrent layers its parts must be those products themselves."
            )
        carrier = visit.flow.backend.bind(one, spread.parts, spread.kept, spread.back)
        bias, left = spread.absorbed(spread.kept)
        if visit.flow.options.ledger:
            for column, share in (("absorbed_by_bias", block.booked(bias)), ("absorbed_by_stabiliser", left)):
                if share is not None:
                    carrier = visit.absorb(carrier, column, share)
        kept = {
            "rule": [ops.broadcast_to(t, one.shape) for t in spread.kept],
            "kernels": [half.kernel for half in halves if half],
            "weights": [half.weight for half in halves if half],
            **block.of_gate(bias, [half for half in halves if half]),
        }
        maps.append(_Map(carrier=carrier, kept=kept, back=spread.back))
    return maps


def _state_carrier(visit: Visit, state: Tensor) -> Tensor:
    """Its cotangent is the relevance of an initial state."""
    still = ops.stop_gradient(state)
    one = ops.ones_like(still)
    if not visit.flow.depends(state):
        return _booking_constant(visit, one)
    below = stabilised(still, STABILISER)
    carrier = visit.flow.backend.bind(one, [state], [still], _by_position)
    return visit.absorb(carrier, "absorbed_by_stabiliser", (below - still) / below)


def _by_position(relevance: Tensor, kept: list[Tensor]) -> list[Tensor]:
    return [relevance / stabilised(kept[0], STABILISER)]


# ---- backwards
def _backwards(
    cell: CellRule, structure: Any, backs: list[Back], states: int, ledger: bool
) -> Callable[[Tensor, list[Tensor]], list[Tensor]]:
    """From the relevance of all results to the cotangents of the carriers."""

    def back(relevance: Tensor, flat: list[Tensor]) -> list[Tensor]:
        given = keras.tree.pack_sequence_as(structure, flat)
        kernels = [one.pop("kernels") for one in given["maps"]]
        length = relevance.shape[1] - (states - 1)
        # The last output comes to the last step as every output does to its own.
        last = [ops.zeros_like(relevance[:, 0]), *(relevance[:, length + i] for i in range(states - 1))]
        every = [relevance[:, :length], given["maps"], given["shares"], given["taken"]]

        def before(carried: list[Tensor], at: list[Any]) -> tuple[list[Tensor], Step]:
            output, maps, shares, taken = at
            came = [carried[0] + output, *carried[1:]]
            seen = [ops.where(taken[0] > 0, r, 0.0) for r in came] if taken else came
            step = Step(cell=cell, backs=backs, kernels=kernels, maps=maps, shares=shares)
            new = cell.back(seen, step)
            return [ops.where(taken[0] > 0, a, b) for a, b in zip(new, came, strict=True)] if taken else new, step

        def once(carried: list[Tensor], at: list[Any]) -> tuple[list[Tensor], list[Tensor]]:
            return before(carried, at)[0], carried

        first, after = ops.scan(once, last, keras.tree.map_structure(_timed, every), reverse=True)
        # With all that arrives at every step known, the relevance of the maps is one more step for all at once.
        _, step = before([_timed(r) for r in after], every)
        found = [*step.uppers, *first]
        if ledger:
            lost = ops.reshape(step.lost, (step.lost.shape[0], -1))
            found.append(ops.sum(lost, axis=1, keepdims=True))
        return found

    return back
