"""What is wrong or remarkable about what passes through a model, said in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analyzer.analyzers.layer_flow import linear_rank, variance_gain
from analyzer.data_types.information_flow import GradientFlow, LayerFlow
from analyzer.data_types.values import Finding, Severity
from analyzer.inspection.activations import GatheredActivations, LayerActivations

DEAD_SHARE = 0.5
"""A layer more than half of whose units never fire has less capacity than its width says."""

SATURATED_UNITS = 0.5
"""Likewise for units that rest at a bound, where their gradient is gone."""

EXPLODING_GAIN = 20.0
"""Root of the gain, of mean square and of variance, from which one layer blows up its input; trained layers have 0.1–5
unless they normalise."""

LOW_RANK = 0.25
"""Share of the directions that could pass below which a layer is a bottleneck."""

FEWEST_DIRECTIONS = 8
"""Layers that could pass fewer directions anyway are not judged."""

COLLAPSE = 0.1
"""Effective rank, relative to that of the input, below which the representation has collapsed on the way."""

GRADIENT_RATIO = 1e4
"""Ratio between gradient norms of the first and the last hidden layer with weights that counts as vanishing or
exploding; 20 layers that each change it by a factor of 1.6 reach it."""


@dataclass(frozen=True, kw_only=True)
class FlowEvidence:
    """What the findings are made of.

    Attributes:
        found: Material of every call.
        layers: Their results, in the same order.
        gradients: Gradients of a loss, or None.
        n: Samples looked at.
    """

    found: GatheredActivations
    layers: Sequence[LayerFlow]
    gradients: GradientFlow | None
    n: int

    @property
    def pairs(self) -> list[tuple[LayerActivations, LayerFlow]]:
        """Material and result of each call."""
        return list(zip(self.found.calls, self.layers, strict=True))


def flow_findings(evidence: FlowEvidence) -> list[Finding]:
    """All findings, in order of execution within each kind."""
    kinds = (_not_finite, _dead, _saturated, _exploding, _low_rank, _collapse, _duplicates, _gradients_by_depth)
    return [*(finding for kind in kinds for finding in kind(evidence)), *_dead_gradients(evidence)]


def _not_finite(evidence: FlowEvidence) -> Iterator[Finding]:
    """The first layer only: what is broken stays broken downstream."""
    broken = next((layer for layer in evidence.layers if layer.not_finite_units), None)
    if broken is not None:
        yield _finding(
            "not_finite",
            broken.id,
            "error",
            f"NaN or infinity first appears in the output of {broken.id}. Look at its weights and inputs.",
            units=broken.not_finite_units,
            of=broken.n_units,
            n=evidence.n,
        )


def _dead(evidence: FlowEvidence) -> Iterator[Finding]:
    for layer in evidence.layers:
        dead = layer.dead_units
        if not dead:
            continue
        share = dead / layer.n_units
        yield _finding(
            "dead_units",
            layer.id,
            "error" if share == 1 else "warning" if share > DEAD_SHARE else "info",
            f"{dead} of {layer.n_units} units of {layer.id} were zero for all {evidence.n} samples. Lower the learning "
            "rate, warm it up, or use a leaky activation if the width is needed.",
            dead_units=dead,
            units=layer.n_units,
            share=share,
            threshold=DEAD_SHARE,
            n=evidence.n,
            may_still_fire=layer.dead_bound,
        )


def _saturated(evidence: FlowEvidence) -> Iterator[Finding]:
    for call, layer in evidence.pairs:
        saturated = layer.saturated_units
        if not saturated:
            continue
        share = saturated / layer.n_units
        yield _finding(
            "saturated_units",
            layer.id,
            "warning" if share > SATURATED_UNITS else "info",
            f"{saturated} of {layer.n_units} units of {layer.id} rest at a bound of {call.activation}, where hardly "
            "any gradient passes. Normalise its inputs, or scale down its initialiser or learning rate.",
            saturated_units=saturated,
            units=layer.n_units,
            share=share,
            threshold=SATURATED_UNITS,
            n=evidence.found.n_kept,
        )


def _exploding(evidence: FlowEvidence) -> Iterator[Finding]:
    for call, layer in evidence.pairs:
        spread = variance_gain(call, evidence.found)
        if layer.gain is None or spread is None or "Normalization" in layer.kind or call.fan_in is None:
            continue
        gain = math.sqrt(min(layer.gain, spread))
        if gain > EXPLODING_GAIN:
            yield _finding(
                "exploding_activations",
                layer.id,
                "warning",
                f"{layer.id} makes its input {gain:.3g} times as large. What follows is out of the range it was "
                "trained or initialised for: check the scale of its weights, or normalise.",
                gain=gain,
                threshold=EXPLODING_GAIN,
                n=evidence.n,
            )


def _low_rank(evidence: FlowEvidence) -> Iterator[Finding]:
    for call, layer in evidence.pairs:
        rank, possible = linear_rank(call), _possible_rank(call, evidence.found)
        if rank is None or possible is None or possible < FEWEST_DIRECTIONS or rank > LOW_RANK * possible:
            continue
        yield _finding(
            "bottleneck",
            layer.id,
            "warning",
            f"{layer.id} lets {rank} of {possible} possible directions through, so no later layer can tell apart what "
            "lies in the others. Its kernel has lost rank: check learning rate, regularisation and initialiser.",
            rank=rank,
            possible=possible,
            threshold=LOW_RANK,
            n=layer.n_rows,
        )


def _possible_rank(call: LayerActivations, found: GatheredActivations) -> int | None:
    """Directions that a full-rank kernel would pass of what the layer receives; None for layers without a kernel."""
    if call.fan_in is None:
        return None
    dimensions = call.representation.dimensionality
    limits = [dimensions.d, dimensions.n - 1, call.fan_in]
    for source in call.sources:
        if source is not None and source >= 0:
            before = found.calls[source]
            received = before.representation.dimensionality.numerical_rank
            # A kernel that spans several positions sees the directions of each.
            spans = max(1, round(call.fan_in / max(1, len(before.moments["mean"]))))
            limits.append((received or 0) * spans)
        elif source == -1 and found.input_rank is not None:
            limits.append(found.input_rank)
    return min(limits)


def _collapse(evidence: FlowEvidence) -> Iterator[Finding]:
    for call, layer in evidence.pairs:
        received = [
            rank
            for source in call.sources
            if source is not None and source >= 0 and (rank := found_rank(evidence.found.calls[source])) is not None
        ]
        rank = found_rank(call)
        if call.is_output or rank is None or not received or layer.n_units < FEWEST_DIRECTIONS:
            continue
        if rank < COLLAPSE * min(*received, layer.effective_rank_ceiling or 0):
            yield _finding(
                "rank_collapse",
                layer.id,
                "info",
                f"The effective rank falls from {max(received):.3g} to {rank:.3g} in {layer.id}. Close to the output "
                "of a classifier that is neural collapse; earlier it loses what later layers could have used.",
                effective_rank=rank,
                before=max(received),
                threshold=COLLAPSE,
                n=layer.n_rows,
            )


def found_rank(call: LayerActivations) -> float | None:
    """Effective rank of what a call returned."""
    return call.representation.dimensionality.effective_rank


def _duplicates(evidence: FlowEvidence) -> Iterator[Finding]:
    """Only where a kernel makes them: layers that follow hand them on."""
    for call, layer in evidence.pairs:
        groups = call.representation.duplicates
        if not groups or call.fan_in is None:
            continue
        repeated = sum(len(group) - 1 for group in groups)
        yield _finding(
            "duplicate_units",
            layer.id,
            "warning",
            f"{repeated} of {layer.n_units} units of {layer.id} repeat another one up to scale and shift (for one, "
            f"unit {groups[0][1]} repeats {groups[0][0]}). They add parameters and no information: prune them, or "
            "check that the initialiser breaks the symmetry.",
            duplicates=repeated,
            units=layer.n_units,
            first=groups[0][0],
            second=groups[0][1],
            n=layer.n_rows,
        )


def _gradients_by_depth(evidence: FlowEvidence) -> Iterator[Finding]:
    """From the last hidden layer with weights back to the first."""
    norms = [
        (layer.id, layer.gradient_norm.value)
        for call, layer in evidence.pairs
        if call.fan_in is not None
        and not call.is_output
        and layer.gradient_norm is not None
        and layer.gradient_norm.value
    ]
    if len(norms) < 2:
        return
    (first, at_first), (last, at_last) = norms[0], norms[-1]
    ratio = at_first / at_last
    if ratio < 1 / GRADIENT_RATIO or ratio > GRADIENT_RATIO:
        fades = ratio < 1
        yield _finding(
            "vanishing_gradient" if fades else "exploding_gradient",
            first,
            "warning",
            f"The gradient at {first} has {ratio:.2g} times the norm of that at {last}. "
            + (
                "Early layers hardly learn: use residual connections, normalisation, or another activation."
                if fades
                else "Training will be unstable: clip gradients, normalise, or scale down the weights."
            ),
            ratio=ratio,
            at_first=at_first,
            at_last=at_last,
            threshold=GRADIENT_RATIO,
            n=evidence.gradients.n if evidence.gradients is not None else None,
        )


def _dead_gradients(evidence: FlowEvidence) -> Iterator[Finding]:
    """Variables that the loss does not depend on, unless they never could make a difference."""
    if evidence.gradients is None:
        return
    norms = [v.norm for v in evidence.gradients.variables if v.norm]
    if not norms:
        return
    threshold = 1e-6 * float(np.median(norms))
    for variable in evidence.gradients.variables:
        if variable.norm is None or variable.norm > threshold or variable.structural_zero is not None:
            continue
        yield _finding(
            "dead_gradient",
            variable.id.rpartition("/")[0],
            "warning",
            f"No gradient reaches {variable.id} from any of {evidence.gradients.n} samples, so it cannot learn. "
            "Look for dead or saturated units behind it.",
            variable=variable.id,
            norm=variable.norm,
            threshold=threshold,
            n=evidence.gradients.n,
        )


def _finding(kind: str, layer: str | None, severity: Severity, message: str, /, **evidence: Any) -> Finding:
    numbers: Mapping[str, Any] = evidence
    return Finding(kind=kind, layer=layer, severity=severity, evidence=numbers, message=message)
