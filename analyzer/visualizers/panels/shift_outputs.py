"""What a shift does to classifications: accuracy on both sides, estimates without labels, scores of single samples."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from analyzer.data_types.shift import OutputShift, ShiftResult
from analyzer.data_types.values import Estimate
from analyzer.visualizers.panels.base import caption, dodge, name_rows, panel
from analyzer.visualizers.panels.flow_rows import say_nothing
from analyzer.visualizers.series import LABEL_SHARE, Pen, Series, error_bar, sample_sizes, value_of
from analyzer.visualizers.style import FAINT, MUTED
from analyzer.visualizers.text import displayable

REFERENCE = "#8C8C8C"
"""Colour of the reference."""

VERDICT_COLORS = {"harmful": "#A80018", "suspected": "#8A4B00", "not harmful": "black", "undecided": MUTED}

SIGNS = (("x", "×"), ("+", "+"), ("^", "△"), ("v", "▽"))
"""Mark of each method of estimation, and the sign that stands for it in the caption."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Decided:
    """One classification of one model.

    Attributes:
        s: The model.
        output: Name of the output.
        shift: What was found.
        alone: Whether the model has no other.
    """

    s: Series
    output: str
    shift: OutputShift
    alone: bool

    def name(self, pen: Pen) -> str:
        """The model, with the output where it has several."""
        if self.alone:
            return self.s.label
        return pen.book.label(f"{self.s.name} · {self.output}", LABEL_SHARE * pen.points, pen.small, lines=2)


def decided(series: Sequence[Series]) -> list[Decided]:
    """The classifications of all models.

    Args:
        series: Results of shift.
    """
    return [
        Decided(s=s, output=output, shift=shift, alone=len(s.result.outputs) == 1)
        for s in series
        for output, shift in s.result.outputs.items()
    ]


def with_accuracy(series: Sequence[Series]) -> list[Decided]:
    """Those whose accuracy is known or estimated on either side.

    Args:
        series: Results of shift.
    """
    return [
        one
        for one in decided(series)
        if one.shift.reference_accuracy is not None or one.shift.accuracy is not None or one.shift.estimates
    ]


def with_scores(series: Sequence[Series]) -> list[Decided]:
    """Those that have scores of single samples.

    Args:
        series: Results of shift.
    """
    return [one for one in decided(series) if one.shift.ood]


