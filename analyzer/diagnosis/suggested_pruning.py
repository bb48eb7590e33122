"""Which channels can go: chosen on half of the samples, measured on the other half."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.inspection_report import Effect, Suggestion
from analyzer.data_types.values import Estimate
from analyzer.diagnosis.channel_contributions import contributions, weakest
from analyzer.diagnosis.channel_parts import ChannelGroup
from analyzer.diagnosis.evidence import Evidence
from analyzer.diagnosis.modeltrace.outcomes import decisions, verdicts
from analyzer.diagnosis.pruning import groups_of, pruned
from analyzer.errors import Unsupported
from analyzer.inspection import inputs
from analyzer.inspection.features import open_on
from analyzer.inspection.view import ModelView
from analyzer.measures.bootstrap import wilson
from analyzer.measures.paired_proportions import mcnemar
from analyzer.measures.random_streams import stream

FRACTIONS = (0.5, 0.25, 0.1)
"""Shares of channels that are tried, largest first."""

TOLERANCE = 0.01
"""Accuracy, or share of equal decisions, that may be lost on the samples that the choice is made on."""

FEWEST_SAMPLES = 40
"""Below, a loss of one percent cannot be told from none, and only channels that bring nothing are suggested."""

SILENT = 1e-12
"""Share of what a layer hands on, below which a channel brings nothing."""

Removed = dict[str, NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class _Measured:
    """A pruned model on some samples.

    Attributes:
        name: What was measured.
        before: Of the model itself, which samples are right; for agreement, all.
        after: Of the pruned model.
    """

    name: str
    before: NDArray[np.bool_]
    after: NDArray[np.bool_]

    @property
    def loss(self) -> float:
        return float(self.before.mean() - self.after.mean())

    def effect(self) -> Effect:
        n = len(self.before)
        return Effect(
            quantity=self.name,
            before=wilson(int(self.before.sum()), n),
            after=wilson(int(self.after.sum()), n),
            change=mcnemar(self.before, self.after).change,
            basis="measured",
        )


def suggest_pruning(evidence: Evidence) -> Suggestion | None:
    """The largest share of channels whose loss cost next to nothing, with what it costs on other samples.

    Args:
        evidence: What is known; labels make accuracy the measure, else it is the share of equal decisions.

    Returns:
        None where nothing can go.

    Raises:
        Unsupported: If there is nothing to judge by.
        ModelError: If the model cannot be pruned.
    """
    if evidence.arranged is None:
        raise Unsupported("It needs samples: give x.")
    groups, _ = groups_of(evidence.view)
    n = inputs.count(evidence.arranged)
    order = stream(evidence.seed, 43).permutation(n)
    chosen_on, measured_on = np.sort(order[: (n + 1) // 2]), np.sort(order[(n + 1) // 2 :])
    if n < FEWEST_SAMPLES:
        chosen_on = measured_on = np.arange(n)
    brought = contributions(evidence.view, groups, inputs.take(evidence.arranged, chosen_on), evidence.batch_size)
    silent = {
        name: np.flatnonzero(share <= SILENT)
        for name, share in brought.items()
        if 0 < np.sum(share <= SILENT) < len(share)
    }
    candidates = [] if n < FEWEST_SAMPLES else [_with(weakest(brought, share), silent) for share in FRACTIONS]
    for number, removed in enumerate([*candidates, silent]):
        evidence.told("pruning", number, len(candidates) + 1)
        if not removed:
            continue
        smaller = _smaller(evidence, groups, removed)
        if _measured(evidence, smaller, chosen_on).loss <= TOLERANCE:
            final = _measured(evidence, smaller, measured_on)
            return _suggestion(evidence, smaller, removed, final, silent) if final.loss <= 2 * TOLERANCE else None
    return None


def _with(removed: Removed, silent: Removed) -> Removed:
    names = dict.fromkeys([*removed, *silent])
    return {name: np.union1d(removed.get(name, []), silent.get(name, [])).astype(np.int64) for name in names}


def _smaller(evidence: Evidence, groups: Mapping[str, ChannelGroup], removed: Removed) -> ModelView:
    arranged = evidence.arranged
    return open_on(pruned(evidence.view, groups, removed, arranged), arranged)


def _measured(evidence: Evidence, smaller: ModelView, rows: NDArray[np.int64]) -> _Measured:
    some = inputs.take(evidence.arranged, rows)
    outputs = [evidence.output(view, some, rows) for view in (evidence.view, smaller)]
    right = [verdicts(output) for output in outputs]
    if right[0] is not None and right[1] is not None:
        return _Measured("accuracy", right[0], right[1])
    chosen = [decisions(output) for output in outputs]
    if chosen[0] is None or chosen[1] is None:
        raise Unsupported("What pruning costs is only known for a model that chooses one class per sample.")
    return _Measured("share of equal decisions", np.ones(len(rows), bool), chosen[0] == chosen[1])


def _suggestion(
    evidence: Evidence, smaller: ModelView, removed: Removed, final: _Measured, silent: Removed
) -> Suggestion:
    before, after = evidence.view.model.count_params(), smaller.model.count_params()
    n_channels = sum(len(gone) for gone in removed.values())
    n_silent = sum(len(gone) for gone in silent.values())
    layers = next(iter(removed)) if len(removed) == 1 else f"{len(removed)} layers"
    parameters = Effect(
        quantity="parameters",
        before=Estimate(value=float(before), n=before),
        after=Estimate(value=float(after), n=after),
        change=Estimate(value=float(after - before), n=before),
        basis="measured",
    )
    effect = final.effect()
    return Suggestion(
        kind="prune",
        message=f"Prune {n_channels} channels of {layers} ({n_silent} of them bring nothing on x): "
        f"{before - after} of {before} parameters go, {effect.quantity} is {float(final.after.mean()):.4g} after "
        f"{float(final.before.mean()):.4g}. prune(model, channels=suggestion.channels).",
        evidence={
            "channels": n_channels,
            "silent_channels": n_silent,
            "n": len(final.before),
            "tolerance": TOLERANCE,
        },
        effects=(effect, parameters),
        channels={name: tuple(gone.tolist()) for name, gone in removed.items()},
    )
