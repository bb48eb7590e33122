"""What an attack may do: inputs within bounds, and not further than ε from the sample in some norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ConfigError, DataError

Tensor = Any
Norm = Literal["linf", "l2"]
NORMS: tuple[Norm, ...] = ("linf", "l2")


@dataclass(frozen=True, kw_only=True)
class Box:
    """Between which values inputs lie.

    Attributes:
        low: The smallest value.
        high: The largest value.
        source: Where the bounds come from.
    """

    low: float
    high: float
    source: str

    @property
    def range(self) -> float:
        """``high - low``: what one unit of an attack is, whose steps are made for inputs from 0 to 1."""
        return self.high - self.low


def box_of(x: NDArray[Any], bounds: tuple[float, float] | None = None) -> Box:
    """The bounds of inputs: those that are given, or what the data reach.

    Args:
        x: Samples.
        bounds: Smallest and largest value.

    Raises:
        ConfigError: If the bounds are none.
        DataError: If samples are outside, not finite, not of float, or all of one value.
    """
    if not np.issubdtype(x.dtype, np.floating):
        raise DataError(f"Attacks move inputs of float values by small amounts; the data are of {x.dtype}.")
    if not np.isfinite(x).all():
        raise DataError("The data hold NaN or infinite values. Remove or replace them before attacking.")
    smallest, largest = float(x.min()), float(x.max())
    if bounds is None:
        if smallest == largest:
            raise DataError(f"All values of the data are {smallest:g}: give bounds=(low, high).")
        return Box(low=smallest, high=largest, source="smallest and largest value of the data")
    low, high = bounds
    if not low < high:
        raise ConfigError(f"bounds={bounds}: expected a smallest and a larger largest value.")
    if smallest < low or largest > high:
        raise DataError(f"The data reach from {smallest:g} to {largest:g}, outside bounds={bounds}.")
    return Box(low=float(low), high=float(high), source="given")


def check_norm(norm: str) -> None:
    """Refuse an unknown norm.

    Raises:
        ConfigError: If it is none of `NORMS`.
    """
    if norm not in NORMS:
        raise ConfigError(f"norm={norm!r}: expected one of {', '.join(NORMS)}.")


def _axes(x: Tensor) -> tuple[int, ...]:
    return tuple(range(1, len(x.shape)))


def wide(amount: Tensor, x: Tensor) -> Tensor:
    """One number per sample, in a shape that broadcasts to the samples.

    Args:
        amount: ``(n,)``.
        x: ``(n, ...)``.
    """
    return keras.ops.reshape(amount, (-1, *(1 for _ in _axes(x))))


def length(step: Tensor, norm: str) -> Tensor:
    """Norm of each sample's step, ``(n,)``.

    Args:
        step: ``(n, ...)``.
        norm: One of `NORMS`.
    """
    ops = keras.ops
    if norm == "linf":
        return ops.max(ops.abs(step), axis=_axes(step))
    return ops.sqrt(ops.sum(ops.square(step), axis=_axes(step)))


def steepest(gradient: Tensor, norm: str) -> Tensor:
    """The step of length 1 that raises a linear function most.

    Args:
        gradient: ``(n, ...)``.
        norm: One of `NORMS`.
    """
    if norm == "linf":
        return keras.ops.sign(gradient)
    return gradient / (wide(length(gradient, norm), gradient) + 1e-12)


def project(x: Tensor, origin: Tensor, epsilon: Tensor, norm: str) -> Tensor:
    """Into the ball around the samples, then into inputs from 0 to 1.

    Clipping moves every value towards that of the sample, so the point stays in the ball.

    Args:
        x: Points.
        origin: The samples, within 0 and 1.
        epsilon: Radius for each, ``(n,)``.
        norm: One of `NORMS`.
    """
    ops = keras.ops
    step = x - origin
    radius = wide(epsilon, x)
    if norm == "linf":
        step = ops.clip(step, -radius, radius)
    else:
        step = step * ops.minimum(1.0, radius / (wide(length(step, norm), x) + 1e-12))
    return ops.clip(origin + step, 0.0, 1.0)


def random_steps(rng: np.random.Generator, shape: tuple[int, ...], norm: str) -> NDArray[np.float32]:
    """Steps drawn uniformly from the ball of radius 1; the same on every backend.

    Args:
        rng: Random numbers.
        shape: ``(n, ...)``.
        norm: One of `NORMS`.
    """
    if norm == "linf":
        return rng.uniform(-1, 1, shape).astype(np.float32)
    drawn = rng.normal(size=shape).reshape(shape[0], -1)
    radii = rng.uniform(size=(shape[0], 1)) ** (1 / drawn.shape[1])
    steps = radii * drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return np.asarray(steps.reshape(shape), np.float32)
