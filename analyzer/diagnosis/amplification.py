"""Relative amplification: where along a chain of layers a shift of the input grows, split without remainder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.diagnosis.cases import Cases
from analyzer.diagnosis.patchable import Patchable
from analyzer.inspection.selection import LayerCall
from analyzer.measures.fault import log_amplifications, relative_shift

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Amplification:
    """The split of a shift over a chain.

    Attributes:
        by_call: ``(n,)`` logarithm of the relative amplification since the call before, by id, in order of execution.
            In every sample they add up to the logarithm of the last relative shift over the first.
        begins_at: Where the chain begins: ``"input"``, or the id of the first call where inputs hold whole numbers.
    """

    by_call: dict[str, Floats]
    begins_at: str


def relative_shifts(model: Patchable, cases: Cases, calls: Sequence[LayerCall]) -> dict[str, Floats]:
    """``‖h' - h‖ / ‖h‖`` at each call, ``(n,)`` by id.

    Args:
        model: The model.
        cases: The samples, and how they were moved.
        calls: Where activations are compared.
    """
    shifts: dict[str, Floats] = {}
    for rows, x, moved in cases.batches(model.batch_size):
        plain, shifted = model.record(x, calls)[1], model.record(moved, calls)[1]
        for call in calls:
            if call.id in plain and call.id in shifted:
                found = shifts.setdefault(call.id, np.full(len(cases.y), np.nan))
                found[rows] = relative_shift(plain[call.id], shifted[call.id])
    return shifts


def amplification(cases: Cases, shifts: dict[str, Floats]) -> Amplification:
    """How relative shifts grow from the input through calls that everything passes, one after the other.

    Args:
        cases: The samples.
        shifts: Relative shifts at those calls, by id, in order of execution.
    """
    names, points = list(shifts), list(shifts.values())
    start = input_shift(cases)
    begins_at = "input" if start is not None else names[0] if names else "input"
    if start is not None:
        points = [start, *points]
    else:
        names = names[1:]
    logs = log_amplifications(np.stack(points)) if len(points) > 1 else np.empty((0, len(cases.y)))
    return Amplification(by_call=dict(zip(names, logs, strict=True)), begins_at=begins_at)


def input_shift(cases: Cases) -> Floats | None:
    """Relative shift of all inputs together, ``(n,)``; None where one holds whole numbers, which have no length."""
    plain, moved = ([np.asarray(leaf) for leaf in keras.tree.flatten(one)] for one in (cases.x, cases.moved))
    if any(array.dtype.kind != "f" for array in plain):
        return None
    return relative_shift(
        *(np.concatenate([a.reshape(len(a), -1) for a in arrays], axis=1) for arrays in (plain, moved))
    )
