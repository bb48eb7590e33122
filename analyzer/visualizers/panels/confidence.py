"""Distributions of confidence, and of confidence together with entropy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Polygon
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from analyzer.data_types.calibration import ClassificationCalibration, MultiLabelCalibration
from analyzer.visualizers.panels.base import caption, name_rows, panel
from analyzer.visualizers.series import Pen, Series, error_bar, rows_and_columns, value_of
from analyzer.visualizers.style import MUTED

Floats = NDArray[np.float64]

GRID = 160
"""Points at which a density is drawn."""

MOST_DOTS = 1500
"""Rows drawn as dots in the uncertainty landscape; the density is always that of all rows."""


def n_classes_of(result: Any) -> int:
    """Classes behind a confidence: 2 for each label of a multi-label output."""
    return 2 if isinstance(result, MultiLabelCalibration) else int(result.n_classes)


def density(values: Floats, low: float, high: float, points: int = GRID) -> tuple[Floats, Floats]:
    """Kernel density on a grid, reflected at both ends: no mass where no value can be.

    Counts on the grid are smoothed by a Gaussian with Silverman's bandwidth (1986, eq. 3.31), so that a million rows
    cost no more than a thousand.

    Args:
        values: ``(n,)`` within [low, high].
        low: Smallest possible value.
        high: Largest possible value.
        points: Size of the grid.

    Returns:
        Grid and density, each ``(points,)``; the density sums to 1 over the grid.
    """
    step = (high - low) / points
    counts = np.histogram(values, bins=points, range=(low, high))[0].astype(np.float64)
    quartiles = np.percentile(values, [25, 75])
    spreads = [s for s in (float(np.std(values)), float(np.diff(quartiles)[0]) / 1.349) if s > 0]
    bandwidth = 0.9 * min(spreads, default=0.0) * values.size**-0.2
    smooth = gaussian_filter1d(counts, max(bandwidth / step, 1.0), mode="reflect")
    return np.asarray(low + step * (np.arange(points) + 0.5)), np.asarray(smooth / smooth.sum())


@panel("confidence", ClassificationCalibration, MultiLabelCalibration)
def confidence(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """A violin of confidence per model, with quartiles, mean and the share correct.

    Args:
        ax: The axes.
        series: Classification results.
        pen: Sizes.
    """
    lowest = min(1 / n_classes_of(s.result) for s in series)
    for i, s in enumerate(series):
        values = np.ravel(s.result.confidence)
        grid, mass = density(values, 1 / n_classes_of(s.result), 1.0)
        half = 0.4 * mass / mass.max()
        ax.fill_between(grid, i - half, i + half, color=s.color, alpha=0.45, linewidth=0)
        quartiles = np.percentile(values, [25, 50, 75])
        ax.hlines(i, quartiles[0], quartiles[2], color="black", linewidth=2.2 * pen.line)
        ax.plot(quartiles[1], i, marker="|", color="white", markersize=pen.font)
        ax.plot(
            values.mean(), i, marker=s.marker, color=s.color, markeredgecolor="black", markeredgewidth=0.7 * pen.line
        )
    known = [(i + 0.42, s.result.accuracy) for i, s in enumerate(series) if s.result.accuracy.value is not None]
    ax.errorbar(
        [value_of(accuracy) for _, accuracy in known],
        [y for y, _ in known],
        xerr=error_bar([accuracy for _, accuracy in known]),
        fmt="d",
        color="black",
        capsize=1.5 * pen.line,
        markerfacecolor="white",
        markeredgewidth=0.8 * pen.line,
        elinewidth=0.8 * pen.line,
    )
    labels = [f"{s.label}\n(n = {s.result.n})" for s in series]
    name_rows(ax, labels)
    ax.set_ylim(len(series) - 0.35, -0.55)
    ax.set_xlim(lowest - 0.02 * (1 - lowest), 1 + 0.02 * (1 - lowest))
    ax.set_xlabel("Confidence (probability of the prediction)")
    ax.grid(visible=True, axis="x")
    caption(ax, pen, "Confidence", "bar: quartiles; filled mark: mean; ◇: share correct, 95% interval")


def entropy_bounds(confidences: Floats, n_classes: int) -> tuple[Floats, Floats]:
    """Least and greatest entropy in nats that a distribution with a given largest probability can have.

    The greatest spreads the rest evenly; the least repeats the largest probability as often as it fits.

    Args:
        confidences: ``(t,)`` largest probabilities, at least 1/K.
        n_classes: Number of classes K.
    """

    def part(p: Floats) -> Floats:
        return -p * np.log(np.clip(p, 1e-300, None))

    times = np.minimum(np.floor(1 / confidences + 1e-12), n_classes)
    least = times * part(confidences) + part(np.clip(1 - times * confidences, 0, 1))
    rest = np.clip(1 - confidences, 0, 1)
    greatest = part(confidences) + (n_classes - 1) * part(rest / (n_classes - 1))
    return least, greatest


@panel("uncertainty", ClassificationCalibration, MultiLabelCalibration)
def uncertainty(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Confidence against entropy within what is possible, errors marked.

    Args:
        ax: The axes.
        series: Classification results.
        pen: Sizes.
    """
    most = max(n_classes_of(s.result) for s in series)
    shown = 0
    for classes in sorted({n_classes_of(s.result) for s in series}):
        region = _possible(ax, pen, classes, filled=classes == most)
        for s in (s for s in series if n_classes_of(s.result) == classes):
            shown = max(shown, _rows(ax, s, pen, region, alone=len(series) == 1))
    low = 1 / most
    ax.set_xlim(low - 0.03 * (1 - low), 1 + 0.03 * (1 - low))
    ax.set_ylim(-0.03 * np.log(most), 1.05 * np.log(most))
    ax.set_xlabel("Confidence")
    ax.set_ylabel("Entropy (nats)")
    sizes = [np.size(s.result.confidence) for s in series]
    rows = rows_and_columns(series, "confidence", "labels")
    some = f", {shown} of them as dots" if shown < max(sizes) else ""
    meaning = explanation(extras=pen.extras and most > 2, alone=len(series) == 1)
    classes_text = f"{most} classes"
    if pen.heading is not None:
        caption(ax, pen, "Uncertainty", f"{rows}{some}", classes_text)
    else:
        caption(ax, pen, "Uncertainty", f"{rows}{some}; {meaning} for {classes_text}")


