"""What the representations hold, layer by layer: their dimension, the label, units that care for one class."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from analyzer.data_types.information_flow import InformationFlowResult, LayerFlow
from analyzer.visualizers.panels.base import caption, panel
from analyzer.visualizers.panels.flow_lines import (
    DETAILED_UP_TO,
    draw_beside,
    draw_values,
    finish,
    share_axis,
)
from analyzer.visualizers.panels.flow_rows import LayerRows, samples, say_nothing
from analyzer.visualizers.series import Pen, Series
from analyzer.visualizers.style import MUTED

NO_PROBE = "no labels, or too few samples of each class"


@panel("effective_rank", InformationFlowResult)
def effective_rank(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Effective rank of each layer below the largest that the sample can show, and other counts of directions.

    Args:
        ax: The axes.
        series: Models of one architecture.
        pen: Sizes.
    """
    rows = LayerRows.of(series, pen.most_layers)
    title = "Effective rank"
    if not rows.has(lambda layer: layer.effective_rank):
        say_nothing(ax, pen, title, "no rows were kept")
        return
    detailed = pen.extras and len(series) <= DETAILED_UP_TO
    words = ["black bar: the most that sample and width allow"]
    for s in series:
        draw_values(ax, rows, s, lambda layer: layer.effective_rank, pen)
        _draw_ceilings(ax, rows, s, pen)
        words += _draw_other_ranks(ax, rows, s, pen) if detailed else []
    ax.set_xlim(0, None)
    ax.set_xlabel("Directions" if detailed else "Effective rank")
    kinds = ("rank_collapse", "bottleneck")
    finish(ax, rows, pen, title, samples(series, kept=True), *dict.fromkeys(words), kinds=kinds)


def _draw_ceilings(ax: Axes, rows: LayerRows, s: Series, pen: Pen) -> None:
    known = [
        (i + rows.offset(s), layer.effective_rank_ceiling)
        for i, layer in enumerate(rows.layers(s))
        if layer.effective_rank is not None and layer.effective_rank_ceiling is not None
    ]
    ax.plot(
        [ceiling for _, ceiling in known],
        [y for y, _ in known],
        linestyle="none",
        marker="|",
        color="black",
        markersize=pen.font,
    )


def _draw_other_ranks(ax: Axes, rows: LayerRows, s: Series, pen: Pen) -> list[str]:
    """Further counts of directions, of models that have them; returns the words for the caption."""
    words = []
    if s in rows.has(lambda layer: layer.participation_ratio):
        draw_beside(ax, rows, s, lambda layer: layer.participation_ratio, pen)
        words.append("hollow: participation ratio")
    if s in rows.has(lambda layer: layer.intrinsic_dimension):
        draw_beside(ax, rows, s, lambda layer: layer.intrinsic_dimension, pen, "x")
        words.append("×: intrinsic dimension (TwoNN)")
    if s in rows.has(lambda layer: layer.linear_rank):
        draw_beside(ax, rows, s, lambda layer: layer.linear_rank, pen, "1")
        words.append("Y: rank before the activation")
    return words


