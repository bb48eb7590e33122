"""Activation patching: what a layer, a channel, a head or a position does once it gets another input's activations.

Noising puts what the moved input makes into the clean run (is it enough to break the decision?), denoising what the
clean input makes into the moved run (was it needed to break it?); Vig et al. 2020 (arXiv 2004.12265), Meng et al. 2022
(arXiv 2202.05262). Effects are counted in the lead of the true class over the one that it is mistaken for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analyzer.diagnosis.cases import Cases
from analyzer.diagnosis.patchable import Patchable
from analyzer.diagnosis.units import Index, Units
from analyzer.inspection.selection import LayerCall
from analyzer.measures.fault import carries_all

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Patch:
    """What patching does to the lead of each sample, in logits.

    Attributes:
        noising: ``(n,)`` lead lost by the clean run with the moved activations.
        denoising: ``(n,)`` lead won by the moved run with the clean activations.
        carries_all: Whether noising gives the moved run in every logit of every sample: nothing goes around the place.
    """

    noising: Floats
    denoising: Floats
    carries_all: bool

    @property
    def mean(self) -> Floats:
        """``(n,)`` mean of both.

        Where all goes through the layer, this is the Shapley value of a unit in the game of two, it and the rest.
        """
        return (self.noising + self.denoising) / 2


def patch_layers(model: Patchable, cases: Cases, calls: Sequence[LayerCall]) -> dict[str, Patch]:
    """Patch what each call returns, one at a time.

    Args:
        model: The model.
        cases: The samples, and how they were moved.
        calls: The calls.

    Returns:
        By id of the call; those without a row per sample are left out.
    """
    runs: dict[str, tuple[Floats, Floats]] = {}
    for rows, x, moved in cases.batches(model.batch_size):
        plain, shifted = model.record(x, calls)[1], model.record(moved, calls)[1]
        for call in calls:
            if call.id in plain and call.id in shifted:
                noised, denoised = runs.setdefault(call.id, (np.empty_like(cases.z), np.empty_like(cases.z)))
                noised[rows] = model.logits(x, {call: shifted[call.id]})
                denoised[rows] = model.logits(moved, {call: plain[call.id]})
    return {name: _patch(cases, *found) for name, found in runs.items()}


def patch_together(model: Patchable, cases: Cases, calls: Sequence[LayerCall]) -> Patch:
    """Patch what several calls return, all at once.

    Args:
        model: The model.
        cases: The samples, and how they were moved.
        calls: The calls.

    Raises:
        ConfigError: If one returns no row per sample.
    """
    noised, denoised = np.empty_like(cases.z), np.empty_like(cases.z)
    for rows, x, moved in cases.batches(model.batch_size):
        plain, shifted = model.activations(x, calls), model.activations(moved, calls)
        noised[rows] = model.logits(x, {call: shifted[call.id] for call in calls})
        denoised[rows] = model.logits(moved, {call: plain[call.id] for call in calls})
    return _patch(cases, noised, denoised)


def patch_units(model: Patchable, cases: Cases, units: Units, chosen: Sequence[Index]) -> dict[Index, Patch]:
    """Patch some units of a layer, one at a time.

    Args:
        model: The model.
        cases: The samples, and how they were moved.
        units: How the layer is divided.
        chosen: Which units.

    Raises:
        ConfigError: If the layer returns no row per sample.
    """
    runs = {index: (np.empty_like(cases.z), np.empty_like(cases.z)) for index in chosen}
    for rows, x, moved in cases.batches(model.batch_size):
        plain, shifted = model.activations(x, units.calls), model.activations(moved, units.calls)
        for index, (noised, denoised) in runs.items():
            noised[rows] = model.logits(x, units.mixed(plain, shifted, index))
            denoised[rows] = model.logits(moved, units.mixed(shifted, plain, index))
    return {index: _patch(cases, *found) for index, found in runs.items()}


def _patch(cases: Cases, noised: Floats, denoised: Floats) -> Patch:
    return Patch(
        noising=cases.taken_away(noised),
        denoising=cases.given_back(denoised),
        carries_all=carries_all(noised, cases.z_moved, cases.z),
    )
