"""What panels draw: one `Series` per model (and output), and the `Pen` that they draw with."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib

from analyzer.data_types.results import MultiOutput
from analyzer.data_types.values import Estimate, Failed, Skipped
from analyzer.visualizers.style import LINE_STYLES, MARKERS, PALETTE, PlotStyle
from analyzer.visualizers.text import NameBook, displayable, elide

LABEL_SHARE = 0.38
"""Share of a panel's width that the name of a model may take before it is wrapped or shortened."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Series:
    """One result with the look that its model has in every panel.

    Attributes:
        name: Full name: of the model, with the output where there are several.
        label: What is written on the figure.
        color: Colour.
        marker: Mark of points.
        linestyle: Style of lines.
        result: What is drawn.
    """

    name: str
    label: str
    color: str
    marker: str
    linestyle: Any
    result: Any

    @property
    def one_line(self) -> str:
        """The label without its line breaks."""
        return self.label.replace("\n", "")

    def of(self, result: Any) -> Series:
        """The same look for another result."""
        return dataclasses.replace(self, result=result)


@dataclass(frozen=True, kw_only=True, eq=False)
class Pen:
    """What a panel needs to know about the place it is drawn in.

    Attributes:
        width: Room from the left edge of the panel to its right edge, in inches.
        height: Room from top to bottom, in inches.
        font: Ordinary type in points.
        small: Small type in points.
        line: Width of lines in points; thinner and thicker ones are multiples of it.
        extras: Draw bands, smooth curves and contours.
        most_layers: Most layers to show; None shows all.
        heading: Title instead of the panel's own, where a figure repeats the panel; it then says less below.
        keyed: Whether the figure has a key of the models.
        row_names: Name the layers; off where the panel to the left has the same rows.
        book: Labels of layers and classes.
    """

    width: float
    height: float
    font: float
    small: float
    line: float
    extras: bool = True
    most_layers: int | None = None
    heading: str | None = None
    keyed: bool = False
    row_names: bool = True
    book: NameBook = field(default_factory=NameBook)

    @classmethod
    def of(cls, style: PlotStyle, **options: Any) -> Pen:
        """A pen of a style; a panel is half as wide as a figure where nothing else is said."""
        usual = {"width": style.width / 2, "height": style.panel_height}
        points = {"font": style.font, "small": style.small, "line": style.line}
        return cls(**usual | points | {"extras": style.extras} | options)

    @classmethod
    def of_user(cls, width: float, height: float) -> Pen:
        """A pen that follows the user's own matplotlib settings."""
        font = float(matplotlib.rcParams["font.size"])
        line = 0.67 * float(matplotlib.rcParams["lines.linewidth"])
        return cls(width=width, height=height, font=font, small=0.87 * font, line=line)

    @property
    def points(self) -> float:
        """The width in points."""
        return self.width * 72

    def layer(self, name: str) -> str:
        """The label of a layer or class: one line of at most two fifths of the panel."""
        return self.book.label(name, min(0.4 * self.points, 17 * self.small), self.small)

    def one_line(self, text: str) -> str:
        """The text without its middle where it is longer than one line of a caption."""
        return elide(text, self.points - 6 * self.small, self.small)


@dataclass(frozen=True, kw_only=True, eq=False)
class Cast:
    """Everything of one analysis that a figure can show, and what it cannot.

    Attributes:
        series: What is drawn, in the order of the models.
        absent: Reason by full name, for what is not there.
    """

    series: tuple[Series, ...]
    absent: dict[str, str]

    def having(self, *types: type) -> tuple[Series, ...]:
        """The series whose results are of these types."""
        return tuple(s for s in self.series if isinstance(s.result, types))

    def notes(self, analysis: str) -> list[str]:
        """One sentence per model that is not drawn."""
        return [f"Not shown: {displayable(name)} – {analysis} {displayable(why)}" for name, why in self.absent.items()]


def cast_of(
    results: Mapping[str, Any],
    names: Sequence[str],
    colors: Mapping[str, str],
    book: NameBook,
    width: float,
    size: float,
) -> Cast:
    """Give every result the look of its model.

    Args:
        results: Model name to result, `MultiOutput`, `Skipped` or `Failed`.
        names: All models, in the order that decides their marks.
        colors: Colour by model.
        book: Makes the labels.
        width: Room for a label, in points.
        size: Its font size in points.
    """
    order = {name: i for i, name in enumerate([*names, *(n for n in results if n not in names)])}
    series: list[Series] = []
    absent: dict[str, str] = {}
    for model in sorted(results, key=order.__getitem__):
        for j, (name, result) in enumerate(_outputs(model, results[model])):
            if isinstance(result, Skipped | Failed):
                absent[name] = f"{result.status}: {result.reason}"
                continue
            i = order[model]
            series.append(
                Series(
                    name=name,
                    label=book.label(name, width, size, lines=2),
                    color=colors.get(model, PALETTE[i % len(PALETTE)]),
                    marker=MARKERS[(i + 3 * j) % len(MARKERS)],
                    linestyle=LINE_STYLES[(i // len(PALETTE) + j) % len(LINE_STYLES)],
                    result=result,
                )
            )
    return Cast(series=tuple(series), absent=absent)


def _outputs(model: str, result: Any) -> list[tuple[str, Any]]:
    if isinstance(result, MultiOutput):
        return [(f"{model} · {output}", one) for output, one in result.outputs.items()]
    return [(model, result)]


def number(value: float | None, digits: int = 3) -> str:
    """A number for people; a dash where there is none."""
    if value is None:
        return "–"
    if value == 0 or 10**-digits <= abs(value) < 10**5:
        return f"{value:.{digits}f}" if abs(value) < 10 else f"{value:.{max(digits + 1, 4)}g}"
    return f"{value:.2g}"


def value_of(estimate: Estimate) -> float:
    """The value as a float, also where a file had a whole number; NaN where it is undefined."""
    return math.nan if estimate.value is None else float(estimate.value)


def interval(estimate: Estimate | None, digits: int = 3) -> str:
    """The interval of an estimate in brackets; empty where there is none."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    return f"[{number(estimate.low, digits)}, {number(estimate.high, digits)}]"


def sample_sizes(sizes: Sequence[int]) -> str:
    """``n = 300``, or the range where series differ."""
    low, high = min(sizes), max(sizes)
    return f"n = {low}" if low == high else f"n = {low} to {high}"


def rows_and_columns(series: Sequence[Series], field: str, column: str) -> str:
    """``n = 300``, or ``n = 300 × 4 labels`` where each row has several values.

    Args:
        series: Results.
        field: Name of their array with a row per sample.
        column: What a column is, in plural.
    """
    counts = sorted({math.prod(getattr(s.result, field).shape[1:]) for s in series})
    many = f" × {' or '.join(map(str, counts))} {column}" if counts[-1] > 1 else ""
    return sample_sizes([s.result.n for s in series]) + many


def error_bar(estimates: Sequence[Estimate]) -> list[list[float]] | None:
    """Distances from the values to the ends of their intervals, as ``errorbar`` takes them; None without any."""
    if all(e.low is None or e.high is None for e in estimates):
        return None
    below = [0.0 if e.low is None else max(value_of(e) - e.low, 0.0) for e in estimates]
    above = [0.0 if e.high is None else max(e.high - value_of(e), 0.0) for e in estimates]
    return [below, above]
