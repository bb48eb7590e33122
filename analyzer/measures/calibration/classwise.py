"""Every class against the rest, over all rows: counted once, evaluated for many bootstrap samples.

For each class k the rows are sorted by p_k, binned for the classwise ECE and the binned decomposition, and divided into
runs for the isotonic regression of the CORP decomposition.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from analyzer.measures.bootstrap import Units
from analyzer.measures.calibration.tally import equal_width_edges

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassTally:
    """Counts per class for B samples.

    Attributes:
        total: ``(B,)`` rows.
        positives: ``(B, K)`` rows of each class.
        bin_count: ``(B, K, bins)`` rows by bin of p_k.
        bin_positives: ``(B, K, bins)`` rows of class k by bin of p_k.
        bin_probability: ``(B, K, bins)`` summed p_k by bin.
        run_count: ``(B, R)`` rows by run, the runs of class 0 first.
        run_positives: ``(B, R)`` rows of the run's class by run.
        run_class: ``(R,)`` class of each run.
    """

    total: Floats
    positives: Floats
    bin_count: Floats
    bin_positives: Floats
    bin_probability: Floats
    run_count: Floats
    run_positives: Floats
    run_class: Ints


class ClassCounter:
    """Counts rows per class and bin, and per class and run, for any multiplicities of units.

    Args:
        probabilities: ``(m, K)``.
        labels: ``(m,)`` class indices.
        units: The unit of each row; None counts every row once.
        n_bins: Number of equal-width bins.
        max_cells: Distinct probabilities of one class above this number are merged into quantile cells; None keeps all.
    """

    def __init__(
        self,
        probabilities: Floats,
        labels: Ints,
        units: Units | None = None,
        *,
        n_bins: int = 15,
        max_cells: int | None = None,
    ) -> None:
        n_rows, self.n_classes = probabilities.shape
        self.n_bins = n_bins
        unit = np.zeros(n_rows, dtype=np.int64) if units is None else units.of_row
        self.n_units = 1 if units is None else units.count
        offsets = np.arange(self.n_classes)
        bins = np.searchsorted(equal_width_edges(n_bins)[1:-1], probabilities, side="left") + offsets * n_bins
        runs = np.empty(probabilities.shape, dtype=np.int64)
        starts = np.zeros(self.n_classes + 1, dtype=np.int64)
        for k in range(self.n_classes):
            of_row = isotonic_runs(probabilities[:, k], labels == k, max_cells)
            runs[:, k] = of_row + starts[k]
            starts[k + 1] = starts[k] + of_row.max() + 1
        self.run_class: Ints = np.repeat(offsets, np.diff(starts))
        rows = np.arange(n_rows)
        every = np.repeat(unit, self.n_classes)
        bin_width, run_width = self.n_classes * n_bins, int(starts[-1])
        ones = np.ones(n_rows)
        self._size = _matrix(unit, np.zeros_like(unit), ones, (self.n_units, 1))
        self._class = _matrix(unit, labels, ones, (self.n_units, self.n_classes))
        self._bin_count = _matrix(every, bins.ravel(), np.ones(bins.size), (self.n_units, bin_width))
        self._bin_probability = _matrix(every, bins.ravel(), probabilities.ravel(), (self.n_units, bin_width))
        self._bin_positives = _matrix(unit, bins[rows, labels], ones, (self.n_units, bin_width))
        self._run_count = _matrix(every, runs.ravel(), np.ones(runs.size), (self.n_units, run_width))
        self._run_positives = _matrix(unit, runs[rows, labels], ones, (self.n_units, run_width))

    @property
    def width(self) -> int:
        """Numbers held per sample, to choose how many samples to count at once."""
        return int(3 * self.n_classes * self.n_bins + 2 * len(self.run_class))

    def __call__(self, weights: Floats) -> ClassTally:
        """Tally of samples given as multiplicities of units, ``(B, units)``."""
        shape = (len(weights), self.n_classes, self.n_bins)
        return ClassTally(
            total=np.asarray(weights @ self._size)[:, 0],
            positives=np.asarray(weights @ self._class),
            bin_count=np.asarray(weights @ self._bin_count).reshape(shape),
            bin_positives=np.asarray(weights @ self._bin_positives).reshape(shape),
            bin_probability=np.asarray(weights @ self._bin_probability).reshape(shape),
            run_count=np.asarray(weights @ self._run_count),
            run_positives=np.asarray(weights @ self._run_positives),
            run_class=self.run_class,
        )

    def whole(self) -> ClassTally:
        """Tally of the data themselves."""
        return self(np.ones((1, self.n_units)))


def classwise_calibration_error(tally: ClassTally) -> Floats:
    """ECE of every class against the rest over all rows, ``(B, K)``; its mean over k is the classwise ECE.

    Kull et al. (2019), "Beyond temperature scaling": sum over bins of p_k of the absolute difference between how often
    class k was predicted and how often it came, divided by the number of rows.
    """
    gaps = np.abs(tally.bin_positives - tally.bin_probability).sum(axis=2)
    return np.asarray(gaps / tally.total[:, None])


def isotonic_runs(probability: Floats, positive: NDArray[np.bool_], max_cells: int | None = None) -> Ints:
    """Run of each row such that an isotonic fit is constant on every run, whatever the weights of the rows.

    The fit only rises from one value of the probability to the next if the mean outcome does so there; hence it
    cannot rise after a value where every row is positive, nor before one where none is.

    Args:
        probability: ``(m,)`` predicted probability.
        positive: ``(m,)`` outcome.
        max_cells: Distinct values above this number are first merged into quantile cells.

    Returns:
        ``(m,)`` run of each row, ascending in probability.
    """
    values, cell = np.unique(probability, return_inverse=True)
    cell = cell.reshape(-1)
    if max_cells is not None and values.size > max_cells:
        cuts = np.unique(np.quantile(probability, np.linspace(0, 1, max_cells + 1)[1:-1]))
        cell = np.unique(np.searchsorted(cuts, probability, side="left"), return_inverse=True)[1].reshape(-1)
    count, hits = np.bincount(cell), np.bincount(cell, positive)
    rises = np.ones(count.size, dtype=bool)
    rises[1:] = (hits[:-1] < count[:-1]) & (hits[1:] > 0)
    return np.asarray(np.cumsum(rises)[cell] - 1)


def _matrix(rows: Ints, columns: Ints, values: Floats, shape: tuple[int, int]) -> sparse.csr_array:
    return sparse.csr_array((values, (rows, columns)), shape=shape)
