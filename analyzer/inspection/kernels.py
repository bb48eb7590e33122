"""What each variable of a layer does, and which matrix it is: by its owner, since neither rank nor name says it.

Attention kernels have three axes, the biases of queries two, experts three, depthwise kernels look like full ones, and
transposed convolutions store outputs before inputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.weights import Role

CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
TRANSPOSED = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)
DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
SPATIAL = (*CONVOLUTIONS, *TRANSPOSED, *DEPTHWISE, *SEPARABLE)

_QUANTIZATION = ("_scale", "_zero", "g_idx", "_amax_history")
_BUILT_IN: dict[str, Role] = {
    "kernel": "kernel",
    "depthwise_kernel": "kernel",
    "pointwise_kernel": "kernel",
    "reverse_embeddings": "kernel",
    "quantized_kernel": "kernel",
    "recurrent_kernel": "recurrent_kernel",
    "embeddings": "embedding",
    "bias": "bias",
    "beta": "bias",
    "gamma": "scale",
    "scale": "scale",
    "vector_u": "statistic",
    "rnn_state": "statistic",
    "mean": "statistic",
    "variance": "statistic",
    "count": "statistic",
}


@dataclass(frozen=True)
class KernelAxes:
    """Which axes of a kernel are separate blocks, inputs (rows) and output channels (columns).

    Attributes:
        blocks: Axes along which the kernel acts on separate inputs.
        rows: Axes of the inputs.
        columns: Axes of the output channels.
        groups: Into how many blocks of their own inputs the columns are divided.
        known: False where the layer's class does not tell, and experts ``(..., inputs, outputs)`` are assumed.
    """

    blocks: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    groups: int = 1
    known: bool = True

    def matrices(self, values: NDArray[Any]) -> NDArray[Any]:
        """The kernel as ``(blocks, rows, columns)``."""
        size = [math.prod(values.shape[a] for a in axes) for axes in (self.blocks, self.rows, self.columns)]
        blocks = np.transpose(values, self.blocks + self.rows + self.columns).reshape(size)
        if self.groups == 1:
            return blocks
        split = blocks.reshape(size[1], self.groups, size[2] // self.groups)
        return np.swapaxes(split, 0, 1)


def classify(layer: keras.layers.Layer, name: str, shape: tuple[int, ...]) -> tuple[Role, KernelAxes | None]:
    """The role of a variable, and the matrix it is.

    Args:
        layer: The layer that owns it.
        name: The variable's own name.
        shape: Its logical shape.

    Returns:
        The role; and the axes of kernels, embeddings and the scales of Keras' own layers, None for other variables.
    """
    known = _is_built_in(layer)
    role = _built_in_role(name) if known else _custom_role(name, shape)
    if role == "scale" and known:
        return role, KernelAxes((), (), tuple(range(len(shape))))
    if role not in ("kernel", "recurrent_kernel", "embedding"):
        return role, None
    return role, _axes(layer, name, len(shape))


def einsum_terms(equation: str) -> tuple[str, str, str]:
    """Letters of the input, the kernel and the output of an einsum equation, without the ellipsis."""
    left, output = equation.replace("...", "").replace(" ", "").split("->")
    inputs, kernel = left.split(",")
    return inputs, kernel, output


def _is_built_in(layer: keras.layers.Layer) -> bool:
    """Whether the layer, or a class that it extends, is one of Keras' own with a known meaning of its variables."""
    return any(
        base.__module__.startswith("keras.")
        and issubclass(base, keras.layers.Layer)
        and not issubclass(base, keras.Model)
        and base not in (keras.layers.Layer, keras.layers.Wrapper)
        for base in type(layer).__mro__
    )


def _built_in_role(name: str) -> Role:
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    if name.startswith("lora_"):
        return "lora"
    if name.startswith(("moving_", "renorm_")):
        return "statistic"
    return "quantization" if name.endswith(_QUANTIZATION) else "other"


def _custom_role(name: str, shape: tuple[int, ...]) -> Role:
    """The role in a layer of unknown class: there the name is all there is for biases and scales."""
    for word, role in (
        ("bias", "bias"),
        ("beta", "bias"),
        ("gamma", "scale"),
        ("scale", "scale"),
        ("moving", "statistic"),
    ):
        if word in name:
            return role  # type: ignore[return-value]
    if name.startswith("lora_"):
        return "lora"
    return "kernel" if len(shape) >= 2 else "other"


def _axes(layer: keras.layers.Layer, name: str, rank: int) -> KernelAxes:
    spatial, last = tuple(range(rank - 2)), rank - 1
    if isinstance(layer, DEPTHWISE) or name == "depthwise_kernel":
        return KernelAxes((last - 1,), spatial, (last,))
    if isinstance(layer, TRANSPOSED):
        return KernelAxes((), (*spatial, last), (last - 1,))
    if isinstance(layer, keras.layers.EinsumDense):
        inputs, kernel, output = einsum_terms(layer.equation)
        shared = tuple(i for i, letter in enumerate(kernel) if letter in inputs and letter in output)
        rows = tuple(i for i, letter in enumerate(kernel) if letter not in output)
        columns = tuple(i for i, letter in enumerate(kernel) if letter not in inputs)
        return KernelAxes(shared, rows, columns)
    if isinstance(layer, CONVOLUTIONS):
        return KernelAxes((), (*spatial, last - 1), (last,), groups=layer.groups)
    if _is_built_in(layer):
        # Dense, embeddings, pointwise kernels and recurrent cells, convolutional ones included: outputs come last.
        return KernelAxes((), tuple(range(last)), (last,))
    return KernelAxes(spatial, (last - 1,), (last,), known=rank == 2)
