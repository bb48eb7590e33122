"""What lies between models: similarity of weights, predictions and representations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.pareto import ParetoResult
from analyzer.data_types.values import Estimate, Finding


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightPca:
    """Models as points: principal components of their standardised weight statistics.

    Attributes:
        names: Models that share the architecture, in the order of the rows.
        coordinates: ``(models, components)``.
        explained_variance: Share of the variance along each component, ``(components,)``.
        n_features: Statistics that differ between the models.
        left_out: Models of another architecture.
    """

    names: tuple[str, ...]
    coordinates: NDArray[np.float64]
    explained_variance: NDArray[np.float64]
    n_features: int
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ModelPair:
    """One measure between two models.

    Attributes:
        first: Name of one model.
        second: Name of the other.
        estimate: The measure with its n and interval; None where it is not defined.
        reason: Why it is not defined; None where it is.
    """

    first: str
    second: str
    estimate: Estimate | None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class PairwiseSimilarity:
    """A symmetric measure between all pairs of models.

    Attributes:
        measure: ``"linear_cka"``, ``"agreement"``, ``"js_divergence"``, or ``"relevance_spearman"`` and
            ``"relevance_cosine"`` of relevance maps.
        names: Models in the order of rows and columns.
        pairs: Each unordered pair once.
        output: Output of the models that is compared; None where the measure is not about an output.
        reason: Why there is no pair at all; None where there is one.
    """

    measure: str
    names: tuple[str, ...]
    pairs: tuple[ModelPair, ...] = ()
    output: str | None = None
    reason: str | None = None

    def pair(self, first: str, second: str) -> ModelPair | None:
        """The entry of two models in either order; None where there is none."""
        return next((p for p in self.pairs if {p.first, p.second} == {first, second}), None)

    def matrix(self) -> NDArray[np.float64]:
        """``(models, models)``: the values; on the diagonal that of a model with itself; NaN where undefined."""
        with_itself = 0.0 if self.measure == "js_divergence" else 1.0
        place = {name: i for i, name in enumerate(self.names)}
        square = np.full((len(self.names), len(self.names)), np.nan)
        np.fill_diagonal(square, with_itself)
        for entry in self.pairs:
            i, j = place[entry.first], place[entry.second]
            square[i, j] = square[j, i] = np.nan if entry.estimate is None else float(entry.estimate)
        return square


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerCka:
    """Linear CKA between all layers of two models on the same samples, unbiased (Nguyen et al. 2021).

    Attributes:
        first: Name of one model.
        second: Name of the other.
        n: Samples.
        first_layers: Ids of the rows' layers.
        second_layers: Ids of the columns' layers.
        values: ``(len(first_layers), len(second_layers))``; NaN where a layer does not vary.
    """

    first: str
    second: str
    n: int
    first_layers: tuple[str, ...]
    second_layers: tuple[str, ...]
    values: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class RelevanceAgreement:
    """Whether models decide by the same features: agreement of their relevance maps on the same samples and targets.

    Attributes:
        method: Method or preset of the maps.
        target: What was explained, as text.
        input: Name of the input that was compared.
        n: Samples.
        spearman: Rank correlation of two models' maps of one sample, mean over samples.
        cosine: Cosine between the same.
    """

    method: str
    target: str
    input: str
    n: int
    spearman: PairwiseSimilarity
    cosine: PairwiseSimilarity


@dataclass(frozen=True, kw_only=True)
class RobustnessPair:
    """Two models attacked alike on the same samples.

    Attributes:
        first: One model.
        second: The other.
        n: Samples of both; None where they cannot be compared.
        aura: AURA of the second minus that of the first, by the paired bootstrap.
        aura_p_value: Two-sided p-value of no difference, by random signs.
        only_first: Samples that only the first still decides rightly at the largest radius.
        only_second: Those that only the second does.
        mcnemar_p_value: Two-sided exact p-value that these are equally likely (McNemar 1947).
        reason: Why they cannot be compared; None where they can.
    """

    first: str
    second: str
    n: int | None = None
    aura: Estimate | None = None
    aura_p_value: float | None = None
    only_first: int | None = None
    only_second: int | None = None
    mcnemar_p_value: float | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Everything between models.

    Attributes:
        findings: What is remarkable about the models together.
        names: The models, in the user's order.
        weight_pca: Where at least three models share an architecture; else None.
        weight_pca_reason: Why there is no ``weight_pca``; None where there is.
        cka: Linear CKA of the last hidden layers on a shared batch; None where not asked for.
        layer_cka: CKA between all layers of each two models whose information flow was analysed.
        agreement: Share of samples with the same decision, one entry per output.
        js_divergence: Mean Jensen–Shannon divergence of predicted distributions in nats, one entry per output.
        relevance: Agreement of relevance maps; None where it was not computed.
        robustness: Each two models that were attacked, compared sample by sample.
        pareto: The best trade-offs between several objectives; None where too few models have the values for it.
    """

    findings: tuple[Finding, ...] = ()
    names: tuple[str, ...] = ()
    weight_pca: WeightPca | None = None
    weight_pca_reason: str | None = None
    cka: PairwiseSimilarity | None = None
    layer_cka: tuple[LayerCka, ...] = ()
    agreement: tuple[PairwiseSimilarity, ...] = ()
    js_divergence: tuple[PairwiseSimilarity, ...] = ()
    relevance: RelevanceAgreement | None = None
    robustness: tuple[RobustnessPair, ...] = ()
    pareto: ParetoResult | None = None

    def rows(self) -> list[dict[str, Any]]:
        """One row per measure and pair of models, for `AnalysisResults.to_frame`."""
        measures = [*([] if self.cka is None else [self.cka]), *self.agreement, *self.js_divergence]
        if self.relevance is not None:
            measures += [self.relevance.spearman, self.relevance.cosine]
        paired = [
            {"measure": "aura_difference", "output": None, "first": pair.first, "second": pair.second}
            | {name: getattr(pair.aura, name, None) for name in ("value", "low", "high", "n")}
            | {"reason": pair.reason}
            for pair in self.robustness
        ]
        return paired + [
            {"measure": similarity.measure, "output": similarity.output, "first": pair.first, "second": pair.second}
            | {name: getattr(pair.estimate, name, None) for name in ("value", "low", "high", "n")}
            | {"reason": pair.reason}
            for similarity in measures
            for pair in similarity.pairs
        ]
