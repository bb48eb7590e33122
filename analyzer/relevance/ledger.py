"""The ledger: where the relevance of an output went, place by place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.data_types.explanation import LEDGER_COLUMNS
from analyzer.relevance.flow import ABSORBERS, Record

Amounts = dict[tuple[int, str], NDArray[np.float64]]
"""By number of the call and column: ``(k, n)``."""


@dataclass(frozen=True, kw_only=True)
class Books:
    """What one explanation booked.

    Attributes:
        records: Every call, in order of execution.
        booked: Amounts.
        score: Where relevance started, ``(k, n)``.
        inputs: Sum of the relevance of all inputs, ``(k, n)``.
        magnitude: Sum of its absolute values.
    """

    records: Sequence[Record]
    booked: Amounts
    score: NDArray[np.float64]
    inputs: NDArray[np.float64]
    magnitude: NDArray[np.float64]

    def frame(self) -> pd.DataFrame:
        """One row per place in the order in which relevance went through; see `LEDGER_COLUMNS`.

        Amounts are means over samples and targets. What a container shows as unexplained is what went on between its
        parts; ``unexplained_fraction`` is the largest share of the start value (of the sum of magnitudes where that is
        larger) over samples and targets.
        """
        start = self.scale()
        unexplained = self.unexplained()
        # Terms that all samples share (positions) are booked as one sum: there, only a mean over samples can be judged.
        shared = {number for r in self.records if r.shared for number in (r.number, r.owner)}
        rows, names = [], []
        for record in reversed(self.records):
            amounts = {column: self._amount(record.number, column) for column in LEDGER_COLUMNS[:5]}
            gap = unexplained[record.number]
            share = np.abs(gap) / start
            if record.number in shared:
                share = np.abs(gap.mean(axis=1)) / start.mean(axis=1)
            fraction = float(np.max(share)) if gap.size else float("nan")
            rows.append([*(float(a.mean()) for a in amounts.values()), float(gap.mean()), fraction])
            names.append(record.id)
        frame = pd.DataFrame(rows, columns=list(LEDGER_COLUMNS), index=pd.Index(names, name="place"))
        frame.insert(0, "kind", [record.kind for record in reversed(self.records)])
        return frame

    def scale(self) -> NDArray[np.float64]:
        """What gaps are shares of: the start value, or the sum of magnitudes where larger; ``(k, n)``."""
        return np.maximum(np.maximum(np.abs(self.score), self.magnitude), np.finfo(np.float64).tiny)

    def total_unexplained(self) -> NDArray[np.float64]:
        """What neither arrived at the inputs nor was absorbed, ``(k, n)``."""
        absorbed = sum((v for (_, column), v in self.booked.items() if column in ABSORBERS), np.zeros_like(self.score))
        return np.asarray(self.score - self.inputs - absorbed)

    def _amount(self, number: int, column: str) -> NDArray[np.float64]:
        if number == 0 and column == "relevance_in":
            return self.score
        if number == 0 and column == "relevance_out":
            return self.inputs
        return self.booked.get((number, column), np.zeros_like(self.score))

    def unexplained(self) -> list[NDArray[np.float64]]:
        """Per call: what came in and neither went on, nor was absorbed here, nor was lost in a part."""
        lost = [
            self._amount(record.number, "relevance_in") - self._amount(record.number, "relevance_out")
            for record in self.records
        ]
        own = [lost[r.number] - sum(self._amount(r.number, column) for column in ABSORBERS) for r in self.records]
        for record in self.records:
            if record.owner is not None:
                own[record.owner] = own[record.owner] - lost[record.number]
        return own
