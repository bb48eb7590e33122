"""What is wrong with activations: a table of layers by kinds of trouble, each model a strip of its column."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from analyzer.data_types.information_flow import InformationFlowResult, LayerFlow
from analyzer.visualizers.layout import MARGIN
from analyzer.visualizers.panels.base import caption, label_indent, name_rows, panel, text_on
from analyzer.visualizers.panels.flow_rows import (
    MARKS,
    LayerRows,
    color_names,
    draw_breaks,
    in_order,
    samples,
    what_is_left,
)
from analyzer.visualizers.panels.layers import SEVERITY
from analyzer.visualizers.series import Pen, Series
from analyzer.visualizers.style import HEALTH_MAP
from analyzer.visualizers.text import text_width


@dataclass(frozen=True, kw_only=True)
class Column:
    """One kind of trouble.

    Attributes:
        heading: What stands below the column.
        share: Share of units (or values) of a layer, or None where it is not judged.
        units: The same in units, where it is a count of them.
        kinds: Findings that mark it.
        sick: Whether a large share is trouble by itself.
    """

    heading: str
    share: Callable[[LayerFlow], float | None]
    units: Callable[[LayerFlow], int | None] = lambda layer: None  # noqa: ARG005 - the default: no count
    kinds: tuple[str, ...] = ()
    sick: bool = True


def _part(layer: LayerFlow, units: int | None) -> float | None:
    return None if units is None or layer.n_units == 0 else units / layer.n_units


COLUMNS = (
    Column(
        heading="Dead",
        share=lambda layer: _part(layer, layer.dead_units),
        units=lambda layer: layer.dead_units,
        kinds=("dead_units",),
    ),
    Column(
        heading="Saturated",
        share=lambda layer: _part(layer, layer.saturated_units),
        units=lambda layer: layer.saturated_units,
        kinds=("saturated_units",),
    ),
    Column(
        heading="Dormant",
        share=lambda layer: None if layer.dormant_ratio is None else layer.dormant_ratio.value,
        kinds=("dormant_units",),
    ),
    Column(
        heading="Duplicate",
        share=lambda layer: _part(layer, layer.duplicate_units),
        units=lambda layer: layer.duplicate_units,
        kinds=("duplicate_units",),
    ),
    Column(
        heading="Not finite",
        share=lambda layer: _part(layer, layer.not_finite_units),
        units=lambda layer: layer.not_finite_units,
        kinds=("not_finite",),
    ),
    Column(heading="Zeros", share=lambda layer: layer.sparsity, sick=False),
)

_ZEROS_MAP = matplotlib.colormaps["Greys"]


@panel("flow_health", InformationFlowResult)
def flow_health(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Shares of dead, saturated, dormant, duplicate and broken units of each layer, and of zeros.

    Args:
        ax: The axes.
        series: Models of one architecture.
        pen: Sizes.
    """
    rows = LayerRows.of(series, pen.most_layers)
    labels = rows.names(pen)
    room = pen.points - label_indent(labels, pen) - 2 * MARGIN * 72 - pen.small
    shares = [np.array([_shares(layer) for layer in rows.layers(s)]) for s in series]
    table = np.stack(shares, axis=2).reshape(len(rows.ids), -1)
    _draw_table(ax, table, len(series), pen)
    _write_cells(ax, rows, table, room / table.shape[1], pen)
    name_rows(ax, labels, places=[i + 0.5 for i in range(len(rows.ids))])
    color_names(ax, rows)
    ax.set_ylim(len(rows.ids), 0)
    draw_breaks(ax, rows, pen, 1.0)
    _name_columns(ax, series, room)
    strips = "" if len(series) == 1 else _strips(series, pen)
    caption(
        ax,
        pen,
        "Activation health",
        f"{samples(series)}{_kept(series)}; shares of units, zeros: of values; hatched: not judged or not applicable",
        strips,
        *what_is_left(rows, pen),
    )


def _kept(series: Sequence[Series]) -> str:
    """The smaller number of samples behind what rests on kept rows, where it is smaller."""
    known = [s.result for s in series if s.result.n_kept]
    fewer = any(result.n_kept < result.n for result in known)
    return f" ({samples(series, kept=True)} for saturated, dormant, duplicate)" if fewer else ""


def _shares(layer: LayerFlow) -> list[float]:
    found = [column.share(layer) for column in COLUMNS]
    return [math.nan if share is None else share for share in found]


