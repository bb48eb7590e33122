"""`information_flow_analysis`: what passes through the layers, what comes back, and what they hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from analyzer.data_types.information_flow import LayerFlow
from analyzer.data_types.values import Finding
from analyzer.visualizers.base import FigureVisualizer
from analyzer.visualizers.panels import flow, flow_health, flow_knowledge, flow_maps
from analyzer.visualizers.panels.flow_rows import MARKS
from analyzer.visualizers.panels.layers import SEVERITY, by_architecture
from analyzer.visualizers.series import Series
from analyzer.visualizers.sheet import Cell, Row, cell, titled_cell
from analyzer.visualizers.text import NameBook, displayable
from analyzer.visualizers.weight_visualizer import HEADROOM

MOST_MAPS = 3
"""Models whose units and similarities of layers are mapped; those with the worst findings first."""

MOST_FINDINGS = 6
"""Findings written out below the panels, the worst first."""

MOST_NOT_FOLLOWED = 6
"""Layers below the panels that could not be followed."""

Choice = tuple[Callable[..., Any], str, Callable[[LayerFlow], Any]]

SIGNAL: tuple[Choice, ...] = (
    (flow.gradients, "gradients", lambda layer: layer.gradient_norm),
    (flow.gain, "gain", lambda layer: layer.gain),
    (flow.input_cosine, "cosine of inputs", lambda layer: layer.input_cosine),
)
"""Panels beside the activations: shown where a model has the number."""

CONTENT: tuple[Choice, ...] = (
    (flow_knowledge.effective_rank, "effective rank", lambda layer: layer.effective_rank),
    (flow_knowledge.knowledge, "what layers know", lambda layer: layer.probe or layer.separability),
    (flow_knowledge.specialization, "specialization", lambda layer: layer.specialization),
)


class InformationFlowVisualizer(FigureVisualizer):
    """Signal, content and health of each layer, for each architecture; then the units of single models."""

    name = "information_flow"
    file_name = "information_flow_analysis"
    title = "Information flow"

    def rows(self, book: NameBook) -> tuple[list[Row], Sequence[Series], list[str]]:
        """See `FigureVisualizer.rows`."""
        cast = self.cast(self.results.information_flow, book)
        drawn = [s for s in cast.series if s.result.layers]
        groups = by_architecture(drawn)
        rows = [row for group in groups for row in self._rows(group)]
        mapped = _most_troubled(drawn)
        rows += [self._maps(s, titled=len(drawn) > 1) for s in drawn if s in mapped]
        notes = cast.notes("information flow") + _empty(cast.series)
        notes += [*_unmapped(drawn, mapped), *_missing(groups), *_not_followed(drawn), *worst_findings(drawn)]
        return rows, drawn, notes

    def _rows(self, group: Sequence[Series]) -> list[Row]:
        """The panels of one architecture; their rows are the same layers, which the first panel of each row names."""
        limit = self.config.max_layers_info_flow
        height = self._height(group, max(2.0, 0.75 * len(group)))
        rows = []
        for first, choices in (((flow.activations,), SIGNAL), ((), CONTENT)):
            panels = [*first, *(draw for draw, _, read in choices if _present(group, read))]
            cells = [
                cell(draw, group, most_layers=limit, row_names=i == 0, width=1.7 if i == 0 else 1.0)
                for i, draw in enumerate(panels)
            ]
            rows += [Row(cells=tuple(cells), height=height)] if cells else []
        health = cell(flow_health.flow_health, group, most_layers=limit)
        return [*rows, Row(cells=(health,), height=self._height(group, 2.0))]

    def _height(self, group: Sequence[Series], lines: float) -> float:
        """Height of a panel with this many lines of type for each layer."""
        layers = min(len(group[0].result.layers), self.config.max_layers_info_flow)
        tall = HEADROOM * self.style.small / 6.5 + layers * lines * self.style.small / 72
        return max(0.7 * self.style.panel_height, tall)

    def _maps(self, s: Series, *, titled: bool) -> Row:
        """Units of one model and, beside them, how similar its layers are."""
        cells = [self._map(flow_maps.units, s, "Units" if titled else None, 1.2)]
        if _compared(s):
            cells.append(self._map(flow_maps.layer_cka, s, "CKA of layers" if titled else None, 1.0))
        return Row(cells=tuple(cells), height=max(self._height([s], 2.0), 0.9 * self.style.panel_height))

    def _map(self, draw: Callable[..., None], s: Series, title: str | None, width: float) -> Cell:
        return titled_cell(draw, s, title, width=width, most_layers=self.config.max_layers_info_flow)


def _compared(s: Series) -> bool:
    return s.result.cka is not None and len(s.result.cka_layers) > 1


def _present(group: Sequence[Series], read: Callable[[LayerFlow], Any]) -> bool:
    return any(read(layer) is not None for s in group for layer in s.result.layers)


def _trouble(s: Series) -> tuple[int, int]:
    levels = [SEVERITY[finding.severity] for finding in s.result.findings]
    return max(levels, default=-1), len(levels)


def _most_troubled(series: Sequence[Series]) -> list[Series]:
    """The models whose maps are drawn: as many as there is room for, the worst findings first."""
    return sorted(series, key=_trouble, reverse=True)[:MOST_MAPS]


def _unmapped(drawn: Sequence[Series], mapped: Sequence[Series]) -> list[str]:
    if len(mapped) == len(drawn):
        return []
    kept = f"of {len(mapped)} of {len(drawn)} models, those with the worst findings or given first"
    return [f"Units and similarity of layers are drawn {kept}; analyzer.plot(result, kind='units') draws any other."]


def _missing(groups: Sequence[Sequence[Series]]) -> list[str]:
    """A sentence for each panel that no model of an architecture has a number for."""
    notes = []
    for group in groups:
        names = "" if len(groups) == 1 else f" of {', '.join(s.one_line for s in group)}"
        absent = [what for _, what, read in (*SIGNAL, *CONTENT) if not _present(group, read)]
        if "gradients" in absent:
            absent.remove("gradients")
            notes.append(f"Not shown: gradients – {'; '.join(flow.gradient_reasons(group)) or 'not computed'}")
        if not any(_compared(s) for s in group):
            absent.append("similarity of layers")
        if absent:
            notes.append(f"Not shown: {', '.join(absent)}{names} – no layer has such a number in the results")
    return notes


def _not_followed(drawn: Sequence[Series]) -> list[str]:
    reasons = {layer: why for s in drawn for layer, why in s.result.skipped.items()}
    shown = list(reasons.items())[:MOST_NOT_FOLLOWED]
    notes = [f"Not followed: {displayable(layer)} – {displayable(why)}" for layer, why in shown]
    more = len(reasons) - len(shown)
    return notes + ([f"Not followed: {more} further layers; see the results file."] if more else [])


def worst_findings(drawn: Sequence[Series]) -> list[str]:
    """The worst findings in their own words.

    Args:
        drawn: Results with findings.
    """
    found = [(s, finding) for s in drawn for finding in s.result.findings if SEVERITY[finding.severity]]
    found.sort(key=lambda pair: -SEVERITY[pair[1].severity])
    notes = [_sentence(s, finding, named=len(drawn) > 1) for s, finding in found[:MOST_FINDINGS]]
    more = len(found) - len(notes)
    return notes + ([f"{more} further warnings and errors are in the results file."] if more > 0 else [])


def _sentence(s: Series, finding: Finding, *, named: bool) -> str:
    model = f"{s.one_line}: " if named else ""
    return f"{MARKS[SEVERITY[finding.severity]]} {model}{displayable(finding.message)}"


def _empty(series: Sequence[Series]) -> list[str]:
    return [f"Not shown: {s.label} – no layer could be followed" for s in series if not s.result.layers]
