"""Reliability diagrams: how often predictions of a given confidence are right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from analyzer.data_types.calibration import ClassificationCalibration, LabelCalibration, MultiLabelCalibration
from analyzer.visualizers.panels.base import caption, panel
from analyzer.visualizers.series import Pen, Series, interval, number
from analyzer.visualizers.style import MUTED
from analyzer.visualizers.text import displayable

COUNT_HEIGHT = 0.16
"""Share of the panel's height that the tallest bar of counts takes."""


@panel("reliability", ClassificationCalibration, MultiLabelCalibration, LabelCalibration)
def reliability(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Share correct against mean confidence, with counts, consistency band and smooth curve.

    Args:
        ax: The axes.
        series: Classification results; of a multi-label result, the label with the greatest ECE.
        pen: Sizes.
    """
    parts = [(s, diagram_of(s.result)) for s in series]
    ax.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8 * pen.line, linestyle=(0, (4, 2)), zorder=1)
    for s, part in parts:
        _draw_one(ax, s, part, pen, alone=len(parts) == 1)
    lowest = min(float(part.reliability.lower.min()) for _, part in parts)
    ax.set_xlim(lowest - 0.02 * (1 - lowest), 1 + 0.02 * (1 - lowest))
    ax.set_ylim(-0.02, 1.02)
    labels = any(isinstance(part, LabelCalibration) for _, part in parts)
    ax.set_xlabel("Mean predicted probability" if labels else "Mean confidence")
    ax.set_ylabel("Share positive" if labels else "Share correct")
    ax.grid(visible=True)
    summaries = [_summary(s, part, many=len(parts) > 1, named=pen.heading is not None) for s, part in parts]
    caption(ax, pen, _title(parts), *summaries, _legend(parts, pen))


def diagram_of(result: Any) -> Any:
    """The result whose bins are drawn: the worst label of a multi-label output, else the result itself."""
    if isinstance(result, MultiLabelCalibration):
        return next(label for label in result.labels if label.name == result.worst_label)
    return result


def _draw_one(ax: Axes, s: Series, part: Any, pen: Pen, *, alone: bool) -> None:
    bins, curve = part.reliability, part.smooth_curve
    if pen.extras and bins.count.size > 1:
        ax.fill_between(bins.confidence, bins.band_low, bins.band_high, color=s.color, alpha=0.14, linewidth=0)
    elif pen.extras:
        ax.vlines(bins.confidence, bins.band_low, bins.band_high, color=s.color, alpha=0.25, linewidth=5 * pen.line)
    if pen.extras and curve.confidence.size > 1:
        ax.plot(curve.confidence, curve.accuracy, color=s.color, linestyle=s.linestyle, zorder=3)
    dots = "none" if pen.extras else s.linestyle
    ax.plot(
        bins.confidence,
        bins.accuracy,
        color=s.color,
        marker=s.marker,
        linestyle=dots,
        label=s.label,
        zorder=4,
        markeredgecolor="white",
        markeredgewidth=0.4 * pen.line,
    )
    height = COUNT_HEIGHT * bins.count / bins.count.max()
    style: dict[str, Any] = {"color": "#BDBDBD"} if alone else {"facecolor": "none", "edgecolor": s.color}
    ax.bar(bins.lower, height, bins.upper - bins.lower, align="edge", linewidth=0.5 * pen.line, zorder=1.5, **style)


def _title(parts: Sequence[tuple[Series, Any]]) -> str:
    labels = {part.name for _, part in parts if isinstance(part, LabelCalibration)}
    return f"Reliability of label {displayable(labels.pop())}" if len(labels) == 1 else "Reliability"


def _summary(s: Series, part: Any, *, many: bool, named: bool) -> str:
    label = f"label {displayable(part.name)}: " if (many or named) and isinstance(part, LabelCalibration) else ""
    name = f"{s.label.replace(chr(10), '')}: " if many else ""
    ece = " ".join(filter(None, ["ECE", number(part.ece.value), interval(part.ece)]))
    return f"{name}{label}{ece}, n = {part.n}; {part.verdict.direction}"


def _legend(parts: Sequence[tuple[Series, Any]], pen: Pen) -> str:
    most = " / ".join(str(int(part.reliability.count.max())) for _, part in parts)
    if pen.heading is not None:
        return f"tallest bar: {most} rows"
    return f"{explanation(parts[0][1].reliability.band_level, extras=pen.extras)}, tallest {most}"


def explanation(level: float, *, extras: bool) -> str:
    """What the marks of a reliability diagram mean."""
    band = f"band: {level:.0%} if calibrated; line: smoothed; " if extras else ""
    return f"{band}bars: rows per bin"
