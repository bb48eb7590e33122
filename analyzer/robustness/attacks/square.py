"""The Square attack (Andriushchenko et al., 2020, arXiv 1912.00049): random search by squares, without gradients.

What a square is depends on the input: images ``(height, width, channels)`` get squares of pixels, series ``(steps,
channels)`` spans of steps, vectors spans of features, and inputs of more axes cubes. The last axis holds channels, of
which every square changes all, unless it is the only one.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ConfigError
from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.losses import margin
from analyzer.robustness.attacks.outcomes import Found
from analyzer.robustness.attacks.survivors import first_found, own_generators
from analyzer.robustness.attacks.threat import Norm, check_epsilon, check_norm, project, wide

Tensor = Any
Array = NDArray[Any]

HALVED_AT = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Of 10000 queries, those after which squares have half the area."""
BLOCK = 100
"""Queries between two looks at which samples are left."""
ROUNDING = 1e-6
"""What a rise of the margin must exceed, in the largest logit, or rounding would decide, which differs by backend."""
RESIDUE = 1e-4
"""Steps shorter than this share of ε are no more than rounding leaves, and are no direction to go on in."""
_NOTHING = 1e-12
_ORDER = {"l1": 1, "l2": 2}


@dataclass(frozen=True, kw_only=True)
class Square:
    """Squares at random places that stay where they raise the margin loss; only decisions are asked for.

    Attributes:
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        queries: Forward passes per sample, at most.
        share: Of the input that the first squares cover (p).
        seed: Of places and signs.
    """

    norm: Norm = "linf"
    queries: int = 5000
    share: float = 0.8
    seed: int = 0

    def run(self, attacked: Attacked, u: Array, y: Array, epsilon: Array) -> Found:
        """Attack samples, each within its own ε.

        Args:
            attacked: The model.
            u: Samples from 0 to 1, ``(n, ...)``.
            y: True classes, ``(n,)``.
            epsilon: ``(n,)``, in units of the box.

        Raises:
            ConfigError: If the norm is unknown, or numbers are out of range.
            DataError: If samples are outside of 0 to 1, or classes are not the model's.
        """
        check_norm(self.norm)
        if self.queries < 1:
            raise ConfigError(f"queries={self.queries}: expected 1 or more.")
        if not 0 < self.share <= 1:
            raise ConfigError(f"share={self.share}: expected a share of the input above 0, at most 1.")
        search = _Search(self, attacked, u, y, check_epsilon(epsilon, len(u)).astype(np.float32))
        starts = range(0, self.queries, BLOCK)
        return first_found(attacked, u, y, (functools.partial(search.block, start) for start in starts))


def share_at(query: int, queries: int, first: float) -> float:
    """The share of the input that a square covers: the published schedule, stretched to the number of queries.

    Args:
        query: From 0 on.
        queries: How many there are.
        first: The share at the beginning.
    """
    published = query * 10_000 // queries
    return first / 2.0 ** sum(published > at for at in HALVED_AT)


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """The shape of an input, as axes that squares extend along and channels."""

    shape: tuple[int, ...]
    sizes: tuple[int, ...]
    channels: int

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> _Grid:
        channels = shape[-1] if len(shape) > 1 else 1
        return cls(shape=shape, sizes=shape[: max(1, len(shape) - 1)], channels=channels)

    def sides(self, share: float) -> NDArray[np.int32]:
        """Of a square that covers a share of the input; an axis that is too short is covered whole."""
        side = round((share * np.prod(self.sizes)) ** (1 / len(self.sizes)))
        return np.minimum(max(1, side), self.sizes).astype(np.int32)


