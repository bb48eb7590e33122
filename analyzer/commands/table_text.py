"""Tables as lines of text, aligned for a terminal."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

ABSENT = "–"


def aligned(rows: Sequence[Mapping[str, str]], columns: Sequence[str], numbers: Collection[str]) -> list[str]:
    """One line per row, columns as wide as their widest cell.

    Args:
        rows: Cells by column; the first row is the head.
        columns: The columns, in order.
        numbers: Columns that are aligned to the right.
    """
    # A terminal gives two cells to an emoji or a Chinese character: len() would misalign the rest of the line.
    from rich.cells import cell_len

    width = {name: max(cell_len(row[name]) for row in rows) for name in columns}
    lines = []
    for row in rows:
        padding = {name: " " * (width[name] - cell_len(row[name])) for name in columns}
        cells = (padding[name] + row[name] if name in numbers else row[name] + padding[name] for name in columns)
        lines.append("  ".join(cells).rstrip())
    return lines
