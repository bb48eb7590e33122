"""Whether two models decide by the same features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.comparison import PairwiseSimilarity, RelevanceAgreement
from analyzer.data_types.values import Estimate
from analyzer.errors import Unsupported
from analyzer.measures.map_similarity import cosine, spearman
from analyzer.relevance.evaluation.scoring import mean_of
from analyzer.relevance.gathered import GatheredRelevance

Floats = NDArray[np.float64]
Pairwise = Callable[[str, Sequence[str], Mapping[str, Any], Callable[[Any, Any], Estimate]], PairwiseSimilarity]


def relevance_agreement(
    names: Sequence[str], found: Mapping[str, GatheredRelevance | str], pairwise: Pairwise
) -> RelevanceAgreement | None:
    """Agreement of the maps of the first input, over samples for which both models explain the same decision.

    Args:
        names: Models in order.
        found: Explanations by model; the reason as text for models without.
        pairwise: Compares every two of them.

    Returns:
        None where fewer than two models were explained.
    """
    known = [one for one in found.values() if not isinstance(one, str)]
    if len(known) < 2:
        return None
    return RelevanceAgreement(
        method=", ".join(dict.fromkeys(one.method for one in known)),
        target=", ".join(dict.fromkeys(one.target for one in known)),
        input=next(iter(known[0].maps)),
        n=len(known[0].score),
        spearman=pairwise("relevance_spearman", names, found, lambda a, b: _agreement(a, b, spearman)),
        cosine=pairwise("relevance_cosine", names, found, lambda a, b: _agreement(a, b, cosine)),
    )


def _agreement(
    first: GatheredRelevance, second: GatheredRelevance, measure: Callable[[Floats, Floats], Floats]
) -> Estimate:
    one, other = next(iter(first.maps.values())), next(iter(second.maps.values()))
    if one.shape != other.shape or not np.array_equal(first.indices, second.indices):
        raise Unsupported(f"Their inputs differ: maps of shape {one.shape} and {other.shape}.")
    same = first.chosen == second.chosen
    if not same.any():
        raise Unsupported("They decide differently for every sample explained.")
    flat = [array[same].astype(np.float64).reshape(int(same.sum()), -1) for array in (one, other)]
    return mean_of(measure(flat[0], flat[1]))
