"""Two separate questions: have the data shifted, and does the shift do harm?

Neither answers the other. Halving the contrast of digits shifts everything and costs no accuracy; permuting columns
leaves every marginal as it was and costs ten points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analyzer.data_types.values import Estimate
from analyzer.errors import ConfigError, DataError
from analyzer.measures.gap import difference
from analyzer.measures.paired import holm_adjusted
from analyzer.measures.shift.accuracy_estimates import AccuracyEstimate
from analyzer.measures.shift.two_sample import TwoSampleTests

Harm = Literal["harmful", "not harmful", "suspected", "undecided"]

LEVEL = 0.05
"""Chance of calling data shifted that are not."""

TESTS_PER_PLACE = 3

TOLERANCE = 0.05
"""Loss of accuracy that is accepted unless another is stated."""


@dataclass(frozen=True, kw_only=True)
class AdjustedTest:
    """One test of the family.

    Attributes:
        place: Where the data were compared: the inputs, a layer, the outputs.
        test: ``"KS"``, ``"MMD"`` or ``"classifier"``.
        p_value: Of this test alone.
        adjusted: By Holm over the family.
    """

    place: str
    test: str
    p_value: float
    adjusted: float


@dataclass(frozen=True, kw_only=True)
class ShiftVerdict:
    """Whether data have shifted.

    Attributes:
        shifted: An adjusted p-value is at most the level.
        level: Most that the chance of a false alarm is, over all places and tests together.
        tests: The family, in the order of places.
    """

    shifted: bool
    level: float
    tests: tuple[AdjustedTest, ...]

    @property
    def p_value(self) -> float:
        """Of the hypothesis that nothing has shifted anywhere: the smallest adjusted one."""
        return min(test.adjusted for test in self.tests)

    @property
    def alarms(self) -> tuple[AdjustedTest, ...]:
        """Tests that found the shift, the clearest first."""
        found = [test for test in self.tests if test.adjusted <= self.level]
        return tuple(sorted(found, key=lambda test: test.p_value))


@dataclass(frozen=True, kw_only=True)
class HarmVerdict:
    """Whether a model does its work worse on the new data.

    Attributes:
        harm: The answer; ``"suspected"`` where it rests on estimates, ``"undecided"`` where the data cannot tell.
        basis: What it rests on.
        change: Accuracy on the new data minus accuracy on the reference; without an interval where it rests on
            label-free estimates, whose error is none of sampling.
        tolerance: Loss that is accepted, or the known error of label-free estimates, which they cannot see below.
    """

    harm: Harm
    basis: Literal["labels", "label-free estimates"]
    change: Estimate
    tolerance: float


def permutations_needed(n_places: int, level: float = LEVEL) -> int:
    """Permutations with which one test of the family can alarm alone; 999 up to 8 places at 5 %.

    Args:
        n_places: Places that the verdict is about.
        level: Level of the verdict.
    """
    return max(999, math.ceil(2 * TESTS_PER_PLACE * n_places / _checked_level(level)) - 1)


def shift_verdict(places: Mapping[str, TwoSampleTests], *, level: float = LEVEL) -> ShiftVerdict:
    """Decide whether data have shifted, from all tests of all places together.

    Holm's correction keeps the chance of any false alarm at the level, however the tests depend on each other.

    Args:
        places: Tests by the name of their place.
        level: Chance of a false alarm.

    Raises:
        DataError: If there is no place.
        ConfigError: If the level is outside of (0, 1), or permutations are too few for it.
    """
    _checked_level(level)
    if not places:
        raise DataError("No place was tested; a verdict needs the tests of one at least.")
    names = [(place, test) for place, tests in places.items() for test in tests.p_values]
    p_values = [p for tests in places.values() for p in tests.p_values.values()]
    fewest = min(test.n_permutations for tests in places.values() for test in (tests.mmd, tests.classifier))
    if len(p_values) / (1 + fewest) > level:
        raise ConfigError(
            f"n_permutations={fewest} can never alarm at level {level:g} among {len(p_values)} tests: use"
            f" {permutations_needed(len(places), level)} or more."
        )
    tests = tuple(
        AdjustedTest(place=place, test=test, p_value=p, adjusted=adjusted)
        for (place, test), p, adjusted in zip(names, p_values, holm_adjusted(p_values), strict=True)
    )
    return ShiftVerdict(shifted=any(test.adjusted <= level for test in tests), level=level, tests=tests)


def harm_from_labels(reference: Estimate, new: Estimate, *, tolerance: float = TOLERANCE) -> HarmVerdict:
    """Decide by measured accuracy, or another score of which more is better.

    Not harmful where the interval of the change is above −tolerance: the loss is accepted, whatever it is. Otherwise
    harmful where the interval is below 0. Otherwise there are too few labels to tell.

    Args:
        reference: Accuracy on the reference, with its interval.
        new: Accuracy on the new data, with its interval; other samples than those of the reference.
        tolerance: Loss that is accepted, above 0.

    Raises:
        ConfigError: If the tolerance is not above 0.
        DataError: If an accuracy has no interval.
    """
    if not tolerance > 0:
        raise ConfigError(f"tolerance={tolerance}: expected a loss of accuracy above 0, such as {TOLERANCE}.")
    change = difference(reference, new)
    if change.low is None or change.high is None:
        raise DataError(f"Accuracies {reference} and {new}: both need an interval to tell harm from chance.")
    harm: Harm = "undecided"
    if change.low > -tolerance:
        harm = "not harmful"
    elif change.high < 0:
        harm = "harmful"
    return HarmVerdict(harm=harm, basis="labels", change=change, tolerance=tolerance)


def harm_from_estimates(reference: Estimate, estimates: Sequence[AccuracyEstimate]) -> HarmVerdict:
    """What estimates without labels can say: harm is suspected, or the question stays undecided.

    Harm is suspected where the median estimate is below the accuracy on the reference by more than the known error.
    It is never proven: the worst shift that was measured cost more than three times what the estimates said, and
    halving the contrast, which costs almost nothing, takes a third off the estimates for an underconfident model.

    Args:
        reference: Measured accuracy on the reference.
        estimates: Estimates for the new data.

    Raises:
        DataError: If there is no estimate or no accuracy on the reference.
    """
    values = [float(estimate.accuracy) for estimate in estimates if estimate.accuracy.value is not None]
    if not values or reference.value is None:
        raise DataError("Harm without labels needs the accuracy on the reference and one estimate at least.")
    change = float(np.median(values)) - reference.value
    error = max(estimate.mean_absolute_error for estimate in estimates)
    return HarmVerdict(
        harm="suspected" if change < -error else "undecided",
        basis="label-free estimates",
        change=Estimate(value=change, n=min(estimate.accuracy.n for estimate in estimates)),
        tolerance=error,
    )


def _checked_level(level: float) -> float:
    if not 0 < level < 1:
        raise ConfigError(f"level={level}: expected a chance of false alarm between 0 and 1, such as {LEVEL}.")
    return level
