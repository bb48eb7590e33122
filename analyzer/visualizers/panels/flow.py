"""Activations by layer: level, effective rank, silent units."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from analyzer.data_types.information_flow import InformationFlowResult, LayerFlow
from analyzer.visualizers.panels.base import caption, dodge, label_indent, name_rows, panel
from analyzer.visualizers.panels.layers import column_names, draw_cells, left_out, most_important, worst_severity
from analyzer.visualizers.series import Pen, Series, error_bar, sample_sizes, value_of
from analyzer.visualizers.style import MUTED


def kept_layers(group: Sequence[Series], limit: int | None) -> list[str]:
    """Ids of the layers that matter most: findings first, then the largest share of dead units, then of zeros.

    Args:
        group: Models of one architecture.
        limit: Most layers to keep.
    """
    severities = [worst_severity(s.result.findings) for s in group]

    def importance(i: int) -> tuple[float, ...]:
        layers = [s.result.layers[i] for s in group]
        return (
            max(severity.get(_owner(layers[0].id), severity.get(layers[0].id, 0)) for severity in severities),
            max((layer.dead_units or 0) / max(layer.n_units, 1) for layer in layers),
            max(layer.sparsity for layer in layers),
        )

    return most_important([layer.id for layer in group[0].result.layers], limit, importance)


def _owner(call: str) -> str:
    """The layer behind a further call of it (``dense@2``)."""
    head, _, count = call.rpartition("@")
    return head if head and count.isdigit() else call


def _rows(group: Sequence[Series], pen: Pen) -> tuple[list[str], dict[str, list[LayerFlow]]]:
    ids = kept_layers(group, pen.most_layers)
    found = [{layer.id: layer for layer in s.result.layers} for s in group]
    return ids, {key: [layers[key] for layers in found] for key in ids}


def _finish(ax: Axes, series: Sequence[Series], ids: Sequence[str], pen: Pen, title: str, *details: str) -> None:
    labels = [pen.layer(key) if pen.row_names else "" for key in ids]
    name_rows(ax, labels)
    ax.set_ylim(len(ids) - 0.5, -0.5)
    ax.grid(visible=True, axis="x")
    sizes = sample_sizes([s.result.n for s in series])
    caption(
        ax,
        pen,
        title,
        f"{sizes} samples; {'; '.join(d for d in details if d)}",
        left_out(len(ids), len(series[0].result.layers)),
    )


@panel("activations", InformationFlowResult)
def activations(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Mean activation of each layer, one standard deviation to either side, and the range.

    Args:
        ax: The axes.
        series: Models of one architecture.
        pen: Sizes.
    """
    ids, layers = _rows(series, pen)
    ax.axvline(0, color=MUTED, linewidth=0.6 * pen.line)
    thick = (2.6 if len(series) < 4 else 1.4) * pen.line
    for j, s in enumerate(series):
        at = [i + dodge(len(series), j, 0.5) for i, key in enumerate(ids) if layers[key][j].mean is not None]
        known = [layers[key][j] for key in ids if layers[key][j].mean is not None]
        ends = [_deviation(layer) for layer in known]
        ax.hlines(at, [e[0] for e in ends], [e[1] for e in ends], color=s.color, linewidth=thick, alpha=0.5)
        means = [layer.mean or 0.0 for layer in known]
        ax.plot(means, at, color=s.color, marker=s.marker, linestyle=s.linestyle, linewidth=0.7 * pen.line)
    ax.set_xlabel("Activation")
    _finish(ax, series, ids, pen, "Activations", "mean ± standard deviation, cut at the extremes that occurred")


def _deviation(layer: LayerFlow) -> tuple[float, float]:
    """One standard deviation to either side of the mean; a rectifier, for one, has no activation below zero."""
    mean, std = layer.mean or 0.0, layer.std or 0.0
    low = mean - std if layer.min is None else max(mean - std, layer.min)
    high = mean + std if layer.max is None else min(mean + std, layer.max)
    return low, high


