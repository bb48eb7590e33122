"""What passes through the layers of one model."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.values import Estimate, Finding


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerFlow:
    """Activations of one call of one layer, over all samples and positions.

    Attributes:
        id: Id of the layer; a further call of a shared layer has ``@2``, ``@3``, … appended.
        kind: Class of the layer.
        order: Rank by execution.
        n_units: Size of the last axis.
        n_values: Values behind each unit's statistics: samples times positions.
        mean: Mean over units, samples and positions.
        std: Standard deviation over the same (population).
        min: Smallest activation.
        max: Largest activation.
        sparsity: Share of exact zeros.
        positive_ratio: Share of activations above zero.
        dead_units: Units that were zero for every value looked at, of layers that end in a rectifier; None for others.
        dead_bound: Upper end of the one-sided 95 % Clopper–Pearson bound on how often such a unit may still fire.
        unit_mean: ``(n_units,)`` mean of each unit.
        unit_std: ``(n_units,)`` standard deviation of each unit.
        unit_zero_share: ``(n_units,)`` share of exact zeros of each unit.
        effective_rank: exp of the entropy of the normalised singular values of the centred samples (Roy & Vetterli
            2007), over the kept samples, averaged over positions; None below two samples.
        effective_rank_ceiling: min(n − 1, units): no sample of this size can show more.
    """

    id: str
    kind: str
    order: int
    n_units: int
    n_values: int
    mean: float | None
    std: float | None
    min: float | None
    max: float | None
    sparsity: float
    positive_ratio: float
    dead_units: int | None
    dead_bound: float | None
    unit_mean: NDArray[np.float64]
    unit_std: NDArray[np.float64]
    unit_zero_share: NDArray[np.float64]
    effective_rank: Estimate | None = None
    effective_rank_ceiling: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class InformationFlowResult:
    """Activations of one model.

    Attributes:
        n: Samples looked at.
        layers: Calls of layers in order of execution.
        skipped: Reason by layer id, for layers that could not be followed.
        findings: What is wrong.
    """

    n: int
    layers: tuple[LayerFlow, ...]
    skipped: dict[str, str]
    findings: tuple[Finding, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """One row per layer call, for `AnalysisResults.to_frame`."""
        names = [f.name for f in dataclasses.fields(LayerFlow) if not f.name.startswith("unit_")]
        return [
            {name: getattr(layer, name) for name in names}
            | {"effective_rank": None if layer.effective_rank is None else layer.effective_rank.value}
            for layer in self.layers
        ]
