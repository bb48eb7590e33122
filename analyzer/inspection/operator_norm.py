"""The operator norm of convolutions: the largest factor by which the layer's linear part can stretch an input.

The layer itself is run, with bias and activation taken out, so that strides, dilation, padding, groups and borders are
what they are (Sedghi, Gupta & Long 2019 show how far the reshaped kernel is off). The norm is the root of the largest
eigenvalue of AᵀA, found by Lanczos from products with A (the layer) and Aᵀ (its pullback) alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator

from analyzer.backends.contract import Engine
from analyzer.data_types.weights import OperatorNorm
from analyzer.inspection import compat
from analyzer.inspection.kernels import CONVOLUTIONS, DEPTHWISE, SEPARABLE, SPATIAL, TRANSPOSED
from analyzer.measures.matrices import Spectrum, largest_eigenvalue

ASSUMED_SIZE = 32
"""Spatial input size where the model leaves it open."""

MOST_VALUES = 1 << 19
"""Most values in the input and in the output of one sample; larger static sizes are reduced to bound the work. At such
sizes the norm hardly depends on the size any more: borders change it by O(1/size²)."""

TOLERANCE = 2e-3
"""Relative residual of the eigenvalue: its error is at most that, and that of the norm at most half of it. Both are far
smaller as a rule (1e-5), since the error of a Ritz value goes with the square of the residual."""

_METHOD = "Lanczos through the layer"


class ConvolutionNorms:
    """Computes the norms of many convolution layers, sharing compiled programs between those that are alike.

    Use as a context manager: leaving it releases the programs.
    """

    def __init__(self, engine: Engine, *, seed: int = 0, merge_lora: bool = False) -> None:
        self._engine = engine
        self._seed = seed
        self._merge_lora = merge_lora
        self._programs: dict[Any, Callable[..., Any]] = {}

    def __enter__(self) -> ConvolutionNorms:
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.release(list(self._programs.values()))
        self._programs.clear()

    def norm(self, layer: keras.layers.Layer, size: tuple[int, ...] | None) -> OperatorNorm:
        """Norm of the linear part of one layer.

        Args:
            layer: One of `SPATIAL`, or a subclass that is linear but for bias and activation.
            size: Static spatial input size, or None where the model takes any.

        Returns:
            The norm, or the reason why there is none.
        """
        shape, source = _input_shape(layer, size)
        spatial = tuple(shape[1:-1] if layer.data_format == "channels_last" else shape[2:])
        facts: dict[str, Any] = {"method": _METHOD, "size": spatial, "size_source": source}
        values = self._values(layer)
        if not all(np.all(np.isfinite(v)) for v in values):
            return OperatorNorm(value=None, reason="Some weights are not finite.", **facts)
        # Scaled to order one, so that squares stay within float32 whatever the scale of the weights.
        scaled, factor = _scaled([v.name for v in compat.own_variables(layer)], values)
        if factor == 0.0:
            return OperatorNorm(value=0.0, **facts)
        try:
            return self._lanczos(layer, scaled, factor, shape, facts)
        except Exception as error:  # noqa: BLE001 - what a backend cannot run is one missing number, by name
            text = str(error).strip().splitlines()
            reason = f"The layer cannot run alone: {type(error).__name__}: {text[0] if text else ''}"
            return OperatorNorm(value=None, reason=reason, **facts)

    def _values(self, layer: keras.layers.Layer) -> list[NDArray[np.float32]]:
        """Values of the layer's variables with bias at zero, and the adapter too unless it is to be merged."""
        out = []
        for variable in compat.own_variables(layer):
            value = np.asarray(keras.ops.convert_to_numpy(variable)).astype(np.float32)
            dropped = variable.name == "bias" or (variable.name.startswith("lora_") and not self._merge_lora)
            out.append(np.zeros_like(value) if dropped else value)
        return out

    def _lanczos(
        self,
        layer: keras.layers.Layer,
        values: list[NDArray[np.float32]],
        factor: float,
        shape: tuple[int, ...],
        facts: dict[str, Any],
    ) -> OperatorNorm:
        tensors = [keras.ops.convert_to_tensor(v, dtype="float32") for v in values]
        count = 0
        with ExitStack() as stack:
            if hasattr(layer, "activation"):
                stack.enter_context(compat.replaced(layer, "activation", keras.activations.linear))
            program = self._program(layer, shape, values)

            def apply(vector: NDArray[Any]) -> NDArray[np.float32]:
                nonlocal count
                count += 1
                x = keras.ops.convert_to_tensor(vector.reshape(shape), dtype="float32")
                return np.asarray(self._engine.to_numpy(program(tensors, x)), dtype=np.float32).reshape(-1)

            if not _is_linear(apply, math.prod(shape), self._seed):
                return OperatorNorm(value=None, reason="The layer is not linear in its input.", **facts)
            order = math.prod(shape)
            if order == 1:
                square: float | None = float(apply(np.ones(1))[0])
            else:
                operator = LinearOperator((order, order), matvec=apply, dtype=np.float32)
                square = largest_eigenvalue(operator, seed=self._seed, tolerance=TOLERANCE)
        if square is None:
            return OperatorNorm(value=None, iterations=count, reason="The iteration did not converge.", **facts)
        return OperatorNorm(value=factor * math.sqrt(max(square, 0.0)), iterations=count, **facts)

    def _program(
        self, layer: keras.layers.Layer, shape: tuple[int, ...], values: list[NDArray[np.float32]]
    ) -> Callable[..., Any]:
        key = _likeness(layer, shape, values)
        if key not in self._programs:
            variables = compat.own_variables(layer)
            self._programs[key] = self._engine.jit(_normal_operator(self._engine, layer, variables))
        return self._programs[key]


