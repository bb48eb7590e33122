"""An inspection in lines of text: every measure with its raw value, then what to do."""

from __future__ import annotations

from collections.abc import Iterator

from analyzer.commands.table_text import ABSENT, aligned
from analyzer.data_types.inspection_report import Effect, Experiment, ModelInspection, Reading
from analyzer.data_types.values import Estimate, Skipped
from analyzer.progress import printable

MOST_LAYERS = 20
"""Layers of one measure that are shown; what is left out is counted."""

MODEL = "(model)"

_WHOLE = 1e9
"""Below, whole numbers are written with all their digits."""

_COLUMNS = ("layer", "number", "raw", "scale-free", "95 % interval", "n")


def lines_of(inspection: ModelInspection) -> list[str]:
    """A table for each measure, with its notes, then the suggestions.

    Args:
        inspection: What `inspect_model` returned.
    """
    lines = [_head(inspection)]
    for name, found in inspection.experiments.items():
        lines.append("")
        if isinstance(found, Skipped):
            lines.append(f"{name}: skipped. {found.reason}")
        else:
            lines += [f"{name} (n = {found.n})", *_table(found), *(f"  {note}" for note in found.notes)]
            lines += [f"  {layer}: left out. {reason}" for layer, reason in list(found.skipped.items())[:MOST_LAYERS]]
    lines += ["", *_suggestions(inspection)]
    return [printable(line) for line in lines]


def _head(inspection: ModelInspection) -> str:
    parts = [f"{inspection.n} samples" if inspection.n else "no samples"]
    if inspection.n_shifted:
        parts.append(f"{inspection.n_shifted} shifted ({inspection.shifted_by or 'as given'})")
    if inspection.other is not None:
        parts.append(f"compared with {inspection.other}")
    return f"{inspection.model}: {', '.join(parts)}"


def _table(found: Experiment) -> list[str]:
    shown = list(found.layers.items())[:MOST_LAYERS]
    rows = [_row(layer, name, reading) for layer, readings in shown for name, reading in readings.items()]
    rows += [_row(MODEL, name, reading) for name, reading in found.model.items()]
    left = len(found.layers) - len(shown)
    more = [f"  and {left} more layers in the results"] if left else []
    table = aligned([dict(zip(_COLUMNS, _COLUMNS, strict=True)), *rows], _COLUMNS, {"raw", "scale-free", "n"})
    return [*(f"  {line}" for line in table), *more]


def _row(layer: str, name: str, reading: Reading) -> dict[str, str]:
    estimate = reading.scale_free
    cells = (layer, name, _number(reading.raw), _number(estimate.value), _interval(estimate), str(estimate.n))
    return dict(zip(_COLUMNS, cells, strict=True))


def _suggestions(inspection: ModelInspection) -> Iterator[str]:
    for suggestion in inspection.suggestions:
        yield f"suggestion: {suggestion.message}"
        for effect in suggestion.effects:
            yield f"  {_effect(effect)}"
    if not inspection.suggestions:
        yield "suggestions: none"
    for kind, reason in inspection.suggestions_skipped.items():
        yield f"not judged: {kind}. {reason}"


def _effect(effect: Effect) -> str:
    change = effect.change
    told = f"{effect.quantity}: {_value(effect.before)} to {_value(effect.after)}"
    if effect.before is None and effect.after is None:
        told = effect.quantity
    if change is not None and change.value is not None:
        interval = _interval(change)
        told += f", change {change.value:+.4g}" + (f" {interval}" if interval != ABSENT else "")
    return f"{told} ({effect.basis})"


def _value(estimate: Estimate | None) -> str:
    return ABSENT if estimate is None else _number(estimate.value)


def _number(value: float | None) -> str:
    if value is None:
        return ABSENT
    return str(int(value)) if value.is_integer() and abs(value) < _WHOLE else f"{value:.4g}"


def _interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return ABSENT
    return f"[{estimate.low:.4g}, {estimate.high:.4g}]"
