"""Trade-offs between objectives: the front of a sweep, all objectives side by side, and the table of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from analyzer.data_types.pareto import Objective, ParetoModel, ParetoResult
from analyzer.data_types.values import Estimate
from analyzer.errors import DataError
from analyzer.visualizers.layout import MARGIN
from analyzer.visualizers.panels.base import caption, label_indent, name_rows, panel, plain_log, text_on
from analyzer.visualizers.panels.training import LOG_FROM
from analyzer.visualizers.series import Pen, Series, cast_of, error_bar, number, value_of
from analyzer.visualizers.style import HEALTH_MAP, MUTED, model_colors
from analyzer.visualizers.text import displayable, text_width, wrap

FRONT = "#C8102E"
"""The red of the front; 5.9 : 1 on white."""

_NOT_TOLD_APART = "#EEEEEE"

_RANK = 0.8
"""Width of the column of ranks, in columns."""


@panel("pareto", ParetoResult)
def pareto(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """The front in the plane of the first two objectives.

    Args:
        ax: The axes.
        series: One series whose result is a Pareto analysis.
        pen: Sizes.
    """
    draw_front(ax, series[0].result, looks(series[0].result, pen), pen)


@panel("pareto_parallel", ParetoResult)
def pareto_parallel(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """All objectives side by side, one line per model.

    Args:
        ax: The axes.
        series: One series whose result is a Pareto analysis.
        pen: Sizes.
    """
    draw_parallel(ax, series[0].result, looks(series[0].result, pen), pen)


@panel("pareto_table", ParetoResult)
def pareto_table(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Every quantity of every model, coloured between worst and best.

    Args:
        ax: The axes.
        series: One series whose result is a Pareto analysis.
        pen: Sizes.
    """
    draw_table(ax, series[0].result, looks(series[0].result, pen), pen)


def looks(found: ParetoResult, pen: Pen) -> Sequence[Series]:
    """The models of a Pareto analysis with the looks that their places give them."""
    names = list(found.models)
    return cast_of(found.models, names, model_colors(names), pen.book, 0.38 * pen.points, pen.small).series


def draw_front(ax: Axes, found: ParetoResult, models: Sequence[Series], pen: Pen) -> None:
    """Draw the models in the plane of the first two objectives, with the front.

    Args:
        ax: The axes.
        found: The analysis.
        models: Look and `ParetoModel` of each model.
        pen: Sizes.
    """
    up, right = found.axes[0], found.axes[1]
    shown = {s.name: s for s in models if _point(s.result, right) is not None and _point(s.result, up) is not None}
    places = {name: (_value(s.result, right), _value(s.result, up)) for name, s in shown.items()}
    for name, s in shown.items():
        _mark(ax, s, (right, up), pen, in_front=name in found.front, compared=s.result.left_out is None)
    line = sorted(places[name] for name in found.front if name in places)
    ax.plot(*zip(*line, strict=True), color=FRONT, linestyle=(0, (4, 2)), linewidth=1.2 * pen.line, zorder=1.5)
    if found.knee in places:
        _ring(ax, places[str(found.knee)], pen)
    for objective, axis, set_scale, values in (
        (right, ax.xaxis, ax.set_xscale, [x for x, _ in places.values()]),
        (up, ax.yaxis, ax.set_yscale, [y for _, y in places.values()]),
    ):
        # Differences such as gaps have their zero in the picture.
        if not objective.counted and min(values) > 0 and max(values) > LOG_FROM * min(values):
            set_scale("log")
            plain_log(axis)
    ax.margins(0.1)
    ax.grid(visible=True)
    ax.set_xlabel(_axis_label(right, 0.7 * pen.points, pen), parse_math=False)
    ax.set_ylabel(_axis_label(up, 0.65 * 72 * pen.height, pen), parse_math=False)
    caption(ax, pen, "Pareto front", _legend_of(found), _intervals(shown.values(), (right, up)))


