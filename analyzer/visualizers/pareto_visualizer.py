"""`pareto_analysis`: which models are the best trade-offs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

# Re-exported: the coordinator names the type of what it returns, and does not know matplotlib.
from matplotlib.figure import Figure as Figure

from analyzer.data_types.comparison import Comparison
from analyzer.data_types.pareto import ParetoResult
from analyzer.errors import DataError
from analyzer.visualizers.base import FigureVisualizer
from analyzer.visualizers.panels.pareto import draw_front, draw_parallel, draw_table
from analyzer.visualizers.series import Series
from analyzer.visualizers.sheet import Cell, Row
from analyzer.visualizers.text import NameBook, displayable


class ParetoVisualizer(FigureVisualizer):
    """The front in the plane of two objectives, or all of more than two side by side, and the normalised table."""

    name = "pareto"
    file_name = "pareto_analysis"
    title = "Pareto analysis"

    def figure(self) -> Figure:
        """Draw the figure without writing it.

        Raises:
            DataError: If the results hold no Pareto analysis.
        """
        figure = super().figure()
        if figure is None:
            raise DataError("The results hold no Pareto analysis: too few models have the values for it.")
        return figure

    def save(self, figure: Figure) -> Path:
        """Write a figure under the name of this visualizer, whether or not the options ask for figures.

        Args:
            figure: From `figure`.

        Returns:
            The file.

        Raises:
            OutputError: If the folder cannot be written.
        """
        return self._save_figure(figure, self.file_name)

    def rows(self, book: NameBook) -> tuple[list[Row], Sequence[Series], list[str]]:
        """See `FigureVisualizer.rows`."""
        comparison = self.results.comparison
        found = comparison.pareto if isinstance(comparison, Comparison) else None
        if found is None:
            return [], (), []
        models = self.cast(found.models, book).series
        front = Cell(draw=lambda ax, pen: draw_front(ax, found, models, pen))
        table = Cell(draw=lambda ax, pen: draw_table(ax, found, models, pen), width=1.1)
        height = max(1.3 * self.style.panel_height, 1.2 + len(models) * 2.4 * self.style.small / 72)
        if len(found.axes) == 2:
            return [Row(cells=(front, table), height=height)], models, _notes(found)
        lines = Cell(draw=lambda ax, pen: draw_parallel(ax, found, models, pen))
        rows = [Row(cells=(lines,), height=1.2 * self.style.panel_height), Row(cells=(table,), height=height)]
        return rows, models, _notes(found)


def _notes(found: ParetoResult) -> list[str]:
    """Who is not compared or under-fitted, and why there is no knee or hypervolume."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in found.left_out.items():
        by_reason.setdefault(reason, []).append(displayable(name))
    notes = [f"Not compared: {', '.join(names)} – {displayable(reason)}" for reason, names in by_reason.items()]
    under = [displayable(name) for name, model in found.models.items() if model.under_fitted]
    if under:
        notes.append(
            f"Under-fitted: {', '.join(under)} – training loss above the validation loss of the best model; "
            "a small gap is then no merit."
        )
    if found.hypervolume is not None:
        notes.append(f"Hypervolume of the front: {found.hypervolume:.3f} of the box of all trade-offs.")
    return notes