def explanation(*, extras: bool, alone: bool = True) -> str:
    """What the marks of an uncertainty landscape mean."""
    dots = "crosses: wrong" if alone else "dots: rows"
    return dots + ("; lines: densest 50% and 90%" if extras else "") + "; white: what is possible"


def _possible(ax: Axes, pen: Pen, classes: int, *, filled: bool) -> Polygon:
    x = np.linspace(1 / classes, 1, 200)
    least, greatest = entropy_bounds(x, classes)
    outline = np.column_stack([np.concatenate([x, x[::-1]]), np.concatenate([least, greatest[::-1]])])
    if filled:
        ax.set_facecolor("#EFEFEF")
    region = Polygon(
        outline,
        closed=True,
        facecolor="white" if filled else "none",
        edgecolor=MUTED,
        linewidth=0.7 * pen.line,
        zorder=0.5 if filled else 0.6,
    )
    ax.add_patch(region)
    return region


def _rows(ax: Axes, s: Series, pen: Pen, region: Polygon, *, alone: bool) -> int:
    """Draw one model, its errors marked where it is alone; returns the number of dots."""
    x, y, right = (np.ravel(v) for v in (s.result.confidence, s.result.entropy, s.result.correct))
    keep = np.unique(np.linspace(0, x.size - 1, min(x.size, MOST_DOTS)).astype(int))
    dots, good = (x[keep], y[keep]), right[keep].astype(bool) | (not alone)
    size = pen.font * 0.55
    ax.plot(
        dots[0][good],
        dots[1][good],
        linestyle="none",
        marker=".",
        markersize=size,
        color=s.color,
        alpha=0.35,
        markeredgewidth=0,
        rasterized=keep.size > 500,
    )
    ax.plot(
        dots[0][~good],
        dots[1][~good],
        linestyle="none",
        marker="x",
        markersize=size,
        color=s.color,
        markeredgewidth=0.6 * pen.line,
        alpha=0.7,
    )
    if pen.extras and n_classes_of(s.result) > 2 and x.size >= 20:
        _contours(ax, s, pen, region)
    return int(keep.size)


def _contours(ax: Axes, s: Series, pen: Pen, region: Polygon) -> None:
    """Lines around the densest half and nine tenths of the rows, cut where nothing is possible."""
    x, y = np.ravel(s.result.confidence), np.ravel(s.result.entropy)
    classes = n_classes_of(s.result)
    limits = ((1 / classes, 1.0), (0.0, float(np.log(classes))))
    counts, x_edges, y_edges = np.histogram2d(x, y, bins=60, range=limits)
    smooth = gaussian_filter(counts, 2.5, mode="reflect")
    descending = np.sort(smooth, axis=None)[::-1]
    share = np.cumsum(descending) / descending.sum()
    levels = sorted({float(descending[np.searchsorted(share, level)]) for level in (0.9, 0.5)})
    middle = [(edges[1:] + edges[:-1]) / 2 for edges in (x_edges, y_edges)]
    lines = ax.contour(middle[0], middle[1], smooth.T, levels=levels, colors=s.color, linewidths=pen.line)
    lines.set_clip_path(region)
