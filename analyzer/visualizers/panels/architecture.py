"""The graph of a model's layers: boxes with shapes, parameters and operations; findings in the colour of severity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from analyzer.data_types.cost import CostResult, Shape
from analyzer.data_types.values import Finding
from analyzer.visualizers.graph import Box, kinds_in_words, sketch
from analyzer.visualizers.graph_layout import Edge, Layout, Sizes, arrange
from analyzer.visualizers.panels.base import caption
from analyzer.visualizers.panels.layers import SEVERITY
from analyzer.visualizers.series import Pen, Series
from analyzer.visualizers.style import MUTED
from analyzer.visualizers.text import displayable, elide, text_width

MOST_BOXES = 40
"""Boxes of one graph; of a larger one, blocks and repetitions are one box each."""

LOOKS = {None: ("#F7F7F7", "#8C8C8C"), 0: ("#DCEBF7", "#0072B2"), 1: ("#FCE9C8", "#C77700"), 2: ("#F9D5CC", "#B3261E")}
"""Fill and edge of a box without findings, with information, a warning, an error."""

_NAMES = {0: "information", 1: "warning", 2: "error"}
_CAPTION_LINES = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """One architecture with what is drawn on it.

    Attributes:
        cost: Costs, with the layers.
        findings: Of all analyses and of all models that have it.
    """

    cost: CostResult
    findings: tuple[Finding, ...] = ()

    @property
    def boxes(self) -> tuple[Box, ...]:
        """What is drawn."""
        return sketch(self.cost, MOST_BOXES)


def sizes(width: float, small: float) -> Sizes:
    """Lengths for a panel of a width in inches and a size of type in points."""
    return Sizes(width=width, narrowest=17 * small / 72, widest=34 * small / 72, box_height=6.2 * small / 72)


def graph_height(drawn: Drawn, width: float, small: float) -> float:
    """Inches that the graph and its caption take.

    Args:
        drawn: What is drawn.
        width: Width of the panel in inches.
        small: Size of small type in points.
    """
    return arrange(drawn.boxes, sizes(width, small)).height + _caption_height(small)


def _caption_height(small: float) -> float:
    return (_CAPTION_LINES + 3) * 1.35 * small / 72


def architecture(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Draw the graph of the first model; the others have the same."""
    drawn: Drawn = series[0].result
    boxes = drawn.boxes
    layout = arrange(boxes, sizes(pen.width - 0.2, pen.small))
    ax.set_xlim(0, max(layout.width, pen.width - 0.2))
    # Beside a taller graph, boxes keep their size.
    ax.set_ylim(max(layout.height, pen.height - _caption_height(pen.small)), 0)
    ax.set_axis_off()
    for edge in layout.edges:
        _draw_edge(ax, edge, pen)
    found = _by_box(boxes, drawn.findings)
    for box in boxes:
        _draw_box(ax, box, layout, found.get(box.id, []), pen)
    title = ", ".join(one.label.replace("\n", "") for one in series)
    caption(ax, pen, pen.heading or title, *_details(drawn, boxes, found))


def _details(drawn: Drawn, boxes: Sequence[Box], found: Mapping[str, list[Finding]]) -> list[str]:
    cost = drawn.cost
    calls = len({layer for box in boxes for layer in box.layers})
    alone = sum(len(box.layers) == 1 for box in boxes)
    flops = f"{'at least ' if cost.uncounted else ''}{in_units(cost.flops, 'FLOP')}" if cost.flops is not None else ""
    figures = [f"{in_units(cost.parameters, '')} parameters", f"{in_units(cost.parameter_bytes, 'B')}"]
    largest = cost.largest_activation_bytes
    figures += [f"{flops} per sample"] if flops else []
    figures += [f"largest result {in_units(largest, 'B')}"] if largest is not None else []
    size = f"{calls} layers drawn"
    if alone < calls:
        size = f"{calls - alone} of {calls} layers not shown one by one but in boxes of several ({_groups(boxes)})"
    guessed = any(guess for box in boxes for guess in box.sources.values())
    levels = sorted({max(SEVERITY[f.severity] for f in some) for some in found.values()}, reverse=True)
    marks = ", ".join(f"{_NAMES[level]}: {_COLOURS[level]}" for level in levels)
    notes = [f"Findings – {marks}"] if marks else []
    notes += ["Dashed – inferred, for operations between layers are not seen"] if guessed else []
    # Two lines: broken in the middle of one, a number would part from its unit.
    return [" · ".join(figures[:2]), " · ".join(figures[2:]), size, "; ".join(notes)]


