"""Reading variables as the float values that a layer computes with: unpacked, dequantised, LoRA merged on request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.inspection.kernels import einsum_terms

_LARGEST = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38}
"""Largest finite value of the dtypes whose range training can reach."""

_CODED = ("kernel", "embeddings", "reverse_embeddings")


@dataclass(frozen=True, kw_only=True, eq=False)
class LogicalWeights:
    """One variable as a layer uses it.

    Attributes:
        values: Float32 (float64 where stored so) or the stored integers, in logical shape.
        codes: The unpacked integers behind dequantised values, in the same shape; None for others.
        code_limits: Smallest and largest code; None for others.
        read_as: ``"stored"``, ``"dequantized"``, with ``" + LoRA"`` where an adapter was merged.
        note: Why values are not what the layer computes with; None where they are.
    """

    values: NDArray[Any]
    codes: NDArray[Any] | None = None
    code_limits: tuple[int, int] | None = None
    read_as: str = "stored"
    note: str | None = None


def read(layer: keras.layers.Layer, name: str, variable: keras.Variable, *, merge_lora: bool = False) -> LogicalWeights:
    """Read one variable.

    Args:
        layer: The layer that owns it.
        name: Its own name.
        variable: The variable.
        merge_lora: Add the layer's low-rank adapter to its kernel.
    """
    mode = getattr(layer, "quantization_mode", None)
    stored = as_array(variable)
    if mode in ("int8", "int4") and name in _CODED and np.issubdtype(stored.dtype, np.integer):
        codes = _codes(layer, name, stored, mode)
        values = _dequantize(layer, name, codes, mode)
        limits = (-127, 127) if mode == "int8" else (-8, 7)
        read = LogicalWeights(
            values=values, codes=codes.reshape(values.shape), code_limits=limits, read_as="dequantized"
        )
    elif mode in ("gptq", "awq") and name == "quantized_kernel":
        return LogicalWeights(
            values=stored, note=f"Codes of {mode.upper()}, not dequantised: no statistics as weights."
        )
    else:
        read = LogicalWeights(values=stored)
    return _with_lora(layer, name, read) if merge_lora else read


def saturated_share(read: LogicalWeights, variable: keras.Variable, channels: int | None) -> float | None:
    """Share of stored values at the end of their range; None where the range is no limit.

    Symmetric quantisation puts one code per scale there by construction; those are not counted.

    Args:
        read: The variable as `read` gave it.
        variable: The variable.
        channels: Number of its output channels, each with a scale of its own; None for one scale.
    """
    if read.codes is not None and read.code_limits is not None and read.codes.size:
        low, high = read.code_limits
        at_end = int(np.count_nonzero((read.codes <= low) | (read.codes >= high)))
        return max(at_end - (channels or 1), 0) / read.codes.size
    largest = _LARGEST.get(str(keras.backend.standardize_dtype(variable.dtype)))
    if largest is None or read.values.size == 0:
        return None
    finite = np.abs(read.values[np.isfinite(read.values)])
    return float(np.count_nonzero(finite >= largest)) / read.values.size


def as_array(variable: Any) -> NDArray[Any]:
    """A host array; half precisions, which NumPy and SciPy cannot work in, as float32."""
    array = np.asarray(keras.ops.convert_to_numpy(variable))
    half = array.dtype.kind not in "iub" and array.dtype not in (np.float32, np.float64)
    return array.astype(np.float32) if half else array


def _codes(layer: Any, name: str, stored: NDArray[Any], mode: str) -> NDArray[Any]:
    """Unpacked integers: N-dimensional for int8, a matrix for int4."""
    if mode == "int8":
        return stored
    if name == "reverse_embeddings":
        length, axis = layer.output_dim, 0
    elif name == "embeddings":
        length, axis = layer.output_dim, -1
    elif isinstance(layer, keras.layers.EinsumDense):
        length, axis = int(np.prod(layer.original_kernel_shape)) // stored.shape[0], -1
    else:
        length, axis = layer.units, -1
    unpacked = keras.quantizers.unpack_int4(keras.ops.convert_to_tensor(stored), length, axis=axis)
    return np.asarray(keras.ops.convert_to_numpy(unpacked))


def _dequantize(layer: Any, name: str, codes: NDArray[Any], mode: str) -> NDArray[np.float32]:
    scale = as_array(getattr(layer, f"{name}_scale"))
    zero = getattr(layer, f"{name}_zero", None)
    einsum = isinstance(layer, keras.layers.EinsumDense)
    if einsum and mode == "int8":
        return np.asarray(codes / _einsum_scale(layer.equation, codes.shape, scale), dtype=np.float32)
    # Embeddings have one scale per row (or per piece of a row), kernels one per column (or per piece of a column).
    by_column = codes.T if name == "embeddings" else codes
    scale = scale.T if name == "embeddings" else scale
    if zero is None or scale.ndim == 1:
        values = by_column / scale
    else:
        zeros = as_array(zero).T if name == "embeddings" else as_array(zero)
        group = as_array(layer.g_idx).astype(np.int64)
        values = (by_column - zeros[group].astype(np.float32)) * scale[group]
    values = values.T if name == "embeddings" else values
    shape = layer.original_kernel_shape if einsum else values.shape
    return np.ascontiguousarray(values.reshape(tuple(shape)), dtype=np.float32)


def _einsum_scale(equation: str, shape: tuple[int, ...], scale: NDArray[Any]) -> NDArray[Any]:
    """Bring a scale that is laid out for the layer's output into the layout of its kernel."""
    _, kernel, output = einsum_terms(equation)
    size = dict(zip(kernel, shape, strict=True))
    in_output = [letter for letter in output if letter in kernel]
    scale = scale.reshape([size[letter] for letter in in_output])
    in_kernel = [letter for letter in kernel if letter in output]
    scale = np.transpose(scale, [in_output.index(letter) for letter in in_kernel])
    return scale.reshape([size[letter] if letter in output else 1 for letter in kernel])


def _with_lora(layer: Any, name: str, read: LogicalWeights) -> LogicalWeights:
    if not getattr(layer, "lora_enabled", False) or name not in ("kernel", "embeddings"):
        return read
    down, up = (as_array(getattr(layer, f"lora_{name}_{letter}")) for letter in "ab")
    delta = (layer.lora_alpha / layer.lora_rank) * np.matmul(down, up)
    return LogicalWeights(
        values=np.asarray(read.values + delta.reshape(read.values.shape), dtype=np.float32),
        codes=read.codes,
        code_limits=read.code_limits,
        read_as=f"{read.read_as} + LoRA",
    )
