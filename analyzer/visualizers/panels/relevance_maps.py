"""Relevance of images: each sample in grey, and beside it what speaks for the target and what against it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from analyzer.data_types.explanation import Explanation
from analyzer.data_types.relevance import RelevanceExample, RelevanceResult
from analyzer.visualizers.heatmaps import QUANTILE, coloured, flat_map, grey, overlay, symmetric_limit
from analyzer.visualizers.layout import MARGIN
from analyzer.visualizers.panels.base import PANELS, caption, in_points, panel
from analyzer.visualizers.panels.flow_rows import say_nothing
from analyzer.visualizers.panels.layers import by_architecture
from analyzer.visualizers.panels.pictures import Colours, place, write
from analyzer.visualizers.panels.relevance_examples import IMAGES, all_examples, examples_of, how_many, in_lines
from analyzer.visualizers.panels.relevance_rows import by_layer
from analyzer.visualizers.series import Pen, Series
from analyzer.visualizers.style import MUTED
from analyzer.visualizers.text import elide

KIND_OF_PANEL = {"image": "heatmap", "volume": "heatmap", "series": "steps", "tokens": "tokens", "features": "features"}
"""Which panel draws an input of which kind."""


@panel("relevance", Explanation, RelevanceExample, RelevanceResult)
def relevance(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """The panel that suits the first input: maps, words, steps or features; layers where no sample was kept.

    Args:
        ax: The axes.
        series: Explanations, examples or results.
        pen: Sizes.
    """
    found = [one for s in series for one in examples_of(s.result)]
    if not found and len(by_architecture(by_layer(series))) > 1:
        say_nothing(ax, pen, "Relevance", "no sample was kept")
        return
    kind = KIND_OF_PANEL[found[0].kind] if found else "layers"
    PANELS[kind].draw(ax, series, pen)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Row:
    """Pictures side by side, and what stands before and above them."""

    name: str
    pictures: Sequence[Colours]
    titles: Sequence[Sequence[str]] = ()


@panel("heatmap", Explanation, RelevanceExample, RelevanceResult)
def heatmap(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Maps of relevance on one symmetric scale per model; above them the images, where they are known.

    Args:
        ax: The axes.
        series: Explanations, examples or results.
        pen: Sizes.
    """
    title = "Relevance of the input"
    kept = all_examples(series, IMAGES)
    if not kept:
        say_nothing(ax, pen, title, "no sample of an image was kept")
        return
    limits = [_limit(found) for _, found in kept]
    _draw_models(ax, [list(_rows(s, found, named=len(series) > 1)) for s, found in kept], pen)
    full = f"{limits[0]:.2g}" if len(limits) == 1 else ", ".join(f"{one:.2g}" for one in limits)
    images = "in grey: the input; " if any(one.values is not None for _, found in kept for one in found) else ""
    caption(
        ax,
        pen,
        title,
        f"{how_many([s for s, _ in kept], IMAGES)}; red for the target, blue against it, full colour from ±{full} "
        f"({100 * QUANTILE:g}th percentile); {images}channels summed",
    )


def _limit(found: Sequence[RelevanceExample]) -> float:
    maps = [flat_map(m, channels_first=_order(one)) for one in found for m in _maps(one)]
    return symmetric_limit(*maps)


def _maps(one: RelevanceExample) -> list[NDArray[np.float32]]:
    return [one.relevance] if one.against is None else [one.relevance, one.against]


def _order(one: RelevanceExample) -> bool | None:
    return True if one.channels_first else None


def _rows(s: Series, found: Sequence[RelevanceExample], *, named: bool) -> Iterator[_Row]:
    """The images of one model, its maps, and those against the target where there are any."""
    limit = _limit(found)
    titles: list[tuple[str, ...]] = [in_lines(one) for one in found]
    name = s.label.replace("\n", "") if named else ""
    if any(one.values is not None for one in found):
        beneath = [np.repeat(_grey(one)[..., None], 3, axis=-1) for one in found]
        yield _Row(name=name, pictures=beneath, titles=titles)
        name, titles = "", []
    contrastive = any(one.against is not None for one in found)
    yield _Row(
        name=" ".join(word for word in (name, "for" if contrastive else "") if word),
        pictures=[_painted(one, one.relevance, limit) for one in found],
        titles=titles,
    )
    if contrastive:
        # What speaks against the target is positive in its own map: it is drawn as such.
        yield _Row(name="against", pictures=[_painted(one, -_against(one), limit) for one in found])


