"""What a layer knows about the target: closed-form ridge probes, scored on samples that they have not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.values import Estimate
from analyzer.measures.bootstrap import interval_estimate, multiplicities
from analyzer.measures.labelled_rows import labelled_rows, varying
from analyzer.measures.similarity import wilson

Floats = NDArray[np.float64]

PENALTIES = tuple(10.0**k for k in range(-4, 4))
"""Ridge penalties that are tried, as multiples of the mean squared singular value of the standardised units."""

FEWEST_ROWS = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Probe:
    """A linear read-out of the target from one layer.

    Attributes:
        score: Accuracy, or R² over all target columns, on held-out folds; chance is ``chance``.
        chance: Accuracy of always naming the most frequent class; 0 for R².
        penalty: The chosen member of `PENALTIES`.
        folds: Number of folds.
        n_classes: Classes that have two rows at least, others are left out; None for a regression.
    """

    score: Estimate
    chance: float
    penalty: float
    folds: int
    n_classes: int | None


def classification_probe(
    rows: NDArray[np.floating], labels: NDArray[np.integer], *, folds: int = 10, seed: int = 0, level: float = 0.95
) -> Probe | None:
    """Accuracy of a ridge classifier of the label on one layer (Alain & Bengio 2016, in closed form).

    Ridge regression onto ±1 targets per class, as scikit-learn's ``RidgeClassifier``, on standardised units with an
    intercept. Predictions for a fold come from the fit to all rows by (I − H_FF)⁻¹ of the hat matrix, exactly as if it
    had been left out. Folds are balanced over classes: leaving out single rows would make the own class the rarest, and
    accuracy without signal fall below chance.

    The penalty is the one with the least squared error on the same folds. That is one choice of eight by another
    criterion than accuracy; its optimism is far below the width of the interval (Wilson 1927).

    Args:
        rows: ``(n, ...)`` outputs of the layer; what follows the first axis is flattened.
        labels: ``(n,)`` classes; those of one row are left out.
        folds: Number of folds, at most n.
        seed: Deals rows to folds.
        level: Coverage of the interval.

    Returns:
        The probe; None for fewer than `FEWEST_ROWS` rows or two classes, or units that do not vary or are not finite.

    Raises:
        ValueError: If there is not one label per row.
    """
    data = labelled_rows(rows, labels)
    if data is None:
        return None
    fold = _balanced_folds(data.codes, folds, seed)
    targets = np.where(data.codes[:, None] == np.arange(len(data.classes))[None, :], 1.0, -1.0)
    fitted = _best_held_out(data.rows, targets, fold)
    if fitted is None:
        return None
    penalty, predictions = fitted
    hits = np.argmax(predictions, axis=1) == data.codes
    return Probe(
        score=wilson(int(hits.sum()), hits.size, level),
        chance=float(data.counts.max() / data.counts.sum()),
        penalty=penalty,
        folds=int(fold.max()) + 1,
        n_classes=len(data.classes),
    )


def regression_probe(
    rows: NDArray[np.floating],
    targets: NDArray[np.floating],
    *,
    folds: int = 10,
    seed: int = 0,
    n_bootstrap: int = 1000,
    level: float = 0.95,
) -> Probe | None:
    """R² of a ridge regression of the target on one layer, on held-out folds; see `classification_probe`.

    Target columns are standardised, so each counts alike. Without signal R² is slightly below 0, since the mean of the
    other folds is not quite that of the fold. The interval is the bias-corrected bootstrap over rows.

    Args:
        rows: ``(n, ...)`` outputs of the layer.
        targets: ``(n,)`` or ``(n, m)``; columns that do not vary are left out.
        folds: Number of folds, at most n.
        seed: Deals rows to folds and draws bootstrap samples.
        n_bootstrap: Bootstrap samples.
        level: Coverage of the interval.

    Returns:
        The probe; None for fewer than `FEWEST_ROWS` rows, units or targets that do not vary, or values that are not
        finite.

    Raises:
        ValueError: If the numbers of rows differ.
    """
    values = np.asarray(rows, dtype=np.float64).reshape(len(rows), -1)
    wanted = np.asarray(targets, dtype=np.float64).reshape(len(targets), -1)
    if len(values) != len(wanted):
        raise ValueError(f"{len(values)} rows and {len(wanted)} targets: one target per row is needed.")
    n = len(values)
    if n < FEWEST_ROWS or not np.isfinite(wanted).all() or not varying(wanted).any():
        return None
    wanted = wanted[:, varying(wanted)]
    wanted = (wanted - wanted.mean(axis=0)) / wanted.std(axis=0)
    fold = _balanced_folds(np.zeros(n, dtype=np.int64), folds, seed)
    fitted = _best_held_out(values, wanted, fold)
    if fitted is None:
        return None
    penalty, predictions = fitted
    sums = np.stack([np.sum((wanted - predictions) ** 2, axis=1), np.sum(wanted**2, axis=1)], axis=1)
    drawn = multiplicities(n, n_bootstrap, np.random.default_rng(seed)) @ sums
    score = interval_estimate(
        1.0 - float(sums[:, 0].sum() / sums[:, 1].sum()),
        1.0 - drawn[:, 0] / drawn[:, 1],
        n=n,
        bounds=(-np.inf, 1.0),
        level=level,
    )
    return Probe(score=score, chance=0.0, penalty=penalty, folds=int(fold.max()) + 1, n_classes=None)


def held_out_predictions(rows: Floats, targets: Floats, fold: NDArray[np.int64], penalty: float) -> Floats:
    """Ridge predictions for each fold from all others, with an intercept, in closed form.

    Args:
        rows: ``(n, d)``.
        targets: ``(n, m)``.
        fold: ``(n,)`` fold of each row.
        penalty: λ of ‖y − Xβ − b‖² + λ‖β‖².
    """
    return _held_out(_principal_axes(rows), targets, fold, penalty)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Axes:
    """Left singular vectors ``(n, r)`` of the centred rows, and the squared singular values ``(r,)``."""

    left: Floats
    squares: Floats


def _principal_axes(rows: Floats) -> _Axes:
    """From the smaller of the two Gram matrices."""
    centred = rows - rows.mean(axis=0)
    wide = centred.shape[0] < centred.shape[1]
    squares, vectors = np.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)
    real = squares > squares[-1] * max(rows.shape) * np.finfo(np.float64).eps
    squares, vectors = squares[real], vectors[:, real]
    left = vectors if wide else centred @ vectors / np.sqrt(squares)
    return _Axes(left=np.asarray(left), squares=np.asarray(squares))


def _held_out(axes: _Axes, targets: Floats, fold: NDArray[np.int64], penalty: float) -> Floats:
    n = len(targets)
    weighted = axes.left * (axes.squares / (axes.squares + penalty))
    mean = targets.mean(axis=0)
    fitted = mean + weighted @ (axes.left.T @ (targets - mean))
    predictions = np.empty_like(fitted)
    for k in range(int(fold.max()) + 1):
        rows = np.flatnonzero(fold == k)
        hat = weighted[rows] @ axes.left[rows].T + 1.0 / n
        residuals = np.linalg.solve(np.eye(rows.size) - hat, targets[rows] - fitted[rows])
        predictions[rows] = targets[rows] - residuals
    return np.asarray(predictions)


def _best_held_out(rows: Floats, targets: Floats, fold: NDArray[np.int64]) -> tuple[float, Floats] | None:
    """The penalty with the least squared error on held-out rows, and its predictions."""
    if len(rows) < FEWEST_ROWS or not np.isfinite(rows).all():
        return None
    units = varying(rows)
    if not units.any():
        return None
    standard = rows[:, units] / rows[:, units].std(axis=0)
    axes = _principal_axes(standard)
    typical = float(axes.squares.mean())
    tried = [(penalty, _held_out(axes, targets, fold, penalty * typical)) for penalty in PENALTIES]
    return min(tried, key=lambda pair: float(np.sum((targets - pair[1]) ** 2)))


def _balanced_folds(codes: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """Deal rows to folds, class after class, so that folds differ by one row per class and by one in all."""
    n = len(codes)
    shuffled = np.random.default_rng(seed).permutation(n)
    order = shuffled[np.argsort(codes[shuffled], kind="stable")]
    fold = np.empty(n, dtype=np.int64)
    fold[order] = np.arange(n) % min(folds, n)
    return fold
