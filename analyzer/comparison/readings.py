"""What results say about an objective: the value with its uncertainty, and what it may be compared with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.comparison.objectives import Wanted
from analyzer.comparison.quantities import QUANTITIES, NoValueError, result_of, value_at
from analyzer.data_types.pareto import Direction
from analyzer.data_types.training import TrainingResult
from analyzer.data_types.values import Estimate
from analyzer.measures.curves import across_runs, noise_scale

Subject = Mapping[str, Any]
"""Results of one model by the name of the analysis."""

ONE_RUN = "epoch-to-epoch noise of one run"
"""Method of the intervals made here: they say nothing about another seed, only that less is no difference at all."""

_Z = 1.959963984540054
_PEAKS = ("peak_performance", "peak_accuracy")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One value of one model.

    Attributes:
        value: The estimate; None where there is none.
        reason: Why there is none.
        kind: What must be the same for two values to be comparable, such as the name of the loss; empty for no demand.
        direction: Which way is better, where the results tell.
    """

    value: Estimate | None = None
    reason: str | None = None
    kind: str = ""
    direction: Direction | None = None


def read(wanted: Wanted, subject: Subject) -> Reading:
    """The value of an objective for one model.

    Args:
        wanted: The objective.
        subject: The model's results.
    """
    path = wanted.quantity.path
    try:
        if wanted.quantity.name in _PEAKS:
            return _peak(subject, only_accuracy=wanted.quantity.name == "peak_accuracy")
        if wanted.quantity.otherwise and path[0] not in subject:
            path = wanted.quantity.otherwise
        value = value_at(subject.get(path[0]), path, output=wanted.output)
        if wanted.quantity.name == "flops" and subject["cost"].uncounted:
            raise NoValueError(f"only a lower bound is known: {', '.join(subject['cost'].uncounted)} not counted")
        if wanted.quantity.gap:
            training = result_of(subject.get(path[0]), path[0])
            return Reading(value=_gap_with_noise(value, training, path[-1]), kind=_loss_name(subject, None))
        kind = _loss_name(subject, wanted.output) if wanted.quantity.name == "loss" else ""
        return Reading(value=value, kind=kind)
    except NoValueError as missing:
        return Reading(reason=str(missing))


def levels(subject: Subject, gap: str) -> tuple[Estimate, Estimate] | None:
    """The training and the held-out loss that a gap lies between.

    For an evaluated gap, both as evaluated; for the others, both over the final third of the epochs.

    Args:
        subject: The model's results.
        gap: Name of the gap.

    Returns:
        Means over the runs with their uncertainty; None where one of the losses is not known.
    """
    training = subject.get("training_dynamics")
    if not isinstance(training, TrainingResult):
        return None
    if "evaluated" in gap:
        losses = [output.loss for output in training.evaluated.values()]
        return (losses[0].train, losses[0].held_out) if len(losses) == 1 and losses[0] is not None else None
    pairs = _final_thirds(training)
    if not pairs:
        return None
    means = [across_runs([float(pair[i][-count:].mean()) for *pair, count in pairs]) for i in (0, 1)]
    if len(pairs) == 1:
        *pair, count = pairs[0]
        means = [_with_noise(mean, noise_scale(c) / np.sqrt(count)) for mean, c in zip(means, pair, strict=True)]
    return None if means[0] is None or means[1] is None else (means[0], means[1])


def _final_thirds(training: TrainingResult) -> list[tuple[NDArray[np.float64], NDArray[np.float64], int]]:
    """Of each run with at least three epochs: both losses over all epochs, and the length of the final third."""
    loss = training.loss
    if loss is None or loss.train not in training.curves or loss.validation not in training.curves:
        return []
    found = []
    for train, held_out in zip(training.curves[loss.train].raw, training.curves[loss.validation].raw, strict=True):
        both = np.isfinite(train) & np.isfinite(held_out)
        n = int(both.sum())
        if n >= 3:
            found.append((train[both], held_out[both], n - 2 * n // 3))
    return found


def peak_of(subject: Subject) -> Reading | None:
    """The peak performance of one model; None where it has none.

    Args:
        subject: The model's results.
    """
    try:
        return _peak(subject, only_accuracy=False)
    except NoValueError:
        return None


def _peak(subject: Subject, *, only_accuracy: bool) -> Reading:
    training = result_of(subject.get("training_dynamics"), "training_dynamics")
    metric, peak = training.performance, training.peak_performance
    if metric is None or peak is None:
        raise NoValueError("its training history has no metric with validation values")
    if only_accuracy and metric.family != "accuracy":
        raise NoValueError(f"its training history has no validation accuracy; its metric is {metric.name!r}")
    value = value_at(training, QUANTITIES["peak_performance"].path)
    if training.n_runs == 1 and peak.series in training.curves:
        raw = training.curves[peak.series].raw[0]
        value = _with_noise(value, noise_scale(raw[np.isfinite(raw)])) or value
    return Reading(value=value, kind=peak.series, direction="max" if peak.direction == "up" else "min")


def _gap_with_noise(value: Estimate, training: TrainingResult, field: str) -> Estimate:
    """The gap of a single run with what the noise of its epochs leaves open."""
    pairs = _final_thirds(training)
    if len(pairs) != 1 or value.low is not None or "evaluated" in field:
        return value
    train, held_out, count = pairs[0]
    count = 1 if "final_gap" in field else count
    noise = noise_scale(held_out - train) / np.sqrt(count)
    if field.startswith("normalized"):
        larger = max(float(train[-count:].mean()), float(held_out[-count:].mean()))
        noise = noise / larger if larger > 0 else 0.0
    return _with_noise(value, noise) or value


def _with_noise(estimate: Estimate | None, sigma: float) -> Estimate | None:
    if estimate is None or estimate.value is None or not sigma > 0:
        return estimate
    half = _Z * float(sigma)
    return dataclasses.replace(estimate, low=estimate.value - half, high=estimate.value + half, method=ONE_RUN)


def _loss_name(subject: Subject, output: str | None) -> str:
    """Which loss it is, where the results tell; of a model with several outputs, those of all."""
    performance = subject.get("performance")
    outputs = getattr(performance, "outputs", None)
    results = [performance] if outputs is None else [outputs.get(output)] if output else list(outputs.values())
    names = {getattr(result, "loss_name", None) for result in results} - {None}
    return ", ".join(sorted(map(str, names)))
