"""What panels of shift read: the places of a result as rows, which of them are shown, and both sample sizes."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from analyzer.data_types.shift import PlaceShift, ShiftResult
from analyzer.data_types.values import Finding
from analyzer.visualizers.panels.flow_rows import LayerRows, filled_up, number_of
from analyzer.visualizers.panels.layers import worst_severity
from analyzer.visualizers.series import Series, sample_sizes

WIDE = 30.0
"""A largest drift above this multiple of the median asks for a logarithmic axis."""


@dataclass(frozen=True, kw_only=True)
class PlaceRow:
    """One place as panels of layers read them.

    Attributes:
        id: Name that no other place has: an output may be called like its layer.
        shift: What was found there.
        level: Largest chance of a false alarm.
    """

    id: str
    shift: PlaceShift
    level: float

    @property
    def drift(self) -> float:
        """How far the data have moved; NaN where that is undefined."""
        return number_of(self.shift.drift)

    @property
    def tested(self) -> bool:
        """Whether the place belongs to the family of tests."""
        return self.shift.adjusted is not None

    @property
    def alarms(self) -> bool:
        """Whether a test of the place found the shift."""
        return self.shift.adjusted is not None and self.shift.adjusted <= self.level


@dataclass(frozen=True, kw_only=True, eq=False)
class ShiftPlaces:
    """The places of one model.

    Attributes:
        layers: From the inputs over the layers to the outputs.
        findings: Those of the result.
        n: Samples of the data.
        n_reference: Samples of the reference.
    """

    layers: tuple[PlaceRow, ...]
    findings: tuple[Finding, ...]
    n: int
    n_reference: int


def by_shift_place(series: Sequence[Series]) -> list[Series]:
    """The same series, each with its places as rows.

    Args:
        series: Results of shift, or what this function returned for them.
    """
    return [s.of(_places(s.result)) if isinstance(s.result, ShiftResult) else s for s in series]


def _places(result: ShiftResult) -> ShiftPlaces:
    layers = {place.place for place in result.places if place.kind == "layer"}
    rows = [PlaceRow(id=_id(place, layers), shift=place, level=result.level) for place in result.places]
    return ShiftPlaces(layers=tuple(rows), findings=result.findings, n=result.n, n_reference=result.n_reference)


def _id(place: PlaceShift, layers: Collection[str]) -> str:
    plain = place.kind == "layer" or (place.place == place.kind and place.place not in layers)
    return place.place if plain else f"{place.kind}: {place.place}"


def place_rows(group: Sequence[Series], limit: int | None) -> LayerRows:
    """The places that matter most: both ends, the largest drift, findings, alarms; then all along the depth.

    Args:
        group: Models with the same places, from `by_shift_place`.
        limit: Most places to show.
    """
    found = group[0].result.layers
    severity = _severity(group, found)
    few = limit is None or len(found) <= limit
    kept = list(range(len(found))) if few else _kept(group, limit or 1, severity)
    return LayerRows(
        series=group,
        ids=tuple(found[i].id for i in kept),
        places=tuple(kept),
        severity={found[i].id: severity[i] for i in kept},
        total=len(found),
    )


def _severity(group: Sequence[Series], found: Sequence[PlaceRow]) -> list[int]:
    """What findings say of each place; of two places with one name they mean the layer."""
    worst = [worst_severity(s.result.findings) for s in group]
    layers = {row.shift.place for row in found if row.shift.kind == "layer"}
    meant = [row.shift.kind == "layer" or row.shift.place not in layers for row in found]
    return [max(one.get(row.shift.place, 0) for one in worst) * own for row, own in zip(found, meant, strict=True)]


def _kept(group: Sequence[Series], limit: int, severity: Sequence[int]) -> list[int]:
    def farthest(i: int) -> float:
        drifts = [s.result.layers[i].drift for s in group]
        return max((value for value in drifts if math.isfinite(value)), default=-1.0)

    total = len(severity)
    ranked = sorted(range(total), key=farthest, reverse=True)
    named = [i for i in ranked if severity[i]]
    alarming = [i for i in ranked if any(s.result.layers[i].alarms for s in group)]
    first = list(dict.fromkeys((0, total - 1, ranked[0], *named, *alarming)))[:limit]
    return sorted(filled_up(first, limit, total))


def is_wide(values: Sequence[float]) -> bool:
    """Whether one of these drifts is so large that the others would vanish beside it.

    Args:
        values: Drifts; NaN where undefined.
    """
    above = sorted(value for value in values if math.isfinite(value) and value > 0)
    return bool(above) and above[-1] > WIDE * above[len(above) // 2]


def both_sizes(series: Sequence[Series]) -> str:
    """Sample sizes of both sides.

    Args:
        series: Results of shift, or their places.
    """
    new = sample_sizes([s.result.n for s in series])
    return f"data: {new}, reference: {sample_sizes([s.result.n_reference for s in series])}"