@panel("effective_rank", InformationFlowResult)
def effective_rank(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Effective rank of each layer below the largest that the sample can show.

    Args:
        ax: The axes.
        series: Models of one architecture.
        pen: Sizes.
    """
    ids, layers = _rows(series, pen)
    highest = 1.0
    for j, s in enumerate(series):
        known = [(i, layers[key][j]) for i, key in enumerate(ids)]
        ranks = [
            (i + dodge(len(series), j, 0.5), layer.effective_rank, layer.effective_rank_ceiling)
            for i, layer in known
            if layer.effective_rank is not None and layer.effective_rank.value is not None
        ]
        if not ranks:
            continue
        values = [value_of(rank) for _, rank, _ in ranks]
        ax.errorbar(
            values,
            [y for y, _, _ in ranks],
            xerr=error_bar([rank for _, rank, _ in ranks]),
            color=s.color,
            marker=s.marker,
            linestyle=s.linestyle,
            linewidth=0.8 * pen.line,
            capsize=1.2 * pen.line,
            elinewidth=0.8 * pen.line,
        )
        ceilings = [(y, ceiling) for y, _, ceiling in ranks if ceiling is not None]
        ax.plot(
            [c for _, c in ceilings],
            [y for y, _ in ceilings],
            linestyle="none",
            marker="|",
            color="black",
            markersize=pen.font,
        )
        highest = max([highest, *values, *(c for _, c in ceilings)])
    ax.set_xlim(0, 1.05 * highest)
    ax.set_xlabel("Effective rank")
    _finish(ax, series, ids, pen, "Effective rank", "black bar: the largest that sample and width allow")


@panel("flow_health", InformationFlowResult)
def flow_health(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Share of zeros of each layer, and how many of its units never fired.

    Args:
        ax: The axes.
        series: Models of one architecture.
        pen: Sizes.
    """
    ids, layers = _rows(series, pen)
    values = np.array([[layer.sparsity for layer in layers[key]] for key in ids])
    words = [[_silent(layer, short=len(series) > 2 or not pen.row_names) for layer in layers[key]] for key in ids]
    draw_cells(ax, values, words, matplotlib.colormaps["cividis_r"], (0.0, 1.0), pen)
    labels = [pen.layer(key) if pen.row_names else "" for key in ids]
    name_rows(ax, labels, places=[i + 0.5 for i in range(len(ids))])
    indent = label_indent(labels, pen)
    column_names(ax, series, pen, pen.points - indent - 2 * pen.small)
    dead = "† units that never fired, of rectified layers"
    caption(
        ax,
        pen,
        "Zeros and dead units",
        f"{sample_sizes([s.result.n for s in series])} samples; share of zeros; {dead}",
        left_out(len(ids), len(series[0].result.layers)),
    )


def _silent(layer: LayerFlow, *, short: bool) -> str:
    share = f"{layer.sparsity:.0%}"
    if not layer.dead_units:
        return share
    return f"{share} †" if short else f"{share}  †{layer.dead_units} of {layer.n_units}"


@panel("model_flow", InformationFlowResult)
def model_flow(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Share of zeros along the depth of each model: comparable between architectures.

    Args:
        ax: The axes.
        series: Information flow results.
        pen: Sizes.
    """
    for s in series:
        layers = s.result.layers
        depth = [(i + 1) / len(layers) for i in range(len(layers))]
        ax.plot(
            depth,
            [layer.sparsity for layer in layers],
            color=s.color,
            marker=s.marker,
            linestyle=s.linestyle,
            markevery=max(1, len(layers) // 8),
        )
    ax.set(xlim=(0, 1.03), ylim=(-0.03, 1.03))
    ax.set_xlabel("Depth (first layer to last)")
    ax.set_ylabel("Share of zero activations")
    ax.grid(visible=True)
    caption(ax, pen, "Zeros along the depth", f"{sample_sizes([s.result.n for s in series])} samples")
