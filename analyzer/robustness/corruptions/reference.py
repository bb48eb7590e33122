"""What corruptions measure their strength by: mean, spread and range of each feature in reference data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import DataError
from analyzer.robustness.bounds import check_bounds, check_finite

Array = NDArray[Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """Mean, standard deviation and range of features; each broadcasts to the samples.

    Attributes:
        mean: Mean of each feature.
        std: Standard deviation of each feature; 0 for one that is constant, which noise then leaves alone.
        low: The smallest value.
        high: The largest value.
    """

    mean: Floats
    std: Floats
    low: Floats
    high: Floats

    def within(self, changed: Array, x: Array) -> Array:
        """Changed samples in the range of the reference data, in the type of the samples.

        A sample that is outside the range as it is goes no further, and is not pulled back either: that would be a
        change that the severity does not say.

        Args:
            changed: ``(n, ...)``.
            x: The samples they were made of.
        """
        return as_type(np.clip(changed, np.minimum(self.low, x), np.maximum(self.high, x)), x.dtype)


def reference_of(x: Array, *, axes: tuple[int, ...] = (0,), bounds: tuple[float, float] | None = None) -> Reference:
    """Mean, spread and range of the features of reference data.

    Args:
        x: ``(n, ...)`` samples, such as those the model was trained with.
        axes: What is averaged over: ``(0,)`` makes every position a feature, ``(0, 1)`` every channel of a series.
        bounds: Smallest and largest value of all features; None for what each feature reaches in the data.

    Raises:
        ConfigError: If the bounds are none.
        DataError: If the data are empty, not finite, no numbers, or outside the bounds.
    """
    checked(x)
    low, high = x.min(axis=axes, keepdims=True), x.max(axis=axes, keepdims=True)
    if bounds is not None:
        check_bounds(x, bounds)
        low, high = np.full_like(low, bounds[0], np.float64), np.full_like(high, bounds[1], np.float64)
    mean, std = x.mean(axis=axes, keepdims=True, dtype=np.float64), x.std(axis=axes, keepdims=True, dtype=np.float64)
    # The mean of equal numbers rounds, which would leave them a spread of about 1e-16 of their size.
    std = np.where(x.max(axis=axes, keepdims=True) == x.min(axis=axes, keepdims=True), 0.0, std)
    return Reference(mean=mean, std=std, low=low.astype(np.float64), high=high.astype(np.float64))


def checked(x: Array, *, rank: int | None = None, layout: str = "samples") -> None:
    """Refuse what cannot be corrupted.

    Args:
        x: Samples.
        rank: How many axes they need to have; None for any.
        layout: What the axes are, for the message.

    Raises:
        DataError: If they are empty, not finite, no numbers, or have another number of axes.
    """
    if not (np.issubdtype(x.dtype, np.floating) or np.issubdtype(x.dtype, np.integer)):
        raise DataError(f"Corruptions change numbers; the data are of {x.dtype}. Encode them first.")
    if x.ndim == 0 or (rank is not None and x.ndim != rank):
        raise DataError(f"Data of shape {x.shape} came; expected {layout}.")
    check_finite(x, "corrupting")


def as_type(x: Array, dtype: np.dtype[Any]) -> Array:
    """Numbers in another type; rounded, not cut, where that is one of whole numbers."""
    return np.asarray((np.rint(x) if np.issubdtype(dtype, np.integer) else x).astype(dtype))
