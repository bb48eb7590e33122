"""`architecture`: the graph of each model's layers, with what they cost and what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analyzer.visualizers.base import FigureVisualizer, grid_rows
from analyzer.visualizers.graph import Box
from analyzer.visualizers.graph_layout import lanes
from analyzer.visualizers.panels.architecture import Drawn, architecture, graph_height
from analyzer.visualizers.series import Series
from analyzer.visualizers.sheet import Row, cell
from analyzer.visualizers.text import NameBook, displayable

MOST_ABREAST, MOST_BOXES_BESIDE = 2, 14
"""Boxes of one rank, and in all, up to which two graphs stand beside each other."""

READING = (
    "In a box: shape of the result, parameters (P) and floating-point operations (FLOP, a multiply-add is 2) for one "
    "sample. Boxes with a second edge hold several layers."
)


class ArchitectureVisualizer(FigureVisualizer):
    """One graph for each architecture; models that share it share the graph, and their findings stand on it."""

    name = "architecture"
    file_name = "architecture"
    title = "Architecture: layers, costs and findings"

    def rows(self, book: NameBook) -> tuple[list[Row], Sequence[Series], list[str]]:
        """See `FigureVisualizer.rows`."""
        cast = self.cast(self.results.cost, book)
        series = [s for s in cast.series if s.result.layers]
        groups = [self._drawn(group) for group in _by_graph(series)]
        few = all(_is_small(group[0].result.boxes) for group in groups)
        columns = 2 if len(groups) > 1 and few else 1
        width = self.style.width / columns
        rows: list[Row] = []
        for start in range(0, len(groups), columns):
            pair = groups[start : start + columns]
            height = max(graph_height(group[0].result, width - 0.2, self.style.small) for group in pair)
            rows += grid_rows([cell(architecture, group) for group in pair], columns, height)
        empty = [f"Not shown: {displayable(s.name)} – it could not be traced" for s in cast.series if s not in series]
        return rows, [], [READING, *cast.notes("cost"), *empty]

    def _drawn(self, group: Sequence[Series]) -> list[Series]:
        names = {s.name for s in group}
        findings = tuple(finding for _, model, finding in self.results.all_findings() if model in names)
        return [s.of(Drawn(cost=s.result, findings=findings)) for s in group]


def _is_small(boxes: Sequence[Box]) -> bool:
    return lanes(boxes) <= MOST_ABREAST and len(boxes) <= MOST_BOXES_BESIDE


def _by_graph(series: Sequence[Series]) -> list[list[Series]]:
    """Series whose models have the same layers of the same sizes, connected in the same way."""
    groups: dict[tuple[Any, ...], list[Series]] = {}
    for s in series:
        key = tuple((one.id, one.kind, one.output_shapes, one.sources, one.parameters) for one in s.result.layers)
        groups.setdefault(key, []).append(s)
    return list(groups.values())