def _mark(ax: Axes, s: Series, axes: tuple[Objective, Objective], pen: Pen, *, in_front: bool, compared: bool) -> None:
    x, y = (s.result.values[objective.name] for objective in axes)
    ax.errorbar(
        value_of(x),
        value_of(y),
        xerr=error_bar([x]) if pen.extras else None,
        yerr=error_bar([y]) if pen.extras else None,
        fmt=s.marker,
        color=s.color,
        alpha=1.0 if compared else 0.4,
        markersize=0.95 * pen.font,
        markerfacecolor=s.color if in_front else "white",
        markeredgecolor=s.color,
        markeredgewidth=pen.line,
        elinewidth=0.7 * pen.line,
        zorder=3 if in_front else 2,
    )
    if s.result.under_fitted:
        ax.plot(value_of(x), value_of(y), marker="x", color="black", markersize=0.6 * pen.font, zorder=4)


def _ring(ax: Axes, place: tuple[float, float], pen: Pen) -> None:
    ax.plot(
        *place,
        marker="o",
        markersize=1.9 * pen.font,
        markerfacecolor="none",
        markeredgecolor="black",
        markeredgewidth=pen.line,
        linestyle="none",
        zorder=4,
    )


def _legend_of(found: ParetoResult) -> str:
    """What the marks mean, those that are there."""
    parts = [f"dashed: the front, {len(found.front)} of {len(found.compared)} models; hollow: dominated"]
    if found.knee is not None:
        parts.append("ring: knee")
    if any(model.under_fitted for model in found.models.values()):
        parts.append("×: under-fitted, counts behind those that fit")
    if any(model.left_out for model in found.models.values()):
        parts.append("pale: not compared")
    return "; ".join(parts)


def _intervals(shown: Any, axes: Sequence[Objective]) -> str:
    methods = {
        value.method for s in shown for objective in axes if (value := s.result.values[objective.name]) is not None
    } - {None}
    return f"bars: 95% intervals ({', '.join(sorted(map(displayable, methods)))})" if methods else ""


def draw_parallel(ax: Axes, found: ParetoResult, models: Sequence[Series], pen: Pen) -> None:
    """Draw one line per compared model over all objectives, best on top.

    Args:
        ax: The axes.
        found: The analysis.
        models: Look and `ParetoModel` of each model.
        pen: Sizes.
    """
    axes = found.axes
    at = range(len(axes))
    compared = [s for s in models if s.result.left_out is None]
    for s in sorted(compared, key=lambda s: s.name in found.front):
        front = s.name in found.front
        heights = [_height(s.result, objective) for objective in axes]
        ax.plot(
            at,
            heights,
            color=s.color,
            marker=s.marker,
            markerfacecolor=s.color if front else "white",
            linestyle=s.linestyle if front else (0, (1, 1.5)),
            linewidth=(1.6 if s.name == found.knee else 1.0) * pen.line,
            alpha=1.0 if front else 0.45,
            zorder=3 if front else 2,
        )
    room = 0.9 * pen.points / max(len(axes), 1)
    labels = [_ends(objective, compared, room, pen) for objective in axes]
    ax.set_xticks(list(at), labels=labels, parse_math=False)
    for place in at:
        ax.axvline(place, color=MUTED, linewidth=0.6 * pen.line, zorder=1)
    ax.set(ylim=(-0.06, 1.06), xlim=(-0.5, len(axes) - 0.5))
    ax.set_yticks([0, 1], labels=["worst", "best"])
    ax.tick_params(axis="x", length=0)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    knee = "; thick: knee" if found.knee is not None else ""
    caption(
        ax,
        pen,
        "All objectives",
        f"solid, filled: the front, {len(found.front)} of {len(found.compared)} models{knee}; "
        "dotted, hollow: dominated; below each objective its worst and its best value",
    )


def _height(model: ParetoModel, objective: Objective) -> float:
    share = model.normalized[objective.name]
    return 0.5 if share is None else share


def _ends(objective: Objective, compared: Sequence[Series], room: float, pen: Pen) -> str:
    values = [float(s.result.counted[objective.name]) for s in compared]
    low, high = min(values), max(values)
    worst, best = (low, high) if objective.direction == "max" else (high, low)
    span = "all equal" if low == high else f"{_short(worst)} to {_short(best)}"
    return "\n".join([*wrap(displayable(objective.label), room, pen.small), *wrap(span, room, pen.small)])


