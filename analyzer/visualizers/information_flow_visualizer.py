"""`information_flow_analysis`: what passes through the layers."""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.visualizers.base import FigureVisualizer
from analyzer.visualizers.panels import flow
from analyzer.visualizers.panels.layers import by_architecture
from analyzer.visualizers.series import Series
from analyzer.visualizers.sheet import Row, cell
from analyzer.visualizers.text import NameBook, displayable
from analyzer.visualizers.weight_visualizer import HEADROOM

MOST_COLUMNS = 4
"""Models up to which the table of zeros stands beside the other panels."""


class InformationFlowVisualizer(FigureVisualizer):
    """Level, effective rank and silent units of each layer; two rows of panels for each architecture."""

    name = "information_flow"
    file_name = "information_flow_analysis"
    title = "Information flow"

    def rows(self, book: NameBook) -> tuple[list[Row], Sequence[Series], list[str]]:
        """See `FigureVisualizer.rows`."""
        cast = self.cast(self.results.information_flow, book)
        drawn = [s for s in cast.series if s.result.layers]
        limit = self.config.max_layers_info_flow
        rows: list[Row] = []
        for group in by_architecture(drawn):
            layers = min(len(group[0].result.layers), limit)
            each = max(2.0, 0.75 * len(group)) * self.style.small / 72
            height = max(0.7 * self.style.panel_height, HEADROOM * self.style.small / 6.5 + layers * each)
            rows += self._rows(group, height)
        unfollowed = [
            f"Not followed: {displayable(layer)} – {displayable(why)}"
            for layer, why in {k: v for s in drawn for k, v in s.result.skipped.items()}.items()
        ]
        return rows, drawn, cast.notes("information flow") + unfollowed

    def _rows(self, group: Sequence[Series], height: float) -> list[Row]:
        """The panels of one architecture; their rows are the same layers, which the first panel names."""
        limit = self.config.max_layers_info_flow
        ranked = any(layer.effective_rank is not None for s in group for layer in s.result.layers)
        beside = [flow.effective_rank] if ranked else []
        apart = len(group) > MOST_COLUMNS
        cells = [cell(flow.activations, group, most_layers=limit, width=1.4)]
        cells += [cell(panel, group, most_layers=limit, row_names=False) for panel in beside]
        table = cell(flow.flow_health, group, most_layers=limit, row_names=apart)
        if apart:
            line = self.style.small / 72
            below = len(flow.kept_layers(group, limit)) * 1.9 * line + HEADROOM * self.style.small / 6.5
            return [Row(cells=tuple(cells), height=height), Row(cells=(table,), height=below)]
        return [Row(cells=(*cells, table), height=height)]
