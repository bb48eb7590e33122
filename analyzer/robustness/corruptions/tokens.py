"""Corruptions of token ids ``(texts, positions)``; padding stays padding, and every id is one that was seen.

Nothing is ever added to an id. With one seed, what a severity changes the next one changes too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import DataError
from analyzer.robustness.corruptions.reference import checked
from analyzer.robustness.corruptions.severities import Levels

Array = NDArray[Any]

TOKENS = "share of tokens"

TOKEN_DROPOUT = Levels((0.05, 0.1, 0.15, 0.2, 0.3), TOKENS)
TOKEN_REPLACEMENT = Levels((0.05, 0.1, 0.15, 0.2, 0.3), TOKENS)
NEIGHBOUR_SWAP = Levels((0.05, 0.1, 0.2, 0.3, 0.5), TOKENS)
TRUNCATION = Levels((0.1, 0.2, 0.3, 0.5, 0.7), TOKENS)

RANKS_AWAY = 5
"""How far, in ranks of frequency, a token is from the one that replaces it at most."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Vocabulary:
    """The tokens of reference data.

    Attributes:
        by_frequency: ``(v,)`` ids, the most frequent first.
        padding: The id that fills texts up, and stands for what is lost.
    """

    by_frequency: NDArray[np.int64]
    padding: int


def vocabulary_of(x: Array, *, padding: int = 0) -> Vocabulary:
    """The tokens of reference data by frequency.

    Args:
        x: ``(texts, positions)`` ids.
        padding: The id that fills texts up.

    Raises:
        DataError: If these are no ids, or fewer than two different ones.
    """
    _check_ids(x)
    ids, counts = np.unique(x[x != padding], return_counts=True)
    if len(ids) < 2:
        raise DataError(f"Texts of {len(ids)} different tokens besides padding={padding}: two are needed at least.")
    return Vocabulary(by_frequency=ids[np.argsort(-counts, kind="stable")].astype(np.int64), padding=padding)


def token_dropout(x: Array, severity: int, rng: np.random.Generator, vocabulary: Vocabulary) -> Array:
    """Tokens are lost; the padding id, which many models take for an unknown word, is put in their place.

    Args:
        x: ``(texts, positions)`` ids.
        severity: 1 to 5, see `TOKEN_DROPOUT`.
        rng: Random numbers.
        vocabulary: The tokens of reference data.

    Returns:
        ``(texts, positions)`` in the type of the ids.

    Raises:
        ConfigError: If there is no such severity.
        DataError: If these are no ids.
    """
    share = TOKEN_DROPOUT.at(severity)
    _check_ids(x)
    return np.where(rng.random(x.shape) < share, vocabulary.padding, x).astype(x.dtype)


def token_replacement(x: Array, severity: int, rng: np.random.Generator, vocabulary: Vocabulary) -> Array:
    """Tokens become other ones that are about as frequent: at most `RANKS_AWAY` ranks more or less.

    Args:
        x: See `token_dropout`, also for what is returned and raised.
        severity: 1 to 5, see `TOKEN_REPLACEMENT`.
        rng: Random numbers.
        vocabulary: The tokens of reference data; ids that are not among them count as its rarest.
    """
    share = TOKEN_REPLACEMENT.at(severity)
    _check_ids(x)
    last = len(vocabulary.by_frequency) - 1
    hit = (rng.random(x.shape) < share) & (x != vocabulary.padding)
    away = rng.integers(1, min(RANKS_AWAY, last) + 1, size=x.shape) * rng.choice([-1, 1], size=x.shape)
    ranks = _ranks(x, vocabulary.by_frequency)
    # At the ends of the list there is one side only.
    ranks = np.where((ranks + away < 0) | (ranks + away > last), ranks - away, ranks + away)
    other = vocabulary.by_frequency[np.clip(ranks, 0, last)]
    return np.where(hit, other, x).astype(x.dtype)


def neighbour_swap(x: Array, severity: int, rng: np.random.Generator, vocabulary: Vocabulary) -> Array:
    """Tokens change places with the one beside them; no token moves further than one position.

    Args:
        x: See `token_dropout`, also for what is returned and raised.
        severity: 1 to 5, see `NEIGHBOUR_SWAP`.
        rng: Random numbers.
        vocabulary: Says what padding is, which does not move.
    """
    share = NEIGHBOUR_SWAP.at(severity)
    _check_ids(x)
    n, length = x.shape
    # Positions are paired, from the first or from the second on, so that no token is in two pairs.
    place = np.arange(length) - rng.integers(0, 2, size=(n, 1))
    partner = np.arange(length) + np.where(place % 2 == 0, 1, -1)
    chosen = np.take_along_axis(rng.random((n, length // 2 + 2)), place // 2 + 1, axis=1) < share
    inside = (partner >= 0) & (partner < length)
    partner = np.where(inside, partner, np.arange(length))
    real = x != vocabulary.padding
    swapped = np.take_along_axis(x, partner, axis=1)
    both = chosen & inside & real & np.take_along_axis(real, partner, axis=1)
    return np.where(both, swapped, x)


def truncation(x: Array, severity: int, rng: np.random.Generator, vocabulary: Vocabulary) -> Array:
    """The end of each text is cut off and becomes padding; the first token always stays. Nothing is random.

    Args:
        x: See `token_dropout`, also for what is returned and raised.
        severity: 1 to 5, see `TRUNCATION`.
        rng: Not used.
        vocabulary: Says what padding is.
    """
    del rng
    share = TRUNCATION.at(severity)
    _check_ids(x)
    real = x != vocabulary.padding
    kept = np.maximum(1, np.rint((1 - share) * real.sum(axis=1, keepdims=True)))
    return np.where(real & (np.cumsum(real, axis=1) > kept), vocabulary.padding, x).astype(x.dtype)


def _ranks(x: Array, by_frequency: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rank of each id by frequency; one past the last for ids that were never seen."""
    order = np.argsort(by_frequency)
    ids = by_frequency[order]
    place = np.minimum(np.searchsorted(ids, x), len(ids) - 1)
    return np.where(ids[place] == x, order[place], len(ids))


def _check_ids(x: Array) -> None:
    if not np.issubdtype(x.dtype, np.integer):
        raise DataError(f"Token ids are whole numbers; the data are of {x.dtype}. Give them as integers.")
    checked(x, rank=2, layout="token ids of shape (texts, positions)")
