"""Where a wrong decision arises: how each layer amplifies an attack, and how far noise put there reaches."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from analyzer.data_types.layer_faults import LayerFault, LayersAtFault
from analyzer.data_types.robustness import RobustnessResult
from analyzer.data_types.values import Estimate, Finding
from analyzer.visualizers.panels.base import panel
from analyzer.visualizers.panels.flow_lines import finish, positive
from analyzer.visualizers.panels.flow_rows import MARK_COLORS, LayerRows, number_of, say_nothing
from analyzer.visualizers.series import Pen, Series, error_bar
from analyzer.visualizers.style import MUTED
from analyzer.visualizers.text import displayable

TITLE = "Layers at fault"

APART = 0.24
"""How far the marks of one row stand from each other, in rows."""

MOST_TICKS = 7
"""Numbers on the axis of factors."""

Read = Callable[[LayerFault], Estimate | None]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Profile:
    """What rows of layers are made of."""

    layers: tuple[LayerFault, ...]
    findings: tuple[Finding, ...]
    n: int


@panel("layer_profile", RobustnessResult)
def layer_profile(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Amplification of attacks and of random steps by layer, noise gain, and the share of each branch.

    Args:
        ax: The axes.
        series: One series: what failures are differs from model to model.
        pen: Sizes.
    """
    s = series[0]
    found = s.result.layers
    if found is None or not found.layers:
        say_nothing(ax, pen, TITLE, _why_not(s.result))
        return
    profile = _Profile(layers=found.layers, findings=s.result.findings, n=found.n_used_failures)
    rows = LayerRows.of([s.of(profile)], pen.most_layers, _weight(found))
    ax.axvline(1, color=MUTED, linewidth=0.6 * pen.line)
    _draw(ax, rows, lambda layer: _grown(layer, "failures"), -APART, pen, s.color, marker=s.marker)
    _draw(
        ax, rows, lambda layer: _grown(layer, "controls"), 0.0, pen, s.color, marker=s.marker, markerfacecolor="white"
    )
    _draw(ax, rows, lambda layer: layer.noise_gain.failures, APART, pen, MUTED, marker="x")
    _factors(ax)
    _write_shares(ax, rows, found, pen)
    # Where a figure repeats the panel, it explains the marks once.
    finish(ax, rows, pen, TITLE, _sizes(found), "" if pen.heading else mark_words([s]), _verdict(found))


def _why_not(result: RobustnessResult) -> str:
    reasons = [note.partition(": ")[2] for note in result.notes if note.startswith("layers not traced: ")]
    return displayable(reasons[0]) if reasons else "no wrong decision was traced"


def _weight(found: LayersAtFault) -> Callable[[LayerFault], float]:
    """Of the layers with findings, those of the largest share go first."""
    shares = {branch.id: number_of(branch.share.failures) for branch in found.branches}
    return lambda layer: shares.get(layer.id, 0.0)


def _grown(layer: LayerFault, group: str) -> Estimate | None:
    """Amplification as a factor."""
    if layer.log_amplification is None:
        return None
    log: Estimate = getattr(layer.log_amplification, group)
    value, low, high = (None if end is None else math.exp(end) for end in (log.value, log.low, log.high))
    return dataclasses.replace(log, value=value, low=low, high=high)


def _draw(ax: Axes, rows: LayerRows, read: Read, offset: float, pen: Pen, color: str, **look: Any) -> None:
    """One quantity: a mark in each row that has it, with its interval."""
    (s,) = rows.series
    known = [(i + offset, read(layer)) for i, layer in enumerate(rows.layers(s))]
    shown = [(y, e) for y, e in known if e is not None and positive(e) is not None]
    values = [number_of(e) for _, e in shown]
    at, estimates = [y for y, _ in shown], [e for _, e in shown]
    bars = error_bar([e if (e.low or 0) > 0 else dataclasses.replace(e, low=None) for e in estimates])
    if bars is not None:
        ax.errorbar(values, at, xerr=bars, fmt="none", ecolor=color, elinewidth=0.8 * pen.line)
    ax.plot(values, at, linestyle="none", color=color, **look)


def _factors(ax: Axes) -> None:
    """A logarithmic axis of powers of two, at least from a half to two."""
    ax.set_xscale("log", base=2)
    low, high = ax.get_xlim()
    ax.set_xlim(min(low, 0.45), max(high, 2.2))
    ax.xaxis.set_major_locator(LogLocator(base=2, numticks=MOST_TICKS))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}" if x >= 1 else f"1/{1 / x:.0f}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("Factor; 1: nothing grows")


def mark_words(series: Sequence[Series]) -> str:
    """What the marks mean.

    Args:
        series: Models with layers at fault.
    """
    found = [s.result.layers for s in series]
    grown = any(layer.log_amplification for one in found for layer in one.layers)
    shares = any(one.branches for one in found)
    words = [
        "full: growth of the shift at a layer under attack; hollow: after a random step" if grown else "",
        "×: growth of noise from a layer to the logits",
        "bars: 95 %",
        "at the right: share of the damage that a branch does" if shares else "",
    ]
    return "; ".join(word for word in words if word)


def _write_shares(ax: Axes, rows: LayerRows, found: LayersAtFault, pen: Pen) -> None:
    """At the right edge what each branch does; the row of the one at fault is shaded."""
    shares = {branch.id: branch.share.failures for branch in found.branches}
    for i, key in enumerate(rows.ids):
        ax.axhline(i + 0.5, color="#EDEDED", linewidth=0.6 * pen.line, zorder=0)
        if found.accused is not None and key == found.accused.id:
            ax.axhspan(i - 0.5, i + 0.5, color=MARK_COLORS[1], alpha=0.13, linewidth=0, zorder=0)
        if key in shares and shares[key].value is not None:
            words, place = f"{number_of(shares[key]):.0%}", ax.get_yaxis_transform()
            ax.text(1.015, i, words, transform=place, va="center", fontsize=pen.small, parse_math=False)


def _verdict(found: LayersAtFault) -> str:
    if found.accused is not None:
        share = found.accused.share.failures
        ends = "" if share.low is None or share.high is None else f" ({share.low:.0%} to {share.high:.0%})"
        return f"shaded: at fault, {float(share):.0%}{ends}"
    if found.is_chain:
        return "a chain: patching names no layer"
    return "no branch is at fault beyond doubt"


def _sizes(found: LayersAtFault) -> str:
    controls = f", {found.n_used_controls} controls" if found.n_used_controls else ", no controls"
    return f"n = {found.n_used_failures} failures{controls}"
