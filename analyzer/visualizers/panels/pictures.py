"""Pictures and words at places counted in points."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.transforms import Transform
from numpy.typing import NDArray

from analyzer.visualizers.series import Pen
from analyzer.visualizers.style import FAINT

Colours = NDArray[np.float64]
"""``(height, width, 3)`` RGB from 0 to 1."""


def write(ax: Axes, where: Transform, x: float, y: float, text: str, pen: Pen, *, va: Any, color: str) -> None:
    """A word beside pictures, in small type.

    Args:
        ax: The axes.
        where: What places are counted in: see `in_points`.
        x: Left end.
        y: Where it stands.
        text: The word.
        pen: Sizes.
        va: Which part of it stands there.
        color: Its colour.
    """
    ax.text(
        x,
        y,
        text,
        fontsize=pen.small,
        color=color,
        va=va,
        parse_math=False,
        transform=where,
        in_layout=False,
    )


def place(ax: Axes, where: Transform, picture: Colours, x: float, y: float, unit: float, pen: Pen) -> None:
    """A picture in a thin frame.

    Args:
        ax: The axes.
        where: What places are counted in: see `in_points`.
        picture: ``(height, width)`` with ``3`` colours or none.
        x: Left edge.
        y: Upper edge.
        unit: Side of a pixel.
        pen: Sizes.
    """
    height, width = np.shape(picture)[:2]
    image = ax.imshow(
        picture,
        extent=(x, x + unit * width, y + unit * height, y),
        interpolation="nearest",
        aspect="auto",
        transform=where,
        clip_on=False,
    )
    image.set_in_layout(False)
    frame = Rectangle((x, y), unit * width, unit * height, fill=False, edgecolor=FAINT, linewidth=0.6 * pen.line)
    frame.set(transform=where, clip_on=False, in_layout=False)
    ax.add_patch(frame)