class _Search:
    """Where the search of each sample stands."""

    def __init__(self, attack: Square, attacked: Attacked, u: Array, y: Array, epsilon: Array) -> None:
        self.attack, self.attacked, self.grid = attack, attacked, _Grid.of(u.shape[1:])
        self.u, self.y, self.epsilon = u.astype(np.float32), y, epsilon
        self.current, self.loss = self.u.copy(), np.full(len(u), -np.inf, np.float32)

    def block(self, start: int, rows: Array) -> Found:
        """The next queries of some samples."""
        attack, grid = self.attack, self.grid
        key = ("square", attack.norm, grid)
        program = self.attacked.stepper(key, _stepper(self.attacked, grid, attack.norm))
        queries = range(start, min(start + BLOCK, attack.queries))
        sides = np.stack([grid.sides(share_at(query, attack.queries, attack.share)) for query in queries])
        u, epsilon = self.u[rows], self.epsilon[rows]

        def work(batch: list[Tensor], at: Array) -> list[Tensor]:
            origin, y, epsilon_, current, loss = batch
            generators = own_generators(u[at], attack.seed, start)
            if start == 0:
                steps = np.stack([_start(rng, grid, attack.norm) for rng in generators]).reshape(u[at].shape)
                current = keras.ops.convert_to_tensor(u[at] + steps * epsilon[at].reshape(-1, *(1 for _ in grid.shape)))
            drawn = [keras.ops.convert_to_tensor(each) for each in _drawn(generators, grid, sides)]
            for size, same in itertools.groupby(range(len(sides)), lambda i: tuple(sides[i].tolist())):
                side = keras.ops.convert_to_tensor(np.asarray(size, np.int32))
                pattern = keras.ops.convert_to_tensor(_patterns(grid.sizes, size, _ORDER.get(attack.norm, 2)))
                for i in same:
                    query = keras.ops.convert_to_tensor(np.int32(i))
                    current, loss = program(origin, y, epsilon_, current, loss, drawn, query, side, pattern)
            return [current, loss]

        found, loss = self.attacked.by_batch([u, self.y[rows], epsilon, self.current[rows], self.loss[rows]], work)
        self.current[rows], self.loss[rows] = found, loss
        return Found(fooled=loss >= 0, points=found)


def _drawn(generators: list[np.random.Generator], grid: _Grid, sides: Array) -> list[Array]:
    """For each sample and query: the corners of two squares, a sign per channel, and an axis."""
    n_axes = len(grid.sizes)
    numbers = np.stack([rng.random((len(sides), 2 * n_axes + grid.channels + 1)) for rng in generators])
    corners, signs, axis = np.split(numbers, [2 * n_axes, 2 * n_axes + grid.channels], axis=-1)
    room = np.asarray(grid.sizes) - sides + 1
    return [
        np.floor(corners * np.tile(room, 2)).astype(np.int32),
        np.where(signs < 0.5, -1, 1).astype(np.float32),
        np.floor(axis[..., 0] * n_axes).astype(np.int32),
    ]


def _start(rng: np.random.Generator, grid: _Grid, norm: str) -> Array:
    """A step of length 1 to begin with: stripes along the first of several axes, or five tiles along every axis."""
    full = (*grid.sizes, grid.channels)
    if norm == "linf":
        stripes = full if len(grid.sizes) == 1 else (1, *full[1:])
        return np.broadcast_to(rng.choice([-1.0, 1.0], stripes), full).astype(np.float32)
    step = np.zeros(full)
    for tile in itertools.product(*(_fifths(size) for size in grid.sizes)):
        halves = _halves(tuple(each.stop - each.start for each in tile), int(rng.integers(len(tile))), _ORDER[norm])
        step[tile] = halves[..., None] * rng.choice([-1.0, 1.0], grid.channels)
    return np.asarray(step / np.linalg.norm(step.ravel(), _ORDER[norm]), np.float32)


def _fifths(size: int) -> list[slice]:
    edges = np.linspace(0, size, min(5, size) + 1).astype(int).tolist()
    return [slice(low, high) for low, high in itertools.pairwise(edges)]


