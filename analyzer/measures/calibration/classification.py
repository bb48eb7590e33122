"""Calibration of predictions over exclusive classes: from probabilities and labels to one result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.calibration import ClassificationCalibration
from analyzer.data_types.calibration_parts import BinnedScore, ClassCalibration
from analyzer.data_types.values import Estimate
from analyzer.measures.bootstrap import Units, resampling_units, wilson
from analyzer.measures.calibration.cumulative import ks_calibration_p_value
from analyzer.measures.calibration.noise import noise_of_parts
from analyzer.measures.calibration.null_test import LEVEL, calibration_test
from analyzer.measures.calibration.proper_scores import LOG_LOSS_CLIP, entropy
from analyzer.measures.calibration.reliability import reliability_bins
from analyzer.measures.calibration.smooth import smooth_curve
from analyzer.measures.calibration.statistics import (
    ClassificationStatistics,
    LookUp,
    bootstrap_draws,
    corp_score,
    estimates,
)
from analyzer.measures.calibration.tally import tally

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def classification_calibration(
    probabilities: Floats,
    labels: Ints,
    *,
    task: str = "multiclass",
    from_logits: bool = False,
    n_bins: int = 15,
    n_bootstrap: int = 1000,
    seed: int = 0,
    groups: Ints | None = None,
    class_names: Sequence[str] = (),
    level: float = LEVEL,
) -> ClassificationCalibration:
    """Every calibration measure, its interval, and the verdict.

    Args:
        probabilities: ``(m, K)`` rows summing to 1, or ``(m,)`` P(y=1) for binary predictions.
        labels: ``(m,)`` class indices.
        task: Kind of the output, for the result.
        from_logits: Whether the model returns logits, for the result.
        n_bins: Number of bins of the binned measures.
        n_bootstrap: Bootstrap samples behind the intervals; 0 computes none.
        seed: Seed of the bootstrap and of the test.
        groups: ``(m,)`` sample of each row where rows are not independent.
        class_names: Name of each class; their indices where empty.
        level: Level of the verdict's test.
    """
    binary = probabilities.ndim == 1
    p = np.stack([1 - probabilities, probabilities], axis=1) if binary else probabilities
    n, n_classes = p.shape
    bootstrap_rng, test_rng = (np.random.default_rng([seed, stream]) for stream in (1, 2))
    units = resampling_units(n, groups, bootstrap_rng)
    exact = ClassificationStatistics(p, labels, None, n_bins=n_bins, binary=binary)(np.ones((1, 1)))
    look_up = _bootstrapped(p, labels, exact, units, n_bins, n_bootstrap, bootstrap_rng, binary)
    confidence, predicted = p.max(axis=1), p.argmax(axis=1)
    correct = predicted == labels
    names = tuple(class_names) if len(class_names) == n_classes else tuple(map(str, range(n_classes)))
    ks = float(exact["ks"][0])
    return ClassificationCalibration(
        task=task,
        from_logits=from_logits,
        n=n,
        n_samples=units.n_independent,
        n_classes=n_classes,
        n_bins=n_bins,
        ece=look_up("ece"),
        ece_equal_mass=look_up("ece_equal_mass"),
        mce=look_up("mce"),
        rmsce=look_up("rmsce"),
        debiased_l2=root_of_square(look_up("debiased_l2_squared")),
        debiased_l2_squared=look_up("debiased_l2_squared"),
        smece=look_up("smece"),
        ks=look_up("ks"),
        ks_p_value=ks_calibration_p_value(confidence, ks) if groups is None else None,
        classwise_ece=look_up("classwise_ece"),
        accuracy=wilson(int(correct.sum()), n) if groups is None and n_bootstrap else look_up("accuracy"),
        mean_confidence=look_up("mean_confidence"),
        confidence_gap=look_up("confidence_gap"),
        mean_entropy=look_up("mean_entropy"),
        mean_entropy_normalized=look_up("mean_entropy_normalized"),
        brier=look_up("brier"),
        log_loss=look_up("log_loss"),
        log_loss_clip=LOG_LOSS_CLIP,
        brier_corp=corp_score("brier", look_up),
        log_loss_corp=corp_score("log_loss", look_up),
        brier_binned=BinnedScore(
            reliability=look_up("reliability"),
            resolution=look_up("resolution"),
            uncertainty=look_up("uncertainty"),
            within_bin_variance=look_up("within_bin_variance"),
            within_bin_covariance=look_up("within_bin_covariance"),
        ),
        auroc_errors=look_up("auroc_errors"),
        aurc=look_up("aurc"),
        augrc=look_up("augrc"),
        per_class=_per_class(p, labels, names, look_up),
        verdict=calibration_test(p, labels, test_rng, level=level, groups=groups),
        reliability=reliability_bins(confidence, correct, n_bins=n_bins),
        reliability_equal_mass=reliability_bins(confidence, correct, n_bins=n_bins, binning="equal mass"),
        smooth_curve=smooth_curve(tally(confidence, correct)),
        confidence=confidence,
        entropy=entropy(p),
        correct=correct,
        predicted=predicted,
    )


def root_of_square(square: Estimate) -> Estimate:
    """The estimate of a distance from that of its signed square; what is negative becomes 0."""

    def root(x: float | None) -> float | None:
        return None if x is None else float(np.sqrt(max(x, 0.0)))

    return Estimate(
        value=root(square.value),
        low=root(square.low),
        high=root(square.high),
        n=square.n,
        level=square.level,
        method=square.method,
    )


def _bootstrapped(
    p: Floats,
    labels: Ints,
    exact: dict[str, Floats],
    units: Units,
    n_bins: int,
    n_bootstrap: int,
    rng: np.random.Generator,
    binary: bool,
) -> LookUp:
    """Look-up of estimates; the data are counted a second time per unit, since draws need it so."""
    if n_bootstrap == 0:
        return estimates(exact, exact, {}, len(labels))
    statistics = ClassificationStatistics(p, labels, units, n_bins=n_bins, binary=binary)
    plug_in = statistics(np.ones((1, units.count)))
    draws = bootstrap_draws(statistics, units.count, n_bootstrap, rng)
    noise = noise_of_parts(p, n_bins=n_bins, rng=rng, brier_scale=0.5 if binary else 1.0)
    return estimates(exact, plug_in, draws, len(labels), noise)


def _per_class(p: Floats, labels: Ints, names: Sequence[str], look_up: LookUp) -> tuple[ClassCalibration, ...]:
    positives = np.bincount(labels, minlength=len(names))
    entries = []
    for k, name in enumerate(names):
        absent = Estimate(value=None, n=0)
        entries.append(
            ClassCalibration(
                index=k,
                name=name,
                ece=look_up("class_ece", k) if positives[k] else absent,
                n=int(positives[k]),
                base_rate=float(positives[k] / len(labels)),
                mean_probability=float(p[:, k].mean()),
            )
        )
    return tuple(entries)
