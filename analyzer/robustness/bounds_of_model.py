"""The bounds of inputs that a model itself tells, by the layer that rescales them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.inspection.view import ModelView
from analyzer.robustness.attacks.threat import Box, box_of

_ROUNDING = 1e-4
"""Share of the range by which data may pass the bounds: they were written as float32."""


def input_box(view: ModelView, x: NDArray[Any], bounds: tuple[float, float] | None = None) -> Box:
    """Between which values inputs lie: as given, as a first `Rescaling` layer tells, or as far as the data reach.

    Args:
        view: The opened model.
        x: Samples.
        bounds: Smallest and largest value, where the user says so.

    Raises:
        ConfigError: If the bounds are none.
        DataError: If samples are outside of given bounds, not finite, no floats, or all of one value.
    """
    if bounds is not None:
        return box_of(x, bounds)
    rescaled = _rescaling(view)
    if rescaled is None:
        return box_of(x)
    low, high = rescaled
    slack = _ROUNDING * (high - low)
    if float(x.min()) < low - slack or float(x.max()) > high + slack:
        return box_of(x)
    inside = box_of(np.clip(x, low, high), (low, high))
    return Box(low=inside.low, high=inside.high, source="the model's Rescaling layer")


def _rescaling(view: ModelView) -> tuple[float, float] | None:
    """The inputs that the first layer maps to 0 to 1, or to -1 to 1 where it moves them by -1."""
    for firing in view.firings:
        layer = view.places[firing.place]
        if not isinstance(layer, keras.layers.Rescaling) or any(source >= 0 for source in firing.sources):
            continue
        scale, offset = np.asarray(layer.scale, np.float64), np.asarray(layer.offset, np.float64)
        if scale.size != 1 or offset.size != 1 or scale.item() <= 0:
            return None
        lowest = -1.0 if np.isclose(offset.item(), -1.0) else 0.0
        return (lowest - offset.item()) / scale.item(), (1.0 - offset.item()) / scale.item()
    return None
