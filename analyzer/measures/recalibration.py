"""Recalibration maps: temperature, vector scaling and isotonic regression, fitted, applied and cross-validated.

Scores are what a map scales: the logits a model returns, or else the logarithms of its probabilities (log-odds under a
sigmoid), which differ from its logits by a constant per row that a softmax does not see.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize
from scipy.special import expit, log_softmax, softmax
from sklearn.isotonic import IsotonicRegression

from analyzer.data_types.calibration_parts import CalibrationMap, MapMethod

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Activation = Literal["softmax", "sigmoid"]

METHODS: tuple[MapMethod, ...] = ("temperature", "vector", "isotonic")
PROBABILITY_FLOOR = 1e-7
"""Probabilities are kept this far from 0 and 1 before a logarithm: a float32 model cannot say more."""
TEMPERATURE_RANGE = (0.01, 100.0)
"""Range of the temperature; the best one lies at an end where, say, every prediction is right."""

_PRIOR = 1.0


def scores_of(probabilities: Floats, activation: Activation) -> Floats:
    """Scores of probabilities, same shape: log p for a softmax, log-odds for a sigmoid."""
    if activation == "softmax":
        return np.log(np.maximum(probabilities, PROBABILITY_FLOOR))
    p = np.clip(probabilities, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    return np.log(p) - np.log1p(-p)


def fit_map(method: MapMethod, scores: Floats, targets: Floats, activation: Activation) -> CalibrationMap:
    """Fit a recalibration map.

    - ``"temperature"``: one factor 1/T of all scores, by maximum likelihood (Guo et al. 2017); keeps the ranking.
    - ``"vector"``: a factor and an offset per class (Guo et al. 2017; Platt 1999 under a sigmoid), by maximum a
      posteriori: unit normal priors around factor 1 and offset 0, worth one row together, keep it finite where the
      classes are separable.
    - ``"isotonic"``: a monotone map per class, one against the rest (Zadrozny & Elkan 2002), then rows are normalised
      to sum to 1 (softmax). It is kept within [1/(m+2), (m+1)/(m+2)]: m rows cannot tell that a class never comes.

    Args:
        method: Which map.
        scores: ``(m, K)``.
        targets: ``(m, K)`` outcomes 0 or 1; rows sum to 1 under a softmax.
        activation: What turns scores into probabilities.
    """
    if method == "temperature":
        return CalibrationMap(
            method=method, activation=activation, temperature=_fit_temperature(scores, targets, activation)
        )
    if method == "vector":
        weights, biases = _fit_vector(scores, targets, activation)
        return CalibrationMap(
            method=method, activation=activation, weights=tuple(weights.tolist()), biases=tuple(biases.tolist())
        )
    probabilities = _spaced(_activate(scores, activation))
    least = 1 / (len(scores) + 2)
    fits = [
        IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip").fit(probabilities[:, k], targets[:, k])
        for k in range(scores.shape[1])
    ]
    return CalibrationMap(
        method=method,
        activation=activation,
        thresholds=tuple(tuple(fit.X_thresholds_.tolist()) for fit in fits),
        values=tuple(tuple(fit.y_thresholds_.tolist()) for fit in fits),
    )


def apply_map(fitted: CalibrationMap, scores: Floats) -> Floats:
    """Recalibrated probabilities ``(m, K)`` of scores ``(m, K)``."""
    if fitted.temperature is not None:
        return _activate(scores / fitted.temperature, fitted.activation)
    if fitted.weights:
        return _activate(scores * np.array(fitted.weights) + np.array(fitted.biases), fitted.activation)
    before = _activate(scores, fitted.activation)
    knots = zip(fitted.thresholds, fitted.values, strict=True)
    after = np.stack([np.interp(before[:, k], x, y) for k, (x, y) in enumerate(knots)], axis=1)
    return after if fitted.activation == "sigmoid" else after / after.sum(axis=1, keepdims=True)


def cross_validated(
    method: MapMethod, scores: Floats, targets: Floats, activation: Activation, fold_of_row: Ints
) -> Floats:
    """Probabilities of every row from a map fitted on the rows of all other folds, ``(m, K)``."""
    out = np.empty_like(scores)
    for fold in np.unique(fold_of_row):
        held_out = fold_of_row == fold
        fitted = fit_map(method, scores[~held_out], targets[~held_out], activation)
        out[held_out] = apply_map(fitted, scores[held_out])
    return out


def _activate(scores: Floats, activation: Activation) -> Floats:
    return np.asarray(softmax(scores, axis=1) if activation == "softmax" else expit(scores))


def _spaced(p: Floats) -> Floats:
    """Probabilities on a grid of steps of 0.001, or of 1 % where that is less.

    Between knots closer than that an isotonic map could rise so steeply that the rounding of a float32 model, which is
    1e-7, moved its values.
    """
    small = 0.1 * np.exp(np.rint(100 * np.log(np.maximum(p, PROBABILITY_FLOOR) / 0.1)) / 100)
    return np.where(p < 0.1, small, np.rint(p * 1000) / 1000)


def _fit_temperature(scores: Floats, targets: Floats, activation: Activation) -> float:
    if activation == "softmax":
        scores = scores - scores.max(axis=1, keepdims=True)

    def slope(log_inverse: float) -> float:
        """Derivative of the log loss in 1/T, which rises with 1/T since the loss is convex in it."""
        return float(((_activate(scores * np.exp(log_inverse), activation) - targets) * scores).sum())

    low, high = (float(-np.log(t)) for t in reversed(TEMPERATURE_RANGE))
    if slope(low) >= 0:
        return TEMPERATURE_RANGE[1]
    if slope(high) <= 0:
        return TEMPERATURE_RANGE[0]
    return float(np.exp(-brentq(slope, low, high, xtol=1e-10)))


def _fit_vector(scores: Floats, targets: Floats, activation: Activation) -> tuple[Floats, Floats]:
    n_rows, n_classes = scores.shape

    def objective(flat: Floats) -> tuple[float, Floats]:
        weights, biases = flat[:n_classes], flat[n_classes:]
        z = scores * weights + biases
        if activation == "softmax":
            loss = -(targets * log_softmax(z, axis=1)).sum()
        else:
            loss = (np.logaddexp(0.0, z) - targets * z).sum()
        away = flat - identity
        error = _activate(z, activation) - targets
        gradient = np.concatenate([(error * scores).sum(axis=0), error.sum(axis=0)]) + _PRIOR * away
        return float(loss + _PRIOR / 2 * away @ away) / n_rows, gradient / n_rows

    identity = np.concatenate([np.ones(n_classes), np.zeros(n_classes)])
    found = minimize(objective, identity, jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return found.x[:n_classes], found.x[n_classes:]
