"""`layers_at_fault`: which layers turn a moved input into a wrong decision, on real failures against controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.layer_faults import BranchFault, LayerFault, LayersAtFault
from analyzer.data_types.values import Estimate
from analyzer.diagnosis.amplification import Amplification, amplification, relative_shifts
from analyzer.diagnosis.branches import BranchShares, find_branches, split_among
from analyzer.diagnosis.cases import Cases, find_cases
from analyzer.diagnosis.noise_gain import noise_gains
from analyzer.diagnosis.patchable import Patchable, patchable_calls
from analyzer.diagnosis.patching import Patch, patch_layers
from analyzer.errors import ConfigError
from analyzer.inspection.features import arranged_for, check_whole, open_on, opened
from analyzer.inspection.followed import Followed
from analyzer.inspection.guard import untouched_process
from analyzer.inspection.selection import LayerCall, Layers, select_calls
from analyzer.measures.fault import Groups

Floats = NDArray[np.float64]

Step = Callable[[int, int], None]
"""Progress: steps done, steps in all."""

STEPS = 3
"""Patching layers, putting noise into them, splitting the damage among branches."""

FEW = 20
"""Below this many failures the result says that they are few."""


def layers_at_fault(
    model: keras.Model | str | Path,
    x: Any,
    x_moved: Any,
    y: Any,
    *,
    layers: Layers = None,
    branches: Layers = None,
    noise: float = 0.1,
    n_draws: int = 4,
    n_permutations: int = 40,
    max_samples: int = 128,
    n_bootstrap: int = 1000,
    batch_size: int = 32,
    seed: int = 0,
) -> LayersAtFault:
    """Which layers turn a moved input into a wrong decision.

    Traced are the samples that are decided rightly as they are and wrongly once moved; those that are decided rightly
    both times tell what the move does anyway. On a chain of layers no patch of a whole layer can name one, and the
    result says so; what remains there is where the shift grows. The model stays as it was.

    Args:
        model: A built classifier of one output, or the path of a ``.keras`` file.
        x: Samples as they are.
        x_moved: The same samples, each one moved: attacked, corrupted or shifted.
        y: Classes, or one-hot rows.
        layers: Which layers; None for all.
        branches: Calls that end the branches to be told apart; None looks for them among the layers.
        noise: Length of the noise for `noise_gain` over that of a layer's result.
        n_draws: Noises for each sample.
        n_permutations: Most orders of patching branches, where there are too many sets of them to try all.
        max_samples: Most failures, and most controls.
        n_bootstrap: Draws behind each interval; 0 computes none.
        batch_size: Most samples per batch. The results of all layers are held for that many at once.
        seed: Seed of all draws.

    Returns:
        A row per layer and per branch, each on both groups.

    Raises:
        ConfigError: If an option has no such value, or everything goes through one of the branches given.
        DataError: If x, x_moved and y do not fit each other or the model.
        ModelError: If the model was never built or its file cannot be opened.
        Unsupported: If the model does not make one decision per sample, or none of the samples fails.
    """
    for name, value in {"n_draws": n_draws, "max_samples": max_samples, "batch_size": batch_size}.items():
        check_whole(name, value)
    if not noise > 0:
        raise ConfigError(f"noise={noise!r}: expected a length above 0, as a share of that of a layer's result.")
    with opened(model) as live, untouched_process():
        patchable = Patchable(view=open_on(live, arranged_for(live, x)), batch_size=batch_size)
        return trace_faults(
            patchable,
            find_cases(patchable, x, x_moved, y, most=max_samples, seed=seed),
            layers=layers,
            branches=branches,
            noise=noise,
            n_draws=n_draws,
            n_permutations=n_permutations,
            n_bootstrap=n_bootstrap,
            seed=seed,
        )


def trace_faults(
    patchable: Patchable,
    cases: Cases,
    *,
    layers: Layers = None,
    branches: Layers = None,
    noise: float = 0.1,
    n_draws: int = 4,
    n_permutations: int = 40,
    n_bootstrap: int = 1000,
    seed: int = 0,
    step: Step = lambda _done, _total: None,
) -> LayersAtFault:
    """`layers_at_fault` on a model that is open already, for samples that are told apart already.

    Args:
        patchable: The model.
        cases: The samples, and how they were moved.
        layers: See `layers_at_fault`.
        branches: See there.
        noise: See there.
        n_draws: See there.
        n_permutations: See there.
        n_bootstrap: See there.
        seed: See there.
        step: Called with how much is done, and how much there is in all.

    Raises:
        ConfigError: If there is no such layer, or everything goes through one of the branches given.
    """
    places = patchable_calls(patchable.view, layers)
    calls = [place.call for place in places]
    step(0, STEPS)
    patches = patch_layers(patchable, cases, calls)
    step(1, STEPS)
    places = tuple(place for place in places if place.call.id in patches)
    shifts = relative_shifts(patchable, cases, calls)
    gains = noise_gains(patchable, cases, calls, size=noise, n_draws=n_draws, seed=seed)
    step(2, STEPS)
    ends = _branches(patchable, cases, places, patches, branches)
    split = split_among(patchable, cases, ends, n_permutations=n_permutations, seed=seed) if ends else None
    step(3, STEPS)
    groups = cases.groups(n_bootstrap, seed)
    grown = amplification(cases, {name: shift for name, shift in shifts.items() if patches[name].carries_all})
    rows = tuple(_row(place, cases, groups, patches, shifts, gains, grown) for place in places)
    shares = () if split is None else _shares(ends, cases, groups, split)
    culprit, ahead = _culprit(shares, cases, groups, split)
    total = np.sum(list(grown.by_call.values()), axis=0) if grown.by_call else None
    return LayersAtFault(
        n_samples=cases.n_samples,
        n_failures=cases.n_failures,
        n_controls=cases.n_controls,
        n_used_failures=int(cases.failed.sum()),
        n_used_controls=int((~cases.failed).sum()),
        lost=groups.mean(cases.lost),
        layers=rows,
        branches=shares,
        around=None if split is None else groups.share(split.around, cases.lost),
        begins_at=grown.begins_at,
        log_amplification=None if total is None else groups.mean(total),
        culprit=culprit,
        ahead=ahead,
        notes=tuple(_notes(patchable, cases, rows, shares, culprit, grown.begins_at)),
    )


def _branches(
    model: Patchable, cases: Cases, places: tuple[Followed, ...], patches: Mapping[str, Patch], given: Layers
) -> tuple[LayerCall, ...]:
    if given is None:
        return find_branches(model.view, places, [name for name, patch in patches.items() if patch.carries_all])
    calls = select_calls(model.view, given)
    known = dict(patches) | patch_layers(model, cases, [call for call in calls if call.id not in patches])
    for call in calls:
        if call.id in known and known[call.id].carries_all:
            raise ConfigError(
                f"branches: everything goes through {call.id!r}, so it is no branch, and would be found at fault "
                "whatever it does. Name calls that something goes around, or leave branches out."
            )
    return calls


def _row(
    place: Followed,
    cases: Cases,
    groups: Groups,
    patches: Mapping[str, Patch],
    shifts: Mapping[str, Floats],
    gains: Mapping[str, Floats],
    grown: Amplification,
) -> LayerFault:
    name = place.call.id
    patch = patches[name]
    part = not patch.carries_all
    return LayerFault(
        id=name,
        kind=place.call.layer.kind,
        carries_all=patch.carries_all,
        noise_gain=groups.mean(gains[name]),
        shift=groups.mean(shifts[name]),
        log_amplification=groups.mean(grown.by_call[name]) if name in grown.by_call else None,
        noising=groups.share(patch.noising, cases.lost) if part else None,
        denoising=groups.share(patch.denoising, cases.lost) if part else None,
    )


def _shares(ends: tuple[LayerCall, ...], cases: Cases, groups: Groups, split: BranchShares) -> tuple[BranchFault, ...]:
    """The branches, that of the largest share among the failures first."""
    lost = cases.lost[cases.failed].mean()
    ordered = sorted(ends, key=lambda call: -split.by_branch[call.id][cases.failed].sum())
    return tuple(
        BranchFault(
            id=call.id,
            kind=call.layer.kind,
            share=groups.share(split.by_branch[call.id], cases.lost),
            order_error=split.order_errors[call.id] / float(lost),
        )
        for call in ordered
    )


def _culprit(
    shares: tuple[BranchFault, ...], cases: Cases, groups: Groups, split: BranchShares | None
) -> tuple[str | None, Estimate | None]:
    """The first branch if it is ahead of all rivals beyond doubt; and how far it is ahead of the strongest."""
    if split is None:
        return None, None
    first = shares[0]
    rivals = [(split.by_branch[other.id], other.order_error) for other in shares[1:]] + [(split.around, 0.0)]
    leads = [
        (groups.share(split.by_branch[first.id] - rival, cases.lost).failures, first.order_error + error)
        for rival, error in rivals
    ]
    sure = all(lead.low is not None and lead.low > error for lead, error in leads)
    return first.id if sure else None, min((lead for lead, _ in leads), key=float)


def _notes(
    model: Patchable,
    cases: Cases,
    rows: tuple[LayerFault, ...],
    shares: tuple[BranchFault, ...],
    culprit: str | None,
    begins_at: str,
) -> list[str]:
    notes = []
    if all(row.carries_all for row in rows):
        notes.append(
            "Everything goes through every layer listed, as on a chain: patching whole layers says nothing, for each "
            "one explains 100 % of the failures, whichever is at fault. Layers are told apart by log_amplification and "
            "noise_gain, units of a layer by units_at_fault, and a layer that a change of weights spoilt by exchanging "
            "weights with the model before."
        )
    elif not shares:
        notes.append(
            "Something goes around some layers, but the ends of branches could not be told. Name them: branches=[...]."
        )
    elif culprit is None:
        notes.append(
            "No branch does more than every other, and than what goes around them all, beyond what the intervals leave "
            "open: none is named."
        )
    if culprit is not None and (shares[0].share.excess.low or 0.0) <= 0:
        notes.append(
            f"What {culprit!r} does to failures is not beyond doubt more than what it does to controls, which stand "
            "the move: that it passes on the move need not be why these samples fail."
        )
    if cases.failed.sum() < FEW:
        notes.append(f"There are only {int(cases.failed.sum())} failures: intervals are wide, or missing below 5.")
    if not np.any(~cases.failed):
        notes.append("No sample stands the move, so there is no control group.")
    if begins_at != "input":
        notes.append(f"Whole numbers have no relative shift: amplification is counted from {begins_at!r} on.")
    if model.view.heads[0].via is None:
        notes.append("What the last activation is could not be seen: leads are differences of outputs as they are.")
    return notes
