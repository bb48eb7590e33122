"""Floating-point operations of one call of one layer, from its shapes alone.

A multiply-add counts as 2, one arithmetic operation or elementary function on one element as 1 (exp and tanh too),
a softmax as 5 per element: maximum, difference, exponential, sum, quotient. Inactive at inference, moving and looking
up data count 0. Convolutions count every position of the kernel, those on the padding too. Arithmetic on weights alone
(a LoRA product, dequantisation) does not grow with the samples and is left out.

What there is no rule for raises `Uncountable` with the reason: it is never counted as 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

from analyzer.inspection import flops_operations
from analyzer.inspection.call_graph import Shape
from analyzer.inspection.flops_shapes import Uncountable, einsum_flops, size

L = keras.layers

SOFTMAX = 5
"""Operations per element of a softmax."""


@dataclass(frozen=True, kw_only=True)
class CallShapes:
    """What is known about one call.

    Attributes:
        inputs: Shapes of the tensor arguments.
        outputs: Shapes of what came back.
        inner: Output shape by name of the layers that it called itself; empty for layers that call no others.
    """

    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    inner: Mapping[str, Shape] = field(default_factory=dict)

    @property
    def n_in(self) -> int:
        """Elements of the first argument."""
        return size(self.inputs[0])

    @property
    def n_out(self) -> int:
        """Elements of all results."""
        return sum(map(size, self.outputs))


Rule = Callable[[Any, CallShapes], int]


def count_flops(place: Any, shapes: CallShapes) -> int:
    """Operations of one call, without those of layers that it calls and that are counted by themselves.

    Args:
        place: A layer, or an operation of a Functional model.
        shapes: What it was called with and what it returned.

    Raises:
        Uncountable: If there is no rule for it; the message is a reason.
    """
    if not isinstance(place, keras.layers.Layer):
        return flops_operations.count(place, shapes.inputs, shapes.outputs)
    if attends(shapes):
        return _attention_products(shapes)
    for cls in type(place).__mro__:
        rule = _RULES.get(cls)
        if rule is not None:
            return rule(place, shapes)
        if "call" in vars(cls):
            break
    raise Uncountable(f"there is no rule for the class {type(place).__name__}")


def attends(shapes: CallShapes) -> bool:
    """Whether a layer has inner layers called query, key and value that split their results into heads."""
    return all(len(shapes.inner.get(name, ())) >= 4 for name in ("query", "key", "value"))


def _attention_products(shapes: CallShapes) -> int:
    """Scores, their scale and softmax, and the mixing of values; the projections are inner layers."""
    query, key, value = (shapes.inner[name] for name in ("query", "key", "value"))
    heads = size(query[-2:-1])
    scores = size(query[:-2]) * heads * size(key[1:-2])
    softmax = 0 if any("softmax" in name for name in shapes.inner) else SOFTMAX * scores
    return 2 * scores * (size(query[-1:]) + size(value[-1:])) + size(query) + softmax


# ------------------------------------------------------------------------------------------------- layers with a kernel
def _finish(layer: Any, n: int) -> int:
    """Bias and activation of ``n`` results."""
    bias = n if getattr(layer, "use_bias", False) or getattr(layer, "bias_axes", None) else 0
    return bias + activation_flops(getattr(layer, "activation", None), n)


def activation_flops(activation: Any, n: int) -> int:
    """Operations of an activation function on ``n`` elements; a layer given as activation is counted by itself."""
    if activation is None or isinstance(activation, keras.layers.Layer):
        return 0
    name = getattr(activation, "__name__", "")
    return {"linear": 0, "softmax": SOFTMAX, "log_softmax": SOFTMAX}.get(name, 1) * n


def _dense(layer: Any, shapes: CallShapes) -> int:
    return 2 * size(shapes.inputs[0][-1:]) * shapes.n_out + _finish(layer, shapes.n_out)


def _einsum_dense(layer: Any, shapes: CallShapes) -> int:
    return einsum_flops(layer.equation, shapes.inputs[:1], shapes.outputs[0]) + _finish(layer, shapes.n_out)


def _volume(sizes: Sequence[int]) -> int:
    return math.prod(int(length) for length in sizes)


def _channels(layer: Any, shape: Shape) -> int:
    return size(shape[-1:] if layer.data_format == "channels_last" else shape[1:2])


def _conv(layer: Any, shapes: CallShapes) -> int:
    each = _volume(layer.kernel_size) * _channels(layer, shapes.inputs[0]) // int(layer.groups)
    return 2 * each * shapes.n_out + _finish(layer, shapes.n_out)


def _conv_transpose(layer: Any, shapes: CallShapes) -> int:
    # Every input scatters a kernel; what "same" padding crops is computed nowhere, and counted here.
    each = _volume(layer.kernel_size) * int(layer.filters)
    return 2 * each * shapes.n_in + _finish(layer, shapes.n_out)


def _depthwise(layer: Any, shapes: CallShapes) -> int:
    return 2 * _volume(layer.kernel_size) * shapes.n_out + _finish(layer, shapes.n_out)


def _separable(layer: Any, shapes: CallShapes) -> int:
    between = _channels(layer, shapes.inputs[0]) * int(layer.depth_multiplier)
    positions = shapes.n_out // int(layer.filters)
    depthwise = 2 * _volume(layer.kernel_size) * between * positions
    return depthwise + 2 * between * shapes.n_out + _finish(layer, shapes.n_out)


def _embedding(layer: Any, shapes: CallShapes) -> int:
    given, made = shapes.inputs[0], shapes.outputs[0]
    # A reversible embedding also maps vectors back to scores of the vocabulary.
    reverse = len(given) == len(made) and given[-1] == layer.output_dim and made[-1] == layer.input_dim
    return 2 * int(layer.output_dim) * shapes.n_out if reverse else 0


# -------------------------------------------------------------------------------------------------- attention by itself
def _plain_attention(layer: Any, shapes: CallShapes) -> int:
    query, value = shapes.inputs[:2]
    scores = size(query[:-1]) * size(value[-2:-1])
    each = 4 if isinstance(layer, L.AdditiveAttention) else 2
    return scores * (each * size(query[-1:]) + 2 * size(value[-1:]) + SOFTMAX)


# ----------------------------------------------------------------------------------------------------------- recurrence
_GATES = {L.LSTMCell: (4, 17), L.GRUCell: (3, 17), L.SimpleRNNCell: (1, 3)}
"""Products with a kernel per unit, and elementwise operations per unit and step: biases, sums, activations, state."""


def _cell(cell: Any, features: int) -> int:
    """Operations of one step of one sample."""
    if isinstance(cell, L.StackedRNNCells):
        widths = [features, *(inner.units for inner in cell.cells if hasattr(inner, "units"))]
        return sum(_cell(inner, width) for inner, width in zip(cell.cells, widths, strict=False))
    if type(cell) not in _GATES:
        raise Uncountable(f"there is no rule for the cell {type(cell).__name__}")
    gates, elementwise = _GATES[type(cell)]
    elementwise -= {L.LSTMCell: 4, L.GRUCell: 6, L.SimpleRNNCell: 1}[type(cell)] * (not cell.use_bias)
    units = int(cell.units)
    return (2 * gates * (features + units) + elementwise) * units


def _rnn(layer: Any, shapes: CallShapes) -> int:
    n, steps, features = shapes.inputs[0]
    return size((n, steps)) * _cell(layer.cell, size((features,)))


def _conv_lstm(layer: Any, shapes: CallShapes) -> int:
    last = layer.data_format == "channels_last"
    given, made = shapes.inputs[0], shapes.outputs[0]
    features = size(given[-1:] if last else given[2:3])
    axis = len(made) - 1 if last else 1 + bool(layer.return_sequences)
    positions = size(made[:axis] + made[axis + 1 :]) * (1 if layer.return_sequences else size(given[1:2]))
    each = 8 * _volume(layer.kernel_size) * (features + int(layer.filters)) + 17
    return positions * int(layer.filters) * each


def _bidirectional(layer: Any, shapes: CallShapes) -> int:
    both = sum(count_flops(one, shapes) for one in (layer.forward_layer, layer.backward_layer))
    joins = {"sum": 1, "mul": 1, "ave": 2}.get(layer.merge_mode, 0)
    return both + joins * size(shapes.outputs[0])


def _time_distributed(layer: Any, shapes: CallShapes) -> int:
    given, made = shapes.inputs[0], shapes.outputs[0]
    # One step of all samples; the inner layer sees no time axis.
    step = CallShapes(inputs=((given[0], *given[2:]),), outputs=((made[0], *made[2:]),))
    return size(given[1:2]) * count_flops(layer.layer, step)


# ---------------------------------------------------------------------------------------- normalisation and elementwise
def _scaled(base: int, *flags: str) -> Rule:
    """``base`` per element, and one more for each of the layer's switches that is on."""
    return lambda layer, shapes: (base + sum(bool(getattr(layer, flag, False)) for flag in flags)) * shapes.n_in


