"""Panels whose rows are layers: which ones, their names, their lines of values.

Made for `InformationFlowResult`; any result with ``layers`` that have an ``id``, ``findings`` and ``n`` will do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from analyzer.data_types.information_flow import LayerFlow
from analyzer.data_types.values import Estimate
from analyzer.visualizers.panels.base import caption, dodge
from analyzer.visualizers.panels.layers import left_out, worst_severity
from analyzer.visualizers.series import Pen, Series, sample_sizes
from analyzer.visualizers.style import MUTED

Value = Estimate | float | int | None
Read = Callable[[Any], Value]

MARKS = {2: "✕", 1: "!", 0: ""}
"""What stands before the name of a layer with an error or a warning."""

MARK_COLORS = {2: "#A80018", 1: "#8A4B00"}
"""Colours of their names."""

NAME_WIDTH = 11.5
"""Width of the name of a layer, in multiples of the size of small type."""

SPREAD = 0.5
"""Share of a row over which the marks of several models are spread."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerRows:
    """The layers that a panel shows.

    Attributes:
        series: Models of one architecture.
        ids: The layers, in order of execution.
        places: Rank of each among all layers.
        severity: 2 for layers with an error in any model, 1 with a warning, 0 without.
        total: Layers of the architecture.
    """

    series: Sequence[Series]
    ids: tuple[str, ...]
    places: tuple[int, ...]
    severity: dict[str, int]
    total: int

    @classmethod
    def of(cls, series: Sequence[Series], limit: int | None, weight: Callable[[Any], float] | None = None) -> LayerRows:
        """The layers that matter most, of models of one architecture."""
        ids = kept_layers(series, limit, weight)
        everything = [layer.id for layer in series[0].result.layers]
        place = {key: i for i, key in enumerate(everything)}
        worst = [worst_severity(s.result.findings) for s in series]
        return cls(
            series=series,
            ids=tuple(ids),
            places=tuple(place[key] for key in ids),
            severity={key: max(one.get(key, 0) for one in worst) for key in ids},
            total=len(everything),
        )

    def layers(self, s: Series) -> list[Any]:
        """The rows of one model."""
        return [s.result.layers[place] for place in self.places]

    def offset(self, s: Series) -> float:
        """Where the marks of a model stand within a row."""
        index = next(j for j, one in enumerate(self.series) if one is s)
        return dodge(len(self.series), index, SPREAD)

    def values(self, s: Series, read: Read) -> list[float]:
        """One number per row; NaN where there is none."""
        return [number_of(read(layer)) for layer in self.layers(s)]

    def has(self, read: Read) -> list[Series]:
        """The models of which at least one layer has this number, shown or not."""
        return [s for s in self.series if any(math.isfinite(number_of(read(layer))) for layer in s.result.layers)]

    def names(self, pen: Pen) -> list[str]:
        """Labels of the rows, with a mark before those that findings name; empty where the panel has none."""
        if not pen.row_names:
            return [""] * len(self.ids)
        return [f"{MARKS[self.severity[key]]} {layer_name(key, pen)}".strip() for key in self.ids]

    def breaks(self) -> Iterator[int]:
        """Rows after which layers are left out."""
        last = len(self.places) - 1
        for i, place in enumerate(self.places):
            following = self.total if i == last else self.places[i + 1]
            if following > place + 1:
                yield i


def layer_name(key: str, pen: Pen) -> str:
    """The label of a layer, the same in every panel of a figure unless a panel is very narrow.

    Args:
        key: Id of the layer.
        pen: Sizes.
    """
    return pen.book.label(key, min(NAME_WIDTH * pen.small, 0.48 * pen.points), pen.small)


def kept_layers(group: Sequence[Series], limit: int | None, weight: Callable[[Any], float] | None = None) -> list[str]:
    """Ids of the layers that matter most: those that findings name, first and last, then others all along the depth.

    Args:
        group: Models of one architecture.
        limit: Most layers to keep.
        weight: Which of the layers with findings go first; None takes the share of units that are silent or broken.
    """
    weight = weight or _silent
    ids = [layer.id for layer in group[0].result.layers]
    if limit is None or len(ids) <= limit:
        return ids
    worst = [worst_severity(s.result.findings) for s in group]

    def importance(i: int) -> tuple[float, ...]:
        severity = max(one.get(ids[i], -1) for one in worst)
        return severity, max(weight(s.result.layers[i]) for s in group), -i

    named = [i for i, key in enumerate(ids) if any(key in one for one in worst)]
    kept = sorted(named, key=importance, reverse=True)[:limit]
    kept += [i for i in dict.fromkeys((0, len(ids) - 1)) if i not in kept][: limit - len(kept)]
    return [ids[i] for i in sorted(filled_up(kept, limit, len(ids)))]


