"""How far the data have moved against the reference, at each place on their way through the models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from analyzer.data_types.shift import ShiftResult
from analyzer.data_types.values import Estimate
from analyzer.visualizers.panels.base import caption, name_rows, panel, plain_log
from analyzer.visualizers.panels.flow_lines import draw_zeros, log_axis, positive
from analyzer.visualizers.panels.flow_rows import SPREAD, LayerRows, color_names, draw_breaks, number_of, say_nothing
from analyzer.visualizers.panels.shift_rows import PlaceRow, both_sizes, by_shift_place, is_wide, place_rows
from analyzer.visualizers.series import Pen, Series, error_bar, value_of
from analyzer.visualizers.style import FAINT

LABEL = "Drift (W₁ in standard deviations)"

FEW = 3
"""Models up to which the line through the places of each stands out."""

Point = tuple[float, float]


@panel("drift_by_place", ShiftResult)
def drift_by_place(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Drift of each place with its interval, beside what chance makes of it.

    Args:
        ax: The axes.
        series: Models with the same places.
        pen: Sizes.
    """
    group = by_shift_place(series)
    if not any(math.isfinite(row.drift) for s in group for row in s.result.layers):
        say_nothing(ax, pen, "Drift by place", "no place could be compared")
        return
    rows = place_rows(group, pen.most_layers)
    shown = [row for s in group for row in rows.layers(s)]
    logarithmic = is_wide([row.drift for row in shown])
    zeros = False
    for s in group:
        _draw_model(ax, rows, s, pen, logarithmic=logarithmic)
        zeros |= logarithmic and draw_zeros(ax, rows, s, lambda row: row.drift)
    if logarithmic:
        log_axis(ax, LABEL)
    else:
        ax.set_xlim(left=0)
        ax.set_xlabel(LABEL)
    name_rows(ax, rows.names(pen))
    color_names(ax, rows)
    ax.set_ylim(len(rows.ids) - 0.5, -0.5)
    ax.grid(visible=True, axis="x")
    draw_breaks(ax, rows, pen, 0.5)
    left = rows.total - len(rows.ids)
    words = [f"{left} of {rows.total} places not shown (dotted: where)"] if left else []
    words += ["! warning, ✕ error"] if any(rows.severity.values()) else []
    bars = ["bars: 95 %"] if any(row.shift.drift.low is not None for row in shown) else []
    key = [*mark_words(shown), *bars, *(["◂ zero"] if zeros else [])]
    caption(ax, pen, "Drift by place", both_sizes(group), "; ".join(key), "; ".join(words))


def _draw_model(ax: Axes, rows: LayerRows, s: Series, pen: Pen, *, logarithmic: bool) -> None:
    """Chance level, line, interval and mark of each place of one model."""
    found = rows.layers(s)
    at = [i + rows.offset(s) for i in range(len(found))]
    chance = [(y, row.shift.chance) for y, row in zip(at, found, strict=True) if row.shift.chance is not None]
    thick = SPREAD / (len(rows.series) - 1) if len(rows.series) > 1 else 0.7
    ax.barh([y for y, _ in chance], [c for _, c in chance], height=thick, color=FAINT, linewidth=0, zorder=0.6)
    values = [_drawn(row, logarithmic=logarithmic) for row in found]
    points = list(zip(values, at, strict=True))
    faint = 0.6 if len(rows.series) <= FEW else 0.25
    ax.plot(values, at, color=s.color, linestyle=s.linestyle, linewidth=0.6 * pen.line, alpha=faint)
    _draw_intervals(
        ax, [(y, row.shift.drift) for (x, y), row in zip(points, found, strict=True) if math.isfinite(x)], s, pen
    )
    draw_marks(ax, points, found, s, pen)


def _drawn(row: PlaceRow, *, logarithmic: bool) -> float:
    return number_of(positive(row.drift)) if logarithmic else row.drift


def _draw_intervals(ax: Axes, drifts: Sequence[tuple[float, Estimate]], s: Series, pen: Pen) -> None:
    bars = error_bar([drift for _, drift in drifts]) if drifts else None
    if bars is not None:
        ends, at = [value_of(drift) for _, drift in drifts], [y for y, _ in drifts]
        ax.errorbar(ends, at, xerr=bars, fmt="none", ecolor=s.color, elinewidth=0.8 * pen.line)


