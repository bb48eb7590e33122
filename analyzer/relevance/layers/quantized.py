"""What quantised layers compute with: the values of their kernel, and their own result before the activation."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.inspection import compat, logical_weights
from analyzer.relevance.flow import Tensor
from analyzer.relevance.public_ops import ops
from analyzer.relevance.visit import Visit


def is_quantized(layer: keras.layers.Layer) -> bool:
    """Whether a layer computes with something else than the kernel that it shows."""
    return getattr(layer, "quantization_mode", None) is not None


def kernel_of(visit: Visit) -> Tensor:
    """The kernel as floating-point numbers, LoRA included; dequantised once per program.

    Raises:
        Unsupported: If its codes cannot be read.
    """
    layer = visit.layer
    if not is_quantized(layer):
        return ops.convert_to_tensor(layer.kernel)
    variables = {variable.name: variable for variable in compat.own_variables(layer)}
    if "kernel" not in variables:
        raise visit.refuse(
            f"its weights are quantised as {layer.quantization_mode!r}, whose codes are not read as numbers. Explain "
            "the model before quantising it, or quantise it to 'int8' or 'int4'."
        )

    def make() -> NDArray[np.float32]:
        read = logical_weights.read(layer, "kernel", variables["kernel"], merge_lora=True)
        return np.asarray(read.values, dtype=np.float32)

    return visit.flow.constant(make)


def before_activation(visit: Visit, x: Tensor) -> Tensor | None:
    """What a quantised layer itself computes, bias included, activation not; None for other layers."""
    if not is_quantized(visit.layer):
        return None
    with compat.replaced(visit.layer, "activation", None):
        value: Any = visit.call(ops.stop_gradient(x))
    return ops.stop_gradient(ops.cast(value, x.dtype))
