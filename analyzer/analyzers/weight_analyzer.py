"""Weights: what every variable of a model looks like, and whether its layers are healthy."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from analyzer.analyzers.base import BaseAnalyzer, material
from analyzer.analyzers.weight_findings import layer_findings
from analyzer.data_types.values import Finding
from analyzer.data_types.weights import (
    MATRIX_ROLES,
    LayerWeights,
    ParameterTotals,
    TensorStatistics,
    WeightResult,
    WeightStatistics,
)
from analyzer.inspection.needs import Need, Weights
from analyzer.inspection.weights import DescribedLayer, DescribedWeights, layer_types
from analyzer.measures.health import layer_health, model_health

if TYPE_CHECKING:
    from analyzer.config import AnalysisConfig
    from analyzer.data_types import AnalysisResults, DataInput


class WeightAnalyzer(BaseAnalyzer):
    """Describes every variable once, and judges layers by what their initialisers would give."""

    name = "weights"

    def requires_data(self) -> bool:
        """Weights need no data."""
        return False

    def needs(self) -> tuple[Need, ...]:
        """Statistics of all variables."""
        return (Weights(),)

    def analyze(self, results: AnalysisResults, data: DataInput | None, cache: Mapping[str, Any]) -> None:
        """Write ``results.weights[model_name]``."""
        del data
        results.weights = self.each_model(lambda name: weight_result(material(cache, name, Weights()), self.config))


def weight_result(described: DescribedWeights, config: AnalysisConfig) -> WeightResult:
    """Judge described weights, and choose the rows to report.

    Args:
        described: Every variable of the model.
        config: ``weight_layer_types`` and ``analyze_biases`` narrow rows. Totals, findings and the model's health are
            over all layers whatever they say: a filter must not hide a NaN.
    """
    health = {layer.id: layer_health(layer.tensors) for layer in described.layers}
    shown = [layer for layer in described.layers if _is_wanted(layer, config.weight_layer_types)]
    rows = [tensor for layer in shown for tensor in layer.tensors if config.analyze_biases or _is_matrix(tensor)]
    with_rows = {tensor.layer for tensor in rows}
    everything = [tensor for layer in described.layers for tensor in layer.tensors]
    findings = [finding for layer in described.layers for finding in layer_findings(layer)]
    return WeightResult(
        findings=(*findings, *_unknown_types(described, config)),
        tensors=tuple(rows),
        layers=tuple(_layer(layer, health[layer.id]) for layer in shown if layer.id in with_rows),
        totals=_totals(everything),
        health=model_health(health),
        omitted_tensors=len(everything) - len(rows),
    )


def _is_matrix(tensor: TensorStatistics) -> bool:
    return tensor.role in (*MATRIX_ROLES, "lora")


def _is_wanted(layer: DescribedLayer, types: Any) -> bool:
    """Whether the layer, or a layer that it is part of, is of one of the classes."""
    return types is None or bool({layer.type, *layer.within} & set(types))


def _unknown_types(described: DescribedWeights, config: AnalysisConfig) -> Iterator[Finding]:
    known = sorted(set(layer_types(described)))
    for name in config.weight_layer_types or ():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}."
            yield Finding(
                kind="unknown_layer_type",
                layer=None,
                severity="info",
                evidence={"weight_layer_types": name},
                message=f"No layer of this model with weights is a {name!r}, so that filter shows nothing; {hint}",
            )


def _totals(tensors: list[TensorStatistics]) -> ParameterTotals:
    total = sum(tensor.parameters for tensor in tensors)
    trainable = sum(tensor.parameters for tensor in tensors if tensor.trainable)
    return ParameterTotals(
        total=total,
        trainable=trainable,
        non_trainable=total - trainable,
        quantization=sum(tensor.parameters for tensor in tensors if tensor.role == "quantization"),
    )


def _layer(layer: DescribedLayer, health: Any) -> LayerWeights:
    statistics = {f.name: getattr(layer.statistics, f.name) for f in dataclasses.fields(WeightStatistics)}
    return LayerWeights(
        **statistics,
        id=layer.id,
        name=layer.name,
        type=layer.type,
        order=layer.order,
        parameters=sum(tensor.parameters for tensor in layer.tensors),
        trainable=sum(tensor.parameters for tensor in layer.tensors if tensor.trainable),
        tensors=tuple(tensor.id for tensor in layer.tensors),
        health=health,
        operator_norm=layer.operator_norm,
        histogram=layer.histogram,
    )