def _per_output(each: int) -> Rule:
    return lambda _layer, shapes: each * shapes.n_out


def _merge(extra: int = 0) -> Rule:
    return lambda _layer, shapes: (len(shapes.inputs) - 1 + extra) * shapes.n_out


def _dot(layer: Any, shapes: CallShapes) -> int:
    axes = int(layer.axes if isinstance(layer.axes, int) else layer.axes[0])
    normalised = 3 * sum(map(size, shapes.inputs)) if layer.normalize else 0
    return 2 * size(shapes.inputs[0][axes : axes + 1 or None]) * shapes.n_out + normalised


def _activation(layer: Any, shapes: CallShapes) -> int:
    return activation_flops(layer.activation, shapes.n_out)


def _pooling(layer: Any, shapes: CallShapes) -> int:
    return _volume(layer.pool_size) * shapes.n_out


def _upsampling(layer: Any, shapes: CallShapes) -> int:
    del shapes
    if getattr(layer, "interpolation", "nearest") != "nearest":
        raise Uncountable(f"there is no rule for {layer.interpolation} interpolation")
    return 0


def _classes(*names: str) -> tuple[type, ...]:
    """Those of the classes that this release of Keras has."""
    return tuple(getattr(L, name) for name in names if hasattr(L, name))


_DIMENSIONS = ("1D", "2D", "3D")


