"""What a shift does to the decisions of a classifier: accuracy, measured or estimated, and samples told apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.outputs import OutputData
from analyzer.data_types.shift import OutOfDistribution, OutputShift
from analyzer.data_types.values import Estimate
from analyzer.diagnosis.modeltrace.outcomes import decisions, verdicts
from analyzer.errors import DataError
from analyzer.measures.bootstrap import wilson
from analyzer.measures.shift.accuracy_estimates import AccuracyEstimate, accuracy_estimates
from analyzer.measures.shift.ood import Outputs, ood_detection
from analyzer.measures.shift.verdict import HarmVerdict, harm_from_estimates, harm_from_labels
from analyzer.robustness.gathered_shift import GatheredPlaces

NO_HIDDEN = "Mahalanobis and kNN distances: the model has no last hidden layer; logits stand in its place."


def output_shifts(reference: GatheredPlaces, new: GatheredPlaces, *, seed: int) -> dict[str, OutputShift]:
    """By name, for outputs that decide once per sample among classes.

    Args:
        reference: What the model makes of the reference.
        new: What it makes of the data.
        seed: Divides the reference for the distances.
    """
    return {
        name: _output(known, new.predictions[name], reference, new, seed)
        for name, known in reference.predictions.items()
        if name in new.predictions and decisions(known) is not None
    }


def _output(
    known: OutputData, output: OutputData, reference: GatheredPlaces, new: GatheredPlaces, seed: int
) -> OutputShift:
    notes: list[str] = []
    hits, new_hits = verdicts(known), verdicts(output)
    accuracy = None if new_hits is None else wilson(int(new_hits.sum()), len(new_hits))
    reference_accuracy = None if hits is None else wilson(int(hits.sum()), len(hits))
    estimates = _estimates(known, output, notes)
    harm = _harm(reference_accuracy, accuracy, estimates, notes)
    return OutputShift(
        harm=None if harm is None else harm.harm,
        basis=None if harm is None else harm.basis,
        change=None if harm is None else harm.change,
        tolerance=None if harm is None else harm.tolerance,
        reference_accuracy=reference_accuracy,
        accuracy=accuracy,
        estimates={estimate.method: estimate.accuracy for estimate in estimates},
        estimates_error=max((estimate.mean_absolute_error for estimate in estimates), default=None),
        ood=_out_of_distribution(known, output, reference, new, seed, notes),
        notes=tuple(notes),
    )


def _estimates(known: OutputData, output: OutputData, notes: list[str]) -> tuple[AccuracyEstimate, ...]:
    if known.labels is None or known.labels.ndim != 1 or known.probabilities is None or output.probabilities is None:
        notes.append("Accuracy is not estimated without labels: that needs probabilities, and labels of the reference.")
        return ()
    try:
        return accuracy_estimates(known.probabilities, known.labels, output.probabilities)
    except DataError as reason:
        notes.append(f"Accuracy is not estimated without labels: {reason}")
        return ()


def _harm(
    reference: Estimate | None,
    accuracy: Estimate | None,
    estimates: tuple[AccuracyEstimate, ...],
    notes: list[str],
) -> HarmVerdict | None:
    if reference is None:
        notes.append("Whether the shift does harm cannot be told: the reference has no labels.")
        return None
    if accuracy is not None:
        return harm_from_labels(reference, accuracy)
    return harm_from_estimates(reference, estimates) if estimates else None


def _out_of_distribution(
    known: OutputData,
    output: OutputData,
    reference: GatheredPlaces,
    new: GatheredPlaces,
    seed: int,
    notes: list[str],
) -> dict[str, OutOfDistribution]:
    if known.logits is None or output.logits is None:
        notes.append("Samples are not told apart by scores: the model has no place where its logits can be read.")
        return {}
    sides = [_rows(known.logits, reference), _rows(output.logits, new)]
    if reference.last_hidden is None or new.last_hidden is None:
        notes.append(NO_HIDDEN)
        features: list[NDArray[Any]] = list(sides)
    else:
        features = [reference.last_hidden, new.last_hidden]
    try:
        one, other = (Outputs(logits=z, features=h) for z, h in zip(sides, features, strict=True))
        found = ood_detection(one, other, seed=seed)
    except DataError as reason:
        notes.append(f"Samples are not told apart by scores: {reason}")
        return {}
    return {name: OutOfDistribution(auroc=each.auroc, fpr95=each.fpr95) for name, each in found.items()}


def _rows(logits: NDArray[np.float64], side: GatheredPlaces) -> NDArray[np.float64]:
    """Logits of the kept samples; a single logit is that of the second of two classes."""
    z = logits[side.kept]
    return np.stack([np.zeros_like(z), z], axis=1) if z.ndim == 1 else z
