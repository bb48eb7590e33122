"""From what was gathered at one call of a layer to its `LayerFlow`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from analyzer.data_types.information_flow import LayerFlow
from analyzer.data_types.values import Estimate
from analyzer.inspection.activations import RECTIFIERS, GatheredActivations, LayerActivations
from analyzer.inspection.gradients import GatheredGradients
from analyzer.measures.flow import still_alive_bound
from analyzer.measures.similarity import mean_with_interval


def describe_layer(
    call: LayerActivations, found: GatheredActivations, gradients: GatheredGradients | None, n: int
) -> LayerFlow:
    """One call of a layer.

    Args:
        call: What was gathered there.
        found: All calls, for its sources.
        gradients: Gradients of a loss, or None.
        n: Samples looked at.
    """
    moments, rows = call.moments, call.representation
    mean, variance = moments["mean"], moments["variance"]
    overall = mean.mean()
    dimensions = rows.dimensionality
    dead = int(((moments["min"] == 0) & (moments["max"] == 0)).sum()) if call.activation in RECTIFIERS else None
    probe, specialization = rows.probe, rows.specialization
    return LayerFlow(
        id=call.call.id,
        kind=call.call.layer.kind,
        order=call.call.layer.order,
        sources=tuple(found.calls[i].call.id for i in call.sources if i is not None and i >= 0),
        n_units=len(mean),
        n_positions=call.n_positions,
        n_values=int(moments["count"][0]),
        mean=finite(overall),
        std=finite(np.sqrt(variance.mean() + ((mean - overall) ** 2).mean())),
        min=finite(moments["min"].min()),
        max=finite(moments["max"].max()),
        sparsity=float(moments["zero_share"].mean()),
        positive_ratio=float(moments["positive_share"].mean()),
        percentiles=rows.percentiles,
        not_finite_units=int((~np.isfinite(moments["min"]) | ~np.isfinite(moments["max"])).sum()),
        dead_units=dead,
        dead_bound=still_alive_bound(n) if dead else None,
        saturated_units=rows.saturated_units,
        saturation=rows.saturation,
        dormant_ratio=rows.dormant_ratio,
        n_rows=dimensions.n,
        n_kept_positions=rows.n_positions,
        effective_rank=_estimate(dimensions.effective_rank, dimensions.n),
        effective_rank_ceiling=dimensions.ceiling if dimensions.n > 1 else None,
        rankme=dimensions.rankme,
        participation_ratio=dimensions.participation_ratio,
        stable_rank=dimensions.stable_rank,
        intrinsic_dimension=rows.intrinsic_dimension,
        linear_rank=linear_rank(call),
        mean_square=finite(mean_square(call)),
        gain=_ratio(mean_square(call), _of_sources(call, found, "mean square")),
        input_cosine=rows.input_cosine,
        **_gradient(call, gradients),
        separability=rows.separability,
        probe=None if probe is None else probe.score,
        probe_chance=None if probe is None else probe.chance,
        unit_similarity=rows.unit_similarity,
        position_similarity=rows.position_similarity,
        duplicate_units=sum(len(group) - 1 for group in rows.duplicates),
        specialization=None if specialization is None else specialization.score,
        unit_mean=mean,
        unit_std=np.sqrt(variance),
        unit_min=moments["min"],
        unit_max=moments["max"],
        unit_zero_share=moments["zero_share"],
        unit_positive_share=moments["positive_share"],
        unit_percentiles=rows.unit_percentiles,
        unit_specialization=None if specialization is None else specialization.unit_scores,
    )


def finite(value: Any) -> float | None:
    """The number, or None where it is NaN or infinite."""
    return float(value) if np.isfinite(value) else None


def mean_square(call: LayerActivations) -> float:
    """Mean of squared activations over units, positions and samples."""
    return float((call.moments["variance"] + call.moments["mean"] ** 2).mean())


def variance(call: LayerActivations) -> float:
    """Mean over units of their variance: what tells samples and positions apart."""
    return float(call.moments["variance"].mean())


def variance_gain(call: LayerActivations, found: GatheredActivations) -> float | None:
    """Variance over that of the layer's input; unlike the gain of mean square, no bias can raise it."""
    return _ratio(variance(call), _of_sources(call, found, "variance"))


def linear_rank(call: LayerActivations) -> int | None:
    """Directions that the layer lets through: the rank before its activation, or of what a linear layer returns."""
    if call.activation is None and call.fan_in is not None:
        return call.representation.dimensionality.numerical_rank
    return call.representation.linear_rank


def _of_sources(call: LayerActivations, found: GatheredActivations, what: str) -> float | None:
    """Mean over the sources of a quantity; None where one of them is not known."""
    values: list[float | None] = []
    for source in call.sources:
        if source is None:
            values.append(None)
        elif source < 0:
            known = found.input_moments
            values.append(None if known is None else known[0 if what == "mean square" else 1])
        else:
            of = mean_square if what == "mean square" else variance
            values.append(of(found.calls[source]))
    known_values = [value for value in values if value is not None]
    return float(np.mean(known_values)) if known_values and len(known_values) == len(values) else None


def _ratio(value: float, over: float | None) -> float | None:
    if over is None or not over > 0 or not math.isfinite(value) or not math.isfinite(over):
        return None
    return value / over


def _estimate(value: float | None, n: int) -> Estimate | None:
    return None if value is None else Estimate(value=value, n=n)


def _gradient(call: LayerActivations, gradients: GatheredGradients | None) -> dict[str, Any]:
    norms = None if gradients is None else gradients.outputs.get(call.key)
    if gradients is None or norms is None:
        return {"gradient_norm": None, "gradient_scale": None}
    if not np.isfinite(norms).all():
        return {"gradient_norm": Estimate(value=None, n=len(norms)), "gradient_scale": None}
    return {
        "gradient_norm": mean_with_interval(norms, bounds=(0.0, math.inf)),
        "gradient_scale": float(np.sqrt(np.mean(norms**2) / gradients.sizes[call.key])),
    }
