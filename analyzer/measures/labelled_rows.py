"""Rows with a class each: their means, their scatter, and the share of it that the classes explain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from analyzer.data_types.values import Estimate

Floats = NDArray[np.float64]

UNRESOLVED = 1e-7
"""A unit whose deviations stay below this fraction of its largest value is constant: float32 resolves no more."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledRows:
    """Rows of classes that have two rows at least.

    Attributes:
        rows: ``(n, d)``.
        kept: ``(m,)`` which of the rows that were given these are.
        classes: ``(K,)`` the labels, rising.
        codes: ``(n,)`` index of each row's label in ``classes``.
        counts: ``(K,)`` rows of each class.
        means: ``(K, d)``.
    """

    rows: Floats
    kept: NDArray[np.bool_]
    classes: NDArray[np.int64]
    codes: NDArray[np.int64]
    counts: NDArray[np.int64]
    means: Floats

    @property
    def residuals(self) -> Floats:
        """``(n, d)`` deviations of the rows from the mean of their class."""
        return np.asarray(self.rows - self.means[self.codes])


def labelled_rows(rows: NDArray[np.floating], labels: NDArray[np.integer]) -> LabelledRows | None:
    """Rows by class; a class of one row has no spread and is left out.

    Args:
        rows: ``(m, ...)``; what follows the first axis is flattened.
        labels: ``(m,)`` class of each row.

    Returns:
        The rows; None where fewer than two classes are left, or a value is not finite.

    Raises:
        ValueError: If there is not one label per row.
    """
    values = np.asarray(rows, dtype=np.float64).reshape(len(rows), -1)
    if np.shape(labels) != (len(values),):
        raise ValueError(f"{len(values)} rows and labels of shape {np.shape(labels)}: one class per row is needed.")
    _, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    kept = counts[index.reshape(-1)] >= 2
    if np.count_nonzero(counts >= 2) < 2 or not np.isfinite(values).all():
        return None
    classes, codes = np.unique(np.asarray(labels)[kept], return_inverse=True)
    values, codes = values[kept], codes.reshape(-1).astype(np.int64)
    order = np.argsort(codes, kind="stable")
    sizes = np.bincount(codes)
    means = np.add.reduceat(values[order], np.concatenate([[0], np.cumsum(sizes)[:-1]]), axis=0) / sizes[:, None]
    return LabelledRows(
        rows=values, kept=kept, classes=classes.astype(np.int64), codes=codes, counts=sizes, means=means
    )


def varying(rows: Floats) -> NDArray[np.bool_]:
    """Which units (columns) vary over the rows by more than rounding."""
    spread = np.abs(rows - rows.mean(axis=0)).max(axis=0, initial=0.0)
    return np.asarray(spread > UNRESOLVED * np.abs(rows).max(axis=0, initial=0.0))


@dataclass(frozen=True, kw_only=True, eq=False)
class Scatter:
    """Sums of squares over the rows, with all rows and without each in turn.

    Attributes:
        within: ``(p,)`` around the means of the classes.
        total: ``(p,)`` around the mean of all.
        within_left: ``(n, p)`` without one row.
        total_left: ``(n, p)`` without one row.
    """

    within: Floats
    total: Floats
    within_left: Floats
    total_left: Floats


def scatter(data: LabelledRows, *, pooled: bool) -> Scatter:
    """Scatter of every unit, or of all units together.

    Leaving out row i of a class of c rows takes c/(c − 1) times its squared deviation out of the sum.

    Args:
        data: The rows.
        pooled: Add up the units: p = 1, otherwise p = d.
    """
    within, total = data.residuals**2, (data.rows - data.rows.mean(axis=0)) ** 2
    if pooled:
        within, total = within.sum(axis=1, keepdims=True), total.sum(axis=1, keepdims=True)
    n, own = len(data.rows), data.counts[data.codes][:, None]
    return Scatter(
        within=within.sum(axis=0),
        total=total.sum(axis=0),
        within_left=np.clip(within.sum(axis=0) - own / (own - 1) * within, 0.0, None),
        total_left=np.clip(total.sum(axis=0) - n / (n - 1) * total, 0.0, None),
    )


def explained_share(within: Floats, total: Floats, n: int, classes: int) -> Floats:
    """Share of the variance that the class explains, ε² (Kelley 1935): η² less what chance alone explains.

    1 − (n − 1)/(n − K) · within/total; 0 on average where labels are random, whatever n, K and the distribution, and
    then negative as often as not; 1 where rows of a class are equal.
    """
    return np.asarray(1.0 - (n - 1) / (n - classes) * within / total)


def jackknife(value: float, left_out: Floats, *, bounds: tuple[float, float], level: float = 0.95) -> Estimate:
    """An estimate with the delete-one jackknife's interval with Student's t (Tukey 1958).

    Args:
        value: On all n rows.
        left_out: ``(n,)`` values without each row.
        bounds: Range of the measure.
        level: Coverage of the interval.
    """
    n = len(left_out)
    error = float(np.sqrt((n - 1) / n * np.sum((left_out - left_out.mean()) ** 2)))
    half = float(t.ppf((1 + level) / 2, n - 1)) * error
    low, high = max(value - half, bounds[0]), min(value + half, bounds[1])
    return Estimate(value=value, low=min(low, value), high=max(high, value), n=n, level=level, method="jackknife")
