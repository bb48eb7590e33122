"""Relevance of sequences: words in colour, and steps of series with the series itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from analyzer.data_types.explanation import Explanation
from analyzer.data_types.relevance import RelevanceExample, RelevanceResult
from analyzer.visualizers.heatmaps import QUANTILE, coloured, symmetric_limit
from analyzer.visualizers.layout import MARGIN
from analyzer.visualizers.panels.base import caption, in_points, name_rows, panel, text_on, whole_numbers
from analyzer.visualizers.panels.flow_rows import say_nothing
from analyzer.visualizers.panels.relevance_examples import all_examples, how_many, what, without_channels
from analyzer.visualizers.series import Pen, Series
from analyzer.visualizers.style import MUTED
from analyzer.visualizers.text import displayable, elide, text_width

MOST_LINES = 4
"""Lines of words of one sample; the rest is counted."""

MOST_CHANNELS = 3
"""Channels of a series that are drawn as lines."""


@panel("tokens", Explanation, RelevanceExample, RelevanceResult)
def tokens(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """The words of each sample on the colour of their relevance; strips of positions where words are not known.

    Args:
        ax: The axes.
        series: Explanations, examples or results.
        pen: Sizes.
    """
    kept = all_examples(series, ("tokens",))
    title = "Relevance of tokens"
    if not kept:
        say_nothing(ax, pen, title, "no sample of tokens was kept")
        return
    if not all(one.tokens for _, found in kept for one in found):
        _draw_strips(ax, kept, pen, title, "Token")
        return
    room, y, left_out, where = pen.points - 2 * MARGIN * 72, 0.0, 0, in_points(ax)
    for s, found in kept:
        limit = symmetric_limit(*(one.relevance for one in found))
        for one in found:
            name = f"{s.label.replace(chr(10), '')}: " if len(series) > 1 else ""
            head = elide(f"{name}{what(one)}", room, pen.small)
            look: dict[str, Any] = {
                "fontsize": pen.small,
                "color": MUTED,
                "va": "top",
                "parse_math": False,
                "in_layout": False,
            }
            ax.text(0, y + 0.2 * pen.small, head, transform=where, **look)
            y, missing = _draw_words(ax, one, y + 1.6 * pen.small, limit, pen)
            left_out += missing
    ax.set_axis_off()
    cut = f"{left_out} tokens not shown" if left_out else ""
    caption(ax, pen, title, f"{_said(kept, series)}{f'; {cut}' if cut else ''}")


def _draw_words(ax: Axes, one: RelevanceExample, y: float, limit: float, pen: Pen) -> tuple[float, int]:
    """One sample's words, wrapped; returns where the next may begin and how many words are left out."""
    values, room = without_channels(one), pen.points - 2 * MARGIN * 72
    x, line, pad, leading = 0.0, 0, 0.35 * pen.font, 1.75 * pen.font
    words = [elide(displayable(word) or " ", room - 2 * pad, pen.font) for word in one.tokens[: len(values)]]
    for i, word in enumerate(words):
        width = text_width(word, pen.font) + 2 * pad
        if x > 0 and x + width > room:
            x, line = 0.0, line + 1
            if line == MOST_LINES:
                return y + line * leading, len(words) - i
        _draw_word(ax, word, (x, y + line * leading, width, 0.86 * leading), coloured(values[i : i + 1], limit)[0], pen)
        x += width
    return y + (line + 1) * leading + 0.3 * pen.small, 0


def _draw_word(
    ax: Axes, word: str, box: tuple[float, float, float, float], color: NDArray[np.float64], pen: Pen
) -> None:
    left, top, width, height = box
    where = in_points(ax)
    cell = Rectangle((left, top), width, height, facecolor=tuple(color), edgecolor="white", linewidth=0.4)
    cell.set(transform=where, clip_on=False, in_layout=False)
    ax.add_patch(cell)
    ax.text(
        left + 0.5 * width,
        top + 0.5 * height,
        word,
        fontsize=pen.font,
        color=text_on(color),
        ha="center",
        va="center",
        parse_math=False,
        transform=where,
        in_layout=False,
    )


@panel("steps", Explanation, RelevanceExample, RelevanceResult)
def steps(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Relevance of every step of a series as the colour beneath its line.

    Args:
        ax: The axes.
        series: Explanations, examples or results.
        pen: Sizes.
    """
    kept = all_examples(series, ("series",))
    title = "Relevance of steps"
    if not kept:
        say_nothing(ax, pen, title, "no sample of a series was kept")
        return
    _draw_strips(ax, kept, pen, title, "Step")


def _draw_strips(
    ax: Axes, kept: Sequence[tuple[Series, list[RelevanceExample]]], pen: Pen, title: str, unit: str
) -> None:
    labels, lines, row = [], 0, 0
    for s, found in kept:
        limit = symmetric_limit(*(without_channels(one) for one in found))
        for one in found:
            values = without_channels(one)
            edges = np.arange(values.size + 1) - 0.5
            ax.pcolormesh(edges, [row - 0.45, row + 0.45], coloured(values[None], limit))
            lines = max(lines, _draw_values(ax, one, row, pen))
            name = f"{s.label.replace(chr(10), '')}: " if len(kept) > 1 else ""
            labels.append(elide(f"{name}{what(one)}", 0.38 * pen.points, pen.small))
            row += 1
    name_rows(ax, labels)
    ax.set_ylim(row - 0.5, -0.5)
    ax.set_xlabel(unit)
    whole_numbers(ax.xaxis)
    for side in ax.spines.values():
        side.set_visible(False)
    drawn = f"; line{'s' * (lines > 1)}: the series" if lines else ""
    caption(ax, pen, title, f"{_said(kept, [s for s, _ in kept])}{drawn}")


def _draw_values(ax: Axes, one: RelevanceExample, row: int, pen: Pen) -> int:
    """The series itself across its row; returns how many channels were drawn."""
    if one.values is None or one.values.ndim != 2:
        return 0
    channels = (one.values if one.channels_first else one.values.T)[:MOST_CHANNELS]
    low, high = float(np.nanmin(channels)), float(np.nanmax(channels))
    for channel in channels:
        scaled = (np.asarray(channel, np.float64) - low) / ((high - low) or 1.0)
        ax.plot(np.arange(scaled.size), row + 0.4 - 0.8 * scaled, color="black", linewidth=0.7 * pen.line, marker="")
    return len(channels)


def _said(kept: Sequence[tuple[Series, list[RelevanceExample]]], series: Sequence[Series]) -> str:
    limits = ", ".join(f"{symmetric_limit(*(without_channels(one) for one in found)):.2g}" for _, found in kept)
    kinds = (kept[0][1][0].kind,)
    scale = f"full colour from ±{limits} ({100 * QUANTILE:g}th percentile)"
    return f"{how_many(series, kinds)}; red for the target, blue against it, {scale}"
