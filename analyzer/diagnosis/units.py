"""`Units`: channels, positions or attention heads of a layer, as parts of what its calls return."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analyzer.config import check_names
from analyzer.errors import ConfigError
from analyzer.inspection import compat
from analyzer.inspection.selection import LayerCall, Layers, select_calls
from analyzer.inspection.view import ModelView

By = Literal["channels", "positions", "heads"]
Index = tuple[int, ...]

Floats = NDArray[np.float64]

_PROJECTIONS = ("query", "key", "value")
"""Names of the layers in which an attention layer projects; a head's result is a function of these three alone."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Units:
    """How a layer is divided.

    Attributes:
        layer: Id of the call of the layer.
        by: What the units are.
        calls: Calls whose results are divided: the layer's own, or the three projections of an attention layer.
        axes: Axes that units are counted on.
        sizes: How many units there are along these.
    """

    layer: str
    by: By
    calls: tuple[LayerCall, ...]
    axes: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many units there are."""
        return math.prod(self.sizes)

    def __iter__(self) -> Iterator[Index]:
        return iter(np.ndindex(*self.sizes))

    def mixed(
        self, own: Mapping[str, NDArray[Any]], other: Mapping[str, NDArray[Any]], index: Index
    ) -> dict[LayerCall, NDArray[Any]]:
        """What the calls return with one unit from another run.

        Args:
            own: By id, what they return in this run.
            other: By id, what they return in the other.
            index: The unit.
        """
        patches = {}
        for call in self.calls:
            made = own[call.id].copy()
            where = self._where(made.shape, index)
            made[where] = other[call.id][where]
            patches[call] = made
        return patches

    def summed(self, maps: Mapping[str, NDArray[Any]], index: Index) -> Floats:
        """Sum of maps over one unit, ``(n,)``.

        Args:
            maps: By id of the call, ``(n, …)`` in the shape of what it returns.
            index: The unit.
        """
        parts = [np.asarray(maps[c.id], np.float64)[self._where(maps[c.id].shape, index)] for c in self.calls]
        return np.asarray(np.sum([part.reshape(len(part), -1).sum(axis=1) for part in parts], axis=0))

    def _where(self, shape: tuple[int, ...], index: Index) -> tuple[slice, ...]:
        where = [slice(None)] * len(shape)
        for axis, size, number in zip(self.axes, self.sizes, index, strict=True):
            # Where keys and values have fewer heads than queries, the unit is the group of queries that share one.
            width = shape[axis] // size
            where[axis] = slice(number * width, (number + 1) * width)
        return tuple(where)


def units_of(view: ModelView, layer: Layers, by: By) -> Units:
    """Divide a layer.

    Args:
        view: The opened model, traced on data.
        layer: Name or id of one layer, or one of its calls (``"conv@2"``).
        by: ``"channels"``: the last axis, or the second where the layer's data format says so; ``"positions"``: all
            others; ``"heads"``: of a layer of the kind of `keras.layers.MultiHeadAttention`.

    Raises:
        ConfigError: If there is no such layer, several, or it has no such units.
    """
    check_names([by], ["channels", "positions", "heads"], what="kind of units")
    calls = select_calls(view, layer)
    if len(calls) != 1:
        names = ", ".join(call.id for call in calls[:5])
        raise ConfigError(f"layer={layer!r} means {len(calls)} calls ({names}): give the id of one.")
    call = calls[0]
    if by == "heads":
        return _heads(view, call)
    shape = _shape(view, call)
    channel = _channel_axis(call, len(shape))
    axes = (channel,) if by == "channels" else tuple(axis for axis in range(1, len(shape)) if axis != channel)
    if not axes or len(shape) < 2:
        raise ConfigError(f"Layer {call.id!r} returns shape {shape}: it has no {by}. Take by='channels'.")
    return Units(layer=call.id, by=by, calls=(call,), axes=axes, sizes=tuple(shape[axis] for axis in axes))


def _heads(view: ModelView, call: LayerCall) -> Units:
    parts = {part.name: part for part in compat.sublayers(call.layer.layer)}
    if not all(name in parts for name in _PROJECTIONS):
        raise ConfigError(
            f"Layer {call.id!r} is a {call.layer.kind} without projections named {', '.join(_PROJECTIONS)}: it has no "
            "heads. Take a layer of the kind of keras.layers.MultiHeadAttention, or by='channels'."
        )
    projections = tuple(
        next(one for one in select_calls(view, parts[name]) if one.call == call.call) for name in _PROJECTIONS
    )
    n_heads = min(_shape(view, one)[-2] for one in projections)
    return Units(layer=call.id, by="heads", calls=projections, axes=(-2,), sizes=(n_heads,))


def _shape(view: ModelView, call: LayerCall) -> tuple[int, ...]:
    """Of the one tensor that a call returns, as traced."""
    firings = [one for one in view.firings if (one.place, one.call) == (call.place, call.call)]
    shapes = firings[0].output_shapes if firings else ()
    if len(shapes) != 1:
        raise ConfigError(
            f"Layer {call.id!r} returns {len(shapes)} tensors: units are those of one. Take a part of it."
        )
    return tuple(size or 1 for size in shapes[0])


def _channel_axis(call: LayerCall, rank: int) -> int:
    first = getattr(call.layer.layer, "data_format", None) == "channels_first"
    return 1 if first and rank > 2 else rank - 1
