"""Rules and how they are broken: where JSON values differ, and where a live value would not survive becoming JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

TOLERANCE = 1e-6
"""Relative difference of two numbers that a second run of the same program may have."""

_KEPT = (bool, int, float, str, np.bool_, np.number, np.str_)


def require(holds: object, cls: type, rule: str, found: str) -> None:
    """Raise where a rule does not hold.

    Args:
        holds: Whether it does.
        cls: The class that is checked.
        rule: What every class of this kind owes.
        found: What was found instead.

    Raises:
        AssertionError: If it does not hold.
    """
    if not holds:
        raise AssertionError(f"{cls.__module__}.{cls.__qualname__} breaks the rule {rule!r}: {found}")


def difference(one: Any, other: Any, place: str = "results") -> str | None:
    """The first place where two JSON values differ, in words; None where they are alike.

    Args:
        one: JSON values; the order of the keys of a mapping does not matter.
        other: JSON values.
        place: Where they stand.
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        if set(one) != set(other):
            return f"{place} has {sorted(set(one) ^ set(other))} in one of them only"
        return next((found for key in one if (found := difference(one[key], other[key], f"{place}[{key!r}]"))), None)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return next((found for i, (a, b) in pairs if (found := difference(a, b, f"{place}[{i}]"))), None)
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other))
    if one == other or (numbers and math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)):
        return None
    return f"{place} is {_short(one)} and {_short(other)}"


def unfit(value: Any, place: str) -> str | None:
    """The first place in a live value that would not be the same as JSON, in words; None where all would.

    Args:
        value: What an analysis set.
        place: Where it stands.
    """
    if value is None or isinstance(value, _KEPT):
        return None
    if isinstance(value, np.ndarray):
        return f"{place} is an array of objects" if value.dtype == object else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = ((f".{field.name}", getattr(value, field.name)) for field in dataclasses.fields(value))
        return next((found for name, item in items if (found := unfit(item, f"{place}{name}"))), None)
    if isinstance(value, Mapping):
        if len({str(key) for key in value}) < len(value):
            return f"{place} has keys that are the same as text"
        return next((found for key in value if (found := unfit(value[key], f"{place}[{key!r}]"))), None)
    if isinstance(value, list | tuple):
        return next((found for i, item in enumerate(value) if (found := unfit(item, f"{place}[{i}]"))), None)
    if isinstance(value, set | frozenset):
        return f"{place} is a set, whose order changes from run to run: make it a sorted list"
    if hasattr(value, "to_dict") or hasattr(value, "__array__"):
        return None
    return f"{place} is a {type(value).__name__}, of which JSON would keep nothing but its text"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
