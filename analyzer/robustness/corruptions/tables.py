"""Corruptions of tables ``(rows, columns)``, which keep whole numbers and categories what they are.

Values come from the table itself or are means; nothing is added to a column. With one seed, what a severity changes
the next one changes too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import DataError
from analyzer.robustness.corruptions.reference import Reference, as_type, checked
from analyzer.robustness.corruptions.severities import Levels

Array = NDArray[Any]

MISSING_VALUES = Levels((0.05, 0.1, 0.2, 0.3, 0.5), "share of cells")
SWAP_NOISE = Levels((0.05, 0.1, 0.2, 0.3, 0.5), "share of cells")
PERMUTED_COLUMNS = Levels((0.1, 0.2, 0.3, 0.5, 1.0), "share of columns")
COVARIATE_SHIFT = Levels((0.2, 0.4, 0.6, 0.8, 1.0), "exponent of the first principal component")

LAYOUT = "a table of shape (rows, columns)"


def missing_values(x: Array, severity: int, rng: np.random.Generator, reference: Reference) -> Array:
    """Cells are missing completely at random, and the mean of their column is put in their place.

    Args:
        x: ``(n, p)``.
        severity: 1 to 5, see `MISSING_VALUES`.
        rng: Random numbers.
        reference: Mean of the columns; rounded where the table is of whole numbers.

    Returns:
        ``(n, p)`` in the type of the table.

    Raises:
        ConfigError: If there is no such severity.
        DataError: If this is no table of finite numbers.
    """
    share = MISSING_VALUES.at(severity)
    checked(x, rank=2, layout=LAYOUT)
    return as_type(np.where(rng.random(x.shape) < share, reference.mean, x), x.dtype)


def swap_noise(x: Array, severity: int, rng: np.random.Generator, reference: Reference) -> Array:
    """Cells take the value that another row has in the same column (Yoon et al., 2020).

    Args:
        x: See `missing_values`, also for what is returned and raised; at least two rows.
        severity: 1 to 5, see `SWAP_NOISE`.
        rng: Random numbers.
        reference: Not used.
    """
    del reference
    share = SWAP_NOISE.at(severity)
    _check_rows(x, "Swap noise takes values from other rows")
    hit = rng.random(x.shape) < share
    others = (np.arange(len(x))[:, None] + rng.integers(1, len(x), size=x.shape)) % len(x)
    return np.where(hit, np.take_along_axis(x, others, axis=0), x)


def permuted_columns(x: Array, severity: int, rng: np.random.Generator, reference: Reference) -> Array:
    """Some columns, one at least, are shuffled: each keeps its distribution, and loses what it has to do with the rest.

    Args:
        x: See `missing_values`, also for what is returned and raised; at least two rows.
        severity: 1 to 5, see `PERMUTED_COLUMNS`.
        rng: Random numbers.
        reference: Not used.
    """
    del reference
    share = PERMUTED_COLUMNS.at(severity)
    _check_rows(x, "Columns are permuted over rows")
    width = x.shape[1]
    chosen = rng.permutation(width)[: max(1, round(share * width))]
    order = np.argsort(rng.random(x.shape), axis=0)
    permuted = x.copy()
    permuted[:, chosen] = np.take_along_axis(x, order, axis=0)[:, chosen]
    return permuted


def covariate_shift(x: Array, severity: int, rng: np.random.Generator, reference: Reference) -> NDArray[np.int64]:
    """Rows are drawn again, those far along the first principal component more often.

    The weight of a row is ``exp(k z)``, where k is the setting and z its standardised component. A normal z has its
    mean moved by k standard deviations, and what a row means stays the same: the labels go with the rows.

    Args:
        x: See `missing_values`, also for what is raised; at least two rows.
        severity: 1 to 5, see `COVARIATE_SHIFT`.
        rng: Random numbers.
        reference: Mean and spread of the columns.

    Returns:
        ``(n,)`` numbers of the rows that are drawn, with replacement.
    """
    strength = COVARIATE_SHIFT.at(severity)
    _check_rows(x, "Rows are drawn again")
    component = principal_component(x, reference)
    spread = component.std()
    if spread == 0:
        raise DataError("All rows are the same: there is no component to shift them along.")
    z = (component - component.mean()) / spread
    cumulated = np.cumsum(np.exp(strength * (z - z.max())))
    return np.asarray(np.searchsorted(cumulated, rng.random(len(x)) * cumulated[-1], side="right"), np.int64)


def principal_component(x: Array, reference: Reference) -> NDArray[np.float64]:
    """First principal component of each row, of columns in units of their spread; its largest loading is positive.

    Args:
        x: ``(n, p)``.
        reference: Mean and spread of the columns.

    Returns:
        ``(n,)``
    """
    scaled = (x - reference.mean) / np.where(reference.std > 0, reference.std, np.inf)
    scaled -= scaled.mean(axis=0)
    loadings = np.linalg.eigh(scaled.T @ scaled)[1][:, -1]
    return np.asarray(scaled @ (loadings * np.sign(loadings[np.argmax(np.abs(loadings))])))


def _check_rows(x: Array, why: str) -> None:
    checked(x, rank=2, layout=LAYOUT)
    if len(x) < 2:
        raise DataError(f"{why}: that needs two rows at least, not {len(x)}.")
