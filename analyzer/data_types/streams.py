"""Reading batches from other people's loaders into arrays, without importing any framework."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from analyzer.errors import DataError

MOST_BYTES = 8 * 2**30
"""A stream that goes on beyond this is taken for endless, unless ``max_samples`` says where to stop."""


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
    n = size = 0
    for batch in _batches(source, max_samples):
        pieces = batch if isinstance(batch, tuple | list) else (batch,)
        for part, piece in zip(parts, pieces, strict=False):
            part.append(_to_numpy(piece))
            size += sum(array.nbytes for array in _leaves(part[-1]))
        n += _length(parts[0][-1], source)
        if max_samples is None and size > MOST_BYTES:
            raise DataError(
                f"The {type(source).__name__} yielded {n} samples ({size / 2**30:.1f} GiB) and goes on: it may have no "
                "end. Say DataInput.from_object(source, max_samples=...)."
            )
        if max_samples is not None and n >= max_samples:
            break
    if not parts[0]:
        raise DataError(f"The {type(source).__name__} yielded no batch. Was a generator used up before?")
    if any(part and len(part) != len(parts[0]) for part in parts):
        raise DataError(f"Some batches of the {type(source).__name__} hold labels or weights and others do not.")
    joined = tuple(_trim(_join(part), max_samples) if part else None for part in parts)
    return joined[0], joined[1], joined[2]


def _batches(source: Any, max_samples: int | None) -> Iterator[Any]:
    if max_samples is None and _is_endless(source):
        raise DataError(f"The {type(source).__name__} has no end. Say DataInput.from_object(source, max_samples=...).")
    if _is_py_dataset(source):
        size = _number_of_batches(source)
        return (source[i] for i in (itertools.count() if size is None else range(size)))
    if isinstance(source, Iterable) and not isinstance(source, str | bytes):
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
    return _is_py_dataset(source) and _number_of_batches(source) is None


def _is_py_dataset(source: Any) -> bool:
    # On the class: asking an instance runs its property, which may raise.
    return hasattr(type(source), "num_batches") and hasattr(source, "__getitem__")


def _number_of_batches(source: Any) -> int | None:
    """Batches of a `PyDataset`; None where it has no end."""
    try:
        size = source.num_batches
    except NotImplementedError:
        return None
    return None if size is None or math.isinf(size) else int(size)


def _to_numpy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _to_numpy(item) for key, item in value.items()}
    if isinstance(value, tuple | list) and value and hasattr(value[0], "shape"):
        return [_to_numpy(item) for item in value]
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


def _leaves(value: Any) -> list[np.ndarray]:
    if isinstance(value, Mapping):
        return [leaf for item in value.values() for leaf in _leaves(item)]
    return [leaf for item in value for leaf in _leaves(item)] if isinstance(value, list) else [value]


def _length(value: Any, source: Any) -> int:
    first = _leaves(value)[:1]
    if not first or first[0].ndim == 0:
        raise DataError(
            f"The {type(source).__name__} should yield batches whose first axis is the sample, got {value!r}. Batch "
            "it first, e.g. with dataset.batch(128)."
        )
    return len(first[0])


def _join(parts: list[Any]) -> Any:
    try:
        if isinstance(parts[0], Mapping):
            return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        if isinstance(parts[0], list):
            return [np.concatenate(column) for column in zip(*parts, strict=True)]
        return np.concatenate(parts)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"The batches do not fit together: {error}. Each batch should be x, (x, y) or (x, y, sample_weight), with "
            "samples of one shape."
        ) from error


def _trim(value: Any, n: int | None) -> Any:
    if isinstance(value, Mapping):
        return {key: array[:n] for key, array in value.items()}
    return [array[:n] for array in value] if isinstance(value, list) else value[:n]
