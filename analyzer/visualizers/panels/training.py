"""Training curves, gap and best epochs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes

from analyzer.data_types.metric_names import Metric
from analyzer.data_types.training import Curve, TrainingResult
from analyzer.visualizers.panels.base import caption, panel, plain_log, whole_numbers
from analyzer.visualizers.panels.training_marks import Floats, centre, mark_evaluated, mark_findings, mark_rate_steps
from analyzer.visualizers.series import Pen, Series, error_bar, value_of
from analyzer.visualizers.style import MUTED
from analyzer.visualizers.text import displayable

LOG_FROM = 20.0
"""Ratio of the largest to the smallest value from which an axis is logarithmic."""


@panel("loss", TrainingResult)
def loss(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Training and validation loss by epoch; what went wrong and steps of the learning rate are marked.

    Args:
        ax: The axes.
        series: Training results.
        pen: Sizes.
    """
    marks = [mark for s in series for mark in (mark_findings(ax, s, pen), mark_rate_steps(ax, s, pen)) if mark]
    _curves(ax, series, pen, "Loss", lambda result: result.loss, marks)


@panel("performance", TrainingResult)
def performance(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Training and validation performance by epoch, the best epoch marked; the commonest metric where they differ.

    Args:
        ax: The axes.
        series: Training results.
        pen: Sizes.
    """
    known = [s.result.performance.name for s in series if s.result.performance is not None]
    common = Counter(known).most_common(1)[0][0] if known else ""

    def metric_of(result: TrainingResult) -> Metric | None:
        return result.performance if result.performance is not None and result.performance.name == common else None

    starred = [s for s in series if metric_of(s.result) and s.result.peak_performance and s.result.n_runs == 1]
    marks = ["★ best epoch"] if starred else []
    _curves(ax, series, pen, "Performance", metric_of, marks)
    for s in starred:
        peak = s.result.peak_performance
        if peak is not None:
            ax.plot(
                value_of(peak.epoch),
                value_of(peak.value),
                marker="*",
                color=s.color,
                markersize=0.95 * pen.font,
                markeredgecolor="black",
                markeredgewidth=0.5 * pen.line,
                linestyle="none",
                zorder=5,
            )


def _curves(
    ax: Axes,
    series: Sequence[Series],
    pen: Pen,
    title: str,
    metric_of: Callable[[TrainingResult], Metric | None],
    marks: Sequence[str],
) -> None:
    names: list[str] = []
    values: list[Floats] = []
    without: list[str] = []
    for s in series:
        metric = metric_of(s.result)
        logged = [] if metric is None else [name for name in (metric.train, metric.validation) if name]
        if metric is None or not logged:
            without.append(s.label.replace("\n", ""))
            continue
        names.append(metric.name)
        for name in logged:
            _one_curve(ax, s, s.result.curves[name], pen, validation=name == metric.validation)
            values.append(s.result.curves[name].raw)
    finite = np.concatenate([v[np.isfinite(v)] for v in values]) if values else np.empty(0)
    if finite.size and finite.min() > 0 and finite.max() > LOG_FROM * finite.min():
        ax.set_yscale("log")
        plain_log(ax.yaxis)
    whole_numbers(ax.xaxis)
    ax.set_xlabel("Epoch")
    ax.set_ylabel(displayable(" / ".join(dict.fromkeys(names))), parse_math=False)
    ax.grid(visible=True)
    absent = f"another metric or none: {', '.join(without)}" if without else ""
    caption(
        ax,
        pen,
        title,
        "; ".join(filter(None, ["solid: validation, dashed: training", _meaning(series, pen), *dict.fromkeys(marks)])),
        absent,
    )


def _meaning(series: Sequence[Series], pen: Pen) -> str:
    windows = {s.result.smoothing_window for s in series} - {None, 1}
    runs = max(s.result.n_runs for s in series)
    smooth = f"smoothed over {', '.join(map(str, sorted(windows)))} epochs" if windows else ""
    faint = "faint: as logged" if windows and pen.extras else ""
    interval = " with 95% t interval" if pen.extras else ""
    band = f"mean of up to {runs} runs{interval}" if runs > 1 else "one run each"
    return "; ".join(filter(None, [smooth, faint, band]))


def _one_curve(ax: Axes, s: Series, curve: Curve, pen: Pen, *, validation: bool) -> None:
    epochs, line = s.result.epochs, centre(curve)
    if pen.extras and curve.band is not None:
        ax.fill_between(epochs, curve.band.low, curve.band.high, color=s.color, alpha=0.15, linewidth=0)
    elif pen.extras and curve.smoothed is not None:
        ax.plot(epochs, curve.raw[0], color=s.color, alpha=0.25, linewidth=0.6 * pen.line)
    step = max(1, int(np.isfinite(line).sum()) // 5)
    known = np.isfinite(line)
    ax.plot(
        epochs[known],
        line[known],
        color=s.color,
        linestyle="-" if validation else (0, (3, 1.5)),
        marker=s.marker if validation or known.sum() == 1 else None,
        markevery=step,
        markerfacecolor=s.color if validation else "white",
    )


@panel("gap", TrainingResult)
def gap(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Validation loss minus training loss by epoch, and evaluated alike at the end where that was asked for.

    Args:
        ax: The axes.
        series: Training results.
        pen: Sizes.
    """
    ax.axhline(0, color=MUTED, linewidth=0.8 * pen.line, linestyle=(0, (4, 2)))
    without: list[str] = []
    for s in series:
        if s.result.gap is None:
            without.append(s.label.replace("\n", ""))
            continue
        line, band = centre(s.result.gap), s.result.gap.band
        known = np.isfinite(line)
        if pen.extras and band is not None:
            ax.fill_between(s.result.epochs, band.low, band.high, color=s.color, alpha=0.15, linewidth=0)
        ax.plot(
            s.result.epochs[known],
            line[known],
            color=s.color,
            linestyle=s.linestyle,
            marker=s.marker,
            markevery=max(1, int(known.sum()) // 5),
        )
    whole_numbers(ax.xaxis)
    ax.set_xlabel("Epoch")
    ax.set_ylabel("Validation − training loss")
    ax.grid(visible=True)
    absent = f"one of the two losses was not logged: {', '.join(without)}" if without else ""
    logged = "as logged: with dropout the training loss reads high, the gap low"
    evaluated = mark_evaluated(ax, series, pen)
    caption(ax, pen, "Overfitting: gap of the losses", "; ".join(filter(None, [logged, evaluated])), absent)


@panel("best_epoch", TrainingResult)
def best_epoch(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Best validation performance against the epoch at which it was reached.

    Args:
        ax: The axes.
        series: Training results.
        pen: Sizes.
    """
    peaks = [(s, s.result.peak_performance) for s in series if s.result.peak_performance is not None]
    common = Counter(peak.series for _, peak in peaks).most_common(1)
    for s, peak in ((s, peak) for s, peak in peaks if peak.series == common[0][0]):
        ax.errorbar(
            value_of(peak.epoch),
            value_of(peak.value),
            xerr=error_bar([peak.epoch]),
            yerr=error_bar([peak.value]),
            fmt=s.marker,
            color=s.color,
            markersize=0.95 * pen.font,
            markeredgecolor="white",
            markeredgewidth=0.5 * pen.line,
            elinewidth=0.9 * pen.line,
            capsize=1.5 * pen.line,
        )
        if pen.extras and peak.corrected.value is not None:
            ax.plot(value_of(peak.epoch), peak.corrected.value, marker="_", color=s.color, markersize=0.95 * pen.font)
    out = [
        s.label.replace("\n", "")
        for s in series
        if s.result.peak_performance is None or s.result.peak_performance.series != common[0][0]
    ]
    ax.margins(0.12)
    whole_numbers(ax.xaxis)
    ax.set_xlabel("Best epoch")
    ax.set_ylabel(displayable(f"Best {common[0][0]}") if common else "Best performance", parse_math=False)
    ax.grid(visible=True)
    dash = "dash: without the luck of having looked at many epochs; " if pen.extras else ""
    caption(
        ax,
        pen,
        "Best epoch performance",
        f"{dash}runs: {', '.join(sorted({str(s.result.n_runs) for s in series}))}",
        f"another metric or none: {', '.join(out)}" if out else "",
    )