@panel("harm", ShiftResult)
def harm(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Accuracy on the reference and on the data, estimates of the latter without labels, and what follows.

    Args:
        ax: The axes.
        series: Results of shift.
        pen: Sizes.
    """
    title = "Accuracy and harm"
    found = with_accuracy(series)
    if not found:
        say_nothing(ax, pen, title, "no output decides among classes")
        return
    methods = list(dict.fromkeys(method for one in found for method in one.shift.estimates))
    lines = 2 + len(methods)
    for i, one in enumerate(found):
        at = [i - 0.4 + 0.8 * (k + 0.5) / lines for k in range(lines)]
        _draw_accuracies(ax, one, at, pen)
        for y, method, (marker, _) in zip(at[2:], methods, _signs(len(methods)), strict=True):
            _draw_estimate(ax, one, method, marker, y, pen)
        _write_verdict(ax, one.shift, i, pen)
    _part_rows(ax, len(found), pen)
    name_rows(ax, [one.name(pen) for one in found])
    ax.set_ylim(len(found) - 0.5, -0.5)
    low, high = ax.get_xlim()
    ax.set_xlim(max(low, -0.02), min(high, 1.02))
    ax.set_xlabel("Accuracy")
    ax.grid(visible=True, axis="x")
    caption(ax, pen, title, *_harm_words(found, methods), _not_asked(series, found, pen))


def _part_rows(ax: Axes, count: int, pen: Pen) -> None:
    for i in range(1, count):
        ax.axhline(i - 0.5, color=FAINT, linewidth=0.6 * pen.line, zorder=0.5)


def _signs(count: int) -> list[tuple[str, str]]:
    return [SIGNS[k % len(SIGNS)] for k in range(count)]


def _draw_accuracies(ax: Axes, one: Decided, at: Sequence[float], pen: Pen) -> None:
    sides = ((one.shift.reference_accuracy, REFERENCE), (one.shift.accuracy, one.s.color))
    for y, (accuracy, color) in zip(at, sides, strict=False):
        if accuracy is not None:
            _mark(ax, accuracy, y, pen, color=color, marker=one.s.marker)


def _mark(ax: Axes, estimate: Estimate, y: float, pen: Pen, **look: Any) -> None:
    if estimate.value is None:
        return
    ax.plot(value_of(estimate), y, linestyle="none", markeredgewidth=0.8 * pen.line, **look)
    bars = error_bar([estimate])
    if bars is not None:
        line: dict[str, Any] = {"ecolor": look["color"], "elinewidth": 0.8 * pen.line}
        ax.errorbar([value_of(estimate)], [y], xerr=bars, fmt="none", **line)


def _draw_estimate(ax: Axes, one: Decided, method: str, marker: str, y: float, pen: Pen) -> None:
    """The estimate of one method, with the known error of such estimates to either side."""
    estimate = one.shift.estimates.get(method)
    if estimate is None or estimate.value is None:
        return
    value, error = value_of(estimate), one.shift.estimates_error
    if error is not None:
        ends = max(value - error, 0.0), min(value + error, 1.0)
        ax.hlines(y, *ends, color=one.s.color, linestyle=(0, (1, 1.5)), linewidth=0.8 * pen.line)
    ax.plot(
        value,
        y,
        linestyle="none",
        marker=marker,
        color=one.s.color,
        markerfacecolor="white",
        markeredgewidth=0.8 * pen.line,
    )


def _write_verdict(ax: Axes, shift: OutputShift, y: float, pen: Pen) -> None:
    """The verdict at the right end of its row, with the change of accuracy."""
    word = shift.harm or "–"
    change = None if shift.change is None else shift.change.value
    text = word if change is None else f"{word}\n{change:+.3f}".replace("-", "−")
    look: dict[str, Any] = {"va": "center", "fontsize": pen.small, "color": VERDICT_COLORS.get(word, MUTED)}
    ax.text(1.02, y, text, transform=ax.get_yaxis_transform(), linespacing=1.15, **look)


def _harm_words(found: Sequence[Decided], methods: Sequence[str]) -> list[str]:
    measured = any(one.shift.accuracy is not None for one in found)
    key = ["grey: reference", *(["colour: data"] if measured else []), "bars: 95 %", "right: verdict, change"]
    signs = [f"{sign} {displayable(method)}" for method, (_, sign) in zip(methods, _signs(len(methods)), strict=True)]
    errors = [one.shift.estimates_error for one in found if one.shift.estimates_error is not None]
    known = f" (dotted: known error, ± {statistics.median(errors):.2g})" if errors else ""
    by_labels = {one.shift.basis for one in found} == {"labels"}
    basis = "" if by_labels or not measured else "verdicts by labels where there are any"
    without = f"without labels: {', '.join(signs)}{known}" if signs else ""
    return [f"{_sizes(found)}; {'; '.join(key)}", without, basis]


def _sizes(found: Sequence[Decided]) -> str:
    """Samples behind the accuracies: more than those whose places are compared."""
    new = [one.n for each in found for one in (each.shift.accuracy, *each.shift.estimates.values()) if one is not None]
    reference = [each.shift.reference_accuracy.n for each in found if each.shift.reference_accuracy is not None]
    sides = (("data", new), ("reference", reference))
    return ", ".join(f"{side}: {sample_sizes(sizes)}" for side, sizes in sides if sizes)


def _not_asked(series: Sequence[Series], found: Sequence[Decided], pen: Pen) -> str:
    names = [s.one_line for s in series if not any(one.s is s for one in found)]
    return pen.one_line(f"nothing known of: {', '.join(names)}") if names else ""


@panel("out_of_distribution", ShiftResult)
def out_of_distribution(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """How well scores tell samples of the data from those of the reference: AUROC and FPR95.

    Args:
        ax: The axes.
        series: Results of shift.
        pen: Sizes.
    """
    title = "Out of distribution"
    found = with_scores(series)
    if not found:
        say_nothing(ax, pen, title, "no output has scores of single samples")
        return
    several = any(not one.alone for one in found)
    keys = list(dict.fromkeys((one.output if several else "", score) for one in found for score in one.shift.ood))
    models = [s for s in series if any(one.s is s for one in found)]
    for one in found:
        offset = dodge(len(models), next(j for j, s in enumerate(models) if s is one.s), 0.5)
        for score, detection in one.shift.ood.items():
            y = keys.index((one.output if several else "", score)) + offset
            _mark(ax, detection.auroc, y, pen, color=one.s.color, marker=one.s.marker)
            hollow = {"marker": one.s.marker, "markerfacecolor": "white", "alpha": 0.7}
            _mark(ax, detection.fpr95, y, pen, color=one.s.color, **hollow)
    ax.axvline(0.5, color=MUTED, linewidth=0.8 * pen.line, linestyle=(0, (4, 2)), zorder=0.7)
    _part_rows(ax, len(keys), pen)
    name_rows(ax, [_score_name(*key, pen) for key in keys])
    ax.set_ylim(len(keys) - 0.5, -0.5)
    ax.set_xlim(-0.03, 1.03)
    ax.set_xlabel("AUROC; FPR95")
    ax.grid(visible=True, axis="x")
    marks = "filled: AUROC (dashed: 0.5, nothing is told); hollow: FPR95, share that passes as reference; bars: 95 %"
    caption(ax, pen, title, _judged(found), marks, _not_asked(series, found, pen))


def _judged(found: Sequence[Decided]) -> str:
    """Samples that scores are judged on: not those of the reference that distances are fitted to."""
    scored = [detection for one in found for detection in one.shift.ood.values()]
    new = [one.fpr95.n for one in scored]
    return f"data: {sample_sizes(new)}, reference: {sample_sizes([one.auroc.n - one.fpr95.n for one in scored])}"


def _score_name(output: str, score: str, pen: Pen) -> str:
    return pen.layer(f"{output} · {score}" if output else score)
