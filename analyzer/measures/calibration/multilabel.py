"""Calibration of L independent labels: L binary problems, their mean and their worst; never a softmax."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.calibration import LabelCalibration, MultiLabelCalibration
from analyzer.data_types.calibration_parts import CalibrationVerdict
from analyzer.measures.bootstrap import Units
from analyzer.measures.calibration import binned, cumulative, smooth
from analyzer.measures.calibration.classwise import ClassCounter
from analyzer.measures.calibration.decompositions import corp_references
from analyzer.measures.calibration.gaussian import holm
from analyzer.measures.calibration.means import MeanBootstrap
from analyzer.measures.calibration.noise import expected_miscalibration
from analyzer.measures.calibration.null_test import LEVEL, N_RESAMPLES, TEST_NAME, calibration_test
from analyzer.measures.calibration.proper_scores import LOG_LOSS_CLIP, brier_score, entropy, log_loss
from analyzer.measures.calibration.reliability import reliability_bins
from analyzer.measures.calibration.statistics import MAX_CELLS, LookUp, bootstrap_draws, corp_score, estimates
from analyzer.measures.calibration.tally import CellCounter, tally

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Measures = dict[str, Floats]

_MAX_RESAMPLES = 9999


class LabelStatistics:
    """Calibration measures of one binary probability; see `Statistics`.

    Args:
        probability: ``(m,)`` P(y=1).
        label: ``(m,)`` 0 or 1.
        units: What a bootstrap resamples; None evaluates the data themselves, exactly.
        n_bins: Number of bins.
    """

    def __init__(self, probability: Floats, label: Ints, units: Units | None, *, n_bins: int) -> None:
        limit = None if units is None or len(label) <= 4 * MAX_CELLS else MAX_CELLS
        both = np.stack([1 - probability, probability], axis=1)
        self._cells = CellCounter(probability, label == 1, units, n_bins=n_bins, max_cells=limit)
        self._classes = ClassCounter(both, label, units, n_bins=n_bins, max_cells=limit)
        unit = np.zeros(len(label), dtype=np.int64) if units is None else units.of_row
        columns = (np.ones(len(label)), brier_score(probability, label), log_loss(probability, label))
        self._sums = np.stack([np.bincount(unit, column) for column in columns], axis=1)
        self.width = max(self._classes.width, 3 * self._cells.value.size)

    def __call__(self, weights: Floats) -> Measures:
        """Measures of B samples given as ``(B, units)`` multiplicities."""
        counted = self._cells(weights)
        total, brier, log = (weights @ self._sums).T
        reference = corp_references(self._classes(weights))[0]
        return {
            "ece": binned.expected_calibration_error(counted),
            "smece": smooth.smooth_calibration_error(counted),
            "ks": cumulative.ks_calibration_error(counted),
            "brier": brier / total,
            "log_loss": log / total,
            # Both classes of a binary outcome count the same, so the sum over them is twice the Brier score.
            "brier_mcb": brier / total - reference.recalibrated / 2,
            "brier_dsc": (reference.base_rates - reference.recalibrated) / 2,
            "brier_unc": reference.base_rates / 2,
        }


class _Label(NamedTuple):
    """Measures of one label: on the data, as the bootstrap sees the data, and on its samples."""

    exact: Measures
    plug_in: Measures
    draws: Measures


def multilabel_calibration(
    probabilities: Floats,
    labels: Ints,
    *,
    from_logits: bool = False,
    n_bins: int = 15,
    n_bootstrap: int = 1000,
    seed: int = 0,
    groups: Ints | None = None,
    label_names: Sequence[str] = (),
    level: float = LEVEL,
) -> MultiLabelCalibration:
    """Every label's calibration, the mean over labels, and one verdict (Holm over labels).

    Args:
        probabilities: ``(m, L)`` P(label is present).
        labels: ``(m, L)`` 0 or 1.
        from_logits: Whether the model returns logits, for the result.
        n_bins: Number of bins of the binned measures.
        n_bootstrap: Bootstrap samples behind the intervals; 0 computes none.
        seed: Seed of the bootstrap and of the tests.
        groups: ``(m,)`` sample of each row where rows are not independent.
        label_names: Name of each label; their indices where empty.
        level: Level of the verdict.
    """
    n, n_labels = probabilities.shape
    names = tuple(label_names) if len(label_names) == n_labels else tuple(map(str, range(n_labels)))
    means = MeanBootstrap(n, groups, n_bootstrap, seed)
    measured = [
        _measure(probabilities[:, j], labels[:, j], means.units, n_bins, n_bootstrap, seed) for j in range(n_labels)
    ]
    n_resamples = int(np.clip(40 * n_labels, N_RESAMPLES, _MAX_RESAMPLES))
    entries = []
    for j, label in enumerate(measured):
        rng = np.random.default_rng([seed, 2, j])
        p, y = probabilities[:, j], labels[:, j]
        verdict = calibration_test(p, y, rng, level=level, groups=groups, n_resamples=n_resamples)
        entries.append(_entry(j, names[j], p, y, label, verdict, n_bins, groups is None, rng))
    correct = (probabilities > 0.5) == (labels == 1)
    confidence = np.maximum(probabilities, 1 - probabilities)
    uncertainty = np.stack([entropy(column) for column in probabilities.T], axis=1)
    macro = _macro(measured, n)
    return MultiLabelCalibration(
        task="multilabel",
        from_logits=from_logits,
        n=n,
        n_samples=means.units.n_independent,
        n_bins=n_bins,
        ece=macro("ece"),
        smece=macro("smece"),
        brier=macro("brier"),
        log_loss=macro("log_loss"),
        log_loss_clip=LOG_LOSS_CLIP,
        accuracy=means.mean(correct, bounds=(0.0, 1.0)),
        mean_confidence=means.mean(confidence, bounds=(0.0, 1.0)),
        mean_entropy=means.mean(uncertainty, bounds=(0.0, np.inf)),
        mean_entropy_normalized=means.mean(uncertainty / np.log(2), bounds=(0.0, 1.0)),
        worst_label=max(entries, key=lambda entry: float(entry.ece)).name,
        labels=tuple(entries),
        verdict=_holm_verdict(entries, level),
        confidence=confidence,
        entropy=uncertainty,
        correct=correct,
    )


def _measure(p: Floats, y: Ints, units: Units, n_bins: int, n_bootstrap: int, seed: int) -> _Label:
    exact = LabelStatistics(p, y, None, n_bins=n_bins)(np.ones((1, 1)))
    if n_bootstrap == 0:
        return _Label(exact, exact, {})
    statistics = LabelStatistics(p, y, units, n_bins=n_bins)
    # The same seed for every label: one set of bootstrap samples, so that means over labels keep their correlation.
    draws = bootstrap_draws(statistics, units.count, n_bootstrap, np.random.default_rng([seed, 1]))
    return _Label(exact, statistics(np.ones((1, units.count))), draws)


def _macro(measured: list[_Label], n: int) -> LookUp:
    """Means over labels."""
    names = ("ece", "smece", "brier", "log_loss")
    exact, plug_in, draws = (
        {name: np.mean([each[part][name] for each in measured], axis=0) for name in names if name in measured[0][part]}
        for part in range(3)
    )
    return estimates(exact, plug_in, draws, n)


def _entry(
    index: int,
    name: str,
    p: Floats,
    y: Ints,
    measured: _Label,
    verdict: CalibrationVerdict,
    n_bins: int,
    independent: bool,
    rng: np.random.Generator,
) -> LabelCalibration:
    noise = {}
    if measured.draws:
        both = np.stack([1 - p, p], axis=1)
        noise = dict.fromkeys(("brier_mcb", "brier_dsc"), expected_miscalibration(both, rng)[0] / 2)
    look_up = estimates(measured.exact, measured.plug_in, measured.draws, len(y), noise)
    ks = float(measured.exact["ks"][0])
    return LabelCalibration(
        index=index,
        name=name,
        n=len(y),
        n_positive=int(y.sum()),
        mean_probability=float(p.mean()),
        ece=look_up("ece"),
        smece=look_up("smece"),
        ks=look_up("ks"),
        brier=look_up("brier"),
        log_loss=look_up("log_loss"),
        ks_p_value=cumulative.ks_calibration_p_value(p, ks) if independent else None,
        brier_corp=corp_score("brier", look_up),
        verdict=verdict,
        reliability=reliability_bins(p, y == 1, n_bins=n_bins),
        smooth_curve=smooth.smooth_curve(tally(p, y == 1)),
    )


def _holm_verdict(entries: list[LabelCalibration], level: float) -> CalibrationVerdict:
    worst = min(entries, key=lambda entry: entry.verdict.p_value)
    p_value = holm([entry.verdict.p_value for entry in entries])
    n, test = worst.verdict.n, f"{TEST_NAME}, Holm over {len(entries)} labels"
    if p_value > level:
        text = f"not distinguishable from calibrated at n = {n} ({len(entries)} labels)"
        return CalibrationVerdict(text=text, direction="calibrated", p_value=p_value, level=level, test=test, n=n)
    # Holm rejects for a label whose own p-value is smaller still, so its direction is known.
    text = f"{worst.verdict.direction} in label {worst.name} (Holm p = {p_value:.3g}, n = {n})"
    return dataclasses.replace(worst.verdict, text=text, p_value=p_value, level=level, test=test)
