"""`shift_analysis`: whether data have shifted against reference data, where models see it, and what harm it does."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from analyzer.data_types.values import Finding
from analyzer.visualizers.base import FigureVisualizer, grid_rows
from analyzer.visualizers.information_flow_visualizer import worst_findings
from analyzer.visualizers.layout import MARGIN
from analyzer.visualizers.panels import shift, shift_features, shift_outputs
from analyzer.visualizers.panels.flow_rows import in_order
from analyzer.visualizers.panels.layers import by_architecture
from analyzer.visualizers.panels.shift_rows import by_shift_place
from analyzer.visualizers.series import Series
from analyzer.visualizers.sheet import Cell, Row, cell, titled_cell
from analyzer.visualizers.text import NameBook, displayable

MOST_MODELS = 4
"""Models whose features are drawn: the first ones."""

MOST_SKIPPED = 6
"""Places below the panels that could not be compared."""

MOST_NOTES = 8
"""What results say of themselves below the panels."""


class ShiftVisualizer(FigureVisualizer):
    """Drift by place of each architecture; then harm and scores of single samples; then features of each model."""

    name = "shift"
    file_name = "shift_analysis"
    title = "Distribution shift"

    def rows(self, book: NameBook) -> tuple[list[Row], Sequence[Series], list[str]]:
        """See `FigureVisualizer.rows`."""
        cast = self.cast(self.results.shift, book)
        drawn = cast.series
        groups = by_architecture(by_shift_place([s for s in drawn if s.result.places]))
        rows = self._drift(groups, drawn) + self._outputs(drawn)
        moved = [s for s in drawn if shift_features.shown_features([s])]
        if len(drawn) > 1:
            cells = [titled_cell(shift_features.moved_features, s, "Moved features") for s in moved[:MOST_MODELS]]
            rows += grid_rows(cells, 2, self._moved_height(moved[:MOST_MODELS]))
        notes = [*_verdicts(drawn), *cast.notes("shift"), *_missing(drawn, moved), *_skipped(drawn)]
        return rows, drawn, [*notes, *_own_words(drawn), *_further_findings(drawn)]

    @property
    def _head(self) -> float:
        """Inches for the title of a panel, three lines below it, its axis and margins."""
        return (3.6 * self.style.font + 4.5 * self.style.small) / 72 + 2 * MARGIN

    def _drift(self, groups: Sequence[Sequence[Series]], drawn: Sequence[Series]) -> list[Row]:
        """Places as rows; one model has its features beside them, several architectures their depths above them."""
        limit = self.config.max_layers_info_flow
        height = max((self._places_height(group) for group in groups), default=0.0)
        if len(groups) <= 1:
            cells = [cell(shift.drift_by_place, group, most_layers=limit) for group in groups]
            if len(drawn) == 1 and shift_features.shown_features(drawn):
                cells.append(cell(shift_features.moved_features, drawn))
                height = max(height, self._moved_height(drawn))
            return [Row(cells=tuple(cells), height=height)] if cells else []
        depth = Row(cells=(cell(shift.drift_by_depth, drawn),), height=self.style.panel_height)
        return [depth, *grid_rows([_titled(group, limit) for group in groups], 2, height)]

    def _outputs(self, drawn: Sequence[Series]) -> list[Row]:
        """Harm, and scores of single samples beside it."""
        cells, lines = [], 0.0
        if asked := shift_outputs.with_accuracy(drawn):
            cells.append(cell(shift_outputs.harm, drawn, width=1.2))
            methods = {method for one in asked for method in one.shift.estimates}
            lines = len(asked) * max(2.6, 2.0 + len(methods))
        if scored := shift_outputs.with_scores(drawn):
            cells.append(cell(shift_outputs.out_of_distribution, drawn))
            scores = {(one.output, score) for one in scored for score in one.shift.ood}
            lines = max(lines, min(len(scores), 4 * len(scored)) * (1.2 + 0.8 * len(drawn)))
        height = max(self.style.panel_height, self._head + lines * self.style.small / 72)
        return [Row(cells=tuple(cells), height=height)] if cells else []

    def _places_height(self, group: Sequence[Series]) -> float:
        """Height of a panel with room for the marks of each model at each place."""
        places = min(len(group[0].result.layers), self.config.max_layers_info_flow)
        lines = places * max(2.0, 0.9 * len(group))
        return max(0.8 * self.style.panel_height, self._head + lines * self.style.small / 72)

    def _moved_height(self, moved: Sequence[Series]) -> float:
        features = max((len(shift_features.shown_features([s])) for s in moved), default=0)
        return max(0.8 * self.style.panel_height, self._head + features * 2.0 * self.style.small / 72)


def _titled(group: Sequence[Series], limit: int) -> Cell:
    """The panel of one architecture, with the names of its models in the title."""
    if len(group) == 1:
        return titled_cell(shift.drift_by_place, group[0], "Drift", most_layers=limit)
    return cell(shift.drift_by_place, group, most_layers=limit, heading=f"Drift: {in_order(group)}")


def _named(s: Series, drawn: Sequence[Series]) -> str:
    return f"{s.one_line}: " if len(drawn) > 1 else ""


def _verdicts(drawn: Sequence[Series]) -> list[str]:
    """The verdict of each model, with what its finding advises."""
    said = [next((f.message for f in s.result.findings if _tells_verdict(s, f)), s.result.verdict) for s in drawn]
    return [f"{_named(s, drawn)}{displayable(words)}" for s, words in zip(drawn, said, strict=True)]


def _tells_verdict(s: Series, finding: Finding) -> bool:
    return finding.message.startswith(s.result.verdict)


def _further_findings(drawn: Sequence[Series]) -> list[str]:
    """The worst findings but those that tell the verdict again."""
    rest = {s.name: tuple(f for f in s.result.findings if not _tells_verdict(s, f)) for s in drawn}
    return worst_findings([s.of(dataclasses.replace(s.result, findings=rest[s.name])) for s in drawn])


def _missing(drawn: Sequence[Series], moved: Sequence[Series]) -> list[str]:
    """Panels that no model has anything for, and models whose features are not drawn."""
    if not drawn:
        return []
    notes = []
    if not any(s.result.places for s in drawn):
        notes.append("Not shown: drift – no place could be compared")
    absent = {
        "accuracy and harm": shift_outputs.with_accuracy(drawn),
        "out-of-distribution scores": shift_outputs.with_scores(drawn),
    }
    names = [name for name, found in absent.items() if not found]
    if names:
        reasons = dict.fromkeys(
            displayable(words) for s in drawn for o in s.result.outputs.values() for words in o.notes
        )
        notes.append(f"Not shown: {', '.join(names)} – {next(iter(reasons), 'no output decides among classes')}")
    if not moved:
        notes.append("Not shown: features that moved – none were kept")
    if len(moved) > MOST_MODELS:
        kept = f"{MOST_MODELS} of {len(moved)} models, those given first"
        notes.append(f"Features are drawn of {kept}; analyzer.plot(result, kind='moved_features') draws any other.")
    return notes


def _skipped(drawn: Sequence[Series]) -> list[str]:
    reasons = {f"{_named(s, drawn)}{key}": why for s in drawn for key, why in s.result.skipped.items()}
    shown = list(reasons.items())[:MOST_SKIPPED]
    notes = [f"Not compared: {displayable(key)} – {displayable(why)}" for key, why in shown]
    more = len(reasons) - len(shown)
    return notes + ([f"Not compared: {more} further places; see the results file."] if more else [])


def _own_words(drawn: Sequence[Series]) -> list[str]:
    """What results and their outputs say of themselves."""
    notes = []
    for s in drawn:
        notes += [f"{_named(s, drawn)}{displayable(words)}" for words in s.result.notes]
        for output, found in s.result.outputs.items():
            notes += [f"{_named(s, drawn)}{displayable(f'{output}: {words}')}" for words in found.notes]
    more = len(notes) - MOST_NOTES
    return notes[:MOST_NOTES] + ([f"{more} further notes are in the results file."] if more > 0 else [])
