"""How good an explanation is: scores per sample with their estimates, perturbation curves, and randomisation tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.data_types.values import Estimate

Better = Literal["larger", "smaller"]
Order = Literal["top_down", "bottom_up", "independent"]


@dataclass(frozen=True, kw_only=True, eq=False)
class QualityScore:
    """One measure of an explanation.

    Attributes:
        name: Name of the measure, e.g. ``"abpc"``.
        better: Which direction is better; None where neither is in itself.
        estimate: Mean over the samples for which the measure is defined; n counts these.
        values: ``(n,)`` the measure of each sample, NaN where it is undefined.
    """

    name: str
    better: Better | None
    estimate: Estimate
    values: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class PerturbationCurves:
    """The explained score while features are replaced in the order of their relevance (Samek et al. 2017).

    Attributes:
        baseline: What features were replaced by.
        fraction: ``(s,)`` share of the features that is gone, 0 to 1.
        most_first: ``(n, s)`` score with the most relevant features gone (MoRF); NaN for maps without an order.
        least_first: ``(n, s)`` with the least relevant gone (LeRF).
        abpc: Area between the curves, AUC(LeRF) − AUC(MoRF).
        comprehensiveness: Unperturbed score − AUC(MoRF).
        sufficiency: Unperturbed score − AUC(LeRF).
    """

    baseline: str
    fraction: NDArray[np.float64]
    most_first: NDArray[np.float64]
    least_first: NDArray[np.float64]
    abpc: QualityScore
    comprehensiveness: QualityScore
    sufficiency: QualityScore


@dataclass(frozen=True, kw_only=True)
class RandomizationStep:
    """The map of the model itself beside that with some layers' parameters drawn anew.

    Attributes:
        layer: Id of the layer that was randomised in this step.
        randomized: Ids of all layers that were random in this step.
        similarity: Similarity of the two maps, mean over samples.
    """

    layer: str
    randomized: tuple[str, ...]
    similarity: Estimate


@dataclass(frozen=True, kw_only=True)
class RandomizationTest:
    """Model-parameter randomisation test (Adebayo et al. 2018, arXiv 1810.03292).

    An explanation that stays the same when the model's parameters are random does not explain the model.

    Attributes:
        order: ``"top_down"`` randomises cascading from the output, ``"bottom_up"`` from the input, ``"independent"``
            one layer at a time.
        measure: How maps were compared.
        steps: One per layer, in the order in which they were randomised; never empty.
        mean_similarity: Mean over the steps, averaged over samples; smaller is better.
        entropy_rise: (H(R_random) − H(R)) / H(R) with every layer random (Hedström et al. 2024); larger is better.
        seed: Seed of the draws.
        skipped: Reason by layer id for layers whose parameters cannot be drawn anew.
    """

    order: Order
    measure: str
    steps: tuple[RandomizationStep, ...]
    mean_similarity: Estimate
    entropy_rise: Estimate
    seed: int
    skipped: dict[str, str]

    def to_frame(self) -> pd.DataFrame:
        """One row per step: layer, number of random layers, similarity with its interval."""
        rows = [
            {
                "layer": step.layer,
                "n_randomized": len(step.randomized),
                "similarity": step.similarity.value,
                "low": step.similarity.low,
                "high": step.similarity.high,
                "n": step.similarity.n,
            }
            for step in self.steps
        ]
        return pd.DataFrame(rows, columns=["layer", "n_randomized", "similarity", "low", "high", "n"])
