"""Accuracy under corruptions, by corruption and severity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from analyzer.data_types.robustness import RobustnessResult
from analyzer.visualizers.panels.base import caption, name_rows, panel, text_on
from analyzer.visualizers.panels.flow_rows import say_nothing
from analyzer.visualizers.series import Pen, Series
from analyzer.visualizers.text import displayable

CELLS_WITH_NUMBERS = 120
"""Cells up to which each has its number written in it."""


@panel("corruption_accuracy", RobustnessResult)
def corruption_accuracy(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Accuracy by corruption and severity of one model; white is no worse than clean.

    Args:
        ax: The axes.
        series: One series.
        pen: Sizes.
    """
    title = "Accuracy under corruptions"
    result = series[0].result
    found = result.corruptions
    if found is None:
        say_nothing(ax, pen, title, "the inputs were not corrupted")
        return
    colors = matplotlib.colormaps["cividis"]
    ax.pcolormesh(found.accuracy, cmap=colors, vmin=0.0, vmax=1.0, edgecolors="white", linewidth=0.5 * pen.line)
    if found.accuracy.size <= CELLS_WITH_NUMBERS:
        for (i, j), value in np.ndenumerate(found.accuracy):
            look: dict[str, Any] = {"fontsize": 0.85 * pen.small, "color": text_on(colors(value))}
            ax.text(j + 0.5, i + 0.5, f"{value:.2f}", ha="center", va="center", **look)
    rows = [displayable(name).replace("_", " ") for name in found.corruptions]
    name_rows(ax, rows, places=[i + 0.5 for i in range(len(rows))])
    ax.set_ylim(len(rows), 0)
    ax.set_xticks([j + 0.5 for j in range(found.accuracy.shape[1])], [str(j + 1) for j in range(5)])
    ax.tick_params(axis="x", length=0)
    ax.set_xlabel("Severity")
    clean = result.clean_accuracy
    words = f"n = {found.n}; mean over cells {found.mean_accuracy.value:.3f}, clean {clean.value:.3f}"
    caption(ax, pen, title, words, f"severities: {displayable(found.source)}")
