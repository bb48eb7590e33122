"""Shift of single features: Kolmogorov-Smirnov tests, corrected for their number, and Wasserstein distances."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control, ks_2samp, wasserstein_distance

from analyzer.measures.paired import holm_adjusted
from analyzer.measures.shift.samples import Samples

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureTests:
    """One test and one effect size per feature. What a p-value says depends on n, what a distance says does not.

    Attributes:
        statistic: ``(d,)`` largest distance of the two distribution functions, 0 to 1.
        p_value: ``(d,)`` uncorrected: without any shift, one of 64 independent features is below 0.05 in 9 of 10 cases.
        holm: ``(d,)`` adjusted by Holm (1979): at most a level is the chance of any false alarm.
        benjamini_hochberg: ``(d,)`` adjusted by Benjamini & Hochberg (1995): at most a level is the expected share of
            false alarms among the alarms, for independent or positively dependent features.
        wasserstein: ``(d,)`` Wasserstein-1 distance in standard deviations of the reference; NaN where that is 0.
        n_reference: Rows of the reference.
        n_new: Rows of the new data.
    """

    statistic: Floats
    p_value: Floats
    holm: Floats
    benjamini_hochberg: Floats
    wasserstein: Floats
    n_reference: int
    n_new: int

    @property
    def any_p_value(self) -> float:
        """P-value of the hypothesis that no feature has shifted: the smallest by Holm."""
        return float(self.holm.min())


def feature_tests(two: Samples) -> FeatureTests:
    """Compare the distribution of each feature in two samples.

    Exact two-sample Kolmogorov-Smirnov tests (asymptotic above 10 000 rows), on the conservative side where values
    are tied. They see each feature alone: what happens between features, they cannot find.

    Args:
        two: The samples.
    """
    with warnings.catch_warnings():
        # Where the exact sum is out of reach, SciPy says so and takes the asymptotic formula.
        warnings.filterwarnings("ignore", "ks_2samp: Exact calculation unsuccessful", RuntimeWarning)
        result = ks_2samp(two.reference, two.new, axis=0)
    p_values = np.clip(np.asarray(result.pvalue, dtype=np.float64), 0.0, 1.0)
    return FeatureTests(
        statistic=np.asarray(result.statistic, dtype=np.float64),
        p_value=p_values,
        holm=np.array(holm_adjusted(p_values.tolist())),
        benjamini_hochberg=np.asarray(false_discovery_control(p_values, method="bh")),
        wasserstein=relative_wasserstein(two),
        n_reference=len(two.reference),
        n_new=len(two.new),
    )


def relative_wasserstein(two: Samples) -> Floats:
    """Wasserstein-1 distance of each feature: the mean way that values must move, in reference standard deviations.

    Noise alone makes it about 1/sqrt(rows), never 0.

    Args:
        two: The samples.

    Returns:
        ``(d,)``; NaN for features that are constant in the reference.
    """
    spread = two.reference.std(axis=0)
    constant = np.ptp(two.reference, axis=0) == 0
    distance = [wasserstein_distance(x, y) for x, y in zip(two.reference.T, two.new.T, strict=True)]
    return np.asarray(np.array(distance) / np.where(constant, np.nan, spread))
