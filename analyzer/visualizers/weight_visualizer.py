"""`weight_learning_journey` and `weight_histograms`: what training made of the weights, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.visualizers.base import FigureVisualizer
from analyzer.visualizers.panels import weights
from analyzer.visualizers.panels.layers import by_architecture, rows_height
from analyzer.visualizers.series import Series
from analyzer.visualizers.sheet import Row, cell
from analyzer.visualizers.text import NameBook

HEADROOM = 1.05
"""Inches for caption, axis and names below the columns."""


class WeightVisualizer(FigureVisualizer):
    """Norms and health by layer, one row of panels for each architecture; then the histograms."""

    name = "weights"
    file_name = "weight_learning_journey"
    title = "Weights: norms and health by layer"

    def create_visualizations(self) -> None:
        """Draw and write both figures."""
        super().create_visualizations()
        HistogramVisualizer(self.results, self.config, self.output_dir, self.model_colors).create_visualizations()

    def rows(self, book: NameBook) -> tuple[list[Row], Sequence[Series], list[str]]:
        """See `FigureVisualizer.rows`."""
        cast = self.cast(self.results.weights, book)
        drawn = [s for s in cast.series if s.result.layers]
        limit = self.config.max_layers_heatmap
        rows = []
        for group in by_architecture(drawn):
            layers = len(group[0].result.layers)
            tall = max(rows_height(layers, self.style.small), rows_height(limit, self.style.small, most=layers))
            height = max(0.75 * self.style.panel_height, HEADROOM * self.style.small / 6.5 + tall)
            wide = 1.0 if len(group) <= weights.NARROW_FROM else 1.5
            health = cell(weights.weight_health, group, most_layers=limit, width=wide)
            cells = (cell(weights.weight_norms, group), health)
            rows.append(Row(cells=cells, height=height))
        return rows, drawn, cast.notes("weights") + empty_notes(cast.series)


class HistogramVisualizer(FigureVisualizer):
    """The distribution of the weights of each layer, one panel for each architecture."""

    name = "weight_histograms"
    file_name = "weight_histograms"
    title = "Weights: distribution by layer"

    def rows(self, book: NameBook) -> tuple[list[Row], Sequence[Series], list[str]]:
        """See `FigureVisualizer.rows`."""
        cast = self.cast(self.results.weights, book)
        drawn = [s for s in cast.series if s.result.layers]
        limit = self.config.max_layers_heatmap
        groups = by_architecture(drawn)
        rows = []
        for pair in (groups[i : i + 2] for i in range(0, len(groups), 2)):
            layers = max(min(len(group[0].result.layers), limit) for group in pair)
            height = 0.95 * self.style.small / 6.5 + layers * 2.6 * self.style.small / 72
            cells = tuple(
                cell(weights.weight_histograms, group, most_layers=limit, heading=_heading(group, groups))
                for group in pair
            )
            rows.append(Row(cells=cells, height=max(height, 0.7 * self.style.panel_height)))
        return rows, drawn, cast.notes("weights") + empty_notes(cast.series)


def _heading(group: Sequence[Series], groups: Sequence[Sequence[Series]]) -> str | None:
    return ", ".join(s.label.replace("\n", "") for s in group) if len(groups) > 1 else None


def empty_notes(series: Sequence[Series]) -> list[str]:
    """A sentence per model that has no layer to show."""
    return [f"Not shown: {s.label} – no layer with weights is reported" for s in series if not s.result.layers]
