"""Ratios in one run: two things timed in turn, many times, and the median of each pair's ratio."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Ratio:
    """A measured ratio and the most that it may be."""

    what: str
    value: float
    limit: float
    repetitions: int

    def __str__(self) -> str:
        verdict = "ok" if self.value <= self.limit else "OVER"
        return f"{self.what}: {self.value:.2f} x (limit {self.limit} x, n = {self.repetitions}) {verdict}"


def ratio(
    what: str, work: Callable[[], object], floor: Callable[[], object], *, limit: float, repetitions: int = 20
) -> Ratio:
    """Time two callables in turn after one warm-up of each; the median of the ratios of neighbours."""
    work()
    floor()
    ratios = []
    for _ in range(repetitions):
        ratios.append(_seconds(work) / _seconds(floor))
    return Ratio(what, statistics.median(ratios), limit, repetitions)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
