"""Between models: the plane of weight statistics, and matrices of similarity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from analyzer.data_types.comparison import Comparison, PairwiseSimilarity, WeightPca
from analyzer.visualizers.panels.base import caption, name_rows, panel, text_on
from analyzer.visualizers.series import Cast, Pen, Series, cast_of, sample_sizes
from analyzer.visualizers.style import model_colors
from analyzer.visualizers.text import NameBook, displayable

TITLES = {
    "linear_cka": "Linear CKA of the last hidden layers",
    "agreement": "Agreement of predictions",
    "js_divergence": "Jensen–Shannon divergence of predictions (nats)",
    "relevance_spearman": "Agreement of relevance (Spearman)",
    "relevance_cosine": "Agreement of relevance (cosine)",
}


def similarity_of(comparison: Comparison) -> WeightPca | PairwiseSimilarity | None:
    """What shows best how models relate: the plane of their weights, else CKA, else agreement."""
    candidates: list[Any] = [comparison.weight_pca, comparison.cka, *comparison.agreement, *comparison.js_divergence]
    return next((c for c in candidates if isinstance(c, WeightPca) or (c is not None and c.pairs)), None)


@panel("similarity", Comparison, WeightPca, PairwiseSimilarity)
def similarity(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Models as points of a plane where they share an architecture, else the matrix of their similarity.

    Args:
        ax: The axes.
        series: One series whose result is between models.
        pen: Sizes.
    """
    shown = series[0].result
    if isinstance(shown, Comparison):
        shown = similarity_of(shown)
    if shown is None:
        raise ValueError("the comparison holds no similarity between models")
    cast = cast_of(
        dict.fromkeys(shown.names), shown.names, model_colors(shown.names), NameBook(), pen.points / 3, pen.small
    )
    draw_similarity(ax, shown, cast.series, pen)


def draw_similarity(ax: Axes, shown: WeightPca | PairwiseSimilarity, models: Sequence[Series], pen: Pen) -> None:
    """Draw a similarity with the looks that models have elsewhere.

    Args:
        ax: The axes.
        shown: What to draw.
        models: Look of each model that it names.
        pen: Sizes.
    """
    if isinstance(shown, WeightPca):
        _plane(ax, shown, models, pen)
    else:
        _matrix(ax, shown, models, pen)


def _plane(ax: Axes, pca: WeightPca, models: Sequence[Series], pen: Pen) -> None:
    by_name = {s.name: s for s in models}
    points = np.zeros((len(pca.names), 2))
    points[:, : min(2, pca.coordinates.shape[1])] = pca.coordinates[:, :2]
    for name, (x, y) in zip(pca.names, points, strict=True):
        s = by_name[name]
        ax.plot(
            x,
            y,
            linestyle="none",
            marker=s.marker,
            color=s.color,
            markersize=0.95 * pen.font,
            label=s.label,
            markeredgecolor="white",
            markeredgewidth=0.5 * pen.line,
        )
    ax.axhline(0, color="#DDDDDD", linewidth=0.6 * pen.line, zorder=0)
    ax.axvline(0, color="#DDDDDD", linewidth=0.6 * pen.line, zorder=0)
    ax.margins(0.14)
    share = [*pca.explained_variance, 0.0, 0.0]
    ax.set_xlabel(f"First component ({share[0]:.0%} of variance)")
    ax.set_ylabel(f"Second component ({share[1]:.0%})")
    out = f"another architecture: {', '.join(map(displayable, pca.left_out))}" if pca.left_out else ""
    caption(
        ax,
        pen,
        "Similarity of weights",
        f"PCA of {pca.n_features} standardised weight statistics, {len(pca.names)} models",
        pen.one_line(out),
    )
    if not pen.keyed:
        legend = ax.legend([str(i) for i in range(len(pca.names))], fontsize=pen.small)
        for text, name in zip(legend.get_texts(), pca.names, strict=True):
            text.set_parse_math(False)
            text.set_text(by_name[name].label)


def _matrix(ax: Axes, measure: PairwiseSimilarity, models: Sequence[Series], pen: Pen) -> None:
    by_name = {s.name: s for s in models}
    values = measure.matrix()
    divergence = measure.measure == "js_divergence"
    colors = matplotlib.colormaps["cividis_r" if divergence else "cividis"].with_extremes(bad="#EEEEEE")
    high = max(float(np.nanmax(values)), 1e-9) if divergence else 1.0
    ax.pcolormesh(
        np.ma.masked_invalid(values), cmap=colors, vmin=0.0, vmax=high, edgecolors="white", linewidth=0.6 * pen.line
    )
    size = pen.small if len(measure.names) <= 8 else 0.8 * pen.small
    for (i, j), value in np.ndenumerate(values):
        word = f"{value:.2f}" if np.isfinite(value) else "–"
        color = text_on(colors(value / high)) if np.isfinite(value) else "black"
        ax.text(j + 0.5, i + 0.5, word, ha="center", va="center", fontsize=size, color=color)
    numbers = [str(i + 1) for i in range(len(measure.names))]
    labels = [f"{by_name[name].label} ({k})" for name, k in zip(measure.names, numbers, strict=True)]
    name_rows(ax, labels, places=[i + 0.5 for i in range(len(labels))])
    ax.set_xticks([i + 0.5 for i in range(len(labels))], labels=[f"({k})" for k in numbers])
    ax.tick_params(length=0)
    for side in ax.spines.values():
        side.set_visible(False)
    sizes = [p.estimate.n for p in measure.pairs if p.estimate is not None]
    output = f"output {displayable(measure.output)}; " if measure.output else ""
    undefined = "; –: not defined" if np.isnan(values).any() else ""
    caption(
        ax,
        pen,
        TITLES.get(measure.measure, displayable(measure.measure)),
        f"{output}{sample_sizes(sizes) if sizes else 'no pair'}; intervals in the results file{undefined}",
    )


def looks_of(names: Sequence[str], colors: Any, book: NameBook, width: float, size: float) -> Cast:
    """The looks of models without results."""
    return cast_of(dict.fromkeys(names), names, colors, book, width, size)
