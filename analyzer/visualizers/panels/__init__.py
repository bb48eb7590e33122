"""Panels: small functions ``panel(ax, series, pen)`` that draw one picture of one kind of result on any axes."""

from analyzer.visualizers.panels import (  # noqa: I001 - the first panel of a type of result is its default
    comparison,
    reliability,
    confidence,
    scores,
    regression,
    weights,
    training,
    tables,
    flow,
    flow_knowledge,
    flow_health,
    flow_maps,
    pareto,
)
from analyzer.visualizers.panels.base import PANELS, Panel

__all__ = [
    "PANELS",
    "Panel",
    "comparison",
    "confidence",
    "flow",
    "flow_health",
    "flow_knowledge",
    "flow_maps",
    "pareto",
    "regression",
    "reliability",
    "scores",
    "tables",
    "training",
    "weights",
]
