"""Corruptions of any float tensor, in fractions of the standard deviation that each feature has in reference data.

With one seed, what a severity moves the next one moves at least as far.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.robustness.corruptions.reference import Reference, as_type, checked
from analyzer.robustness.corruptions.severities import Levels

Array = NDArray[Any]

DEVIATIONS = "standard deviations of the feature"

GAUSSIAN_NOISE = Levels((0.1, 0.2, 0.4, 0.6, 1.0), DEVIATIONS)
UNIFORM_NOISE = Levels((0.1, 0.2, 0.4, 0.6, 1.0), DEVIATIONS)
IMPULSE_NOISE = Levels((0.03, 0.06, 0.09, 0.17, 0.27), "share of values")
GAIN = Levels((0.1, 0.2, 0.3, 0.4, 0.5), DEVIATIONS)
OFFSET = Levels((0.1, 0.2, 0.4, 0.6, 1.0), DEVIATIONS)
FEATURE_DROPOUT = Levels((0.05, 0.1, 0.2, 0.3, 0.5), "share of values")
QUANTISATION = Levels((0.25, 0.5, 1.0, 1.5, 2.0), "standard deviations of the feature per step")


def gaussian_noise(x: Array, severity: int, rng: np.random.Generator, reference: Reference) -> Array:
    """Normal noise, independent in all values.

    Args:
        x: ``(n, ...)``.
        severity: 1 to 5, see `GAUSSIAN_NOISE`.
        rng: Random numbers.
        reference: Spread and range of the features.

    Returns:
        ``(n, ...)`` in the type and range of the samples.

    Raises:
        ConfigError: If there is no such severity.
        DataError: If the data are not finite.
    """
    sigma = GAUSSIAN_NOISE.at(severity)
    checked(x)
    return reference.within(x + sigma * reference.std * rng.standard_normal(x.shape), x)


def uniform_noise(x: Array, severity: int, rng: np.random.Generator, reference: Reference) -> Array:
    """Uniform noise whose standard deviation is what the severity says.

    Args:
        x: See `gaussian_noise`, also for what is returned and raised.
        severity: 1 to 5, see `UNIFORM_NOISE`.
        rng: Random numbers.
        reference: Spread and range of the features.
    """
    half_width = np.sqrt(3) * UNIFORM_NOISE.at(severity)
    checked(x)
    return reference.within(x + half_width * reference.std * rng.uniform(-1, 1, x.shape), x)


def impulse_noise(x: Array, severity: int, rng: np.random.Generator, reference: Reference) -> Array:
    """Some values jump to the smallest or the largest value of their feature, both equally likely.

    Args:
        x: See `gaussian_noise`, also for what is returned and raised.
        severity: 1 to 5, see `IMPULSE_NOISE`.
        rng: Random numbers.
        reference: Range of the features.
    """
    share = IMPULSE_NOISE.at(severity)
    checked(x)
    hit, up = rng.random(x.shape) < share, rng.random(x.shape) < 0.5
    return as_type(np.where(hit, np.where(up, reference.high, reference.low), x), x.dtype)


def gain(x: Array, severity: int, rng: np.random.Generator, reference: Reference) -> Array:
    """Each sample is stretched, or squeezed, about the mean of the features, as by a sensor that is out of scale.

    Args:
        x: See `gaussian_noise`, also for what is returned and raised.
        severity: 1 to 5, see `GAIN`: by how much a value one standard deviation from the mean moves.
        rng: Random numbers.
        reference: Mean and range of the features.
    """
    amount = GAIN.at(severity)
    checked(x)
    return reference.within(x + amount * _signs(x, rng) * (x - reference.mean), x)


def offset(x: Array, severity: int, rng: np.random.Generator, reference: Reference) -> Array:
    """All features of a sample move up, or all move down, as by a sensor whose zero has drifted.

    Args:
        x: See `gaussian_noise`, also for what is returned and raised.
        severity: 1 to 5, see `OFFSET`.
        rng: Random numbers.
        reference: Spread and range of the features.
    """
    amount = OFFSET.at(severity)
    checked(x)
    return reference.within(x + amount * _signs(x, rng) * reference.std, x)


def feature_dropout(x: Array, severity: int, rng: np.random.Generator, reference: Reference) -> Array:
    """Some values are lost, and the mean of their feature is put in their place.

    Args:
        x: See `gaussian_noise`, also for what is returned and raised.
        severity: 1 to 5, see `FEATURE_DROPOUT`.
        rng: Random numbers.
        reference: Mean of the features.
    """
    share = FEATURE_DROPOUT.at(severity)
    checked(x)
    return as_type(np.where(rng.random(x.shape) < share, reference.mean, x), x.dtype)


def quantisation(x: Array, severity: int, rng: np.random.Generator, reference: Reference) -> Array:
    """Values are rounded to a grid about the mean of their feature; nothing about it is random.

    Args:
        x: See `gaussian_noise`, also for what is returned and raised.
        severity: 1 to 5, see `QUANTISATION`.
        rng: Not used.
        reference: Mean, spread and range of the features.
    """
    del rng
    step = QUANTISATION.at(severity) * reference.std
    checked(x)
    on_grid = reference.mean + step * np.rint((x - reference.mean) / np.where(step > 0, step, 1.0))
    return reference.within(np.where(step > 0, on_grid, x), x)


def _signs(x: Array, rng: np.random.Generator) -> Array:
    """-1 or 1 for each sample."""
    return rng.choice([-1.0, 1.0], size=(len(x),) + (1,) * (x.ndim - 1))
