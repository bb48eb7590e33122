"""Upper bounds of how far single layers stretch a difference of inputs, in the Euclidean norm.

A convolution with zero padding, or dilation, is a part of the convolution of a signal without borders (with strides, of
one of blocks of positions), whose norm is the largest singular value of its symbol ``sum_k K_k exp(i k w)`` over all
frequencies ``w`` (Sedghi, Gupta & Long, 2019, arXiv 1805.10408, for circular padding). It is computed on a grid.
Between grid points it cannot rise far: along each axis a trigonometric polynomial of degree d, known at N equidistant
points, is at most ``1 / cos(pi d / N)`` times its largest value there (Ehlich & Zeller, 1964), and a singular value is
the largest of such polynomials.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.backends import engine

L = keras.layers
Floats = NDArray[np.float64]
Shapes = tuple[tuple[int | None, ...], ...]

Bound = Callable[[Any, Shapes], float]
"""From a layer and the shapes of its inputs to an upper bound; the activation is not in it."""

DENSITIES = (32, 16, 8, 4)
"""Grid points per ``k - 1`` for a kernel of size k: the bound is then at most 0.12, 0.5, 2 or 8 % per axis too high."""

WORK = 1 << 28
"""Multiplications, roughly, up to which a denser grid is taken."""

VALUES_AT_ONCE = 1 << 22
"""Complex numbers in the matrices that are decomposed together."""

ROUNDING = 1 + 1e-12
"""Float64 may give a singular value this much too low: a thousand times less would do for most matrices."""


def values_of(variable: Any) -> Floats:
    """What a variable or tensor holds, in float64."""
    return engine().to_numpy(keras.ops.convert_to_tensor(variable)).astype(np.float64)


def symbol_bound(kernel: Floats, strides: Sequence[int]) -> float:
    """Upper bound of the norm of a convolution, whatever its size, zero padding and dilation.

    Args:
        kernel: ``(*sizes, rows, columns)``: a matrix between channels at each place of the window.
        strides: Of the window, one per size.
    """
    kernel = _without_strides(kernel, strides)
    *sizes, rows, columns = kernel.shape
    density = next((d for d in DENSITIES if _work(kernel.shape, d) <= WORK), DENSITIES[-1])
    grid = [max(1, density * (size - 1)) for size in sizes]
    # Frequencies come in pairs of opposite sign with equal singular values: half of the first axis is enough.
    axes = [np.arange(n // 2 + 1 if i == 0 else n) * (2 * np.pi / n) for i, n in enumerate(grid)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(sizes))
    taps = np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), axis=-1).reshape(-1, len(sizes))
    flat = kernel.reshape(len(taps), -1)
    largest, at_once = 0.0, max(1, VALUES_AT_ONCE // (rows * columns))
    for start in range(0, len(points), at_once):
        phases = np.exp(1j * points[start : start + at_once] @ taps.T)
        symbols = (phases @ flat).reshape(-1, rows, columns)
        largest = max(largest, float(np.linalg.svd(symbols, compute_uv=False).max()))
    between = [math.cos(math.pi * (size - 1) / (2 * n)) for size, n in zip(sizes, grid, strict=True)]
    return ROUNDING * largest / math.prod(between)


def _without_strides(kernel: Floats, strides: Sequence[int]) -> Floats:
    """The kernel of the same convolution of blocks of positions, each as long as a stride, taken for channels."""
    *sizes, rows, columns = kernel.shape
    blocks = [-(-size // step) for size, step in zip(sizes, strides, strict=True)]
    missing = [n * step - size for n, step, size in zip(blocks, strides, sizes, strict=True)]
    padded = np.pad(kernel, [*((0, more) for more in missing), (0, 0), (0, 0)])
    split = padded.reshape(*(size for pair in zip(blocks, strides, strict=True) for size in pair), rows, columns)
    rank = len(sizes)
    order = [*range(0, 2 * rank, 2), *range(1, 2 * rank, 2), 2 * rank, 2 * rank + 1]
    return split.transpose(order).reshape(*blocks, math.prod(strides) * rows, columns)


def _work(shape: tuple[int, ...], density: int) -> float:
    *sizes, rows, columns = shape
    points = math.prod(max(1, density * (size - 1)) for size in sizes) / 2
    return points * rows * columns * min(rows, columns)


def dense(layer: Any, shapes: Shapes) -> float:
    """The largest singular value of the kernel: the norm itself."""
    del shapes
    return ROUNDING * float(np.linalg.norm(values_of(layer.kernel), 2))


def convolution(layer: Any, shapes: Shapes) -> float:
    """Of groups of channels the largest: they have their own inputs and outputs."""
    del shapes
    kernel = values_of(layer.kernel)
    groups = np.split(kernel, layer.groups, axis=-1)
    return max(symbol_bound(group, layer.strides) for group in groups)


def transposed(layer: Any, shapes: Shapes) -> float:
    """The transpose of a convolution has its norm."""
    del shapes
    return symbol_bound(values_of(layer.kernel), layer.strides)


def depthwise(layer: Any, shapes: Shapes) -> float:
    """Of channels the largest."""
    del shapes
    return _by_channel(values_of(layer.kernel), layer.strides)


def separable(layer: Any, shapes: Shapes) -> float:
    """Of the two steps the product."""
    del shapes
    pointwise = values_of(layer.pointwise_kernel)
    single = [1] * (pointwise.ndim - 2)
    return _by_channel(values_of(layer.depthwise_kernel), layer.strides) * symbol_bound(pointwise, single)


def _by_channel(kernel: Floats, strides: Sequence[int]) -> float:
    return max(symbol_bound(kernel[..., c : c + 1, :], strides) for c in range(kernel.shape[-2]))


def batch_normalization(layer: Any, shapes: Shapes) -> float:
    """The largest factor that a channel is multiplied by at inference."""
    del shapes
    factors = 1 / np.sqrt(values_of(layer.moving_variance) + layer.epsilon)
    return float(np.abs(factors * values_of(layer.gamma)).max() if layer.scale else factors.max())


def normalization(layer: Any, shapes: Shapes) -> float:
    """Likewise of constants learnt from data, or given."""
    del shapes
    spread = np.maximum(np.sqrt(values_of(layer.variance)), keras.config.epsilon())
    return float((spread if layer.invert else 1 / spread).max())


def rescaling(layer: Any, shapes: Shapes) -> float:
    """The largest factor."""
    del shapes
    return float(np.abs(np.asarray(layer.scale, np.float64)).max())


def max_pooling(layer: Any, shapes: Shapes) -> float:
    """The root of how many windows a value can be in: each hands a difference on once at most."""
    del shapes
    return math.sqrt(math.prod(_windows(layer)))


def average_pooling(layer: Any, shapes: Shapes) -> float:
    """The root of the largest sum of weights of a window, 1, times the largest over the windows of a value."""
    sizes = _positions(layer, shapes[0])
    most = 1.0
    for window, size, windows in zip(layer.pool_size, sizes, _windows(layer), strict=True):
        # A window that reaches over the edge by half may average over the values inside alone.
        inside = window if layer.padding == "valid" else min(-(-window // 2), 1 if size is None else size)
        most *= windows / inside
    return math.sqrt(most)


def global_average(layer: Any, shapes: Shapes) -> float:
    """One over the root of the number of positions."""
    sizes = _positions(layer, shapes[0])
    return 1.0 if None in sizes else 1 / math.sqrt(math.prod(size or 1 for size in sizes))


def repeated(layer: Any, shapes: Shapes) -> float:
    """The root of how often each value is repeated."""
    del shapes
    return math.sqrt(layer.n if isinstance(layer, L.RepeatVector) else math.prod(np.atleast_1d(layer.size).tolist()))


def unchanged(layer: Any, shapes: Shapes) -> float:
    """No more than 1: values are moved, or left out, or the largest is taken."""
    del layer, shapes
    return 1.0


def _windows(layer: Any) -> list[int]:
    """In how many windows a value can be, along each axis."""
    return [-(-size // step) for size, step in zip(layer.pool_size, layer.strides, strict=True)]


def _positions(layer: Any, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    return shape[1:-1] if layer.data_format == "channels_last" else shape[2:]
