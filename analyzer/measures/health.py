"""Health of weights: a few measured aspects, each graded by published thresholds, summed up by the worst.

No aspect depends on the size of a layer. Those that see scale compare it with what the layer's own initialiser would
give, in decades, with bounds so wide that a rescaling which keeps the function (one layer × 10, the next / 10) raises
at most a note: trained layers stay within a factor of ten of their initialisation, and ten times that is no warning.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from analyzer.data_types.values import Severity
from analyzer.data_types.weights import MATRIX_ROLES, Health, HealthPart, TensorStatistics

RULE = (
    "Each part scores 1 up to healthy_at, falls linearly to 0.5 at warning_at and to 0 at error_at. "
    "The score of a layer is that of its worst part, the score of a model that of its worst layer."
)

FEWEST_FOR_SCALE = 4
"""A kernel of fewer weights can be ten times smaller than its initialiser's scale by chance (three: 1 in 4000)."""

FEWEST_FOR_RANK = 4
"""A matrix with a smaller side has most of its energy in one direction anyway."""

FEWEST_FOR_EXTREMES = 64
"""Among fewer weights, one beside the largest is more than a percent."""


@dataclass(frozen=True)
class Grading:
    """Thresholds of one aspect, and why they are what they are."""

    healthy_at: float
    warning_at: float
    error_at: float
    unit: str
    reason: str

    def score(self, value: float) -> float:
        """1 to 0, piecewise linear, as `RULE` says."""
        if value <= self.healthy_at:
            return 1.0
        if value >= self.error_at:
            return 0.0
        if value <= self.warning_at:
            return 1.0 - 0.5 * (value - self.healthy_at) / (self.warning_at - self.healthy_at)
        return 0.5 * (self.error_at - value) / (self.error_at - self.warning_at)


GRADINGS: Mapping[str, Grading] = {
    "non_finite": Grading(
        0.0, 0.5, 1.0, "weights", "One NaN or infinity spreads to every output that depends on the weight."
    ),
    "dead_channels": Grading(
        0.0,
        0.25,
        0.9,
        "share of output channels",
        "A channel whose weights vanish says the same for every input; a few are ordinary in rectified networks (Lu et "
        "al. 2020), a quarter is capacity lost, nine tenths leave a layer that passes next to nothing.",
    ),
    "exploded_scale": Grading(
        1.0,
        2.0,
        3.0,
        "decades above the RMS of the initialiser",
        "Initialisers keep the variance of signals (Glorot & Bengio 2010; He et al. 2015); training moves it by less "
        "than a decade, and one more decade may be a rescaling that the next layer undoes.",
    ),
    "vanished_scale": Grading(
        1.0,
        2.0,
        3.0,
        "decades below the RMS of the initialiser",
        "Initialisers keep the variance of signals (Glorot & Bengio 2010; He et al. 2015); training moves it by less "
        "than a decade, and one more decade may be a rescaling that the next layer undoes.",
    ),
    "divergence": Grading(
        2.0,
        3.0,
        4.0,
        "decades of the largest weight above the RMS of the initialiser",
        "The largest of a billion normal weights is six standard deviations out; training with outliers reaches tens, "
        "and one decade more may be a rescaling. Beyond, single weights have run away.",
    ),
    "duplicate_filters": Grading(
        0.0,
        0.25,
        0.9,
        "share of living output channels",
        "Filters that point the same way carry the same information (cosine from 0.99, raised where chance would give "
        "it); they stay equal when training never broke their symmetry.",
    ),
    "rank_one": Grading(
        0.95,
        0.99,
        0.999,
        "share of the squared norm in one direction",
        "A random matrix of four or more rows and columns has well under 0.95 there; at 0.99 all outputs are multiples "
        "of one number up to a tenth of their size.",
    ),
    "clustered_at_extremes": Grading(
        0.02,
        0.2,
        1.0,
        "share of weights within 0.1 % of the largest magnitude",
        "A uniform tensor has 0.1 % there. More means that a constraint or clipping holds weights at their limit.",
    ),
    "saturation": Grading(
        0.1,
        0.25,
        0.9,
        "share of stored values at the end of their dtype's range",
        "Beyond the one code per scale that quantisation puts there; uniform weights in 4 bits have 7 %. More means "
        "that values were clipped.",
    ),
}
"""The aspects of health by the kind of finding that they raise."""


