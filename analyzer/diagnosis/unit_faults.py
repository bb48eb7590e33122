"""`units_at_fault`: which channels, positions or heads of a layer a failure goes through, also on a chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.values import Estimate
from analyzer.diagnosis.cases import Cases, find_cases
from analyzer.diagnosis.fault_results import UnitFault, UnitsAtFault
from analyzer.diagnosis.patchable import Patchable
from analyzer.diagnosis.patching import Patch, patch_together, patch_units
from analyzer.diagnosis.units import By, Index, Units, units_of
from analyzer.errors import Unsupported
from analyzer.inspection.features import arranged_for, check_whole, open_on, opened
from analyzer.inspection.guard import untouched_process
from analyzer.inspection.inputs import input_names
from analyzer.inspection.selection import Layers
from analyzer.measures.fault import Groups
from analyzer.relevance.explain import explain

Floats = NDArray[np.float64]

LARGEST_GAP = 0.05
"""Share of the lost lead by which conductance may miss it before the result says so."""


def units_at_fault(
    model: keras.Model | str | Path,
    x: Any,
    x_moved: Any,
    y: Any,
    layer: Layers,
    *,
    by: By = "channels",
    max_units: int = 64,
    steps: int = 16,
    max_samples: int = 128,
    n_bootstrap: int = 1000,
    batch_size: int = 32,
    seed: int = 0,
) -> UnitsAtFault:
    """Which channels, positions or heads of a layer a failure goes through.

    Args:
        model: A built classifier of one output, or the path of a ``.keras`` file.
        x: Samples as they are.
        x_moved: The same samples, each one moved: attacked, corrupted or shifted.
        y: Classes, or one-hot rows.
        layer: Name or id of one layer, or one of its calls (``"conv@2"``).
        by: ``"channels"``, ``"positions"`` (of a grid, a series or tokens), or ``"heads"`` of a layer of the kind of
            `keras.layers.MultiHeadAttention`.
        max_units: Most units to patch; of more, those that most conductance goes through in failures.
        steps: Pieces of the path for conductance.
        max_samples: Most failures, and most controls.
        n_bootstrap: Draws behind each interval; 0 computes none.
        batch_size: Most samples per batch.
        seed: Seed of all draws.

    Returns:
        A row per unit, each on both groups.

    Raises:
        ConfigError: If an option has no such value, or the layer no such units.
        DataError: If x, x_moved and y do not fit each other or the model.
        ModelError: If the model was never built or its file cannot be opened.
        Unsupported: If the model does not make one decision per sample, or none of the samples fails.
    """
    options = {"max_units": max_units, "steps": steps, "max_samples": max_samples, "batch_size": batch_size}
    for name, value in options.items():
        check_whole(name, value)
    with opened(model) as live, untouched_process():
        patchable = Patchable(view=open_on(live, arranged_for(live, x)), batch_size=batch_size)
        units = units_of(patchable.view, layer, by)
        cases = find_cases(patchable, x, x_moved, y, most=max_samples, seed=seed)
        flowing, notes = _conductance(patchable, cases, units, steps)
        chosen = _chosen(cases, units, flowing, max_units)
        patches = patch_units(patchable, cases, units, chosen)
        whole = patch_together(patchable, cases, units.calls)
    if len(chosen) < units.count:
        notes.append(
            f"{len(chosen)} of {units.count} {by} were patched: those that most conductance goes through. Where "
            "functions saturate, it can miss one; raise max_units to patch all."
        )
    groups = cases.groups(n_bootstrap, seed)
    ordered = sorted(chosen, key=lambda index: -patches[index].mean[cases.failed].sum())
    culprit, ahead = _culprit(ordered, patches, cases, groups)
    return UnitsAtFault(
        layer=units.layer,
        by=by,
        n_units=units.count,
        n_samples=cases.n_samples,
        n_failures=cases.n_failures,
        n_controls=cases.n_controls,
        n_used=(int(cases.failed.sum()), int((~cases.failed).sum())),
        whole=groups.share(whole.mean, cases.lost),
        units=tuple(_unit(index, patches[index], flowing, cases, groups) for index in ordered),
        culprit=culprit,
        ahead=ahead,
        notes=tuple(notes),
    )


def _conductance(
    model: Patchable, cases: Cases, units: Units, steps: int
) -> tuple[dict[Index, Floats] | None, list[str]]:
    """Lead that each unit takes away along the path from x to the moved x, ``(n,)``; and what must be said of it.

    Conductance is linear in what it explains, so that of a difference of logits is the difference of two.
    """
    view = model.view
    binary = view.heads[0].shape[-1] == 1
    names = input_names(view.model, cases.x)
    baseline = dict(zip(names, keras.tree.flatten(cases.x), strict=True))

    def through(classes: NDArray[np.int64]) -> tuple[dict[Index, Floats], Floats]:
        found = explain(
            view.model,
            cases.moved,
            target=classes,
            method="layer_conductance",
            layers=[call.id for call in units.calls],
            task="binary" if binary else "multiclass",
            batch_size=model.batch_size,
            options={"steps": steps, "baseline": baseline},
        )
        gap = np.asarray(found.measured["completeness_gap"], np.float64)
        return {index: units.summed(found.layers, index) for index in units}, gap

    try:
        own, gap = through(cases.y)
        # The one logit of a binary output speaks for class 1 and against class 0: it is the lead already.
        other, other_gap = ({}, 0.0) if binary else through(cases.other)
    except Unsupported as reason:
        return None, [f"No conductance: {reason}"]
    missing = float(np.abs(gap - other_gap).mean() / np.abs(cases.lost).mean())
    notes = []
    if missing > LARGEST_GAP:
        notes.append(
            f"Conductance misses {missing:.0%} of the lost lead: the path bends more than {steps} steps follow. Raise "
            "steps."
        )
    return {index: other.get(index, 0.0) - value for index, value in own.items()}, notes


def _chosen(cases: Cases, units: Units, flowing: Mapping[Index, Floats] | None, most: int) -> list[Index]:
    everything = list(units)
    if flowing is None or len(everything) <= most:
        return everything
    return sorted(everything, key=lambda index: -np.abs(flowing[index][cases.failed]).sum())[:most]


def _culprit(
    ordered: Sequence[Index], patches: Mapping[Index, Patch], cases: Cases, groups: Groups
) -> tuple[Index | None, Estimate | None]:
    """The first unit if it is ahead of every other beyond doubt; and how far it is ahead of the second."""
    if len(ordered) < 2:
        return None, None
    first = patches[ordered[0]].mean
    leads = [groups.share(first - patches[other].mean, cases.lost).failures for other in ordered[1:]]
    sure = all(lead.low is not None and lead.low > 0 for lead in leads)
    return ordered[0] if sure else None, leads[0]


def _unit(
    index: Index, patch: Patch, flowing: Mapping[Index, Floats] | None, cases: Cases, groups: Groups
) -> UnitFault:
    return UnitFault(
        index=index,
        share=groups.share(patch.mean, cases.lost),
        noising=groups.share(patch.noising, cases.lost),
        denoising=groups.share(patch.denoising, cases.lost),
        conductance=None if flowing is None else groups.share(flowing[index], cases.lost),
    )