@panel("knowledge", InformationFlowResult)
def knowledge(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """What a linear probe reads of the label from each layer, with chance, and the separability of classes.

    Args:
        ax: The axes.
        series: Models of one architecture.
        pen: Sizes.
    """
    rows = LayerRows.of(series, pen.most_layers)
    title = "What layers know"
    probed, separated = rows.has(lambda layer: layer.probe), rows.has(lambda layer: layer.separability)
    if not probed and not separated:
        say_nothing(ax, pen, title, NO_PROBE)
        return
    detailed = pen.extras and len(series) <= DETAILED_UP_TO
    chances = _chances(probed)
    for s in series:
        if s in probed:
            draw_values(ax, rows, s, lambda layer: layer.probe, pen)
        if s in separated and (detailed or s not in probed):
            draw_beside(ax, rows, s, lambda layer: layer.separability, pen)
    _draw_chance(ax, chances, pen)
    share_axis(ax, _probe_label(chances) if probed else "Separability")
    hollow = separated and (detailed or len(probed) < len(series))
    lines = [
        "line: linear probe on held-out samples" if probed else "",
        "dotted: chance" if chances and max(chances) > 0 else "",
        "hollow: separability of classes" if hollow else "",
        f"no probe for {len(series) - len(probed)} of {len(series)} models" if len(probed) < len(series) else "",
    ]
    finish(ax, rows, pen, title, samples(series, kept=True), *lines)


def _chances(probed: Sequence[Series]) -> list[float]:
    found = {layer.probe_chance for s in probed for layer in s.result.layers if layer.probe_chance is not None}
    return sorted(found)


def _draw_chance(ax: Axes, chances: Sequence[float], pen: Pen) -> None:
    for chance in (min(chances), max(chances)) if chances else ():
        if chance > 0:
            ax.axvline(chance, color=MUTED, linestyle=(0, (1, 1.5)), linewidth=pen.line)


def _probe_label(chances: Sequence[float]) -> str:
    """Accuracy for classes, whose chance is above zero; R² for numbers."""
    if not chances:
        return "Score of the probe"
    return "Accuracy of the probe" if max(chances) > 0 else "R² of the probe"


@panel("specialization", InformationFlowResult)
def specialization(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Share of a unit's variance that the class explains: the mean of each layer, and the middle half of its units.

    Args:
        ax: The axes.
        series: Models of one architecture.
        pen: Sizes.
    """
    rows = LayerRows.of(series, pen.most_layers)
    title = "Specialization"
    if not rows.has(lambda layer: layer.specialization):
        say_nothing(ax, pen, title, "no classes, or too few samples of each")
        return
    spread = False
    for s in series:
        if pen.extras and len(series) <= DETAILED_UP_TO:
            spread |= _draw_quartiles(ax, rows, s, pen)
        draw_values(ax, rows, s, lambda layer: layer.specialization, pen)
    share_axis(ax, "Share of variance")
    words = "of a unit's variance, what the class explains; mean"
    bar = "bar: middle half of the units" if spread else ""
    finish(ax, rows, pen, title, samples(series, kept=True), words, bar)


def _draw_quartiles(ax: Axes, rows: LayerRows, s: Series, pen: Pen) -> bool:
    drawn = False
    for i, layer in enumerate(rows.layers(s)):
        units = _finite_units(layer)
        if units.size > 1:
            low, high = np.percentile(units, [25, 75])
            ax.hlines(i + rows.offset(s), low, high, color=s.color, linewidth=3.2 * pen.line, alpha=0.3)
            drawn = True
    return drawn


def _finite_units(layer: LayerFlow) -> NDArray[np.float64]:
    if layer.unit_specialization is None:
        return np.zeros(0)
    units: NDArray[np.float64] = np.asarray(layer.unit_specialization, float)
    return units[np.isfinite(units)]


@panel("model_knowledge", InformationFlowResult)
def model_knowledge(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """What a linear probe reads of the label along the depth of each model: comparable between architectures.

    Args:
        ax: The axes.
        series: Information flow results.
        pen: Sizes.
    """
    probed = [s for s in series if any(layer.probe is not None for layer in s.result.layers)]
    if not probed:
        say_nothing(ax, pen, "What layers know", NO_PROBE)
        return
    for s in probed:
        layers = s.result.layers
        known = [(i, layer.probe) for i, layer in enumerate(layers) if layer.probe is not None]
        ax.plot(
            [(i + 1) / len(layers) for i, _ in known],
            [float(probe) for _, probe in known],
            color=s.color,
            marker=s.marker,
            linestyle=s.linestyle,
            markevery=max(1, len(known) // 8),
        )
    chances = _chances(probed)
    for chance in (min(chances), max(chances)) if chances and chances[-1] > 0 else ():
        ax.axhline(chance, color=MUTED, linestyle=(0, (1, 1.5)), linewidth=pen.line)
    low = ax.get_ylim()[0]
    ax.set(xlim=(0, 1.03), ylim=(max(-1.0, low) if low < 0 else 0, 1.03))
    ax.set_xlabel("Depth (first layer to last)")
    ax.set_ylabel(_probe_label(chances))
    ax.grid(visible=True)
    missing = f"; no probe for {len(series) - len(probed)} of {len(series)} models" if len(probed) < len(series) else ""
    dotted = "; dotted: chance" if chances and not math.isclose(max(chances), 0) else ""
    caption(ax, pen, "What layers know", f"{samples(series, kept=True)} samples; linear probe{dotted}{missing}")
