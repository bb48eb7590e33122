"""Bringing data into the structure that a model is called with, and refusing what does not fit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.errors import DataError

Arrays = NDArray[Any] | Mapping[str, NDArray[Any]] | Sequence[NDArray[Any]]

_AUTOMATIC = re.compile(r"keras_tensor(_\d+)?")
"""Names that Keras gives."""

UNKNOWN_SIZE = 32
"""Stands for a dimension that a model leaves open, where a shape is needed before any data."""


def arrange(model: keras.Model, x: Arrays) -> Any:
    """The data in the structure that ``model(...)`` expects, checked against its declared inputs.

    Args:
        model: A built model.
        x: One array, a list, or a mapping by input name; first axis is the sample.

    Raises:
        DataError: If inputs are missing, unknown, or of the wrong shape.
    """
    declared = getattr(model, "inputs", None)
    if not declared:
        return x
    by_name = _by_input_name([tensor.name for tensor in declared], x)
    for tensor in declared:
        _check_shape(tensor.name, tuple(tensor.shape), by_name[tensor.name])
        _check_kind(tensor.name, str(tensor.dtype), by_name[tensor.name])
    structure = getattr(model, "input", declared)
    arranged = keras.tree.map_structure(lambda tensor: _as_dtype(by_name[tensor.name], tensor.dtype), structure)
    if isinstance(arranged, list | tuple) and len(arranged) == 1:
        return arranged[0]
    return arranged


def example(model: keras.Model, n: int = 1) -> Any | None:
    """Zeros in the shape of the model's declared inputs, or None where it declares none.

    Args:
        model: A built model.
        n: Number of samples, unless the model fixes its batch size.
    """
    if not getattr(model, "inputs", None):
        return None

    def zeros(tensor: Any) -> NDArray[Any]:
        batch, *sizes = tensor.shape
        shape = (batch or n, *(UNKNOWN_SIZE if size is None else size for size in sizes))
        return _as_dtype(np.zeros(shape), tensor.dtype)

    made = keras.tree.map_structure(zeros, getattr(model, "input", model.inputs))
    return made[0] if isinstance(made, list | tuple) and len(made) == 1 else made


def fixed_batch_size(model: keras.Model) -> int | None:
    """The batch size that the model's inputs fix, or None."""
    sizes = {tensor.shape[0] for tensor in getattr(model, "inputs", None) or ()} - {None}
    return sizes.pop() if len(sizes) == 1 else None


def take(arranged: Any, index: NDArray[np.int64] | slice) -> Any:
    """The same structure with only some samples."""
    return keras.tree.map_structure(lambda array: array[index], arranged)


def count(arranged: Any) -> int:
    """Number of samples."""
    return int(keras.tree.flatten(arranged)[0].shape[0])


def input_names(model: keras.Model, arranged: Any) -> list[str]:
    """Names of the inputs, in the order in which samples are flattened.

    Args:
        model: A built model.
        arranged: Samples in the structure that it is called with.
    """
    declared = [tensor.name for tensor in getattr(model, "inputs", None) or ()]
    flat = keras.tree.flatten_with_path(arranged)
    if len(declared) == len(flat):
        structure = getattr(model, "input", model.inputs)
        names = [tensor.name for tensor in keras.tree.flatten(structure)]
        # An input that nobody named has a name of Keras', with a number that counts tensors of the process.
        return ["input"] if len(names) == 1 and _AUTOMATIC.fullmatch(names[0]) else names
    return ["/".join(map(str, path)) or "input" for path, _ in flat]


def _by_input_name(names: list[str], x: Arrays) -> dict[str, NDArray[Any]]:
    if isinstance(x, Mapping):
        if len(names) == 1 and len(x) == 1:
            return {names[0]: next(iter(x.values()))}
        missing, unknown = [n for n in names if n not in x], [n for n in x if n not in names]
        if missing or unknown:
            raise DataError(
                f"x has inputs {sorted(x)}, the model has {sorted(names)}: missing {missing}, unknown {unknown}. "
                "Give x_data={input name: array}; in an .npz file, one key x_<input name> each."
            )
        return dict(x)
    arrays: list[Any] = list(x) if isinstance(x, list | tuple) else [x]
    if len(arrays) != len(names):
        raise DataError(
            f"The model has {len(names)} inputs ({', '.join(names)}) and x holds {len(arrays)} arrays. Give "
            "x_data={input name: array}; in an .npz file, one key x_<input name> each."
        )
    return dict(zip(names, arrays, strict=True))


def _check_shape(name: str, declared: tuple[int | None, ...], array: NDArray[Any]) -> None:
    expected, got = declared[1:], array.shape[1:]
    if len(got) == len(expected) - 1 and expected[-1] == 1:
        # Keras itself adds a last axis of size 1.
        expected = expected[:-1]
    fits = len(expected) == len(got) and all(e is None or e == g for e, g in zip(expected, got, strict=True))
    if not fits:
        shown = "(n, " + ", ".join("any" if size is None else str(size) for size in declared[1:]) + ")"
        raise DataError(
            f"x for input {name!r} has shape {array.shape}; the model expects {shown}. Reshape or resize x before the "
            "analysis, as was done for training."
        )


def _check_kind(name: str, dtype: str, array: NDArray[Any]) -> None:
    kind = np.asarray(array).dtype.kind
    if dtype != "string" and kind in "US":
        raise DataError(
            f"x for input {name!r} holds text, the model expects numbers ({dtype}). Turn it into numbers first, as was "
            "done for training."
        )


def _as_dtype(array: NDArray[Any], dtype: str) -> NDArray[Any]:
    if dtype in ("string", "bfloat16"):
        return array
    return np.ascontiguousarray(array, dtype=np.dtype(dtype))
