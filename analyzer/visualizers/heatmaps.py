"""Relevance maps as pictures: one symmetric scale around zero, the image in grey beneath.

Red speaks for the target, blue against it; zero is white, or shows the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analyzer.data_types.explanation import Explanation
from analyzer.errors import ConfigError, DataError, OutputError
from analyzer.visualizers.style import HASH_SALT, MUTED, STYLES, style_context
from analyzer.visualizers.text import displayable, elide

QUANTILE = 0.995
"""Quantile of |relevance| that has full colour: a few loud pixels do not pale the others."""

COLOURS = "RdBu_r"
"""Diverging colour map; its ends differ under every common colour vision."""

PALE = 0.55
"""How far the grey image is lifted towards white, so that colours above it are seen."""

FORMATS = ("png", "pdf", "svg")

_METADATA: dict[str, dict[str, Any]] = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
_FEW_CHANNELS = 4


def symmetric_limit(*maps: NDArray[Any] | None, quantile: float = QUANTILE) -> float:
    """The magnitude that has full colour, the same for all maps of a picture.

    Args:
        maps: Relevance; None is left out.
        quantile: Quantile of the magnitudes; where that is zero (sparse maps), the largest is taken.

    Returns:
        A number above zero; 1 where there is no finite relevance but zero.
    """
    flat = [np.abs(np.asarray(m, dtype=np.float64)).ravel() for m in maps if m is not None]
    magnitudes = np.concatenate([np.zeros(0), *flat])
    magnitudes = magnitudes[np.isfinite(magnitudes)]
    if not magnitudes.size:
        return 1.0
    return float(np.quantile(magnitudes, quantile)) or float(magnitudes.max()) or 1.0


def flat_map(array: NDArray[Any], *, channels_first: bool | None = None) -> NDArray[np.float64]:
    """One sample's relevance as a map: channels are summed, of volumes the middle slice is taken.

    Args:
        array: ``(height, width)``, ``(height, width, channels)`` or ``(depth, height, width, channels)``.
        channels_first: Whether channels are on the first axis; None looks which axis is short.

    Returns:
        ``(height, width)``.

    Raises:
        DataError: If it has another number of axes.
    """
    found = _channels_last(np.asarray(array, dtype=np.float64), channels_first)
    found = found if found.ndim == 2 else found.sum(axis=-1)
    return found if found.ndim == 2 else found[found.shape[0] // 2]


def grey(image: NDArray[Any], *, channels_first: bool | None = None) -> NDArray[np.float64]:
    """One image in grey from 0 (darkest) to 1: the mean of its channels, of volumes the middle slice.

    Args:
        image: As in `flat_map`; any range.
        channels_first: As in `flat_map`.

    Returns:
        ``(height, width)``; a constant image is 0.5.
    """
    found = _channels_last(np.asarray(image, dtype=np.float64), channels_first)
    found = found if found.ndim == 2 else found.mean(axis=-1)
    found = found if found.ndim == 2 else found[found.shape[0] // 2]
    finite = found[np.isfinite(found)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if high <= low:
        return np.full(found.shape, 0.5)
    return np.nan_to_num((found - low) / (high - low), nan=0.5, posinf=1.0, neginf=0.0)


def _channels_last(array: NDArray[np.float64], channels_first: bool | None) -> NDArray[np.float64]:
    if array.ndim not in (2, 3, 4):
        raise DataError(f"A map needs 2 axes, or 3 or 4 with channels, without that of samples; got {array.shape}.")
    if channels_first is None:
        channels_first = array.shape[0] <= _FEW_CHANNELS < array.shape[-1]
    return np.moveaxis(array, 0, -1) if channels_first and array.ndim > 2 else array


def coloured(relevance: NDArray[Any], limit: float) -> NDArray[np.float64]:
    """Relevance in colour on white.

    Args:
        relevance: ``(height, width)``.
        limit: Magnitude that has full colour, see `symmetric_limit`.

    Returns:
        ``(height, width, 3)`` RGB; what is not finite is grey.
    """
    scaled = np.clip(np.nan_to_num(np.asarray(relevance, np.float64) / limit, nan=0.0, posinf=1, neginf=-1), -1, 1)
    colour = matplotlib.colormaps[COLOURS](0.5 + 0.5 * scaled)[..., :3]
    return np.where(np.isfinite(relevance)[..., None], colour, 0.6)


def overlay(image: NDArray[Any], relevance: NDArray[Any], limit: float) -> NDArray[np.float64]:
    """Relevance above a pale grey image: the stronger, the less of the image is seen.

    Args:
        image: ``(height, width)`` from 0 to 1, see `grey`; its size may differ.
        relevance: ``(height, width)``.
        limit: Magnitude that has full colour.

    Returns:
        ``(height, width, 3)`` RGB in the size of the relevance.
    """
    rows, columns = (
        (np.arange(size) * have // size) for size, have in zip(relevance.shape, np.shape(image), strict=True)
    )
    beneath = PALE + (1 - PALE) * np.asarray(image, np.float64)[np.ix_(rows, columns)][..., None]
    strength = np.clip(np.abs(np.nan_to_num(relevance)) / limit, 0, 1)[..., None] ** 0.7
    mixed: NDArray[np.float64] = np.clip(beneath * (1 - strength) + coloured(relevance, limit) * strength, 0, 1)
    return mixed


def grid(tiles: Sequence[NDArray[Any]], columns: int, *, gap: int = 1) -> NDArray[np.float64]:
    """Pictures of one size in rows, white between them.

    Args:
        tiles: ``(height, width, 3)`` RGB each.
        columns: Pictures in a row.
        gap: Pixels between them.

    Returns:
        One RGB picture.

    Raises:
        DataError: If there is none, or their sizes differ.
    """
    sizes = {np.shape(tile) for tile in tiles}
    if len(sizes) != 1:
        raise DataError(f"A grid needs pictures of one size, got {sorted(sizes) or 'none'}.")
    height, width, depth = sizes.pop()
    rows = -(-len(tiles) // columns)
    sheet = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, depth))
    for i, tile in enumerate(tiles):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def save_heatmaps(
    explanation: Explanation,
    x: Any,
    folder: str | Path,
    *,
    name: str | None = None,
    target: int = 0,
    limit: float | None = None,
    channels_first: bool | None = None,
    kind: str = "png",
) -> list[Path]:
    """Write one picture per sample: the image, its relevance, and the scale; the same bytes in every run.

    Args:
        explanation: What `explain` returned for images.
        x: The images that were explained, ``(n, ...)``, or a mapping from input names to them.
        folder: Where ``heatmap_00000.png``, … go; it is made where it does not exist.
        name: The input; None takes the first.
        target: Which of several targets.
        limit: Relevance that has full colour; None takes the 99.5th percentile of all samples' magnitudes, so that the
            pictures compare.
        channels_first: Whether channels are on the first axis of a sample; None looks which axis is short.
        kind: ``"png"``, ``"pdf"`` or ``"svg"``.

    Returns:
        The files, in the order of the samples.

    Raises:
        DataError: If there is no such input, it is no image, or ``x`` does not match.
        ConfigError: If ``kind`` is another word.
        OutputError: If the folder cannot be written.
    """
    if kind not in FORMATS:
        raise ConfigError(f"kind={kind!r}: expected one of {', '.join(map(repr, FORMATS))}.")
    maps, images = _pairs(explanation, x, name, target)
    flat = [flat_map(one, channels_first=channels_first) for one in maps]
    limit = symmetric_limit(*flat) if limit is None else limit
    folder, paths = Path(folder), []
    for i, (relevance, image) in enumerate(zip(flat, images, strict=True)):
        figure = _picture(explanation, i, target, grey(image, channels_first=channels_first), relevance, limit)
        path = folder / f"heatmap_{i:05d}.{kind}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with matplotlib.rc_context({"svg.hashsalt": HASH_SALT}):
                figure.savefig(path, format=kind, dpi=150, metadata=_METADATA[kind])
        except OSError as error:
            raise OutputError(f"The picture cannot be written to {path}: {error.strerror}.") from error
        paths.append(path)
    return paths


def _pairs(explanation: Explanation, x: Any, name: str | None, target: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The maps of one target and the images that belong to them."""
    if not explanation.inputs:
        raise DataError("The explanation holds no inputs: nothing to draw.")
    name = next(iter(explanation.inputs)) if name is None else name
    if name not in explanation.inputs:
        raise DataError(f"There is no input {name!r}. Known: {', '.join(map(repr, explanation.inputs))}.")
    maps = np.asarray(explanation.inputs[name])
    several = np.ndim(explanation.output) > 1
    if not 0 <= target < (len(maps) if several else 1):
        raise DataError(f"target={target}: the explanation has {len(maps) if several else 1}, counted from 0.")
    maps = maps[target] if several else maps
    images = np.asarray(x[name] if isinstance(x, dict) else x)
    if len(images) != len(maps):
        raise DataError(f"{len(maps)} samples were explained, but x has {len(images)}: give the same samples.")
    return maps, images


