"""The small values that every analysis speaks in: estimates, findings, and what could not be had.

A missing number is ``None``: never 0 and never NaN.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number computed from a sample, with what is known about its uncertainty.

    Attributes:
        value: The point estimate, or None where it is undefined for these data.
        low: Lower end of the interval, or None where no interval was computed.
        high: Upper end of the interval, or None where no interval was computed.
        n: Number of samples that the estimate rests on.
        level: Coverage that the interval aims at.
        method: How the interval was made, e.g. ``"basic bootstrap"`` or ``"Wilson"``; None without an interval.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int
    level: float = 0.95
    method: str | None = None

    def __float__(self) -> float:
        return float("nan") if self.value is None else float(self.value)

    def __str__(self) -> str:
        if self.value is None:
            return f"undefined (n={self.n})"
        if self.low is None or self.high is None:
            return f"{self.value:.4g} (n={self.n})"
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}] (n={self.n})"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One statement about a model, with the evidence that it rests on.

    Attributes:
        kind: What was found, as a stable identifier, e.g. ``"dead_channels"``.
        layer: Id of the layer it concerns; None for the model as a whole.
        severity: ``"info"``, ``"warning"`` or ``"error"``; healthy means neither warning nor error.
        evidence: The numbers, with their threshold, that led to the finding.
        message: One sentence for people: what it is, why it matters, what to do.
    """

    kind: str
    layer: str | None
    severity: Severity
    evidence: Mapping[str, float | int | str | bool | None] = field(default_factory=dict)
    message: str


@dataclass(frozen=True)
class Skipped:
    """An analysis that does not apply, or that was not possible, and why."""

    reason: str
    status = "skipped"


@dataclass(frozen=True)
class Failed:
    """An analysis that broke: the error and the place where it was raised."""

    error: str
    where: str
    status = "failed"

    @property
    def reason(self) -> str:
        """The error and its place in one line."""
        return f"{self.error} (in {self.where})"


def flat_row(result: Any) -> dict[str, Any]:
    """The numbers and words of a result as one row of a table; what is nested or an array is left out.

    Args:
        result: A result dataclass. An `Estimate` becomes three columns: its value and the ends of its interval.
    """
    row: dict[str, Any] = {}
    for entry in dataclasses.fields(result):
        value = getattr(result, entry.name)
        if isinstance(value, Estimate):
            row |= {entry.name: value.value, f"{entry.name}_low": value.low, f"{entry.name}_high": value.high}
        elif value is None or isinstance(value, bool | int | float | str | np.generic):
            row[entry.name] = value
        elif hasattr(value, "p_value"):
            row |= {entry.name: value.text, f"{entry.name}_p_value": value.p_value}
    return row
