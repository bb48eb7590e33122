"""Robustness against attacks: curves of robust accuracy, scores beside the clean accuracy, and fooled samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from analyzer.data_types.robustness import AdversarialExample, RobustnessResult, ThreatModel
from analyzer.data_types.values import Estimate
from analyzer.visualizers.heatmaps import coloured, flat_map, symmetric_limit
from analyzer.visualizers.layout import MARGIN
from analyzer.visualizers.panels.base import caption, dodge, in_points, name_rows, panel
from analyzer.visualizers.panels.flow_rows import say_nothing
from analyzer.visualizers.panels.pictures import Colours, place, write
from analyzer.visualizers.series import Pen, Series, error_bar, sample_sizes, value_of
from analyzer.visualizers.style import MUTED
from analyzer.visualizers.text import displayable, elide

NORMS = {"linf": "L∞", "l2": "L2", "l1": "L1"}
TIERS = {"screen": "margin PGD", "standard": "APGD", "full": "AutoAttack"}
SCORES = (("clean_accuracy", "Clean\naccuracy ↑"), ("robust_accuracy", "Robust\naccuracy ↑"), ("aura", "AURA ↑"))
"""Field and label of each score, with the direction that is better."""

_ROWS = ("sample", "step", "moved")

MOST_EXAMPLES = 4
"""Samples in one panel."""


def of_attacks(series: Sequence[Series]) -> list[Series]:
    """Those of models that were attacked.

    Args:
        series: Results.
    """
    return [s for s in series if s.result.curve is not None]


@panel("robust_curves", RobustnessResult)
def robust_curves(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Robust accuracy by radius, with Wilson's band; dashed where a flag withholds the score.

    Args:
        ax: The axes.
        series: Results.
        pen: Sizes.
    """
    title = "Robust accuracy"
    attacked = of_attacks(series)
    if not attacked:
        say_nothing(ax, pen, title, "no model was attacked")
        return
    for s in attacked:
        found, withheld = s.result.curve, s.result.withheld
        every = max(1, len(found.epsilon) // 8)
        line = (0, (4, 2)) if withheld else "-"
        ax.plot(found.epsilon, found.accuracy, color=s.color, marker=s.marker, markevery=every, linestyle=line)
        if pen.extras:
            ax.fill_between(found.epsilon, found.low, found.high, color=s.color, alpha=0.12, linewidth=0)
    ax.set_ylim(0, 1.02)
    ax.set_xlim(left=0)
    ax.set_xlabel("Radius ε, in units of the data")
    ax.set_ylabel("Still decided rightly")
    ax.grid(visible=True)
    words = [sample_sizes([s.result.n for s in attacked]), *(["bands: 95 %"] if pen.extras else [])]
    words += ["dashed: score withheld"] if any(s.result.withheld for s in attacked) else []
    caption(ax, pen, title, "; ".join(words), threat_words([s.result.threat for s in attacked]))


def threat_words(threats: Sequence[ThreatModel]) -> str:
    """Norm and tier of the attacks, where they are those of all models.

    Args:
        threats: One per model.
    """
    norms = dict.fromkeys(NORMS[one.norm] for one in threats)
    tiers = dict.fromkeys(f"{one.tier} ({TIERS[one.tier]})" for one in threats)
    return f"{', '.join(norms)}; tier: {', '.join(tiers)}"


@panel("robust_scores", RobustnessResult)
def robust_scores(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Clean and robust accuracy and AURA with their intervals.

    Args:
        ax: The axes.
        series: Results.
        pen: Sizes.
    """
    title = "Scores"
    for j, s in enumerate(series):
        for i, (name, _) in enumerate(SCORES):
            estimate: Estimate | None = getattr(s.result, name)
            if estimate is not None and estimate.value is not None:
                _mark(ax, estimate, i + dodge(len(series), j, 0.5), s, pen)
    name_rows(ax, [label for _, label in SCORES])
    ax.set_ylim(len(SCORES) - 0.5, -0.5)
    ax.set_xlim(-0.02, 1.02)
    ax.set_xlabel("Share of samples; AURA: area under the curve")
    ax.grid(visible=True, axis="x")
    held = [s.label.replace("\n", "") for s in series if s.result.withheld]
    without = pen.one_line(f"no score: {', '.join(held)}") if held else ""
    caption(ax, pen, title, f"{sample_sizes([s.result.n for s in series])}; bars: 95 %", without)


def _mark(ax: Axes, estimate: Estimate, y: float, s: Series, pen: Pen) -> None:
    ax.plot(value_of(estimate), y, linestyle="none", marker=s.marker, color=s.color)
    bars = error_bar([estimate])
    if bars is not None:
        ax.errorbar([value_of(estimate)], [y], xerr=bars, fmt="none", ecolor=s.color, elinewidth=0.8 * pen.line)


@panel("fooled", RobustnessResult)
def fooled(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Samples, the nearest inputs found that are decided wrongly, and the step between them.

    Args:
        ax: The axes.
        series: One series: pictures of several models do not fit together.
        pen: Sizes.
    """
    title = "Nearest wrong decisions"
    examples = pictures(series[0].result)
    if not examples:
        say_nothing(ax, pen, title, "no sample of an image was fooled")
        return
    ax.set_axis_off()
    where, left, head = in_points(ax), 4.2 * pen.small, 2.9 * pen.small
    apart = (pen.points - 2 * MARGIN * 72 - left) / MOST_EXAMPLES
    down = (72 * pen.height - 4 * pen.font - 4 * pen.small - head) / len(_ROWS)
    side = 0.92 * min(apart, down)
    for k, row in enumerate(_ROWS):
        write(ax, where, 0, head + k * side / 0.92 + side / 2, row, pen, va="center", color=MUTED)
    for i, one in enumerate(examples):
        x = left + i * side / 0.92
        for k, name in enumerate((one.label, f"→ {one.decided}")):
            short = elide(displayable(name), side, pen.small)
            write(ax, where, x, 1.3 * k * pen.small, short, pen, va="top", color="black")
        for k, picture in enumerate(_three(one)):
            place(ax, where, picture, x, head + k * side / 0.92, side / max(picture.shape[:2]), pen)
    shown = f"{len(examples)} of {series[0].result.n} samples"
    caption(ax, pen, title, f"{shown}; lengths {_lengths(examples)}; step: red adds, blue takes away")


def pictures(result: RobustnessResult) -> list[AdversarialExample]:
    """The fooled samples that are images.

    Args:
        result: Robustness of one model.
    """
    images = [one for one in result.examples if one.values.ndim == 3 and one.values.shape[-1] in (1, 3)]
    return images[:MOST_EXAMPLES]


def _three(one: AdversarialExample) -> list[Colours]:
    """Sample, step and moved input as pictures; the two inputs share their scale."""
    step = flat_map(np.asarray(one.moved, np.float64) - np.asarray(one.values, np.float64), channels_first=False)
    low = float(min(one.values.min(), one.moved.min()))
    span = float(max(one.values.max(), one.moved.max())) - low or 1.0

    def shown(values: NDArray[np.float32]) -> Colours:
        unit = (np.asarray(values, np.float64) - low) / span
        return np.repeat(unit, 3, axis=-1) if unit.shape[-1] == 1 else unit

    return [shown(one.values), coloured(step, symmetric_limit(step, quantile=1.0)), shown(one.moved)]


def _lengths(examples: Sequence[AdversarialExample]) -> str:
    lengths = [one.distance for one in examples]
    return f"{min(lengths):.2g} to {max(lengths):.2g}"
