"""`relevance_analysis`: which inputs, layers and units carry decisions, where relevance is lost, and is it faithful."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from analyzer.data_types.comparison import Comparison
from analyzer.data_types.relevance import RelevanceExample, RelevanceResult
from analyzer.visualizers.base import FigureVisualizer, grid_rows
from analyzer.visualizers.information_flow_visualizer import worst_findings
from analyzer.visualizers.layout import MARGIN
from analyzer.visualizers.panels import relevance, relevance_features, relevance_maps, relevance_scores
from analyzer.visualizers.panels.comparison import draw_similarity, looks_of
from analyzer.visualizers.panels.layers import by_architecture
from analyzer.visualizers.panels.relevance_examples import MOST_SAMPLES, examples_of, of_one_input
from analyzer.visualizers.series import LABEL_SHARE, Series
from analyzer.visualizers.sheet import Cell, Row, cell, titled_cell
from analyzer.visualizers.text import NameBook, displayable
from analyzer.visualizers.weight_visualizer import HEADROOM

MOST_MODELS = 3
"""Models whose samples and units are drawn: the first ones."""

MOST_NOTES = 6
"""What results say of themselves below the panels."""

Draw = Callable[..., None]


class RelevanceVisualizer(FigureVisualizer):
    """Samples with what decided them; then features, faithfulness and books of all models; then layers and units."""

    name = "relevance"
    file_name = "relevance_analysis"
    title = "Relevance"

    def rows(self, book: NameBook) -> tuple[list[Row], Sequence[Series], list[str]]:
        """See `FigureVisualizer.rows`."""
        cast = self.cast(self.results.relevance, book)
        drawn = cast.series
        pictured = [s for s in drawn if _pictures(s.result)]
        rows = self._samples(pictured[:MOST_MODELS], titled=len(drawn) > 1)
        rows += self._side_by_side(self._of_models(drawn, book))
        for group in by_architecture([s for s in drawn if s.result.layers]):
            rows += self._layers(group)
        notes = cast.notes("relevance")
        if len(pictured) > MOST_MODELS:
            kept = f"{MOST_MODELS} of {len(pictured)} models, those given first"
            notes.append(f"Samples and units are drawn of {kept}; analyzer.plot(result) draws any other.")
        notes += _without_layers(drawn)
        return rows, drawn, [*notes, *_own_words(drawn), *worst_findings(drawn)]

    @property
    def _head(self) -> float:
        """Inches for the title of a panel, two lines below it and its margins."""
        return (2 * self.style.font + 2 * 1.3 * self.style.small) / 72 + 2 * MARGIN

    def _samples(self, series: Sequence[Series], *, titled: bool) -> list[Row]:
        """The samples of each model, in the manner of its input: sequences across the figure, images two in a row."""
        flat = [s for s in series if self._strip_height(s) is not None]
        rows = [Row(cells=(_maps(s, titled=titled),), height=self._head + (self._strip_height(s) or 0.0)) for s in flat]
        images = [_maps(s, titled=titled) for s in series if s not in flat]
        height = self._head + 0.8 * self.style.panel_height
        return rows + grid_rows(images, min(len(images), 2) or 1, height)

    def _strip_height(self, s: Series) -> float | None:
        """Inches for the samples of a sequence; None for images."""
        found = of_one_input(_pictures(s.result))[:MOST_SAMPLES]
        line = self.style.small / 72
        if found[0].kind == "tokens" and all(one.tokens for one in found):
            return len(found) * 4.2 * line
        return (len(found) * 3.2 + 4) * line if found[0].kind in ("tokens", "series") else None

    def _of_models(self, drawn: Sequence[Series], book: NameBook) -> list[Cell]:
        """Panels that show all models whatever their layers are: features, faithfulness, books, agreement."""
        having: list[tuple[Draw, Callable[[RelevanceResult], bool]]] = [
            (relevance_features.features, _tabular),
            (relevance_scores.faithfulness, lambda result: result.faithfulness is not None),
            (relevance_scores.perturbation, lambda result: relevance_scores.has_curves(result.faithfulness)),
            (relevance.balance, lambda result: result.conservation is not None),
        ]
        cells = [cell(draw, drawn) for draw, has in having if any(has(s.result) for s in drawn)]
        return cells + self._agreement(drawn, book)

    def _agreement(self, drawn: Sequence[Series], book: NameBook) -> list[Cell]:
        comparison = self.results.comparison
        found = comparison.relevance if isinstance(comparison, Comparison) else None
        if not drawn or found is None or not found.spearman.pairs:
            return []
        room = LABEL_SHARE * 72 * self.style.width / 2
        models = looks_of(found.spearman.names, self.model_colors, book, room, self.style.small).series
        return [Cell(draw=lambda ax, pen: draw_similarity(ax, found.spearman, models, pen))]

    def _side_by_side(self, cells: Sequence[Cell]) -> list[Row]:
        """Two panels in a row; the last has a row to itself where their number is odd, a lower one if not the only."""
        models = len(self.results.relevance)
        height = max(self.style.panel_height, self._head + 0.5 + models * 2.2 * self.style.small / 72)
        pairs = [tuple(cells[i : i + 2]) for i in range(0, len(cells), 2)]
        low = self._head + 0.45 + 0.3 * models
        return [
            Row(cells=pair, height=min(height, low) if pair is not pairs[0] and len(pair) == 1 else height)
            for pair in pairs
        ]

    def _layers(self, group: Sequence[Series]) -> list[Row]:
        """The panels of one architecture, whose rows are its layers; the left ones name them."""
        options: dict[str, Any] = {"most_layers": self.config.max_layers_info_flow}
        height = self._height(group, max(2.0, 0.9 * len(group)))
        cells = [cell(relevance.layers, group, width=1.25, **options)]
        if any(layer.relevance_in is not None for s in group for layer in s.result.layers):
            cells.append(cell(relevance.ledger, group, row_names=False, **options))
        rows = [Row(cells=tuple(cells), height=height)]
        units = [s for s in group if any(layer.unit_share is not None for layer in s.result.layers)]
        if units:
            few = cell(relevance.concentration, group, width=1.25, **options)
            strips = cell(relevance_features.relevance_units, units[:MOST_MODELS], row_names=False, **options)
            rows.append(Row(cells=(few, strips), height=height))
        return rows

    def _height(self, group: Sequence[Series], lines: float) -> float:
        """Height of a panel with this many lines of type for each layer."""
        layers = min(len(group[0].result.layers), self.config.max_layers_info_flow)
        tall = (HEADROOM + 0.15) * self.style.small / 6.5 + layers * lines * self.style.small / 72
        return max(0.8 * self.style.panel_height, tall)


def _maps(s: Series, *, titled: bool) -> Cell:
    return titled_cell(relevance_maps.relevance, s, "Relevance of the input" if titled else None)


def _pictures(result: RelevanceResult) -> list[RelevanceExample]:
    """Samples worth a picture of their own: columns of a table are shown as bars of all models instead."""
    return [one for one in examples_of(result) if one.kind != "features"]


def _tabular(result: RelevanceResult) -> bool:
    return any(one.features and one.kind == "features" for one in result.inputs)


def _without_layers(drawn: Sequence[Series]) -> list[str]:
    names = [s.one_line for s in drawn if not s.result.layers]
    return [f"Not shown: layers of {', '.join(names)} – none could be followed"] if names else []


def _own_words(drawn: Sequence[Series]) -> list[str]:
    """Why the method was chosen, where the sum breaks, and what results say of themselves."""
    reasons = {displayable(f"{s.result.method}: {s.result.method_reason}") for s in drawn if s.result.method_reason}
    notes = [f"Method {reason}" for reason in sorted(reasons)]
    for s in drawn:
        name = f"{s.one_line}: " if len(drawn) > 1 else ""
        notes += [f"{name}{words}" for words in (*_breaks(s.result), *map(displayable, s.result.notes))]
        notes += [f"{name}not followed: {displayable(f'{key} – {why}')}" for key, why in s.result.skipped.items()]
    more = len(notes) - MOST_NOTES
    return notes[:MOST_NOTES] + ([f"{more} further notes are in the results file."] if more > 0 else [])


def _breaks(result: RelevanceResult) -> list[str]:
    books = result.conservation
    if books is None or books.first_break is None:
        return []
    much = "" if books.unexplained_fraction is None else f"; at most {books.unexplained_fraction:.2g} of the value"
    return [f"on the way from the output, the sum first breaks at {displayable(books.first_break)}{much}"]
