"""Which recalibration would help, and by how much on rows that it has not seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.calibration_parts import MapMethod, RecalibrationSuggestion
from analyzer.data_types.values import Estimate
from analyzer.measures.bootstrap import interval_estimate, multiplicities, resampling_units, unit_sums
from analyzer.measures.calibration.proper_scores import LOG_LOSS_CLIP
from analyzer.measures.calibration.tally import equal_width_edges
from analyzer.measures.recalibration import METHODS, Activation, cross_validated, fit_map, scores_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FOLDS = 5
MIN_UNITS = 50
"""Fewest independent rows from which a map is suggested: ten per fold."""
MAX_ROWS = 20_000
"""Most rows that maps are fitted on; beyond, on a random subset."""


def suggest_recalibration(
    probabilities: Floats,
    targets: Floats,
    *,
    activation: Activation,
    logits: Floats | None = None,
    groups: Ints | None = None,
    n_bins: int = 15,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> tuple[RecalibrationSuggestion, ...]:
    """Fit every map on all rows, and measure its gain by cross-validation.

    Args:
        probabilities: ``(m, K)`` what the model says.
        targets: ``(m, K)`` outcomes 0 or 1; rows sum to 1 under a softmax.
        activation: ``"softmax"`` over classes, or ``"sigmoid"`` for K independent labels (K = 1: binary).
        logits: ``(m, K)`` if that is what the model returns, else None.
        groups: ``(m,)`` sample of each row where rows are not independent; folds hold whole samples.
        n_bins: Number of bins of the ECE.
        n_bootstrap: Bootstrap samples behind the intervals of the gains (over rows; maps are not fitted again).
        seed: Seed of folds, subset and bootstrap.

    Returns:
        One suggestion per map, the greatest gain in log loss first; empty below `MIN_UNITS` independent rows and where
        all rows are of one class.
    """
    rng = np.random.default_rng([seed, 3])
    scores = scores_of(probabilities, activation) if logits is None else logits
    if len(targets) > MAX_ROWS:
        rows = np.sort(rng.choice(len(targets), MAX_ROWS, replace=False))
        probabilities, targets, scores = probabilities[rows], targets[rows], scores[rows]
        groups = None if groups is None else groups[rows]
    units = resampling_units(len(targets), groups, rng, max_units=len(targets))
    if units.count < MIN_UNITS or np.all(targets == targets[0]):
        return ()
    fold_of_row = rng.permutation(np.arange(units.count) % FOLDS)[units.of_row]
    gains = _Gains(probabilities, targets, activation, n_bins, groups, n_bootstrap, rng)
    suggestions = [_suggestion(method, scores, targets, activation, fold_of_row, gains) for method in METHODS]
    return tuple(sorted(suggestions, key=lambda s: -float(s.log_loss_gain)))


class _Gains:
    """Paired differences between the model's predictions and others, on one set of bootstrap samples."""

    def __init__(
        self,
        before: Floats,
        targets: Floats,
        activation: Activation,
        n_bins: int,
        groups: Ints | None,
        n_bootstrap: int,
        rng: np.random.Generator,
    ) -> None:
        self.before, self.targets, self.activation, self.n_bins = before, targets, activation, n_bins
        self.units = resampling_units(len(targets), groups, rng)
        self.weights = multiplicities(self.units.count, n_bootstrap, rng) if n_bootstrap else None
        self.ece_before = self._ece(before)

    def __call__(self, after: Floats) -> tuple[Estimate, Estimate, Estimate]:
        """Decrease of log loss, Brier score and ECE."""
        log = self._mean_gain(self._log(self.before) - self._log(after))
        brier = self._mean_gain(self._brier(self.before) - self._brier(after))
        (value, draws), (value_after, draws_after) = self.ece_before, self._ece(after)
        ece = interval_estimate(
            value - value_after,
            draws - draws_after,
            n=len(after),
            method="reverse percentile bootstrap",
            bounds=(-1.0, 1.0),
        )
        return log, brier, ece

    def _mean_gain(self, gain: Floats) -> Estimate:
        draws = np.empty(0)
        if self.weights is not None:
            sums = self.weights @ unit_sums(np.stack([gain, np.ones_like(gain)], axis=1), self.units)
            draws = sums[:, 0] / sums[:, 1]
        return interval_estimate(float(gain.mean()), draws, n=len(gain))

    def _log(self, p: Floats) -> Floats:
        said = self.targets * np.log(np.maximum(p, LOG_LOSS_CLIP))
        if self.activation == "softmax":
            return np.asarray(-said.sum(axis=1))
        return np.asarray(-(said + (1 - self.targets) * np.log(np.maximum(1 - p, LOG_LOSS_CLIP))).mean(axis=1))

    def _brier(self, p: Floats) -> Floats:
        squares = (p - self.targets) ** 2
        return np.asarray(squares.sum(axis=1) if self.activation == "softmax" else squares.mean(axis=1))

    def _ece(self, p: Floats) -> tuple[float, Floats]:
        """ECE of the top label, or mean ECE over labels, on the data and on the bootstrap samples."""
        if self.activation == "softmax":
            pairs = [(p.max(axis=1), p.argmax(axis=1) == self.targets.argmax(axis=1))]
        elif p.shape[1] == 1:
            pairs = [(np.maximum(p[:, 0], 1 - p[:, 0]), (p[:, 0] > 0.5) == self.targets[:, 0])]
        else:
            pairs = [(p[:, k], self.targets[:, k] == 1) for k in range(p.shape[1])]
        parts = [self._binned_ece(confidence, correct) for confidence, correct in pairs]
        return float(np.mean([value for value, _ in parts])), np.mean([draws for _, draws in parts], axis=0)

    def _binned_ece(self, confidence: Floats, correct: NDArray[np.bool_]) -> tuple[float, Floats]:
        bins = np.searchsorted(equal_width_edges(self.n_bins)[1:-1], confidence, side="left")
        cell = self.units.of_row * self.n_bins + bins
        gaps = np.bincount(cell, correct - confidence, minlength=self.units.count * self.n_bins)
        gaps = gaps.reshape(self.units.count, self.n_bins)
        value = float(np.abs(gaps.sum(axis=0)).sum() / len(bins))
        if self.weights is None:
            return value, np.empty(0)
        sizes = self.weights @ np.bincount(self.units.of_row, minlength=self.units.count)
        return value, np.abs(self.weights @ gaps).sum(axis=1) / sizes


def _suggestion(
    method: MapMethod, scores: Floats, targets: Floats, activation: Activation, fold_of_row: Ints, gains: _Gains
) -> RecalibrationSuggestion:
    log, brier, ece = gains(cross_validated(method, scores, targets, activation, fold_of_row))
    fitted = fit_map(method, scores, targets, activation)
    return RecalibrationSuggestion(map=fitted, log_loss_gain=log, brier_gain=brier, ece_gain=ece, folds=FOLDS)
