"""What an attack may do: inputs within bounds, and not further than ε from the sample in some norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ConfigError, DataError
from analyzer.robustness.attacks.l1 import onto_ball, steepest_within
from analyzer.robustness.bounds import check_bounds, check_finite

Tensor = Any
Norm = Literal["linf", "l2", "l1"]
NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")


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
        DataError: If samples are outside, not finite, not of float, none, or all of one value.
    """
    if not np.issubdtype(x.dtype, np.floating):
        raise DataError(
            f"Attacks move inputs of float values by small amounts; the data are of {x.dtype}. Give pixels as float32; "
            "token ids cannot be moved."
        )
    check_finite(x, "attacking")
    if bounds is not None:
        check_bounds(x, bounds)
        return Box(low=float(bounds[0]), high=float(bounds[1]), source="given")
    smallest, largest = float(x.min()), float(x.max())
    if smallest == largest:
        raise DataError(f"All values of the data are {smallest:g}: give bounds=(low, high).")
    return Box(low=smallest, high=largest, source="smallest and largest value of the data")


def check_norm(norm: str, known: tuple[Norm, ...] = NORMS) -> None:
    """Refuse an unknown norm.

    Args:
        norm: A norm.
        known: Those that an attack knows.

    Raises:
        ConfigError: If it is none of them.
    """
    if norm not in known:
        raise ConfigError(f"norm={norm!r}: expected one of {', '.join(known)}.")


def check_epsilon(epsilon: Any, n: int | None = None) -> NDArray[np.float64]:
    """Radii as an array, if they are some.

    Args:
        epsilon: One number per sample, or a grid of them.
        n: How many there must be; None for any number but none.

    Raises:
        ConfigError: If one is not finite and above 0, or there are too few or too many.
    """
    radii = np.asarray(epsilon, np.float64)
    if radii.ndim != 1 or (n is not None and len(radii) != n) or not len(radii):
        expected = "one or more radii in one axis" if n is None else f"one per sample, shape ({n},)"
        raise ConfigError(f"epsilon of shape {radii.shape}: expected {expected}.")
    wrong = radii[~(np.isfinite(radii) & (radii > 0))]
    if len(wrong):
        raise ConfigError(f"epsilon={wrong[0]:g}: expected finite radii above 0, in units of the box.")
    return radii


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
    if norm == "l1":
        return ops.sum(ops.abs(step), axis=_axes(step))
    return ops.sqrt(ops.sum(ops.square(step), axis=_axes(step)))


def steepest(gradient: Tensor, norm: str) -> Tensor:
    """The step of length 1 that raises a linear function most, in Linf or L2.

    Args:
        gradient: ``(n, ...)``.
        norm: ``"linf"`` or ``"l2"``; that of L1 moves one value, as far as the box lets it: see `raised`.
    """
    if norm == "linf":
        return keras.ops.sign(gradient)
    return gradient / (wide(length(gradient, norm), gradient) + 1e-12)


def raised(point: Tensor, gradient: Tensor, size: Tensor, norm: str) -> Tensor:
    """Points a step up the gradient; in L1 they stay in the box.

    Args:
        point: From 0 to 1, ``(n, ...)``.
        gradient: ``(n, ...)``.
        size: Length of the step of each, ``(n,)``.
        norm: One of `NORMS`.
    """
    if norm != "l1":
        return point + wide(size, point) * steepest(gradient, norm)
    step = steepest_within(_flat(point), _flat(gradient), size[:, None])
    return point + keras.ops.reshape(step, point.shape)


def project(x: Tensor, origin: Tensor, epsilon: Tensor, norm: str) -> Tensor:
    """Into the ball around the samples and into inputs from 0 to 1.

    In Linf and L1 that is the nearest such point. In L2 the ball comes first: clipping moves every value towards that
    of the sample, so the point stays in the ball.

    Args:
        x: Points.
        origin: The samples, within 0 and 1.
        epsilon: Radius for each, ``(n,)``.
        norm: One of `NORMS`.
    """
    return into(x, region(origin, epsilon, norm), norm)


def region(origin: Tensor, epsilon: Tensor, norm: str) -> list[Tensor]:
    """Where `into` brings points: what all steps of an attack have in common is computed once.

    Args:
        origin: The samples, within 0 and 1.
        epsilon: Radius for each, ``(n,)``.
        norm: One of `NORMS`.

    Returns:
        In Linf the smallest and the largest values, else origin and epsilon.
    """
    if norm != "linf":
        return [origin, epsilon]
    radius = wide(epsilon, origin)
    return [keras.ops.maximum(origin - radius, 0.0), keras.ops.minimum(origin + radius, 1.0)]


def into(x: Tensor, within: list[Tensor], norm: str) -> Tensor:
    """As `project`.

    Args:
        x: Points.
        within: See `region`.
        norm: One of `NORMS`.
    """
    ops = keras.ops
    if norm == "linf":
        return ops.minimum(ops.maximum(x, within[0]), within[1])
    origin, epsilon = within
    step = x - origin
    if norm == "l1":
        step = ops.reshape(onto_ball(_flat(step), _flat(origin), epsilon[:, None]), x.shape)
    else:
        step = step * ops.minimum(1.0, wide(epsilon, x) / (wide(length(step, norm), x) + 1e-12))
    return ops.clip(origin + step, 0.0, 1.0)


def _flat(x: Tensor) -> Tensor:
    return keras.ops.reshape(x, (x.shape[0], -1))


def random_steps(rng: np.random.Generator, shape: tuple[int, ...], norm: str) -> NDArray[np.float32]:
    """Steps drawn uniformly from the ball of radius 1; the same on every backend.

    Args:
        rng: Random numbers.
        shape: ``(n, ...)``.
        norm: One of `NORMS`.
    """
    if norm == "linf":
        return rng.uniform(-1, 1, shape).astype(np.float32)
    if norm == "l1":
        # Of d + 1 waiting times the shares of the first d, with signs, are uniform in the ball.
        waits = rng.exponential(size=(shape[0], int(np.prod(shape[1:])) + 1))
        shares = (waits / waits.sum(axis=1, keepdims=True))[:, :-1].reshape(shape)
        return np.asarray(shares * rng.choice([-1.0, 1.0], shape), np.float32)
    drawn = rng.normal(size=shape).reshape(shape[0], -1)
    radii = rng.uniform(size=(shape[0], 1)) ** (1 / drawn.shape[1])
    steps = radii * drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return np.asarray(steps.reshape(shape), np.float32)
