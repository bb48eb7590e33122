"""Relevance of single features of an input, and of single units of layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from analyzer.data_types.explanation import Explanation
from analyzer.data_types.relevance import InputRelevance, LayerRelevance, RelevanceExample, RelevanceResult
from analyzer.data_types.values import Estimate
from analyzer.visualizers.panels.base import caption, dodge, name_rows, panel
from analyzer.visualizers.panels.flow_rows import (
    color_names,
    draw_breaks,
    name_units,
    samples,
    say_nothing,
    what_is_left,
)
from analyzer.visualizers.panels.relevance_examples import examples_of, without_channels
from analyzer.visualizers.panels.relevance_rows import layer_rows
from analyzer.visualizers.series import Pen, Series, error_bar, value_of
from analyzer.visualizers.style import MUTED

MOST_FEATURES = 12
"""Bars of one panel; those of largest magnitude are kept."""

FOR, AGAINST = "#B2182B", "#2166AC"
"""The ends of the diverging colour map of relevance, where bars of one model are coloured by their sign."""

MOST_CELLS = 96
"""Cells of one layer; of wider layers, neighbouring units share one."""

_CELLS = matplotlib.colormaps["Reds"]
_SILENT = "#8C8C8C"


@dataclass(frozen=True, kw_only=True)
class _Bars:
    """The features of one input of one result.

    Attributes:
        input: Name of the input.
        total: How many features it has.
        means: Relevance by place of the feature.
        magnitudes: What decides which are kept, likewise.
        names: Labels, likewise.
    """

    input: str
    total: int
    means: dict[tuple[int, ...], Estimate]
    magnitudes: dict[tuple[int, ...], float]
    names: dict[tuple[int, ...], str]


@panel("features", RelevanceResult, Explanation, RelevanceExample)
def features(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Relevance of the features of largest magnitude, with its sign; how many are left out is written.

    Args:
        ax: The axes.
        series: Results, explanations or examples.
        pen: Sizes.
    """
    title = "Relevance of features"
    found = [(s, bars) for s in series if (bars := _bars(s.result)) is not None and bars.means]
    if not found:
        say_nothing(ax, pen, title, "no feature was kept")
        return
    # Rows are features: models with another input have none in common.
    first = found[0][1]
    kept = [(s, bars) for s, bars in found if (bars.input, bars.total) == (first.input, first.total)]
    magnitude: dict[tuple[int, ...], float] = {}
    for _, bars in kept:
        for place, value in bars.magnitudes.items():
            magnitude[place] = max(magnitude.get(place, 0.0), value)
    places = sorted(magnitude, key=lambda place: (-magnitude[place], place))[:MOST_FEATURES]
    for j, (s, bars) in enumerate(kept):
        _draw_bars(ax, s, bars, places, j, len(kept), pen)
    ax.axvline(0, color=MUTED, linewidth=0.6 * pen.line)
    names = {place: label for _, bars in reversed(kept) for place, label in bars.names.items()}
    name_rows(ax, [pen.layer(names[place]) for place in places])
    ax.set_ylim(len(places) - 0.5, -0.5)
    ax.set_xlabel("Relevance" if isinstance(series[0].result, Explanation | RelevanceExample) else "Share of the value")
    left = first.total - len(places)
    out = f"{left:,} of {first.total:,} features not shown" if left else ""
    others = ", ".join(s.label.replace("\n", "") for s in series if all(s is not one for one, _ in kept))
    sizes = samples([s for s, _ in kept]) if all(hasattr(s.result, "n") for s, _ in kept) else "one sample"
    words = f"{sizes}; above zero: for the target" + ("; lines: 95 %" if _has_intervals(kept) else "")
    caption(ax, pen, title, words, out, pen.one_line(f"other features: {others}") if others else "")


def _has_intervals(kept: Sequence[tuple[Series, _Bars]]) -> bool:
    return any(e.low is not None for _, bars in kept for e in bars.means.values())


def _draw_bars(
    ax: Axes, s: Series, bars: _Bars, places: Sequence[tuple[int, ...]], index: int, count: int, pen: Pen
) -> None:
    at = [i + dodge(count, index, 0.8 - 0.8 / count) for i, place in enumerate(places) if place in bars.means]
    estimates = [bars.means[place] for place in places if place in bars.means]
    values = [value_of(e) for e in estimates]
    colors = [FOR if v > 0 else AGAINST for v in values] if count == 1 else s.color
    ax.barh(at, values, height=0.78 / count, color=colors, linewidth=0)
    ends = error_bar(estimates)
    if ends is not None:
        ax.errorbar(values, at, xerr=ends, fmt="none", ecolor="#303030", elinewidth=0.7 * pen.line)


def _bars(result: object) -> _Bars | None:
    if isinstance(result, RelevanceResult):
        with_features = [one for one in result.inputs if one.features]
        return _of_input(with_features[0]) if with_features else None
    found = examples_of(result)
    if not found:
        return None
    same = [one for one in found if one.input == found[0].input]
    return _of_samples(found[0].input, np.stack([without_channels(one) for one in same]))


