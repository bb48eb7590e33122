"""A whole figure: title, key of the models, rows of panels, notes. Heights are counted in inches, nothing overlaps."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from analyzer.visualizers.series import Pen, Series
from analyzer.visualizers.style import MUTED, PlotStyle
from analyzer.visualizers.text import NameBook, text_width, wrap

MARGIN = 0.08
"""Inches of white around everything."""

_LEADING = 1.25


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One panel of a row.

    Attributes:
        draw: Draws it.
        width: Its share of the row, relative to the other cells.
    """

    draw: Callable[[Axes, Pen], None]
    width: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Row:
    """Panels side by side.

    Attributes:
        cells: From left to right.
        height: In inches.
    """

    cells: tuple[Cell, ...]
    height: float


def cell(panel: Callable[..., Any], series: Sequence[Series], *, width: float = 1.0, **options: Any) -> Cell:
    """A panel function with what it draws.

    Args:
        panel: ``panel(ax, series, pen)``.
        series: What it draws.
        width: Its share of the row.
        options: Fields of `Pen` that this panel sees differently.
    """
    return Cell(draw=lambda ax, pen: panel(ax, series, dataclasses.replace(pen, **options)), width=width)


def compose(
    title: str, rows: Sequence[Row], key: Sequence[Series], notes: Sequence[str], style: PlotStyle, book: NameBook
) -> Figure:
    """Draw a figure; call it within `style_context`.

    Args:
        title: What the figure is about.
        rows: The panels.
        key: The models, for the legend.
        notes: Sentences below the panels.
        style: The plot style.
        book: Labels; what panels shorten is listed below them.
    """
    figure = Figure(figsize=(style.width, style.panel_height))
    grid = figure.add_gridspec(len(rows), 1, height_ratios=[row.height for row in rows])
    for i, row in enumerate(rows):
        shares = [c.width for c in row.cells]
        columns = grid[i].subgridspec(1, len(row.cells), width_ratios=shares)
        for j, one in enumerate(row.cells):
            width = style.width * one.width / sum(shares)
            one.draw(figure.add_subplot(columns[j]), Pen.of(style, width=width, book=book))
    lines = _note_lines([*notes, *book.notes()], style)
    columns, key_height = _key_size(key, style)
    header = 2 * MARGIN + (style.font + 3) * _LEADING / 72 + key_height
    footer = MARGIN + len(lines) * style.small * _LEADING / 72 + (MARGIN if lines else 0)
    height = header + sum(row.height for row in rows) + footer
    figure.set_size_inches(style.width, height)
    _write_header(figure, title, key, columns, style)
    if lines:
        figure.text(MARGIN / style.width, MARGIN / height, "\n".join(lines), fontsize=style.small, color=MUTED,
                    va="bottom", linespacing=_LEADING, in_layout=False)
    pad = 0.5 * MARGIN
    rect = (0.0, footer / height, 1.0, 1 - (header + footer) / height)
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=rect, w_pad=pad, h_pad=pad, wspace=0.03, hspace=0.03))
    return figure


def _note_lines(notes: Sequence[str], style: PlotStyle) -> list[str]:
    room = (style.width - 2 * MARGIN) * 72
    return [line for note in notes for line in wrap(note, room, style.small)]


def _key_size(key: Sequence[Series], style: PlotStyle) -> tuple[int, float]:
    """Columns and height of the key."""
    if not key:
        return 1, 0.0
    widest = max(text_width(line, style.font) for s in key for line in s.label.split("\n"))
    columns = max(1, int((style.width - 2 * MARGIN) * 72 / (widest + 4.5 * style.font)))
    columns = min(columns, len(key))
    lines = max(s.label.count("\n") + 1 for s in key)
    each = lines * style.font * _LEADING + 0.5 * style.font
    return columns, math.ceil(len(key) / columns) * each / 72


def _write_header(figure: Figure, title: str, key: Sequence[Series], columns: int, style: PlotStyle) -> None:
    width, height = figure.get_size_inches()
    top = 1 - MARGIN / height
    figure.text(MARGIN / width, top, title, fontsize=style.font + 3, fontweight="bold", va="top", in_layout=False)
    if not key:
        return
    below = top - (style.font + 3) * _LEADING / 72 / height
    handles = [Line2D([], [], color=s.color, marker=s.marker, linestyle=s.linestyle) for s in key]
    legend = figure.legend(
        handles,
        [str(i) for i in range(len(key))],
        loc="upper left",
        bbox_to_anchor=(MARGIN / width, below),
        ncols=columns,
        borderaxespad=0,
        borderpad=0.2,
        handlelength=2.2,
        columnspacing=1.2,
        labelspacing=0.4,
    )
    legend.set_in_layout(False)
    # Set afterwards: a legend drops labels that begin with an underscore, and models may be called so.
    for text, s in zip(legend.get_texts(), key, strict=True):
        text.set_parse_math(False)
        text.set_text(s.label)
