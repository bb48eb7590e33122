"""`summary_dashboard`: everything at a glance."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

from matplotlib.axes import Axes

from analyzer.data_types.calibration import ClassificationCalibration, MultiLabelCalibration
from analyzer.data_types.comparison import Comparison
from analyzer.data_types.plugins import by_model
from analyzer.data_types.regression_calibration import GaussianCalibration, QuantileCalibration, RegressionCalibration
from analyzer.data_types.values import Estimate, Failed, Skipped
from analyzer.visualizers.base import FigureVisualizer, grid_rows
from analyzer.visualizers.panels import (
    flow,
    flow_knowledge,
    regression,
    relevance,
    relevance_scores,
    robustness,
    shift,
    tables,
    training,
    weights,
)
from analyzer.visualizers.panels.comparison import draw_similarity, looks_of, similarity_of
from analyzer.visualizers.panels.confidence import confidence
from analyzer.visualizers.panels.pareto import draw_front
from analyzer.visualizers.panels.plugins import plugin_table, shortened
from analyzer.visualizers.panels.reliability import reliability
from analyzer.visualizers.panels.scores import landscape
from analyzer.visualizers.panels.tables import table_height
from analyzer.visualizers.series import LABEL_SHARE, Cast, Pen, Series
from analyzer.visualizers.sheet import Cell, Row, cell
from analyzer.visualizers.text import NameBook, displayable

MOST_PLUGINS = 6
"""Plugins with a table on the dashboard; the others are named below it."""

MOST_NOTES = 12
"""Lines about plugins below the panels."""

CLASSES = (ClassificationCalibration, MultiLabelCalibration)


class SummaryVisualizer(FigureVisualizer):
    """Performance, similarity, confidence and calibration of all models; further analyses add rows."""

    name = "summary"
    file_name = "summary_dashboard"
    title = "Summary"

    def rows(self, book: NameBook) -> tuple[list[Row], Sequence[Series], list[str]]:
        """See `FigureVisualizer.rows`."""
        found = self.results
        performance = self.cast(found.performance, book)
        calibration = self.cast(found.calibration, book)
        similarity, notes = self._similarity(book)
        first = [self._table(performance, calibration)] if performance.series else []
        cells = first + similarity + self._calibration(calibration)
        more, further = self._further(book)
        rows = self._paired(cells, performance) + grid_rows(
            more, 2 if len(more) == 4 else 3, self._height(len(found.model_names), 2.2)
        )
        tables, missing = self._plugins(book)
        rows += tables
        notes = performance.notes("performance") + calibration.notes("calibration") + further + notes + missing
        models = looks_of(found.model_names, self.model_colors, book, self._room, self.style.small).series
        outputs = {s.name: s for cast in (performance, calibration) for s in cast.series}
        key = outputs if any(name not in found.model_names for name in outputs) else {s.name: s for s in models}
        return rows, tuple(key.values()), notes

    @property
    def _room(self) -> float:
        return LABEL_SHARE * 72 * self.style.width / 2

    def _height(self, models: int, lines: float) -> float:
        """Height of a panel that has this many lines of type per model."""
        return max(1.05 * self.style.panel_height, 0.75 + models * lines * self.style.small / 72)

    def _paired(self, cells: Sequence[Cell], performance: Cast) -> list[Row]:
        """Two panels side by side; the first row is as high as the table needs, the others as the violins need."""
        models = len(self.results.model_names)
        table = max(1.05 * self.style.panel_height, table_height(performance.series, self.style.small))
        heights = [table] + [self._height(models, 4.2)] * len(cells)
        pairs = [cells[i : i + 2] for i in range(0, len(cells), 2)]
        return [Row(cells=tuple(pair), height=height) for pair, height in zip(pairs, heights, strict=False)]

    def _table(self, performance: Cast, calibration: Cast) -> Cell:
        known = {s.name: s.result for s in calibration.series}
        more = {
            heading: [tables.with_interval(_estimate(known.get(s.name), field)) for s in performance.series]
            for heading, field in (("ECE", "ece"), ("Brier", "brier"), ("Log loss", "log_loss"), ("CRPS", "crps"))
        }

        def draw(ax: Axes, pen: Pen) -> None:
            tables.fill_performance(ax, performance.series, more, pen)

        return Cell(draw=draw)

    def _similarity(self, book: NameBook) -> tuple[list[Cell], list[str]]:
        comparison = self.results.comparison
        place = {name: i for i, name in enumerate(self.results.model_names)}
        if isinstance(comparison, Skipped | Failed):
            return [], [f"Not shown: similarity of models – {comparison.status}: {displayable(comparison.reason)}"]
        shown = similarity_of(comparison) if isinstance(comparison, Comparison) else None
        if shown is None:
            return [], ["Not shown: similarity of models – there is one model only."] if len(place) == 1 else []
        looks = looks_of(shown.names, self.model_colors, book, self._room, self.style.small).series
        full = looks_of(self.results.model_names, self.model_colors, book, self._room, self.style.small).series
        models = [full[place[s.name]] if s.name in place else s for s in looks]
        return [Cell(draw=lambda ax, pen: draw_similarity(ax, shown, models, pen))], []

    def _calibration(self, cast: Cast) -> list[Cell]:
        cells: list[Cell] = []
        if classes := cast.having(*CLASSES):
            alone = len(classes) == 1
            cells += [cell(reliability, classes)] if alone else []
            cells += [cell(confidence, classes), cell(landscape, classes)]
        if distributions := cast.having(GaussianCalibration, QuantileCalibration):
            cells.append(cell(regression.coverage, distributions))
        if points := cast.having(RegressionCalibration, GaussianCalibration):
            cells.append(cell(regression.residual_distribution, points))
        return cells

    def _further(self, book: NameBook) -> tuple[list[Cell], list[str]]:
        """Panels of the analyses beyond the first four, and what they lack."""
        cells: list[Cell] = []
        weighed = self.cast(self.results.weights, book)
        trained = self.cast(self.results.training_dynamics, book)
        flowing = self.cast(self.results.information_flow, book)
        if weighed.series:
            cells.append(cell(weights.model_health, weighed.series))
        if any(s.result.performance is not None for s in trained.series):
            cells.append(cell(training.performance, trained.series))
        elif any(s.result.loss is not None for s in trained.series):
            cells.append(cell(training.loss, trained.series))
        if followed := [s for s in flowing.series if s.result.layers]:
            probed = any(layer.probe is not None for s in followed for layer in s.result.layers)
            cells.append(cell(flow_knowledge.model_knowledge if probed else flow.model_flow, followed))
        explained = self.cast(self.results.relevance, book)
        cells += _relevance(explained.series)
        attacked = self.cast(self.results.robustness, book)
        if robustness.of_attacks(attacked.series):
            cells.append(cell(robustness.robust_curves, attacked.series))
        shifted = self.cast(self.results.shift, book)
        if drifting := [s for s in shifted.series if s.result.places]:
            cells.append(cell(shift.drift_by_depth, drifting))
        comparison = self.results.comparison
        front = comparison.pareto if isinstance(comparison, Comparison) else None
        if front is not None and len(front.axes) > 1:
            models = self.cast(front.models, book).series
            cells.append(Cell(draw=lambda ax, pen: draw_front(ax, front, models, pen)))
        notes = weighed.notes("weights") + trained.notes("training dynamics") + flowing.notes("information flow")
        notes += explained.notes("relevance") + attacked.notes("robustness")
        # Without reference data every model is skipped for want of them: nothing that was asked for is missing.
        compared = any(not isinstance(one, Skipped) for one in self.results.shift.values())
        return cells, notes + (shifted.notes("shift") if compared else [])

    def _plugins(self, book: NameBook) -> tuple[list[Row], list[str]]:
        """A table for each plugin that says something of single models, two side by side, and what they lack."""
        cells: list[Cell] = []
        heights: list[float] = []
        notes: list[str] = []
        found = self.results.plugins
        for name, value in found.items():
            cast = self.cast(by_model(value, self.results.model_names), book)
            notes += cast.notes(shortened(name))
            if cast.series and len(cells) < MOST_PLUGINS:
                cells.append(Cell(draw=functools.partial(_draw_plugin, name, cast.series)))
                heights.append(table_height(cast.series, self.style.small))
            elif not cast.absent:
                why = "there is no more room" if cast.series else "it is not by model"
                notes.append(f"Not shown: {shortened(name)} – {why}; see the results file.")
        return grid_rows(cells, 2, max(heights, default=0.0)), notes[:MOST_NOTES]


def _relevance(series: Sequence[Series]) -> list[Cell]:
    """One panel that compares models whatever their layers are: faithfulness, else the books."""
    if any(s.result.faithfulness is not None for s in series):
        return [cell(relevance_scores.faithfulness, series)]
    if any(s.result.conservation is not None for s in series):
        return [cell(relevance.balance, series)]
    return []


def _draw_plugin(name: str, series: Sequence[Series], ax: Axes, pen: Pen) -> None:
    plugin_table(ax, name, series, pen)


def _estimate(result: object, field: str) -> Estimate | None:
    value = getattr(result, field, None) if dataclasses.is_dataclass(result) else None
    return value if isinstance(value, Estimate) else None