def draw_marks(ax: Axes, points: Sequence[Point], found: Sequence[PlaceRow], s: Series, pen: Pen) -> None:
    """A filled mark where a test alarms, a hollow one where none does, a dot where the place is not tested.

    Args:
        ax: The axes.
        points: Where each stands; those with NaN are not drawn.
        found: The places.
        s: The model.
        pen: Sizes.
    """
    looks: dict[str, dict[str, Any]] = {
        "alarms": {"marker": s.marker},
        "silent": {"marker": s.marker, "markerfacecolor": "white"},
        "untested": {"marker": "o", "markersize": 0.28 * pen.small},
    }
    for state, look in looks.items():
        kept = [point for point, row in zip(points, found, strict=True) if _state(row) == state]
        x, y = [x for x, _ in kept], [y for _, y in kept]
        ax.plot(x, y, linestyle="none", color=s.color, markeredgewidth=0.8 * pen.line, **look)


def _state(row: PlaceRow) -> str:
    if not row.tested:
        return "untested"
    return "alarms" if row.alarms else "silent"


def mark_words(rows: Sequence[PlaceRow]) -> list[str]:
    """What those of the marks mean that occur.

    Args:
        rows: The places that are drawn.
    """
    levels = ", ".join(sorted({f"{row.level:g}" for row in rows}))
    words = [f"filled: shift found (adjusted p ≤ {levels})"] if any(row.alarms for row in rows) else []
    words += ["hollow: tested, none found"] if any(row.tested and not row.alarms for row in rows) else []
    words += ["dot: not tested"] if any(not row.tested for row in rows) else []
    return words + (["grey: chance"] if any(row.shift.chance is not None for row in rows) else [])


@panel("drift_by_depth", ShiftResult)
def drift_by_depth(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Drift along the depth of each model: comparable between models of any layers.

    Args:
        ax: The axes.
        series: Results of shift.
        pen: Sizes.
    """
    title = "Drift along the depth"
    group = by_shift_place(series)
    every = [row for s in group for row in s.result.layers]
    if not any(math.isfinite(row.drift) for row in every):
        say_nothing(ax, pen, title, "no place could be compared")
        return
    logarithmic = is_wide([row.drift for row in every])
    for s in group:
        _draw_depth(ax, s, pen, logarithmic=logarithmic)
    if logarithmic:
        ax.set_yscale("log")
        plain_log(ax.yaxis)
    else:
        ax.set_ylim(bottom=0)
    ax.set_xlim(-0.03, 1.03)
    ax.set_xticks([0, 1], labels=["inputs", "outputs"])
    ax.set_ylabel("Drift (W₁ in SD)")
    ax.grid(visible=True)
    tested = [row for row in every if row.tested]
    words = [word for word in mark_words(tested or every) if "dot" not in word]
    caption(ax, pen, title, both_sizes(group), "; ".join(words), *_harm_words(series, pen))


def _harm_words(series: Sequence[Series], pen: Pen) -> list[str]:
    """The models whose decisions are worse on the data, or may be."""
    lines = []
    for word, said in (("harmful", "harmful"), ("suspected", "harm suspected")):
        names = [s.one_line for s in series if any(found.harm == word for found in s.result.outputs.values())]
        who = f": {', '.join(names)}" if len(series) > 1 else ""
        lines += [pen.one_line(f"{said}{who}")] if names else []
    return lines


def _draw_depth(ax: Axes, s: Series, pen: Pen, *, logarithmic: bool) -> None:
    found = s.result.layers
    depth = _depths(found)
    values = [_drawn(row, logarithmic=logarithmic) for row in found]
    chance = [row.shift.chance for row in found]
    if all(level is not None for level in chance):
        ax.fill_between(depth, 0, chance, color="#8C8C8C", alpha=0.18, linewidth=0, zorder=0.6)
    ax.plot(depth, values, color=s.color, linestyle=s.linestyle, linewidth=0.8 * pen.line)
    tested = [(point, row) for point, row in zip(zip(depth, values, strict=True), found, strict=True) if row.tested]
    draw_marks(ax, [point for point, _ in tested], [row for _, row in tested], s, pen)


def _depths(rows: Sequence[PlaceRow]) -> list[float]:
    """0 for inputs, 1 for outputs, layers at equal steps between."""
    steps = sum(row.shift.kind == "layer" for row in rows) + 1
    ends = {"input": 0.0, "output": 1.0}
    depths, passed = [], 0
    for row in rows:
        passed += row.shift.kind == "layer"
        depths.append(ends.get(row.shift.kind, passed / steps))
    return depths
