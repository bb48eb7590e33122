"""`DataInput`: the data that models are analysed on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.streams import read_stream
from analyzer.errors import DataError

Arrays = NDArray[Any] | Mapping[str, NDArray[Any]] | Sequence[NDArray[Any]]


@dataclass(frozen=True, eq=False)
class DataInput:
    """Samples and their labels.

    Attributes:
        x_data: One array ``(n, ...)``, or for several inputs a dict by input name or a list in the model's order.
        y_data: Labels ``(n, ...)``, or for several outputs a dict by output name; None where there are none.
        sample_weight: ``(n,)`` non-negative weights, or None.
        indices: ``(n,)`` positions of the samples in the data they were drawn from; None before drawing.

    Raises:
        DataError: If the data are empty, of different lengths, not numeric, or contain NaN.
    """

    x_data: Any
    y_data: Any = None
    sample_weight: NDArray[np.float64] | None = None
    indices: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "x_data", _as_arrays(self.x_data, "x"))
        if self.y_data is not None:
            object.__setattr__(self, "y_data", _as_arrays(self.y_data, "y"))
        if self.sample_weight is not None:
            object.__setattr__(self, "sample_weight", _as_weights(self.sample_weight))
        self._check_lengths()
        for name, array in _named(self.x_data, "x"):
            _check_numbers(name, array)

    def __len__(self) -> int:
        """Number of samples."""
        return len(_named(self.x_data, "x")[0][1])

    @classmethod
    def from_object(cls, source: Any, *, max_samples: int | None = None) -> Self:
        """Read data from whatever holds it.

        Args:
            source: A `DataInput`; a tuple ``(x, y)`` or ``(x, y, sample_weight)``; an object with ``x_data`` and
                ``y_data``, or ``x_test`` and ``y_test``; a ``tf.data.Dataset``, a torch ``DataLoader``, a
                ``keras.utils.PyDataset``, a grain loader or a generator, each yielding batches of such tuples.
            max_samples: Where to stop reading a stream; needed for one without an end.

        Raises:
            DataError: If nothing can be read from it.
        """
        if isinstance(source, cls):
            return source
        if isinstance(source, tuple):
            return cls(*source[:3])
        for x_name, y_name in (("x_data", "y_data"), ("x_test", "y_test")):
            if hasattr(source, x_name):
                weight = getattr(source, "sample_weight", None)
                return cls(getattr(source, x_name), getattr(source, y_name, None), weight)
        if isinstance(source, Mapping) or hasattr(source, "__array__"):
            return cls(source)
        return cls(*read_stream(source, max_samples))

    def sample(self, n_samples: int | None, seed: int) -> Self:
        """Draw samples without replacement, stratified by class where the labels are classes.

        Args:
            n_samples: Most samples to draw; None keeps all.
            seed: Seed of the draw.

        Returns:
            The drawn samples in their original order, with their `indices`.
        """
        n = len(self)
        if n_samples is None or n_samples >= n:
            return replace(self, indices=np.arange(n))
        index = np.sort(_stratified(_strata(self.y_data), n, n_samples, np.random.default_rng(seed)))
        weight = None if self.sample_weight is None else self.sample_weight[index]
        x, y = _take(self.x_data, index), _take(self.y_data, index)
        return replace(self, x_data=x, y_data=y, sample_weight=weight, indices=index)

    def _check_lengths(self) -> None:
        named = [*_named(self.x_data, "x"), *(_named(self.y_data, "y") if self.y_data is not None else [])]
        if self.sample_weight is not None:
            named.append(("sample_weight", self.sample_weight))
        scalars = [name for name, array in named if array.ndim == 0]
        if not named or scalars:
            raise DataError(f"Expected arrays whose first axis is the sample; {scalars or 'x'} is not one.")
        lengths = {name: len(array) for name, array in named}
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{name}: {length}" for name, length in lengths.items())
            raise DataError(f"x and y must hold the same number of samples, got {shown}.")
        if lengths[named[0][0]] == 0:
            raise DataError("The data hold no sample: x is empty. Give at least one.")


def _as_arrays(value: Any, what: str) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _as_array(item, f"{what}_{key}") for key, item in value.items()}
    if what == "x" and isinstance(value, list) and value and all(hasattr(item, "shape") for item in value):
        return [_as_array(item, f"x[{i}]") for i, item in enumerate(value)]
    return _as_array(value, what)


def _as_array(value: Any, name: str) -> NDArray[Any]:
    if hasattr(value, "detach"):
        # A torch tensor may sit on a device or carry a gradient.
        value = value.detach().cpu()
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} cannot be read as an array: {error}. Give a NumPy array of one shape.") from error
    if array.dtype == object:
        raise DataError(f"{name} holds Python objects (rows of different lengths?). Give a numeric array of one shape.")
    return array


def _as_weights(value: Any) -> NDArray[np.float64]:
    array = _as_array(value, "sample_weight")
    if array.ndim != 1 or array.dtype.kind not in "iufb":
        raise DataError(
            f"sample_weight should hold one number per sample, shape (n,), got shape {array.shape} and dtype "
            f"{array.dtype}."
        )
    weights = array.astype(np.float64)
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise DataError("sample_weight contains negative, NaN or infinite values; weights must be at least 0.")
    if len(weights) and not weights.any():
        raise DataError("sample_weight is 0 for every sample: nothing is left to measure. Give some a positive weight.")
    return weights


def _named(value: Any, what: str) -> list[tuple[str, NDArray[Any]]]:
    if isinstance(value, Mapping):
        return [(f"{what}_{key}", array) for key, array in value.items()]
    if isinstance(value, list):
        return [(f"{what}[{i}]", array) for i, array in enumerate(value)]
    return [(what, value)]


def _check_numbers(name: str, array: NDArray[Any]) -> None:
    if array.dtype.kind != "f":
        return
    bad = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if bad.any():
        raise DataError(
            f"{name} contains NaN or infinite values in {int(bad.sum())} of {len(array)} samples (first: sample "
            f"{int(np.argmax(bad))}). Drop or impute them: every number computed from them would be NaN."
        )


def _take(value: Any, index: NDArray[np.int64]) -> Any:
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {key: array[index] for key, array in value.items()}
    return [array[index] for array in value] if isinstance(value, list) else value[index]


def _strata(y: Any) -> NDArray[np.int64] | None:
    """Class of each sample, where the labels are classes."""
    if y is None or isinstance(y, Mapping) or y.dtype.kind not in "iufb":
        return None
    if y.ndim == 2 and y.shape[1] > 1 and np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all():
        return np.asarray(y.argmax(axis=1), dtype=np.int64)
    flat = y.reshape(len(y), -1)
    if flat.shape[1] != 1 or not np.isfinite(flat).all() or not np.all(np.equal(np.mod(flat, 1), 0)):
        return None
    classes, inverse = np.unique(flat[:, 0], return_inverse=True)
    return np.asarray(inverse, dtype=np.int64) if len(classes) <= max(2, len(y) // 10) else None


def _stratified(
    strata: NDArray[np.int64] | None, n: int, n_samples: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Each class in proportion (largest remainders), its members by the order of one seeded permutation."""
    order = rng.permutation(n)
    if strata is None:
        return order[:n_samples]
    counts = np.bincount(strata)
    exact = counts * n_samples / n
    quota = np.floor(exact).astype(int)
    for stratum in np.argsort(quota - exact, kind="stable")[: n_samples - quota.sum()]:
        quota[stratum] += 1
    return np.concatenate([order[strata[order] == k][:size] for k, size in enumerate(quota)])
