"""Relevance along the layers: how much each carries, where it is lost, which units carry it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes

from analyzer.data_types.explanation import Explanation
from analyzer.data_types.relevance import Conservation, LayerRelevance, RelevanceResult
from analyzer.visualizers.panels.base import caption, name_rows, panel
from analyzer.visualizers.panels.flow_lines import (
    DETAILED_UP_TO,
    draw_beside,
    draw_values,
    finish,
    log_axis,
    share_axis,
)
from analyzer.visualizers.panels.flow_rows import in_order, mark_models, number_of, samples, say_nothing
from analyzer.visualizers.panels.relevance_rows import by_layer, by_place, layer_rows
from analyzer.visualizers.series import Pen, Series
from analyzer.visualizers.style import MUTED
from analyzer.visualizers.text import displayable

WIDE_RANGE = 30.0
"""Ratio of the largest to the smallest number from which an axis is logarithmic."""

ABSORBED = (
    ("absorbed_by_bias", "#E69F00", "orange: biases"),
    ("absorbed_by_softmax", "#56B4E9", "light blue: softmax"),
    ("absorbed_by_stabiliser", "#CC79A7", "pink: stabiliser"),
    ("unexplained", "#A80018", "dark red: unexplained"),
)
"""Where relevance stays on the way: field, colour and how the caption names it."""

PASSED = "#BDBDBD"
ADDED = "added"
"""Stands for amounts below zero: the place put relevance in."""

SEEN = 5e-4
"""Share of the start value below which a bar cannot be seen and is not named."""


@panel("layers", RelevanceResult, Explanation)
def layers(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Sum of |relevance| at the output of each layer, relative to the value explained.

    Args:
        ax: The axes.
        series: Models of one architecture, or explanations.
        pen: Sizes.
    """
    series = by_layer(series)
    title = "Relevance by layer"
    if not _any(series, lambda layer: layer.share) and not _any(series, lambda layer: layer.relevance_in):
        say_nothing(ax, pen, title, "no layer has relevance in the results")
        return
    rows = layer_rows(series, pen.most_layers)
    values = [v for s in series for v in rows.values(s, lambda layer: layer.share) if v > 0]
    wide = bool(values) and max(values) / min(values) > WIDE_RANGE
    detailed = not wide and len(series) <= DETAILED_UP_TO and _any(series, lambda layer: layer.relevance_in)
    for s in series:
        draw_values(ax, rows, s, lambda layer: layer.share, pen)
        if detailed:
            draw_beside(ax, rows, s, lambda layer: layer.relevance_in, pen)
    if wide:
        log_axis(ax, "Share of the value explained")
    else:
        ax.set_xlabel("Share of the value explained")
        ax.set_xlim(min(0.0, ax.get_xlim()[0]), max(1.1, ax.get_xlim()[1]))
    ax.axvline(1, color=MUTED, linewidth=0.6 * pen.line, zorder=0.5)
    words = "sum of |relevance|; above 1: both signs cancel"
    hollow = "hollow: sum with sign" if detailed else ""
    finish(ax, rows, pen, title, _sizes(series), words, hollow, kinds=("relevance_break",))


def _any(series: Sequence[Series], read: Callable[[LayerRelevance], Any]) -> bool:
    return any(math.isfinite(number_of(read(layer))) for s in series for layer in s.result.layers)


def _sizes(series: Sequence[Series]) -> str:
    """Number of samples, and the method where it is one."""
    methods = {s.result.method for s in series}
    method = f", {displayable(next(iter(methods)))}" if len(methods) == 1 else ""
    return f"{samples(series)}{method}"


