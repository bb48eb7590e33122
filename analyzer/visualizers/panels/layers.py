"""Axes whose rows are layers: which ones are shown, what they are called, and tables of coloured cells."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from numpy.typing import NDArray

from analyzer.data_types.values import Finding
from analyzer.visualizers.panels.base import name_rows, text_on
from analyzer.visualizers.series import Pen, Series
from analyzer.visualizers.text import text_width

T = TypeVar("T")
MOST_NAMED = 40
"""Layers whose names stand on one axis; of more, every k-th is named."""

SEVERITY = {"info": 0, "warning": 1, "error": 2}


def by_architecture(series: Sequence[Series]) -> list[list[Series]]:
    """Series whose results have the same layers in the same order belong to one panel."""
    groups: dict[tuple[str, ...], list[Series]] = {}
    for s in series:
        groups.setdefault(tuple(layer.id for layer in s.result.layers), []).append(s)
    return list(groups.values())


def worst_severity(findings: Sequence[Finding]) -> dict[str, int]:
    """0 (information), 1 (warning) or 2 (error) by layer id, for layers that findings name."""
    worst: dict[str, int] = {}
    for finding in findings:
        if finding.layer is not None:
            worst[finding.layer] = max(worst.get(finding.layer, 0), SEVERITY[finding.severity])
    return worst


def most_important(items: Sequence[T], limit: int | None, importance: Callable[[int], Any]) -> list[T]:
    """The items that matter most, in the order in which they came.

    Args:
        items: All of them.
        limit: Most to keep; None keeps all.
        importance: Larger is more important, by index.
    """
    if limit is None or len(items) <= limit:
        return list(items)
    ranked = sorted(range(len(items)), key=lambda i: (importance(i), -i), reverse=True)
    return [items[i] for i in sorted(ranked[:limit])]


def left_out(shown: int, total: int) -> str:
    """``188 of 200 layers not shown``, or nothing."""
    return f"{total - shown} of {total} layers not shown" if shown < total else ""


def name_some_rows(ax: Axes, ids: Sequence[str], pen: Pen) -> str:
    """Names of layers on the y axis, of every k-th layer where they are many.

    Args:
        ax: The axes.
        ids: All layers, one per row.
        pen: Sizes.

    Returns:
        A note where some are left out, else nothing.
    """
    step = math.ceil(len(ids) / MOST_NAMED)
    named = range(0, len(ids), step)
    labels = [pen.layer(ids[i]) for i in named] if pen.row_names else [""] * len(named)
    name_rows(ax, labels, places=list(named))
    ax.set_ylim(len(ids) - 0.5, -0.5)
    return every_kth(len(ids), step)


def every_kth(count: int, step: int) -> str:
    """``all 200 layers drawn, every 5th named``, or nothing where all are named."""
    return f"all {count} layers drawn, every {step}{_ordinal(step)} named" if step > 1 else ""


def _ordinal(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def rows_height(rows: int, style_small: float, most: int = MOST_NAMED) -> float:
    """Inches for this many rows of type."""
    return min(rows, most) * 1.75 * style_small / 72


def column_names(ax: Axes, group: Sequence[Series], pen: Pen, room: float) -> None:
    """Names of models below the columns of a table of cells, their marks where names do not fit, nothing for one.

    Args:
        ax: The axes.
        group: The models.
        pen: Sizes.
        room: Points for all columns together.
    """
    places = [i + 0.5 for i in range(len(group))]
    ax.set_xticks(places, labels=[""] * len(group))
    ax.tick_params(length=0)
    if len(group) == 1:
        return
    widest = max(text_width(line, pen.small) for s in group for line in s.label.split("\n"))
    fits = widest < 0.95 * room / len(group)
    if fits or not pen.keyed:
        ax.set_xticks(places, labels=[s.label for s in group], rotation=0 if fits else 90, parse_math=False)
        return
    for place, s in zip(places, group, strict=True):
        ax.plot(place, -0.045, marker=s.marker, color=s.color, clip_on=False, transform=ax.get_xaxis_transform())


def draw_cells(
    ax: Axes,
    values: NDArray[np.float64],
    words: Sequence[Sequence[str]],
    colors: Colormap,
    limits: tuple[float, float],
    pen: Pen,
) -> None:
    """A table of coloured cells with words in them; NaN is grey.

    Args:
        ax: The axes.
        values: ``(rows, columns)``.
        words: What stands in each cell.
        colors: Colour map.
        limits: Values at its ends.
        pen: Sizes.
    """
    ax.pcolormesh(
        np.ma.masked_invalid(values),
        cmap=colors.with_extremes(bad="#E6E6E6"),
        vmin=limits[0],
        vmax=limits[1],
        edgecolors="white",
        linewidth=0.8 * pen.line,
    )
    size = pen.small if values.shape[1] <= 8 else 0.85 * pen.small
    for (i, j), value in np.ndenumerate(values):
        color = text_on(colors((value - limits[0]) / (limits[1] - limits[0]))) if np.isfinite(value) else "black"
        ax.text(j + 0.5, i + 0.5, words[i][j], ha="center", va="center", fontsize=size, color=color)
    for side in ax.spines.values():
        side.set_visible(False)
