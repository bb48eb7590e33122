"""Calibration in numbers: per class, and over all models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from analyzer.data_types.calibration import ClassificationCalibration, MultiLabelCalibration
from analyzer.data_types.values import Estimate
from analyzer.visualizers.panels.base import caption, dodge, name_rows, panel
from analyzer.visualizers.series import Pen, Series, error_bar, sample_sizes, value_of

MOST_CLASSES = 12
"""Classes drawn at most; those with the greatest error stay."""


def classes_of(result: Any) -> dict[str, tuple[Estimate, int]]:
    """ECE and number of rows of each class or label, by name; classes absent from the labels are left out."""
    if isinstance(result, MultiLabelCalibration):
        return {label.name: (label.ece, label.n_positive) for label in result.labels}
    return {c.name: (c.ece, c.n) for c in result.per_class if c.ece.value is not None}


def shown_classes(series: Sequence[Series]) -> tuple[list[str], int]:
    """Names of the classes that `per_class_ece` draws, in their own order, and how many there are."""
    worst: dict[str, float] = {}
    for s in series:
        for name, (ece, _) in classes_of(s.result).items():
            worst[name] = max(worst.get(name, 0.0), value_of(ece))
    kept = sorted(worst, key=lambda name: -worst[name])[:MOST_CLASSES]
    return [name for name in worst if name in kept], len(worst)


@panel("per_class_ece", ClassificationCalibration, MultiLabelCalibration)
def per_class_ece(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """One-vs-rest ECE of each class with its interval.

    Args:
        ax: The axes.
        series: Classification results.
        pen: Sizes.
    """
    names, total = shown_classes(series)
    for j, s in enumerate(series):
        known = classes_of(s.result)
        rows = [i for i, name in enumerate(names) if name in known]
        estimates = [known[names[i]][0] for i in rows]
        values = [value_of(e) for e in estimates]
        at = [i + dodge(len(series), j) for i in rows]
        ax.hlines(at, 0, values, color=s.color, alpha=0.35)
        ax.errorbar(
            values,
            at,
            xerr=error_bar(estimates),
            fmt=s.marker,
            color=s.color,
            elinewidth=0.8 * pen.line,
            capsize=1.2 * pen.line,
        )
    labels = [pen.layer(name) for name in names]
    name_rows(ax, labels)
    for i in range(1, len(names)):
        ax.axhline(i - 0.5, color="#EDEDED", linewidth=0.5 * pen.line)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlim(left=0)
    ax.set_xlabel("ECE of the class against the rest")
    kind = "label" if all(isinstance(s.result, MultiLabelCalibration) for s in series) else "class"
    some = f"the worst {len(names)} of {total} shown" if len(names) < total else ""
    per_class = [n for s in series for _, n in classes_of(s.result).values()]
    caption(
        ax,
        pen,
        f"Calibration by {kind}",
        f"{sample_sizes([s.result.n for s in series])}; "
        f"rows of one {kind}: {min(per_class)} to {max(per_class)}; 95% intervals",
        some,
    )


@panel("landscape", ClassificationCalibration, MultiLabelCalibration)
def landscape(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """ECE against Brier score: the better, the closer to the lower left corner.

    Args:
        ax: The axes.
        series: Classification results.
        pen: Sizes.
    """
    known = [s for s in series if s.result.ece.value is not None and s.result.brier.value is not None]
    for s in known:
        ece, brier = s.result.ece, s.result.brier
        ax.errorbar(
            ece.value,
            brier.value,
            xerr=error_bar([ece]),
            yerr=error_bar([brier]),
            fmt=s.marker,
            color=s.color,
            elinewidth=0.9 * pen.line,
            capsize=1.5 * pen.line,
            markersize=1.4 * pen.font * 0.6,
            markeredgecolor="white",
            markeredgewidth=0.5 * pen.line,
        )
    ax.set_xlim(*_limits([s.result.ece for s in known]))
    ax.set_ylim(*_limits([s.result.brier for s in known]))
    ax.set_xlabel("ECE (top label)")
    ax.set_ylabel("Brier score")
    ax.grid(visible=True)
    kinds = {
        s.result.task if isinstance(s.result, MultiLabelCalibration) else f"{s.result.n_classes} classes"
        for s in series
    }
    mixed = "Brier scores of different tasks do not compare: " + ", ".join(sorted(kinds)) if len(kinds) > 1 else ""
    caption(
        ax,
        pen,
        "Calibration landscape",
        f"{sample_sizes([s.result.n for s in series])}; 95% intervals; better towards the lower left",
        mixed,
    )


def _limits(estimates: Sequence[Estimate]) -> tuple[float, float]:
    """Ends of an axis: from 0 where that leaves the points apart, else around them."""
    low = min((value_of(e) if e.low is None else e.low for e in estimates), default=0.0)
    high = max((value_of(e) if e.high is None else e.high for e in estimates), default=1.0)
    margin = 0.12 * (high - low) or 0.05 * high or 1e-3
    together = len(estimates) > 1 and low > 0.5 * high
    return (low - margin if together else 0.0), high + margin
