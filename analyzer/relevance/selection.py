"""Which of a preset's rules a linear layer gets."""

from __future__ import annotations

from typing import Any

from analyzer.relevance.rules import Rule
from analyzer.relevance.visit import Visit


def rule_for(visit: Visit, kind: str, x: Any) -> Rule:
    """The rule for one call of a linear layer.

    Args:
        visit: The call.
        kind: ``"dense"``, ``"convolution"`` or ``"recurrent"``.
        x: What goes in; the first linear layer that an input reaches is known by its shadow.
    """
    preset = visit.flow.preset
    record, layer = visit.record, visit.layer
    for key in (record.id, record.id.partition("@")[0], getattr(layer, "name", None)):
        if key in preset.overrides:
            return preset.overrides[key]
    for base in type(layer).__mro__:
        for key in (base, base.__name__):
            if key in preset.overrides:
                return preset.overrides[key]
    if preset.first is not None and visit.flow.shadow(x) is not None:
        return preset.first
    rule: Rule = getattr(preset, kind)
    return rule
