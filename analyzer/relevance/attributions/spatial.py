"""Which axes of inputs and layers are positions, and maps brought from one grid of positions to another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analyzer.relevance.attributions.passing import Array
from analyzer.relevance.tracing import Plan


@dataclass(frozen=True, kw_only=True)
class FeatureMap:
    """A call that returns one tensor with positions and channels.

    Attributes:
        id: Id of the call.
        shape: Its positions.
        channels_first: Whether channels come before positions.
    """

    id: str
    shape: tuple[int, ...]
    channels_first: bool


def feature_maps(plan: Plan) -> list[FeatureMap]:
    """Calls with positions and channels in order of execution; the model's outputs are none."""
    view = plan.view
    heads = {head.place for head in view.heads}
    found, channels_first = [], False
    for firing in view.firings:
        place = view.places[firing.place]
        channels_first = getattr(place, "data_format", "channels_first" if channels_first else "") == "channels_first"
        name = plan.ids.get((firing.place, firing.call))
        if name is None or firing.place in heads or len(firing.output_shapes) != 1:
            continue
        sizes = [int(size or 0) for size in firing.output_shapes[0][1:]]
        if len(sizes) > 1:
            positions = tuple(sizes[1:] if channels_first else sizes[:-1])
            found.append(FeatureMap(id=name, shape=positions, channels_first=channels_first))
    return found


def channels_first(plan: Plan) -> bool:
    """Whether a model's layers have channels before positions."""
    return any(getattr(place, "data_format", None) == "channels_first" for place in plan.view.places.values())


def resized(maps: Array, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Maps on another grid of positions, linearly interpolated along each axis between the middles of cells.

    Args:
        maps: ``(k, n, *positions)``.
        shape: The positions wanted.
    """
    found = np.asarray(maps, dtype=np.float64)
    for axis, size in enumerate(shape, start=2):
        found = np.moveaxis(np.tensordot(found, _weights(found.shape[axis], size), axes=(axis, 1)), -1, axis)
    return found


def _weights(before: int, after: int) -> NDArray[np.float64]:
    """``(after, before)``: what each old cell counts in each new one."""
    middles = np.clip((np.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)
    low = np.floor(middles).astype(int)
    high = np.minimum(low + 1, before - 1)
    share = middles - low
    weights = np.zeros((after, before))
    weights[np.arange(after), low] += 1 - share
    weights[np.arange(after), high] += share
    return weights
