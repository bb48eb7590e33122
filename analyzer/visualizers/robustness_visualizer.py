"""`robustness_analysis`: how far inputs must move until decisions are wrong, where, and what corruptions cost."""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.visualizers.base import FigureVisualizer, grid_rows
from analyzer.visualizers.information_flow_visualizer import worst_findings
from analyzer.visualizers.panels import corruptions, layer_profile, robustness
from analyzer.visualizers.series import Series
from analyzer.visualizers.sheet import Row, cell, titled_cell
from analyzer.visualizers.text import NameBook, displayable
from analyzer.visualizers.weight_visualizer import HEADROOM

MOST_MODELS = 4
"""Models whose corruptions, samples and layers are drawn: the first ones."""


class RobustnessVisualizer(FigureVisualizer):
    """Curves and scores of all models; then corruptions, the nearest wrong decisions and the layers of each."""

    name = "robustness"
    file_name = "robustness_analysis"
    title = "Robustness"

    def rows(self, book: NameBook) -> tuple[list[Row], Sequence[Series], list[str]]:
        """See `FigureVisualizer.rows`."""
        cast = self.cast(self.results.robustness, book)
        drawn = cast.series
        rows: list[Row] = []
        if drawn:
            scores = cell(robustness.robust_scores, drawn)
            curves = (cell(robustness.robust_curves, drawn),) if robustness.of_attacks(drawn) else ()
            height = max(self.style.panel_height, 1.1 + 0.32 * len(drawn))
            rows.append(Row(cells=(*curves, scores), height=height))
        rows += self._of_each(drawn)
        rows += self._layers(drawn)
        notes = cast.notes("robustness")
        if len(drawn) > MOST_MODELS:
            notes.append(
                f"Corruptions, samples and layers are drawn of {MOST_MODELS} of {len(drawn)} models, those given "
                "first; analyzer.plot(result, kind=...) draws any other."
            )
        traced = _traced(drawn)
        if len(drawn) > 1 and traced:
            notes.append(f"{layer_profile.TITLE}: {layer_profile.mark_words(traced)}.")
        return rows, drawn, [*notes, *_own_words(drawn), *worst_findings(drawn)]

    def _of_each(self, drawn: Sequence[Series]) -> list[Row]:
        """Corruptions and fooled samples: side by side for a single model, else two models in a row."""
        several = len(drawn) > 1
        corrupted = [s for s in drawn if s.result.corruptions is not None][:MOST_MODELS]
        pictured = [s for s in drawn if robustness.pictures(s.result)][:MOST_MODELS]
        cells = [titled_cell(corruptions.corruption_accuracy, s, "Corruptions" if several else None) for s in corrupted]
        others = [titled_cell(robustness.fooled, s, "Nearest wrong decisions" if several else None) for s in pictured]
        lines = max((len(s.result.corruptions.corruptions) for s in corrupted), default=0)
        height, tall = 1.15 + lines * 1.75 * self.style.small / 72, 1.2 * self.style.panel_height
        if not several and cells and others:
            return [Row(cells=(*cells, *others), height=max(height, tall))]
        rows = grid_rows(cells, 2 if several else 1, height)
        return rows + grid_rows(others, 2, tall)

    def _layers(self, drawn: Sequence[Series]) -> list[Row]:
        """The layers at fault, two models in a row."""
        limit, several = self.config.max_layers_info_flow, len(drawn) > 1
        traced = _traced(drawn)
        what = layer_profile.TITLE if several else None
        cells = [titled_cell(layer_profile.layer_profile, s, what, most_layers=limit) for s in traced]
        lines = max((min(len(s.result.layers.layers), limit) for s in traced), default=0)
        head = HEADROOM * self.style.small / 6.5
        height = max(0.7 * self.style.panel_height, head + lines * 2.4 * self.style.small / 72)
        return grid_rows(cells, 2 if several else 1, height)


def _traced(drawn: Sequence[Series]) -> list[Series]:
    """The models whose layers are drawn."""
    return [s for s in drawn if s.result.layers is not None and s.result.layers.layers][:MOST_MODELS]


def _own_words(drawn: Sequence[Series]) -> list[str]:
    """What attackers may do, and what results say of themselves."""
    notes = []
    for s in drawn:
        name = f"{s.one_line}: " if len(drawn) > 1 else ""
        threat = s.result.threat
        if threat is not None:
            span = f"inputs from {threat.low:g} to {threat.high:g} ({displayable(threat.bounds_source)})"
            steps = f"steps up to {threat.epsilon_max:g} ({robustness.NORMS[threat.norm]})"
            notes.append(f"{name}{span}, {steps}; attacks give upper bounds on robustness.")
        notes += [f"{name}{displayable(words)}" for words in s.result.notes]
    return notes
