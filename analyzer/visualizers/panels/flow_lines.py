"""How values of layers are drawn: lines through the rows, marks beside them, axes and captions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from analyzer.data_types.values import Estimate
from analyzer.visualizers.panels.base import caption, name_rows, plain_log
from analyzer.visualizers.panels.flow_rows import (
    MARK_COLORS,
    LayerRows,
    Read,
    Value,
    color_names,
    draw_breaks,
    number_of,
    what_is_left,
)
from analyzer.visualizers.panels.layers import worst_severity
from analyzer.visualizers.series import Pen, Series, error_bar

DETAILED_UP_TO = 2
"""Models up to which a panel draws more than one quantity."""

MOST_POWERS = 4
"""Numbers on a logarithmic axis."""


def positive(value: Value) -> Value:
    """The same, or None where a logarithmic axis cannot show it.

    Args:
        value: A number or an estimate.
    """
    return value if 0 < number_of(value) < math.inf else None


def draw_values(ax: Axes, rows: LayerRows, s: Series, read: Read, pen: Pen) -> None:
    """The line of one model through the layers, with intervals; it is interrupted where a layer has no value.

    Args:
        ax: The axes.
        rows: The layers.
        s: The model.
        read: What is drawn.
        pen: Sizes.
    """
    at = [i + rows.offset(s) for i in range(len(rows.ids))]
    values = rows.values(s, read)
    ax.plot(values, at, color=s.color, marker=s.marker, linestyle=s.linestyle, linewidth=0.8 * pen.line)
    raw = [read(layer) for layer in rows.layers(s)]
    known = [(y, e) for y, e in zip(at, raw, strict=True) if isinstance(e, Estimate) and e.value is not None]
    bars = error_bar([e for _, e in known]) if known else None
    if bars is not None:
        ends = [float(e) for _, e in known]
        ax.errorbar(ends, [y for y, _ in known], xerr=bars, fmt="none", ecolor=s.color, elinewidth=0.8 * pen.line)


def draw_beside(ax: Axes, rows: LayerRows, s: Series, read: Read, pen: Pen, marker: str | None = None) -> None:
    """A second quantity of one model: hollow marks without a line.

    Args:
        ax: The axes.
        rows: The layers.
        s: The model.
        read: What is drawn.
        pen: Sizes.
        marker: Mark; None takes that of the model.
    """
    at = [i + rows.offset(s) for i in range(len(rows.ids))]
    ax.plot(
        rows.values(s, read),
        at,
        linestyle="none",
        color=s.color,
        marker=marker or s.marker,
        markerfacecolor="white" if marker is None else None,
        markeredgewidth=0.8 * pen.line,
    )


def draw_zeros(ax: Axes, rows: LayerRows, s: Series, read: Read) -> bool:
    """A triangle at the left edge of a logarithmic axis, where a number is zero; returns whether there is any."""
    values = rows.values(s, read)
    at = [i + rows.offset(s) for i, value in enumerate(values) if value == 0]
    ax.plot([0.02] * len(at), at, linestyle="none", marker=8, color=s.color, transform=ax.get_yaxis_transform())
    return bool(at)


def log_axis(ax: Axes, label: str) -> None:
    """A logarithmic x axis with plain numbers that shows two powers of ten at least.

    Args:
        ax: The axes, drawn already.
        label: What is on it.
    """
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    if high / low < 100:
        middle = math.sqrt(low * high)
        ax.set_xlim(min(low, middle / 10), max(high, middle * 10))
    ax.xaxis.set_major_locator(LogLocator(numticks=MOST_POWERS))
    plain_log(ax.xaxis)
    ax.set_xlabel(label)


def share_axis(ax: Axes, label: str) -> None:
    """An x axis from 0 to 1 that reaches below zero, to −1 at most, where values do.

    Args:
        ax: The axes, drawn already.
        label: What is on it.
    """
    low = min(-0.03, ax.get_xlim()[0]) if ax.dataLim.x0 < 0 else -0.03
    ax.set_xlim(max(-1.05, low), 1.05)
    ax.set_xlabel(label)


def finish(
    ax: Axes, rows: LayerRows, pen: Pen, title: str, sizes: str, *details: str, kinds: Sequence[str] = ()
) -> None:
    """Name the rows, mark what findings name, show where layers are left out, and write the caption.

    Args:
        ax: The axes.
        rows: The layers.
        pen: Sizes.
        title: Title of the panel.
        sizes: How many samples it rests on.
        details: What its marks mean.
        kinds: Findings that this panel shows.
    """
    name_rows(ax, rows.names(pen))
    color_names(ax, rows)
    ax.set_ylim(len(rows.ids) - 0.5, -0.5)
    ax.grid(visible=True, axis="x")
    draw_breaks(ax, rows, pen, 0.5)
    shaded = _shade(ax, rows, kinds)
    words = "; ".join([sizes, *(d for d in details if d), *(["shaded: finding"] if shaded else [])])
    caption(ax, pen, title, words, *what_is_left(rows, pen))


def _shade(ax: Axes, rows: LayerRows, kinds: Sequence[str]) -> bool:
    """Shade the rows that findings of these kinds name; returns whether there are any."""
    levels = worst_severity([f for s in rows.series for f in s.result.findings if f.kind in kinds])
    marked = [(i, levels[key]) for i, key in enumerate(rows.ids) if levels.get(key)]
    for i, level in marked:
        ax.axhspan(i - 0.5, i + 0.5, color=MARK_COLORS[level], alpha=0.13, linewidth=0, zorder=0)
    return bool(marked)
