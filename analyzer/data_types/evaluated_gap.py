"""Training data and held-out data, both evaluated by the finished model: the generalisation gap on an equal footing."""

from __future__ import annotations

from dataclasses import dataclass, field

from analyzer.data_types.values import Estimate


@dataclass(frozen=True, kw_only=True)
class EvaluatedGap:
    """One quantity of the finished model on the training data and on the data of the analysis.

    Attributes:
        train: Its value on the training data, with their n.
        held_out: Its value on the data of the analysis, with their n.
        gap: Held-out minus training value. Its n is the smaller of the two.
    """

    train: Estimate
    held_out: Estimate
    gap: Estimate


@dataclass(frozen=True, kw_only=True)
class EvaluatedOutput:
    """Loss and metrics of one output on both data, from the same program: no dropout, final weights, whole data.

    Attributes:
        loss_name: Name of the loss; None where it is not the same on both.
        loss: The loss, without regularisation terms; None where it could not be computed.
        normalized_gap: Its gap by the larger of the two losses, within [-1, 1]; None for losses that are not positive.
        metrics: Accuracy and metrics by name.
        notes: What could not be computed.
    """

    loss_name: str | None
    loss: EvaluatedGap | None
    normalized_gap: Estimate | None
    metrics: dict[str, EvaluatedGap] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
