"""Between which values data lie, and refusing what lies elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ConfigError, DataError

Array = NDArray[Any]


def check_finite(x: Array, doing: str) -> None:
    """Refuse data without numbers that can be compared.

    Args:
        x: Samples.
        doing: What is to be done with them, for the message: "corrupting".

    Raises:
        DataError: If there are none, or some are NaN or infinite.
    """
    if x.size == 0:
        raise DataError(f"The data are empty: their shape is {x.shape}.")
    if not np.isfinite(x).all():
        raise DataError(f"The data hold NaN or infinite values. Remove or replace them before {doing}.")


def check_bounds(x: Array, bounds: tuple[float, float]) -> None:
    """Refuse bounds that are none, and data outside of them.

    Args:
        x: Finite samples.
        bounds: Smallest and largest value.

    Raises:
        ConfigError: If the smallest is not below the largest, or one is not finite.
        DataError: If data are outside; it names the value that is furthest out.
    """
    low, high = bounds
    if not (low < high and np.isfinite([low, high]).all()):
        raise ConfigError(f"bounds={bounds}: expected a smallest and a larger largest value, both finite.")
    smallest, largest = float(x.min()), float(x.max())
    if smallest >= low and largest <= high:
        return
    worst = np.unravel_index(int(x.argmin() if low - smallest > largest - high else x.argmax()), x.shape)
    raise DataError(
        f"The data reach from {smallest:g} to {largest:g}, outside bounds=({low:g}, {high:g}); furthest out is "
        f"x[{', '.join(map(str, worst))}] = {float(x[worst]):g}. Give bounds=(low, high) that hold them, or scale the "
        "data as they were in training."
    )
