"""What a model costs: parameters, memory, operations and time, and the graph of its layers."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from analyzer.data_types.serialization import MEASURED
from analyzer.data_types.values import Estimate, Finding

Shape = tuple[int | None, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerCost:
    """One call of one layer, for one sample.

    Attributes:
        id: Id of the layer; a further call of a shared layer has ``@2``, ``@3``, … appended.
        name: The layer's own name.
        kind: Class of the layer, or of the operation in a Functional model.
        order: Place in the order in which calls began to return.
        inside: Id of the layer that called it; None where the model itself did.
        composite: Whether it called other layers; its operations are then its own, without theirs.
        sources: Ids of the calls, or inputs of the model, whose results it took.
        sources_inferred: Whether a source is a guess, because operations that no layer shows lie between.
        closes: Ids of the inner calls whose results a composite layer joined by operations of its own.
        parameters: Parameters that it owns; 0 for further calls of a shared layer.
        output_shapes: Shapes of its results without the axis of samples.
        output_bytes: Memory of its results.
        flops: Floating-point operations; a multiply-add counts as 2. None where they cannot be counted.
        why_uncounted: The reason; None where they are counted.
    """

    id: str
    name: str
    kind: str
    order: int
    inside: str | None
    composite: bool
    sources: tuple[str, ...]
    sources_inferred: bool
    closes: tuple[str, ...]
    parameters: int
    output_shapes: tuple[Shape, ...]
    output_bytes: int
    flops: int | None
    why_uncounted: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelInput:
    """One input of a model.

    Attributes:
        id: How `LayerCost.sources` names it.
        shape: Shape without the axis of samples, of the data or as declared; sizes left open count as 32.
    """

    id: str
    shape: Shape


@dataclass(frozen=True, kw_only=True, eq=False)
class Latency:
    """Time of one compiled forward pass, from the start of the call to the last output.

    Attributes:
        id: ``"batch_1"`` and so on.
        batch_size: Samples in the batch.
        seconds: Median of the repetitions after warm-up, with its distribution-free 95 % interval.
        lower_quartile: A quarter of the repetitions were faster.
        upper_quartile: A quarter of the repetitions were slower.
    """

    id: str
    batch_size: int
    seconds: Estimate
    lower_quartile: float
    upper_quartile: float


@dataclass(frozen=True, kw_only=True, eq=False)
class CostResult:
    """What one model costs.

    Attributes:
        parameters: Stored numbers, each variable once.
        trainable_parameters: Those that training changes.
        parameter_bytes: Their memory.
        bytes_by_dtype: The same by type of number.
        flops: Floating-point operations for one sample; a multiply-add counts as 2. Only a lower bound where
            `uncounted` names anything, and None where nothing could be counted.
        uncounted: What is not in `flops`: reason by layer id, or by the model's name for what it computes itself.
        activation_bytes: Memory of the results of all layers for one sample.
        largest_activation_bytes: Memory of the largest of them.
        largest_activation_layer: Id of the call that returned it.
        inputs: Inputs of the model, as it was traced.
        layers: Calls of layers in order of execution; empty where the model could not be traced.
        latency: Time per batch; empty where it could not be measured.
        latency_missing: Why a time is missing; None where all were measured.
        findings: What is worth knowing.
    """

    parameters: int
    trainable_parameters: int
    parameter_bytes: int
    bytes_by_dtype: dict[str, int]
    flops: int | None
    uncounted: dict[str, str]
    activation_bytes: int | None
    largest_activation_bytes: int | None
    largest_activation_layer: str | None
    inputs: tuple[ModelInput, ...]
    layers: tuple[LayerCost, ...]
    latency: tuple[Latency, ...] = field(default=(), metadata=MEASURED)
    latency_missing: str | None = field(default=None, metadata=MEASURED)
    findings: tuple[Finding, ...] = ()

    def latency_of(self, batch_size: int = 1) -> Estimate | None:
        """Seconds per batch of a size; None where that was not measured.

        Args:
            batch_size: Samples in the batch.
        """
        return next((one.seconds for one in self.latency if one.batch_size == batch_size), None)

    def rows(self) -> list[dict[str, Any]]:
        """One row per call of a layer, for `AnalysisResults.to_frame`."""
        return [{f.name: getattr(layer, f.name) for f in dataclasses.fields(layer)} for layer in self.layers]