def _each_dimension(*patterns: str) -> tuple[type, ...]:
    return _classes(*(pattern.format(d) for pattern in patterns for d in _DIMENSIONS))


_MOVES_DATA = """
ActivityRegularization AlphaDropout CenterCrop Concatenate Dropout Flatten GaussianDropout GaussianNoise Identity
IntegerLookup Permute RandomBrightness RandomContrast RandomFlip RandomRotation RandomTranslation RandomZoom
RepeatVector Reshape StringLookup UpSampling1D
"""
_FREE = _classes(*_MOVES_DATA.split()) + _each_dimension("SpatialDropout{}", "Cropping{}", "ZeroPadding{}")
"""What moves data, or does nothing at inference."""

_RULES: dict[type, Rule] = {
    **dict.fromkeys(_FREE, lambda _layer, _shapes: 0),
    **dict.fromkeys(_each_dimension("Conv{}"), _conv),
    **dict.fromkeys(_each_dimension("Conv{}Transpose"), _conv_transpose),
    **dict.fromkeys(_each_dimension("DepthwiseConv{}"), _depthwise),
    **dict.fromkeys(_each_dimension("SeparableConv{}"), _separable),
    **dict.fromkeys(_each_dimension("ConvLSTM{}"), _conv_lstm),
    **dict.fromkeys(_each_dimension("MaxPooling{}", "AveragePooling{}"), _pooling),
    **dict.fromkeys(_each_dimension("GlobalMaxPooling{}", "GlobalAveragePooling{}"), _scaled(1)),
    **dict.fromkeys(_each_dimension("AdaptiveMaxPooling{}", "AdaptiveAveragePooling{}"), _scaled(1)),
    **dict.fromkeys(_classes("UpSampling2D", "UpSampling3D"), _upsampling),
    **dict.fromkeys(_classes("LSTM", "GRU", "SimpleRNN", "RNN"), _rnn),
    **dict.fromkeys(_classes("Attention", "AdditiveAttention"), _plain_attention),
    **dict.fromkeys(_classes("Embedding", "ReversibleEmbedding"), _embedding),
    **dict.fromkeys(_classes("Add", "Subtract", "Multiply", "Maximum", "Minimum"), _merge()),
    **dict.fromkeys(_classes("ReLU", "LeakyReLU", "ELU", "Masking"), _per_output(1)),
    **dict.fromkeys(_classes("Rescaling", "Normalization", "PReLU"), _per_output(2)),
    L.Dense: _dense,
    L.EinsumDense: _einsum_dense,
    L.Bidirectional: _bidirectional,
    L.TimeDistributed: _time_distributed,
    L.Average: _merge(1),
    L.Dot: _dot,
    L.Activation: _activation,
    L.Softmax: _per_output(SOFTMAX),
    # Scale and shift by moving statistics.
    L.BatchNormalization: _scaled(2),
    # Mean, difference, square, mean of squares, quotient, and the scale and shift that it has.
    L.LayerNormalization: _scaled(5, "scale", "center"),
    L.GroupNormalization: _scaled(5, "scale", "center"),
    L.RMSNormalization: _scaled(4),
    L.UnitNormalization: _scaled(3),
}
