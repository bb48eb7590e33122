"""A whole figure: title, key of the models, rows of panels, notes. Heights are counted in inches, nothing overlaps."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from analyzer.visualizers.layout import MARGIN, PanelLayout, Place
from analyzer.visualizers.series import Pen, Series
from analyzer.visualizers.style import MUTED, PlotStyle
from analyzer.visualizers.text import NameBook, elide, text_width, wrap

_LEADING = 1.25

_BOLD = 0.85
"""Width of ordinary type over that of bold type."""


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
        columns: Places in the row; None for as many as cells. Places beyond the cells stay free.
    """

    cells: tuple[Cell, ...]
    height: float
    columns: int | None = None

    def spans(self) -> list[tuple[float, float]]:
        """Left and right end of each cell as a share of the row."""
        free = 0 if self.columns is None else self.columns - len(self.cells)
        ends = np.cumsum([0.0, *(one.width for one in self.cells)])
        whole = float(ends[-1]) + free
        return [(float(a) / whole, float(b) / whole) for a, b in pairwise(ends)]


def cell(panel: Callable[..., Any], series: Sequence[Series], *, width: float = 1.0, **options: Any) -> Cell:
    """A panel function with what it draws.

    Args:
        panel: ``panel(ax, series, pen)``.
        series: What it draws.
        width: Its share of the row.
        options: Fields of `Pen` that this panel sees differently.
    """
    return Cell(draw=lambda ax, pen: panel(ax, series, dataclasses.replace(pen, **options)), width=width)


def titled_cell(panel: Callable[..., Any], s: Series, what: str | None, *, width: float = 1.0, **options: Any) -> Cell:
    """A panel of one model, whose name is in its title where there are several models.

    Args:
        panel: ``panel(ax, series, pen)``.
        s: The model.
        what: The title before the name; None where one model has the figure for itself.
        width: Its share of the row.
        options: Fields of `Pen` that this panel sees differently.
    """

    def named(ax: Axes, pen: Pen) -> None:
        room = _BOLD * (pen.points - 2 * MARGIN * 72)
        heading = None if what is None else elide(f"{what}: {s.one_line}", room, pen.font + 1)
        panel(ax, [s], dataclasses.replace(pen, heading=heading, **options))

    return Cell(draw=named, width=width)


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
    axes = [_draw_row(figure, row, style, book) for row in rows]
    lines = _note_lines([*notes, *book.notes()], style)
    columns, key_height = _key_size(key, style)
    header = 2 * MARGIN + (style.font + 3) * _LEADING / 72 + key_height
    footer = MARGIN + len(lines) * style.small * _LEADING / 72 + (MARGIN if lines else 0)
    height = header + sum(row.height for row in rows) + footer
    figure.set_size_inches(style.width, height)
    _write_header(figure, title, key, columns, style)
    if lines:
        figure.text(
            MARGIN / style.width,
            MARGIN / height,
            "\n".join(lines),
            fontsize=style.small,
            color=MUTED,
            va="bottom",
            linespacing=_LEADING,
        )
    figure.set_layout_engine(PanelLayout(_places(axes, rows, header, height, style.width)))
    return figure


def _draw_row(figure: Figure, row: Row, style: PlotStyle, book: NameBook) -> list[Axes]:
    drawn = []
    for one, (left, right) in zip(row.cells, row.spans(), strict=True):
        ax = figure.add_axes((0.1, 0.1, 0.8, 0.8))
        width = (right - left) * style.width
        one.draw(ax, Pen.of(style, width=width, height=row.height, book=book, keyed=True))
        drawn.append(ax)
    return drawn


def _places(
    axes: Sequence[Sequence[Axes]], rows: Sequence[Row], header: float, height: float, width: float
) -> list[list[Place]]:
    """The box of each panel, with a margin to all sides, in fractions of the figure."""
    places = []
    top = header
    for drawn, row in zip(axes, rows, strict=True):
        y0, y1 = 1 - (top + row.height - MARGIN) / height, 1 - (top + 0.5 * MARGIN) / height
        boxes = [Bbox.from_extents(x0 + MARGIN / width, y0, x1 - MARGIN / width, y1) for x0, x1 in row.spans()]
        places.append([Place(axes=ax, box=box) for ax, box in zip(drawn, boxes, strict=True)])
        top += row.height
    return places


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
    figure.text(MARGIN / width, top, title, fontsize=style.font + 3, fontweight="bold", va="top")
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
    # Set afterwards: a legend drops labels that begin with an underscore, and models may be called so.
    for text, s in zip(legend.get_texts(), key, strict=True):
        text.set_parse_math(False)
        text.set_text(s.label)
