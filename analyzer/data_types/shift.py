"""Whether data differ from reference data, as one model sees them, and whether that does harm."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.values import Estimate, Finding, flat_row

PlaceKind = Literal["input", "layer", "output"]
Harm = Literal["harmful", "not harmful", "suspected", "undecided"]


@dataclass(frozen=True, kw_only=True)
class PlaceShift:
    """How far the data have moved at one place on their way through the model.

    Attributes:
        place: Name of the input, id of the layer's call, or name of the output.
        kind: What of these it is.
        n_features: Features compared: values of an input or an output, means over positions of the units of a layer.
        of_features: Features there; more than compared where they had to be drawn.
        drift: Mean over the features of the Wasserstein-1 distance between reference and data, in standard deviations
            of both together: at most 2, where they are points apart. With a bootstrap interval that takes off what
            resampling adds.
        chance: Drift that remains below this in 95 of 100 draws where nothing has shifted: noise alone makes a
            distance above 0.
        ks: P-value of the smallest Kolmogorov-Smirnov test of a feature, by Holm; None where the place is not tested.
        mmd: P-value of the maximum mean discrepancy, by permutation; likewise.
        classifier: P-value of the classifier two-sample test, by permutation; likewise.
        adjusted: The smallest of the three by Holm over the tests of all places; likewise.
    """

    place: str
    kind: PlaceKind
    n_features: int
    of_features: int
    drift: Estimate
    chance: float | None = None
    ks: float | None = None
    mmd: float | None = None
    classifier: float | None = None
    adjusted: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureShift:
    """One feature, on both sides.

    Attributes:
        place: Where.
        feature: Its number among the features of the place.
        wasserstein: Distance in standard deviations of both together.
        reference: ``(k,)`` quantiles of the reference, at equal steps from the smallest value to the largest.
        new: ``(k,)`` those of the data.
    """

    place: str
    feature: int
    wasserstein: float
    reference: NDArray[np.float64]
    new: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class OutOfDistribution:
    """How well a score tells single samples of the data from those of the reference.

    Attributes:
        auroc: Chance that a sample of the data scores higher than one of the reference; 0.5 where nothing is told.
        fpr95: Share of the data that passes as reference where 95 % of the reference do.
    """

    auroc: Estimate
    fpr95: Estimate


@dataclass(frozen=True, kw_only=True)
class OutputShift:
    """What the shift does to one classification.

    Attributes:
        harm: Whether the decisions are worse on the data: by labels ``"harmful"``, ``"not harmful"`` or
            ``"undecided"``; without labels no more than ``"suspected"``. None where it cannot be asked.
        basis: What this rests on: ``"labels"`` or ``"label-free estimates"``.
        change: Accuracy on the data minus accuracy on the reference.
        tolerance: Loss that is accepted; without labels the known mean error of the estimates, below which they see
            nothing.
        reference_accuracy: Share of the reference decided rightly; None without labels.
        accuracy: Share of the data decided rightly; None without labels.
        estimates: Accuracy on the data as estimated without their labels, by method (AC, DoC, ATC).
        estimates_error: Mean absolute error of such estimates over ten measured shifts; on the worst they were off by
            more than three times that.
        ood: By score: MSP, energy, Mahalanobis, kNN.
        notes: What is missing, and why.
    """

    harm: Harm | None = None
    basis: str | None = None
    change: Estimate | None = None
    tolerance: float | None = None
    reference_accuracy: Estimate | None = None
    accuracy: Estimate | None = None
    estimates: dict[str, Estimate] = field(default_factory=dict)
    estimates_error: float | None = None
    ood: dict[str, OutOfDistribution] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class ShiftResult:
    """Two separate answers: have the data shifted against the reference, and does the shift do harm?

    The tests of all tested places are one family, corrected by Holm, so that data that have not shifted are called
    shifted with a chance of at most `level`. Neither answer follows from the other: halving the contrast of images
    shifts everything and may cost nothing; permuted columns leave every feature as it was and may cost much.

    Attributes:
        findings: What is wrong or remarkable.
        shifted: Whether a test of the family alarms.
        level: Largest chance of a false alarm.
        p_value: Of the hypothesis that nothing has shifted anywhere.
        verdict: Both answers in one sentence.
        n: Samples of the data.
        n_reference: Samples of the reference.
        seed: Of draws, folds and permutations.
        places: From the inputs over the layers to the outputs, in order of execution.
        features: The features that moved most, the one that moved most first.
        outputs: By name, for outputs that decide once per sample among classes.
        skipped: Reason by name, for places that cannot be compared.
        notes: What the reader must know.
    """

    findings: tuple[Finding, ...] = ()
    shifted: bool
    level: float
    p_value: float
    verdict: str
    n: int
    n_reference: int
    seed: int
    places: tuple[PlaceShift, ...]
    features: tuple[FeatureShift, ...] = ()
    outputs: dict[str, OutputShift] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """One row per place, for `AnalysisResults.to_frame`."""
        answer = {"shifted": self.shifted, "p_value": self.p_value}
        return [answer | flat_row(place) for place in self.places]