def _against(one: RelevanceExample) -> NDArray[np.float32]:
    return np.zeros_like(one.relevance) if one.against is None else one.against


def _grey(one: RelevanceExample) -> NDArray[np.float64]:
    if one.values is None:
        return np.ones(flat_map(one.relevance, channels_first=_order(one)).shape)
    return grey(one.values, channels_first=_order(one))


def _painted(one: RelevanceExample, found: NDArray[np.float32], limit: float) -> Colours:
    flat = flat_map(found, channels_first=_order(one))
    return coloured(flat, limit) if one.values is None else overlay(_grey(one), flat, limit)


def _draw_models(ax: Axes, models: Sequence[Sequence[_Row]], pen: Pen) -> None:
    """All pictures, as large as they can be: samples are broken into several lines where that makes room."""
    most = max(len(row.pictures) for rows in models for row in rows)
    sheets = [_Sheet.of(models, columns, pen) for columns in range(1, most + 1)]
    max(sheets, key=lambda sheet: sheet.unit).draw(ax, pen)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sheet:
    """Rows of pictures in points, from the upper left corner of the axes.

    Attributes:
        rows: From top to bottom.
        unit: Points of one pixel.
        before: Room for names of rows.
        step: Distance of pictures.
        picture: Height of a picture.
    """

    rows: Sequence[_Row]
    unit: float
    before: float
    step: float
    picture: float

    @classmethod
    def of(cls, models: Sequence[Sequence[_Row]], columns: int, pen: Pen) -> _Sheet:
        """The sheet with at most this many pictures in a row."""
        rows = [row for model in models for row in _broken(model, columns)]
        room = pen.points - 2 * MARGIN * 72
        # What title and three lines of caption leave.
        tall = max(pen.height * 72 - 2 * pen.font - 3 * 1.3 * pen.small - 2 * MARGIN * 72, 12 * pen.small)
        before = 5.5 * pen.small if any(row.name for row in rows) else 0.0
        sizes = [np.shape(picture)[:2] for row in rows for picture in row.pictures]
        high, wide = max(size[0] for size in sizes), max(size[1] for size in sizes)
        gap = 0.6 * pen.small
        free = tall - sum(_headroom(row, pen) for row in rows)
        unit = min(((room - before) / columns - gap) / wide, (free / len(rows) - gap) / high)
        unit = max(unit, 0.3 * pen.small / high)
        step = min((room - before) / columns, max(unit * wide + gap, 9 * pen.small))
        return cls(rows=rows, unit=unit, before=before, step=step, picture=unit * high + gap)

    def draw(self, ax: Axes, pen: Pen) -> None:
        """Draw it."""
        where, y = in_points(ax), 0.0
        for row in self.rows:
            y += _headroom(row, pen)
            if row.name:
                name = elide(row.name, self.before - 0.5 * pen.small, pen.small)
                write(ax, where, 0, y + 0.5 * self.picture, name, pen, va="center", color="black")
            for i, picture in enumerate(row.pictures):
                x = self.before + i * self.step
                place(ax, where, picture, x, y, self.unit, pen)
                for k, line in enumerate(reversed(row.titles[i] if row.titles else ())):
                    short = elide(line, self.step - 0.5 * pen.small, pen.small)
                    write(ax, where, x, y - (0.3 + 1.25 * k) * pen.small, short, pen, va="bottom", color=MUTED)
            y += self.picture
        ax.set_axis_off()


def _broken(model: Sequence[_Row], columns: int) -> Iterator[_Row]:
    """The rows of one model with at most this many pictures each; what belongs to one sample stays together."""
    for start in range(0, len(model[0].pictures), columns):
        for row in model:
            part = slice(start, start + columns)
            yield _Row(name="" if start else row.name, pictures=row.pictures[part], titles=row.titles[part])


def _headroom(row: _Row, pen: Pen) -> float:
    return (1.25 * max((len(title) for title in row.titles), default=0) + 0.3) * pen.small
