"""The contrastive rule: two maps travel together, what speaks for a decision and what speaks for the alternatives.

DLBacktrace's contrastive mode (arXiv 2411.12643), made to conserve both maps in every layer.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from analyzer.errors import ConfigError, Unsupported
from analyzer.relevance.activation_ranges import ROUNDING
from analyzer.relevance.public_ops import ops
from analyzer.relevance.rules import Rule, Spread, Tensor, Terms


@dataclass(frozen=True)
class Contrastive(Rule):
    """Each unit hands the larger of its two relevances to the side that decided its sign, the smaller to the other.

    With ``P`` the sum of a unit's positive contributions, ``N`` that of the magnitudes of its negative ones and
    ``t = P - N + b``: where only one side is there, both maps go down by its shares. Else for ``t > 0`` the larger of
    the two relevances goes to the positive contributions by ``z / P``, the smaller to the negative ones by ``|z| / N``,
    and each stays in its map; for ``t < 0`` the other way round. At ``t = 0`` both go by ``|z| / (P + N)``. The bias
    only decides: it absorbs nothing but the relevance of units that have no contributions.

    The rows of a batch are halves: the first carries one map, the second the other. A preset with
    ``contrastive=True`` makes it so. With ``zero_bias`` the stabiliser absorbs what units without contributions have.
    """

    def spread(self, terms: Terms) -> Spread:
        """Both sides, from two products.

        Raises:
            ConfigError: If no two maps travel together.
            Unsupported: If the first axis of the output is not that of the samples.
        """
        signed_output = terms.total()
        self._check(terms.pair, int(signed_output.shape[0]))
        halves = terms.nonnegative
        parts = [terms.positive(), terms.negative()] if halves else [terms.signed(), terms.absolute()]
        kept = [*parts, signed_output, *([] if terms.bias is None else [terms.bias])]
        return Spread(
            parts,
            [ops.stop_gradient(t) for t in kept],
            functools.partial(self._back, halves),
            functools.partial(self._absorbed, halves),
        )

    @staticmethod
    def _check(pair: int | None, rows: int) -> None:
        if pair is None:
            raise ConfigError(
                "Contrastive() splits two maps that travel together, and this preset has one: make it with "
                "contrastive=True, as presets.contrastive() does."
            )
        if rows % (2 * pair):
            raise Unsupported(
                f"Contrastive() needs samples on the first axis of every layer: one has {rows} rows for {pair} samples "
                "and their doubles. Give that layer another rule, e.g. Epsilon(), by Preset.with_rules."
            )

    def _back(self, halves: bool, relevance: Tensor, kept: list[Tensor]) -> list[Tensor]:
        positive, negative, even = _sides(halves, kept)
        to_positive, to_negative = _routed(relevance, kept[2])
        # Per unit of a contribution's magnitude: both alike where one side has everything.
        alike = _quotient(relevance, positive + negative)
        up = ops.where(even, alike, ops.where(to_positive, _quotient(relevance, positive), 0))
        down = ops.where(even, alike, ops.where(to_negative, _quotient(relevance, negative), 0))
        return [up, -down] if halves else [(up - down) / 2, (up + down) / 2]

    def _absorbed(self, halves: bool, kept: list[Tensor]) -> tuple[Tensor | None, Tensor | None]:
        positive, negative, _ = _sides(halves, kept)
        stuck = positive + negative == 0
        if len(kept) == 3 or self.zero_bias:
            return None, ops.cast(stuck, positive.dtype)
        biased = ops.logical_and(stuck, kept[3] != 0)
        dtype = positive.dtype
        return ops.cast(biased, dtype), ops.cast(ops.logical_and(stuck, ops.logical_not(biased)), dtype)


def _sides(halves: bool, kept: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """``P`` and ``N`` of each unit, and whether both maps go by both: one side has everything, or neither won."""
    if halves:
        positive, negative, floor = kept[0], -kept[1], 0.0
    else:
        signed, absolute = kept[:2]
        positive, negative, floor = (absolute + signed) / 2, (absolute - signed) / 2, ROUNDING * absolute
    single = ops.logical_or(positive <= floor, negative <= floor)
    return positive, negative, ops.logical_or(single, kept[2] == 0)


def _routed(relevance: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Where each row's relevance goes to the positive, and where to the negative contributions."""
    rows = int(relevance.shape[0]) // 2
    supports = relevance[:rows] > relevance[rows:]
    # The larger goes to the side that won; where both are equal the opposing map counts as the larger.
    first = ops.equal(t[:rows] > 0, supports)
    to_positive = ops.concatenate([first, ops.logical_not(first)], axis=0)
    return to_positive, ops.logical_not(to_positive)


def _quotient(relevance: Tensor, below: Tensor) -> Tensor:
    none = below <= 0
    return ops.where(none, 0, relevance / ops.where(none, 1, below))