def _color(share: float, column: Column) -> tuple[float, ...]:
    """Green for none to red for all; the square root keeps small shares visible. Zeros are in grey."""
    return tuple(HEALTH_MAP(1 - math.sqrt(share)) if column.sick else _ZEROS_MAP(0.6 * share))


def _draw_table(ax: Axes, table: NDArray[np.float64], models: int, pen: Pen) -> None:
    image = np.ones((*table.shape, 4))
    for (i, j), share in np.ndenumerate(table):
        if math.isfinite(share):
            image[i, j] = _color(share, COLUMNS[j // models])
    ax.pcolormesh(image, edgecolors="white", linewidth=(0.8 if models <= 4 else 0.3) * pen.line)
    unknown = np.ma.masked_where(np.isfinite(table), np.ones(table.shape))
    ax.pcolor(unknown, cmap=ListedColormap(["#FAFAFA"]), hatch="//////", edgecolor="#CFCFCF", linewidth=0)
    for k in range(1, len(COLUMNS)):
        ax.axvline(k * models, color="white", linewidth=3 * pen.line)
    for side in ax.spines.values():
        side.set_visible(False)


def _write_cells(ax: Axes, rows: LayerRows, table: NDArray[np.float64], width: float, pen: Pen) -> None:
    """Percentages with marks of findings, counts of units where there is room; marks alone where there is little."""
    models = len(rows.series)
    words, counts, marks = {}, {}, {}
    for j, s in enumerate(rows.series):
        for i, layer in enumerate(rows.layers(s)):
            for k, column in enumerate(COLUMNS):
                at = (i, k * models + j)
                marks[at] = _mark(s, layer, column)
                if math.isfinite(table[at]):
                    words[at] = percent(float(table[at]))
                    units = column.units(layer)
                    counts[at] = f"  {units} of {layer.n_units}" if units else ""
    long = {at: f"{marks[at]} {word}{counts[at]}".strip() for at, word in words.items()}
    short = {at: f"{marks[at]}{word}" for at, word in words.items()}
    for texts in (long, short, {at: mark for at, mark in marks.items() if mark}):
        if max((text_width(text, pen.small, bold=True) for text in texts.values()), default=0.0) < 0.94 * width:
            break
    for (i, j), text in texts.items():
        known = math.isfinite(table[i, j])
        color = text_on(_color(float(table[i, j]), COLUMNS[j // models])) if known else "black"
        weight = "bold" if marks[i, j] else "normal"
        ax.text(j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=pen.small, color=color, fontweight=weight)


def _mark(s: Series, layer: LayerFlow, column: Column) -> str:
    found = [
        SEVERITY[finding.severity]
        for finding in s.result.findings
        if finding.layer == layer.id and finding.kind in column.kinds
    ]
    return MARKS[max(found)] if found else ""


def percent(share: float) -> str:
    """A share for people; what is above zero is never rounded to it, nor what is below one to that.

    Args:
        share: From 0 to 1.
    """
    if 0 < share < 0.005:
        return "<1%"
    if 0.995 <= share < 1:
        return ">99%"
    return f"{share:.0%}"


def _name_columns(ax: Axes, series: Sequence[Series], room: float) -> None:
    """Headings below the columns and, of several models, the mark of each below its strip."""
    models = len(series)
    ax.set_xticks([(k + 0.5) * models for k in range(len(COLUMNS))], labels=[c.heading for c in COLUMNS])
    size = min(float(matplotlib.rcParams["lines.markersize"]), 0.75 * room / (models * len(COLUMNS)))
    marked = models > 1
    ax.tick_params(length=0, pad=(2.5 * size if marked else 0) + 2)
    if not marked:
        return
    below = ax.get_xaxis_transform() + ScaledTranslation(0, -1.2 * size / 72, ax.figure.dpi_scale_trans)
    for j, s in enumerate(series):
        at = [k * models + j + 0.5 for k in range(len(COLUMNS))]
        ax.plot(
            at,
            [0] * len(at),
            linestyle="none",
            marker=s.marker,
            color=s.color,
            markersize=size,
            clip_on=False,
            transform=below,
        )


def _strips(series: Sequence[Series], pen: Pen) -> str:
    """What the strips of a column are."""
    if pen.keyed:
        return "green: none, red: all; in each column one strip per model, its mark below"
    return pen.one_line(f"green: none, red: all; strips from left to right: {in_order(series)}")
