"""What the corruptions of images are made of: values from 0 to 1 and back, sampling between pixels, kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve

from analyzer.errors import DataError
from analyzer.robustness.bounds import check_bounds
from analyzer.robustness.corruptions.reference import as_type, checked

Array = NDArray[Any]
Bounds = tuple[float, float]

LAYOUT = "images of shape (n, height, width, channels), channels last"

COLOURS = 3
"""Channels that colour is made of; a fourth one is not touched by what changes colours."""


def to_unit(x: Array, bounds: Bounds) -> Array:
    """Images with values from 0 to 1, of float32 unless they were of float64.

    Args:
        x: ``(n, height, width, channels)``.
        bounds: Smallest and largest value that an image can have, such as (0, 255).

    Raises:
        ConfigError: If the bounds are none.
        DataError: If these are no images within the bounds.
    """
    checked(x, rank=4, layout=LAYOUT)
    if x.shape[-1] not in (1, COLOURS, COLOURS + 1):
        raise DataError(
            f"Images of {x.shape[-1]} channels came, of shape {x.shape}; expected 1, 3 or 4 as the last axis. "
            "Move the channels there if they are elsewhere."
        )
    check_bounds(x, bounds)
    low, high = bounds
    dtype = np.float64 if x.dtype == np.float64 else np.float32
    return np.asarray(np.subtract(x.astype(dtype), low) / (high - low))


def from_unit(u: Array, bounds: Bounds, dtype: np.dtype[Any]) -> Array:
    """Images back in their own range and type.

    Args:
        u: ``(n, height, width, channels)``; clipped to values from 0 to 1.
        bounds: See `to_unit`.
        dtype: Type of the images.
    """
    low, high = bounds
    return as_type(np.clip(low + (high - low) * np.clip(u, 0.0, 1.0), low, high), dtype)


def sampled(u: Array, rows: Array, columns: Array) -> Array:
    """Values between pixels, linear in both directions; images are mirrored at their borders.

    Args:
        u: ``(n, height, width, channels)``.
        rows: Where to look, in pixels from the first; broadcasts with ``columns`` to ``(n, height, width)``.
        columns: The same along the width.
    """
    image = np.arange(len(u))[:, None, None]
    top, left = np.floor(rows), np.floor(columns)
    down, right = ((rows - top)[..., None].astype(u.dtype), (columns - left)[..., None].astype(u.dtype))
    y0, y1 = (mirrored(top + step, u.shape[1]) for step in (0, 1))
    x0, x1 = (mirrored(left + step, u.shape[2]) for step in (0, 1))
    above = (1 - right) * u[image, y0, x0] + right * u[image, y0, x1]
    below = (1 - right) * u[image, y1, x0] + right * u[image, y1, x1]
    return np.asarray((1 - down) * above + down * below)


def mirrored(position: Array, size: int) -> NDArray[np.int64]:
    """Positions folded back into an axis at its first and last pixel, which are not repeated.

    Args:
        position: Whole numbers.
        size: Length of the axis.
    """
    last = max(size - 1, 1)
    folded = last - np.abs(np.mod(position, 2 * last) - last)
    return np.asarray(np.minimum(folded, size - 1), np.int64)


def convolved(u: Array, kernel: Array) -> Array:
    """Each channel of each image convolved with one kernel; images are mirrored at their borders.

    Args:
        u: ``(n, height, width, channels)``.
        kernel: ``(k, k)``, k odd.
    """
    reach = kernel.shape[0] // 2
    rows, columns = (mirrored(np.arange(-reach, size + reach), size) for size in u.shape[1:3])
    padded = u[:, rows][:, :, columns]
    return np.asarray(fftconvolve(padded, kernel.astype(u.dtype)[None, :, :, None], mode="valid", axes=(1, 2)))


def disk(radius: float, smoothing: float) -> NDArray[np.float64]:
    """An even disk of weight 1 with a smoothed edge: what a point looks like out of focus.

    Args:
        radius: In pixels.
        smoothing: Standard deviation of a Gaussian window in pixels, of 3 pixels, or of 5 for radii above 8.
    """
    window = 1 if radius <= 8 else 2
    reach = int(np.ceil(radius)) + window
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    sharp = (x**2 + y**2 <= radius**2).astype(np.float64)
    smooth = gaussian_filter(sharp / sharp.sum(), smoothing, radius=window)
    return np.asarray(smooth / smooth.sum())


def area_average(size: int, coarse: int) -> NDArray[np.float64]:
    """The matrix that makes an axis coarse: means over ``coarse`` equal parts, each then repeated over its pixels.

    Args:
        size: Pixels of the axis.
        coarse: Parts.

    Returns:
        ``(size, size)``; rows sum to 1.
    """
    edges = np.arange(coarse + 1) * size / coarse
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    means = np.clip(overlap, 0.0, None) * coarse / size
    return np.asarray(means[((pixels + 0.5) * coarse / size).astype(np.int64)])


def plasma(shape: tuple[int, ...], decay: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Fractal clouds from 0 to 1, by halving squares and diamonds (Fournier et al., 1982); their borders join.

    Args:
        shape: ``(n, height, width)``.
        decay: How much smaller the random part becomes with each halving.
        rng: Random numbers.
    """
    n, height, width = shape
    size = 1 << max(1, (max(height, width) - 1).bit_length())
    cloud = np.zeros((n, size, size))
    step, spread = size, 1.0

    def moved(means: Array) -> Array:
        return means + spread * rng.uniform(-1, 1, means.shape)

    def neighbours(points: Array, axis: int, shift: int) -> Array:
        return points + np.roll(points, shift, axis=axis)

    while step >= 2:
        half = step // 2
        corners = cloud[:, ::step, ::step]
        cloud[:, half::step, half::step] = moved(neighbours(neighbours(corners, 1, -1), 2, -1) / 4)
        centres = cloud[:, half::step, half::step]
        cloud[:, ::step, half::step] = moved((neighbours(corners, 2, -1) + neighbours(centres, 1, 1)) / 4)
        cloud[:, half::step, ::step] = moved((neighbours(corners, 1, -1) + neighbours(centres, 2, 1)) / 4)
        step, spread = half, spread / decay
    cloud -= cloud.min(axis=(1, 2), keepdims=True)
    return np.asarray((cloud / cloud.max(axis=(1, 2), keepdims=True))[:, :height, :width])
