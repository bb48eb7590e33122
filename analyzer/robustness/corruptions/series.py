"""Corruptions of time series ``(series, steps, channels)``; no severities are published, these are ours.

Strengths are in standard deviations of a channel or in shares of the steps. Time is never shuffled.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.robustness.corruptions.reference import Reference, as_type, checked
from analyzer.robustness.corruptions.severities import Levels

Array = NDArray[Any]

JITTER = Levels((0.1, 0.2, 0.4, 0.6, 1.0), "standard deviations of the channel")
SCALING = Levels((0.1, 0.2, 0.3, 0.4, 0.5), "standard deviation of the factor")
MISSING_SPAN = Levels((0.05, 0.1, 0.2, 0.3, 0.5), "share of steps")
CHANNEL_DROPOUT = Levels((0.1, 0.2, 0.3, 0.4, 0.5), "probability for each channel")
TIME_WARP = Levels((0.1, 0.2, 0.4, 0.6, 0.8), "standard deviation of the logarithm of speed")
LAG = Levels((0.02, 0.05, 0.1, 0.2, 0.3), "share of steps")

LAYOUT = "time series of shape (series, steps, channels)"

KNOTS = 4
"""Changes of speed in a warped series, as in Um et al. (2017)."""


def jitter(x: Array, severity: int, rng: np.random.Generator, reference: Reference) -> Array:
    """Normal noise, independent in all steps and channels.

    Args:
        x: ``(n, steps, channels)``.
        severity: 1 to 5, see `JITTER`.
        rng: Random numbers.
        reference: Spread and range of the channels.

    Returns:
        ``(n, steps, channels)`` in the type and range of the series.

    Raises:
        ConfigError: If there is no such severity.
        DataError: If these are no series of finite numbers.
    """
    sigma = JITTER.at(severity)
    checked(x, rank=3, layout=LAYOUT)
    return reference.within(x + sigma * reference.std * rng.standard_normal(x.shape), x)


def scaling(x: Array, severity: int, rng: np.random.Generator, reference: Reference) -> Array:
    """Each channel of each series is multiplied by a factor drawn about 1 (Um et al., 2017).

    Args:
        x: See `jitter`, also for what is returned and raised.
        severity: 1 to 5, see `SCALING`.
        rng: Random numbers.
        reference: Range of the channels.
    """
    sigma = SCALING.at(severity)
    checked(x, rank=3, layout=LAYOUT)
    factor = 1 + sigma * rng.standard_normal((x.shape[0], 1, x.shape[2]))
    return reference.within(x * factor, x)


def missing_span(x: Array, severity: int, rng: np.random.Generator, reference: Reference) -> Array:
    """A stretch of steps, one at least, is lost in all channels, and their means are put in its place.

    Args:
        x: See `jitter`, also for what is returned and raised.
        severity: 1 to 5, see `MISSING_SPAN`.
        rng: Random numbers.
        reference: Mean of the channels.
    """
    share = MISSING_SPAN.at(severity)
    checked(x, rank=3, layout=LAYOUT)
    n, steps, _ = x.shape
    length = max(1, round(share * steps))
    start = np.floor(rng.random((n, 1)) * (steps - length + 1))
    lost = (np.arange(steps) >= start) & (np.arange(steps) < start + length)
    return as_type(np.where(lost[:, :, None], reference.mean, x), x.dtype)


def channel_dropout(x: Array, severity: int, rng: np.random.Generator, reference: Reference) -> Array:
    """Whole channels of a series are lost, each by itself, and their mean is put in their place.

    Args:
        x: See `jitter`, also for what is returned and raised.
        severity: 1 to 5, see `CHANNEL_DROPOUT`.
        rng: Random numbers.
        reference: Mean of the channels.
    """
    probability = CHANNEL_DROPOUT.at(severity)
    checked(x, rank=3, layout=LAYOUT)
    lost = rng.random((x.shape[0], 1, x.shape[2])) < probability
    return as_type(np.where(lost, reference.mean, x), x.dtype)


def time_warp(x: Array, severity: int, rng: np.random.Generator, reference: Reference) -> Array:
    """Time runs faster and slower in turns; first and last step stay, and no order changes (Um et al., 2017).

    Args:
        x: See `jitter`, also for what is returned and raised.
        severity: 1 to 5, see `TIME_WARP`.
        rng: Random numbers.
        reference: Range of the channels.
    """
    sigma = TIME_WARP.at(severity)
    checked(x, rank=3, layout=LAYOUT)
    n, steps, _ = x.shape
    if steps == 1:
        return x.copy()
    speed = np.exp(sigma * _interpolated(rng.standard_normal((n, KNOTS, 1)), np.linspace(0, KNOTS - 1, steps - 1)))
    time = np.concatenate([np.zeros((n, 1)), np.cumsum(speed[:, :, 0], axis=1)], axis=1)
    return reference.within(_interpolated(x, time * (steps - 1) / time[:, -1:]), x)


def lag(x: Array, severity: int, rng: np.random.Generator, reference: Reference) -> Array:
    """Series come late by some steps, one at least; the first value is held until they do. Nothing is random.

    Args:
        x: See `jitter`, also for what is returned and raised.
        severity: 1 to 5, see `LAG`.
        rng: Not used.
        reference: Not used.
    """
    del rng, reference
    share = LAG.at(severity)
    checked(x, rank=3, layout=LAYOUT)
    late = max(1, round(share * x.shape[1]))
    return x[:, np.maximum(np.arange(x.shape[1]) - late, 0)]


def _interpolated(x: Array, time: Array) -> Array:
    """Values of series ``(n, steps, channels)`` at times ``(n, m)`` or ``(m,)`` in steps, linear in between."""
    time = np.broadcast_to(time, (len(x), time.shape[-1]))
    before = np.clip(np.floor(time).astype(np.int64), 0, x.shape[1] - 1)
    after = np.minimum(before + 1, x.shape[1] - 1)
    share = (time - before)[:, :, None]
    rows = np.arange(len(x))[:, None]
    return np.asarray((1 - share) * x[rows, before] + share * x[rows, after])
