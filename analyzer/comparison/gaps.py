"""How generalisation gaps are counted when less is better, so that a model does not win by not fitting its data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from analyzer.comparison.readings import Subject, levels, peak_of
from analyzer.data_types.values import Estimate
from analyzer.measures.pareto import better, shortfall


def count_gaps(
    gap: str, gaps: Mapping[str, Estimate], subjects: Mapping[str, Subject]
) -> tuple[dict[str, Estimate], dict[str, str], frozenset[str]]:
    """The gaps as they are compared, see `analyzer.comparison.pareto.pareto`.

    Args:
        gap: Name of the gap; one that begins with ``normalized`` is relative to the larger loss, and the shortfall
            then to the training loss.
        gaps: Its value by model.
        subjects: Results of the same models.

    Returns:
        What is counted by model, remarks by model, and the models that are under-fitted.
    """
    names = list(gaps)
    found = [levels(subjects[name], gap) for name in names]
    train, train_margin = _column([None if pair is None else pair[0] for pair in found])
    held_out, held_out_margin = _column([None if pair is None else pair[1] for pair in found])
    short = shortfall(train, held_out, train_margin, held_out_margin, _ahead([subjects[name] for name in names]))
    clipped = {name: _at_least_zero(value) for name, value in gaps.items()}
    # The best model always fits, so there is one; without losses nobody is under-fitted.
    worst = max(float(clipped[name]) for name, lack in zip(names, short, strict=True) if lack == 0)
    counted = dict(clipped)
    remarks: dict[str, str] = {}
    under_fitted = [int(i) for i in np.flatnonzero(short > 0)]
    for i in under_fitted:
        lack = short[i] / train[i] if gap.startswith("normalized") else short[i]
        counted[names[i]] = _moved(clipped[names[i]], max(worst, float(clipped[names[i]])) + float(lack))
        remarks[names[i]] = (
            f"under-fitted: its training loss ({train[i]:.3g}) is above the validation loss of "
            f"{names[int(np.nanargmin(held_out))]!r} ({np.nanmin(held_out):.3g}), so that a small gap is no merit"
        )
    for name, value in gaps.items():
        if value.value is not None and value.value < 0 and name not in remarks:
            remarks[name] = f"its {gap} of {value.value:.3g} counts as 0: less than none is no gain"
    return counted, remarks, frozenset(names[i] for i in under_fitted)


def _ahead(subjects: Sequence[Subject]) -> NDArray[np.bool_]:
    """Whose peak performance is better than whose beyond uncertainty; true where two cannot be compared."""
    peaks = [peak_of(subject) for subject in subjects]
    ahead = np.ones((len(peaks), len(peaks)), dtype=np.bool_)
    for kind in {peak.kind for peak in peaks if peak is not None}:
        same = [(i, peak) for i, peak in enumerate(peaks) if peak is not None and peak.kind == kind]
        ends = [
            np.array([[np.nan if (x := getattr(peak.value, end)) is None else x] for _, peak in same], dtype=np.float64)
            for end in ("value", "low", "high")
        ]
        rows = [i for i, _ in same]
        ahead[np.ix_(rows, rows)] = better(ends[0], [same[0][1].direction == "max"], ends[1], ends[2])[:, :, 0]
    return ahead


def _column(estimates: list[Estimate | None]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    values = np.array([np.nan if one is None else float(one) for one in estimates])
    half = [
        0.0 if one is None or one.low is None or one.high is None else (one.high - one.low) / 2 for one in estimates
    ]
    return values, np.array(half)


def _at_least_zero(gap: Estimate) -> Estimate:
    ends = {end: max(value, 0.0) for end in ("value", "low", "high") if (value := getattr(gap, end)) is not None}
    return dataclasses.replace(gap, **ends)


def _moved(gap: Estimate, value: float) -> Estimate:
    """The same uncertainty around another value."""
    shift = value - float(gap)
    ends = {end: here + shift for end in ("low", "high") if (here := getattr(gap, end)) is not None}
    return dataclasses.replace(gap, value=value, **ends)
