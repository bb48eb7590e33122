"""Scores of predictions against labels."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from analyzer.data_types.outputs import OutputData
from analyzer.data_types.values import Estimate
from analyzer.measures.bootstrap import interval_estimate, multiplicities, resampling_units, unit_sums, wilson
from analyzer.measures.calibration.proper_scores import LOG_LOSS_CLIP

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of one output; see `PerformanceResult`."""

    accuracy: Estimate | None
    loss: Estimate
    loss_name: str
    metrics: dict[str, Estimate] = field(default_factory=dict)


def mean_estimate(
    values: Floats, groups: NDArray[np.int64] | None, weight: Floats | None, *, n_bootstrap: int, seed: int
) -> Estimate:
    """A mean over rows with its bootstrap interval; whole groups are resampled.

    Args:
        values: ``(m,)`` one value per row.
        groups: ``(m,)`` sample of each row, or None where rows are independent.
        weight: ``(m,)`` weights, or None.
        n_bootstrap: Draws; 0 computes no interval.
        seed: Seed of the draws.
    """
    return ratio_estimate(values, np.ones(len(values)), groups, weight, n_bootstrap=n_bootstrap, seed=seed)


def ratio_estimate(
    above: Floats,
    below: Floats,
    groups: NDArray[np.int64] | None,
    weight: Floats | None,
    *,
    n_bootstrap: int,
    seed: int,
) -> Estimate:
    """A ratio of two weighted sums over rows with its bootstrap interval.

    Args:
        above: ``(m,)`` numerator.
        below: ``(m,)`` denominator.
        groups: ``(m,)`` sample of each row, or None where rows are independent.
        weight: ``(m,)`` weights, or None.
        n_bootstrap: Draws; 0 computes no interval.
        seed: Seed of the draws.
    """
    rng = np.random.default_rng(seed)
    weight = np.ones(len(above)) if weight is None else weight
    units = resampling_units(len(above), groups, rng)
    sums = unit_sums(np.stack([above * weight, below * weight], axis=1), units)
    total = sums.sum(axis=0)
    value = float(total[0] / total[1]) if total[1] else float("nan")
    draws = multiplicities(units.count, n_bootstrap, rng) @ sums if n_bootstrap else np.empty((0, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        return interval_estimate(value, draws[:, 0] / draws[:, 1], n=units.n_independent)


def classification_scores(output: OutputData, *, n_bootstrap: int, seed: int) -> Scores:
    """Accuracy, log loss, and balanced accuracy and macro F1 of class predictions.

    Args:
        output: An output with probabilities and labels.
        n_bootstrap: Draws behind each interval.
        seed: Seed of the draws.
    """
    probabilities, labels = np.asarray(output.probabilities), np.asarray(output.labels)
    if probabilities.ndim == 1 or output.task.kind == "multilabel":
        predicted = (probabilities > 0.5).astype(np.int64)
        likelihood = np.where(labels == 1, probabilities, 1 - probabilities)
    else:
        predicted = probabilities.argmax(axis=1)
        likelihood = probabilities[np.arange(len(labels)), labels]
    right, log_loss = (predicted == labels).astype(np.float64), -np.log(np.maximum(likelihood, LOG_LOSS_CLIP))
    if right.ndim > 1:
        right, log_loss = right.mean(axis=1), log_loss.mean(axis=1)
    resampling = {"n_bootstrap": n_bootstrap, "seed": seed}
    independent = output.groups is None and output.sample_weight is None and output.task.kind != "multilabel"
    return Scores(
        accuracy=wilson(int(right.sum()), len(right))
        if independent
        else mean_estimate(right, output.groups, output.sample_weight, **resampling),
        loss=mean_estimate(log_loss, output.groups, output.sample_weight, **resampling),
        loss_name="log loss",
        metrics=_class_metrics(labels, predicted, output),
    )


def _class_metrics(labels: NDArray[np.int64], predicted: NDArray[np.int64], output: OutputData) -> dict[str, Estimate]:
    weight = output.sample_weight
    # Classes that neither occur nor are predicted have no F1; only those that occur are averaged.
    present = np.unique(labels if weight is None else labels[weight > 0]) if labels.ndim == 1 else None
    f1 = f1_score(labels, predicted, labels=present, average="macro", sample_weight=weight, zero_division=0.0)
    metrics = {"f1_macro": Estimate(value=float(f1), n=output.n)}
    if present is not None and len(present) > 1:
        # By hand: scikit-learn warns about predicted classes that do not occur.
        recall = [
            np.average(predicted[labels == k] == k, weights=None if weight is None else weight[labels == k])
            for k in present
        ]
        metrics["balanced_accuracy"] = Estimate(value=float(np.mean(recall)), n=output.n)
    return metrics


def regression_scores(output: OutputData, *, n_bootstrap: int, seed: int) -> Scores:
    """Mean squared and absolute error, and R², of the point predictions of a regression output.

    Args:
        output: A regression, gaussian or quantile output with labels.
        n_bootstrap: Draws behind each interval.
        seed: Seed of the draws.
    """
    labels = np.asarray(output.labels, dtype=np.float64)
    points = point_predictions(output)
    error = labels - points
    resampling = {"n_bootstrap": n_bootstrap, "seed": seed}
    weight = output.sample_weight
    squared = (error**2).mean(axis=1)
    spread = ((labels - np.average(labels, axis=0, weights=weight)) ** 2).mean(axis=1)
    unexplained = ratio_estimate(squared, spread, None, weight, **resampling)
    return Scores(
        accuracy=None,
        loss=mean_estimate(squared, None, weight, **resampling),
        loss_name="mean squared error",
        metrics={
            "mae": mean_estimate(np.abs(error).mean(axis=1), None, weight, **resampling),
            "r2": _one_minus(unexplained),
        },
    )


def point_predictions(output: OutputData) -> Floats:
    """One value per sample and target: the output itself, the mean, or the middle quantile."""
    raw = np.asarray(output.raw, dtype=np.float64).reshape(output.n, -1)
    if output.task.kind == "gaussian":
        return raw[:, : raw.shape[1] // 2]
    if output.task.kind == "quantile":
        levels = np.asarray(output.task.quantiles)
        by_level = raw.reshape(output.n, -1, len(levels))
        return np.asarray(by_level[..., int(np.argmin(np.abs(levels - 0.5)))])
    return raw


def _one_minus(estimate: Estimate) -> Estimate:
    def flip(value: float | None) -> float | None:
        return None if value is None else 1 - value

    return Estimate(
        value=flip(estimate.value),
        low=flip(estimate.high),
        high=flip(estimate.low),
        n=estimate.n,
        method=estimate.method,
    )