def _of_input(one: InputRelevance) -> _Bars:
    return _Bars(
        input=one.name,
        total=one.n_features,
        means={f.index: f.mean for f in one.features},
        magnitudes={f.index: value_of(f.magnitude) for f in one.features},
        names={f.index: f.name or _place(f.index) for f in one.features},
    )


def _of_samples(name: str, maps: NDArray[np.float64]) -> _Bars:
    """Means over the samples of an explanation; those of largest mean magnitude."""
    known = np.isfinite(maps)
    count = np.maximum(known.sum(axis=0), 1)
    mean, magnitude = (np.where(known, values, 0.0).sum(axis=0) / count for values in (maps, np.abs(maps)))
    order = np.argsort(-magnitude, axis=None, kind="stable")[:MOST_FEATURES]
    places = [tuple(int(i) for i in np.unravel_index(flat, mean.shape)) for flat in order]
    ever = np.asarray(known.any(axis=0))
    places = [place for place in places if ever[place]]
    return _Bars(
        input=name,
        total=mean.size,
        means={place: Estimate(value=float(mean[place]), n=len(maps)) for place in places},
        magnitudes={place: float(magnitude[place]) for place in places},
        names={place: _place(place) for place in places},
    )


def _place(index: tuple[int, ...]) -> str:
    return f"feature {index[0]}" if len(index) == 1 else str(index)


@panel("relevance_units", RelevanceResult)
def relevance_units(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Share of every unit in the relevance of its layer; silent units are grey.

    Args:
        ax: The axes.
        series: Models of one architecture, one strip each.
        pen: Sizes.
    """
    title = "Relevance of units"
    known = [s for s in series if any(layer.unit_share is not None for layer in s.result.layers)]
    if not known:
        say_nothing(ax, pen, title, "no layer has relevance by unit")
        return
    rows = layer_rows(known, pen.most_layers)
    binned = silent = False
    for j, s in enumerate(known):
        for i, layer in enumerate(rows.layers(s)):
            if layer.unit_share is None or not len(layer.unit_share):
                continue
            top, height = i + 0.06 + 0.88 * j / len(known), 0.88 / len(known)
            cells = unit_cells(layer, s.result.silent_share)
            image = np.array([matplotlib.colors.to_rgba(_SILENT) if np.isnan(c) else _CELLS(c) for c in cells])[None]
            ax.pcolormesh(np.linspace(0, 1, cells.size + 1), [top, top + height], image)
            binned |= len(layer.unit_share) > MOST_CELLS
            silent |= bool(np.isnan(cells).any())
            if j == 0:
                _count(ax, layer, i, pen)
    name_rows(ax, rows.names(pen), places=[i + 0.5 for i in range(len(rows.ids))])
    color_names(ax, rows)
    ax.set(xlim=(0, 1), ylim=(len(rows.ids), 0))
    name_units(ax)
    draw_breaks(ax, rows, pen, 1.0)
    words = [samples(known), "dark: large share of the layer", *(["grey: silent"] if silent else [])]
    words += [f"wider layers in {MOST_CELLS} cells"] if binned else []
    strips = ", ".join(s.label.replace("\n", "") for s in known) if len(known) > 1 else ""
    order = pen.one_line(f"strips from top to bottom: {strips}") if strips else ""
    caption(ax, pen, title, "; ".join(words), order, *what_is_left(rows, pen))


def unit_cells(layer: LayerRelevance, silent_share: float) -> NDArray[np.float64]:
    """Shares of units from 0 to 1, relative to the largest of the layer; NaN where all units of a cell are silent.

    Args:
        layer: A layer with shares by unit.
        silent_share: Share that a unit must exceed in some sample not to be silent.

    Returns:
        ``(cells,)`` with a cell per unit, or per group of neighbours in wide layers.
    """
    share = np.asarray(layer.unit_share, np.float64)
    largest = share if layer.unit_largest is None else np.asarray(layer.unit_largest, np.float64)
    groups = np.array_split(np.arange(share.size), min(share.size, MOST_CELLS))
    cells = np.array([share[group].mean() for group in groups])
    quiet = np.array([bool((largest[group] <= silent_share).all()) for group in groups])
    # Square roots: shares of units have long tails, and the small ones matter here.
    return np.where(quiet, np.nan, np.sqrt(np.clip(cells / (cells.max() or 1.0), 0, 1)))


def _count(ax: Axes, layer: LayerRelevance, row: int, pen: Pen) -> None:
    """The number of units, and of silent ones, at the right of a row."""
    silent = f", {layer.silent_units:,} silent" if layer.silent_units else ""
    ax.annotate(
        f"{layer.n_units or 0:,}{silent}",
        (1, row + 0.5),
        xycoords=("axes fraction", "data"),
        xytext=(3, 0),
        textcoords="offset points",
        fontsize=pen.small,
        color=MUTED,
        va="center",
    )
