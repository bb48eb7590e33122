"""Two versions of a classifier on the same samples: churn, flips and their test, change by class, paired means.

A negative flip is a sample that the old version decides rightly and the new one wrongly; a positive flip is the reverse
(Yan et al. 2021, "Positive-congruent training"). Every change is new − old.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.values import Estimate
from analyzer.errors import DataError
from analyzer.measures.bootstrap import resampling_units, unit_sums, wilson
from analyzer.measures.paired import holm_adjusted, sign_flip_p_value
from analyzer.measures.paired_proportions import LEVEL, McNemar, clopper_pearson, mcnemar
from analyzer.measures.performance import mean_estimate
from analyzer.measures.random_streams import stream
from analyzer.measures.robustness import aura_shares

Floats = NDArray[np.float64]

_RELATIVE_DRAWS = 20_000
"""Draws behind intervals of ratios of flips: the ends are then known to about a hundredth of their distance."""


@dataclass(frozen=True, kw_only=True)
class ClassChange:
    """What changed for the samples of one class.

    Attributes:
        label: The class.
        test: McNemar's test on its samples; the level of the interval of `McNemar.change` is Bonferroni's, so that the
            intervals of all classes hold together.
        old: Share of its samples that the old version has right.
        new: Share of its samples that the new version has right.
        adjusted_p_value: The p-value with Holm's correction for all classes.
    """

    label: int
    test: McNemar
    old: Estimate
    new: Estimate
    adjusted_p_value: float


@dataclass(frozen=True, kw_only=True)
class Flips:
    """Decisions of two versions on the same labelled samples.

    Attributes:
        n: Samples.
        old_accuracy: Share that the old version decides rightly.
        new_accuracy: Share that the new version decides rightly.
        churn: Share whose decision changed, right or wrong.
        expected_churn: Churn of two models of these accuracies whose errors fall independently and evenly on the other
            classes.
        relative_churn: Churn by expected churn: 0 for equal decisions, 1 for unrelated models. Models trained on the
            same data share their hard samples, so that even other seeds stay below 1.
        negative_flip_rate: Share of samples that turned from right to wrong.
        positive_flip_rate: Share of samples that turned from wrong to right.
        relative_negative_flips: The negative flip rate by that of unrelated models of these accuracies, (old accuracy)
            · (1 − new accuracy) (Yan et al. 2021).
        net: McNemar's test; its `change` is the change in accuracy.
        by_class: Change of each class that occurs, by label.
    """

    n: int
    old_accuracy: Estimate
    new_accuracy: Estimate
    churn: Estimate
    expected_churn: float
    relative_churn: Estimate
    negative_flip_rate: Estimate
    positive_flip_rate: Estimate
    relative_negative_flips: Estimate
    net: McNemar
    by_class: tuple[ClassChange, ...]


@dataclass(frozen=True, kw_only=True)
class PairedMeans:
    """Means of one quantity for two models on the same samples.

    Attributes:
        old: Mean of the old (or first) model.
        new: Mean of the new (or second) model.
        change: new − old, by the paired bootstrap.
        p_value: Two-sided p-value of no change, by random signs; None without samples.
    """

    old: Estimate
    new: Estimate
    change: Estimate
    p_value: float | None


def flips(
    labels: NDArray[np.integer],
    old: NDArray[np.integer],
    new: NDArray[np.integer],
    n_classes: int,
    *,
    seed: int = 0,
    level: float = LEVEL,
) -> Flips:
    """Compare the decisions of two versions.

    Args:
        labels: ``(n,)`` true classes, 0 to n_classes − 1.
        old: ``(n,)`` decisions of the old version.
        new: ``(n,)`` decisions of the new version.
        n_classes: How many classes the models tell apart.
        seed: Seed of the intervals of the relative measures.
        level: Coverage of the intervals.

    Raises:
        DataError: If the arrays are empty or of different lengths, or there are fewer than two classes.
    """
    truth, before, after = (np.asarray(array) for array in (labels, old, new))
    if truth.ndim != 1 or not truth.size or not truth.shape == before.shape == after.shape or n_classes < 2:
        raise DataError(
            f"labels, old and new decisions of shapes {truth.shape}, {before.shape}, {after.shape} of {n_classes} "
            "classes: expected one label and two decisions per sample, (n,) each, and two classes or more."
        )
    n, right_before, right_after = len(truth), before == truth, after == truth
    cells = _cells(right_before, right_after, before != after)
    relative = stream(seed, 5, 1).dirichlet(cells + 0.5, _RELATIVE_DRAWS)
    shares = cells / n
    return Flips(
        n=n,
        old_accuracy=wilson(int(right_before.sum()), n, level),
        new_accuracy=wilson(int(right_after.sum()), n, level),
        churn=clopper_pearson(int((before != after).sum()), n, level),
        expected_churn=float(_expected_churn(shares, n_classes)),
        relative_churn=_ratio(_relative_churn(shares, n_classes), _relative_churn(relative, n_classes), n, level),
        negative_flip_rate=clopper_pearson(int(cells[1]), n, level),
        positive_flip_rate=clopper_pearson(int(cells[2]), n, level),
        relative_negative_flips=_ratio(_relative_negative(shares), _relative_negative(relative), n, level),
        net=mcnemar(right_before, right_after, level),
        by_class=_by_class(truth, right_before, right_after, level),
    )


def paired_means(old: Floats, new: Floats, *, n_bootstrap: int = 1000, seed: int = 0) -> PairedMeans:
    """Compare the means of a quantity of two models on the same samples.

    Args:
        old: ``(n,)`` values of the old (or first) model.
        new: ``(n,)`` values of the new (or second) model, for the same samples in the same order.
        n_bootstrap: Draws behind each interval.
        seed: Seed of the draws.

    Raises:
        DataError: If the lengths differ or a value is not finite.
    """
    first, second = np.asarray(old, np.float64), np.asarray(new, np.float64)
    if first.ndim != 1 or first.shape != second.shape or not np.isfinite(first + second).all():
        raise DataError(
            f"Values of shapes {first.shape} and {second.shape}: expected one finite value per sample and model, for "
            "the same samples in the same order."
        )

    def mean(values: Floats) -> Estimate:
        return mean_estimate(values, None, None, n_bootstrap=n_bootstrap, seed=seed)

    difference = second - first
    # Sums of bundles of symmetric differences are symmetric, and few enough to flip.
    units = resampling_units(len(difference), None, stream(seed, 5, 2))
    sums = unit_sums(difference[:, None], units)[:, 0]
    return PairedMeans(
        old=mean(first), new=mean(second), change=mean(difference), p_value=sign_flip_p_value(sums, seed=seed)
    )


def paired_aura(
    distances_a: Floats, distances_b: Floats, epsilon_max: float, *, n_bootstrap: int = 1000, seed: int = 0
) -> PairedMeans:
    """Compare two models by `analyzer.measures.robustness.aura` on the same samples; a is old, b is new.

    Args:
        distances_a: ``(n,)`` distances to a wrong decision of the first model; see `aura`.
        distances_b: ``(n,)`` those of the second, for the same samples in the same order.
        epsilon_max: The largest radius that counts, in the units of the distances.
        n_bootstrap: Draws behind each interval.
        seed: Seed of the draws.

    Returns:
        Both scores; `PairedMeans.change` is AURA of b minus AURA of a.

    Raises:
        ConfigError: If the radius is not above 0.
        DataError: If the lengths differ or a distance is NaN.
    """
    shares = [aura_shares(np.asarray(distances), epsilon_max) for distances in (distances_a, distances_b)]
    return paired_means(*shares, n_bootstrap=n_bootstrap, seed=seed)


def _cells(old_right: NDArray[np.bool_], new_right: NDArray[np.bool_], differ: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Counts: both right, negative flips, positive flips, both wrong alike, both wrong in different ways."""
    wrong = ~old_right & ~new_right
    kinds = (old_right & new_right, old_right & ~new_right, ~old_right & new_right, wrong & ~differ, wrong & differ)
    return np.array([np.count_nonzero(kind) for kind in kinds])


