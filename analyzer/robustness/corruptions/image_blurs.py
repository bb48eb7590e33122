"""Corruptions of images by blur and deformation, as ImageNet-C defines them (Hendrycks & Dietterich, 2019)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from analyzer.robustness.corruptions.image_levels import levels_for
from analyzer.robustness.corruptions.unit_images import Bounds, convolved, disk, from_unit, sampled, to_unit

Array = NDArray[Any]


def gaussian_blur(x: Array, severity: int, rng: np.random.Generator, bounds: Bounds) -> Array:
    """Each pixel becomes the mean of those about it under a Gaussian window. Nothing is random.

    Args:
        x: ``(n, height, width, channels)``; 1, 3 or 4 channels.
        severity: 1 to 5; what they mean is in `analyzer.robustness.corruptions.image_levels`.
        rng: Not used.
        bounds: Smallest and largest value that an image can have, such as (0, 255).

    Returns:
        ``(n, height, width, channels)`` within the bounds, in the type of the images.

    Raises:
        ConfigError: If there is no such severity, or the bounds are none.
        DataError: If these are no images within the bounds.
    """
    del rng
    u = to_unit(x, bounds)
    sigma = levels_for(*u.shape[1:3]).gaussian_blur.at(severity)
    return from_unit(_smoothed(u, sigma), bounds, x.dtype)


def defocus_blur(x: Array, severity: int, rng: np.random.Generator, bounds: Bounds) -> Array:
    """Each point becomes a disk, as out of focus. Nothing is random.

    Args:
        x: See `gaussian_blur`, also for the other arguments, and what is returned and raised.
        severity: 1 to 5.
        rng: Not used.
        bounds: Smallest and largest value.
    """
    del rng
    u = to_unit(x, bounds)
    radius, smoothing = levels_for(*u.shape[1:3]).defocus_blur.at(severity)
    return from_unit(convolved(u, disk(radius, smoothing)), bounds, x.dtype)


def glass_blur(x: Array, severity: int, rng: np.random.Generator, bounds: Bounds) -> Array:
    """Pixels take the place of near ones, as behind frosted glass; images are smoothed before and after.

    What moves is a copy, as in the published images: a pixel goes no further than the setting says in each round.

    Args:
        x: See `gaussian_blur`, also for the other arguments, and what is returned and raised.
        severity: 1 to 5.
        rng: Random numbers.
        bounds: Smallest and largest value.
    """
    u = to_unit(x, bounds)
    sigma, reach, rounds = levels_for(*u.shape[1:3]).glass_blur.at(severity)
    u = _smoothed(u, sigma)
    n, height, width, _ = u.shape
    image = np.arange(n)[:, None, None]
    for _ in range(rounds):
        down, right = rng.integers(-reach, reach, size=(2, n, height, width))
        rows = np.clip(np.arange(height)[:, None] + down, 0, height - 1)
        u = u[image, rows, np.clip(np.arange(width) + right, 0, width - 1)]
    return from_unit(_smoothed(u, sigma), bounds, x.dtype)


def motion_blur(x: Array, severity: int, rng: np.random.Generator, bounds: Bounds) -> Array:
    """Images are smeared along a line, each in a direction of its own, at most 45° from the horizontal.

    Args:
        x: See `gaussian_blur`, also for the other arguments, and what is returned and raised.
        severity: 1 to 5.
        rng: Random numbers.
        bounds: Smallest and largest value.
    """
    u = to_unit(x, bounds)
    radius, sigma = levels_for(*u.shape[1:3]).motion_blur.at(severity)
    n, height, width, _ = u.shape
    angle = np.deg2rad(rng.uniform(-45, 45, size=(n, 1, 1)))
    taps = np.arange(2 * int(radius) + 1)
    weights = np.exp(-(taps**2) / (2 * sigma**2))
    image, smeared = np.arange(n)[:, None, None], np.zeros_like(u)
    for tap, weight in zip(taps, weights / weights.sum(), strict=True):
        rows = np.arange(height)[:, None] + np.rint(tap * np.sin(angle)).astype(np.int64)
        columns = np.arange(width) + np.rint(tap * np.cos(angle)).astype(np.int64)
        smeared += u.dtype.type(weight) * u[image, np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)]
    return from_unit(smeared, bounds, x.dtype)


def zoom_blur(x: Array, severity: int, rng: np.random.Generator, bounds: Bounds) -> Array:
    """The mean of an image and of enlargements about its middle, as when a camera moves ahead. Nothing is random.

    Args:
        x: See `gaussian_blur`, also for the other arguments, and what is returned and raised.
        severity: 1 to 5.
        rng: Not used.
        bounds: Smallest and largest value.
    """
    del rng
    u = to_unit(x, bounds)
    largest, step = levels_for(*u.shape[1:3]).zoom_blur.at(severity)
    factors = np.linspace(1.0, largest, round((largest - 1) / step) + 1)
    middle, across = ((size - 1) / 2 for size in u.shape[1:3])
    rows, columns = (np.arange(size, dtype=np.float64) for size in u.shape[1:3])
    total = u.copy()
    for factor in factors:
        zoomed = middle + (rows - middle) / factor, across + (columns - across) / factor
        total += sampled(u, zoomed[0][None, :, None], zoomed[1][None, None, :])
    return from_unit(total / (len(factors) + 1), bounds, x.dtype)


def elastic_transform(x: Array, severity: int, rng: np.random.Generator, bounds: Bounds) -> Array:
    """Images are tilted by a random affine map and stretched by a smooth random field (Simard et al., 2003).

    Args:
        x: See `gaussian_blur`, also for the other arguments, and what is returned and raised.
        severity: 1 to 5.
        rng: Random numbers.
        bounds: Smallest and largest value.
    """
    u = to_unit(x, bounds)
    side = min(u.shape[1:3])
    displacement, smoothing, tilt = (side * c for c in levels_for(*u.shape[1:3]).elastic_transform.at(severity))
    fields = rng.uniform(-1, 1, size=(2, *u.shape[:3]))
    fields = displacement * ndimage.gaussian_filter(fields, smoothing, axes=(2, 3), mode="reflect", truncate=3.0)
    rows, columns = _tilted(u.shape[:3], tilt, rng)
    # One look-up at the place that both maps lead to blurs less than one after the other.
    return from_unit(sampled(u, rows + fields[0], columns + fields[1]), bounds, x.dtype)


def _tilted(shape: tuple[int, ...], tilt: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Where pixels come from when three corners of a square about the middle move by up to ``tilt`` pixels each way."""
    n, height, width = shape
    middle, reach = np.array([height // 2, width // 2]), max(1, min(height, width) // 3)
    corners = middle + reach * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = corners + rng.uniform(-tilt, tilt, size=(n, 3, 2))
    # The affine map that takes the moved corners back: three equations for each coordinate.
    affine = np.linalg.solve(np.concatenate([moved, np.ones((n, 3, 1))], axis=2), np.broadcast_to(corners, (n, 3, 2)))
    y, x = np.mgrid[:height, :width]
    position = np.stack([y, x, np.ones_like(y)], axis=-1) @ affine[:, None]
    return position[..., 0], position[..., 1]


def _smoothed(u: Array, sigma: float) -> Array:
    return np.asarray(ndimage.gaussian_filter(u, sigma, axes=(1, 2), mode="nearest"))