def _normal_operator(engine: Engine, layer: keras.layers.Layer, variables: list[keras.Variable]) -> Callable[..., Any]:
    """The function ``(values, x) -> AᵀA x``; values are arguments, or JAX would bake them into the program."""

    def normal(values: list[Any], x: Any) -> Any:
        def forward(x: Any) -> Any:
            with keras.StatelessScope() as scope:
                # Set directly: the constructor would cast to the variable's own, possibly half, precision.
                scope.state_mapping.update({id(v): t for v, t in zip(variables, values, strict=True)})
                return layer.call(x)

        value, pullback = engine.vjp(forward, x)
        return pullback(value)

    return normal


def _likeness(layer: keras.layers.Layer, shape: tuple[int, ...], values: list[NDArray[np.float32]]) -> tuple[Any, ...]:
    """What decides the program of a layer: equal keys share one. Subclasses may hide state, so they never share."""
    if type(layer) not in SPATIAL:
        return (id(layer),)
    names = ("strides", "padding", "dilation_rate", "groups", "data_format", "output_padding", "lora_rank", "use_bias")
    options = tuple(str(getattr(layer, name, None)) for name in names)
    return (type(layer), *options, shape, tuple(v.shape for v in values))


def is_pointwise(layer: keras.layers.Layer) -> bool:
    """Whether every output position sees one input position of its own: one matrix then says all, strides or not."""
    return type(layer) in CONVOLUTIONS and math.prod(layer.kernel_size) == 1


def pointwise_norm(layer: Any, size: tuple[int, ...] | None, found: Spectrum | None) -> OperatorNorm:
    """The norm of a layer that `is_pointwise`: exactly that of its matrix, at every size.

    Args:
        layer: The layer.
        size: Static spatial input size, or None where the model takes any.
        found: Singular values of the kernel; None where it is not finite.
    """
    return OperatorNorm(
        value=found.norm if found else None,
        method="matrix of the 1×1 kernel",
        size=size or (ASSUMED_SIZE,) * layer.rank,
        size_source="model input" if size else "assumed",
        iterations=found.iterations if found else 0,
        reason=None if found else "Some weights are not finite.",
    )


def _input_shape(layer: Any, size: tuple[int, ...] | None) -> tuple[tuple[int, ...], str]:
    """Shape of one input sample with its batch axis, and where its spatial size comes from."""
    source = "model input" if size is not None else "assumed"
    spatial = tuple(size) if size is not None else (ASSUMED_SIZE,) * layer.rank
    channels_in, channels_out = _channels(layer)
    growth = math.prod(layer.strides) if isinstance(layer, TRANSPOSED) else 1
    if math.prod(spatial) * max(channels_in, channels_out * growth) > MOST_VALUES:
        extent = [(k - 1) * d + 1 for k, d in zip(layer.kernel_size, layer.dilation_rate, strict=True)]
        shrink = (MOST_VALUES / (math.prod(spatial) * max(channels_in, channels_out * growth))) ** (1 / layer.rank)
        spatial = tuple(min(s, max(int(s * shrink), 2 * e)) for s, e in zip(spatial, extent, strict=True))
        source = "capped"
    if layer.data_format == "channels_last":
        return (1, *spatial, channels_in), source
    return (1, channels_in, *spatial), source


def _channels(layer: Any) -> tuple[int, int]:
    kernel = layer.depthwise_kernel if isinstance(layer, SEPARABLE) else layer.kernel
    if isinstance(layer, TRANSPOSED):
        return int(kernel.shape[-1]), int(kernel.shape[-2])
    if isinstance(layer, DEPTHWISE):
        return int(kernel.shape[-2]), int(kernel.shape[-2] * kernel.shape[-1])
    if isinstance(layer, SEPARABLE):
        return int(kernel.shape[-2]), max(int(kernel.shape[-2] * kernel.shape[-1]), layer.filters)
    return int(kernel.shape[-2]) * layer.groups, int(kernel.shape[-1])


def _scaled(names: list[str], values: list[NDArray[np.float32]]) -> tuple[list[NDArray[np.float32]], float]:
    """Kernels divided by their largest magnitude, and the product of these: the layer is linear in each kernel.

    A merged adapter is added to its kernel, so then nothing is scaled.
    """
    if any(name.startswith("lora_") and value.any() for name, value in zip(names, values, strict=True)):
        return values, 1.0
    out, factor = [], 1.0
    for name, value in zip(names, values, strict=True):
        largest = float(np.max(np.abs(value), initial=0.0)) if name.endswith("kernel") else 1.0
        factor *= largest
        out.append(np.asarray(value / largest, dtype=np.float32) if largest > 0 else value)
    return out, factor


def _is_linear(apply: Callable[[NDArray[Any]], NDArray[np.float32]], order: int, seed: int) -> bool:
    """Whether doubling and negating an input does so to the result; custom layers may hide a nonlinearity."""
    x = np.random.default_rng(seed).standard_normal(order).astype(np.float32)
    once, minus_twice = apply(x), apply(-2.0 * x)
    return bool(np.allclose(minus_twice, -2.0 * once, rtol=1e-3, atol=1e-3 * float(np.max(np.abs(once), initial=0.0))))
