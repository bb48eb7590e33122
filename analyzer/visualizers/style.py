"""How figures look: colours, marks, and three plot styles that differ.

Nothing here changes the process: a style holds for the length of a ``with`` block, and no pyplot state is touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib.style
from matplotlib.colors import LinearSegmentedColormap

from analyzer.visualizers.text import families

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours that differ under every common colour vision (Okabe & Ito 2008); their yellow is too pale on white."""

DARKER = ("#004266", "#8A3C00", "#005C43", "#8C4F72", "#8F6200", "#2A6F94", "#6B6B6B")
"""The same hues, darker, for models after the seventh."""

PALETTE = OKABE_ITO + DARKER
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
"""As many as have no factor in common with the palette: colour and mark together tell 154 models apart."""

LINE_STYLES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (4, 1, 1, 1)), (0, (1, 1)), (0, (3, 1, 1, 1, 1, 1)))

MUTED = "#5A5A5A"
"""Colour of captions and notes: 6.9 : 1 on white."""

FAINT = "#D9D9D9"

HEALTH_MAP = LinearSegmentedColormap.from_list(
    "keras_analyzer_health", ["#7F0010", "#C8351B", "#EA8A3C", "#EDD27A", "#BFEAA9"]
)
"""From red (bad) to green (good); lightness rises all the way, so that it reads the same without colour."""


def model_colors(names: Sequence[str]) -> dict[str, str]:
    """The colour of each model, by its place in the order given.

    Args:
        names: Names of models.
    """
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(names)}


@dataclass(frozen=True, kw_only=True)
class PlotStyle:
    """A plot style; lengths of figures in inches, of type and lines in points.

    Attributes:
        name: Value of the option ``plot_style``.
        width: Width of a figure; two panels stand side by side.
        panel_height: Height of an ordinary panel.
        font: Size of ordinary type.
        small: Size of captions, tick labels and notes.
        line: Width of lines.
        marker: Size of marks.
        extras: Draw bands, smooth curves, density contours and unsmoothed curves.
        most_dpi: Resolution that the option ``dpi`` cannot exceed; None leaves it free.
    """

    name: str
    width: float
    panel_height: float
    font: float
    small: float
    line: float
    marker: float
    extras: bool = True
    most_dpi: int | None = None

    def rc(self) -> dict[str, Any]:
        """The matplotlib settings of this style."""
        return {
            "font.family": "sans-serif",
            "font.sans-serif": list(families()),
            "font.size": self.font,
            "text.parse_math": False,
            # Hinted letters are as wide as whole pixels allow: lines would have another length at every resolution.
            "text.hinting": "none",
            "axes.titlesize": self.font + 1,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.labelsize": self.font,
            "axes.linewidth": 0.6 * self.line,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.axisbelow": True,
            "axes.formatter.limits": (-3, 5),
            "axes.formatter.useoffset": False,
            "xtick.labelsize": self.small,
            "ytick.labelsize": self.small,
            "xtick.major.width": 0.6 * self.line,
            "ytick.major.width": 0.6 * self.line,
            "xtick.major.size": 2.5 * self.line,
            "ytick.major.size": 2.5 * self.line,
            "legend.fontsize": self.font,
            "legend.frameon": False,
            "lines.linewidth": self.line,
            "lines.markersize": self.marker,
            "lines.antialiased": self.extras,
            "patch.antialiased": self.extras,
            "grid.color": "#E8E8E8",
            "grid.linewidth": 0.5 * self.line,
            "figure.dpi": 100,
            "svg.fonttype": "none",
            "svg.hashsalt": HASH_SALT,
            "pdf.fonttype": 42,
        }


HASH_SALT = "keras-analyzer"
"""Makes the ids within SVG files the same in every run."""

STYLES = {
    # Two columns of print: a panel is one column wide (3.5 in), type 6.5 pt and up at final size.
    "publication": PlotStyle(
        name="publication", width=7.0, panel_height=2.35, font=7.5, small=6.5, line=1.0, marker=3.5
    ),
    "presentation": PlotStyle(
        name="presentation", width=13.33, panel_height=5.0, font=17, small=14.5, line=2.4, marker=8.5
    ),
    "draft": PlotStyle(
        name="draft", width=9.0, panel_height=2.9, font=9, small=8, line=1.0, marker=4, extras=False, most_dpi=80
    ),
}


@contextmanager
def style_context(style: PlotStyle) -> Iterator[None]:
    """Draw in this style, whatever the user's settings, and leave those as they were.

    Args:
        style: The style.
    """
    with matplotlib.style.context(["default", style.rc()]):
        yield
