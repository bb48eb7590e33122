"""Bootstrap of functions of means: what regression measures and multi-label scores are made of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.values import Estimate
from analyzer.measures.bootstrap import (
    IntervalMethod,
    interval_estimate,
    multiplicities,
    resampling_units,
    unit_sums,
    wilson,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class MeanBootstrap:
    """One set of bootstrap samples, on which functions of means over rows are estimated.

    Args:
        n_rows: Number of rows m.
        groups: ``(m,)`` sample of each row where rows are not independent.
        n_bootstrap: Number of bootstrap samples; 0 computes no intervals.
        seed: Seed of the samples.
    """

    def __init__(self, n_rows: int, groups: Ints | None, n_bootstrap: int, seed: int) -> None:
        rng = np.random.default_rng([seed, 1])
        self.n_rows, self.independent = n_rows, groups is None
        self.units = resampling_units(n_rows, groups, rng)
        self._weights = multiplicities(self.units.count, n_bootstrap, rng) if n_bootstrap else None
        if self._weights is not None:
            sizes = np.bincount(self.units.of_row, minlength=self.units.count)
            self._totals = self._weights @ sizes

    def estimate(
        self,
        columns: Floats,
        function: Callable[[Floats], Floats],
        *,
        method: IntervalMethod = "BC bootstrap",
        bounds: tuple[float, float] = (-np.inf, np.inf),
    ) -> Estimate:
        """Estimate a function of the means of columns.

        Args:
            columns: ``(m, p)`` values per row.
            function: Maps means ``(B, p)`` to ``(B,)``.
            method: How the interval is made.
            bounds: Range of the measure.
        """
        value = float(function(columns.mean(axis=0, keepdims=True))[0])
        draws = np.empty(0)
        if self._weights is not None:
            draws = function((self._weights @ unit_sums(columns, self.units)) / self._totals[:, None])
        return interval_estimate(value, draws, n=self.n_rows, method=method, bounds=bounds)

    def mean(self, values: Floats | NDArray[np.bool_], bounds: tuple[float, float] = (-np.inf, np.inf)) -> Estimate:
        """Mean of ``(m,)``, or mean over columns of the means of ``(m, p)``."""
        columns = values.reshape(self.n_rows, -1).astype(np.float64)
        return self.estimate(columns, lambda means: means.mean(axis=1), bounds=bounds)

    def share(self, hits: NDArray[np.bool_]) -> Estimate:
        """Share of True; Wilson's interval where ``hits`` is one column of independent rows."""
        if hits.size == self.n_rows and self.independent and self._weights is not None:
            return wilson(int(hits.sum()), self.n_rows)
        return self.mean(hits, bounds=(0.0, 1.0))
