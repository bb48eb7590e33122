"""Two samples to be compared: rows of reference data and rows of new data with the same features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import DataError

Floats = NDArray[np.float64]

FEWEST_ROWS = 10
"""Rows of each side: with fewer, no test of many features can alarm."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Rows of both sides.

    Attributes:
        reference: ``(n, d)`` finite.
        new: ``(m, d)`` finite.
    """

    reference: Floats
    new: Floats

    @property
    def standardised(self) -> Floats:
        """``(n + m, d)`` both sides, reference first, each feature with mean 0 and standard deviation 1 over both.

        Both sides are treated alike, so that rows stay exchangeable. Features that do not vary become 0.
        """
        pooled = np.concatenate([self.reference, self.new])
        # Scaled first: squares of very large or small values would leave the range of floats.
        largest = np.abs(pooled).max(axis=0)
        scaled = pooled / np.where(largest > 0, largest, 1.0)
        scaled -= scaled.mean(axis=0)
        spread = scaled.std(axis=0)
        return np.asarray(scaled / np.where(spread > 1e-13, spread, np.inf))


def samples(reference: NDArray[Any], new: NDArray[Any]) -> Samples:
    """Check two samples and flatten what follows their first axis.

    Args:
        reference: ``(n, ...)`` numbers.
        new: ``(m, ...)`` numbers with the same features.

    Raises:
        DataError: If features differ, rows are too few, or a value is not finite.
    """
    if np.shape(reference)[1:] != np.shape(new)[1:] or np.ndim(reference) < 1:
        raise DataError(
            f"Reference data of shape {np.shape(reference)} and new data of shape {np.shape(new)}: the shapes after the"
            " first axis must be equal, so that features can be compared."
        )
    return Samples(reference=_rows(reference, "reference"), new=_rows(new, "new"))


def drawn_at_most(two: Samples, max_rows: int, rng: np.random.Generator) -> Samples:
    """At most ``max_rows`` rows of each side, drawn at random without replacement.

    Args:
        two: The samples.
        max_rows: Most rows of each side.
        rng: Draws the rows.
    """
    return Samples(reference=_drawn(two.reference, max_rows, rng), new=_drawn(two.new, max_rows, rng))


def _rows(values: NDArray[Any], side: str) -> Floats:
    if len(values) < FEWEST_ROWS:
        raise DataError(f"{len(values)} rows of {side} data: shift tests need {FEWEST_ROWS} at least; give more rows.")
    rows = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    if rows.shape[1] == 0:
        raise DataError(f"The {side} data of shape {np.shape(values)} have no features to compare.")
    broken = int(np.count_nonzero(~np.isfinite(rows).all(axis=1)))
    if broken:
        raise DataError(
            f"{broken} of {len(rows)} rows of {side} data hold NaN or infinity: leave these rows out or fill them in."
        )
    return rows


def _drawn(rows: Floats, max_rows: int, rng: np.random.Generator) -> Floats:
    if len(rows) <= max_rows:
        return rows
    return rows[np.sort(rng.choice(len(rows), size=max_rows, replace=False))]