def grade(kind: str, value: float) -> HealthPart:
    """Score one measured aspect.

    Args:
        kind: A key of `GRADINGS`.
        value: The measured number, in the unit of the grading; may be infinite.
    """
    grading = GRADINGS[kind]
    return HealthPart(
        kind=kind,
        value=value,
        score=grading.score(value),
        healthy_at=grading.healthy_at,
        warning_at=grading.warning_at,
        error_at=grading.error_at,
        unit=grading.unit,
        reason=grading.reason,
    )


def severity(part: HealthPart) -> Severity | None:
    """The severity of the finding that a part raises; None where it is healthy."""
    if part.value >= part.error_at:
        return "error"
    if part.value >= part.warning_at:
        return "warning"
    return "info" if part.value > part.healthy_at else None


def tensor_parts(tensor: TensorStatistics) -> tuple[HealthPart, ...]:
    """Every aspect that can be judged of one variable.

    Args:
        tensor: Its statistics.

    Returns:
        The graded aspects; only ``non_finite`` for biases, statistics and other variables without channels.
    """
    parts = []
    if tensor.role != "quantization":
        parts.append(grade("non_finite", float(tensor.n_nan + tensor.n_inf)))
    if tensor.saturated_share is not None:
        parts.append(grade("saturation", tensor.saturated_share))
    if tensor.channels:
        parts.append(grade("dead_channels", (tensor.dead_channels or 0) / tensor.channels))
    if tensor.role in MATRIX_ROLES:
        parts += _kernel_parts(tensor)
    return tuple(parts)


def layer_health(tensors: Iterable[TensorStatistics]) -> Health:
    """Health of a layer: each aspect at its worst over the layer's variables, and the worst aspect as the score.

    Args:
        tensors: Statistics of all variables of the layer.
    """
    worst: dict[str, HealthPart] = {}
    for tensor in tensors:
        for part in tensor_parts(tensor):
            if part.kind not in worst or part.value > worst[part.kind].value:
                worst[part.kind] = part
    parts = tuple(worst[kind] for kind in GRADINGS if kind in worst)
    if not parts:
        return Health(score=None, rule=RULE)
    lowest = min(parts, key=lambda part: part.score)
    return Health(score=lowest.score, worst=lowest.kind if lowest.score < 1 else None, parts=parts, rule=RULE)


def model_health(layers: Mapping[str, Health]) -> Health:
    """Health of a model: that of its worst layer.

    Args:
        layers: Health by layer id, in order of execution.
    """
    judged = {name: health.score for name, health in layers.items() if health.score is not None}
    if not judged:
        return Health(score=None, rule=RULE)
    worst = min(judged, key=lambda name: judged[name])
    return Health(score=judged[worst], worst=worst if judged[worst] < 1 else None, rule=RULE)


def _kernel_parts(tensor: TensorStatistics) -> list[HealthPart]:
    parts = []
    reference, rms, largest = tensor.reference_rms, tensor.rms, tensor.max_norm
    alive = (tensor.channels or 0) - (tensor.dead_channels or 0)
    if reference and rms and largest and tensor.size >= FEWEST_FOR_SCALE:
        decades = math.log10(rms / reference)
        parts.append(grade("exploded_scale", max(decades, 0.0)))
        parts.append(grade("vanished_scale", max(-decades, 0.0)))
        parts.append(grade("divergence", max(math.log10(largest / reference), 0.0)))
    if tensor.duplicate_channels is not None and alive > 1:
        parts.append(grade("duplicate_filters", tensor.duplicate_channels / (alive - 1)))
    if tensor.top_energy_share is not None and (tensor.full_rank or 0) >= FEWEST_FOR_RANK and alive > 1:
        parts.append(grade("rank_one", tensor.top_energy_share))
    if tensor.extreme_share is not None and tensor.size >= FEWEST_FOR_EXTREMES:
        parts.append(grade("clustered_at_extremes", tensor.extreme_share))
    return parts
