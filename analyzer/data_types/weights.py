"""What is known about the weights of one model."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.values import Finding

Role = Literal["kernel", "recurrent_kernel", "embedding", "bias", "scale", "statistic", "quantization", "lora", "other"]

MATRIX_ROLES: tuple[Role, ...] = ("kernel", "recurrent_kernel", "embedding")
"""Roles of tensors that map inputs to outputs; the others shift, scale, count or keep books."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Histogram:
    """Counts of finite weights between edges.

    Attributes:
        counts: ``(bins,)`` int64.
        edges: ``(bins + 1,)`` float64, ascending, from the smallest to the largest weight.
    """

    counts: NDArray[np.int64]
    edges: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class OperatorNorm:
    """The largest factor by which the linear part of a layer can stretch an input.

    Attributes:
        value: The norm; None where it could not be computed.
        method: How it was computed, e.g. ``"lanczos through the layer"`` or ``"matrix"``.
        size: Spatial input size that a convolution was measured at; empty where there is none.
        size_source: ``"model input"`` (static), ``"assumed"`` (the model takes any size) or ``"capped"``
            (the static size was reduced to bound the work).
        iterations: Products with the operator and its transpose; 0 for an exact decomposition.
        reason: Why there is no value; None where there is one.
    """

    value: float | None
    method: str
    size: tuple[int, ...] = ()
    size_source: str | None = None
    iterations: int = 0
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightStatistics:
    """Statistics over the logical float32 values of one tensor, or of all kernels of a layer, in float64.

    Moments, extremes, shares and the histogram are over the finite values; norms are None unless all are finite.

    Attributes:
        size: Number of logical values.
        n_nan: How many of them are NaN.
        n_inf: How many are infinite.
        mean: Mean.
        std: Population standard deviation (divisor n).
        median: Median.
        min: Smallest value.
        max: Largest value.
        skewness: Fisher's g1; None where the values do not vary.
        kurtosis: Excess kurtosis g2 (normal: 0); None where the values do not vary.
        l1: Sum of magnitudes.
        l2: Root of the sum of squares (Frobenius).
        rms: Root mean square.
        max_norm: Largest magnitude.
        spectral_norm: The true operator norm for kernels; see ``operator_norm`` for how.
        zero_share: Share of exact zeros.
        near_zero_share: Share of magnitudes up to 1e-3 of the RMS, exact zeros included.
        positive_share: Share above zero.
        negative_share: Share below zero.
        extreme_share: Share, beyond the one that defines it, within 0.1 % of the largest magnitude.
        channels: Output channels; None for tensors without.
        dead_channels: Output channels whose incoming weights vanish.
        duplicate_channels: Output channels that repeat an earlier one; None where chance alone would produce them.
        top_energy_share: Share of the squared norm in the first singular value; 1 for a rank-1 kernel.
        rank: Numerical rank in float32; None for matrices too large for a full decomposition.
        full_rank: Largest rank that the shape allows.
    """

    size: int
    n_nan: int = 0
    n_inf: int = 0
    mean: float | None = None
    std: float | None = None
    median: float | None = None
    min: float | None = None
    max: float | None = None
    skewness: float | None = None
    kurtosis: float | None = None
    l1: float | None = None
    l2: float | None = None
    rms: float | None = None
    max_norm: float | None = None
    spectral_norm: float | None = None
    zero_share: float | None = None
    near_zero_share: float | None = None
    positive_share: float | None = None
    negative_share: float | None = None
    extreme_share: float | None = None
    channels: int | None = None
    dead_channels: int | None = None
    duplicate_channels: int | None = None
    top_energy_share: float | None = None
    rank: int | None = None
    full_rank: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class TensorStatistics(WeightStatistics):
    """One variable of a model.

    Attributes:
        id: Unique id of the variable, e.g. ``"block/conv1/kernel"``.
        name: Its own name, e.g. ``"kernel"``.
        layer: Id of the layer that owns it.
        layer_type: Class name of that layer.
        role: What the variable does there.
        shape: Logical shape (unpacked).
        dtype: Dtype that it is stored in.
        parameters: Stored elements, as ``count_params()`` counts them.
        trainable: Whether training changes it.
        read_as: How logical values were made of stored ones: ``"stored"`` or ``"dequantized"``, with ``" + LoRA"``.
        initializer: Class name of its initialiser; None where the layer tells none of a known kind.
        initial_rms: Root mean square that the initialiser gives; None where unknown.
        reference_rms: What the scale of a kernel is judged by: ``initial_rms``, or 1/sqrt(inputs) where that is
            unknown or 0; None for other variables.
        saturated_share: Share of stored values at the end of their dtype's range; None where that cannot happen.
        operator_norm: The spectral norm with its method; None for tensors that are no kernels.
        histogram: Of the finite values; None where there are none.
        note: What a reader must know, e.g. why values could not be dequantised; None if nothing.
    """

    id: str
    name: str
    layer: str
    layer_type: str
    role: Role
    shape: tuple[int, ...]
    dtype: str
    parameters: int
    trainable: bool
    read_as: str = "stored"
    initializer: str | None = None
    initial_rms: float | None = None
    reference_rms: float | None = None
    saturated_share: float | None = None
    operator_norm: OperatorNorm | None = None
    histogram: Histogram | None = None
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class HealthPart:
    """One aspect of a layer's health: 1 up to ``healthy_at``, 0.5 at ``warning_at``, 0 from ``error_at``.

    Attributes:
        kind: What is judged, also the kind of the finding that it raises.
        value: The measured number.
        score: 0 to 1.
        healthy_at: Value up to which the aspect is healthy.
        warning_at: Value from which it is a warning.
        error_at: Value from which it is an error.
        unit: What the value counts.
        reason: Why these thresholds.
    """

    kind: str
    value: float
    score: float
    healthy_at: float
    warning_at: float
    error_at: float
    unit: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Health:
    """How far weights are from what their initialiser would give; the worst part decides.

    Attributes:
        score: 0 (dead or broken) to 1 (healthy): the smallest score of the parts; None where nothing can be judged.
        worst: Kind of the worst part, or id of the worst layer for a model; None at full health.
        parts: Each aspect once, with its worst value over the tensors of the layer; empty for a model.
        rule: How the score follows from the parts.
    """

    score: float | None
    worst: str | None = None
    parts: tuple[HealthPart, ...] = ()
    rule: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerWeights(WeightStatistics):
    """One layer that owns variables; its statistics are over all of its kernels together.

    ``size`` counts the logical values of those kernels. Layers without kernels (normalisation) have the statistics of
    their scale, or of all their variables where there is none.

    Attributes:
        id: Unique id of the layer.
        name: Its own name.
        type: Its class name.
        order: Place in the order of first execution.
        parameters: All stored elements that the layer owns, whatever rows are shown.
        trainable: How many of them training changes.
        tensors: Ids of all its variables.
        health: Judgement of its weights.
        operator_norm: Norm of its linear part; None for layers without kernels.
        histogram: Of the values that the statistics are over.
    """

    id: str
    name: str
    type: str
    order: int
    parameters: int
    trainable: int
    tensors: tuple[str, ...]
    health: Health
    operator_norm: OperatorNorm | None = None
    histogram: Histogram | None = None


