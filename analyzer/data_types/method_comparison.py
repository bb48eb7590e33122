"""Which of several explanations to trust for a model: scores, paired differences and one verdict."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from analyzer.data_types.explanation_quality import QualityScore
from analyzer.data_types.serialization import MEASURED
from analyzer.data_types.values import Estimate

RANDOM = "random"
"""Name of the row of random maps, which every comparison holds."""


@dataclass(frozen=True, kw_only=True)
class MethodDifference:
    """One measure of one method minus that of another, paired by sample.

    Attributes:
        measure: Name of the measure.
        first: Name of one method.
        second: Name of the other.
        difference: Mean of ``first − second`` over the samples for which both are defined.
        p_value: Of the sign-flip test of the mean difference; None for measures that the verdict does not rest on.
        p_adjusted: The same adjusted by Holm over all pairs of this measure.
    """

    measure: str
    first: str
    second: str
    difference: Estimate
    p_value: float | None = None
    p_adjusted: float | None = None


@dataclass(frozen=True, kw_only=True)
class MethodVerdict:
    """Which explanation to trust for this model.

    Attributes:
        text: For people, with the reason.
        trusted: Methods that are better than random maps and not worse than the best one; empty where there is none.
        measure: The measure that decided.
        test: Name of the test.
        level: Its level.
        n: Samples that it used.
    """

    text: str
    trusted: tuple[str, ...]
    measure: str
    test: str
    level: float
    n: int

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, kw_only=True, eq=False)
class MethodComparison:
    """Several explanations of the same decisions, measured.

    Attributes:
        model: Name of the model.
        target: What was explained, as text.
        n: Samples explained.
        seed: Seed of samples, noise, subsets and intervals.
        baseline: What features were replaced by.
        scores: By method and measure; the last method is `RANDOM`. A measure that does not apply is missing.
        differences: Of all pairs of methods, for each measure.
        verdict: Which explanation to trust.
        cautions: What a trusted method should still be doubted for.
        failed: Reason by method for those that could not explain.
        skipped: Reason by measure for those that do not apply to this model and data.
        seconds: Time of one explanation of all samples by each method, the first call with its compiling.
    """

    model: str
    target: str
    n: int
    seed: int
    baseline: str
    scores: dict[str, dict[str, QualityScore]]
    differences: tuple[MethodDifference, ...] = ()
    verdict: MethodVerdict
    cautions: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict, metadata=MEASURED)

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the measures, in order."""
        return tuple(dict.fromkeys(name for row in self.scores.values() for name in row))

    @property
    def table(self) -> pd.DataFrame:
        """Methods × measures; below each measure its ``value``, ``low``, ``high`` and ``n``."""
        columns = pd.MultiIndex.from_product(
            [self.measures, ["value", "low", "high", "n"]], names=["measure", "statistic"]
        )
        rows = []
        for row in self.scores.values():
            estimates = [row[name].estimate if name in row else None for name in self.measures]
            rows.append([part for one in estimates for part in _parts(one)])
        index = pd.Index(list(self.scores), name="method")
        return pd.DataFrame(rows, index=index, columns=columns).astype(float)

    def difference_table(self) -> pd.DataFrame:
        """One row per measure and pair of methods: the paired difference, its interval and the test."""
        rows = [
            {
                "measure": one.measure,
                "first": one.first,
                "second": one.second,
                "value": one.difference.value,
                "low": one.difference.low,
                "high": one.difference.high,
                "n": one.difference.n,
                "p_value": one.p_value,
                "p_adjusted": one.p_adjusted,
            }
            for one in self.differences
        ]
        names = ["measure", "first", "second", "value", "low", "high", "n", "p_value", "p_adjusted"]
        return pd.DataFrame(rows, columns=names)

    def __repr__(self) -> str:
        return f"MethodComparison({self.model!r}, n={self.n}, methods {list(self.scores)}: {self.verdict.text})"


def _parts(estimate: Estimate | None) -> list[float | None]:
    if estimate is None:
        return [None, None, None, None]
    return [estimate.value, estimate.low, estimate.high, estimate.n]