def _picture(
    explanation: Explanation,
    i: int,
    target: int,
    image: NDArray[np.float64],
    relevance: NDArray[np.float64],
    limit: float,
) -> Figure:
    style = STYLES["publication"]
    output = np.asarray(explanation.output)
    value = float(output[target, i] if output.ndim > 1 else output[i])
    title = f"sample {i}: {explanation.method}, {displayable(explanation.target)}, output {value:.4g}"
    tall = 2.1 * relevance.shape[0] / relevance.shape[1]
    with style_context(style):
        figure = Figure(figsize=(5.0, float(np.clip(tall, 0.7, 6)) + 0.55), layout="compressed")
        left, right = figure.subplots(1, 2)
        left.imshow(image, cmap="gray", vmin=0, vmax=1)
        right.imshow(overlay(image, relevance, limit))
        for ax in (left, right):
            ax.set_axis_off()
        scale(figure, right, limit)
        figure.suptitle(elide(title, 340, style.font), fontsize=style.font, x=0.02, ha="left")
    return figure


def scale(figure: Figure, ax: Axes, limit: float) -> None:
    """A colour bar beside axes, from −limit to limit.

    Args:
        figure: The figure.
        ax: The axes.
        limit: Relevance that has full colour.
    """
    mappable = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(-limit, limit), COLOURS)
    bar = figure.colorbar(mappable, ax=ax, fraction=0.05, pad=0.02, ticks=[-limit, 0, limit])
    bar.ax.set_yticklabels([f"≤ {-limit:.2g}", "0", f"≥ {limit:.2g}"], color=MUTED, parse_math=False)
    bar.outline.set_visible(False)
