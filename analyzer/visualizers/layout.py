"""Panels in boxes of fixed size: axes fill what their labels and captions leave free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import LayoutEngine
from matplotlib.text import Text
from matplotlib.transforms import Bbox

CAPTION = "caption"
"""Group id of texts above a panel that may begin left of the axes, where there is room."""

MARGIN = 0.08
"""Inches of white around panels."""

_PASSES = 2
"""Numbers on axes depend on the size of the axes, and the size on the width of the numbers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """Axes and the box that they may fill, labels included.

    Attributes:
        axes: The axes.
        box: In fractions of the figure.
    """

    axes: Axes
    box: Bbox


class PanelLayout(LayoutEngine):
    """Fits every panel into its box; panels of one row have their axes at one height.

    Other layout engines share out what is left after all labels, so that a panel with long names takes from its
    neighbour, and captions, which are wrapped to the width of their panel, no longer fit.
    """

    _adjust_compatible = False
    _colorbar_gridspec = False

    def __init__(self, rows: Sequence[Sequence[Place]]) -> None:
        super().__init__()
        self._rows = rows

    def execute(self, fig: Figure) -> None:
        """Place the axes.

        Args:
            fig: The figure.
        """
        for row in self._rows:
            for place in row:
                box = place.box
                place.axes.set_position(Bbox.from_bounds(box.x0, box.y0, box.width, box.height).shrunk(0.8, 0.7))
            for _ in range(_PASSES):
                _fit(row, fig)
            for place in row:
                _pull_in(place, fig)


def _fit(row: Sequence[Place], fig: Figure) -> None:
    """Give every panel of a row the margins that its labels need now."""
    margins = []
    for place in row:
        inner = place.axes.get_window_extent()
        tight = place.axes.get_tightbbox(for_layout_only=True) or inner
        margins.append((inner.x0 - tight.x0, tight.x1 - inner.x1, inner.y0 - tight.y0, tight.y1 - inner.y1))
    width, height = fig.bbox.width, fig.bbox.height
    below, above = max(m[2] for m in margins) / height, max(m[3] for m in margins) / height
    for place, (left, right, _, _) in zip(row, margins, strict=True):
        box = place.box
        x0, x1 = box.x0 + max(left, 0) / width, box.x1 - max(right, 0) / width
        y0, y1 = box.y0 + max(below, 0), box.y1 - max(above, 0)
        place.axes.set_position(Bbox.from_extents(x0, y0, max(x1, x0 + 1e-3), max(y1, y0 + 1e-3)))


def _pull_in(place: Place, fig: Figure) -> None:
    """Where title or caption would leave their panel on the right, move both towards its left edge."""
    inner = place.axes.get_window_extent()
    texts = [t for t in place.axes.get_children() if isinstance(t, Text) and t.get_gid() == CAPTION]
    widest = max((text.get_window_extent().width for text in texts), default=0.0)
    beyond = max(inner.x0 + widest - place.box.x1 * fig.bbox.width, 0.0)
    for text in texts:
        text.set_x(-beyond / inner.width)