@panel("ledger", RelevanceResult, Explanation)
def ledger(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """What comes to each layer, what it passes on, and where the rest stays.

    Args:
        ax: The axes.
        series: Models of one architecture, or explanations; one bar each in every row.
        pen: Sizes.
    """
    series = by_place(series)
    title = "Ledger"
    if not _any(series, lambda layer: layer.relevance_in):
        say_nothing(ax, pen, title, "the method keeps no books")
        return
    without = _without(series, lambda layer: layer.relevance_in)
    series = [s for s in series if _any([s], lambda layer: layer.relevance_in)]
    rows = layer_rows(series, pen.most_layers)
    seen: set[str] = set()
    for j, s in enumerate(series):
        height = 0.72 / len(series)
        for i, layer in enumerate(rows.layers(s)):
            seen |= _draw_account(ax, layer, i - 0.36 + (j + 0.5) * height, 0.88 * height, pen)
    mark_models(ax, rows, pen, top=-0.36, height=0.72)
    ax.axvline(0, color=MUTED, linewidth=0.6 * pen.line)
    ax.margins(x=0.02)
    ax.set_xlim(min(0.0, ax.get_xlim()[0]), max(1.05, ax.get_xlim()[1]))
    ax.set_xlabel("Share of the value explained")
    words = ["grey: passed on", *(said for name, _, said in ABSORBED if name in seen), "line: what came"]
    words += ["beyond it: what was added"] if ADDED in seen else []
    order = f"bars from top to bottom: {in_order(series)}" if len(series) > 1 else ""
    finish(ax, rows, pen, title, _sizes(series), *words, order, without, kinds=("relevance_break",))


def _without(series: Sequence[Series], read: Callable[[LayerRelevance], Any]) -> str:
    """Which models have no such number."""
    names = [s.label.replace("\n", "") for s in series if not _any([s], read)]
    return f"none for {', '.join(names)}" if names else ""


def _draw_account(ax: Axes, layer: LayerRelevance, y: float, height: float, pen: Pen) -> set[str]:
    """One bar: what is passed on, then every kind of loss up to what came; returns the kinds that are seen."""
    at = layer.relevance_out or 0.0
    ax.barh(y, at, height=height, color=PASSED, linewidth=0)
    seen = set()
    for name, color, _ in ABSORBED:
        amount = getattr(layer, name) or 0.0
        if abs(amount) > SEEN:
            seen |= {name, ADDED} if amount < 0 else {name}
            ax.barh(y, amount, left=at, height=height, color=color, linewidth=0)
        at += amount
    if layer.relevance_in is not None:
        ends = [y - 0.62 * height, y + 0.62 * height]
        ax.plot([layer.relevance_in] * 2, ends, color="black", linewidth=1.2 * pen.line, solid_capstyle="butt")
    return seen


@panel("concentration", RelevanceResult)
def concentration(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """How few units of each layer carry 90 % of its relevance.

    Args:
        ax: The axes.
        series: Models of one architecture.
        pen: Sizes.
    """
    title = "Units behind 90 % of relevance"
    if not _any(series, _share_for_90):
        say_nothing(ax, pen, title, "no layer has relevance by unit")
        return
    rows = layer_rows(series, pen.most_layers)
    detailed = len(series) <= DETAILED_UP_TO and _any(series, _silent)
    for s in series:
        draw_values(ax, rows, s, _share_for_90, pen)
        if detailed:
            draw_beside(ax, rows, s, _silent, pen)
    share_axis(ax, "Share of the layer's units")
    silent = "hollow: silent units, candidates for pruning" if detailed else ""
    without = _without(series, _share_for_90)
    finish(ax, rows, pen, title, samples(series), "few: concentrated", silent, without)


def _share_for_90(layer: LayerRelevance) -> float | None:
    return layer.units_for_90 / layer.n_units if layer.units_for_90 is not None and layer.n_units else None


def _silent(layer: LayerRelevance) -> float | None:
    return layer.silent_units / layer.n_units if layer.silent_units is not None and layer.n_units else None


@panel("balance", RelevanceResult)
def balance(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """The books of whole models: what reaches the inputs and where the rest stays.

    Args:
        ax: The axes.
        series: Results.
        pen: Sizes.
    """
    kept = [s for s in series if s.result.conservation is not None]
    title = "Where relevance goes"
    if not kept:
        say_nothing(ax, pen, title, "the method keeps no books")
        return
    seen: set[str] = set()
    for i, s in enumerate(kept):
        books = s.result.conservation
        seen |= _draw_account(ax, _as_account(books), i, 0.5, pen)
    ax.axvline(0, color=MUTED, linewidth=0.6 * pen.line)
    ax.set_xlim(min(0.0, ax.get_xlim()[0]), max(1.05, ax.get_xlim()[1]))
    ax.set_xlabel("Share of the value explained")
    name_rows(ax, [s.label for s in kept])
    ax.set_ylim(len(kept) - 0.5, -0.5)
    words = ["grey: reaches the inputs", *(said for name, _, said in ABSORBED if name in seen), "line: the sum"]
    out = ", ".join(s.label.replace("\n", "") for s in series if s not in kept)
    without = pen.one_line(f"no books: {out}") if out else ""
    caption(ax, pen, title, f"{samples(kept)}; {'; '.join(words)}", without)


def _as_account(books: Conservation) -> LayerRelevance:
    amounts = {name: getattr(books, name) for name, _, _ in ABSORBED}
    total = sum(value for value in (books.reaches_inputs, *amounts.values()) if value is not None)
    return LayerRelevance(id="", kind="", order=0, relevance_in=total, relevance_out=books.reaches_inputs, **amounts)
