"""`confidence_calibration_analysis`: can the confidence of the models be trusted?"""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.data_types.calibration import ClassificationCalibration, MultiLabelCalibration
from analyzer.data_types.regression_calibration import GaussianCalibration, QuantileCalibration, RegressionCalibration
from analyzer.visualizers.base import FigureVisualizer, grid_rows
from analyzer.visualizers.panels import confidence as confidence_panels
from analyzer.visualizers.panels import regression
from analyzer.visualizers.panels import reliability as reliability_panels
from analyzer.visualizers.panels.confidence import confidence, uncertainty
from analyzer.visualizers.panels.reliability import reliability
from analyzer.visualizers.panels.scores import per_class_ece, shown_classes
from analyzer.visualizers.series import Series
from analyzer.visualizers.sheet import Cell, Row, cell
from analyzer.visualizers.text import NameBook

TOGETHER = 3
"""Models up to which curves share one panel; of more, each gets a panel of its own."""

SMALL_COLUMNS = 4


class CalibrationVisualizer(FigureVisualizer):
    """Reliability, confidence, error by class and uncertainty; for regression, coverage and residuals."""

    name = "calibration"
    file_name = "confidence_calibration_analysis"
    title = "Confidence and calibration"

    def rows(self, book: NameBook) -> tuple[list[Row], Sequence[Series], list[str]]:
        """See `FigureVisualizer.rows`."""
        cast = self.cast(self.results.calibration, book)
        classes = cast.having(ClassificationCalibration, MultiLabelCalibration)
        rows = self._classification(classes)
        rows += self._distributions(cast.having(GaussianCalibration), cast.having(QuantileCalibration))
        rows += self._points(cast.having(RegressionCalibration))
        notes = self._explanations() if len(classes) > TOGETHER else []
        return rows, cast.series, notes + cast.notes("calibration")

    def _explanations(self) -> list[str]:
        """What the small panels have no room to say."""
        extras = self.style.extras
        return [
            f"Reliability: {reliability_panels.explanation(0.95, extras=extras)}.",
            f"Entropy against confidence: {confidence_panels.explanation(extras=extras)}.",
        ]

    def _classification(self, series: Sequence[Series]) -> list[Row]:
        if not series:
            return []
        height = self.style.panel_height
        count = len(series)
        classes = len(shown_classes(series)[0])
        line = self.style.small / 72
        tall = max(height, 0.6 + count * 4.4 * line, 0.7 + classes * max(1.6, 0.55 * count) * line)
        profiles = [cell(confidence, series), *([cell(per_class_ece, series)] if classes else [])]
        if count <= TOGETHER:
            top = max(height + 0.25, 0.8 + count * 6 * line)
            first = Row(cells=(cell(reliability, series), profiles[0]), height=top)
            return [first, Row(cells=(*profiles[1:], cell(uncertainty, series)), height=tall)]
        small: list[Cell] = [cell(reliability, [s], heading=s.one_line) for s in series]
        clouds: list[Cell] = [cell(uncertainty, [s], heading=s.one_line) for s in series]
        return [
            *grid_rows(small, SMALL_COLUMNS, 0.95 * height),
            Row(cells=tuple(profiles), height=tall),
            *grid_rows(clouds, SMALL_COLUMNS, 0.85 * height),
        ]

    def _distributions(self, gaussian: Sequence[Series], quantile: Sequence[Series]) -> list[Row]:
        rows: list[Row] = []
        height = self.style.panel_height
        if gaussian:
            rows.append(Row(cells=(cell(regression.coverage, gaussian), cell(regression.pit, gaussian)), height=height))
            rows.append(self._residuals(gaussian))
        if quantile:
            cells = (cell(regression.coverage, quantile), cell(regression.pinball, quantile))
            rows.append(Row(cells=cells, height=height))
        return rows

    def _points(self, series: Sequence[Series]) -> list[Row]:
        return [self._residuals(series)] if series else []

    def _residuals(self, series: Sequence[Series]) -> Row:
        cells = (cell(regression.residuals, series), cell(regression.residual_distribution, series))
        return Row(cells=cells, height=max(self.style.panel_height, 0.6 + len(series) * 5.2 * self.style.small / 72))
