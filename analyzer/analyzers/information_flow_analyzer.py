"""What passes through the layers, what comes back as gradient, and what each layer knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from analyzer.analyzers.base import BaseAnalyzer, material
from analyzer.analyzers.flow_findings import FlowEvidence, flow_findings
from analyzer.analyzers.layer_flow import describe_layer
from analyzer.data_types import AnalysisResults, DataInput
from analyzer.data_types.information_flow import GradientFlow, InformationFlowResult, LastHidden
from analyzer.errors import Unsupported
from analyzer.inspection.activations import Activations, GatheredActivations
from analyzer.inspection.classifier import Classifier, LastLayer
from analyzer.inspection.gradients import GatheredGradients, Gradients
from analyzer.inspection.needs import Need
from analyzer.measures.neural_collapse import neural_collapse


class InformationFlowAnalyzer(BaseAnalyzer):
    """Follows activations forward through every call of every layer, and the gradient of a loss back."""

    name: ClassVar[str] = "information_flow"

    def requires_data(self) -> bool:
        """Activations exist only on data."""
        return True

    def needs(self) -> tuple[Need, ...]:
        """Statistics and kept rows of every layer call, gradients, and what the classifier receives."""
        return (Activations(), Gradients(), Classifier())

    def analyze(self, results: AnalysisResults, data: DataInput | None, cache: Mapping[str, Any]) -> None:
        """Fill ``results.information_flow``."""
        n = 0 if data is None else len(data)
        results.information_flow = self.each_model(lambda name: _result(cache, name, n))


def _result(cache: Mapping[str, Any], name: str, n: int) -> InformationFlowResult:
    found: GatheredActivations = material(cache, name, Activations())
    gradients, why_not = _unless_unsupported(cache, name, Gradients())
    last, _ = _unless_unsupported(cache, name, Classifier())
    layers = tuple(describe_layer(call, found, gradients, n) for call in found.calls)
    flow = _gradient_flow(gradients)
    evidence = FlowEvidence(found=found, layers=layers, gradients=flow, n=n)
    return InformationFlowResult(
        n=n,
        n_kept=found.n_kept,
        layers=layers,
        skipped=found.skipped,
        cka_layers=tuple(layer.id for layer in layers),
        cka=_cka(found),
        gradients=flow,
        gradients_reason=why_not,
        last_hidden=None if last is None else _last_hidden(last),
        findings=tuple(flow_findings(evidence)),
    )


def _unless_unsupported(cache: Mapping[str, Any], name: str, need: Need) -> tuple[Any, str | None]:
    try:
        return material(cache, name, need), None
    except Unsupported as reason:
        return None, str(reason)


def _gradient_flow(gradients: GatheredGradients | None) -> GradientFlow | None:
    if gradients is None:
        return None
    return GradientFlow(loss=gradients.loss, n=gradients.n, variables=gradients.variables)


def _cka(found: GatheredActivations) -> np.ndarray:
    """Inner products of the centred Gram matrices: unbiased linear CKA of every pair of layers."""
    grams = np.stack([call.representation.gram for call in found.calls]).astype(np.float64)
    similar: np.ndarray = np.clip(grams @ grams.T, -1.0, 1.0)
    return similar


def _last_hidden(last: LastLayer) -> LastHidden | None:
    found = neural_collapse(last.features, last.labels, weights=last.kernel, decisions=last.decisions)
    if found is None:
        return None
    return LastHidden(
        layer=last.layer,
        n=found.n,
        n_classes=found.n_classes,
        nc1=found.nc1,
        nc2_norms=found.nc2_norms,
        nc2_angles=found.nc2_angles,
        nc3=found.nc3,
        nc4=found.nc4,
    )
