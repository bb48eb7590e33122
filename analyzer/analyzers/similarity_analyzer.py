"""Similarity of models: by their weights, their decisions and their last hidden representations."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analyzer.analyzers.base import BaseAnalyzer, material
from analyzer.analyzers.relevance_agreement import relevance_agreement
from analyzer.analyzers.relevance_analyzer import relevance_need
from analyzer.analyzers.robustness_pairs import robustness_pairs
from analyzer.data_types.comparison import (
    Comparison,
    LayerCka,
    ModelPair,
    PairwiseSimilarity,
    RelevanceAgreement,
    WeightPca,
)
from analyzer.data_types.outputs import OutputData
from analyzer.data_types.values import Estimate, Skipped
from analyzer.data_types.weights import MATRIX_ROLES, TensorStatistics
from analyzer.errors import AnalyzerError, Unsupported
from analyzer.inspection.activations import Activations, GatheredActivations
from analyzer.inspection.needs import Features, Need, Predictions, Weights
from analyzer.inspection.weights import DescribedWeights
from analyzer.measures.similarity import agreement, js_divergence, linear_cka, mean_with_interval, statistics_pca

if TYPE_CHECKING:
    from analyzer.data_types import AnalysisResults, DataInput

PCA_STATISTICS = (
    "mean", "std", "median", "skewness", "kurtosis", "l1", "rms", "max_norm", "spectral_norm",
    "near_zero_share", "positive_share", "top_energy_share",
)  # fmt: skip
"""Statistics of each kernel that place a model on the map."""

ONLY_ONE = "There is one model; similarity is between models."
_CLASSES = ("binary", "multiclass", "multilabel", "sequence", "segmentation")
_DISTRIBUTIONS = ("binary", "multiclass", "sequence", "segmentation")


class SimilarityAnalyzer(BaseAnalyzer):
    """Compares models with each other, whatever their architectures."""

    name = "similarity"

    def requires_data(self) -> bool:
        """Weights can be compared without data; predictions and representations where there are data."""
        return False

    def needs(self) -> tuple[Need, ...]:
        """Weights for the map, outputs and representations of the same samples for the rest."""
        weights = (Weights(),) if self.config.compute_weight_pca else ()
        relevance = (relevance_need(self.config),) if self.config.analyze_relevance else ()
        return (*weights, Predictions(), Features(), *relevance)

    def analyze(self, results: AnalysisResults, data: DataInput | None, cache: Mapping[str, Any]) -> None:
        """Write ``results.comparison``."""
        del data
        names = tuple(self.models)
        if len(names) < 2:
            results.comparison = Skipped(ONLY_ONE)
            return
        pca = self._weight_pca(cache, names)
        outputs = _available(cache, names, Predictions())
        results.comparison = Comparison(
            names=names,
            weight_pca=pca if isinstance(pca, WeightPca) else None,
            weight_pca_reason=pca if isinstance(pca, str) else None,
            cka=_pairwise("linear_cka", names, _available(cache, names, Features()), _cka),
            layer_cka=_layer_cka(cache, names),
            agreement=_by_output("agreement", names, outputs, _agreement),
            js_divergence=_by_output("js_divergence", names, outputs, _js),
            relevance=self._relevance(cache, names),
            robustness=robustness_pairs(results.robustness, self.config),
        )

    def _relevance(self, cache: Mapping[str, Any], names: Sequence[str]) -> RelevanceAgreement | None:
        if not self.config.analyze_relevance:
            return None
        return relevance_agreement(names, _available(cache, names, relevance_need(self.config)), _pairwise)

    def _weight_pca(self, cache: Mapping[str, Any], names: Sequence[str]) -> WeightPca | str:
        if not self.config.compute_weight_pca:
            return "Not asked for: compute_weight_pca is off."
        described = {n: m for n, m in _available(cache, names, Weights()).items() if isinstance(m, DescribedWeights)}
        families: dict[tuple[Any, ...], list[str]] = {}
        for name, weights in described.items():
            families.setdefault(_architecture(weights), []).append(name)
        if not families:
            return "The weights of no model could be read."
        family = max(families.values(), key=len)
        found = statistics_pca({name: _statistics(described[name]) for name in sorted(family)})
        if isinstance(found, str):
            return found if len(families) == 1 else f"The models have {len(families)} architectures. {found}"
        return WeightPca(
            names=tuple(sorted(family)),
            coordinates=found.coordinates,
            explained_variance=found.explained_variance,
            n_features=found.n_features,
            left_out=tuple(name for name in names if name not in family),
        )


def _layer_cka(cache: Mapping[str, Any], names: Sequence[str]) -> tuple[LayerCka, ...]:
    """For models whose layers were followed by another analysis; nothing is gathered for this alone."""
    followed = {
        name: found for name in names if isinstance(found := cache[name].get(Activations()), GatheredActivations)
    }
    grams = {
        name: np.stack([call.representation.gram for call in found.calls]).astype(np.float64)
        for name, found in followed.items()
    }
    return tuple(
        LayerCka(
            first=first,
            second=second,
            n=followed[first].n_kept,
            first_layers=tuple(call.call.id for call in followed[first].calls),
            second_layers=tuple(call.call.id for call in followed[second].calls),
            values=np.clip(grams[first] @ grams[second].T, -1.0, 1.0),
        )
        for first, second in itertools.combinations(followed, 2)
        if grams[first].shape[1] == grams[second].shape[1]
    )


def _available(cache: Mapping[str, Any], names: Sequence[str], need: Need) -> dict[str, Any]:
    """Material by model; for models without, the reason as text."""
    found: dict[str, Any] = {}
    for name in names:
        try:
            found[name] = material(cache, name, need)
        except (AnalyzerError, KeyError) as error:
            found[name] = str(error)
    return found


def _kernels(described: DescribedWeights) -> list[TensorStatistics]:
    return [tensor for layer in described.layers for tensor in layer.tensors if tensor.role in MATRIX_ROLES]


def _architecture(described: DescribedWeights) -> tuple[Any, ...]:
    """What models must share for their statistics to be compared place by place."""
    return tuple((tensor.layer_type, tensor.name, tensor.shape) for tensor in _kernels(described))


def _statistics(described: DescribedWeights) -> list[float | None]:
    return [getattr(tensor, name) for tensor in _kernels(described) for name in PCA_STATISTICS]


def _pairwise(
    measure: str,
    names: Sequence[str],
    found: Mapping[str, Any],
    compare: Callable[[Any, Any], Estimate],
    output: str | None = None,
) -> PairwiseSimilarity:
    """Compare every two models; those without material get the reason why."""
    pairs = []
    for first, second in itertools.combinations(names, 2):
        missing = [f"{name}: {found[name]}" for name in (first, second) if isinstance(found[name], str)]
        estimate, reason = (None, "; ".join(missing)) if missing else _try(compare, found[first], found[second])
        pairs.append(ModelPair(first=first, second=second, estimate=estimate, reason=reason))
    reasons = {pair.reason for pair in pairs}
    shared = reasons.pop() if len(reasons) == 1 and all(pair.estimate is None for pair in pairs) else None
    return PairwiseSimilarity(measure=measure, names=tuple(names), pairs=tuple(pairs), output=output, reason=shared)


def _try(compare: Callable[[Any, Any], Estimate], first: Any, second: Any) -> tuple[Estimate | None, str | None]:
    try:
        estimate = compare(first, second)
    except (Unsupported, ValueError) as error:
        return None, str(error)
    if estimate.value is None:
        return None, f"Undefined for these {estimate.n} samples."
    return estimate, None


def _by_output(
    measure: str, names: Sequence[str], found: Mapping[str, Any], compare: Callable[[Any, Any], Estimate]
) -> tuple[PairwiseSimilarity, ...]:
    """One comparison per output name; models with a single output are compared whatever they call it."""
    outputs = [set(material) for material in found.values() if not isinstance(material, str)]
    if all(len(each) <= 1 for each in outputs):
        only = {n: m if isinstance(m, str) else next(iter(m.values())) for n, m in found.items()}
        shown = {name for each in outputs for name in each}
        return (_pairwise(measure, names, only, compare, output=shown.pop() if len(shown) == 1 else None),)
    compared = []
    for output in dict.fromkeys(o for m in found.values() if not isinstance(m, str) for o in m):
        chosen = {n: m if isinstance(m, str) else m.get(output, f"has no output {output!r}") for n, m in found.items()}
        compared.append(_pairwise(measure, names, chosen, compare, output=output))
    return tuple(compared)


def _cka(first: NDArray[Any], second: NDArray[Any]) -> Estimate:
    return linear_cka(first, second)


def _agreement(first: OutputData, second: OutputData) -> Estimate:
    p, q = _comparable(first, second, _CLASSES, "decisions")
    return agreement(_decisions(first, p), _decisions(second, q), first.groups)


def _js(first: OutputData, second: OutputData) -> Estimate:
    p, q = _comparable(first, second, _DISTRIBUTIONS, "distributions over classes")
    return mean_with_interval(js_divergence(p, q), first.groups, bounds=(0.0, float(np.log(2.0))))


def _decisions(output: OutputData, probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    if output.task.kind in ("binary", "multilabel"):
        return (probabilities >= 0.5).astype(np.int64)
    return np.asarray(probabilities.argmax(axis=-1), dtype=np.int64)


def _comparable(
    first: OutputData, second: OutputData, kinds: Sequence[str], what: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    for output in (first, second):
        if output.task.kind not in kinds or output.probabilities is None:
            raise Unsupported(f"Outputs of kind {output.task.kind!r} have no {what} to compare.")
    p, q = first.probabilities, second.probabilities
    if p is None or q is None or first.task.kind != second.task.kind or p.shape != q.shape:
        shapes = [None if z is None else z.shape for z in (p, q)]
        raise Unsupported(
            f"Outputs differ in form: {first.task.kind} {shapes[0]} against {second.task.kind} {shapes[1]}."
        )
    broken = ~np.isfinite(np.concatenate([p.reshape(len(p), -1), q.reshape(len(q), -1)], axis=1)).all(axis=-1)
    if np.any(broken):
        raise Unsupported(f"{np.count_nonzero(broken)} of {len(p)} predictions are NaN or infinite.")
    return p, q
