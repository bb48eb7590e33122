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
)
from analyzer.visualizers.panels.base import PANELS, Panel

__all__ = [
    "PANELS",
    "Panel",
    "comparison",
    "confidence",
    "flow",
    "regression",
    "reliability",
    "scores",
    "tables",
    "training",
    "weights",
]