_COLOURS = {0: "blue", 1: "orange", 2: "red"}


def _groups(boxes: Sequence[Box]) -> int:
    return sum(len(box.layers) > 1 for box in boxes)


def _by_box(boxes: Sequence[Box], findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    """Findings by id of the box that shows their layer; those about a call also count for the layer."""
    at = {layer: box.id for box in boxes for layer in box.layers}
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.layer is None:
            continue
        key = at.get(finding.layer) or at.get(finding.layer.partition("@")[0])
        if key is not None:
            found.setdefault(key, []).append(finding)
    return found


def _draw_box(ax: Axes, box: Box, layout: Layout, found: Sequence[Finding], pen: Pen) -> None:
    x, y = layout.centres[box.id]
    width, height = layout.box_width, layout.box_height
    worst = max((SEVERITY[finding.severity] for finding in found), default=None)
    fill, edge = LOOKS[worst]
    left, top = x - width / 2, y - height / 2
    rounded = "round,pad=0,rounding_size=0.05"
    line = pen.line * (1.4 if worst else 0.7)
    ax.add_patch(FancyBboxPatch((left, top), width, height, boxstyle=rounded, fc=fill, ec=edge, lw=line, zorder=2))
    if box.times > 1 or len(box.kinds) > 1:
        # A second edge behind says that the box holds several layers.
        under = (left + 0.025, top + 0.03)
        ax.add_patch(FancyBboxPatch(under, width, height, boxstyle=rounded, fc="white", ec=edge, lw=line, zorder=1.5))
    room = (width - 0.08) * 72 * 0.93
    lines = _lines(box, found, room, pen)
    step = 0.215 * height
    for i, (text, bold) in enumerate(lines):
        ax.text(
            x,
            y + (i - (len(lines) - 1) / 2) * step,
            text,
            ha="center",
            va="center",
            fontsize=pen.small if bold else 0.92 * pen.small,
            color="black" if bold else MUTED if worst is None or i < len(lines) - 1 else edge,
            fontweight="bold" if i and worst and i == len(lines) - 1 else "normal",
            parse_math=False,
            zorder=3,
        )


def _lines(box: Box, found: Sequence[Finding], room: float, pen: Pen) -> list[tuple[str, bool]]:
    """What is written in a box, each line with whether it is the name."""
    small = 0.92 * pen.small
    times = f" (× {box.times})" if box.times > 1 else ""
    lines = [(pen.book.label(box.title + times, room, pen.small), True)]
    kinds = displayable(kinds_in_words(box)) if box.kinds else ""
    shape = [shape_in_words(box.shape)] if box.shape is not None else []
    parameters = [in_units(box.parameters, "P")] if box.parameters else []
    operations = [_operations(box)] if box.kinds else []
    numbers = " · ".join([*shape, *parameters, *operations])
    if text_width(numbers, small) > room:
        kinds, numbers = " · ".join([kinds, *parameters]), " · ".join([*shape, *operations])
    lines += [(elide(text, room, small), False) for text in (kinds, numbers) if text]
    if found:
        counts = Counter(finding.kind for finding in found)
        words = ", ".join(f"{kind} × {n}" if n > 1 else kind for kind, n in counts.most_common())
        lines.append((elide(displayable(words), 0.93 * room, small), False))
    return lines


def _operations(box: Box) -> str:
    if box.flops is None:
        return "FLOP: ?"
    return in_units(box.flops, "FLOP") if box.counted else f"≥ {in_units(box.flops, 'FLOP')}"


def _draw_edge(ax: Axes, edge: Edge, pen: Pen) -> None:
    xs, ys = zip(*edge.points, strict=True)
    style = (0, (3, 2)) if edge.guess else "-"
    ax.plot(xs, ys, color="#6B6B6B", linewidth=0.8 * pen.line, linestyle=style, zorder=1)
    ax.plot(xs[-1], ys[-1] - 0.02, marker="v", markersize=3 * pen.line, color="#6B6B6B", zorder=1)


def shape_in_words(shape: Shape) -> str:
    """``56×56×64``; ``scalar`` without axes."""
    return "×".join("?" if length is None else str(length) for length in shape) or "scalar"


def in_units(number: float | None, unit: str) -> str:
    """Three digits with k, M, G or T; a dash where there is no number."""
    if number is None:
        return "–"
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= factor:
            return f"{number / factor:.3g} {letter}{unit}"
    return f"{number:.3g} {unit}".rstrip()
