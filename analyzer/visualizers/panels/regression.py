"""Calibration of regression outputs: coverage, probability integral transforms, residuals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from scipy.stats import binom

from analyzer.data_types.regression_calibration import GaussianCalibration, QuantileCalibration, RegressionCalibration
from analyzer.visualizers.panels.base import caption, name_rows, panel
from analyzer.visualizers.panels.confidence import MOST_DOTS, density
from analyzer.visualizers.series import (
    Pen,
    Series,
    error_bar,
    interval,
    number,
    rows_and_columns,
    sample_sizes,
    value_of,
)
from analyzer.visualizers.style import MUTED

PIT_BINS = 10

_COVERAGE_AXES: dict[type, tuple[str, str]] = {
    GaussianCalibration: ("Nominal coverage of central intervals", "Observed coverage"),
    QuantileCalibration: ("Level of the quantile", "Share at or below it"),
}


@panel("coverage", GaussianCalibration, QuantileCalibration)
def coverage(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """How often the truth fell where it was predicted to, against how often it should.

    Args:
        ax: The axes.
        series: Results of Gaussian or quantile heads.
        pen: Sizes.
    """
    ax.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8 * pen.line, linestyle=(0, (4, 2)))
    for s in series:
        points = [c for c in s.result.coverage if c.observed.value is not None]
        observed = [c.observed for c in points]
        ax.errorbar(
            [c.nominal for c in points],
            [value_of(o) for o in observed],
            yerr=error_bar(observed),
            color=s.color,
            marker=s.marker,
            linestyle=s.linestyle,
            elinewidth=0.8 * pen.line,
            capsize=1.5 * pen.line,
            label=s.label,
        )
    kinds = {type(s.result) for s in series}
    x, y = ("Nominal level", "Observed share") if len(kinds) > 1 else _COVERAGE_AXES[kinds.pop()]
    ax.set(xlim=(0, 1.02), ylim=(0, 1.02))
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.grid(visible=True)
    lines = [_miscalibration(s, many=len(series) > 1) for s in series] if len(series) <= 3 else []
    caption(ax, pen, "Coverage", f"{sample_sizes([s.result.n for s in series])}; 95% intervals", *lines)


def _miscalibration(s: Series, *, many: bool) -> str:
    gap = s.result.miscalibration
    name = f"{s.label.replace(chr(10), '')}: " if many else ""
    return f"{name}mean gap {number(gap.value)} {interval(gap)}; {s.result.verdict.direction}".replace(" ;", ";")


@panel("pit", GaussianCalibration)
def pit(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Histogram of probability integral transforms: flat when calibrated, a bowl when over-confident.

    Args:
        ax: The axes.
        series: Results of Gaussian heads.
        pen: Sizes.
    """
    edges = np.linspace(0, 1, PIT_BINS + 1)
    fewest = min(np.size(s.result.pit) for s in series)
    if pen.extras:
        low, high = binom.ppf([0.025, 0.975], fewest, 1 / PIT_BINS) * PIT_BINS / fewest
        ax.axhspan(low, high, color="#E4E4E4", zorder=0)
    ax.axhline(1, color=MUTED, linewidth=0.8 * pen.line, linestyle=(0, (4, 2)))
    for s in series:
        heights, _ = np.histogram(np.ravel(s.result.pit), bins=edges, density=True)
        ax.stairs(
            heights,
            edges,
            color=s.color,
            linestyle=s.linestyle,
            fill=len(series) == 1,
            alpha=0.6 if len(series) == 1 else 1.0,
            linewidth=1.3 * pen.line,
        )
    ax.set_xlim(0, 1)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("Probability integral transform")
    ax.set_ylabel("Density")
    band = "; band: 95% of bins if calibrated" if pen.extras else ""
    caption(ax, pen, "Probability integral transform", f"{rows_and_columns(series, 'pit', 'targets')}{band}")


