"""Where the kernels of layers hold their channels."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from analyzer.errors import Unsupported
from analyzer.inspection import compat
from analyzer.inspection.kernels import CONVOLUTIONS, SEPARABLE, TRANSPOSED

PRUNABLE = (keras.layers.Dense, *CONVOLUTIONS, *TRANSPOSED, *SEPARABLE)
"""Layers whose output channels can be removed, where what follows allows it."""


def is_graph(place: object) -> bool:
    """Whether something is a Functional or Sequential model, whose calls are all in a graph.

    Args:
        place: A layer, an operation or a model.
    """
    return isinstance(place, keras.Model) and bool(compat.operations(place))


def channel_axis(layer: keras.layers.Layer, rank: int) -> int:
    """The axis on which a layer counts channels.

    Args:
        layer: The layer.
        rank: Number of axes of its tensor.
    """
    return 1 if getattr(layer, "data_format", None) == "channels_first" and rank > 2 else rank - 1


def outgoing(layer: keras.layers.Layer) -> Sequence[tuple[str, int]]:
    """Variables with an axis of output channels, and that axis.

    Args:
        layer: One of `PRUNABLE`.
    """
    if isinstance(layer, SEPARABLE):
        return ("pointwise_kernel", len(layer.pointwise_kernel.shape) - 1), ("bias", 0)
    rank = len(layer.kernel.shape)
    return ("kernel", rank - 2 if isinstance(layer, TRANSPOSED) else rank - 1), ("bias", 0)


def incoming(layer: keras.layers.Layer) -> Sequence[tuple[str, int, int]]:
    """Variables with an axis of input channels, that axis, and how often each channel stands there.

    Args:
        layer: One of `PRUNABLE`.
    """
    if isinstance(layer, SEPARABLE):
        rank = len(layer.depthwise_kernel.shape)
        return ("depthwise_kernel", rank - 2, 1), ("pointwise_kernel", rank - 2, layer.depth_multiplier)
    rank = len(layer.kernel.shape)
    return (("kernel", rank - 1 if isinstance(layer, TRANSPOSED) else rank - 2, 1),)


def check_groups(layer: keras.layers.Layer, name: str) -> None:
    """Refuse grouped convolutions, whose kernels see a part of the channels each.

    Args:
        layer: The layer.
        name: For the message.

    Raises:
        Unsupported: If it is one.
    """
    if getattr(layer, "groups", 1) != 1:
        raise Unsupported(f"{name} is a grouped convolution.")
