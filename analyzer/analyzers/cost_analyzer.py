"""What each model costs: parameters, memory, floating-point operations and time per batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from analyzer.analyzers.base import BaseAnalyzer, material
from analyzer.data_types import AnalysisResults, DataInput, Finding
from analyzer.data_types.cost import CostResult
from analyzer.inspection.cost import Cost
from analyzer.inspection.needs import Need

MOST_NAMED = 5
"""Layers named in one sentence."""


class CostAnalyzer(BaseAnalyzer):
    """Counts what a forward pass takes, layer by layer, and times it."""

    name: ClassVar[str] = "cost"

    def requires_data(self) -> bool:
        """Shapes are enough, and zeros are as fast as data."""
        return False

    def needs(self) -> tuple[Need, ...]:
        """Costs of every call of a layer."""
        return (Cost(),)

    def analyze(self, results: AnalysisResults, data: DataInput | None, cache: Mapping[str, Any]) -> None:
        """Fill ``results.cost``."""
        del data
        results.cost = self.each_model(lambda name: _judged(material(cache, name, Cost())))


def _judged(cost: CostResult) -> CostResult:
    return dataclasses.replace(cost, findings=tuple(_findings(cost)))


def _findings(cost: CostResult) -> Iterator[Finding]:
    if not cost.uncounted:
        return
    named = ", ".join(list(cost.uncounted)[:MOST_NAMED])
    others = len(cost.uncounted) - MOST_NAMED
    reasons = "; ".join(dict.fromkeys(cost.uncounted.values()))
    yield Finding(
        kind="flops_incomplete",
        layer=None,
        severity="info",
        evidence={"uncounted": len(cost.uncounted), "layers": len(cost.layers)},
        message=(
            f"The operations of {named}{f' and {others} others' if others > 0 else ''} are not counted ({reasons}): "
            "the model takes more than its FLOPs say."
        ),
    )
