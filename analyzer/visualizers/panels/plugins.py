"""Results of plugins on axes: a small table of whatever numbers there are for each model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from analyzer.data_types.plugins import flat
from analyzer.data_types.values import Estimate
from analyzer.visualizers.panels.base import caption
from analyzer.visualizers.panels.tables import Value, draw_table, with_interval
from analyzer.visualizers.series import Pen, Series, number
from analyzer.visualizers.text import displayable, elide

MOST_COLUMNS = 40
"""Columns that are measured for a place in the table; how many more there are is said below it."""

_HEADING = 14.0
"""Width of a heading or a word, in multiples of the type size; its middle is left out where it is longer."""


def plugin_table(ax: Axes, name: str, series: Sequence[Series], pen: Pen) -> None:
    """What a plugin says of each model: numbers first, then words; lists are counted.

    Args:
        ax: The axes.
        name: Attribute that the plugin set on the results.
        series: Its results by model.
        pen: Sizes.
    """
    rows = [flat(s.result) for s in series]
    names = list(dict.fromkeys(column for row in rows for column in row))
    names.sort(key=lambda column: not all(_is_number(row.get(column)) for row in rows))
    room = _HEADING * pen.small
    columns: dict[str, Sequence[Value]] = {}
    for place, column in enumerate(names[:MOST_COLUMNS]):
        heading = elide(displayable(column[:200]), room, pen.small)
        # Two long names may be the same in short.
        heading = heading if heading not in columns else f"{heading} #{place + 1}"
        columns[heading] = [_value(row.get(column), room, pen) for row in rows]
    lost = len(draw_table(ax, series, columns, pen)) + max(0, len(names) - MOST_COLUMNS)
    also = f"{lost} more column{'s' * (lost > 1)} in the results file" if lost else ""
    caption(ax, pen, pen.one_line(displayable(name[:200])), "numbers of a plugin", also)


def shortened(name: str) -> str:
    """The name of a plugin's results as it stands in a note.

    Args:
        name: Attribute that the plugin set.
    """
    return displayable(name if len(name) <= 60 else f"{name[:59]}…")


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, int | float | Estimate)


def _value(value: Any, room: float, pen: Pen) -> Value:
    if isinstance(value, Estimate):
        return with_interval(value)
    if value is None:
        return ("–", "")
    if isinstance(value, bool):
        return ("yes" if value else "no", "")
    if isinstance(value, int) and abs(value) >= 10**15:
        # No float holds it, and Python refuses to write out thousands of digits.
        return (f"about 2^{value.bit_length()}", "")
    if isinstance(value, int):
        return (str(value), "")
    if isinstance(value, float):
        return (number(value), "")
    text = f"list of {len(value)}" if isinstance(value, list) else displayable(str(value)[:200])
    return (elide(text, room, pen.small), "")
