"""Describing the variables of an opened model: what leaves this file is kilobytes, not the weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
from numpy.typing import NDArray

from analyzer.backends.contract import Engine
from analyzer.data_types.weights import (
    MATRIX_ROLES,
    Histogram,
    OperatorNorm,
    TensorStatistics,
    WeightStatistics,
)
from analyzer.inspection import compat, initial_scale, kernels, logical_weights
from analyzer.inspection.kernels import KernelAxes
from analyzer.inspection.operator_norm import ConvolutionNorms, is_pointwise, pointwise_norm
from analyzer.inspection.view import LayerInfo, ModelView, VariableInfo
from analyzer.measures.matrices import FULL_DECOMPOSITION, Spectrum, dead_channels, duplicate_channels, spectrum
from analyzer.measures.weights import histogram, weight_statistics


@dataclass(frozen=True, kw_only=True, eq=False)
class DescribedLayer:
    """One layer that owns variables, before it is judged.

    Attributes:
        id: Unique id of the layer.
        name: Its own name.
        type: Its class name.
        within: Class names of the containers and composite layers that it is part of, outermost first.
        order: Place in the order of first execution.
        tensors: Its variables.
        statistics: Over all of its kernels together, or its scale, or all variables where it has neither.
        histogram: Of the same values.
        operator_norm: Norm of its linear part; None for layers without kernels.
    """

    id: str
    name: str
    type: str
    within: tuple[str, ...]
    order: int
    tensors: tuple[TensorStatistics, ...]
    statistics: WeightStatistics
    histogram: Histogram | None
    operator_norm: OperatorNorm | None


@dataclass(frozen=True, kw_only=True, eq=False)
class DescribedWeights:
    """Every variable of a model, described once.

    Attributes:
        layers: Layers that own variables, in order of first execution.
        total: Stored elements of all variables, equal to ``count_params()``.
    """

    layers: tuple[DescribedLayer, ...]
    total: int


def describe_weights(
    view: ModelView,
    engine: Engine,
    *,
    seed: int = 0,
    merge_lora: bool = False,
    step: Callable[[int, int], None] | None = None,
) -> DescribedWeights:
    """Statistics, matrix measures and operator norms of all variables, one layer in memory at a time.

    Args:
        view: The opened model; nothing in it is changed.
        engine: The engine of the backend in use.
        seed: Seed of the start vectors of iterations.
        merge_lora: Read kernels with their low-rank adapters added.
        step: Called after every layer with the number of layers done and of all.
    """
    owned: dict[str, list[VariableInfo]] = {}
    for variable in view.variables:
        owned.setdefault(variable.owner.id, []).append(variable)
    within = _ancestors(view.model)
    static = _has_static_sizes(view.model)
    layers = []
    with ConvolutionNorms(engine, seed=seed, merge_lora=merge_lora) as norms:
        for info in view.layers:
            if info.id in owned:
                reader = _LayerReader(info, owned[info.id], norms, static=static, seed=seed, merge_lora=merge_lora)
                layers.append(reader.describe(within.get(id(info.layer), ())))
                if step is not None:
                    step(len(layers), len(owned))
    return DescribedWeights(layers=tuple(layers), total=sum(v.size for v in view.variables))


class _LayerReader:
    """Reads the variables of one layer once and describes them apart and together."""

    def __init__(
        self,
        info: LayerInfo,
        variables: list[VariableInfo],
        norms: ConvolutionNorms,
        *,
        static: bool,
        seed: int,
        merge_lora: bool,
    ) -> None:
        self.info = info
        self.variables = variables
        self.norms = norms
        self.static = static
        self.seed = seed
        self.merge_lora = merge_lora
        self._layer_norm: OperatorNorm | None = None

    def describe(self, within: tuple[str, ...]) -> DescribedLayer:
        if isinstance(self.info.layer, kernels.SPATIAL) and not is_pointwise(self.info.layer):
            self._layer_norm = self.norms.norm(self.info.layer, self._spatial_size())
        described = [self._tensor(variable) for variable in self.variables]
        tensors = tuple(tensor for tensor, _ in described)
        chosen = _summarised([t.role for t in tensors])
        values = [v for (_, v), keep in zip(described, chosen, strict=True) if keep and v.dtype.kind == "f"]
        kept = [t for t, keep in zip(tensors, chosen, strict=True) if keep]
        norm = self._layer_norm or _largest([t.operator_norm for t in kept])
        return DescribedLayer(
            id=self.info.id,
            name=self.info.name,
            type=self.info.kind,
            within=within,
            order=self.info.order,
            tensors=tensors,
            statistics=_together(weight_statistics(values), kept, norm),
            histogram=histogram(values),
            operator_norm=norm,
        )

    def _tensor(self, variable: VariableInfo) -> tuple[TensorStatistics, NDArray[Any]]:
        layer = self.info.layer
        read = logical_weights.read(layer, variable.name, variable.variable, merge_lora=self.merge_lora)
        shape = tuple(read.values.shape)
        role, axes = kernels.classify(layer, variable.name, shape)
        usable = read.note is None
        statistics = weight_statistics([read.values]) if usable else WeightStatistics(size=int(read.values.size))
        matrix, norm, rows = (
            self._matrix(variable.name, role, axes, read.values) if axes and usable else ({}, None, None)
        )
        initial = initial_scale.initial_rms(layer, variable.name, shape)
        reference = (initial[0] if initial else 0.0) or (rows**-0.5 if rows else None)
        described = TensorStatistics(
            **(_fields(statistics) | matrix),
            id=variable.id,
            name=variable.name,
            layer=self.info.id,
            layer_type=self.info.kind,
            role=role,
            shape=shape,
            dtype=str(keras.backend.standardize_dtype(variable.variable.dtype)),
            parameters=variable.size,
            trainable=variable.trainable,
            read_as=read.read_as,
            initializer=initial[1] if initial else None,
            initial_rms=initial[0] if initial else None,
            reference_rms=reference if role in MATRIX_ROLES else None,
            saturated_share=logical_weights.saturated_share(read, variable.variable, matrix.get("channels")),
            operator_norm=norm,
            histogram=histogram([read.values]) if usable else None,
            note=read.note,
        )
        return described, read.values

    def _matrix(
        self, name: str, role: str, axes: KernelAxes, values: NDArray[Any]
    ) -> tuple[dict[str, Any], OperatorNorm | None, int]:
        """Measures of the tensor as a matrix, its operator norm, and its number of inputs."""
        blocks = axes.matrices(values)
        dead = dead_channels(blocks)
        measures: dict[str, Any] = {"channels": int(dead.size), "dead_channels": int(dead.sum())}
        rows = int(blocks.shape[1])
        if role == "scale":
            return measures, None, rows
        if role == "kernel":
            measures["duplicate_channels"] = duplicate_channels(blocks, seed=self.seed)
        found = spectrum(blocks, seed=self.seed)
        if found is not None:
            measures |= {
                "top_energy_share": found.top_energy_share,
                "rank": found.rank,
                "full_rank": found.full_rank,
            }
        norm = self._norm(name, axes, found)
        return measures | {"spectral_norm": norm.value}, norm, rows

    def _norm(self, name: str, axes: KernelAxes, found: Spectrum | None) -> OperatorNorm:
        if self._layer_norm is not None and name == "kernel":
            return self._layer_norm
        if name == "kernel" and is_pointwise(self.info.layer):
            return pointwise_norm(self.info.layer, self._spatial_size(), found)
        if name == "depthwise_kernel":
            reason = "A part of a separable convolution: see the norm of the layer."
            return OperatorNorm(value=None, method="none", reason=reason)
        if self.info.kind.startswith("ConvLSTM") or "ConvLSTMCell" in self.info.kind:
            return OperatorNorm(value=None, method="none", reason="A recurrent convolution has no norm of its own.")
        if found is None:
            return OperatorNorm(value=None, method="matrix", reason="Some weights are not finite, or there are none.")
        method = "matrix" if axes.known else "matrix per block (layout assumed: the layer's class does not tell it)"
        exact = found.full_rank <= FULL_DECOMPOSITION
        method += ", all singular values" if exact else ", Lanczos"
        return OperatorNorm(value=found.norm, method=method, iterations=found.iterations)

    def _spatial_size(self) -> tuple[int, ...] | None:
        layer = self.info.layer
        if not self.static or not self.info.input_shapes:
            return None
        shape = self.info.input_shapes[0]
        spatial = shape[1:-1] if layer.data_format == "channels_last" else shape[2:]
        whole = tuple(size for size in spatial if size is not None)
        return whole if len(whole) == layer.rank else None


def _summarised(roles: list[str]) -> list[bool]:
    """Which variables stand for the layer: kernels, else the scale, else all but book-keeping."""
    for wanted in (MATRIX_ROLES, ("scale",)):
        if any(role in wanted for role in roles):
            return [role in wanted for role in roles]
    return [role != "quantization" for role in roles]


def _largest(norms: list[OperatorNorm | None]) -> OperatorNorm | None:
    known = [norm for norm in norms if norm is not None]
    return max(known, key=lambda norm: -1.0 if norm.value is None else norm.value, default=None)


def _together(
    statistics: WeightStatistics, tensors: list[TensorStatistics], norm: OperatorNorm | None
) -> WeightStatistics:
    """Statistics of the values of several tensors, with the sums and worst cases of their matrices."""

    def known(name: str) -> list[Any]:
        return [value for tensor in tensors if (value := getattr(tensor, name)) is not None]

    single = tensors[0] if len(tensors) == 1 else None
    return dataclasses.replace(
        statistics,
        spectral_norm=norm.value if norm else None,
        channels=sum(known("channels")) if known("channels") else None,
        dead_channels=sum(known("dead_channels")) if known("dead_channels") else None,
        duplicate_channels=sum(known("duplicate_channels")) if known("duplicate_channels") else None,
        top_energy_share=max(known("top_energy_share"), default=None),
        rank=single.rank if single else None,
        full_rank=single.full_rank if single else None,
    )


def _ancestors(model: keras.Model) -> dict[int, tuple[str, ...]]:
    """Class names above each layer, without the model itself; of a shared layer, those of its first place."""
    found: dict[int, tuple[str, ...]] = {}

    def visit(layer: keras.layers.Layer, above: tuple[str, ...]) -> None:
        for child in compat.sublayers(layer):
            if id(child) not in found:
                found[id(child)] = above
                visit(child, (*above, type(child).__name__))

    visit(model, ())
    return found


def _has_static_sizes(model: keras.Model) -> bool:
    """Whether sizes seen in a pass are those of the model rather than assumed ones."""
    declared = getattr(model, "inputs", None) or ()
    return all(None not in tuple(tensor.shape)[1:] for tensor in declared)


def _fields(statistics: WeightStatistics) -> dict[str, Any]:
    return {f.name: getattr(statistics, f.name) for f in dataclasses.fields(statistics)}


def layer_types(described: DescribedWeights) -> Iterator[str]:
    """Every class name that a filter on layer types can match."""
    for layer in described.layers:
        yield layer.type
        yield from layer.within
