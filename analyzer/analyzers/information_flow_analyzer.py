"""What passes through the layers: activation statistics, dead units and effective rank."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from analyzer.analyzers.base import BaseAnalyzer, material
from analyzer.data_types import AnalysisResults, DataInput, Estimate, Finding
from analyzer.data_types.information_flow import InformationFlowResult, LayerFlow
from analyzer.inspection.needs import Activations, LayerActivations, Need
from analyzer.measures.flow import effective_rank, still_alive_bound

DEAD_SHARE_WARNING = 0.5
"""A layer more than half of whose units never fire has less capacity than its width says."""

_RECTIFIERS = ("relu", "relu6")


class InformationFlowAnalyzer(BaseAnalyzer):
    """Follows activations through every layer call that fires the same way on all backends."""

    name: ClassVar[str] = "information_flow"

    def requires_data(self) -> bool:
        """Activations exist only on data."""
        return True

    def needs(self) -> tuple[Need, ...]:
        """Statistics of every layer call."""
        return (Activations(),)

    def analyze(self, results: AnalysisResults, data: DataInput | None, cache: Mapping[str, Any]) -> None:
        """Fill ``results.information_flow``."""
        n = 0 if data is None else len(data)
        results.information_flow = self.each_model(lambda name: _result(material(cache, name, Activations()), n))


def _result(calls: tuple[LayerActivations, ...], n: int) -> InformationFlowResult:
    layers = tuple(_layer(call, n) for call in calls)
    return InformationFlowResult(n=n, layers=layers, skipped={}, findings=tuple(_findings(layers, n)))


def _layer(call: LayerActivations, n: int) -> LayerFlow:
    moments = call.moments
    mean, variance = moments["mean"], moments["variance"]
    units = len(mean)
    overall = mean.mean()
    dead = int((moments["zero_share"] == 1).sum()) if _rectifies(call.layer.layer) else None
    rank = effective_rank(call.rows)
    return LayerFlow(
        id=call.layer.id if call.call == 0 else f"{call.layer.id}@{call.call + 1}",
        kind=call.layer.kind,
        order=call.layer.order,
        n_units=units,
        n_values=int(moments["count"][0]),
        mean=_finite(overall),
        std=_finite(np.sqrt(variance.mean() + ((mean - overall) ** 2).mean())),
        min=_finite(moments["min"].min()),
        max=_finite(moments["max"].max()),
        sparsity=float(moments["zero_share"].mean()),
        positive_ratio=float(moments["positive_share"].mean()),
        dead_units=dead,
        dead_bound=still_alive_bound(n) if dead else None,
        unit_mean=mean,
        unit_std=np.sqrt(variance),
        unit_zero_share=moments["zero_share"],
        effective_rank=None if rank is None else Estimate(value=rank, n=len(call.rows)),
        effective_rank_ceiling=min(len(call.rows) - 1, units) if len(call.rows) > 1 else None,
    )


def _rectifies(layer: Any) -> bool:
    activation = getattr(layer, "activation", None)
    return getattr(activation, "__name__", None) in _RECTIFIERS or type(layer).__name__ == "ReLU"


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _findings(layers: tuple[LayerFlow, ...], n: int) -> list[Finding]:
    found = []
    broken = next((layer for layer in layers if layer.mean is None or layer.max is None or layer.min is None), None)
    if broken is not None:
        found.append(
            Finding(
                kind="not_finite",
                layer=broken.id,
                severity="error",
                evidence={"n": n},
                message=f"NaN or infinity first appears in the output of {broken.id}. Look at its weights and inputs.",
            )
        )
    found += [_dead_finding(layer, n) for layer in layers if layer.dead_units]
    return found


def _dead_finding(layer: LayerFlow, n: int) -> Finding:
    dead = layer.dead_units or 0
    share = dead / layer.n_units
    severity = "error" if share == 1 else "warning" if share > DEAD_SHARE_WARNING else "info"
    return Finding(
        kind="dead_units",
        layer=layer.id,
        severity=severity,  # type: ignore[arg-type]
        evidence={
            "dead_units": dead,
            "units": layer.n_units,
            "share": share,
            "threshold": DEAD_SHARE_WARNING,
            "n": n,
            "may_still_fire": layer.dead_bound,
        },
        message=(
            f"{dead} of {layer.n_units} units of {layer.id} were zero for all {n} samples. Lower the learning rate, "
            "warm it up, or use a leaky activation if the width is needed."
        ),
    )
