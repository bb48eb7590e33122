"""What is found at fault within a layer: results of `units_at_fault`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from analyzer.data_types.layer_faults import ByGroup
from analyzer.data_types.saved_result import SavedResult, spread
from analyzer.data_types.values import Estimate
from analyzer.diagnosis.units import By, Index

OF_UNITS: Mapping[str, str] = {
    "lead": "Of the true class over the strongest other class of the moved sample: a difference of logits.",
    "noising": "What the clean run loses of its lead with this unit from the moved run, in units of what failures lose "
    "on average, as are all shares.",
    "denoising": "What the moved run wins back with this unit from the clean run.",
    "share": "Mean of both: where everything goes through the layer, the Shapley value of the unit against the rest.",
    "conductance": "What flows through the unit along the straight path from the sample to the moved one (Dhamdhere et "
    "al. 2019): a split among the units of one layer, never among layers.",
}
"""What the numbers of `UnitsAtFault` mean."""


@dataclass(frozen=True, kw_only=True)
class UnitFault:
    """One unit of a layer; see `OF_UNITS`.

    Attributes:
        index: Its number, or its numbers along the axes of positions.
        share: What it does.
        noising: What it alone breaks.
        denoising: What it alone mends.
        conductance: What flows through it; None where that could not be had.
    """

    index: Index
    share: ByGroup
    noising: ByGroup
    denoising: ByGroup
    conductance: ByGroup | None = None


@dataclass(frozen=True, kw_only=True)
class UnitsAtFault(SavedResult):
    """Which units of a layer a failure goes through.

    Attributes:
        layer: Id of the call.
        by: What the units are.
        n_units: How many there are.
        n_samples: Samples given.
        n_failures: Decided rightly as they are, wrongly once moved.
        n_controls: Decided rightly both times.
        n_used: How many failures, and how many controls, the numbers rest on.
        whole: Share of the layer as a whole; 1 on a chain, whatever the layer does.
        units: The units that were patched, that of the largest share first.
        culprit: The unit whose share among the failures is the largest beyond doubt; None where none is.
        ahead: By how much its share is larger than that of the next; None for a single unit.
        notes: What the reader must know.
        definitions: See `OF_UNITS`.
    """

    layer: str
    by: By
    n_units: int
    n_samples: int
    n_failures: int
    n_controls: int
    n_used: tuple[int, int]
    whole: ByGroup
    units: tuple[UnitFault, ...]
    culprit: Index | None = None
    ahead: Estimate | None = None
    notes: tuple[str, ...] = ()
    definitions: Mapping[str, str] = field(default_factory=lambda: OF_UNITS, repr=False)

    def rows(self) -> list[dict[str, Any]]:
        """A row per unit, that of the largest share first; each measure on failures, on controls, and their excess."""
        failures, controls = self.n_used
        return [
            {"unit": unit.index[0] if len(unit.index) == 1 else unit.index}
            | spread("share", unit.share, unit.share)
            | spread("noising", unit.noising, unit.share)
            | spread("denoising", unit.denoising, unit.share)
            | spread("conductance", unit.conductance, unit.share)
            | {"n_failures": failures, "n_controls": controls}
            for unit in self.units
        ]
