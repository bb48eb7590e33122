"""What is marked on training curves: findings, steps of the learning rate, gaps of the finished models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from analyzer.data_types.training import Curve
from analyzer.visualizers.series import Pen, Series, error_bar, value_of

Floats = NDArray[np.float64]

_MARKED = {
    "overfitting": "validation",
    "validation_loss_spike": "validation",
    "loss_spike": "training",
    "divergence": "training",
    "non_finite_loss": "training",
}
"""Findings with a place on a curve of the loss, and which one."""


def centre(curve: Curve) -> Floats:
    """The line to draw, shape ``(n_epochs,)``: the mean over runs, or the (smoothed) single run."""
    if curve.band is not None:
        return curve.band.mean
    runs = curve.raw if curve.smoothed is None else curve.smoothed
    return np.asarray(runs[0])


def mark_findings(ax: Axes, s: Series, pen: Pen) -> str:
    """A cross on the loss where a finding says that something went wrong.

    Args:
        ax: The axes.
        s: A training result.
        pen: Sizes.

    Returns:
        What the mark means; empty where there is none.
    """
    metric, found = s.result.loss, False
    for finding in s.result.findings:
        kind = _MARKED.get(finding.kind)
        epoch = finding.evidence.get("onset_epoch", finding.evidence.get("epoch"))
        name = metric and (metric.validation if kind == "validation" else metric.train)
        if kind is None or epoch is None or not name:
            continue
        line = centre(s.result.curves[name])
        known = np.flatnonzero(np.isfinite(line))
        if known.size:
            at = known[np.argmin(np.abs(s.result.epochs[known] - epoch))]
            ax.plot(
                s.result.epochs[at],
                line[at],
                marker="X",
                color=s.color,
                markersize=0.85 * pen.font,
                markeredgecolor="black",
                markeredgewidth=0.5 * pen.line,
                linestyle="none",
                zorder=5,
            )
            found = True
    return "cross: overfitting from here on, divergence, NaN or spike" if found else ""


def mark_rate_steps(ax: Axes, s: Series, pen: Pen) -> str:
    """A mark below the curves where the learning rate steps.

    Args:
        ax: The axes.
        s: A training result.
        pen: Sizes.

    Returns:
        What the mark means; empty where there is none.
    """
    epochs = sorted({step.epoch for step in s.result.learning_rate_steps})
    if not epochs or not pen.extras:
        return ""
    ax.plot(
        epochs,
        [0.03] * len(epochs),
        marker=7,  # a caret that points down
        color=s.color,
        linestyle="none",
        markersize=0.8 * pen.font,
        transform=ax.get_xaxis_transform(),
        zorder=4,
    )
    return "caret at the bottom: step of the learning rate"


def mark_evaluated(ax: Axes, series: Sequence[Series], pen: Pen) -> str:
    """The gap of the finished models, right of the last epoch.

    Args:
        ax: The axes.
        series: Training results.
        pen: Sizes.

    Returns:
        What the mark means; empty where there is none.
    """
    gaps = [(s, s.result.evaluated_gap) for s in series if s.result.evaluated_gap is not None]
    last = float(max((s.result.epochs.max(initial=0) for s, _ in gaps), default=0))
    for i, (s, estimate) in enumerate(gaps):
        ax.errorbar(
            last + (0.04 + 0.02 * i) * last,
            value_of(estimate),
            yerr=error_bar([estimate]),
            fmt="D",
            color=s.color,
            markersize=0.5 * pen.font,
            markerfacecolor="white",
            elinewidth=0.9 * pen.line,
        )
    return "diamonds: evaluated without dropout, on the data of the analysis and the training data" if gaps else ""
