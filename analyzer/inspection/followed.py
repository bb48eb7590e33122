"""Which calls of which layers are followed, and how their outputs are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from analyzer.inspection import compat, inputs
from analyzer.inspection.selection import LayerCall, select_calls
from analyzer.inspection.trace import Firing
from analyzer.inspection.view import ModelView


@dataclass(frozen=True, kw_only=True)
class Followed:
    """A call to follow, and how to read its output.

    Attributes:
        position: Where it stands in `ModelView.firings`.
        firing: The call as traced.
        call: The same, with the layer and an id for people.
        fold: Rows per sample along the first axis.
        axis: The axis of units.
        n_units: Its size.
        n_positions: Positions per sample.
        activation: The activation function that the layer applies to what it computes; None where there is none.
        is_output: Whether the model returns it.
    """

    position: int
    firing: Firing
    call: LayerCall
    fold: int
    axis: int
    n_units: int
    n_positions: int
    activation: Callable[..., Any] | None
    is_output: bool


def followed_calls(view: ModelView) -> Iterator[Followed]:
    """Calls that compute something, in order of execution, whatever their outputs look like."""
    names = _calls_by_firing(view)
    containers = {firing.inside for firing in view.firings}
    batch = inputs.fixed_batch_size(view.model) or 1
    outputs = {head.place for head in view.heads}
    for position, firing in enumerate(view.firings):
        call = names.get((firing.place, firing.call))
        hands_on = position in containers and not firing.closes
        if call is None or hands_on or not firing.output_shapes or not firing.output_shapes[0]:
            continue
        shape = firing.output_shapes[0]
        axis = _unit_axis(call.layer.layer, len(shape))
        fold = (shape[0] or batch) // batch if (shape[0] or batch) % batch == 0 else 1
        units = 1 if len(shape) == 1 else int(shape[axis] or 1)
        values = int(np.prod([size or 1 for size in shape[1:]], dtype=np.int64)) * fold
        yield Followed(
            position=position,
            firing=firing,
            call=call,
            fold=fold,
            axis=axis if fold == 1 or axis == -1 else axis + 1,
            n_units=units,
            n_positions=values // max(units, 1),
            # A container hands its activation to the layers that it made.
            activation=None if position in containers else own_activation(call.layer.layer),
            is_output=firing.place in outputs,
        )


def _calls_by_firing(view: ModelView) -> dict[tuple[int | None, int], LayerCall]:
    """Every call of a layer, a container or an operation, by place and number."""
    if not view.firings:
        return {}
    ran = {firing.place for firing in view.firings}
    operations = [view.places[i] for i in sorted(ran) if not isinstance(view.places[i], keras.layers.Layer)]
    return {(call.place, call.call): call for call in select_calls(view, [lambda _: True, *operations])}


def _unit_axis(layer: Any, rank: int) -> int:
    first = getattr(layer, "data_format", None) == "channels_first"
    return 1 if first and rank > 2 else -1


def own_activation(layer: Any) -> Callable[..., Any] | None:
    """The activation function that a layer applies to what it computes; None where it has none, or a linear one.

    Args:
        layer: Any layer or operation.
    """
    activation = vars(layer).get("activation")
    if not callable(activation) or isinstance(activation, keras.layers.Layer):
        return None
    return None if getattr(activation, "__name__", "") == "linear" else activation


def is_activation(place: Followed) -> bool:
    """Whether what the call returns went through a nonlinearity of its own."""
    return place.activation is not None or place.call.layer.kind in ("ReLU", "LeakyReLU", "PReLU", "ELU")


def fan_in(layer: Any) -> int | None:
    """Inputs of one unit of a layer's kernel; None for layers and operations without.

    Args:
        layer: Any layer or operation.
    """
    if not isinstance(layer, keras.layers.Layer):
        return None
    kernels = [v for v in compat.own_variables(layer) if len(v.shape) > 1 and "kernel" in v.name]
    return int(np.prod(kernels[0].shape[:-1])) if kernels else None


def not_run(view: ModelView, followed: Sequence[Followed]) -> dict[str, str]:
    """Layers with variables that never ran by themselves, and no layer that was followed ran them."""
    inside = [f"{place.call.layer.id}/" for place in followed]
    ran = {place.call.layer.id for place in followed}
    owners = dict.fromkeys(variable.owner.id for variable in view.variables)
    return {
        owner: "Its variables are used, if at all, without calling the layer, so there is no output of its own."
        for owner in owners
        if owner not in ran and not any(owner.startswith(prefix) for prefix in inside)
    }