def draw_table(ax: Axes, found: ParetoResult, models: Sequence[Series], pen: Pen) -> None:
    """Draw values as measured, coloured by their place between worst and best; the front first.

    Args:
        ax: The axes.
        found: The analysis.
        models: Look and `ParetoModel` of each model.
        pen: Sizes.
    """
    last = len(models) + 1
    rows = sorted(models, key=lambda s: (s.result.rank or last, _from_best(found, s.name)))
    columns = found.objectives
    shares = np.array([[_share(s.result, objective) for objective in columns] for s in rows])
    ax.pcolormesh(
        np.ma.masked_invalid(shares),
        cmap=HEALTH_MAP.with_extremes(bad=_NOT_TOLD_APART),
        vmin=0.0,
        vmax=1.0,
        edgecolors="white",
        linewidth=0.8 * pen.line,
    )
    for i, s in enumerate(rows):
        for j, objective in enumerate(columns):
            color = text_on(HEALTH_MAP(shares[i, j])) if np.isfinite(shares[i, j]) else "black"
            word = _cell(s.result, objective)
            ax.text(j + 0.5, i + 0.5, word, ha="center", va="center", fontsize=pen.small, color=color)
        rank = "–" if s.result.rank is None else "front" if s.result.rank == 1 else str(s.result.rank)
        rank += " ◯" if s.name == found.knee else ""
        ax.text(len(columns) + _RANK / 2, i + 0.5, rank, ha="center", va="center", fontsize=pen.small)
    name_rows(ax, [s.label for s in rows], places=[i + 0.5 for i in range(len(rows))])
    taken = label_indent([s.label for s in rows], pen) + 2 * MARGIN * 72 + pen.small
    room = (pen.points - taken) / (len(columns) + _RANK)
    heads = ["\n".join(wrap(displayable(objective.label), room, pen.small)) for objective in columns]
    places = [*(j + 0.5 for j in range(len(columns))), len(columns) + _RANK / 2]
    ax.set_xticks(places, labels=[*heads, "Rank"], parse_math=False)
    ax.set(xlim=(0, len(columns) + _RANK), ylim=(len(rows), 0))
    ax.tick_params(length=0)
    for side in ax.spines.values():
        side.set_visible(False)
    changed = (
        "; * counts otherwise (see the results)"
        if any("*" in _cell(s.result, o) for s in rows for o in columns)
        else ""
    )
    alone = [displayable(objective.label) for objective in columns if not objective.compared]
    extra = f"{', '.join(alone)}: for information" if alone else ""
    caption(
        ax,
        pen,
        "Normalised table",
        f"values as measured; colour: from worst (red) to best (green) of the column, grey: all equal or none{changed}",
        extra,
    )


def _share(model: ParetoModel, objective: Objective) -> float:
    share = model.normalized.get(objective.name)
    return np.nan if share is None else float(share)


def _cell(model: ParetoModel, objective: Objective) -> str:
    value = model.values[objective.name]
    if value is None or value.value is None:
        return "–"
    counted = model.counted.get(objective.name, value)
    word = _short(value.value)
    return word if counted.value == value.value else f"{word}*"


def _from_best(found: ParetoResult, name: str) -> float:
    first = found.axes[0]
    value = found.models[name].values[first.name]
    return 0.0 if value is None else float(value) * (-1 if first.direction == "max" else 1)


def _point(model: ParetoModel, objective: Objective) -> Estimate | None:
    return model.values[objective.name]


def _value(model: ParetoModel, objective: Objective) -> float:
    value = model.values[objective.name]
    if value is None:
        raise DataError(f"A model has no {objective.name}.")
    return value_of(value)


def _axis_label(objective: Objective, room: float, pen: Pen) -> str:
    label, better = displayable(objective.label), f"({'more' if objective.direction == 'max' else 'less'} is better)"
    one_line = f"{label} {better}"
    return one_line if text_width(one_line, pen.font) <= room else "\n".join([*wrap(label, room, pen.font), better])


def _short(value: float) -> str:
    """A number for a cell: whole ones with separators or a unit, others with three decimals."""
    if not float(value).is_integer():
        return number(value)
    for power, unit in ((9, "G"), (6, "M")):
        if abs(value) >= 10**power:
            return f"{value / 10**power:.3g} {unit}"
    return f"{value:,.0f}"
