"""Which of two models is the more robust, sample by sample."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.comparison import RobustnessPair
from analyzer.data_types.robustness import RobustnessResult
from analyzer.measures.paired_proportions import mcnemar
from analyzer.measures.versions import paired_aura


def robustness_pairs(results: Mapping[str, Any], config: Any) -> tuple[RobustnessPair, ...]:
    """Each two models that were attacked, in the order of the models.

    Args:
        results: Robustness by model.
        config: The options of the run.
    """
    attacked = {name: r for name, r in results.items() if isinstance(r, RobustnessResult) and r.distance is not None}
    return tuple(_pair(a, b, attacked[a], attacked[b], config) for a, b in combinations(attacked, 2))


def _pair(first: str, second: str, one: RobustnessResult, other: RobustnessResult, config: Any) -> RobustnessPair:
    reason = _why_not(one, other)
    if reason is not None or one.threat is None:
        return RobustnessPair(first=first, second=second, reason=reason)
    largest = one.threat.epsilon_max
    a, b = _distances(one), _distances(other)
    score = paired_aura(a, b, largest, n_bootstrap=config.n_bootstrap, seed=config.seed)
    holding = mcnemar(a > largest, b > largest)
    return RobustnessPair(
        first=first,
        second=second,
        n=len(a),
        aura=score.change,
        aura_p_value=score.p_value,
        only_first=holding.b,
        only_second=holding.c,
        mcnemar_p_value=holding.p_value,
    )


def _why_not(one: RobustnessResult, other: RobustnessResult) -> str | None:
    if one.withheld or other.withheld:
        return "A score is withheld."
    if one.threat != other.threat:
        return "They were attacked differently: bounds or radii differ."
    if not np.array_equal(np.asarray(one.indices), np.asarray(other.indices)):
        return "They were attacked on different samples."
    return None


def _distances(result: RobustnessResult) -> NDArray[np.float64]:
    """With infinity where nothing was found."""
    found = np.asarray(result.distance, np.float64)
    return np.where(np.isnan(found), np.inf, found)
