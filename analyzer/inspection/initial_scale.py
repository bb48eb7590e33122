"""The root mean square that a layer's own initialiser gives to a variable, by closed form: nothing is drawn."""

from __future__ import annotations

import math
from typing import Any

import keras

from analyzer.inspection.kernels import DEPTHWISE, einsum_terms

TRUNCATED_NORMAL_STD = 0.87962566103423978
"""Standard deviation of a standard normal cut at ±2."""

_ATTRIBUTE = {
    "recurrent_kernel": "recurrent_initializer",
    "depthwise_kernel": "depthwise_initializer",
    "pointwise_kernel": "pointwise_initializer",
    "reverse_embeddings": "embeddings_initializer",
}


def initial_rms(layer: keras.layers.Layer, name: str, shape: tuple[int, ...]) -> tuple[float, str] | None:
    """What the initialiser gives, and its class name.

    Args:
        layer: The layer that owns the variable.
        name: The variable's own name.
        shape: Its logical shape.

    Returns:
        Root mean square and name; None where the layer tells no initialiser of a known kind.
    """
    initializer = initializer_of(layer, name)
    if initializer is None:
        return None
    rms = _rms(initializer, shape, _einsum_axes(layer, name))
    return None if rms is None else (rms, type(initializer).__name__)


def initializer_of(layer: keras.layers.Layer, name: str) -> Any | None:
    """The initialiser that a layer gives to one of its variables.

    Args:
        layer: The layer that owns the variable.
        name: The variable's own name.

    Returns:
        The initialiser, or None where the layer tells none.
    """
    attribute = "depthwise_initializer" if isinstance(layer, DEPTHWISE) and name == "kernel" else None
    return getattr(layer, attribute or _ATTRIBUTE.get(name, f"{name}_initializer"), None)


def _rms(initializer: object, shape: tuple[int, ...], axes: tuple[list[int], list[int]] | None) -> float | None:
    init = keras.initializers
    if isinstance(initializer, init.VarianceScaling):
        fan_in, fan_out = _fans(initializer, shape, axes)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2.0}[initializer.mode]
        # All three distributions are scaled to this variance, the truncated one too.
        return math.sqrt(float(initializer.scale) / max(1.0, fan))
    if isinstance(initializer, init.TruncatedNormal):
        return math.hypot(initializer.mean, TRUNCATED_NORMAL_STD * initializer.stddev)
    if isinstance(initializer, init.RandomNormal):
        return math.hypot(initializer.mean, initializer.stddev)
    if isinstance(initializer, init.RandomUniform):
        low, high = initializer.minval, initializer.maxval
        return math.sqrt(float(low * low + low * high + high * high) / 3.0)
    if isinstance(initializer, init.Orthogonal):
        rows = math.prod(shape[:-1])
        return abs(float(initializer.gain)) / math.sqrt(max(rows, shape[-1]))
    if isinstance(initializer, init.Identity):
        return abs(float(initializer.gain)) / math.sqrt(max(shape))
    if isinstance(initializer, init.Constant):
        return abs(float(initializer.value)) if isinstance(initializer.value, int | float) else None
    return {init.Zeros: 0.0, init.Ones: 1.0}.get(type(initializer))


def _einsum_axes(layer: keras.layers.Layer, name: str) -> tuple[list[int], list[int]] | None:
    """Axes that count as inputs and outputs of an `EinsumDense` kernel, as Keras itself derives them."""
    if not (isinstance(layer, keras.layers.EinsumDense) and name == "kernel"):
        return None
    _, kernel, output = einsum_terms(layer.equation)
    return [i for i, c in enumerate(kernel) if c not in output], [i for i, c in enumerate(kernel) if c in output]


def _fans(
    initializer: keras.initializers.VarianceScaling,
    shape: tuple[int, ...],
    einsum: tuple[list[int], list[int]] | None,
) -> tuple[int, int]:
    """Keras' rule: the layer's axes where it knows them (Keras 3.13 and later), else those of a convolution kernel."""
    if hasattr(initializer, "input_axes"):
        axes = (initializer.input_axes, initializer.output_axes)
        given = axes if None not in axes else einsum
        if given is not None:
            return math.prod(shape[i] for i in given[0]), math.prod(shape[i] for i in given[1])
    if len(shape) < 2:
        size = shape[0] if shape else 1
        return size, size
    receptive = math.prod(shape[:-2])
    return shape[-2] * receptive, shape[-1] * receptive
