"""Scores of single rows: how far out of distribution each one is. Higher always means further out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from analyzer.errors import ConfigError, DataError
from analyzer.measures.random_streams import stream
from analyzer.measures.shift.detection import Detection, detection

Floats = NDArray[np.float64]

SMALLEST_VARIANCE = 1e-6
"""Variance of a direction, relative to the largest, that Mahalanobis distances count with at least: a direction in
which the reference does not vary would otherwise turn rounding into distance."""

NEIGHBOURS = 10

_ROWS_AT_ONCE = 1024


def msp(logits: NDArray[Any]) -> Floats:
    """1 − the largest softmax probability (Hendrycks & Gimpel 2017), from 0 to 1 − 1/classes.

    Computed from what the other classes have, so that rows that are nearly sure keep their order.

    Args:
        logits: ``(n, classes)``; log probabilities give the same.

    Raises:
        DataError: If the shape is another, or a value is NaN or +∞.
    """
    z = np.sort(_matrix(logits, "logits"), axis=1)
    others = np.exp(z[:, :-1] - z[:, -1:]).sum(axis=1)
    return np.asarray(others / (1.0 + others))


def energy(logits: NDArray[Any], *, temperature: float = 1.0) -> Floats:
    """Free energy −T·logsumexp(z/T) (Liu et al. 2020), in units of logits.

    Args:
        logits: ``(n, classes)``, not log probabilities: their energy is 0.
        temperature: T, above 0.

    Raises:
        ConfigError: If the temperature is not above 0.
        DataError: If the shape is another, or a value is NaN or +∞.
    """
    if not temperature > 0:
        raise ConfigError(f"temperature={temperature}: expected a number above 0; 1 leaves logits as they are.")
    return np.asarray(-temperature * logsumexp(_matrix(logits, "logits") / temperature, axis=1))


@dataclass(frozen=True, kw_only=True, eq=False)
class TiedGaussians:
    """A Gaussian around each class, all with one covariance.

    Attributes:
        means: ``(classes, d)``.
        whitening: ``(d, d)`` W with W W' = Σ⁻¹.
    """

    means: Floats
    whitening: Floats


def tied_gaussians(features: NDArray[Any], labels: NDArray[Any]) -> TiedGaussians:
    """Fit the mean of each class and the covariance around them (Lee et al. 2018), divided by the number of rows.

    With fewer rows than features the covariance is mostly `SMALLEST_VARIANCE`, and only rows that were not fitted may
    be compared with each other.

    Args:
        features: ``(n, d)``, from one layer.
        labels: ``(n,)`` classes, true or predicted.

    Raises:
        DataError: If there is not one label per row, or a value is not finite.
    """
    rows = _matrix(features, "features")
    if np.shape(labels) != (len(rows),):
        raise DataError(f"{len(rows)} rows of features and labels of shape {np.shape(labels)}: one label per row.")
    classes, codes = np.unique(labels, return_inverse=True)
    means = np.stack([rows[codes == k].mean(axis=0) for k in range(len(classes))])
    residuals = rows - means[codes]
    variances, directions = np.linalg.eigh(residuals.T @ residuals / len(rows))
    floor = SMALLEST_VARIANCE * variances[-1] if variances[-1] > 0 else 1.0
    return TiedGaussians(means=means, whitening=directions / np.sqrt(np.maximum(variances, floor)))


def mahalanobis(gaussians: TiedGaussians, features: NDArray[Any]) -> Floats:
    """Squared Mahalanobis distance to the nearest class, min_c (h − μ_c)' Σ⁻¹ (h − μ_c).

    Args:
        gaussians: Fitted to reference rows.
        features: ``(m, d)``.

    Raises:
        DataError: If the features are others or a value is not finite.
    """
    rows = _matrix(features, "features", width=gaussians.means.shape[1])
    distances = [np.sum(((rows - mean) @ gaussians.whitening) ** 2, axis=1) for mean in gaussians.means]
    return np.asarray(np.min(distances, axis=0))


def nearest_neighbours(reference: NDArray[Any], features: NDArray[Any], *, k: int = NEIGHBOURS) -> Floats:
    """Distance to the k-th nearest reference row, all rows scaled to length 1 (Sun et al. 2022), from 0 to 2.

    Args:
        reference: ``(n, d)`` features of reference rows; none of them may be among ``features``.
        features: ``(m, d)``.
        k: Which neighbour.

    Raises:
        ConfigError: If there are not k reference rows.
        DataError: If the features are others or a value is not finite.
    """
    known = _unit(_matrix(reference, "features"))
    rows = _unit(_matrix(features, "features", width=known.shape[1]))
    if not 1 <= k <= len(known):
        raise ConfigError(f"k={k} with {len(known)} reference rows: expected a number from 1 to the number of rows.")
    squared_lengths = np.einsum("ij,ij->i", known, known)
    found = []
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = rows[start : start + _ROWS_AT_ONCE]
        squares = np.einsum("ij,ij->i", part, part)[:, None] + squared_lengths - 2.0 * part @ known.T
        found.append(np.sqrt(np.maximum(np.partition(squares, k - 1, axis=1)[:, k - 1], 0.0)))
    return np.concatenate(found)


@dataclass(frozen=True, kw_only=True, eq=False)
class Outputs:
    """What a model makes of some rows.

    Attributes:
        logits: ``(n, classes)``.
        features: ``(n, d)`` of the layer before, or any other.
    """

    logits: NDArray[Any]
    features: NDArray[Any]


def ood_detection(reference: Outputs, new: Outputs, *, seed: int = 0, level: float = 0.95) -> dict[str, Detection]:
    """How well each of the four scores tells new rows from reference rows.

    Distances are fitted to a random half of the reference, by predicted class, and judged on the other half: rows that
    a distance was fitted to are nearer than any others. All scores are judged on the same rows.

    Args:
        reference: Of reference rows, 20 at least.
        new: Of new rows.
        seed: Divides the reference.
        level: Coverage of the intervals.

    Returns:
        ``"MSP"``, ``"energy"``, ``"Mahalanobis"`` and ``"kNN"``.

    Raises:
        DataError: If shapes do not fit, a value is NaN, or the reference has fewer than 20 rows.
    """
    n = len(reference.logits)
    if n < 2 * NEIGHBOURS or len(reference.features) != n:
        raise DataError(
            f"{n} rows of logits and {len(reference.features)} of features: expected as many of both, and"
            f" {2 * NEIGHBOURS} at least."
        )
    order = stream(seed, 3).permutation(n)
    fitted, judged = order[: n // 2], order[n // 2 :]
    known, features = reference.features[fitted], reference.features[judged]
    gaussians = tied_gaussians(known, np.argmax(reference.logits[fitted], axis=1))
    scores = {
        "MSP": (msp(reference.logits[judged]), msp(new.logits)),
        "energy": (energy(reference.logits[judged]), energy(new.logits)),
        "Mahalanobis": (mahalanobis(gaussians, features), mahalanobis(gaussians, new.features)),
        "kNN": (nearest_neighbours(known, features), nearest_neighbours(known, new.features)),
    }
    return {name: detection(of_reference, of_new, level=level) for name, (of_reference, of_new) in scores.items()}


def _matrix(values: NDArray[Any], what: str, width: int | None = None) -> Floats:
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim != 2 or not len(rows) or (width is not None and rows.shape[1] != width):
        raise DataError(f"{what} of shape {rows.shape}: expected (rows, {width if width is not None else 'columns'}).")
    # A logit of −∞ is a class that is ruled out.
    if not np.isfinite(np.maximum(rows, -1e300) if what == "logits" else rows).all():
        raise DataError(f"{what} hold NaN or infinity: leave out the rows that the model fails on.")
    return rows


def _unit(rows: Floats) -> Floats:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1.0))
