"""How well a score tells new rows from rows like the reference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm, rankdata

from analyzer.data_types.values import Estimate
from analyzer.errors import DataError
from analyzer.measures.bootstrap import wilson
from analyzer.measures.shift.shares import with_threshold_error

Floats = NDArray[np.float64]

KEPT = 0.95
"""Share of in-distribution rows that the detector lets pass: the true positive rate of FPR95."""


@dataclass(frozen=True, kw_only=True)
class Detection:
    """A score of being out of distribution, judged on rows of both kinds.

    Attributes:
        auroc: Chance that a new row scores above a reference row, ties counting half; 0.5 where nothing is told apart.
            Its n counts both.
        fpr95: Share of new rows that pass as in-distribution where 95 % of reference rows do; 0.95 where nothing is
            told apart. Its n counts new rows.
        n_reference: Reference rows.
        n_new: New rows.
    """

    auroc: Estimate
    fpr95: Estimate
    n_reference: int
    n_new: int


def detection(reference_scores: NDArray[Any], new_scores: NDArray[Any], *, level: float = 0.95) -> Detection:
    """AUROC and FPR at 95 % TPR; in-distribution rows are the positives, as in Liang et al. 2018.

    Args:
        reference_scores: ``(n,)`` of reference rows that the score was not fitted to, higher = more out of
            distribution.
        new_scores: ``(m,)``.
        level: Coverage of the intervals.

    Raises:
        DataError: If a side is empty or a score is NaN.
    """
    known, new = (np.asarray(scores, dtype=np.float64).reshape(-1) for scores in (reference_scores, new_scores))
    if not known.size or not new.size or np.isnan(known).any() or np.isnan(new).any():
        raise DataError(
            f"{known.size} reference and {new.size} new scores: expected one number per row and one row of each side at"
            " least; leave out rows without a score."
        )
    return Detection(
        auroc=auroc(known, new, level=level),
        fpr95=false_positive_rate(known, new, level=level),
        n_reference=len(known),
        n_new=len(new),
    )


def auroc(reference_scores: Floats, new_scores: Floats, *, level: float = 0.95) -> Estimate:
    """Area under the ROC curve with the score interval of Newcombe (2006, part 2, method 5).

    The interval holds every θ with |value − θ| ≤ z·sqrt(V(θ)), where V is Hanley and McNeil's variance at θ with the
    mean of both sizes; unlike DeLong's it has width at 0 and 1.

    Args:
        reference_scores: ``(n,)``.
        new_scores: ``(m,)``.
        level: Coverage of the interval.
    """
    n, m = len(reference_scores), len(new_scores)
    ranks = rankdata(np.concatenate([reference_scores, new_scores]))
    value = float((ranks[n:].sum() - m * (m + 1) / 2) / (n * m))
    z, pairs = float(norm.ppf((1 + level) / 2)), (n + m) / 2 - 1

    def excess(theta: float) -> float:
        variance = theta * (1 - theta) * (1 + pairs * ((1 - theta) / (2 - theta) + theta / (1 + theta))) / (n * m)
        return abs(value - theta) - z * math.sqrt(max(variance, 0.0))

    # At 0 and 1 the variance vanishes, and a value there would be its own interval.
    inner = min(max(value, 1e-12), 1 - 1e-12)
    low = brentq(excess, 0.0, inner) if value > 0 else 0.0
    high = brentq(excess, inner, 1.0) if value < 1 else 1.0
    return Estimate(value=value, low=float(low), high=float(high), n=n + m, level=level, method="Newcombe")


def false_positive_rate(
    reference_scores: Floats, new_scores: Floats, *, kept: float = KEPT, level: float = 0.95
) -> Estimate:
    """Share of new rows below the score that a share of reference rows stays below.

    The interval joins two errors in squares: Wilson's of the share of new rows, and that of the threshold, as Wilson's
    interval of a share ``kept`` of the reference rows.

    Args:
        reference_scores: ``(n,)``.
        new_scores: ``(m,)``.
        kept: Share of reference rows that pass.
        level: Coverage of the interval.
    """
    ordered = np.sort(reference_scores)
    n = len(ordered)

    def passing(count: int) -> int:
        """New rows that pass where ``count`` reference rows do."""
        return int(np.count_nonzero(new_scores <= ordered[count - 1])) if count > 0 else 0

    # Rounding must not ask for one row more than the share is.
    count = math.ceil(kept * n - 1e-9)
    share = wilson(passing(count), len(new_scores), level)
    ends = wilson(count, n, level)
    low, high = (passing(math.floor(float(ends.low or 0.0) * n)), passing(math.ceil(float(ends.high or 1.0) * n)))
    return with_threshold_error(share, low / len(new_scores), high / len(new_scores))
