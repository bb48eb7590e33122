"""Accuracy on data without labels, estimated from confidence.

All of these trust that confidence falls where accuracy falls. Where a shift makes a model wrong and sure, they are too
high, and nothing in the data tells: each estimate comes with the error that it was measured to have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy
from scipy.stats import norm

from analyzer.data_types.values import Estimate
from analyzer.errors import DataError
from analyzer.measures.bootstrap import wilson
from analyzer.measures.shift.shares import with_threshold_error

Floats = NDArray[np.float64]
Method = Literal["AC", "DoC", "ATC max confidence", "ATC negative entropy"]

MEAN_ABSOLUTE_ERROR = 0.101
"""Of the worst of the four methods over ten shifts of handwritten digits (the best had 0.086)."""

WORST_OVERESTIMATE = 0.38
"""On the worst of these shifts, by one pixel; the other methods were too high by 0.35 at least."""


@dataclass(frozen=True, kw_only=True)
class AccuracyEstimate:
    """Accuracy that a model is estimated to have on data without labels.

    Attributes:
        method: How it was estimated.
        accuracy: The estimate. Its interval tells the error of sampling only.
        mean_absolute_error: Error that the method itself was measured to have; see `MEAN_ABSOLUTE_ERROR`.
        worst_overestimate: The most that it was too high by; see `WORST_OVERESTIMATE`.
    """

    method: Method
    accuracy: Estimate
    mean_absolute_error: float = MEAN_ABSOLUTE_ERROR
    worst_overestimate: float = WORST_OVERESTIMATE


def max_confidence(probabilities: Floats) -> Floats:
    """The largest probability of each row.

    Args:
        probabilities: ``(n, classes)``.
    """
    return np.asarray(probabilities.max(axis=1))


def negative_entropy(probabilities: Floats) -> Floats:
    """Σ p log p of each row, in nats; 0 for a row that is sure.

    Args:
        probabilities: ``(n, classes)``.
    """
    return np.asarray(xlogy(probabilities, probabilities).sum(axis=1))


def accuracy_estimates(
    reference: NDArray[Any], reference_labels: NDArray[Any], new: NDArray[Any], *, level: float = 0.95
) -> tuple[AccuracyEstimate, ...]:
    """All four estimates.

    Args:
        reference: ``(n, classes)`` probabilities on data that the model was not trained on; ``(n,)`` or ``(n, 1)``
            is that of the second of two classes.
        reference_labels: ``(n,)`` classes.
        new: Probabilities on the new data, of the same kind.
        level: Coverage of the intervals, over samples.

    Raises:
        DataError: If rows are no probabilities, or shapes do not fit.
    """
    known, unknown = _probabilities(reference, "reference"), _probabilities(new, "new")
    if known.shape[1] != unknown.shape[1] or np.shape(reference_labels) != (len(known),):
        raise DataError(
            f"Probabilities of shapes {known.shape} and {unknown.shape} with labels of shape"
            f" {np.shape(reference_labels)}: expected as many classes on both sides and one label per reference row."
        )
    correct = known.argmax(axis=1) == np.asarray(reference_labels)
    return (
        AccuracyEstimate(method="AC", accuracy=average_confidence(unknown, level=level)),
        AccuracyEstimate(method="DoC", accuracy=difference_of_confidences(known, correct, unknown, level=level)),
        AccuracyEstimate(
            method="ATC max confidence",
            accuracy=average_thresholded_confidence(known, correct, unknown, max_confidence, level=level),
        ),
        AccuracyEstimate(
            method="ATC negative entropy",
            accuracy=average_thresholded_confidence(known, correct, unknown, negative_entropy, level=level),
        ),
    )


def average_confidence(new: Floats, *, level: float = 0.95) -> Estimate:
    """Mean largest probability (Hendrycks & Gimpel 2017): the accuracy of a calibrated model.

    Args:
        new: ``(m, classes)`` probabilities.
        level: Coverage of the interval.
    """
    confidence = max_confidence(new)
    return _normal_interval(float(confidence.mean()), _squared_error(confidence), len(new), level)


def difference_of_confidences(
    reference: Floats, correct: NDArray[np.bool_], new: Floats, *, level: float = 0.95
) -> Estimate:
    """Accuracy on the reference minus the loss of mean confidence (Guillory et al. 2021).

    Args:
        reference: ``(n, classes)`` probabilities.
        correct: ``(n,)`` which of the reference rows are classified correctly.
        new: ``(m, classes)`` probabilities.
        level: Coverage of the interval.
    """
    excess, confidence = correct - max_confidence(reference), max_confidence(new)
    variance = _squared_error(excess) + _squared_error(confidence)
    value = float(np.clip(excess.mean() + confidence.mean(), 0.0, 1.0))
    return _normal_interval(value, variance, len(new), level)


def average_thresholded_confidence(
    reference: Floats,
    correct: NDArray[np.bool_],
    new: Floats,
    score: Callable[[Floats], Floats],
    *,
    level: float = 0.95,
) -> Estimate:
    """Share of new rows above the score that as many reference rows exceed as are correct (Garg et al. 2022).

    The interval joins two errors in squares: Wilson's of the share, and that of the threshold, which wanders by as many
    reference rows as are correct below it or wrong above it.

    Args:
        reference: ``(n, classes)`` probabilities.
        correct: ``(n,)`` which of the reference rows are classified correctly.
        new: ``(m, classes)`` probabilities.
        score: `max_confidence` or `negative_entropy`.
        level: Coverage of the interval.
    """
    known, unknown = score(reference), score(new)
    accuracy = float(correct.mean())
    t = threshold(known, accuracy)
    share = wilson(int(np.count_nonzero(unknown >= t)), len(unknown), level)
    wander = norm.ppf((1 + level) / 2) * np.sqrt(np.mean((known >= t) != correct) / len(known))
    fewer, more = (float(np.mean(unknown >= threshold(known, accuracy + step))) for step in (-wander, wander))
    return with_threshold_error(share, fewer, more)


def threshold(scores: Floats, share: float) -> float:
    """The score that, as nearly as ties allow, a share of rows reaches; infinity where none is nearer.

    Args:
        scores: ``(n,)``.
        share: Wanted share, 0 to 1.
    """
    values, counts = np.unique(scores, return_counts=True)
    candidates = np.append(values, np.inf)
    reached = np.append(np.cumsum(counts[::-1])[::-1], 0) / len(scores)
    return float(candidates[np.argmin(np.abs(reached - share))])


def _probabilities(values: NDArray[Any], side: str) -> Floats:
    p = np.asarray(values, dtype=np.float64)
    if p.shape[1:] in ((), (1,)):
        p = np.stack([1.0 - p.reshape(-1), p.reshape(-1)], axis=1)
    if p.ndim != 2 or len(p) < 2 or p.shape[1] < 2:
        raise DataError(f"Probabilities of shape {np.shape(values)} for {side} data: expected (rows, classes).")
    # Float16 probabilities of a thousand classes add up to 1 to about one percent.
    if not (np.isfinite(p).all() and (p >= 0).all() and np.allclose(p.sum(axis=1), 1.0, atol=1e-2)):
        raise DataError(f"Rows of {side} data are no probabilities, above 0 and with sum 1: apply the softmax first.")
    return p


def _squared_error(values: Floats) -> float:
    return float(values.var(ddof=1)) / len(values)


def _normal_interval(value: float, variance: float, n: int, level: float) -> Estimate:
    half = float(norm.ppf((1 + level) / 2)) * float(np.sqrt(variance))
    low, high = max(value - half, 0.0), min(value + half, 1.0)
    return Estimate(value=value, low=low, high=high, n=n, level=level, method="normal")
