"""Whether something treats channels one by one, found out by trying it with fewer of them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.backends import engine

Shape = tuple[int | None, ...]

_TOLERANCE = 1e-5


def axis_after(place: Any, shape: Shape, axis: int) -> int | None:
    """Where the channels are after something that, for fewer of them, gives just the same for those that are left.

    It is tried on random numbers; a layer is tried as a copy, so that nothing of the model is called.

    Args:
        place: A layer, an operation, or a function without weights.
        shape: Of its argument.
        axis: Channels of the argument.

    Returns:
        The axis of the result; None where channels are joined, or their number is fixed.
    """
    sizes = [size or 1 for size in shape]
    sizes[axis] = max(sizes[axis], 2)
    x = np.random.default_rng(0).normal(size=sizes).astype("float32")
    kept = np.arange(0, sizes[axis], 2)
    try:
        trial = _copy(place)
        whole, part = (np.asarray(_called(trial, given)) for given in (x, np.take(x, kept, axis=axis)))
    except Exception:  # noqa: BLE001 - whatever it raises, it cannot do with fewer channels
        return None
    for after in range(1, whole.ndim):
        if whole.shape[after] != sizes[axis]:
            continue
        wanted = np.take(whole, kept, axis=after)
        if wanted.shape == part.shape and np.allclose(wanted, part, rtol=_TOLERANCE, atol=_TOLERANCE):
            return after
    return None


def flattened_index(layer: keras.layers.Layer, shape: Shape, axis: int, index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Channel of each position after a Flatten layer.

    Args:
        layer: The layer.
        shape: Of its argument.
        axis: Channels of the argument.
        index: Channel of each position along that axis.
    """
    sizes = [size or 1 for size in shape[1:]]
    along = [1] * len(sizes)
    along[axis - 1] = len(index)
    spread = np.broadcast_to(index.reshape(along), sizes)
    if layer.data_format == "channels_first" and len(sizes) > 1:
        spread = np.moveaxis(spread, 0, -1)
    return np.asarray(spread.reshape(-1))


def _copy(place: Any) -> Any:
    return type(place).from_config(place.get_config()) if isinstance(place, keras.layers.Layer) else place


def _called(trial: Any, x: NDArray[Any]) -> Any:
    tensor = keras.ops.convert_to_tensor(x)
    # The call of an operation, not the operation itself: that would write a node into the user's graph.
    function = trial.call if isinstance(trial, keras.Operation) and not isinstance(trial, keras.Layer) else trial
    with engine().inference():
        return engine().to_numpy(function(tensor))
