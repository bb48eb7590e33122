"""Weights by layer: norms, health, histograms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from analyzer.data_types.weights import LayerWeights, WeightResult
from analyzer.visualizers.panels.base import caption, label_indent, name_rows, panel, plain_log
from analyzer.visualizers.panels.layers import (
    MOST_NAMED,
    column_names,
    draw_cells,
    left_out,
    most_important,
    name_some_rows,
    worst_severity,
)
from analyzer.visualizers.series import Pen, Series, number
from analyzer.visualizers.style import HEALTH_MAP

NARROW_FROM = 4
"""Models above which the cells of the heatmap are narrow."""

SPECTRAL_UP_TO = 3
"""Models up to which spectral norms are drawn beside the L2 norms."""

WIDEST = 6.0
"""Histograms reach to this multiple of the layer's RMS."""

MARKS = {2: "✕", 1: "!", 0: ""}
"""What stands before the score of a layer with an error or a warning."""


def kept_layers(group: Sequence[Series], limit: int | None) -> list[str]:
    """Ids of the layers that matter most, in order of execution: findings first, then the lowest health, then size.

    Args:
        group: Models of one architecture.
        limit: Most layers to keep.
    """
    severities = [worst_severity(s.result.findings) for s in group]
    layers = [s.result.layers for s in group]

    def importance(i: int) -> tuple[float, ...]:
        scores = [one[i].health.score for one in layers]
        return (
            max(severity.get(layers[0][i].id, 0) for severity in severities),
            -min((score for score in scores if score is not None), default=1.0),
            layers[0][i].parameters,
        )

    return most_important([layer.id for layer in layers[0]], limit, importance)