@panel("residuals", RegressionCalibration, GaussianCalibration)
def residuals(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Truth minus prediction against the prediction.

    Args:
        ax: The axes.
        series: Results of point or Gaussian heads.
        pen: Sizes.
    """
    ax.axhline(0, color=MUTED, linewidth=0.8 * pen.line, linestyle=(0, (4, 2)))
    dots = 0
    for s in series:
        x, y = np.ravel(s.result.prediction), np.ravel(s.result.residual)
        keep = np.unique(np.linspace(0, x.size - 1, min(x.size, MOST_DOTS)).astype(int))
        dots = max(dots, keep.size)
        ax.plot(
            x[keep],
            y[keep],
            linestyle="none",
            marker=s.marker,
            markersize=0.35 * pen.font,
            color=s.color,
            alpha=0.45,
            markeredgewidth=0,
            rasterized=keep.size > 500,
        )
    ax.set_xlabel("Prediction")
    ax.set_ylabel("Truth − prediction")
    ax.grid(visible=True)
    sizes = [np.size(s.result.residual) for s in series]
    some = f"; {dots} of them drawn" if dots < max(sizes) else ""
    caption(ax, pen, "Residuals", f"{rows_and_columns(series, 'residual', 'targets')}{some}")


@panel("residual_distribution", RegressionCalibration, GaussianCalibration)
def residual_distribution(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """A violin of the residuals of each model, with its bias and root mean square error.

    Args:
        ax: The axes.
        series: Results of point or Gaussian heads.
        pen: Sizes.
    """
    values = [np.ravel(s.result.residual) for s in series]
    low, high = (float(f([f(v) for v in values])) for f in (np.min, np.max))
    margin = 0.03 * (high - low) or 1.0
    for i, (s, residual) in enumerate(zip(series, values, strict=True)):
        grid, mass = density(residual, low - margin, high + margin)
        half = 0.4 * mass / mass.max()
        ax.fill_between(grid, i - half, i + half, where=half > 0.002, color=s.color, alpha=0.45, linewidth=0)
        quartiles = np.percentile(residual, [25, 50, 75])
        ax.hlines(i, quartiles[0], quartiles[2], color="black", linewidth=2.2 * pen.line)
        ax.plot(
            residual.mean(), i, marker=s.marker, color=s.color, markeredgecolor="black", markeredgewidth=0.7 * pen.line
        )
    ax.axvline(0, color=MUTED, linewidth=0.8 * pen.line, linestyle=(0, (4, 2)))
    labels = [f"{s.label}\nRMSE {number(s.result.rmse.value)}\n{interval(s.result.rmse)}".rstrip() for s in series]
    name_rows(ax, labels)
    ax.set_ylim(len(series) - 0.5, -0.5)
    ax.set_xlabel("Truth − prediction")
    caption(
        ax, pen, "Size of residuals", f"{rows_and_columns(series, 'residual', 'targets')}; bar: quartiles; mark: mean"
    )


@panel("pinball", QuantileCalibration)
def pinball(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Pinball loss of each quantile.

    Args:
        ax: The axes.
        series: Results of quantile heads.
        pen: Sizes.
    """
    for s in series:
        known = [
            (level, loss)
            for level, loss in zip(s.result.levels, s.result.pinball, strict=True)
            if loss.value is not None
        ]
        losses = [loss for _, loss in known]
        ax.errorbar(
            [level for level, _ in known],
            [value_of(loss) for loss in losses],
            yerr=error_bar(losses),
            color=s.color,
            marker=s.marker,
            linestyle=s.linestyle,
            elinewidth=0.8 * pen.line,
            capsize=1.5 * pen.line,
        )
    ax.set_xlim(0, 1)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("Level of the quantile")
    ax.set_ylabel("Pinball loss")
    ax.grid(visible=True)
    caption(ax, pen, "Pinball loss", f"{sample_sizes([s.result.n for s in series])}; 95% intervals")