def _bump(sides: tuple[int, ...]) -> Array:
    """What rises towards the middle of a box, layer by layer (eq. 2): ``sum_{k <= M} 1 / (n + 1 - k)^2``."""
    n = max(sides) // 2
    far = [np.abs(np.arange(side) - side // 2) for side in sides]
    layer = n - np.stack(np.meshgrid(*far, indexing="ij")).max(axis=0)
    return np.asarray(np.cumsum(1 / (n + 1.0 - np.arange(n + 1)) ** 2)[layer])


@functools.cache
def _halves(sides: tuple[int, ...], axis: int, order: int) -> Array:
    """A bump in one half of a box along an axis, its opposite in the other; of norm 1 in L1 or L2."""
    half = sides[axis] // 2
    one, other = ((*sides[:axis], side, *sides[axis + 1 :]) for side in (half, sides[axis] - half))
    both = np.concatenate([_bump(one), -_bump(other)], axis=axis)
    return np.asarray(both / np.linalg.norm(both.ravel(), order))


@functools.lru_cache(maxsize=16)
def _patterns(sizes: tuple[int, ...], sides: tuple[int, ...], order: int) -> Array:
    """The halves along each axis, each in the first corner of an input: ``(axes, *sizes)``."""
    patterns = np.zeros((len(sizes), *sizes), np.float32)
    for axis in range(len(sizes)):
        corner = tuple(slice(side) for side in sides)
        patterns[axis][corner] = _halves(sides, axis, order)
    return patterns


def _stepper(attacked: Attacked, grid: _Grid, norm: str) -> Any:
    """One query: the step that is drawn, kept where it raises the margin. The first query is the start itself."""
    ops = keras.ops
    change = _linf_change if norm == "linf" else functools.partial(_moved_mass, order=_ORDER[norm])

    def step(
        values: list[Tensor],
        origin: Tensor,
        y: Tensor,
        epsilon: Tensor,
        current: Tensor,
        loss: Tensor,
        drawn: list[Tensor],
        query: Tensor,
        sides: Tensor,
        pattern: Tensor,
    ) -> tuple[Tensor, Tensor]:
        full = (-1, *grid.sizes, grid.channels)
        corners, signs, axis = (ops.take(each, query, axis=1) for each in drawn)
        signs = ops.reshape(signs, (-1, *(1 for _ in grid.sizes), grid.channels))
        before = ops.reshape(current - origin, full)
        after = change(before, wide(epsilon, before), _Places(corners, sides, axis, grid.sizes), signs, pattern)
        point = ops.where(wide(ops.isinf(loss), origin), current, origin + ops.reshape(after, (-1, *grid.shape)))
        point = project(point, origin, epsilon, norm)
        z = attacked.logits(values, point)
        reached = margin(z, y, y)
        better = reached - loss > ROUNDING * ops.max(ops.abs(z), axis=-1)
        return ops.where(wide(better, point), point, current), ops.where(better, reached, loss)

    return step


@dataclass(frozen=True)
class _Places:
    """Where the squares of a query lie."""

    corners: Tensor
    sides: Tensor
    axis: Tensor
    sizes: tuple[int, ...]

    def square(self, which: int) -> Tensor:
        """Whether values are in the first or second square: ``(n, *sizes, 1)``."""
        ops, inside = keras.ops, None
        for axis, offset in enumerate(self._offsets(which)):
            here = ops.logical_and(offset >= 0, offset < self.sides[axis])
            inside = here if inside is None else ops.logical_and(inside, here)
        return ops.expand_dims(inside, -1)

    def shaped(self, patterns: Tensor) -> Tensor:
        """The pattern of the axis drawn, moved to the first square: ``(n, *sizes, 1)``; beyond it, anything."""
        ops = keras.ops
        index = ops.reshape(self.axis, (-1, *(1 for _ in self.sizes)))
        for size, offset in zip(self.sizes, self._offsets(0), strict=True):
            index = index * size + ops.clip(offset, 0, size - 1)
        return ops.expand_dims(ops.take(ops.reshape(patterns, (-1,)), index), -1)

    def _offsets(self, which: int) -> list[Tensor]:
        """Along each axis, how far values are from the corner of a square, in a shape that broadcasts."""
        ops, n_axes = keras.ops, len(self.sizes)
        offsets = []
        for axis, size in enumerate(self.sizes):
            offset = ops.arange(size, dtype="int32")[None] - self.corners[:, which * n_axes + axis][:, None]
            offsets.append(ops.reshape(offset, (-1, *(size if other == axis else 1 for other in range(n_axes)))))
        return offsets


def _linf_change(before: Tensor, epsilon: Tensor, places: _Places, signs: Tensor, patterns: Tensor) -> Tensor:
    """Every channel of a square goes to one end of the ball."""
    del patterns
    return keras.ops.where(places.square(0), epsilon * signs, before)


def _moved_mass(
    before: Tensor, epsilon: Tensor, places: _Places, signs: Tensor, patterns: Tensor, *, order: int
) -> Tensor:
    """What one square and the unused rest of the ball hold moves to another square (algorithm 3), in L1 or L2."""
    ops = keras.ops
    axes = tuple(range(1, 1 + len(places.sizes)))

    def mass(step: Tensor) -> Tensor:
        return ops.sum(ops.abs(step) if order == 1 else ops.square(step), axis=axes, keepdims=True)

    here, there = places.square(0), places.square(1)
    held = ops.where(here, before, 0.0)
    norm = mass(held) ** (1 / order)
    held = ops.where(norm > RESIDUE * epsilon, held / (norm + _NOTHING), 0.0)
    new = signs * ops.where(here, places.shaped(patterns), 0.0) + held
    unused = epsilon**order - ops.sum(mass(before), axis=-1, keepdims=True)
    unused = ops.where(unused > RESIDUE * epsilon**order, unused, 0.0)
    both = ops.where(ops.logical_or(here, there), before, 0.0)
    available = (mass(both) + unused / before.shape[-1]) ** (1 / order)
    moved = new / (mass(new) ** (1 / order) + _NOTHING) * available
    return ops.where(here, moved, ops.where(there, 0.0, before))