@panel("weight_norms", WeightResult)
def weight_norms(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """L2 norm of the kernels of each layer in order of execution, and their spectral norm for a few models.

    Args:
        ax: The axes.
        series: Models of one architecture.
        pen: Sizes.
    """
    deep = len(series[0].result.layers) > MOST_NAMED
    spectral = pen.extras and len(series) <= SPECTRAL_UP_TO and not deep
    missing, shown = False, 0
    for s in series:
        rows = _positive(s.result.layers, "l2")
        missing |= len(rows) < len(s.result.layers)
        shown += len(rows)
        ax.plot(
            list(rows.values()),
            list(rows),
            color=s.color,
            marker=s.marker,
            linestyle=s.linestyle,
            label=s.label,
            markersize=0.25 * pen.font if deep else None,
        )
        if spectral:
            norms = _positive(s.result.layers, "spectral_norm")
            ax.plot(
                list(norms.values()),
                list(norms),
                color=s.color,
                marker=s.marker,
                markerfacecolor="white",
                linestyle="none",
                markeredgewidth=0.8 * pen.line,
            )
    if shown:
        ax.set_xscale("log")
        plain_log(ax.xaxis)
    thinned = name_some_rows(ax, [layer.id for layer in series[0].result.layers], pen)
    ax.set_xlabel("Norm of the weights")
    ax.grid(visible=True, axis="both", which="major")
    hollow = "filled: L2 norm; hollow: spectral norm" if spectral else "L2 norm"
    gaps = "; no mark: norm zero or not finite" if missing else ""
    caption(ax, pen, "Norms by layer", f"{hollow}; {_parameters(series)}{gaps}", thinned)


def _positive(layers: Sequence[LayerWeights], field: str) -> dict[int, float]:
    """Row and norm of the layers whose norm a logarithmic axis can show."""
    norms = {i: getattr(layer, field) for i, layer in enumerate(layers)}
    return {i: norm for i, norm in norms.items() if norm is not None and 0 < norm < float("inf")}


def _parameters(series: Sequence[Series]) -> str:
    totals = {s.result.totals.total for s in series}
    return f"{min(totals):,} parameters" if len(totals) == 1 else f"{min(totals):,} to {max(totals):,} parameters"


@panel("weight_health", WeightResult)
def weight_health(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Health of each layer of each model, as colour and number.

    Args:
        ax: The axes.
        series: Models of one architecture.
        pen: Sizes.
    """
    ids = kept_layers(series, pen.most_layers)
    values = np.full((len(ids), len(series)), np.nan)
    narrow = len(series) > NARROW_FROM
    words = [["–" if narrow else "not judged"] * len(series) for _ in ids]
    for j, s in enumerate(series):
        severity = worst_severity(s.result.findings)
        layers = {layer.id: layer for layer in s.result.layers}
        for i, key in enumerate(ids):
            score = layers[key].health.score
            if score is not None:
                values[i, j] = score
                words[i][j] = _judged(score, MARKS[severity.get(key, 0)], narrow=narrow)
    draw_cells(ax, values, words, HEALTH_MAP, (0.0, 1.0), pen)
    labels = [pen.layer(key) for key in ids]
    name_rows(ax, labels, places=[i + 0.5 for i in range(len(ids))])
    indent = label_indent(labels, pen)
    column_names(ax, series, pen, pen.points - indent - 2 * pen.small)
    total = len(series[0].result.layers)
    kept = left_out(len(ids), total)
    caption(
        ax,
        pen,
        "Health by layer",
        "1 healthy, 0 dead or broken; ! warning, ✕ error",
        f"{kept} (those with fewest findings and best health)" if kept else "",
    )


def _judged(score: float, mark: str, *, narrow: bool) -> str:
    """``! 0.35``, or ``!.35`` where there is little room."""
    number = f"{score:.2f}"
    return f"{mark} {number}".strip() if not narrow else mark + (number.removeprefix("0") if score < 0.995 else "1.0")


@panel("weight_histograms", WeightResult)
def weight_histograms(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Distribution of the weights of each layer, in units of the layer's own RMS.

    Args:
        ax: The axes.
        series: Models of one architecture.
        pen: Sizes.
    """
    ids = kept_layers(series, pen.most_layers)
    reach = 1.0
    for s in series:
        layers = {layer.id: layer for layer in s.result.layers}
        for i, key in enumerate(ids):
            reach = max(reach, _ridge(ax, layers[key], i, s, pen, filled=len(series) == 1))
    reach = min(1.05 * reach, WIDEST)
    if len(series) == 1:
        _scales(ax, series[0].result, ids, pen)
    ax.set_xlim(-reach, reach)
    labels = [pen.layer(key) for key in ids]
    name_rows(ax, labels)
    ax.set_ylim(len(ids) - 0.4, -1.0)
    ax.axvline(0, color="#CCCCCC", linewidth=0.6 * pen.line, zorder=0)
    ax.set_xlabel("Weight / RMS of the layer")
    for side in ("left", "top", "right"):
        ax.spines[side].set_visible(False)
    total = len(series[0].result.layers)
    scale = "right: RMS and number of weights; " if len(series) == 1 else ""
    caption(ax, pen, "Distribution of the weights", f"{scale}up to {WIDEST:g} RMS", left_out(len(ids), total))


def _ridge(ax: Axes, layer: LayerWeights, row: int, s: Series, pen: Pen, *, filled: bool) -> float:
    """One histogram on its row; returns how far it reaches, in RMS."""
    if layer.histogram is None or layer.rms is None:
        ax.text(0, row, "no finite weights", ha="center", va="bottom", fontsize=pen.small)
        return 0.0
    if layer.rms == 0:
        ax.vlines(0, row - 0.85, row, color=s.color, linestyle=s.linestyle)
        return 0.0
    edges = layer.histogram.edges / layer.rms
    widths = np.diff(edges)
    heights = np.divide(layer.histogram.counts, widths, out=np.zeros(widths.size), where=widths > 0)
    heights = 0.85 * heights / (heights.max() or 1.0)
    ax.stairs(
        row - heights,
        edges,
        baseline=row,
        fill=filled,
        color=s.color,
        alpha=0.55 if filled else 1.0,
        linestyle=s.linestyle,
        linewidth=0.9 * pen.line,
    )
    return float(np.abs(edges).max())


def _scales(ax: Axes, result: WeightResult, ids: Sequence[str], pen: Pen) -> None:
    layers: dict[str, Any] = {layer.id: layer for layer in result.layers}
    for i, key in enumerate(ids):
        ax.annotate(
            f"{number(layers[key].rms)} · {layers[key].size:,}",
            (1, i),
            xycoords=("axes fraction", "data"),
            xytext=(3, 1),
            textcoords="offset points",
            fontsize=pen.small,
            va="bottom",
        )


@panel("model_health", WeightResult)
def model_health(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Health of each model, which is that of its worst layer.

    Args:
        ax: The axes.
        series: Weight results.
        pen: Sizes.
    """
    labels = [s.label for s in series]
    room = pen.points - label_indent(labels, pen) - 6 * pen.small
    named = room > 8 * pen.small
    for i, s in enumerate(series):
        health = s.result.health
        word = "not judged" if health.score is None else f"{health.score:.2f}"
        ax.barh(i, health.score or 0.0, height=0.55, color=s.color, alpha=0.75)
        if health.worst and health.score is not None and named:
            word += f"  {pen.book.label(health.worst, room, pen.small)}"
        ax.annotate(
            word,
            (0, i),
            xytext=(2, 0),
            textcoords="offset points",
            va="center",
            fontsize=pen.small,
            parse_math=False,
            bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1},
        )
    name_rows(ax, labels)
    ax.set_ylim(len(series) - 0.5, -0.5)
    ax.set_xlim(0, 1)
    ax.set_xlabel("Health (0 dead or broken, 1 healthy)")
    caption(
        ax,
        pen,
        "Health of the weights",
        ("of the worst layer, which is named; " if named else "of the worst layer; ") + _parameters(series),
    )
