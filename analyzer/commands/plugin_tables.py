"""Numbers of plugins in a few lines of text, whatever their shape: one small table for each attribute they set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from analyzer.commands.table_text import ABSENT, aligned
from analyzer.data_types.plugins import by_model, flat
from analyzer.data_types.values import Estimate, Failed, Skipped
from analyzer.progress import printable

MOST_COLUMNS = 6
"""Columns shown of one plugin; the others are counted."""

MOST_TABLES = 10
"""Plugins shown; the others are named."""

LONGEST = 24
"""Characters of a heading or a word; the rest is left out."""


def plugin_tables(document: Mapping[str, Any]) -> list[str]:
    """A small table for everything that plugins set, each after an empty line.

    Args:
        document: A results document.
    """
    plugins = document.get("plugins") or {}
    names = list(plugins)
    lines = [line for name in names[:MOST_TABLES] for line in _table(name, plugins[name], document["models"])]
    if len(names) > MOST_TABLES:
        more = ", ".join(shortened(name) for name in names[MOST_TABLES : 2 * MOST_TABLES])
        lines += ["", f"{len(names) - MOST_TABLES} more in the results: {more}"]
    return lines


def _table(name: str, value: Any, models: list[str]) -> Iterator[str]:
    entries = by_model(value, models)
    rows = {model: flat(entry) for model, entry in entries.items() if not isinstance(entry, Skipped | Failed)}
    yield ""
    if not rows:
        missing = "without a result" if entries else f"{_cell(_in_short(value))}, not by model"
        yield f"{shortened(name)}: {missing}"
        return
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    # What is a number everywhere comes first, in the plugin's order.
    columns.sort(key=lambda column: not all(_is_number(row.get(column)) for row in rows.values()))
    shown = {column: f"{place}:{column}" for place, column in enumerate(columns[:MOST_COLUMNS])}
    head = {"model": shortened(name)} | {key: shortened(column) for column, key in shown.items()}
    body = [
        {"model": printable(model)} | {key: _cell(row.get(column)) for column, key in shown.items()}
        for model, row in rows.items()
    ]
    numbers = {key for column, key in shown.items() if all(_is_number(row.get(column)) for row in rows.values())}
    yield from aligned([head, *body], ["model", *shown.values()], numbers)
    if len(columns) > MOST_COLUMNS:
        yield f"{shortened(name)}: columns in the results beyond these: {len(columns) - MOST_COLUMNS}"


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, int | float | Estimate)


def _in_short(value: Any) -> Any:
    return f"mapping of {len(value)}" if isinstance(value, Mapping) else value


def _cell(value: Any) -> str:
    """One value in few characters."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Estimate):
        interval = "" if value.low is None or value.high is None else f" [{value.low:.3g}, {value.high:.3g}]"
        return f"{_cell(value.value)}{interval}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        # Python refuses to write out integers of thousands of digits.
        return str(value) if abs(value) < 10**9 else f"about 2^{value.bit_length()}"
    return f"list of {len(value)}" if isinstance(value, list) else shortened(str(value))


def shortened(text: str) -> str:
    """A word as it may be written to a terminal, without its end where it is long.

    Args:
        text: Any text.
    """
    whole = printable(text)
    return whole if len(whole) <= LONGEST else whole[: LONGEST - 1] + "…"
