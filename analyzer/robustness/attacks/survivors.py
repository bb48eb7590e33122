"""Attempts one after another, each on the samples that the earlier ones left, with random numbers of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.measures.random_streams import stream
from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.outcomes import Found
from analyzer.robustness.attacks.threat import Norm, random_steps

Array = NDArray[Any]
Attempt = Callable[[NDArray[np.int64]], Found]
"""From the positions of some samples to what was found for them."""


def first_found(attacked: Attacked, u: Array, y: Array, attempts: Iterable[Attempt]) -> Found:
    """The first point that any attempt finds for each sample, as AutoAttack counts (Croce & Hein, 2020).

    Samples that are decided wrongly as they are need no attempt: they are fooled by themselves.

    Args:
        attacked: The model.
        u: Samples from 0 to 1, ``(n, ...)``.
        y: True classes, ``(n,)``.
        attempts: Each is made on the samples that are left.
    """
    fooled, points = ~attacked.correct(u, y), u.astype(np.float32)
    for attempt in attempts:
        rows = np.flatnonzero(~fooled)
        if not len(rows):
            break
        found = attempt(rows)
        fooled[rows] = found.fooled
        points[rows[found.fooled]] = found.points[found.fooled]
    return Found(fooled=fooled, points=points)


def own_generators(u: Array, seed: int, *purpose: int) -> list[np.random.Generator]:
    """Random numbers for each sample that depend on its values alone.

    So neither the backend, nor the batch, nor which other samples are still attacked changes them.

    Args:
        u: Samples, ``(n, ...)``.
        seed: Of all of them.
        purpose: Numbers that keep apart what is drawn for different ends.
    """
    return [stream(seed, *purpose, _fingerprint(row)) for row in u.astype(np.float32)]


def own_starts(u: Array, norm: Norm, seed: int, *purpose: int) -> NDArray[np.float32]:
    """For each sample a step drawn uniformly from the ball of radius 1, from random numbers of its own.

    Args:
        u: See `own_generators`.
        norm: Of the ball.
        seed: See `own_generators`.
        purpose: See `own_generators`.
    """
    generators = own_generators(u, seed, *purpose)
    return np.concatenate([random_steps(rng, (1, *u.shape[1:]), norm) for rng in generators])


def _fingerprint(row: Array) -> int:
    return int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=8).digest(), "little")
