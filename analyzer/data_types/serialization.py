"""Result dataclasses to strict JSON and back, driven by their type hints.

Arrays above `INLINE_SIZE` elements leave the JSON and are named in it; what is not finite becomes null.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

from analyzer.errors import DataError

INLINE_SIZE = 256
"""Arrays with at most this many elements are written into the JSON itself."""

MEASURED = {"measured": True}
"""Metadata of fields that may differ between two equal runs: a document has them under ``measured`` alone."""

_ARRAY_KEY = "array"


class ArrayStore:
    """Collects the large arrays of a document under names that users' words never enter."""

    def __init__(self, *, inline_all: bool = False) -> None:
        self.inline_all = inline_all
        self.arrays: dict[str, np.ndarray] = {}

    def add(self, array: np.ndarray, field: str) -> Any:
        """The JSON form of an array: nested lists, or a reference to a member of the store."""
        if self.inline_all or array.size <= INLINE_SIZE:
            return plain(array.tolist())
        name = f"{len(self.arrays):05d}_{field}"
        self.arrays[name] = array
        return {_ARRAY_KEY: name, "shape": list(array.shape), "dtype": str(array.dtype)}


def plain(value: Any) -> Any:
    """Any nesting of NumPy and Python values as strict JSON values; what is not finite becomes None."""
    if value is None or (isinstance(value, bool | str | int) and not isinstance(value, np.generic)):
        return value
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return plain(value.to_dict("list"))
    if hasattr(value, "__array__"):
        # A tensor of a framework; one of torch may sit on a device or carry a gradient.
        return plain(np.asarray(value.detach().cpu() if hasattr(value, "detach") else value))
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return str(value)


def encode(value: Any, store: ArrayStore, field: str = "value") -> Any:
    """A result as JSON values.

    Args:
        value: A result dataclass, or any value that its fields may hold.
        store: Receives the large arrays.
        field: Name of the field that holds the value, for the names of arrays.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kept = [f for f in dataclasses.fields(value) if not f.metadata.get("measured")]
        body = {f.name: encode(getattr(value, f.name), store, f.name) for f in kept}
        return {"type": type(value).__name__, **body} if _is_result(value) else body
    if isinstance(value, np.ndarray):
        return store.add(value, field)
    if isinstance(value, Mapping):
        return {str(key): encode(item, store, field) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item, store, field) for item in value]
    return plain(value)


def encode_measured(value: Any, store: ArrayStore) -> dict[str, Any]:
    """The fields of a result that `encode` leaves out.

    Args:
        value: A result dataclass, or what stands in its place.
        store: Receives the large arrays.
    """
    kept = (
        [f for f in dataclasses.fields(value) if f.metadata.get("measured")] if dataclasses.is_dataclass(value) else []
    )
    return {f.name: encode(getattr(value, f.name), store, f.name) for f in kept}


def decode(hint: Any, value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The inverse of `encode` for a value of the hinted type.

    Args:
        hint: A resolved type hint: a dataclass, ``tuple[X, ...]``, ``dict[str, X]``, a union, an array or a scalar.
        value: JSON values.
        arrays: Members of the array file.
    """
    origin = get_origin(hint)
    if value is None:
        return None
    if origin in (Union, types.UnionType):
        return decode(_choose(get_args(hint), value), value, arrays)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        hints = get_type_hints(hint)
        known = {f.name for f in dataclasses.fields(hint)}
        return hint(**{k: decode(hints[k], v, arrays) for k, v in value.items() if k in known})
    if origin is tuple:
        return tuple(decode(_item_hint(hint, i), item, arrays) for i, item in enumerate(value))
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return {key: decode(get_args(hint)[1], item, arrays) for key, item in value.items()}
    if origin is np.ndarray or hint is np.ndarray:
        return _decode_array(value, arrays, hint)
    return value


def _is_result(value: Any) -> bool:
    return any(f.name == "findings" for f in dataclasses.fields(value))


def _item_hint(hint: Any, index: int) -> Any:
    args = get_args(hint)
    return args[0] if len(args) == 2 and args[1] is Ellipsis else args[index]


def _choose(options: tuple[Any, ...], value: Any) -> Any:
    candidates = [option for option in options if option is not type(None)]
    if isinstance(value, Mapping):
        named = [c for c in candidates if getattr(c, "__name__", None) == value.get("type")]
        classes = [c for c in candidates if dataclasses.is_dataclass(c) or get_origin(c) is dict]
        return (named or classes or candidates)[0]
    if isinstance(value, list):
        sequences = [c for c in candidates if get_origin(c) in (tuple, np.ndarray) or c is np.ndarray]
        return (sequences or candidates)[0]
    return candidates[0]


def _decode_array(value: Any, arrays: Mapping[str, np.ndarray], hint: Any) -> np.ndarray:
    if isinstance(value, Mapping):
        array = arrays.get(value[_ARRAY_KEY])
        if array is None or [list(array.shape), str(array.dtype)] != [value["shape"], value["dtype"]]:
            raise DataError(
                f"The results name an array {value[_ARRAY_KEY]!r} of shape {tuple(value['shape'])} and dtype "
                f"{value['dtype']}, which the .npz file beside them does not hold. Keep both files of one analysis "
                "together."
            )
        return array
    # The hint says what JSON does not: the type of an empty array, and that null is NaN.
    hinted = get_args(get_args(hint)[1])[0] if len(get_args(hint)) == 2 else None
    if isinstance(hinted, type):
        return np.asarray(value, dtype=hinted)
    array = np.asarray(value)
    return array.astype(np.float64) if array.dtype == object else array
