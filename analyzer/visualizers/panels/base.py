"""What panels have in common: the table of kinds, captions, axes of names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatter, MaxNLocator
from matplotlib.transforms import Affine2D, ScaledTranslation, Transform

from analyzer.visualizers.layout import CAPTION, MARGIN
from analyzer.visualizers.series import Pen, Series
from analyzer.visualizers.style import MUTED
from analyzer.visualizers.text import text_width, wrap

Draw = Callable[[Axes, Sequence[Series], Pen], None]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A kind of picture.

    Attributes:
        kind: Its name for `analyzer.plot`.
        types: The results that it can draw.
        draw: The function.
    """

    kind: str
    types: tuple[type, ...]
    draw: Draw


PANELS: dict[str, Panel] = {}
"""Every kind of panel; the first that draws a type of result is the default for it."""


def panel(kind: str, *types: type) -> Callable[[Draw], Draw]:
    """Enter a function in the table of panels.

    Args:
        kind: Name of the panel.
        types: The results that it can draw.
    """

    def enter(draw: Draw) -> Draw:
        PANELS[kind] = Panel(kind=kind, types=types, draw=draw)
        return draw

    return enter


def caption(ax: Axes, pen: Pen, title: str, *details: str) -> None:
    """Write a title and, below it, what a reader must know: sample size, measure, meaning of marks.

    Args:
        ax: The axes.
        pen: Sizes.
        title: Bold, at the left edge of the axes; the pen's heading goes before it.
        details: Each begins a new line.
    """
    # Where a line is longer than the axes, the layout moves the caption towards the left edge of the panel.
    room = max(pen.points - 2 * MARGIN * 72, 60.0)
    lines = [line for detail in details if detail for line in wrap(detail, room, pen.small)]
    title = title if pen.heading is None else pen.heading
    heading = wrap(title, room, pen.font + 1, bold=True)
    pad = 4 + len(lines) * 1.3 * pen.small
    ax.set_title("\n".join(heading), pad=pad, loc="left", parse_math=False, gid=CAPTION)
    if lines:
        ax.text(
            0,
            1,
            "\n".join(lines),
            transform=ax.transAxes + ScaledTranslation(0, 3 / 72, ax.figure.dpi_scale_trans),
            va="bottom",
            fontsize=pen.small,
            color=MUTED,
            linespacing=1.15,
            parse_math=False,
            gid=CAPTION,
            # The title's pad keeps the height free; the width is known better here than to the layout.
            in_layout=False,
        )


def name_rows(ax: Axes, labels: Sequence[str], *, places: Sequence[float] | None = None) -> None:
    """Names on the y axis, the first on top.

    Args:
        ax: The axes.
        labels: One per row.
        places: Where they stand; whole numbers from 0 where not given.
    """
    at = list(range(len(labels))) if places is None else list(places)
    ax.set_yticks(at, labels=list(labels), parse_math=False)
    ax.tick_params(axis="y", length=0)
    ax.invert_yaxis()


def label_indent(labels: Sequence[str], pen: Pen) -> float:
    """Points that the widest label takes on the y axis."""
    return max((text_width(line, pen.small) for label in labels for line in label.split("\n")), default=0.0)


class _PlainLogFormatter(LogFormatter):
    """``0.001`` instead of a power of ten in mathematical type."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def plain_log(axis: Any) -> None:
    """Numbers instead of powers on a logarithmic axis: nothing on a figure is read as mathematics."""
    axis.set_major_formatter(_PlainLogFormatter())
    axis.set_minor_formatter(_PlainLogFormatter(labelOnlyBase=False, minor_thresholds=(1.2, 0.4)))


def whole_numbers(axis: Any) -> None:
    """Ticks at whole numbers only."""
    axis.set_major_locator(MaxNLocator(integer=True, nbins=7))


def in_points(ax: Axes) -> Transform:
    """Points from the upper left corner of axes, downwards: for what has a size of its own, like pictures and words.

    Args:
        ax: The axes.
    """
    corner = ScaledTranslation(0, 1, ax.transAxes)  # type: ignore[arg-type]
    return Affine2D().scale(1 / 72, -1 / 72) + ax.figure.dpi_scale_trans + corner


def text_on(color: Any) -> str:
    """Black or white, whichever reads better on a colour (WCAG relative luminance)."""
    rgb = np.asarray(color[:3], dtype=float)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return "black" if float(linear @ [0.2126, 0.7152, 0.0722]) > 0.179 else "white"


def dodge(count: int, index: int, width: float = 0.7) -> float:
    """Offset of one of several marks that share a row."""
    return 0.0 if count == 1 else width * (index / (count - 1) - 0.5)
