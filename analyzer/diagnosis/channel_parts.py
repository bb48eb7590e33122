"""What the output channels of a layer consist of: tensors that carry them, and the weights that go with them."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.inspection.selection import LayerCall
from analyzer.inspection.view import LayerInfo

Ints = NDArray[np.int64]

FOREIGN = -1
"""Stands for a channel of another layer, where several are concatenated."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Carrier:
    """A tensor that carries channels.

    Attributes:
        call: The call that returns it.
        axis: Where its channels are counted.
        index: For each position along that axis, the channel of the pruned layer; `FOREIGN` for others.
    """

    call: LayerCall
    axis: int
    index: Ints


@dataclass(frozen=True, kw_only=True, eq=False)
class Cut:
    """An axis of a variable that loses positions with the channels.

    Attributes:
        layer: The layer that owns it.
        variable: Its name.
        axis: The axis.
        index: For each position, the channel; `FOREIGN` for those that stay.
        taken_from: For kernels that take channels in: the carrier they come from; else None.
    """

    layer: keras.layers.Layer
    variable: str
    axis: int
    index: Ints
    taken_from: Carrier | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Opening:
    """An input of a nested model through which channels go in: its declared shape goes with them.

    Attributes:
        container: The nested model.
        argument: Number of the input.
        axis: Where channels are counted.
        index: For each position, the channel; `FOREIGN` for those that stay.
    """

    container: keras.Model
    argument: int
    axis: int
    index: Ints


@dataclass(frozen=True, kw_only=True, eq=False)
class ChannelGroup:
    """The output channels of one layer and all that hangs on them.

    Attributes:
        layer: The layer.
        n_channels: How many it has.
        carriers: Tensors that carry them, its own output first.
        cuts: Axes of variables that go with them.
        openings: Inputs of nested models on the way.
    """

    layer: LayerInfo
    n_channels: int
    carriers: tuple[Carrier, ...]
    cuts: tuple[Cut, ...]
    openings: tuple[Opening, ...] = ()
