"""SimpleRNN, LSTM, GRU, RNN with built-in cells and Bidirectional: one row of the ledger each."""

from __future__ import annotations

from typing import Any

import keras

from analyzer.relevance.flow import Tensor
from analyzer.relevance.layers.recurrence import Ran, moved, run_cell
from analyzer.relevance.layers.recurrent_cells import CellRule, GruRule, LstmRule, SimpleRule
from analyzer.relevance.public_ops import ops
from analyzer.relevance.registry import handler_of, handles
from analyzer.relevance.selection import rule_for
from analyzer.relevance.visit import Visit

L = keras.layers

_CELLS: dict[type, type[CellRule]] = {L.SimpleRNNCell: SimpleRule, L.LSTMCell: LstmRule, L.GRUCell: GruRule}


@handles(L.SimpleRNN, L.LSTM, L.GRU, L.RNN)
def recurrent(
    visit: Visit, sequences: Tensor, initial_state: Any = None, mask: Any = None, training: Any = False
) -> Any:
    """A loop over time."""
    layer = visit.layer
    if _rules_of(layer.cell) is None:
        return _without_rule(visit, sequences, initial_state=initial_state, mask=mask, training=training)
    given = None if initial_state is None else keras.tree.map_structure(visit.enter, initial_state)
    output, states = _run(visit, layer, visit.enter(sequences), given, mask)
    output = visit.leave(output)
    return (output, *keras.tree.map_structure(visit.leave, states)) if layer.return_state else output


@handles(L.Bidirectional)
def bidirectional(
    visit: Visit, sequences: Tensor, initial_state: Any = None, mask: Any = None, training: Any = None
) -> Any:
    """Two loops over time, merged: sums by value, products by the preset's rule."""
    layer = visit.layer
    both = layer.forward_layer, layer.backward_layer
    if any(handler_of(one) is not recurrent or _rules_of(one.cell) is None for one in both):
        return _without_rule(visit, sequences, initial_state=initial_state, mask=mask, training=training)
    given = None if initial_state is None else [visit.enter(state) for state in initial_state]
    x = visit.enter(sequences)
    half = 0 if given is None else len(given) // 2
    first = _run(visit, layer.forward_layer, x, given and given[:half], mask)
    second = _run(visit, layer.backward_layer, x, given and given[half:], mask)
    merged = _merged(visit, first[0], second[0])
    outputs = [visit.leave(t) for t in merged]
    if layer.return_state:
        return (*outputs, *(visit.leave(state) for state in (*first[1], *second[1])))
    return tuple(outputs) if layer.merge_mode is None else outputs[0]


def _merged(visit: Visit, forward: Tensor, backward: Tensor) -> list[Tensor]:
    layer = visit.layer
    if layer.return_sequences:
        backward = ops.flip(backward, axis=1)
    if layer.merge_mode is None:
        return [forward, backward]
    if layer.merge_mode == "concat":
        return [ops.concatenate([forward, backward], axis=-1)]
    if layer.merge_mode == "mul":
        return [visit.product(forward, backward, ops.multiply)]
    return [(forward + backward) / (2 if layer.merge_mode == "ave" else 1)]


def _rules_of(cell: Any) -> list[type[CellRule]] | None:
    """The rule of a cell, or of each of a stack; None where one has none, as it computes something of its own."""
    if isinstance(cell, L.StackedRNNCells):
        if type(cell).call is not L.StackedRNNCells.call:
            return None
        inner = [_rules_of(one) for one in cell.cells]
        return None if any(one is None or len(one) != 1 for one in inner) else [one[0] for one in inner if one]
    for base, rule in _CELLS.items():
        if isinstance(cell, base) and type(cell).call is base.call:  # type: ignore[attr-defined]
            return [rule]
    return None


def _without_rule(visit: Visit, *args: Any, **kwargs: Any) -> Any:
    visit.flow.unknown.append(f"{visit.record.id} ({visit.record.kind})")
    visit.record.rule.append("gradient, no rule")
    return visit.natural(*args, nonnegative=False, **{k: v for k, v in kwargs.items() if v is not None})


def _run(visit: Visit, layer: Any, x: Tensor, initial_state: Any, mask: Any) -> tuple[Tensor, Any]:
    """What a recurrent layer returns: its output, and its last states in the structure of the first."""
    mask = keras.tree.flatten(mask)[0] if mask is not None else None
    start, at_zero = _start(layer, x, initial_state)
    flat = [_as(visit, state, "float32") for state in keras.tree.flatten(start)]
    x = _as(visit, x, "float32")
    if layer.go_backwards:
        x = moved(visit, x, lambda t: ops.flip(t, axis=1))
        mask = None if mask is None else ops.flip(mask, axis=1)
    cells = layer.cell.cells if isinstance(layer.cell, L.StackedRNNCells) else [layer.cell]
    ran: Ran | None = None
    last: list[Tensor] = []
    for cell, rules in zip(cells, _rules_of(layer.cell) or (), strict=True):
        rule = rules(visit, cell, from_zero=at_zero)
        here, flat = flat[: rule.states], flat[rule.states :]
        # The states of a stack do not depend on those of cells above: one cell after the other does the same.
        ran = run_cell(visit, rule, x, here, mask, rule_for(visit, "recurrent", x))
        x, last = ran.outputs, [*last, *ran.states]
    assert ran is not None  # noqa: S101 - Keras refuses a stack of no cells
    output = _output(layer, ran, mask, at_zero)
    states = keras.tree.pack_sequence_as(start, [ops.cast(state, layer.compute_dtype) for state in last])
    return ops.cast(output, layer.compute_dtype), states


def _as(visit: Visit, t: Any, dtype: str) -> Tensor:
    t = ops.convert_to_tensor(t)
    return t if keras.backend.standardize_dtype(t.dtype) == dtype else moved(visit, t, lambda one: ops.cast(one, dtype))


def _start(layer: Any, x: Tensor, initial_state: Any) -> tuple[list[Any], bool]:
    """States before the first step, and whether they are zeros. Stored ones are read, never written."""
    if initial_state is not None:
        return list(initial_state) if keras.tree.is_nested(initial_state) else [initial_state], False
    if layer.stateful and layer.states is not None:
        return [keras.tree.map_structure(lambda v: v.value, state) for state in layer.states], False
    return layer.get_initial_state(batch_size=x.shape[0]), True


def _output(layer: Any, ran: Ran, mask: Tensor | None, at_zero: bool) -> Tensor:
    """All outputs or the last, those of masked steps as each backend has them."""
    y = ran.outputs
    if mask is not None:
        seen = ops.cast(mask, "int32")
        scanned = keras.backend.backend() == "jax" and not layer.unroll
        if layer.zero_output_for_mask and (scanned or keras.backend.backend() != "jax"):
            y = _where(seen > 0, y)
        elif not (scanned or at_zero):
            # Before the first step that is not masked there is no output to repeat.
            y = _where(ops.cumsum(seen, axis=1) > 0, y)
    return y if layer.return_sequences else y[:, -1]


def _where(seen: Tensor, y: Tensor) -> Tensor:
    return ops.where(ops.reshape(seen, (*seen.shape, *[1] * (len(y.shape) - 2))), y, 0.0)
