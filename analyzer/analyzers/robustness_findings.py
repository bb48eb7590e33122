"""What attacks and corruptions say about a model, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analyzer.data_types.layer_faults import LayersAtFault
from analyzer.data_types.robustness import CorruptionResult, MaskingFlag, ThreatModel
from analyzer.data_types.values import Estimate, Finding

FRAGILE = 0.1
"""Robust accuracy at ε_max, over the clean one, below which a model holds next to nothing."""

HARMFUL = 0.5
"""Share of the clean accuracy that a cell of corruption may cost before it is worth a sentence."""


def robustness_findings(
    clean: Estimate,
    score: Estimate | None,
    robust: Estimate | None,
    threat: ThreatModel,
    flags: Sequence[MaskingFlag],
    corruptions: CorruptionResult | None,
    layers: LayersAtFault | None = None,
) -> Iterator[Finding]:
    """What is wrong or remarkable.

    Args:
        clean: Accuracy on the samples as they are.
        score: AURA; None where it is withheld.
        robust: Accuracy under attack at the largest radius; None where it is withheld.
        threat: What the attacker may do.
        flags: What may have misled the attacks.
        corruptions: Accuracy under corruptions, where measured.
        layers: Which layers are at fault, where that can be told.
    """
    for flag in flags:
        yield Finding(
            kind=f"gradient_masking_{flag.name}",
            layer=None,
            severity="warning" if flag.severity == "withholds" else "info",
            evidence={"value": flag.value, "n": flag.n},
            message=flag.message,
        )
    yield from _fragile(clean, score, robust, threat)
    if corruptions is not None:
        yield from _corrupted(clean, corruptions)
    if layers is not None:
        yield from _at_fault(layers)


def _fragile(
    clean: Estimate, score: Estimate | None, robust: Estimate | None, threat: ThreatModel
) -> Iterator[Finding]:
    if score is None or robust is None or not clean.value or robust.value is None:
        return
    left = robust.value / clean.value
    if left < FRAGILE:
        yield Finding(
            kind="not_robust_at_epsilon_max",
            layer=None,
            severity="info",
            evidence={
                "robust_accuracy": robust.value,
                "clean_accuracy": clean.value,
                "epsilon_max": threat.epsilon_max,
            },
            message=(
                f"Within {threat.epsilon_max:g} ({threat.norm}) of the samples, {robust.value:.1%} are still decided "
                f"rightly, of {clean.value:.1%} as they are. Where inputs can be tampered with, train on attacked ones."
            ),
        )


def _corrupted(clean: Estimate, corruptions: CorruptionResult) -> Iterator[Finding]:
    if not clean.value:
        return
    lost = 1 - corruptions.worst_accuracy / clean.value
    if lost > HARMFUL:
        yield Finding(
            kind="corruption_breaks_decisions",
            layer=None,
            severity="info",
            evidence={
                "corruption": corruptions.worst_corruption,
                "severity": corruptions.worst_severity,
                "accuracy": corruptions.worst_accuracy,
                "clean_accuracy": clean.value,
                "n": corruptions.n,
            },
            message=(
                f"{corruptions.worst_corruption!r} at severity {corruptions.worst_severity} leaves an accuracy of "
                f"{corruptions.worst_accuracy:.1%}, of {clean.value:.1%}. Where such inputs occur, train on them."
            ),
        )


def _at_fault(layers: LayersAtFault) -> Iterator[Finding]:
    """The branch that does more than all others beyond doubt, if it does so to failures rather than to any move."""
    first = layers.accused
    if first is None:
        return
    share = first.share.failures
    yield Finding(
        kind="layer_at_fault",
        layer=first.id,
        severity="info",
        evidence={
            "share": share.value,
            "share_low": share.low,
            "share_high": share.high,
            "share_of_controls": first.share.controls.value,
            "ahead": None if layers.ahead is None else layers.ahead.value,
            "n_failures": layers.n_used_failures,
            "n_controls": layers.n_used_controls,
        },
        message=(
            f"Of the lead that attacks take from {layers.n_used_failures} samples, {_percent(share)} goes through the "
            f"branch that ends in {first.id!r}: more than through any other, or around all of them, and more than "
            "random steps take there. Constrain its weights, or train it on attacked samples."
        ),
    )


def _percent(share: Estimate) -> str:
    ends = "" if share.low is None or share.high is None else f" (95 %: {share.low:.0%} to {share.high:.0%})"
    return f"{float(share):.0%}{ends}"
