"""From scores of several methods to paired differences, and to which one to trust."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from itertools import combinations

import numpy as np

from analyzer.data_types.explanation_quality import QualityScore
from analyzer.data_types.method_comparison import RANDOM, MethodDifference, MethodVerdict
from analyzer.measures.paired import holm_adjusted, sign_flip_p_value
from analyzer.relevance.evaluation.scoring import mean_of

DECIDES = "abpc"
"""The measure that the verdict rests on."""

TEST = "sign-flip test of the mean paired difference in ABPC, Holm over all pairs"

SAME_MAP = 0.9
"""Rank correlation from which two maps count as nearly the same, for cautions."""

Scores = Mapping[str, Mapping[str, QualityScore]]


def differences(scores: Scores, *, n_bootstrap: int = 1000, seed: int = 0) -> tuple[MethodDifference, ...]:
    """All pairs of methods in every measure that both have; tested in the one that decides.

    Args:
        scores: By method and measure.
        n_bootstrap: Draws behind each interval.
        seed: Seed of the draws and of the flips.
    """
    measures = dict.fromkeys(name for row in scores.values() for name in row)
    return tuple(pair for measure in measures for pair in _pairs(scores, measure, n_bootstrap, seed))


def _pairs(scores: Scores, measure: str, n_bootstrap: int, seed: int) -> list[MethodDifference]:
    found = []
    for first, second in combinations([name for name, row in scores.items() if measure in row], 2):
        paired = scores[first][measure].values - scores[second][measure].values
        found.append(
            MethodDifference(
                measure=measure,
                first=first,
                second=second,
                difference=mean_of(paired, n_bootstrap=n_bootstrap, seed=seed),
                p_value=sign_flip_p_value(paired[np.isfinite(paired)], seed=seed) if measure == DECIDES else None,
            )
        )
    # A pair without a common sample is no evidence, and still one of the tests that were planned.
    adjusted = holm_adjusted([1.0 if one.p_value is None else one.p_value for one in found])
    return [
        one if one.p_value is None else dataclasses.replace(one, p_adjusted=p)
        for one, p in zip(found, adjusted, strict=True)
    ]


def verdict(scores: Scores, pairs: tuple[MethodDifference, ...], level: float) -> MethodVerdict:
    """Which methods are better than random maps and not worse than the best one.

    Args:
        scores: By method and measure.
        pairs: From `differences`.
        level: Level of the tests, after Holm's correction.
    """
    tested = [one for one in pairs if one.measure == DECIDES]
    better = {(one.first, one.second): _sign(one, level) for one in tested}
    better |= {(second, first): -sign for (first, second), sign in better.items()}
    rank = {name: row[DECIDES].estimate.value for name, row in scores.items() if name != RANDOM}
    beating = [name for name in rank if better.get((name, RANDOM)) == 1]
    n = min((one.difference.n for one in tested), default=0)
    trusted: list[str] = []
    if beating:
        best = max(beating, key=lambda name: rank[name] or 0.0)
        trusted = [best, *(name for name in beating if name != best and better[best, name] != 1)]
    return MethodVerdict(
        text=_text(trusted, list(rank), better, f"at n = {n} ({TEST}, level {level:g})"),
        trusted=tuple(trusted),
        measure=DECIDES,
        test=TEST,
        level=level,
        n=n,
    )


def _sign(pair: MethodDifference, level: float) -> int:
    if pair.p_adjusted is None or pair.p_adjusted > level or pair.difference.value is None:
        return 0
    return int(np.sign(pair.difference.value))


def _text(trusted: list[str], methods: list[str], better: Mapping[tuple[str, str], int], where: str) -> str:
    if not trusted:
        worse = [name for name in methods if better.get((name, RANDOM)) == -1]
        also = f"; {_list(worse)} {'is' if len(worse) == 1 else 'are'} worse than one" if worse else ""
        return f"None is better than a random map{also} {where}."
    if len(trusted) > 1:
        return (
            f"{_list(trusted)}: better than a random map, and {trusted[0]} is not distinguishable from "
            f"{_list(trusted[1:])} {where}."
        )
    beaten = [name for name in methods if better.get((trusted[0], name)) == 1]
    # A method may be too uncertain to be told from the best one and from noise alike.
    unclear = [name for name in methods if name not in (*trusted, *beaten)]
    than = _list(["a random map", *beaten])
    but = f"; {_list(unclear)} cannot be told from it nor from a random map" if unclear else ""
    return f"{trusted[0]}: the model follows the features that it names better than those of {than}{but} {where}."


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def cautions(scores: Scores) -> tuple[str, ...]:
    """What methods should be doubted for, however faithful they are.

    Args:
        scores: By method and measure.
    """
    reasons = {
        "parameter_randomization": "its maps hardly change when all parameters of the model are drawn anew",
        "random_logit": "its maps of different classes are nearly the same",
    }
    found = []
    for name, row in scores.items():
        for measure, reason in reasons.items():
            estimate = row[measure].estimate if measure in row else None
            if estimate is not None and estimate.low is not None and estimate.low > SAME_MAP:
                found.append(f"{name}: {reason} (rank correlation {estimate}).")
    return tuple(found)