@dataclass(frozen=True, kw_only=True)
class ParameterTotals:
    """Every variable counted once.

    Attributes:
        total: Equal to ``model.count_params()``.
        trainable: Changed by training.
        non_trainable: The rest.
        quantization: Part of the rest that only keeps books of a quantisation (scales, zero points, histories).
    """

    total: int
    trainable: int
    non_trainable: int
    quantization: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightResult:
    """The weights of one model.

    Attributes:
        findings: What is wrong or remarkable, over all layers, whatever rows are shown.
        tensors: One row per reported variable, in order of first execution.
        layers: One row per reported layer, in order of first execution.
        totals: Parameters of the whole model, whatever rows are shown.
        health: Judgement of the whole model: its worst layer.
        omitted_tensors: Variables that options keep out of the rows.
    """

    findings: tuple[Finding, ...] = ()
    tensors: tuple[TensorStatistics, ...]
    layers: tuple[LayerWeights, ...]
    totals: ParameterTotals
    health: Health
    omitted_tensors: int = 0

    def rows(self) -> list[dict[str, Any]]:
        """One flat record per reported tensor, with its layer's health, for a table."""
        health = {layer.id: layer.health.score for layer in self.layers}
        return [_flat(tensor) | {"layer_health": health.get(tensor.layer)} for tensor in self.tensors]


def _flat(tensor: TensorStatistics) -> dict[str, Any]:
    nested = ("histogram", "operator_norm")
    row = {f.name: getattr(tensor, f.name) for f in dataclasses.fields(tensor) if f.name not in nested}
    identity = ("layer", "layer_type", "id", "name", "role", "shape", "dtype")
    return {key: row[key] for key in identity} | row
