"""Pictures of what layers put out: maps of channels side by side, or units against samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from analyzer.errors import DataError, OutputError
from analyzer.visualizers.style import HASH_SALT, MUTED, STYLES, style_context
from analyzer.visualizers.text import displayable, elide

MOST_SAMPLES = 4
MOST_CHANNELS = 16
MOST_ROWS = 64
"""Samples in a picture of a layer without positions."""

MOST_COLUMNS = 512

_METADATA: dict[str, dict[str, Any]] = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
"""What would differ between two equal runs is left out of files."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Picture:
    """One image and what stands beside it.

    Attributes:
        image: Values; NaN where nothing is.
        x_label: What the columns are.
        y_label: What the rows are.
        x_ticks: Position and number of columns; None for the numbers of the pixels.
        y_ticks: Likewise for the rows.
        note: What was left out.
    """

    image: NDArray[np.float64]
    x_label: str
    y_label: str
    x_ticks: list[tuple[float, int]] | None = None
    y_ticks: list[tuple[float, int]] | None = None
    note: str = ""


def draw_feature_maps(name: str, array: NDArray[Any], *, channels_first: bool = False) -> Figure:
    """Draw the output of one layer.

    Args:
        name: The layer's name.
        array: ``(n, height, width, channels)`` becomes a grid, samples below each other and channels side by side (of
            volumes the middle slice), ``(n, steps, units)`` a grid of one map per sample, ``(n, units)`` one map.
        channels_first: Whether the channels are on axis 1 instead.

    Returns:
        The figure; all maps of it share one scale. What is left out is written there.

    Raises:
        DataError: If there is nothing to draw.
    """
    if array.size == 0 or array.dtype.kind not in "biuf":
        raise DataError(f"There is nothing to draw for layer {name!r}: shape {array.shape}, dtype {array.dtype}.")
    values = np.asarray(array, dtype=np.float64)
    picture = _grid(values, channels_first=channels_first) if values.ndim > 2 else _units(values)
    style = STYLES["publication"]
    rows, columns = picture.image.shape
    square = values.ndim > 3
    height = style.width * rows / columns if square else 0.14 * rows
    with style_context(style):
        figure = Figure(
            figsize=(style.width, float(np.clip(height, 1.2, 1.3 * style.width)) + 0.9), layout="compressed"
        )
        ax = figure.add_subplot()
        colours = matplotlib.colormaps["viridis"].with_extremes(bad="white")
        image = np.ma.masked_invalid(picture.image)
        shown = ax.imshow(image, cmap=colours, aspect="equal" if square else "auto")
        ax.set_title(elide(displayable(name), 72 * style.width * 0.8, style.font + 1))
        ax.set_xlabel(picture.x_label)
        ax.set_ylabel(picture.y_label)
        for axis, ticks in ((ax.xaxis, picture.x_ticks), (ax.yaxis, picture.y_ticks)):
            if ticks is None:
                axis.set_major_locator(MaxNLocator(integer=True))
            else:
                axis.set_ticks([position for position, _ in ticks], labels=[str(number) for _, number in ticks])
        ax.spines[:].set_visible(False)
        bar = figure.colorbar(shown, ax=ax, fraction=0.03, pad=0.01, label="output")
        bar.outline.set_visible(False)
        figure.text(0.01, 0.005, picture.note, color=MUTED, fontsize=style.small, va="bottom")
    return figure


def save_feature_maps(name: str, array: NDArray[Any], path: Path, *, channels_first: bool = False) -> Path:
    """Draw the output of one layer into a file, the same bytes in every run.

    Args:
        name: The layer's name.
        array: See `draw_feature_maps`.
        path: The file; its ending says which format, ``.png``, ``.pdf`` or ``.svg``.
        channels_first: Whether the channels are on axis 1.

    Returns:
        The file.

    Raises:
        OutputError: If it cannot be written.
    """
    figure = draw_feature_maps(name, array, channels_first=channels_first)
    kind = path.suffix.removeprefix(".").lower()
    try:
        with matplotlib.rc_context({"svg.hashsalt": HASH_SALT}):
            figure.savefig(path, format=kind, dpi=200, metadata=_METADATA[kind])
    except OSError as error:
        raise OutputError(f"The picture cannot be written to {path}: {error.strerror}.") from error
    return path


def _units(values: NDArray[np.float64]) -> _Picture:
    flat = values.reshape(len(values), -1)
    image = flat[:MOST_ROWS, :MOST_COLUMNS]
    return _Picture(
        image=image,
        x_label="unit",
        y_label="sample",
        note=_note(("samples", flat.shape[0], image.shape[0]), ("units", flat.shape[1], image.shape[1])),
    )


def _grid(values: NDArray[np.float64], *, channels_first: bool) -> _Picture:
    """Maps of equal size in one image, a gap between them."""
    if channels_first and values.ndim > 3:
        values = np.moveaxis(values, 1, -1)
    if values.ndim == 3:
        # A sequence: one map of steps × units per sample.
        tiles, labels = values[:MOST_SAMPLES, None, :, :MOST_COLUMNS], ("unit", "sample (steps downwards)")
        left_out = ("units", values.shape[-1], tiles.shape[-1])
    else:
        while values.ndim > 4:
            values = values[:, values.shape[1] // 2]
        tiles = np.moveaxis(values[:MOST_SAMPLES, :, :, :MOST_CHANNELS], -1, 1)
        labels, left_out = ("channel", "sample"), ("channels", values.shape[-1], tiles.shape[1])
    n, across, height, width = tiles.shape
    gap = max(1, round(0.04 * max(height, width if across > 1 else 0)))
    image = np.full((n * (height + gap) - gap, across * (width + gap) - gap), np.nan)
    for row, column in np.ndindex(n, across):
        top, left = row * (height + gap), column * (width + gap)
        image[top : top + height, left : left + width] = tiles[row, column]
    return _Picture(
        image=image,
        x_label=labels[0],
        y_label=labels[1],
        x_ticks=[(i * (width + gap) + (width - 1) / 2, i) for i in range(across)] if across > 1 else None,
        y_ticks=[(i * (height + gap) + (height - 1) / 2, i) for i in range(n)],
        note=_note(("samples", len(values), n), left_out),
    )


def _note(*counts: tuple[str, int, int]) -> str:
    """What is shown of what there is; empty where all is."""
    return "; ".join(f"the first {shown} of {there:,} {what}" for what, there, shown in counts if shown < there)
