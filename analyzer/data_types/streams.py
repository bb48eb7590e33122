"""Reading batches from other people's loaders into arrays, without importing any framework."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from analyzer.errors import DataError


def read_stream(source: Any, max_samples: int | None) -> tuple[Any, Any, Any]:
    """Collect the batches of a stream.

    Args:
        source: An iterable of batches, or an object with ``__len__`` and ``__getitem__`` by batch (`PyDataset`). A
            batch is ``x``, ``(x, y)`` or ``(x, y, sample_weight)``, where x and y are arrays or dicts of arrays.
        max_samples: Where to stop reading; None reads to the end.

    Returns:
        x, y and sample_weight; the last two are None where the batches have none.

    Raises:
        DataError: If the stream is empty, endless, or yields something else.
    """
    parts: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
    n = 0
    for batch in _batches(source, max_samples):
        pieces = batch if isinstance(batch, tuple | list) else (batch,)
        for part, piece in zip(parts, pieces, strict=False):
            part.append(_to_numpy(piece))
        n += len(_first(parts[0][-1]))
        if max_samples is not None and n >= max_samples:
            break
    if not parts[0]:
        raise DataError(f"The {type(source).__name__} yielded no batch. Was a generator used up before?")
    joined = tuple(_trim(_join(part), max_samples) if len(part) == len(parts[0]) else None for part in parts)
    return joined[0], joined[1], joined[2]


def _batches(source: Any, max_samples: int | None) -> Iterator[Any]:
    if max_samples is None and _is_endless(source):
        raise DataError(f"The {type(source).__name__} has no end. Say DataInput.from_object(source, max_samples=...).")
    if hasattr(source, "__getitem__") and hasattr(source, "num_batches"):
        # keras.utils.PyDataset: its own __iter__ shuffles nothing and never ends.
        size = source.num_batches
        return (source[i] for i in range(len(source) if size is None or math.isinf(size) else int(size)))
    if isinstance(source, Iterable):
        return iter(source)
    raise DataError(
        f"Cannot read data from {type(source).__module__}.{type(source).__name__}. Give DataInput(x_data=..., "
        "y_data=...), a tuple (x, y), a tf.data.Dataset, a torch DataLoader, a PyDataset or a generator of batches."
    )


def _is_endless(source: Any) -> bool:
    cardinality = getattr(source, "cardinality", None)
    if callable(cardinality):
        # tf.data says -1 for a dataset that repeats for ever.
        return int(cardinality()) == -1
    size = getattr(source, "num_batches", None)
    return isinstance(size, float) and math.isinf(size)


def _to_numpy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _to_numpy(item) for key, item in value.items()}
    if isinstance(value, tuple | list) and value and hasattr(value[0], "shape"):
        return [_to_numpy(item) for item in value]
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


def _first(value: Any) -> Any:
    if isinstance(value, Mapping):
        return next(iter(value.values()))
    return value[0] if isinstance(value, list) else value


def _join(parts: list[Any]) -> Any:
    if isinstance(parts[0], Mapping):
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    if isinstance(parts[0], list):
        return [np.concatenate(column) for column in zip(*parts, strict=True)]
    return np.concatenate(parts)


def _trim(value: Any, n: int | None) -> Any:
    if isinstance(value, Mapping):
        return {key: array[:n] for key, array in value.items()}
    return [array[:n] for array in value] if isinstance(value, list) else value[:n]
