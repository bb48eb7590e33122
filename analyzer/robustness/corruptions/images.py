"""Corruptions of images by noise, light and storage, as ImageNet-C defines them (Hendrycks & Dietterich, 2019).

Images are ``(n, height, width, channels)`` with any range of values; formulas are for values from 0 to 1. The blurs are
in `image_blurs`. What needs photographs (frost) or draws weather (snow, spatter) is not among them.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import DataError, MissingExtraError
from analyzer.robustness.corruptions.image_levels import levels_for
from analyzer.robustness.corruptions.unit_images import COLOURS, Bounds, area_average, from_unit, plasma, to_unit

Array = NDArray[Any]


def gaussian_noise(x: Array, severity: int, rng: np.random.Generator, bounds: Bounds) -> Array:
    """Normal noise, as of a sensor in dim light.

    Args:
        x: ``(n, height, width, channels)``; 1, 3 or 4 channels.
        severity: 1 to 5; what they mean is in `analyzer.robustness.corruptions.image_levels`.
        rng: Random numbers.
        bounds: Smallest and largest value that an image can have, such as (0, 255).

    Returns:
        ``(n, height, width, channels)`` within the bounds, in the type of the images.

    Raises:
        ConfigError: If there is no such severity, or the bounds are none.
        DataError: If these are no images within the bounds.
    """
    u = to_unit(x, bounds)
    sigma = levels_for(*u.shape[1:3]).gaussian_noise.at(severity)
    return from_unit(u + sigma * rng.standard_normal(u.shape), bounds, x.dtype)


def shot_noise(x: Array, severity: int, rng: np.random.Generator, bounds: Bounds) -> Array:
    """Poisson noise: light that is counted photon by photon.

    Args:
        x: See `gaussian_noise`, also for the other arguments, and what is returned and raised.
        severity: 1 to 5.
        rng: Random numbers.
        bounds: Smallest and largest value.
    """
    u = to_unit(x, bounds)
    photons = levels_for(*u.shape[1:3]).shot_noise.at(severity)
    return from_unit(rng.poisson(u * photons) / photons, bounds, x.dtype)


def impulse_noise(x: Array, severity: int, rng: np.random.Generator, bounds: Bounds) -> Array:
    """Salt and pepper: some values become the largest or the smallest one, both equally likely.

    Args:
        x: See `gaussian_noise`, also for the other arguments, and what is returned and raised.
        severity: 1 to 5.
        rng: Random numbers.
        bounds: Smallest and largest value.
    """
    u = to_unit(x, bounds)
    share = levels_for(*u.shape[1:3]).impulse_noise.at(severity)
    hit, salt = rng.random(u.shape) < share, rng.random(u.shape) < 0.5
    return from_unit(np.where(hit, salt, u), bounds, x.dtype)


def speckle_noise(x: Array, severity: int, rng: np.random.Generator, bounds: Bounds) -> Array:
    """Normal noise that is as strong as the light it falls on.

    Args:
        x: See `gaussian_noise`, also for the other arguments, and what is returned and raised.
        severity: 1 to 5.
        rng: Random numbers.
        bounds: Smallest and largest value.
    """
    u = to_unit(x, bounds)
    sigma = levels_for(*u.shape[1:3]).speckle_noise.at(severity)
    return from_unit(u + u * sigma * rng.standard_normal(u.shape), bounds, x.dtype)


def fog(x: Array, severity: int, rng: np.random.Generator, bounds: Bounds) -> Array:
    """A bright fractal cloud in front of each image, which is then darkened so that its brightest value fits.

    Args:
        x: See `gaussian_noise`, also for the other arguments, and what is returned and raised.
        severity: 1 to 5.
        rng: Random numbers.
        bounds: Smallest and largest value.
    """
    u = to_unit(x, bounds)
    density, decay = levels_for(*u.shape[1:3]).fog.at(severity)
    brightest = u.max(axis=(1, 2, 3), keepdims=True)
    cloud = plasma(u.shape[:3], decay, rng)[..., None]
    return from_unit((u + density * cloud) * brightest / (brightest + density), bounds, x.dtype)


def brightness(x: Array, severity: int, rng: np.random.Generator, bounds: Bounds) -> Array:
    """More light: the largest of the colours (V of HSV) grows, hue and saturation stay. Nothing is random.

    Args:
        x: See `gaussian_noise`, also for the other arguments, and what is returned and raised.
        severity: 1 to 5.
        rng: Not used.
        bounds: Smallest and largest value.
    """
    del rng
    u = to_unit(x, bounds)
    amount = levels_for(*u.shape[1:3]).brightness.at(severity)
    colours = u[..., :COLOURS]
    value = colours.max(axis=-1, keepdims=True)
    brighter = np.minimum(value + amount, 1.0)
    # Black has no hue of its own: it becomes grey.
    shares = np.where(value > 0, colours / np.where(value > 0, value, 1.0), 1.0)
    return from_unit(np.concatenate([brighter * shares, u[..., COLOURS:]], axis=-1), bounds, x.dtype)


def contrast(x: Array, severity: int, rng: np.random.Generator, bounds: Bounds) -> Array:
    """Values move towards the mean of their channel in the image. Nothing is random.

    Args:
        x: See `gaussian_noise`, also for the other arguments, and what is returned and raised.
        severity: 1 to 5.
        rng: Not used.
        bounds: Smallest and largest value.
    """
    del rng
    u = to_unit(x, bounds)
    share = levels_for(*u.shape[1:3]).contrast.at(severity)
    mean = u.mean(axis=(1, 2), keepdims=True)
    return from_unit(mean + share * (u - mean), bounds, x.dtype)


def saturate(x: Array, severity: int, rng: np.random.Generator, bounds: Bounds) -> Array:
    """Colours become paler (severity 1 and 2) or stronger (3 to 5): S of HSV. Nothing is random.

    Args:
        x: See `gaussian_noise`, also for the other arguments, and what is returned and raised; 3 or 4 channels.
        severity: 1 to 5.
        rng: Not used.
        bounds: Smallest and largest value.
    """
    del rng
    u = to_unit(x, bounds)
    if u.shape[-1] < COLOURS:
        raise DataError("Images of one channel have no colours to saturate. Leave this corruption out.")
    factor, added = levels_for(*u.shape[1:3]).saturate.at(severity)
    colours = u[..., :COLOURS]
    value, darkest = colours.max(axis=-1, keepdims=True), colours.min(axis=-1, keepdims=True)
    spread = value - darkest
    saturation = spread / np.where(value > 0, value, 1.0)
    # The hue of grey is 0 by convention, which is red: its green and blue lie below its value.
    below = np.where(spread > 0, (value - colours) / np.where(spread > 0, spread, 1.0), np.array([0.0, 1.0, 1.0]))
    changed = value * (1 - np.clip(factor * saturation + added, 0.0, 1.0) * below)
    return from_unit(np.concatenate([changed, u[..., COLOURS:]], axis=-1), bounds, x.dtype)


def pixelate(x: Array, severity: int, rng: np.random.Generator, bounds: Bounds) -> Array:
    """Images are made of fewer, larger pixels, each the mean of what it covers. Nothing is random.

    Args:
        x: See `gaussian_noise`, also for the other arguments, and what is returned and raised.
        severity: 1 to 5.
        rng: Not used.
        bounds: Smallest and largest value.
    """
    del rng
    u = to_unit(x, bounds)
    share = levels_for(*u.shape[1:3]).pixelate.at(severity)
    rows, columns = (area_average(size, max(1, int(share * size))).astype(u.dtype) for size in u.shape[1:3])
    coarse = np.einsum("ij,njwc->niwc", rows, u, optimize=True)
    return from_unit(np.einsum("kw,niwc->nikc", columns, coarse, optimize=True), bounds, x.dtype)


def jpeg_compression(x: Array, severity: int, rng: np.random.Generator, bounds: Bounds) -> Array:
    """Images are stored as JPEG, of 8 bits and low quality, and read again. Nothing is random.

    Args:
        x: See `gaussian_noise`, also for the other arguments, and what is returned and raised.
        severity: 1 to 5.
        rng: Not used.
        bounds: Smallest and largest value.

    Raises:
        MissingExtraError: If Pillow is not installed.
    """
    del rng
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError(
            "jpeg_compression needs Pillow, which comes with matplotlib: pip install pillow. Or leave it out."
        ) from error
    u = to_unit(x, bounds)
    quality = levels_for(*u.shape[1:3]).jpeg_compression.at(severity)
    stored = u.copy()
    for picture, bits in zip(stored, np.rint(u * 255).astype(np.uint8), strict=True):
        coloured = bits.shape[-1] >= COLOURS
        file = BytesIO()
        Image.fromarray(bits[..., :COLOURS] if coloured else bits[..., 0]).save(file, "JPEG", quality=quality)
        read = np.asarray(Image.open(file), dtype=u.dtype) / 255
        picture[..., :COLOURS] = read.reshape(*bits.shape[:2], -1)
    return from_unit(stored, bounds, x.dtype)
