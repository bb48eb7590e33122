"""Accuracy under corruptions: by cell of corruption and severity, over all cells, and against a baseline model.

Cells are not independent, for all of them hold the same samples: intervals resample the samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analyzer.data_types.values import Estimate
from analyzer.errors import DataError
from analyzer.measures.calibration.means import MeanBootstrap

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class CorruptionAccuracy:
    """How a classifier decides under corruptions.

    Attributes:
        corruptions: ``c`` names.
        accuracy: ``(c, severities)``.
        clean_accuracy: Accuracy on the data as they are.
        relative_drop: ``(c, severities)`` share of the clean accuracy that is lost; NaN where that is 0.
        mean_accuracy: Mean over all cells.
        mean_relative_drop: Mean over all cells.
        worst_cell: Corruption, severity (from 1) and accuracy of the cell of the lowest accuracy.
    """

    corruptions: tuple[str, ...]
    accuracy: Floats
    clean_accuracy: float
    relative_drop: Floats
    mean_accuracy: Estimate
    mean_relative_drop: Estimate
    worst_cell: tuple[str, int, float]


def corruption_accuracy(
    corruptions: Sequence[str],
    correct: NDArray[Any],
    clean_correct: NDArray[Any],
    *,
    groups: NDArray[np.int64] | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> CorruptionAccuracy:
    """Accuracy by cell, and over all cells with intervals.

    Args:
        corruptions: Their names, ``c``.
        correct: ``(c, severities, n)`` whether each sample is decided rightly, averaged over the seeds of a random
            corruption; for rows that are drawn again, the number of right decisions by sample.
        clean_correct: ``(n,)`` whether each is decided rightly as it is.
        groups: ``(n,)`` group of each sample where samples are not independent.
        n_bootstrap: Bootstrap samples behind the intervals; 0 computes none.
        seed: Seed of the bootstrap.

    Raises:
        DataError: If shapes do not fit, or numbers are missing.
    """
    correct, clean = np.asarray(correct, np.float64), np.asarray(clean_correct, np.float64)
    if correct.ndim != 3 or correct.shape[::2] != (len(corruptions), len(clean)) or correct.size == 0:
        raise DataError(
            f"correct of shape {correct.shape} came for {len(corruptions)} corruptions and {len(clean)} samples; "
            "expected (corruptions, severities, samples), none of them empty."
        )
    if not (np.isfinite(correct).all() and np.isfinite(clean).all()):
        raise DataError("Some decisions are NaN or infinite. Leave out corruptions that could not be run.")
    accuracy, clean_accuracy = correct.mean(axis=2), float(clean.mean())
    bootstrap = MeanBootstrap(len(clean), groups, n_bootstrap, seed)
    columns = np.column_stack([correct.mean(axis=(0, 1)), clean])
    corruption, severity = divmod(int(np.argmin(accuracy)), accuracy.shape[1])
    return CorruptionAccuracy(
        corruptions=tuple(corruptions),
        accuracy=accuracy,
        clean_accuracy=clean_accuracy,
        relative_drop=relative_drop(accuracy, clean_accuracy),
        mean_accuracy=bootstrap.mean(columns[:, 0], bounds=(0.0, 1.0)),
        mean_relative_drop=bootstrap.estimate(
            columns, lambda means: relative_drop(means[:, 0], means[:, 1]), bounds=(-np.inf, 1.0)
        ),
        worst_cell=(corruptions[corruption], severity + 1, float(accuracy[corruption, severity])),
    )


def relative_drop(accuracy: Floats, clean_accuracy: float | Floats) -> Floats:
    """Share of the clean accuracy that is lost; NaN where there is none to lose, below 0 where some is gained.

    Args:
        accuracy: Accuracies under corruptions.
        clean_accuracy: Accuracy without, of a shape that broadcasts.
    """
    clean = np.asarray(clean_accuracy, np.float64)
    return np.asarray(np.where(clean > 0, 1 - accuracy / np.where(clean > 0, clean, 1.0), np.nan))


def flip_rate(decisions: NDArray[Any], clean_decisions: NDArray[Any]) -> Floats:
    """Share of samples whose decision is another one than without the corruption; it needs no labels.

    Args:
        decisions: ``(..., n)`` classes, such as ``(corruptions, severities, n)``.
        clean_decisions: Classes of the same samples without corruption, of a shape that broadcasts to these.

    Returns:
        ``(...)``

    Raises:
        DataError: If the numbers of samples differ, or there are none.
    """
    if decisions.shape[-1] != clean_decisions.shape[-1] or decisions.shape[-1] == 0:
        raise DataError(
            f"{decisions.shape[-1]} decisions came for {clean_decisions.shape[-1]} clean ones; "
            "expected as many, and one at least."
        )
    return np.asarray((decisions != clean_decisions).mean(axis=-1), np.float64)


def corruption_errors(error: ArrayLike, baseline: ArrayLike) -> Floats:
    """Corruption errors CE (Hendrycks & Dietterich, 2019) in percent: 100 is as many errors as the baseline makes.

    Errors are summed over severities before they are divided; a mean of the ratios by severity is another number.

    Args:
        error: ``(corruptions, severities)`` shares of wrong decisions.
        baseline: The same of the baseline model on the same cells; AlexNet in the paper.

    Returns:
        ``(corruptions,)``; NaN where the baseline makes no errors.

    Raises:
        DataError: If shapes differ, or these are no shares.
    """
    ours, theirs = _error_tables(error, baseline)
    return _ratio(ours.sum(axis=1), theirs.sum(axis=1))


def relative_corruption_errors(
    error: ArrayLike, clean_error: float, baseline: ArrayLike, baseline_clean_error: float
) -> Floats:
    """Relative corruption errors (Hendrycks & Dietterich, 2019) in percent: the errors that corruptions add.

    Args:
        error: See `corruption_errors`, also for what is raised.
        clean_error: Share of wrong decisions without corruption.
        baseline: See `corruption_errors`.
        baseline_clean_error: The same of the baseline model.

    Returns:
        ``(corruptions,)``; NaN where corruption adds no errors to those of the baseline.
    """
    ours, theirs = _error_tables(error, baseline)
    _error_tables([[clean_error]], [[baseline_clean_error]])
    return _ratio((ours - clean_error).sum(axis=1), (theirs - baseline_clean_error).sum(axis=1))


def mean_corruption_error(error: ArrayLike, baseline: ArrayLike) -> float | None:
    """The mCE in percent: the mean of the corruption errors.

    Args:
        error: See `corruption_errors`, also for what is raised.
        baseline: See there.

    Returns:
        The mean; None where one of them is undefined, since a mean over the others is a mean over other corruptions.
    """
    return _mean(corruption_errors(error, baseline))


def relative_mean_corruption_error(
    error: ArrayLike, clean_error: float, baseline: ArrayLike, baseline_clean_error: float
) -> float | None:
    """The relative mCE in percent: the mean of the relative corruption errors.

    Args:
        error: See `relative_corruption_errors`, also for what is raised.
        clean_error: See there.
        baseline: See there.
        baseline_clean_error: See there.

    Returns:
        The mean; None where one of them is undefined.
    """
    return _mean(relative_corruption_errors(error, clean_error, baseline, baseline_clean_error))


def _mean(errors: Floats) -> float | None:
    return float(errors.mean()) if np.isfinite(errors).all() else None


def _ratio(ours: Floats, theirs: Floats) -> Floats:
    # Sums of differences that cancel leave a rest of about 1e-16, which is no error to compare with.
    known = theirs > 1e-12
    return np.asarray(np.where(known, 100 * ours / np.where(known, theirs, 1.0), np.nan))


def _error_tables(error: ArrayLike, baseline: ArrayLike) -> tuple[Floats, Floats]:
    ours, theirs = np.asarray(error, np.float64), np.asarray(baseline, np.float64)
    if ours.ndim != 2 or ours.size == 0 or ours.shape != theirs.shape:
        raise DataError(
            f"Errors of shape {ours.shape} came with a baseline of shape {theirs.shape}; "
            "expected the same (corruptions, severities) for both."
        )
    for table in (ours, theirs):
        if not ((table >= 0) & (table <= 1)).all():
            raise DataError("Errors are shares of wrong decisions from 0 to 1; divide percentages by 100.")
    return ours, theirs
