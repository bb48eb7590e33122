"""Paired proportions: two models right or wrong on the same samples, and exact intervals of one proportion."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import beta, binom, norm

from analyzer.data_types.values import Estimate
from analyzer.errors import DataError

LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """Two paired proportions: is one larger?

    Attributes:
        b: Samples that only the old version has right: negative flips.
        c: Samples that only the new version has right: positive flips.
        n: Samples.
        p_value: Two-sided exact p-value of "a flip is as likely negative as positive" (McNemar 1947 with the binomial
            distribution in place of χ²). 1 without flips.
        negative_share: b/(b + c) with Clopper and Pearson's interval, which leaves out 1/2 just where p is below 5 %.
        change: (c − b)/n, new minus old proportion, with Tango's interval.
    """

    b: int
    c: int
    n: int
    p_value: float
    negative_share: Estimate
    change: Estimate


def mcnemar(old_right: NDArray[np.bool_], new_right: NDArray[np.bool_], level: float = LEVEL) -> McNemar:
    """McNemar's exact test of two versions on the same samples.

    For robust accuracies at a radius, pass ``distances > radius`` of both models.

    Args:
        old_right: ``(n,)`` whether the old version is right.
        new_right: ``(n,)`` whether the new version is right.
        level: Coverage of the intervals.

    Raises:
        DataError: If the lengths differ.
    """
    old_right, new_right = np.asarray(old_right, bool), np.asarray(new_right, bool)
    if old_right.ndim != 1 or old_right.shape != new_right.shape:
        raise DataError(
            f"Verdicts of shapes {old_right.shape} and {new_right.shape}: expected one per sample of the same samples."
        )
    b, c, n = int((old_right & ~new_right).sum()), int((~old_right & new_right).sum()), len(old_right)
    return McNemar(
        b=b,
        c=c,
        n=n,
        p_value=float(min(1.0, 2 * binom.cdf(min(b, c), b + c, 0.5))),
        negative_share=clopper_pearson(b, b + c, level),
        change=paired_difference(b, c, n, level),
    )


def paired_difference(b: int, c: int, n: int, level: float = LEVEL) -> Estimate:
    """Difference of two paired proportions, (c − b)/n, with the score interval of Tango (1998).

    It holds every δ that the score test with the variance at δ does not reject; it has width also without any flip, and
    holds its level for small classes and high levels, where a bootstrap cannot.

    Args:
        b: Samples that only the first has right.
        c: Samples that only the second has right.
        n: Samples.
        level: Coverage of the interval.
    """
    if n == 0:
        return Estimate(value=None, n=0, level=level)
    value, z = (c - b) / n, float(norm.ppf((1 + level) / 2))

    def excess(delta: float) -> float:
        # The likeliest rate of negative flips where the difference is δ.
        linear = (2 * n - c + b) * delta - b - c
        root = math.sqrt(max(linear**2 + 8 * n * b * delta * (1 - delta), 0.0))
        variance = 2 * (root - linear) / (4 * n) + delta * (1 - delta)
        return n * abs(value - delta) - z * math.sqrt(n * max(variance, 0.0))

    # Without flips the test statistic at the value itself is 0/0; a step aside it is not.
    low = brentq(excess, -1.0, value - 1e-12) if value > -1 else -1.0
    high = brentq(excess, value + 1e-12, 1.0) if value < 1 else 1.0
    return Estimate(value=value, low=float(low), high=float(high), n=n, level=level, method="Tango")


def clopper_pearson(successes: int, n: int, level: float = LEVEL) -> Estimate:
    """A proportion with its exact interval (Clopper & Pearson 1934), which never covers less than it says.

    Args:
        successes: Number of successes.
        n: Number of trials.
        level: Coverage of the interval.
    """
    if n == 0:
        return Estimate(value=None, n=0, level=level)
    tail = (1 - level) / 2
    # What is above the share of successes is below that of the others.
    low, below = (float(bound) for bound in lower_share(np.array([successes, n - successes]), n, tail))
    return Estimate(value=successes / n, low=low, high=1.0 - below, n=n, level=level, method="Clopper–Pearson")


def lower_share(hits: NDArray[np.integer], draws: int, alpha: float) -> NDArray[np.float64]:
    """One-sided lower confidence bounds of shares (Clopper & Pearson 1934).

    Args:
        hits: How many of the draws hit, ``(n,)``.
        draws: How many there were.
        alpha: Probability that the share is lower.
    """
    none = hits == 0
    bound = beta.ppf(alpha, np.where(none, 1, hits), draws - hits + 1)
    return np.where(none, 0.0, bound)
