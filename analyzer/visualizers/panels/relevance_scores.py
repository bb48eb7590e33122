"""Whether explanations are faithful: measures beside those of a random order, and the curves behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from analyzer.data_types.relevance import Faithfulness, FaithfulnessScore, RelevanceResult
from analyzer.visualizers.panels.base import caption, dodge, name_rows, panel
from analyzer.visualizers.panels.flow_lines import DETAILED_UP_TO
from analyzer.visualizers.panels.flow_rows import say_nothing
from analyzer.visualizers.series import Pen, Series, error_bar, sample_sizes, value_of
from analyzer.visualizers.style import MUTED
from analyzer.visualizers.text import displayable

MEASURES = (("abpc", "ABPC ↑"), ("comprehensiveness", "Comprehen-\nsiveness ↑"), ("sufficiency", "Sufficiency ↓"))
"""Field and label of each measure of faithfulness, with the direction that is better."""


@panel("faithfulness", RelevanceResult)
def faithfulness(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """How the output follows the features named, relative to a random order.

    Args:
        ax: The axes.
        series: Results.
        pen: Sizes.
    """
    title = "Faithfulness"
    measured = [s for s in series if s.result.faithfulness is not None]
    if not measured:
        reasons = {displayable(s.result.faithfulness_reason or "not measured") for s in series}
        say_nothing(ax, pen, title, "; ".join(sorted(reasons)))
        return
    present = [(name, label) for name, label in MEASURES if any(_score(s, name) for s in measured)]
    for j, s in enumerate(measured):
        for i, (name, _) in enumerate(present):
            score = _score(s, name)
            if score is not None:
                _draw_score(ax, score, i + dodge(len(measured), j, 0.5), s, pen)
    ax.axvline(0, color=MUTED, linewidth=0.6 * pen.line)
    name_rows(ax, [label for _, label in present])
    ax.set_ylim(len(present) - 0.5, -0.5)
    ax.grid(visible=True, axis="x")
    ax.set_xlabel("Measure, in units of the output")
    sizes = sample_sizes([s.result.faithfulness.n for s in measured])
    by = {displayable(s.result.faithfulness.baseline) for s in measured}
    replaced = f"replaced by {next(iter(by))}" if len(by) == 1 else ""
    words = [sizes, replaced, "bars: 95 %", "cross: random order"]
    missing = ", ".join(s.label.replace("\n", "") for s in series if s not in measured)
    without = pen.one_line(f"not measured: {missing}") if missing else ""
    caption(ax, pen, title, "; ".join(w for w in words if w), without)


def _score(s: Series, name: str) -> FaithfulnessScore | None:
    found: FaithfulnessScore | None = getattr(s.result.faithfulness, name)
    return found


def _draw_score(ax: Axes, score: FaithfulnessScore, y: float, s: Series, pen: Pen) -> None:
    ax.plot(value_of(score.value), y, linestyle="none", marker=s.marker, color=s.color)
    ax.plot(value_of(score.random), y, linestyle="none", marker="x", color=s.color, alpha=0.7)
    bars = error_bar([score.value])
    if bars is not None:
        ax.errorbar([value_of(score.value)], [y], xerr=bars, fmt="none", ecolor=s.color, elinewidth=0.8 * pen.line)


@panel("perturbation", RelevanceResult)
def perturbation(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """The output while features are replaced, the most and the least relevant first.

    Args:
        ax: The axes.
        series: Results.
        pen: Sizes.
    """
    title = "Replacing features"
    measured = [s for s in series if has_curves(s.result.faithfulness)]
    if not measured:
        say_nothing(ax, pen, title, "no curves were kept")
        return
    for s in measured:
        found = s.result.faithfulness
        every = max(1, len(found.fraction) // 6)
        look: dict[str, Any] = {"color": s.color, "marker": s.marker, "markevery": every}
        ax.plot(found.fraction, found.most_first, linestyle="-", **look)
        ax.plot(found.fraction, found.least_first, linestyle=(0, (5, 1.5)), **look)
        if len(measured) == 1:
            ax.fill_between(found.fraction, found.most_first, found.least_first, color=s.color, alpha=0.12, linewidth=0)
        if found.random_first is not None and len(measured) <= DETAILED_UP_TO:
            ax.plot(found.fraction, found.random_first, color=s.color, linestyle=(0, (1, 1)), linewidth=0.8 * pen.line)
    ax.set_xlabel("Share of features replaced")
    ax.set_ylabel("Output, relative")
    ax.grid(visible=True)
    sizes = sample_sizes([s.result.faithfulness.n for s in measured])
    words = [sizes, "solid: most relevant first", "dashed: least relevant first"]
    words += ["dotted: random order"] if len(measured) <= DETAILED_UP_TO else []
    words += ["area between: ABPC"] if len(measured) == 1 else []
    missing = ", ".join(s.label.replace("\n", "") for s in series if s not in measured)
    caption(ax, pen, title, "; ".join(words), pen.one_line(f"no curves: {missing}") if missing else "")


def has_curves(found: Faithfulness | None) -> bool:
    """Whether the curves behind the measures were kept.

    Args:
        found: Faithfulness.
    """
    return found is not None and all(
        values is not None and np.size(values) > 1 for values in (found.fraction, found.most_first, found.least_first)
    )
