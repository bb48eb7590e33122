"""Results of models made up number by number: what each reads like is known."""

from __future__ import annotations

import dataclasses

import numpy as np

from analyzer.data_types import AnalysisResults, Estimate
from analyzer.data_types.metric_names import Metric
from analyzer.data_types.training import Curve, Peak, TrainingResult
from tests.visualizers import synthetic

EPOCHS = 12


def estimate(value, low=None, high=None, n=1):
    return Estimate(value=value, low=low, high=high, n=n)


def metric(name, direction):
    return Metric(
        name=name, family=name, direction=direction, prefix=None, train=name, validation=f"val_{name}", reason="made up"
    )


def trained(peak, train, held_out, *, name="accuracy", direction="up", noise=0.0, convergence=5, runs=1):
    """A training whose losses stay at two levels, with zigzag noise that second differences see."""
    zigzag = noise * np.where(np.arange(EPOCHS) % 2, 1.0, -1.0)
    rows = np.ones((runs, 1))
    raw = {
        "loss": np.full((runs, EPOCHS), float(train)),
        "val_loss": held_out + zigzag * rows,
        f"val_{name}": peak + zigzag * rows,
    }
    curves = {key: Curve(metric=key.removeprefix("val_"), split="validation", raw=value) for key, value in raw.items()}
    best = estimate(peak, n=runs)
    return TrainingResult(
        n_runs=runs,
        epochs=np.arange(1, EPOCHS + 1),
        performance=metric(name, direction),
        performance_reason="made up",
        loss=metric("loss", "down"),
        curves=curves,
        peak_performance=Peak(
            series=f"val_{name}", direction=direction, value=best, epoch=estimate(3, n=runs), corrected=best
        ),
        overfitting_index=estimate(held_out - train, n=runs),
        final_gap=estimate(held_out - train, n=runs),
        normalized_overfitting_index=estimate((held_out - train) / max(held_out, train), n=runs),
        epochs_to_convergence=None if convergence is None else estimate(convergence, n=runs),
    )


def results(**models):
    """Results of the training dynamics."""
    found = AnalysisResults(tuple(models))
    found.training_dynamics = models
    return found


def measured(**models):
    """Results with accuracy, ECE and number of parameters; each may be None or an estimate."""
    found = AnalysisResults(tuple(models))
    for i, (name, (accuracy, ece, parameters)) in enumerate(models.items()):
        found.performance[name] = dataclasses.replace(synthetic.performance(i), accuracy=accuracy)
        found.calibration[name] = dataclasses.replace(synthetic.classification(i), ece=ece)
        weights = synthetic.weights(i)
        totals = dataclasses.replace(weights.totals, total=parameters)
        found.weights[name] = dataclasses.replace(weights, totals=totals)
    return found
