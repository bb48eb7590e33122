"""Brier score, log loss and entropy, row by row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LOG_LOSS_CLIP = float(np.finfo(np.float64).eps)
"""Smallest probability that the log loss looks at (2.2e-16, that of scikit-learn for float64): 36.04 nats at most."""


def brier_score(probabilities: Floats, labels: Ints) -> Floats:
    """Brier score of each row: squared distance between the probabilities and the one-hot truth (Brier 1950).

    Args:
        probabilities: ``(m, K)`` for a score in [0, 2]; ``(m,)`` P(y=1) for the binary score (p - y)^2 in [0, 1].
        labels: ``(m,)`` class indices.
    """
    if probabilities.ndim == 1:
        return np.asarray((probabilities - labels) ** 2)
    of_label = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    return np.asarray((probabilities**2).sum(axis=1) - 2 * of_label + 1)


def log_loss(probabilities: Floats, labels: Ints, clip: float = LOG_LOSS_CLIP) -> Floats:
    """Log loss of each row in nats: -ln of the probability given to what happened (Good 1952).

    Args:
        probabilities: ``(m, K)``, or ``(m,)`` P(y=1).
        labels: ``(m,)`` class indices.
        clip: Probabilities below this count as this.
    """
    if probabilities.ndim == 1:
        of_label = np.where(labels == 1, probabilities, 1 - probabilities)
    else:
        of_label = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    return np.asarray(-np.log(np.maximum(of_label, clip)))


def entropy(probabilities: Floats) -> Floats:
    """Shannon entropy of each row in nats; ``(m, K)``, or ``(...)`` P(y=1) of binary predictions where 1-D."""
    if probabilities.ndim == 1:
        probabilities = np.stack([1 - probabilities, probabilities], axis=-1)
    terms = np.where(probabilities > 0, probabilities * np.log(np.where(probabilities > 0, probabilities, 1.0)), 0.0)
    return np.asarray(np.maximum(-terms.sum(axis=-1), 0.0))
