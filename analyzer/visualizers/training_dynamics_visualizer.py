"""`training_dynamics`: how the models came to be."""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.visualizers.base import FigureVisualizer
from analyzer.visualizers.panels import training
from analyzer.visualizers.panels.tables import table_height, training_table
from analyzer.visualizers.series import Series
from analyzer.visualizers.sheet import Row, cell
from analyzer.visualizers.text import NameBook, displayable


class TrainingDynamicsVisualizer(FigureVisualizer):
    """Curves of loss and performance, the gap between them, best epochs, and a table."""

    name = "training_dynamics"
    file_name = "training_dynamics"
    title = "Training dynamics"

    def rows(self, book: NameBook) -> tuple[list[Row], Sequence[Series], list[str]]:
        """See `FigureVisualizer.rows`."""
        cast = self.cast(self.results.training_dynamics, book)
        # A model without a history may still have an evaluated gap; it is in the results, there are no curves.
        drawn = [s for s in cast.series if s.result.n_runs]
        if not drawn:
            return [], (), []
        bare = [
            f"Not shown: {displayable(s.name)} – {s.result.performance_reason}" for s in cast.series if s not in drawn
        ]
        top = [
            cell(panel, having)
            for panel, having in (
                (training.loss, [s for s in drawn if s.result.loss is not None]),
                (training.performance, [s for s in drawn if s.result.performance is not None]),
            )
            if having
        ]
        both = [s for s in drawn if s.result.gap is not None]
        peaks = [s for s in drawn if s.result.peak_performance is not None]
        middle = [cell(training.gap, drawn)] if both else []
        middle += [cell(training.best_epoch, drawn)] if peaks else []
        rows = [Row(cells=tuple(cells), height=1.08 * self.style.panel_height) for cells in (top, middle) if cells]
        rows.append(Row(cells=(cell(training_table, drawn),), height=table_height(drawn, self.style.small)))
        return rows, drawn, [*cast.notes("training dynamics"), *bare]