def _accuracies(shares: Floats) -> tuple[Any, Any]:
    return shares[..., 0] + shares[..., 1], shares[..., 0] + shares[..., 2]


def _expected_churn(shares: Floats, n_classes: int) -> Any:
    old, new = _accuracies(shares)
    return old * (1 - new) + (1 - old) * new + (1 - old) * (1 - new) * (n_classes - 2) / (n_classes - 1)


def _relative_churn(shares: Floats, n_classes: int) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(shares[..., 1] + shares[..., 2] + shares[..., 4], _expected_churn(shares, n_classes))


def _relative_negative(shares: Floats) -> Any:
    old, new = _accuracies(shares)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(shares[..., 1], old * (1 - new))


def _ratio(value: Any, draws: Floats, n: int, level: float) -> Estimate:
    """A ratio of shares with the quantiles of Jeffreys' posterior, which has width at counts of 0, too."""
    if not np.isfinite(value):
        return Estimate(value=None, n=n, level=level)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(
        value=float(value),
        low=float(min(low, value)),
        high=float(max(high, value)),
        n=n,
        level=level,
        method="Jeffreys",
    )


def _by_class(
    labels: NDArray[Any], old_right: NDArray[np.bool_], new_right: NDArray[np.bool_], level: float
) -> tuple[ClassChange, ...]:
    present = np.unique(labels)
    together = 1 - (1 - level) / len(present)
    tests = [mcnemar(old_right[labels == k], new_right[labels == k], together) for k in present]
    adjusted = holm_adjusted([test.p_value for test in tests])
    return tuple(
        ClassChange(
            label=int(k),
            test=test,
            old=wilson(int(old_right[labels == k].sum()), test.n, level),
            new=wilson(int(new_right[labels == k].sum()), test.n, level),
            adjusted_p_value=p,
        )
        for k, test, p in zip(present, tests, adjusted, strict=True)
    )
