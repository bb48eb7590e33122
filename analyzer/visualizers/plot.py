"""`plot`: any one panel of any result on any axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from analyzer.errors import ConfigError, DataError
from analyzer.visualizers.layout import MARGIN, PanelLayout, Place
from analyzer.visualizers.panels import PANELS, Panel
from analyzer.visualizers.panels.layers import by_architecture
from analyzer.visualizers.panels.relevance_rows import by_layer, by_place
from analyzer.visualizers.panels.shift_rows import by_shift_place
from analyzer.visualizers.series import Cast, Pen, cast_of
from analyzer.visualizers.style import STYLES, model_colors, style_context

LAYER_PANELS = (
    "weight_norms",
    "weight_health",
    "weight_histograms",
    "activations",
    "gradients",
    "gain",
    "input_cosine",
    "effective_rank",
    "knowledge",
    "specialization",
    "flow_health",
    "units",
    "layer_cka",
    "layers",
    "ledger",
    "concentration",
    "relevance_units",
    "drift_by_place",
)
"""Panels whose rows are layers, which all models drawn must share."""

NAMED_PANELS = (
    "performance_table",
    "training_table",
    "confidence",
    "residual_distribution",
    "model_health",
    "weight_health",
    "flow_health",
    "units",
    "layer_cka",
    "similarity",
    "relevance",
    "heatmap",
    "tokens",
    "steps",
    "ledger",
    "balance",
    "relevance_units",
    "corruption_accuracy",
    "fooled",
    "layer_profile",
    "harm",
    "pareto_table",
)
"""Panels that name models beside their marks and need no legend."""


def plot(result: Any, ax: Axes | None = None, kind: str | None = None) -> Axes:
    """Draw one panel.

    Args:
        result: Any result of an analysis (for instance ``results.calibration["a"]``, ``results.comparison``), a
            `MultiOutput`, or a mapping from model names to results (``results.calibration``) to draw together.
        ax: Where to draw, in your own matplotlib settings. Without it, a new figure in publication style is made,
            which pyplot does not know: save it by ``ax.figure.savefig(...)``.
        kind: Which panel, e.g. ``"reliability"``; None draws the first that this type of result has.

    Returns:
        The axes.

    Raises:
        DataError: If there is nothing to draw: no result, a skipped or failed one, or layers that do not match.
        ConfigError: If this type of result has no such panel; the message names those that it has.
    """
    given = dict(result) if isinstance(result, Mapping) else {"": result}
    style = STYLES["publication"]
    own = ax is None
    with style_context(style) if own else matplotlib.rc_context({"text.parse_math": False}):
        if ax is None:
            figure = Figure(figsize=(style.width / 2, style.panel_height + 0.3))
            ax = figure.add_subplot()
            margin = Bbox.from_extents(0.02, 0.02, 0.98, 0.98)
            figure.set_layout_engine(PanelLayout([[Place(axes=ax, box=margin)]]))
            pen = Pen.of(style)
        else:
            pen = _user_pen(ax)
        cast = cast_of(given, list(given), model_colors(list(given)), pen.book, 0.38 * pen.points, pen.small)
        panel = _choose(cast, kind)
        panel.draw(ax, cast.series, pen)
        if len(cast.series) > 1 and panel.kind not in NAMED_PANELS:
            _name_marks(ax, cast)
    return ax


def _user_pen(ax: Axes) -> Pen:
    """A pen for axes whose size is known already: captions are as wide as they are."""
    box = ax.get_window_extent()
    return Pen.of_user(box.width / ax.figure.dpi + 2 * MARGIN, box.height / ax.figure.dpi)


def _choose(cast: Cast, kind: str | None) -> Panel:
    """The panel that was asked for, after checking that it can draw what was given."""
    if not cast.series:
        reasons = "; ".join(cast.absent.values()) or "no results were given"
        raise DataError(f"There is nothing to draw: {reasons}.")
    types = {type(s.result) for s in cast.series}
    possible = [panel for panel in PANELS.values() if types <= set(panel.types)]
    names = " and ".join(sorted(t.__name__ for t in types))
    if not possible:
        raise DataError(f"No panel draws {names}: pass a result of an analysis, or a mapping from names to them.")
    chosen = possible[0] if kind is None else next((p for p in possible if p.kind == kind), None)
    if chosen is None:
        raise ConfigError(f"kind={kind!r}: for {names}, expected one of {', '.join(repr(p.kind) for p in possible)}.")
    as_layers = {"layers": by_layer, "ledger": by_place, "drift_by_place": by_shift_place}.get(chosen.kind, list)
    if chosen.kind in LAYER_PANELS and len(by_architecture(as_layers(cast.series))) > 1:
        raise DataError(f"{chosen.kind!r} needs models with the same layers, these differ: plot one model at a time.")
    return chosen


def _name_marks(ax: Axes, cast: Cast) -> None:
    handles = [Line2D([], [], color=s.color, marker=s.marker, linestyle=s.linestyle) for s in cast.series]
    legend = ax.legend(handles, [str(i) for i in range(len(handles))], fontsize="small")
    # Set afterwards: a legend drops labels that begin with an underscore, and models may be called so.
    for text, s in zip(legend.get_texts(), cast.series, strict=True):
        text.set_parse_math(False)
        text.set_text(s.label)
