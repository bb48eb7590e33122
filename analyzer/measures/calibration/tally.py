"""Rows sorted by confidence and counted: what every confidence measure is a function of.

Rows of equal confidence form one cell, so ties cannot depend on the order of the data. A `Tally` holds, for one or
many (bootstrap) samples at once, how many rows each cell has, how many of them are correct, and their summed
confidence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from analyzer.measures.bootstrap import Units

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Tally:
    """Counts per cell; cells ascend in confidence.

    Attributes:
        value: ``(C,)`` mean confidence of each cell.
        bins: Per binning (by name), the first cell of each non-empty bin.
        count: ``(B, C)`` number of rows.
        correct: ``(B, C)`` number of correct rows.
        confidence: ``(B, C)`` summed confidence.
    """

    value: Floats
    bins: dict[str, Ints]
    count: Floats
    correct: Floats
    confidence: Floats

    @property
    def total(self) -> Floats:
        """Number of rows of each sample, ``(B,)``."""
        return np.asarray(self.count.sum(axis=1))


class CellCounter:
    """Counts rows per confidence cell for any multiplicities of units.

    Args:
        confidence: ``(m,)`` confidence of each row, in [0, 1].
        correct: ``(m,)`` whether each row is right.
        units: The unit of each row; None counts every row once (`whole`).
        n_bins: Number of bins of the binnings ``"equal width"`` and ``"equal mass"``.
        max_cells: Distinct confidences above this number are merged into about that many quantile cells, which do not
            cross an edge of a bin; None keeps all.
    """

    def __init__(
        self,
        confidence: Floats,
        correct: NDArray[np.bool_],
        units: Units | None = None,
        *,
        n_bins: int = 15,
        max_cells: int | None = None,
    ) -> None:
        edges = {"equal width": equal_width_edges(n_bins), "equal mass": equal_mass_edges(confidence, n_bins)}
        distinct, cell = np.unique(confidence, return_inverse=True)
        cell = cell.reshape(-1)
        merge = max_cells is not None and distinct.size > max_cells
        if max_cells is not None and merge:
            quantiles = np.quantile(confidence, np.linspace(0, 1, max_cells + 1)[1:-1])
            cuts = np.unique(np.concatenate([quantiles, *(e[1:-1] for e in edges.values())]))
            cell = np.unique(np.searchsorted(cuts, confidence, side="left"), return_inverse=True)[1].reshape(-1)
        size = np.bincount(cell)
        self.value: Floats = np.bincount(cell, confidence) / size
        self.bins = {}
        upper = np.zeros(size.size)
        np.maximum.at(upper, cell, confidence)
        for name, cuts in edges.items():
            bin_of_cell = np.searchsorted(cuts[1:-1], upper, side="left")
            self.bins[name] = np.flatnonzero(np.diff(bin_of_cell, prepend=-1))
        unit = np.zeros(confidence.size, dtype=np.int64) if units is None else units.of_row
        shape = (1 if units is None else units.count, size.size)
        self._count = _sums(unit, cell, np.ones_like(confidence), shape)
        self._correct = _sums(unit, cell, correct.astype(np.float64), shape)
        self._confidence = _sums(unit, cell, confidence, shape) if merge else None

    def __call__(self, weights: Floats) -> Tally:
        """Tally of samples given as multiplicities of units, ``(B, units)``."""
        # Products with a sparse matrix come back column-major, which makes every later sum along a row slow.
        count = np.ascontiguousarray(weights @ self._count)
        correct = np.ascontiguousarray(weights @ self._correct)
        confidence = (
            count * self.value if self._confidence is None else np.ascontiguousarray(weights @ self._confidence)
        )
        return Tally(value=self.value, bins=self.bins, count=count, correct=correct, confidence=confidence)

    def whole(self) -> Tally:
        """Tally of the data themselves."""
        return self(np.ones((1, self._count.shape[0])))


def tally(confidence: Floats, correct: NDArray[np.bool_], *, n_bins: int = 15) -> Tally:
    """Tally of one sample in which every row counts once.

    Args:
        confidence: ``(m,)`` in [0, 1].
        correct: ``(m,)`` bool or 0/1.
        n_bins: Number of bins.
    """
    confidence = np.asarray(confidence, dtype=np.float64)
    return CellCounter(confidence, np.asarray(correct), n_bins=n_bins).whole()


def equal_width_edges(n_bins: int) -> Floats:
    """Edges of equally wide bins on [0, 1]; a bin holds its right edge, the first one also its left."""
    return np.linspace(0.0, 1.0, n_bins + 1)


def equal_mass_edges(confidence: Floats, n_bins: int) -> Floats:
    """Edges at quantiles of the confidence; ties stay together, so fewer bins may come out."""
    inner = np.unique(np.quantile(confidence, np.linspace(0, 1, n_bins + 1)[1:-1]))
    return np.concatenate([[0.0], inner, [1.0]])


def _sums(unit: Ints, cell: Ints, values: Floats, shape: tuple[int, int]) -> sparse.csr_array:
    nonzero = values != 0
    return sparse.csr_array((values[nonzero], (unit[nonzero], cell[nonzero])), shape=shape)
