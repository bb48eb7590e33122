"""Tables on axes: columns as wide as their words, intervals below their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from analyzer.data_types.performance import PerformanceResult
from analyzer.data_types.training import TrainingResult
from analyzer.data_types.values import Estimate
from analyzer.visualizers.layout import MARGIN
from analyzer.visualizers.panels.base import caption, panel
from analyzer.visualizers.series import Pen, Series, interval, number
from analyzer.visualizers.text import displayable, text_width

Value = tuple[str, str]
"""A value and, below it, its interval."""

_MOST_WANTED = 4
"""Columns for which a table is set smaller before one is left out."""

_GAP = 9.0
"""Points between columns."""


def with_interval(estimate: Estimate | None, digits: int = 3) -> Value:
    """The value of an estimate and its interval."""
    return (number(None if estimate is None else estimate.value, digits), interval(estimate, digits))


def draw_table(ax: Axes, series: Sequence[Series], columns: Mapping[str, Sequence[Value]], pen: Pen) -> list[str]:
    """One row per model; the columns that do not fit are left out.

    Args:
        ax: The axes.
        series: Names and colours of the rows.
        columns: Values by heading, the most important first.
        pen: Sizes.

    Returns:
        Headings of the columns that did not fit.
    """
    ax.set_axis_off()
    room = pen.points - 2 * MARGIN * 72
    for size in (pen.small, 0.9 * pen.small):
        shown, lost = _fitting(series, columns, size, room)
        if len(shown) >= _MOST_WANTED:
            break
    last = shown[-1][2] if shown else room
    height = min(1 / (len(series) + 1), 3.2 * size / 72 / max(pen.height - 0.5, 0.3))
    to_axes = 1 / room
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.plot([0, last * to_axes], [1 - height] * 2, color="black", linewidth=0.7 * pen.line)
    for heading, values, right in shown:
        ax.text(right * to_axes, 1 - 0.85 * height, heading, ha="right", va="bottom", fontsize=size, fontweight="bold")
        for i, (value, below) in enumerate(values):
            y = 1 - (i + 1.5) * height
            ax.text(
                right * to_axes,
                y,
                f"{value}\n{below}" if below else value,
                ha="right",
                va="center",
                fontsize=size,
                linespacing=1.15,
            )
    for i, s in enumerate(series):
        y = 1 - (i + 1.5) * height
        ax.plot(0.5 * size * to_axes, y, marker=s.marker, color=s.color)
        ax.text(1.4 * size * to_axes, y, s.label, va="center", fontsize=size, parse_math=False, linespacing=1.1)
    return lost


def _fitting(
    series: Sequence[Series], columns: Mapping[str, Sequence[Value]], size: float, room: float
) -> tuple[list[tuple[str, Sequence[Value], float]], list[str]]:
    """The columns that fit, each with its right edge in points, and the headings of the others."""
    left = max(text_width(line, size) for s in series for line in s.label.split("\n")) + 1.6 * size + _GAP
    shown: list[tuple[str, Sequence[Value], float]] = []
    lost: list[str] = []
    for heading, values in columns.items():
        width = max(text_width(word, size) for pair in values for word in pair)
        width = max(width, *(text_width(line, size, bold=True) for line in heading.split("\n")))
        if left + width > room or lost:
            lost.append(heading.replace("\n", " "))
            continue
        shown.append((heading, values, left + width))
        left += width + _GAP
    return shown, lost


def table_height(series: Sequence[Series], small: float) -> float:
    """Inches that a table of these models needs, caption included."""
    return (len(series) + 1) * 2.9 * small / 72 + 9 * small / 72


@panel("performance_table", PerformanceResult)
def performance_table(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Size of the sample, accuracy, loss and metrics of each model, with intervals.

    Args:
        ax: The axes.
        series: Performance results.
        pen: Sizes.
    """
    fill_performance(ax, series, {}, pen)


def fill_performance(ax: Axes, series: Sequence[Series], more: Mapping[str, Sequence[Value]], pen: Pen) -> None:
    """The performance table with further columns.

    Args:
        ax: The axes.
        series: Performance results.
        more: Values by heading, one per series; they stand before the models' other metrics.
        pen: Sizes.
    """
    results: list[Any] = [s.result for s in series]
    names = sorted({name for r in results for name in r.metrics}, key=lambda n: -sum(n in r.metrics for r in results))
    losses = {r.loss_name for r in results if r.loss_name}
    columns: dict[str, Sequence[Value]] = {"n": [(str(r.n), "") for r in results]}
    columns["Accuracy"] = [with_interval(r.accuracy) for r in results]
    columns["Loss"] = [with_interval(r.loss) for r in results]
    columns |= more
    columns |= {
        displayable(name).replace("_", " "): [with_interval(r.metrics.get(name)) for r in results]
        for name in names
        if name not in ("accuracy", "loss")
    }
    columns = {heading: values for heading, values in columns.items() if any(v != "–" for v, _ in values)}
    lost = draw_table(ax, series, columns, pen)
    loss = f"loss: {', '.join(sorted(map(displayable, losses)))}; " if losses else ""
    also = f"also in the results file: {', '.join(lost)}" if lost else ""
    caption(ax, pen, "Performance", f"{loss}brackets: 95% intervals", also)


@panel("training_table", TrainingResult)
def training_table(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Peak, convergence, overfitting and stability of each training.

    Args:
        ax: The axes.
        series: Training results.
        pen: Sizes.
    """
    results: list[Any] = [s.result for s in series]
    columns: dict[str, Sequence[Value]] = {
        "runs ×\nepochs": [(f"{r.n_runs} × {int(r.epochs.max(initial=0))}", "") for r in results],
        "best\nperformance": [_best(r) for r in results],
        "at\nepoch": [_of(r.peak_performance and r.peak_performance.epoch, 0) for r in results],
        "epochs to\nconverge": [_of(r.epochs_to_convergence, 0) for r in results],
        "overfitting\nindex": [_of(r.overfitting_index) for r in results],
        "stability\n(std)": [_of(r.training_stability_score) for r in results],
        "final\ngap": [_of(r.final_gap) for r in results],
        "evaluated\ngap": [_of(r.evaluated_gap) for r in results],
        "corrected\nconverge": [_of(r.corrected_epochs_to_convergence, 0) for r in results],
        "corrected\npeak": [_of(r.peak_performance and r.peak_performance.corrected) for r in results],
        "detrended\nstability": [_of(r.detrended_stability) for r in results],
        "plateau\nfrom epoch": [_of(r.plateau_epoch, 0) for r in results],
    }
    columns = {heading: values for heading, values in columns.items() if any(v != "–" for v, _ in values)}
    lost = draw_table(ax, series, columns, pen)
    also = f"also in the results file: {', '.join(lost)}" if lost else ""
    caption(
        ax,
        pen,
        "Training in numbers",
        "convergence: 95% of the best validation performance; overfitting index: "
        "mean of validation − training loss over the last third; stability: of the last validation losses; "
        "brackets: 95% t intervals over runs",
        also,
    )


def _of(estimate: Estimate | None, digits: int = 3) -> Value:
    if digits == 0 and estimate is not None and estimate.value is not None:
        return (f"{estimate.value:.4g}", interval(estimate, 1))
    return with_interval(estimate, digits)


def _best(result: TrainingResult) -> Value:
    peak = result.peak_performance
    return ("–", "") if peak is None else (number(peak.value.value), displayable(peak.series))
