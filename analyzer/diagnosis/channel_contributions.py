"""What the channels of a layer bring to the layers that take them in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.diagnosis.channel_parts import ChannelGroup
from analyzer.inspection.instrumented import Instrumented
from analyzer.inspection.logical_weights import as_array
from analyzer.inspection.view import ModelView

Floats = NDArray[np.float64]


def contributions(
    view: ModelView, groups: Mapping[str, ChannelGroup], arranged: Any, batch_size: int
) -> dict[str, Floats]:
    """What each channel brings to the layers that take it in, as a share of what all channels of its layer bring.

    The square of (root mean square of the channel) × (norm of the weights that it meets), summed over the layers that
    take it in. A factor that one layer multiplies and the next divides by changes nothing.

    Args:
        view: The opened model.
        groups: Layers that can be pruned.
        arranged: Samples in the structure that the model is called with.
        batch_size: Most samples per batch.

    Returns:
        ``(channels,)`` by id of the layer, adding up to 1; all 0 where nothing comes through.
    """
    taken = {
        (cut.taken_from.call.id, cut.taken_from.axis): cut.taken_from
        for group in groups.values()
        for cut in group.cuts
        if cut.taken_from is not None
    }
    squares: dict[tuple[str, int], Floats] = {}
    calls = list({one.call.id: one.call for one in taken.values()}.values())
    for batch in Instrumented(view=view, read=calls, compiled=True).batches(arranged, batch_size):
        for name, axis in taken:
            wide = np.moveaxis(batch.results[name], axis, -1).astype(np.float64)
            sums = np.square(wide.reshape(-1, wide.shape[-1])).sum(axis=0)
            squares[name, axis] = squares.get((name, axis), np.zeros(len(sums))) + sums
    found = {}
    for name, group in groups.items():
        brought = np.zeros(group.n_channels)
        for cut in group.cuts:
            if cut.taken_from is None:
                continue
            kernel = np.moveaxis(as_array(getattr(cut.layer, cut.variable)).astype(np.float64), cut.axis, 0)
            met = np.square(kernel.reshape(len(kernel), -1)).sum(axis=1)
            signal = squares[cut.taken_from.call.id, cut.taken_from.axis]
            signal = np.repeat(signal, len(met) // len(signal))
            own = cut.index >= 0
            brought += np.bincount(cut.index[own], weights=(met * signal)[own], minlength=group.n_channels)
        total = brought.sum()
        found[name] = brought / total if total > 0 else brought
    return found


def weakest(scores: Mapping[str, Floats], fraction: float) -> dict[str, NDArray[np.int64]]:
    """The channels of each layer that bring least, at least one of them staying.

    Args:
        scores: From `contributions`.
        fraction: Share of the channels of a layer, rounded down.
    """
    counts = {name: min(int(fraction * len(score) + 1e-9), len(score) - 1) for name, score in scores.items()}
    return {
        name: np.sort(np.argsort(score, kind="stable")[: counts[name]])
        for name, score in scores.items()
        if counts[name]
    }
