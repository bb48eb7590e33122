"""What an intervention does to the result of a layer, to some of its units, or to the values of a variable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ConfigError, DataError

Unit = int | Sequence[int]

Verb = Literal["replace", "scale", "zero", "mean"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Some units of a tensor.

    Attributes:
        index: Their numbers.
        axis: The axis they are counted on; never the first, which is the sample.
    """

    index: tuple[int, ...]
    axis: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Change:
    """One intervention.

    Attributes:
        verb: What is done.
        value: The factor, the value, or the function that makes it of the old one.
        part: The units it is done to; None for all.
    """

    verb: Verb
    value: Any = None
    part: Part | None = None

    def apply(self, result: Any, rows: NDArray[np.int64], n: int, means: Sequence[NDArray[Any]], what: str) -> Any:
        """What a call hands on instead of its result.

        Args:
            result: What it returned, in its own structure.
            rows: Positions in x of the batch's samples.
            n: Number of samples in x.
            means: Mean over the samples of each tensor of the clean result; only read for the verb ``"mean"``.
            what: Name of the layer, for messages.

        Raises:
            DataError: If a new value does not have the shape of the old one.
        """
        flat = [leaf for leaf in keras.tree.flatten(result) if keras.ops.is_tensor(leaf)]
        if self.part is None and self.verb == "replace" and callable(self.value):
            return _checked_like(self.value(result), result, what)
        if len(flat) != 1 and (self.part is not None or self.verb == "replace"):
            raise DataError(
                f"Layer {what!r} returns {len(flat)} tensors, so it is not clear which one is meant. Use "
                "replace(function): it receives all that the layer returns, in its own structure."
            )
        new = iter([self._changed(tensor, rows, n, i, means, what) for i, tensor in enumerate(flat)])
        return keras.tree.map_structure(lambda leaf: next(new) if keras.ops.is_tensor(leaf) else leaf, result)

    def _changed(
        self, tensor: Any, rows: NDArray[np.int64], n: int, number: int, means: Sequence[NDArray[Any]], what: str
    ) -> Any:
        if self.part is None:
            mean = means[number] if self.verb == "mean" else None
            return _fitted(self._new(tensor, mean, rows, n, what), tensor, what)
        axis, index = check_part(self.part, tuple(tensor.shape), what)
        old = keras.ops.take(tensor, np.asarray(index), axis=axis)
        mean = np.take(means[number], index, axis=axis - 1) if self.verb == "mean" else None
        new = _fitted(self._new(old, mean, rows, n, what), old, what)
        # Where each unit's new value stands; those that stay as they are point anywhere.
        slots, chosen = np.zeros(tensor.shape[axis], np.int32), np.zeros(tensor.shape[axis], bool)
        slots[list(index)], chosen[list(index)] = np.arange(len(index)), True
        mask = chosen.reshape([-1 if i == axis else 1 for i in range(len(tensor.shape))])
        return keras.ops.where(mask, keras.ops.take(new, slots, axis=axis), tensor)

    def _new(self, old: Any, mean: Any, rows: NDArray[np.int64], n: int, what: str) -> Any:
        if self.verb == "zero":
            return keras.ops.zeros_like(old)
        if self.verb == "mean":
            return mean
        if self.verb == "scale":
            if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(old.dtype)):
                raise DataError(f"Layer {what!r} returns {old.dtype}, which scale cannot multiply; use replace.")
            return old * keras.ops.cast(self.value, old.dtype)
        if callable(self.value):
            return self.value(old)
        if keras.ops.is_tensor(self.value):
            return self.value
        value = np.asarray(self.value)
        return value[rows] if value.ndim == len(old.shape) and len(value) == n else value

    def of_values(self, values: NDArray[Any], index: Any) -> NDArray[Any]:
        """New values of a variable.

        Args:
            values: The old ones.
            index: NumPy index of those to change; None for all.

        Raises:
            DataError: If the index or the shape of the new values does not fit.
        """
        made = values.copy()
        where = ... if index is None else index
        try:
            old = made[where]
            made[where] = self._new_values(np.asarray(old))
        except (IndexError, ValueError, TypeError) as error:
            raise DataError(f"weight(..., {index!r}) of a variable of shape {values.shape}: {error}.") from error
        return made

    def _new_values(self, old: NDArray[Any]) -> Any:
        if self.verb == "zero":
            return 0.0
        if self.verb == "mean":
            return old.mean(dtype=np.float64)
        if self.verb == "scale":
            return old * self.value
        return self.value(old.copy()) if callable(self.value) else np.asarray(self.value)


def check_part(part: Part, shape: Sequence[int | None], what: str) -> tuple[int, tuple[int, ...]]:
    """Axis and numbers of units, counted from the front.

    Args:
        part: The units.
        shape: Shape of the tensor; None where a size is not known.
        what: Name of the layer, for messages.

    Raises:
        DataError: If there are no such units.
    """
    axis = part.axis + len(shape) if part.axis < 0 else part.axis
    if not 0 < axis < len(shape):
        raise DataError(
            f"axis={part.axis} of layer {what!r}: its output has shape {tuple(shape)}; expected an axis from 1 to "
            f"{len(shape) - 1} (or negative), since axis 0 is the sample."
        )
    size = shape[axis]
    if size is None:
        return axis, part.index
    index = tuple(i + size if i < 0 else i for i in part.index)
    if not all(0 <= i < size for i in index):
        raise DataError(
            f"unit {list(part.index)} of layer {what!r}: axis {part.axis} has {size} units, 0 to {size - 1}."
        )
    return axis, index


def part_of(index: Unit, axis: int) -> Part:
    """Units from what the user wrote.

    Raises:
        ConfigError: If these are no whole numbers, or none.
    """
    numbers = np.atleast_1d(np.asarray(index))
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu" or not len(numbers):
        raise ConfigError(f"unit({index!r}): expected the number of a unit, or a list of numbers.")
    return Part(index=tuple(int(i) for i in numbers), axis=axis)


def _fitted(new: Any, old: Any, what: str) -> Any:
    """A new value in the dtype and the shape of the old one."""
    shape = tuple(new.shape) if hasattr(new, "shape") else np.shape(new)
    try:
        fits = np.broadcast_shapes(shape, tuple(old.shape)) == tuple(old.shape)
    except ValueError:
        fits = False
    if not fits:
        raise DataError(
            f"The value for layer {what!r} has shape {shape}; the output has shape {tuple(old.shape)} in this batch. "
            "Give a number, an array that broadcasts to the output of one sample, or one row per sample of x."
        )
    return keras.ops.broadcast_to(keras.ops.cast(new, old.dtype), old.shape)


def _checked_like(new: Any, old: Any, what: str) -> Any:
    """What a function made, in the structure of what it was given."""
    before, after = keras.tree.flatten(old), keras.tree.flatten(new)
    if len(before) != len(after):
        raise DataError(
            f"The function for layer {what!r} made {len(after)} values of {len(before)}; return the same structure."
        )
    fitted = [_fitted(b, a, what) if keras.ops.is_tensor(a) else b for a, b in zip(before, after, strict=True)]
    return keras.tree.pack_sequence_as(old, fitted)
