"""What repeated timings say: the median, its interval, the quartiles."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from analyzer.data_types.values import Estimate


def median_estimate(values: ArrayLike, level: float = 0.95) -> Estimate:
    """The median with the interval between two order statistics, whatever the distribution (Conover 1999, 3.2).

    Args:
        values: ``(n,)`` repetitions.
        level: Least coverage of the interval; there is none where n is too small for it, which is below 6 for 0.95.

    Returns:
        The estimate, in the unit of the values; undefined without values.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    if n == 0:
        return Estimate(value=None, n=0, level=level)
    rank = int(stats.binom.ppf((1 - level) / 2, n, 0.5))
    low, high = (float(ordered[rank - 1]), float(ordered[n - rank])) if rank > 0 else (None, None)
    method = "order statistics" if rank > 0 else None
    return Estimate(value=float(np.median(ordered)), low=low, high=high, n=n, level=level, method=method)
