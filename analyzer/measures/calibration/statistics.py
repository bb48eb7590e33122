"""All measures of exclusive-class predictions at once, on the data and on bootstrap samples of them."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.calibration_parts import CorpScore
from analyzer.data_types.values import Estimate
from analyzer.measures.bootstrap import IntervalMethod, Units, interval_estimate, multiplicities, unit_sums
from analyzer.measures.calibration import binned, cumulative, selective, smooth
from analyzer.measures.calibration.classwise import ClassCounter, classwise_calibration_error
from analyzer.measures.calibration.decompositions import binned_terms, corp_references
from analyzer.measures.calibration.proper_scores import brier_score, entropy, log_loss
from analyzer.measures.calibration.tally import CellCounter

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_CELLS = 1024
"""Cells of confidence in bootstrap samples where the data hold more distinct values than four times this."""

_NUMBERS_AT_ONCE = 4_000_000
_DISTANCES = {"ece", "ece_equal_mass", "mce", "rmsce", "smece", "ks", "classwise_ece", "class_ece"}
_NOISE_INFLATED = {
    "debiased_l2_squared", "brier_mcb", "brier_dsc", "log_loss_mcb", "log_loss_dsc", "reliability", "resolution",
    "within_bin_variance", "within_bin_covariance",
}  # fmt: skip
_BOUNDS = {
    "debiased_l2_squared": (-1.0, 1.0),
    "within_bin_covariance": (-np.inf, np.inf),
    "confidence_gap": (-1.0, 1.0),
}
_UNBOUNDED = {"brier", "log_loss", "mean_entropy", "brier_unc", "log_loss_unc", "uncertainty"} | _NOISE_INFLATED


class Statistics(Protocol):
    """Measures as functions of how often each unit was drawn."""

    width: int

    def __call__(self, weights: Floats) -> dict[str, Floats]:
        """Measures of B samples given as ``(B, units)`` multiplicities; values are ``(B,)`` or ``(B, K)``."""


class LookUp(Protocol):
    """Finds a measure as an estimate."""

    def __call__(self, name: str, column: int | None = None) -> Estimate:
        """The measure of this name, or its value for one class."""


class ClassificationStatistics:
    """Every calibration measure of predictions over exclusive classes.

    Args:
        probabilities: ``(m, K)`` rows summing to 1.
        labels: ``(m,)`` class indices.
        units: What a bootstrap resamples; None evaluates the data themselves, exactly.
        n_bins: Number of bins.
        binary: Whether the Brier score is that of P(y=1) alone: half the sum over both classes.
    """

    def __init__(
        self, probabilities: Floats, labels: Ints, units: Units | None, *, n_bins: int, binary: bool = False
    ) -> None:
        confidence = probabilities.max(axis=1)
        correct = probabilities.argmax(axis=1) == labels
        limit = None if units is None or len(labels) <= 4 * MAX_CELLS else MAX_CELLS
        class_limit = None if limit is None else MAX_CELLS // 4
        self._brier_scale = 0.5 if binary else 1.0
        self._log_classes = np.log(probabilities.shape[1])
        self._cells = CellCounter(confidence, correct, units, n_bins=n_bins, max_cells=limit)
        self._classes = ClassCounter(probabilities, labels, units, n_bins=n_bins, max_cells=class_limit)
        rows = np.stack(
            [
                np.ones(len(labels)),
                correct.astype(np.float64),
                confidence,
                entropy(probabilities),
                brier_score(probabilities, labels),
                log_loss(probabilities, labels),
                (probabilities**2).sum(axis=1),
                np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0],
            ],
            axis=1,
        )
        self._sums = rows.sum(axis=0, keepdims=True) if units is None else unit_sums(rows, units)
        self.width = max(self._classes.width, 3 * self._cells.value.size)

    def __call__(self, weights: Floats) -> dict[str, Floats]:
        """Measures of B samples given as ``(B, units)`` multiplicities; see `Statistics`."""
        sums = weights @ self._sums
        accuracy, confidence, mean_entropy, brier, log, square, of_label = (sums[:, 1:] / sums[:, :1]).T
        measures = self._top_label(weights)
        measures |= {
            "accuracy": accuracy,
            "mean_confidence": confidence,
            "confidence_gap": confidence - accuracy,
            "mean_entropy": mean_entropy,
            "mean_entropy_normalized": mean_entropy / self._log_classes,
            "brier": brier * self._brier_scale,
            "log_loss": log,
        }
        return measures | self._one_against_rest(weights, brier, log, square, of_label)

    def _top_label(self, weights: Floats) -> dict[str, Floats]:
        tally = self._cells(weights)
        return {
            "ece": binned.expected_calibration_error(tally),
            "ece_equal_mass": binned.expected_calibration_error(tally, "equal mass"),
            "mce": binned.maximum_calibration_error(tally),
            "rmsce": binned.root_mean_square_calibration_error(tally),
            "l2_squared": binned.squared_calibration_error(tally),
            "debiased_l2_squared": binned.debiased_squared_calibration_error(tally),
            "smece": smooth.smooth_calibration_error(tally),
            "ks": cumulative.ks_calibration_error(tally),
            "auroc_errors": selective.auroc_of_errors(tally),
            "aurc": selective.area_under_risk_coverage(tally),
            "augrc": selective.area_under_generalized_risk_coverage(tally),
        }

    def _one_against_rest(
        self, weights: Floats, brier: Floats, log: Floats, square: Floats, of_label: Floats
    ) -> dict[str, Floats]:
        tally = self._classes(weights)
        class_ece = classwise_calibration_error(tally)
        measures = {"class_ece": class_ece, "classwise_ece": class_ece.mean(axis=1)}
        references = corp_references(tally)
        scales = (self._brier_scale, 1.0)
        for name, score, reference, scale in zip(("brier", "log_loss"), (brier, log), references, scales, strict=True):
            measures[f"{name}_mcb"] = (score - reference.recalibrated) * scale
            measures[f"{name}_dsc"] = (reference.base_rates - reference.recalibrated) * scale
            measures[f"{name}_unc"] = reference.base_rates * scale
        terms = binned_terms(tally, square, of_label)
        return measures | {name: value * self._brier_scale for name, value in terms.items()}


def bootstrap_draws(statistics: Statistics, n_units: int, n_draws: int, rng: np.random.Generator) -> dict[str, Floats]:
    """Measures on bootstrap samples.

    Args:
        statistics: What to evaluate.
        n_units: Number of units to draw from.
        n_draws: Number of bootstrap samples B; 0 gives no draws.
        rng: Source of the samples.

    Returns:
        ``(B,)`` or ``(B, K)`` draws by name of the measure; empty where ``n_draws`` is 0.
    """
    if n_draws == 0:
        return {}
    weights = multiplicities(n_units, n_draws, rng)
    at_once = max(1, _NUMBERS_AT_ONCE // max(statistics.width, n_units))
    parts = [statistics(weights[start : start + at_once]) for start in range(0, n_draws, at_once)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def estimates(
    exact: dict[str, Floats],
    plug_in: dict[str, Floats],
    draws: dict[str, Floats],
    n: int,
    noise: dict[str, float] | None = None,
) -> LookUp:
    """A function that looks up a measure as an `Estimate` with the interval that suits its kind.

    Args:
        exact: Measures of the data, every row by itself.
        plug_in: Measures of the data as the bootstrap sees them, which its draws scatter around.
        draws: Measures of the bootstrap samples; empty computes no intervals.
        n: Number of rows.
        noise: What noise alone adds to a measure, by name, where it is known; see `interval_estimate`.
    """
    known = noise or {}

    def look_up(name: str, column: int | None = None) -> Estimate:
        pick = (slice(None),) if column is None else (slice(None), column)
        # A debiased measure of a bootstrap sample estimates the plug-in value of the data, not the debiased one.
        center = plug_in["l2_squared" if name == "debiased_l2_squared" else name][pick][0]
        return interval_estimate(
            exact[name][pick][0],
            draws[name][pick] if draws else np.empty(0),
            n=n,
            center=center,
            noise=known.get(name),
            method=_method(name),
            bounds=_BOUNDS.get(name, (0.0, np.inf if name in _UNBOUNDED else 1.0)),
        )

    return look_up


def corp_score(score: str, look_up: LookUp) -> CorpScore:
    """The CORP decomposition of ``"brier"`` or ``"log_loss"``."""
    return CorpScore(mcb=look_up(f"{score}_mcb"), dsc=look_up(f"{score}_dsc"), unc=look_up(f"{score}_unc"))


def _method(name: str) -> IntervalMethod:
    if name in _DISTANCES:
        return "noise-corrected bootstrap"
    return "reverse percentile bootstrap" if name in _NOISE_INFLATED else "BC bootstrap"
