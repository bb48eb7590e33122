"""Maps of one model: its layers by their units, and by one another."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from analyzer.data_types.information_flow import InformationFlowResult, LayerFlow
from analyzer.visualizers.panels.base import caption, name_rows, panel, text_on
from analyzer.visualizers.panels.flow_rows import (
    LayerRows,
    color_names,
    draw_breaks,
    in_order,
    layer_name,
    mark_models,
    name_units,
    samples,
    say_nothing,
    what_is_left,
)
from analyzer.visualizers.panels.layers import every_kth
from analyzer.visualizers.series import Pen, Series
from analyzer.visualizers.style import MUTED

MOST_BINS = 96
"""Cells of one layer; of wider layers, neighbouring units share one."""

CLIP = 95
"""Percentile of a layer's magnitudes that has full colour: one loud unit does not pale the others."""

MOST_WRITTEN = 8
"""Layers up to which the numbers stand in the matrix of CKA."""

_UNITS_MAP = matplotlib.colormaps["RdBu"]
_SILENT, _BROKEN = "#8C8C8C", "#000000"


@panel("units", InformationFlowResult)
def units(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Mean activation of every unit of each layer, relative to the layer; of several models, one strip for each.

    Args:
        ax: The axes.
        series: Models of one architecture.
        pen: Sizes.
    """
    rows = LayerRows.of(series, pen.most_layers)
    binned = silent = broken = False
    for j, s in enumerate(series):
        for i, layer in enumerate(rows.layers(s)):
            if layer.n_units == 0:
                continue
            top, height = i + 0.06 + 0.88 * j / len(series), 0.88 / len(series)
            cells = unit_cells(layer)
            _draw_strip(ax, cells, top, height)
            binned |= layer.n_units > MOST_BINS
            silent |= bool((cells == _ZERO).any())
            broken |= bool(np.isnan(cells).any())
    mark_models(ax, rows, pen, top=0.06, height=0.88)
    _count_units(ax, rows, pen)
    name_rows(ax, rows.names(pen), places=[i + 0.5 for i in range(len(rows.ids))])
    color_names(ax, rows)
    ax.set(xlim=(0, 1), ylim=(len(rows.ids), 0))
    draw_breaks(ax, rows, pen, 1.0)
    name_units(ax)
    special = ["grey: always zero"] * silent + ["black: NaN or infinite"] * broken
    cut = f"wider layers in {MOST_BINS} cells, means of neighbours" if binned else ""
    words = ["mean of each unit, relative to its layer: blue above zero, red below", *special, cut]
    strips = pen.one_line(f"strips from top to bottom: {in_order(series)}") if len(series) > 1 else ""
    said = f"{samples(series)}; {'; '.join(w for w in words if w)}"
    caption(ax, pen, "Units", said, strips, *what_is_left(rows, pen))


_ZERO = math.inf
"""Stands for a cell all of whose units were zero for every input."""


def unit_cells(layer: LayerFlow) -> NDArray[np.float64]:
    """Means of units from −1 to 1, relative to the layer; NaN where a unit is not finite, infinity where all are zero.

    Args:
        layer: A layer.

    Returns:
        ``(cells,)`` with a cell per unit, or per group of neighbours in wide layers.
    """
    mean = np.asarray(layer.unit_mean, float)
    groups = np.array_split(np.arange(mean.size), min(mean.size, MOST_BINS))
    cells = np.array([mean[group].mean() if np.isfinite(mean[group]).all() else math.nan for group in groups])
    finite = np.abs(cells[np.isfinite(cells)])
    scale = float(np.percentile(finite, CLIP)) if finite.size else 0.0
    scale = scale or float(finite.max(initial=0.0)) or 1.0
    silent = np.asarray(layer.unit_zero_share, float) >= 1
    none = np.array([bool(silent[group].all()) for group in groups])
    return np.where(none & np.isfinite(cells), _ZERO, np.clip(cells / scale, -1, 1))


def _draw_strip(ax: Axes, cells: NDArray[np.float64], top: float, height: float) -> None:
    image = np.array([_unit_color(value) for value in cells])[None]
    ax.pcolormesh(np.linspace(0, 1, cells.size + 1), [top, top + height], image)


def _unit_color(value: float) -> tuple[float, ...]:
    if math.isnan(value):
        return matplotlib.colors.to_rgba(_BROKEN)
    if math.isinf(value):
        return matplotlib.colors.to_rgba(_SILENT)
    return tuple(_UNITS_MAP(0.5 + 0.5 * value))


def _count_units(ax: Axes, rows: LayerRows, pen: Pen) -> None:
    """The number of units at the right of each row."""
    for i, layer in enumerate(rows.layers(rows.series[0])):
        ax.annotate(
            f"{layer.n_units:,}",
            (1, i + 0.5),
            xycoords=("axes fraction", "data"),
            xytext=(3 if len(rows.series) == 1 else 3 + 0.8 * pen.font, 0),
            textcoords="offset points",
            fontsize=pen.small,
            color=MUTED,
            va="center",
        )


@panel("layer_cka", InformationFlowResult)
def layer_cka(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Linear CKA between all layers of a model; of several models, its mean.

    Args:
        ax: The axes.
        series: Models of one architecture.
        pen: Sizes.
    """
    having = [s for s in series if s.result.cka is not None and s.result.cka_layers]
    ids = [key for key in having[0].result.cka_layers if _in_all(key, having)] if having else []
    title = "Similarity of layers (linear CKA)"
    if len(ids) < 2:
        say_nothing(ax, pen, title, "no two layers to compare")
        return
    values = np.mean([_part(s, ids) for s in having], axis=0)
    size = len(ids)
    colors = matplotlib.colormaps["cividis"].with_extremes(bad="#E6E6E6")
    ax.pcolormesh(
        np.arange(size + 1) - 0.5, np.arange(size + 1) - 0.5, np.ma.masked_invalid(values), cmap=colors, vmin=0, vmax=1
    )
    for (i, j), value in np.ndenumerate(values) if size <= MOST_WRITTEN else ():
        word, back = (f"{value:.2f}", colors(value)) if np.isfinite(value) else ("–", (0.9, 0.9, 0.9))
        ax.text(j, i, word, ha="center", va="center", fontsize=pen.small, color=text_on(back))
    thinned = _name_both(ax, ids, pen)
    mean = f"mean of {len(having)} models; " if len(having) > 1 else ""
    scale = "" if size <= MOST_WRITTEN else "; dark 0, bright 1"
    undefined = "; grey: a layer that does not vary" if np.isnan(values).any() else ""
    total = len(having[0].result.layers)
    part = f"{total - size} of {total} layers not compared" if size < total else ""
    caption(ax, pen, title, f"{mean}{samples(having, kept=True)}, unbiased{scale}{undefined}", thinned, part)


def _in_all(key: str, series: Sequence[Series]) -> bool:
    return all(key in s.result.cka_layers for s in series)


def _part(s: Series, ids: Sequence[str]) -> NDArray[np.float64]:
    at = [s.result.cka_layers.index(key) for key in ids]
    return np.asarray(s.result.cka, float)[np.ix_(at, at)]


def _name_both(ax: Axes, ids: Sequence[str], pen: Pen) -> str:
    """Names of the layers beside the rows, as many as there is room for, and numbers below columns if they are few."""
    numbered = len(ids) <= MOST_WRITTEN
    step = 1 if numbered else math.ceil(len(ids) * 1.5 * pen.small / max(72 * pen.height - 11 * pen.small, 60.0))
    # In the middle of what they stand for, so that the first one stays below the caption.
    named = range((step - 1) // 2, len(ids), step)
    name_rows(ax, [layer_name(ids[i], pen) + (f" ({i + 1})" if numbered else "") for i in named], places=list(named))
    ax.set(xlim=(-0.5, len(ids) - 0.5), ylim=(len(ids) - 0.5, -0.5))
    columns = range(len(ids)) if numbered else ()
    ax.set_xticks(list(columns), labels=[f"({i + 1})" for i in columns])
    ax.set_xlabel("" if numbered else "The same layers, first to last")
    ax.tick_params(length=0)
    for edge in ax.spines.values():
        edge.set_visible(False)
    return every_kth(len(ids), step)
