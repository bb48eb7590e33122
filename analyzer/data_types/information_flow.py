"""What passes through the layers of one model, and what comes back."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.values import Estimate, Finding, flat_row


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerFlow:
    """Activations of one call of one layer.

    Moments, extremes and counts are over all samples and positions; what rests on kept rows says so, and its n.

    Attributes:
        id: Id of the layer; a further call of a shared layer has ``@2``, ``@3``, … appended.
        kind: Class of the layer.
        order: Rank by execution.
        sources: Ids of the layers that its arguments came from; empty for the first ones.
        n_units: Size of the axis of units (channels, features): the last, or the first after the samples in layers
            that were told ``channels_first``.
        n_positions: Places per sample at which each unit is computed: pixels, tokens, steps; 1 for vectors.
        n_values: Values behind each unit's statistics: samples times positions.
        mean: Mean over units, samples and positions.
        std: Standard deviation over the same (population).
        min: Smallest activation.
        max: Largest activation.
        sparsity: Share of exact zeros.
        positive_ratio: Share of activations above zero.
        percentiles: Percentile of the kept values by its number (``"1"``, ``"5"``, ``"25"``, ``"50"``, …), with a
            distribution-free interval from order statistics.
        not_finite_units: Units with a NaN or infinite value.
        dead_units: Units that were zero for every value looked at, of layers that end in a rectifier; None for others.
        dead_bound: Upper end of the one-sided 95 % Clopper–Pearson bound on the share of samples for which such a unit
            may still fire.
        saturated_units: Units that lie within 1 % of a bound of their activation for 95 % of the kept rows; None
            where the activation has no two bounds.
        saturation: Share of kept values within 1 % of a bound.
        dormant_ratio: Share of units whose mean magnitude is at most 0.025 of the layer's (Sokar et al. 2023), over
            kept rows; None for layers without an activation.
        n_rows: Kept rows: samples times kept positions.
        n_kept_positions: Positions kept of each sample, the same ones for all.
        effective_rank: exp of the entropy of the normalised singular values of the centred rows (Roy & Vetterli 2007).
        effective_rank_ceiling: min(rows − 1, units): no sample of this size can show more.
        rankme: The same of rows that are not centred (Garrido et al. 2023).
        participation_ratio: (Σ λ)² / Σ λ² of the eigenvalues of the covariance of the rows.
        stable_rank: Σ λ / λ₁ of the same.
        intrinsic_dimension: TwoNN estimate (Facco et al. 2017) from the kept samples.
        linear_rank: Numerical rank of the rows before the layer's activation: directions that the layer lets through.
        mean_square: Mean of squared activations.
        gain: Mean square over that of the layer's input; None where the input is not known or not a float.
        input_cosine: Mean cosine between the activations of different samples: 1 where inputs are told apart no more.
        gradient_norm: Norm of the gradient of one sample's loss at this output, mean over samples.
        gradient_scale: Its root mean square per element, so that layers of different size compare.
        separability: Share of the variance between classes, corrected for chance.
        probe: Held-out accuracy (R² for regression) of a ridge classifier on this output, averaged over positions.
        probe_chance: What the probe reaches without looking: the share of the largest class, or 0.
        unit_similarity: Mean absolute cosine between different units over the kept rows.
        position_similarity: Mean absolute cosine between different kept positions (pixels, tokens) of one sample.
        duplicate_units: Units that repeat another up to scale, sign and shift.
        specialization: Share of a unit's variance that the class explains, mean over units, corrected for chance.
        unit_mean: ``(n_units,)`` mean of each unit.
        unit_std: ``(n_units,)`` standard deviation.
        unit_min: ``(n_units,)`` minimum.
        unit_max: ``(n_units,)`` maximum.
        unit_zero_share: ``(n_units,)`` share of exact zeros.
        unit_positive_share: ``(n_units,)`` share above zero.
        unit_percentiles: ``(7, n_units)`` percentiles 1, 5, 25, 50, 75, 95 and 99 of the kept values of each unit.
        unit_specialization: ``(n_units,)`` share of its variance that the class explains; NaN for constant units.
    """

    id: str
    kind: str
    order: int
    sources: tuple[str, ...] = ()
    n_units: int
    n_positions: int = 1
    n_values: int
    mean: float | None
    std: float | None
    min: float | None
    max: float | None
    sparsity: float
    positive_ratio: float
    percentiles: dict[str, Estimate] = dataclasses.field(default_factory=dict)
    not_finite_units: int = 0
    dead_units: int | None = None
    dead_bound: float | None = None
    saturated_units: int | None = None
    saturation: Estimate | None = None
    dormant_ratio: Estimate | None = None
    n_rows: int = 0
    n_kept_positions: int = 1
    effective_rank: Estimate | None = None
    effective_rank_ceiling: int | None = None
    rankme: float | None = None
    participation_ratio: float | None = None
    stable_rank: float | None = None
    intrinsic_dimension: Estimate | None = None
    linear_rank: int | None = None
    mean_square: float | None = None
    gain: float | None = None
    input_cosine: Estimate | None = None
    gradient_norm: Estimate | None = None
    gradient_scale: float | None = None
    separability: Estimate | None = None
    probe: Estimate | None = None
    probe_chance: float | None = None
    unit_similarity: Estimate | None = None
    position_similarity: Estimate | None = None
    duplicate_units: int | None = None
    specialization: Estimate | None = None
    unit_mean: NDArray[np.float64]
    unit_std: NDArray[np.float64]
    unit_min: NDArray[np.float64] | None = None
    unit_max: NDArray[np.float64] | None = None
    unit_zero_share: NDArray[np.float64]
    unit_positive_share: NDArray[np.float64] | None = None
    unit_percentiles: NDArray[np.float64] | None = None
    unit_specialization: NDArray[np.float64] | None = None


@dataclass(frozen=True, kw_only=True)
class VariableGradient:
    """Gradient of the loss for one trainable variable.

    Attributes:
        id: Id of the variable.
        norm: Norm of the gradient of the mean loss.
        largest: Largest magnitude of any element.
        relative: Norm of the gradient over the norm of the variable; None for a variable of zeros, or where the
            gradient is zero by structure.
        structural_zero: Why this gradient is zero whatever the data are, e.g. a key bias, which softmax cancels; None
            where it is not.
        zero_in_training: Why it is zero while the model trains, though not here: a bias before BatchNormalization.
    """

    id: str
    norm: float | None
    largest: float | None
    relative: float | None = None
    structural_zero: str | None = None
    zero_in_training: str | None = None


@dataclass(frozen=True, kw_only=True)
class GradientFlow:
    """Gradients of a loss, the model in inference mode: no dropout, moving averages in BatchNormalization.

    Attributes:
        loss: The loss, and where its targets came from.
        n: Samples behind the gradients.
        variables: One entry per trainable variable, in order of execution.
    """

    loss: str
    n: int
    variables: tuple[VariableGradient, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LastHidden:
    """Neural collapse at the input of the last layer with a kernel (Papyan, Han & Donoho 2020).

    Attributes:
        layer: Id of the classifier, whose input is looked at.
        n: Samples.
        n_classes: Classes with two samples or more.
        nc1: Variability within classes relative to that between them, tr(Σ_W Σ_B⁺)/K; 0 at collapse.
        nc2_norms: Unequal lengths of the centred class means, their standard deviation over their mean; 0 at collapse.
        nc2_angles: Mean of abs(cos + 1/(K − 1)) between centred class means; 0 at collapse.
        nc3: Distance of the classifier's weights from the class means, both normalised; 0 at collapse.
        nc4: Share of samples on which the nearest class mean agrees with the model; 1 at collapse.
    """

    layer: str
    n: int
    n_classes: int
    nc1: float | None
    nc2_norms: float | None
    nc2_angles: float | None
    nc3: float | None
    nc4: Estimate | None


@dataclass(frozen=True, kw_only=True, eq=False)
class InformationFlowResult:
    """Activations and gradients of one model.

    Attributes:
        n: Samples looked at.
        n_kept: Samples whose rows were kept for ranks, probes, similarity and percentiles.
        layers: Calls of layers in order of execution.
        skipped: Reason by layer id, for layers that could not be followed.
        cka_layers: Ids of the layers in ``cka``.
        cka: ``(L, L)`` linear CKA between layers over the kept samples, unbiased (Nguyen et al. 2021); NaN where a
            layer does not vary.
        gradients: Gradients of a loss; None where no loss could be formed.
        gradients_reason: Why there are none.
        last_hidden: Neural collapse; None without classes.
        findings: What is wrong.
    """

    n: int
    n_kept: int = 0
    layers: tuple[LayerFlow, ...]
    skipped: dict[str, str]
    cka_layers: tuple[str, ...] = ()
    cka: NDArray[np.float64] | None = None
    gradients: GradientFlow | None = None
    gradients_reason: str | None = None
    last_hidden: LastHidden | None = None
    findings: tuple[Finding, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """One row per layer call, for `AnalysisResults.to_frame`."""
        return [flat_row(layer) for layer in self.layers]
