"""What relevance says about a model, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analyzer.data_types.relevance import Conservation, LayerRelevance
from analyzer.data_types.values import Finding
from analyzer.relevance.gathered import GatheredRelevance

MANY_SILENT = 0.25
"""Share of a layer's units that must be silent before they are worth a sentence."""

MOSTLY_BIAS = 0.5
"""Share of the start value that biases may hold before maps say less than half."""


def relevance_findings(
    found: GatheredRelevance, layers: Sequence[LayerRelevance], conservation: Conservation
) -> Iterator[Finding]:
    """What is wrong or remarkable.

    Args:
        found: Explanations.
        layers: Calls of layers.
        conservation: The books of the whole model.
    """
    yield from _broken(conservation)
    yield from _bias(conservation)
    yield from _unfaithful(found)
    yield from _silent(layers, len(found.score))


def _broken(conservation: Conservation) -> Iterator[Finding]:
    if conservation.first_break is None:
        return
    fraction = conservation.unexplained_fraction or 0.0
    yield Finding(
        kind="relevance_break",
        layer=conservation.first_break,
        severity="warning",
        evidence={"unexplained_fraction": fraction, "tolerance": conservation.tolerance},
        message=(
            f"Up to {fraction:.1%} of the explained value is lost or made at a single place, first at "
            f"{conservation.first_break!r}: operations there have no rule. Give it one with @register_rule before "
            "trusting maps of what lies before it."
        ),
    )


def _bias(conservation: Conservation) -> Iterator[Finding]:
    held = conservation.absorbed_by_bias
    if held is None or abs(held) <= MOSTLY_BIAS:
        return
    yield Finding(
        kind="relevance_in_biases",
        layer=None,
        severity="info",
        evidence={"absorbed_by_bias": held, "threshold": MOSTLY_BIAS},
        message=(
            f"Biases hold {held:.0%} of the explained value: maps of the inputs show only the rest. A preset with "
            "with_zero_bias() shares it out among the inputs."
        ),
    )


def _unfaithful(found: GatheredRelevance) -> Iterator[Finding]:
    measured = found.faithfulness
    difference = None if measured is None else measured.abpc.difference
    if difference is None or difference.low is None or difference.high is None or difference.low > 0:
        return
    worse = difference.high < 0
    yield Finding(
        kind="relevance_not_better_than_random",
        layer=None,
        severity="warning",
        evidence={
            "abpc_difference": difference.value,
            "low": difference.low,
            "high": difference.high,
            "n": difference.n,
        },
        message=(
            f"The order in which the maps name features is {'worse than' if worse else 'not distinguishable from'} a "
            f"random order at n = {difference.n}: the area between the perturbation curves differs by {difference}. "
            "Compare methods with compare_methods() before reading these maps."
        ),
    )


def _silent(layers: Sequence[LayerRelevance], n: int) -> Iterator[Finding]:
    for layer in layers:
        if layer.silent_units is None or not layer.n_units or layer.n_units < 2 or layer.silent_bound is None:
            continue
        share = layer.silent_units / layer.n_units
        if share >= MANY_SILENT:
            yield Finding(
                kind="units_without_relevance",
                layer=layer.id,
                severity="info",
                evidence={
                    "silent_units": layer.silent_units,
                    "n_units": layer.n_units,
                    "n": n,
                    "bound": layer.silent_bound,
                },
                message=(
                    f"{layer.silent_units} of {layer.n_units} units of {layer.id!r} carried none of the decisions on "
                    f"{n} samples (95 % sure: each matters for fewer than {layer.silent_bound:.1%} of samples): "
                    "candidates for pruning."
                ),
            )