def filled_up(kept: Sequence[int], limit: int, total: int) -> list[int]:
    """The kept ones, and one by one the layer that is farthest from all of them.

    Args:
        kept: Ranks, one at least.
        limit: How many there shall be.
        total: How many there are.
    """
    full = list(kept)
    everywhere = np.arange(total)
    distance = np.min([abs(everywhere - i) for i in full], axis=0)
    while len(full) < limit:
        full.append(int(distance.argmax()))
        distance = np.minimum(distance, abs(everywhere - full[-1]))
    return full


def _silent(layer: LayerFlow) -> float:
    counts = (layer.not_finite_units, layer.dead_units or 0, layer.saturated_units or 0, layer.duplicate_units or 0)
    return max(counts) / max(layer.n_units, 1)


def number_of(value: Value) -> float:
    """A number or an estimate as a float; NaN where it is missing or undefined.

    Args:
        value: The number.
    """
    if isinstance(value, Estimate):
        value = value.value
    return math.nan if value is None else float(value)


def draw_breaks(ax: Axes, rows: LayerRows, pen: Pen, below: float) -> None:
    """Dotted lines where layers are left out.

    Args:
        ax: The axes.
        rows: The layers.
        pen: Sizes.
        below: Distance from the place of a row to its lower edge.
    """
    for i in rows.breaks():
        ax.axhline(i + below, color="#8C8C8C", linestyle=(0, (1, 2)), linewidth=0.8 * pen.line, zorder=0.5)


def color_names(ax: Axes, rows: LayerRows) -> None:
    """The names of layers with findings in the colour of their severity."""
    for text, key in zip(ax.get_yticklabels(), rows.ids, strict=True):
        text.set_color(MARK_COLORS.get(rows.severity[key], "black"))


def mark_models(ax: Axes, rows: LayerRows, pen: Pen, *, top: float, height: float) -> None:
    """Which model each bar or strip of a row belongs to: its mark at the right edge; nothing for one model.

    Args:
        ax: The axes.
        rows: The layers.
        pen: Sizes.
        top: Where the strips of a row begin, from its place.
        height: What they fill together.
    """
    count = len(rows.series)
    for j, s in enumerate(rows.series if count > 1 else ()):
        at = [i + top + (j + 0.5) * height / count for i in range(len(rows.ids))]
        ax.plot(
            [1.012] * len(at),
            at,
            linestyle="none",
            marker=s.marker,
            color=s.color,
            markersize=0.4 * pen.font,
            clip_on=False,
            transform=ax.get_yaxis_transform(),
        )


def name_units(ax: Axes) -> None:
    """Under strips of units from 0 to 1: which end is the first, and no frame around them."""
    ax.set_xticks([0, 1], labels=["first unit", "last unit"])
    first, last = ax.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")
    ax.tick_params(length=0)
    for edge in ax.spines.values():
        edge.set_visible(False)


def what_is_left(rows: LayerRows, pen: Pen) -> tuple[str, str]:
    """How many layers are not shown, and what the marks before names mean."""
    if not pen.row_names:
        return "", ""
    left = left_out(len(rows.ids), rows.total)
    marks = "! warning, ✕ error" if any(rows.severity.values()) else ""
    return f"{left} (dotted: where)" if left else "", marks


def in_order(series: Sequence[Series]) -> str:
    """The names of the models one after another."""
    return ", ".join(s.label.replace("\n", "") for s in series)


def samples(series: Sequence[Series], *, kept: bool = False) -> str:
    """How many samples are behind a panel."""
    sizes = [s.result.n_kept for s in series if s.result.n_kept] if kept else []
    return sample_sizes(sizes or [s.result.n for s in series])


def say_nothing(ax: Axes, pen: Pen, title: str, why: str) -> None:
    """A panel without data: its title, and why there is nothing.

    Args:
        ax: The axes.
        pen: Sizes.
        title: Title of the panel.
        why: The reason.
    """
    ax.set_axis_off()
    caption(ax, pen, title, f"Nothing to draw: {why}")
    ax.text(0.5, 0.5, "no data", ha="center", va="center", transform=ax.transAxes, color=MUTED, fontsize=pen.font)
