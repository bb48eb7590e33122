"""Does the model follow the features that an explanation names? Perturbation curves, insertion, deletion, subsets.

``predict`` gives the explained score of each sample, ``(n,)``. It always receives all samples, in their order, so that
each can keep its own target; it does its own batching.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analyzer.config import Progress as ProgressSetting
from analyzer.config import check_names
from analyzer.data_types.explanation_quality import Better, PerturbationCurves, QualityScore
from analyzer.data_types.relevance import Faithfulness, FaithfulnessScore
from analyzer.errors import ConfigError, DataError, Unsupported
from analyzer.measures import perturbation
from analyzer.measures.map_similarity import ROW_SIMILARITIES
from analyzer.measures.random_streams import stream
from analyzer.progress import Progress
from analyzer.relevance.evaluation.removal import Inputs, Removal
from analyzer.relevance.evaluation.scoring import check_at_least, mean_of, quality_score, stepping

Floats = NDArray[np.float64]
Predict = Callable[[Inputs], NDArray[Any]]


def morf_lerf(
    predict: Predict,
    removal: Removal,
    maps: Inputs,
    *,
    steps: int = 20,
    n_bootstrap: int = 1000,
    seed: int = 0,
    progress: ProgressSetting = False,
) -> PerturbationCurves:
    """Scores while features go, the most and the least relevant first, and what follows from them.

    Args:
        predict: Explained score of each sample.
        removal: The inputs and what stands in place of a feature.
        maps: Relevance in the structure of the inputs.
        steps: Points of a curve after the first.
        n_bootstrap: Draws behind each interval.
        seed: Breaks ties between features, and seeds intervals.
        progress: Whether bars are drawn, or who is told of each step.

    Returns:
        The curves with ABPC, comprehensiveness and sufficiency.

    Raises:
        ConfigError: If ``steps`` is no whole number of at least 1.
        DataError: If maps or scores have wrong shapes.
    """
    check_at_least("steps", steps)
    scores = removal.scores(maps)
    informative = perturbation.is_informative(scores)
    ranks = perturbation.relevance_ranks(scores, stream(seed))
    p = removal.n_features
    counts = perturbation.removal_counts(p, steps)
    most, least = np.full((2, removal.n, len(counts)), np.nan)
    with Progress(progress) as bars:
        for i in stepping(bars, "perturbation", len(counts)):
            most[:, i] = _scores(predict, removal.without(ranks < counts[i]), removal.n)
            # Nothing gone and everything gone are the same in any order.
            ends = counts[i] in (0, p)
            least[:, i] = most[:, i] if ends else _scores(predict, removal.without(ranks >= p - counts[i]), removal.n)
    most[~informative], least[~informative] = np.nan, np.nan
    fraction = counts / p

    def scored(name: str, better: Better, values: Floats) -> QualityScore:
        return quality_score(name, better, values, n_bootstrap, seed)

    return PerturbationCurves(
        baseline=removal.baseline,
        fraction=fraction,
        most_first=most,
        least_first=least,
        abpc=scored("abpc", "larger", perturbation.abpc(fraction, most, least)),
        comprehensiveness=scored("comprehensiveness", "larger", perturbation.drop(fraction, most)),
        sufficiency=scored("sufficiency", "smaller", perturbation.drop(fraction, least)),
    )


def faithfulness(
    curves: PerturbationCurves, random: PerturbationCurves, *, n_bootstrap: int = 1000, seed: int = 0
) -> Faithfulness:
    """The curves of an explanation beside those of random maps, paired by sample.

    Means of curves are sums over samples of the score, signed by the unperturbed one, over the sum of the magnitudes of
    the unperturbed ones: a sample whose score is near 0 cannot dominate.

    Args:
        curves: Of the explanation, from `morf_lerf`.
        random: Of random maps of the same inputs.
        n_bootstrap: Draws behind each interval.
        seed: Seed of the draws.
    """

    def score(name: Literal["abpc", "comprehensiveness", "sufficiency"]) -> FaithfulnessScore:
        own, other = getattr(curves, name), getattr(random, name)
        difference = mean_of(own.values - other.values, n_bootstrap=n_bootstrap, seed=seed)
        return FaithfulnessScore(value=own.estimate, random=other.estimate, difference=difference)

    return Faithfulness(
        baseline=curves.baseline,
        n=curves.abpc.estimate.n,
        abpc=score("abpc"),
        comprehensiveness=score("comprehensiveness"),
        sufficiency=score("sufficiency"),
        fraction=curves.fraction,
        most_first=_relative_mean(curves.most_first),
        least_first=_relative_mean(curves.least_first),
        random_first=_relative_mean(random.most_first),
    )


def insertion_deletion(
    predict: Predict,
    removal: Removal,
    maps: Inputs,
    *,
    inserted_into: Removal | None = None,
    steps: int = 20,
    n_bootstrap: int = 1000,
    seed: int = 0,
    progress: ProgressSetting = False,
) -> tuple[QualityScore, QualityScore]:
    """Insertion and deletion of Petsiuk et al. (2018, arXiv 1806.07421): mean score while features come and go.

    Deletion is the area under the MoRF curve. Insertion starts from the baseline and adds the most relevant features;
    with the same baseline that is the LeRF curve read backwards, so both come out of one set of scores.

    Args:
        predict: Explained score of each sample.
        removal: The inputs and what stands in place of a feature.
        maps: Relevance in the structure of the inputs.
        inserted_into: The same inputs with the baseline that insertion starts from (blurred, in the paper); None for
            that of ``removal``.
        steps: Points of a curve after the first.
        n_bootstrap: Draws behind each interval.
        seed: Breaks ties between features, and seeds intervals.
        progress: Whether bars are drawn, or who is told of each step.

    Returns:
        Insertion (larger is better) and deletion (smaller is better).
    """
    options: dict[str, Any] = {"steps": steps, "n_bootstrap": n_bootstrap, "seed": seed, "progress": progress}
    gone = morf_lerf(predict, removal, maps, **options)
    come = gone if inserted_into is None else morf_lerf(predict, inserted_into, maps, **options)
    return insertion_of(come, n_bootstrap=n_bootstrap, seed=seed), deletion_of(gone, n_bootstrap=n_bootstrap, seed=seed)


def insertion_of(curves: PerturbationCurves, *, n_bootstrap: int = 1000, seed: int = 0) -> QualityScore:
    """Insertion from curves that are there already; see `insertion_deletion`."""
    area = perturbation.area(curves.fraction, curves.least_first)
    return quality_score("insertion", "larger", area, n_bootstrap, seed)


def deletion_of(curves: PerturbationCurves, *, n_bootstrap: int = 1000, seed: int = 0) -> QualityScore:
    """Deletion from curves that are there already; see `insertion_deletion`."""
    area = perturbation.area(curves.fraction, curves.most_first)
    return quality_score("deletion", "smaller", area, n_bootstrap, seed)


def faithfulness_correlation(
    predict: Predict,
    removal: Removal,
    maps: Inputs,
    *,
    subset: float = 0.2,
    n_subsets: int = 100,
    correlation: Literal["pearson", "spearman"] = "pearson",
    n_bootstrap: int = 1000,
    seed: int = 0,
    progress: ProgressSetting = False,
) -> QualityScore:
    """Correlation, over random subsets, of their summed relevance with what the score loses without them.

    With Pearson's it is faithfulness correlation (Bhatt et al. 2020, arXiv 2005.00631), with Spearman's μFidelity.

    Args:
        predict: Explained score of each sample.
        removal: The inputs and what stands in place of a feature.
        maps: Relevance in the structure of the inputs.
        subset: Share of the features in a subset.
        n_subsets: Subsets drawn for each sample.
        correlation: ``"pearson"`` or ``"spearman"``.
        n_bootstrap: Draws behind the interval.
        seed: Draws the subsets, and seeds the interval.
        progress: Whether bars are drawn, or who is told of each step.

    Raises:
        ConfigError: If an option has no such value.
    """
    check_names([correlation], ["pearson", "spearman"], what="correlation")
    if isinstance(subset, bool) or not isinstance(subset, int | float) or not 0 < subset < 1:
        raise ConfigError(f"subset={subset!r}: expected a share of the features above 0 and below 1.")
    check_at_least("n_subsets", n_subsets, at_least=3)
    scores = removal.scores(maps)
    p = removal.n_features
    if p < 2:
        raise Unsupported("The inputs have a single feature: there are no subsets to compare.")
    size = min(max(1, round(subset * p)), p - 1)
    rng = stream(seed)
    unperturbed = _scores(predict, removal.whole, removal.n)
    summed, lost = np.empty((2, removal.n, n_subsets))
    with Progress(progress) as bars:
        for i in stepping(bars, "faithfulness correlation", n_subsets):
            gone = perturbation.random_subsets(removal.n, p, size, rng)
            summed[:, i] = np.where(gone, scores, 0.0).sum(axis=1)
            lost[:, i] = unperturbed - _scores(predict, removal.without(gone), removal.n)
    # Sums of a constant map differ by rounding only.
    summed[~perturbation.is_informative(scores)] = np.nan
    values = ROW_SIMILARITIES[correlation](summed, lost)
    return quality_score("faithfulness_correlation", "larger", values, n_bootstrap, seed)


def _scores(predict: Predict, x: Inputs, n: int) -> Floats:
    made = np.asarray(predict(x), dtype=np.float64)
    if made.shape != (n,):
        raise DataError(
            f"predict returned shape {made.shape} for {n} samples: expected the explained score of each, (n,)."
        )
    return made


def _relative_mean(curves: Floats) -> Floats:
    known = curves[np.isfinite(curves).all(axis=1)]
    size = np.abs(known[:, 0]).sum() if len(known) else 0.0
    if size == 0:
        return np.full(curves.shape[1], np.nan)
    return np.asarray((known * np.sign(known[:, :1])).sum(axis=0) / size)
