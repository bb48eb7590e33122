"""From values per sample to scores with intervals, and what all measures of explanations share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.explanation_quality import Better, QualityScore
from analyzer.data_types.values import Estimate
from analyzer.errors import ConfigError
from analyzer.measures.performance import mean_estimate
from analyzer.measures.similarity import mean_with_interval
from analyzer.progress import Progress

Floats = NDArray[np.float64]

FEWEST_FOR_BOOTSTRAP = 10
"""With fewer samples a bootstrap of the mean is much too narrow, and Student's interval stands in."""


def mean_of(values: Floats, *, n_bootstrap: int = 1000, seed: int = 0) -> Estimate:
    """Mean over the samples for which a measure is defined, with its interval.

    Args:
        values: ``(n,)``, NaN where undefined.
        n_bootstrap: Draws; 0 computes no interval.
        seed: Seed of the draws.

    Returns:
        The estimate; n counts the defined values.
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    if not known.size:
        return Estimate(value=None, n=0)
    if n_bootstrap and known.size < FEWEST_FOR_BOOTSTRAP:
        return mean_with_interval(known, bounds=(-np.inf, np.inf))
    return mean_estimate(known, None, None, n_bootstrap=n_bootstrap, seed=seed)


def quality_score(name: str, better: Better | None, values: Floats, n_bootstrap: int, seed: int) -> QualityScore:
    """Values of a measure with the estimate of their mean; see `mean_of`."""
    estimate = mean_of(values, n_bootstrap=n_bootstrap, seed=seed)
    return QualityScore(name=name, better=better, estimate=estimate, values=values)


def stepping(bars: Progress, label: str, total: int) -> Iterator[int]:
    """Count from 0 to ``total - 1``, telling the bars before the first step and after each."""
    bars.step(label, 0, total)
    for i in range(total):
        yield i
        bars.step(label, i + 1, total)


def check_at_least(name: str, value: Any, at_least: int = 1) -> None:
    """Refuse an option that is no whole number of at least ``at_least``.

    Raises:
        ConfigError: With what came.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise ConfigError(f"{name}={value!r}: expected a whole number of at least {at_least}.")
