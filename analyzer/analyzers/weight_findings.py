"""What is wrong or remarkable about the weights of a layer, said in words."""

from __future__ import annotations

from collections.abc import Iterator

from analyzer.data_types.values import Finding, Severity
from analyzer.data_types.weights import MATRIX_ROLES, HealthPart, TensorStatistics
from analyzer.inspection.weights import DescribedLayer
from analyzer.measures.health import severity, tensor_parts

SPARSE = 0.5
"""Share of exact zeros in a kernel from which it is called sparse: a remark, not a fault."""

RUNAWAY = 10.0
"""Ratio of the largest weight to the RMS from which single weights stand out; a million normal weights have 5."""

_ADVICE = {
    "non_finite": "has {value:.0f} weights that are NaN or infinite. Every output that depends on them is lost: go "
    "back to an earlier checkpoint, lower the learning rate or clip gradients.",
    "dead_channels": "has {count} of {channels} output channels whose weights vanish. They say the same for every "
    "input: prune them, or train with a lower learning rate or weaker regularisation.",
    "exploded_scale": "has {factor:.3g} times the scale that its initialiser gives ({initializer}). If no "
    "normalisation or later layer undoes it, lower the learning rate, clip gradients or add weight decay.",
    "vanished_scale": "has {factor:.3g} times the scale that its initialiser gives ({initializer}). Little signal "
    "passes unless a later layer undoes it: weaken the regularisation or check that gradients reach it.",
    "divergence": "has single weights of {factor:.3g} times the scale that its initialiser gives ({initializer}): they "
    "have run away from the rest. Clip gradients or constrain the weights.",
    "duplicate_filters": "has {count} of {channels} output channels that point in the direction of another. They "
    "carry the same information: prune them, or check that the initialiser breaks the symmetry.",
    "rank_one": "has {value:.2%} of its squared norm in a single direction (rank {rank} of {full_rank}): all outputs "
    "are nearly multiples of one number. The layer has collapsed; check the learning rate and the initialiser.",
    "clustered_at_extremes": "has {value:.1%} of its weights at the largest magnitude. A constraint or clipping holds "
    "them there: widen it, or lower the learning rate.",
    "saturation": "has {value:.1%} of its stored values at the end of the range of {dtype}. They were clipped: "
    "quantise with finer groups, or store in a wider dtype.",
}


def layer_findings(layer: DescribedLayer) -> Iterator[Finding]:
    """Findings about one layer, in the order of its variables.

    Args:
        layer: The described layer.
    """
    for tensor in layer.tensors:
        yield from _tensor_findings(tensor)


def _tensor_findings(tensor: TensorStatistics) -> Iterator[Finding]:
    graded = {part.kind: (part, found) for part in tensor_parts(tensor) if (found := severity(part)) is not None}
    if "exploded_scale" in graded and (tensor.max_norm or 0.0) < RUNAWAY * (tensor.rms or 0.0):
        # The largest weight is large because all are: one finding says it.
        graded.pop("divergence", None)
    for part, found in graded.values():
        yield _finding(tensor, part, found)
    if tensor.role in MATRIX_ROLES and SPARSE <= (tensor.zero_share or 0.0) < 1.0:
        evidence = {
            "tensor": tensor.id,
            "value": tensor.zero_share,
            "threshold": SPARSE,
            "unit": "share of exact zeros",
        }
        message = f"{tensor.id} is sparse: {tensor.zero_share:.1%} of its weights are exactly zero."
        yield Finding(kind="sparse", layer=tensor.layer, severity="info", evidence=evidence, message=message)
    if tensor.note is not None:
        evidence = {"tensor": tensor.id, "dtype": tensor.dtype}
        message = f"{tensor.id}: {tensor.note}"
        yield Finding(kind="not_read", layer=tensor.layer, severity="info", evidence=evidence, message=message)


def _finding(tensor: TensorStatistics, part: HealthPart, found: Severity) -> Finding:
    threshold = {"info": part.healthy_at, "warning": part.warning_at, "error": part.error_at}[found]
    untrained = part.kind == "dead_channels" and tensor.max_norm == 0.0 and tensor.initial_rms == 0.0
    if untrained:
        found, text = "warning", "is zero throughout, as its initialiser left it: no training has reached it."
    else:
        text = _ADVICE[part.kind].format(**_words(tensor, part))
    evidence: dict[str, float | int | str | bool | None] = {
        "tensor": tensor.id,
        "value": part.value,
        "threshold": threshold,
        "unit": part.unit,
        "reference": tensor.reference_rms,
        "initializer": tensor.initializer,
        "reason": part.reason,
    }
    kept = {key: value for key, value in evidence.items() if value is not None}
    return Finding(kind=part.kind, layer=tensor.layer, severity=found, evidence=kept, message=f"{tensor.id} {text}")


def _words(tensor: TensorStatistics, part: HealthPart) -> dict[str, object]:
    counts = {"dead_channels": tensor.dead_channels, "duplicate_filters": tensor.duplicate_channels}
    measured = tensor.max_norm if part.kind == "divergence" else tensor.rms
    return {
        "value": part.value,
        "count": counts.get(part.kind),
        "channels": tensor.channels,
        "factor": (measured or 0.0) / (tensor.reference_rms or 1.0),
        "initializer": tensor.initializer if tensor.initial_rms else "1/sqrt(inputs), its initialiser telling none",
        "rank": "unknown" if tensor.rank is None else tensor.rank,
        "full_rank": tensor.full_rank,
        "dtype": tensor.dtype,
    }
