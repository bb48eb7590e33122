"""The features that moved most: their distribution in the reference above that in the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from analyzer.data_types.shift import FeatureShift, ShiftResult
from analyzer.visualizers.panels.base import caption, name_rows, panel
from analyzer.visualizers.panels.flow_rows import layer_name, say_nothing
from analyzer.visualizers.panels.shift_outputs import REFERENCE
from analyzer.visualizers.panels.shift_rows import both_sizes
from analyzer.visualizers.series import Pen, Series
from analyzer.visualizers.style import FAINT

MOST_FEATURES = 8
"""Features in one panel."""

FAR = 12.0
"""Standard deviations up to which the axis is linear."""

_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Ends of the line, ends of the box and the median."""


@panel("moved_features", ShiftResult)
def moved_features(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """The features that moved most, in standard deviations of the reference from its mean.

    Args:
        ax: The axes.
        series: Results of shift; each has its share of the rows.
        pen: Sizes.
    """
    title = "Features that moved most"
    shown = shown_features(series)
    if not shown:
        say_nothing(ax, pen, title, "no feature was kept")
        return
    far = 0.0
    for i, (s, feature) in enumerate(shown):
        center, scale = mean_and_deviation(feature.reference)
        for y, quantiles, color in ((i - 0.17, feature.reference, REFERENCE), (i + 0.17, feature.new, s.color)):
            marks = (strip(quantiles) - center) / scale
            _draw_strip(ax, marks, y, color, pen)
            far = max(far, float(np.abs(marks).max()))
        text = f"{feature.wasserstein:.2g}"
        ax.text(1.02, i, text, transform=ax.get_yaxis_transform(), va="center", fontsize=pen.small, color=s.color)
    if far > FAR:
        ax.set_xscale("symlog", linthresh=FAR / 4, linscale=1.0)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}".replace("-", "−")))
    for i in range(1, len(shown)):
        ax.axhline(i - 0.5, color=FAINT, linewidth=0.6 * pen.line, zorder=0.5)
    name_rows(ax, [f"{layer_name(feature.place, pen)} [{feature.feature}]" for _, feature in shown])
    ax.set_ylim(len(shown) - 0.5, -0.5)
    ax.set_xlabel("From the reference's mean, in its SD")
    ax.grid(visible=True, axis="x")
    kept = max(len(s.result.features) for s in series)
    each = max(sum(s is one for one, _ in shown) for s in series)
    left = f"; {each} of {kept} kept features" if each < kept else ""
    words = "grey: reference; box: quartiles; tick: median; line: 5 to 95 %; right: W₁"
    caption(ax, pen, title, f"{both_sizes(series)}{left}", words)


def shown_features(series: Sequence[Series]) -> list[tuple[Series, FeatureShift]]:
    """The features that a panel has room for, those of each model that moved most.

    Args:
        series: Results of shift.
    """
    each = max(MOST_FEATURES // len(series), 1)
    return [(s, feature) for s in series for feature in s.result.features[:each] if feature.reference.size > 1]


def strip(quantiles: NDArray[np.float64]) -> NDArray[np.float64]:
    """The quantiles that are drawn: 5, 25, 50, 75 and 95 %.

    Args:
        quantiles: ``(k,)`` at equal steps from the smallest value to the largest.
    """
    return np.interp(_SHARES, np.linspace(0, 1, len(quantiles)), np.asarray(quantiles, np.float64))


def mean_and_deviation(quantiles: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and standard deviation of the distribution that is even between its quantiles; 1 where all are equal.

    Args:
        quantiles: ``(k,)`` at equal steps from the smallest value to the largest.
    """
    values = np.asarray(quantiles, np.float64)
    left, right = values[:-1], values[1:]
    mean = float(np.mean((left + right) / 2))
    left, right = left - mean, right - mean
    variance = float(np.mean((left**2 + left * right + right**2) / 3))
    return mean, float(np.sqrt(variance)) or 1.0


def _draw_strip(ax: Axes, marks: NDArray[np.float64], y: float, color: str, pen: Pen) -> None:
    low, left, middle, right, high = marks.tolist()
    look: dict[str, Any] = {"color": color, "capstyle": "butt"}
    ax.hlines(y, low, high, linewidth=0.8 * pen.line, **look)
    ax.hlines(y, left, right, linewidth=3.0 * pen.line, **look)
    ax.vlines(middle, y - 0.14, y + 0.14, color="black", linewidth=1.0 * pen.line, zorder=3)
