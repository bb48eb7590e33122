"""Where boxes and edges of a layered graph go: ranks from top to bottom, broken into columns; edges in the gaps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analyzer.visualizers.graph import Box

TRACK = 0.09
"""Inches between parallel edges."""

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Edge:
    """A line from a box to another.

    Attributes:
        points: Corners in inches from the upper left.
        guess: Whether the connection is inferred.
    """

    points: tuple[Point, ...]
    guess: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """A graph with places, in inches from the upper left.

    Attributes:
        centres: Centre of each box by id.
        box_width: Width of a box.
        box_height: Height of a box.
        edges: Lines.
        width: Of the whole.
        height: Of the whole.
    """

    centres: Mapping[str, Point]
    box_width: float
    box_height: float
    edges: tuple[Edge, ...]
    width: float
    height: float


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Inches of the parts.

    Attributes:
        width: Room for the whole.
        narrowest: Least width of a box.
        widest: Greatest width of a box.
        box_height: Height of a box.
        rows: Ranks below each other before another column is begun, where there is room for one.
    """

    width: float
    narrowest: float
    widest: float
    box_height: float
    rows: int = 10


def lanes(boxes: Sequence[Box]) -> int:
    """Most boxes of one rank."""
    return max(map(len, _by_rank(boxes)), default=1)


def arrange(boxes: Sequence[Box], sizes: Sizes) -> Layout:
    """Give every box and edge a place.

    Args:
        boxes: In an order in which sources come first.
        sizes: Inches.
    """
    return _Arrangement(boxes, sizes).layout()


def _by_rank(boxes: Sequence[Box]) -> list[list[str]]:
    """Ids by the longest path from an input; within a rank near their sources."""
    rank: dict[str, int] = {}
    for box in boxes:
        rank[box.id] = max((rank[source] + 1 for source in box.sources), default=0)
    ranks: list[list[str]] = [[] for _ in range(max(rank.values(), default=-1) + 1)]
    at: dict[str, float] = {}
    by_id = {box.id: box for box in boxes}
    for box in boxes:
        ranks[rank[box.id]].append(box.id)
    for row in ranks:
        row.sort(key=lambda key: _mean([at[source] for source in by_id[key].sources]))
        at |= {key: i - (len(row) - 1) / 2 for i, key in enumerate(row)}
    return ranks


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


class _Arrangement:
    """Columns of ranks, with a gutter for passing edges to the right of each column."""

    def __init__(self, boxes: Sequence[Box], sizes: Sizes) -> None:
        self.sizes = sizes
        self.ranks = _by_rank(boxes)
        self.rank = {key: i for i, row in enumerate(self.ranks) for key in row}
        self.edges = [(source, box.id, guess) for box in boxes for source, guess in box.sources.items()]
        passing = self._most_passing()
        self.gutter = TRACK * (1.5 + min(6, passing))
        self.gap = 0.17 + 0.5 * TRACK * min(3, passing)
        wanted = max(1, math.ceil(len(self.ranks) / sizes.rows))
        fitting = (self._split(columns) for columns in range(wanted, 0, -1))
        self.rows, self.abreast = next(split for split in fitting if len(split[1]) == 1 or self._lane(split[1]) > 0)
        self.lane = self._lane(self.abreast) or (sizes.width - self.gutter) / self.abreast[0]
        self.box_width = 0.94 * self.lane
        widths = [count * self.lane + self.gutter for count in self.abreast]
        self.left = [sum(widths[:i]) for i in range(len(widths) + 1)]

    def _split(self, columns: int) -> tuple[int, list[int]]:
        """Ranks in a column, and the most boxes abreast in each."""
        rows = math.ceil(len(self.ranks) / columns)
        starts = range(0, len(self.ranks), rows)
        return rows, [max(map(len, self.ranks[start : start + rows])) for start in starts]

    def _lane(self, abreast: Sequence[int]) -> float:
        """Width of a box with its share of the space beside it; 0 where the columns do not fit."""
        each = (self.sizes.width - len(abreast) * self.gutter) / sum(abreast)
        return 0.0 if each < self.sizes.narrowest else min(each, self.sizes.widest)

    def layout(self) -> Layout:
        """Places of boxes, then of edges."""
        centres = {key: self._centre(key, i, len(row)) for row in self.ranks for i, key in enumerate(row)}
        return Layout(
            centres=centres,
            box_width=self.box_width,
            box_height=self.sizes.box_height,
            edges=tuple(self._edges(centres)),
            width=self.left[-1],
            height=self.rows * (self.sizes.box_height + self.gap) + self.gap,
        )

    def _most_passing(self) -> int:
        """Most edges that pass by one rank."""
        spans = [(self.rank[a], self.rank[b]) for a, b, _ in self.edges if self.rank[b] - self.rank[a] > 1]
        return max((sum(low < i < high for low, high in spans) for i in range(len(self.ranks))), default=0)

    def _centre(self, key: str, place: int, abreast: int) -> Point:
        column, row = divmod(self.rank[key], self.rows)
        middle = (self.left[column] + self.left[column + 1] - self.gutter) / 2
        x = middle + (place - (abreast - 1) / 2) * self.lane
        return x, self.gap + (row + 0.5) * self.sizes.box_height + row * self.gap

    def _edges(self, centres: Mapping[str, Point]) -> list[Edge]:
        half = self.sizes.box_height / 2
        made, tracks = [], _Tracks()
        for source, target, guess in self.edges:
            (x0, y0), (x1, y1) = centres[source], centres[target]
            start, end = (x0, y0 + half), (x1, y1 - half)
            if self._column(source) == self._column(target) and self.rank[target] == self.rank[source] + 1:
                points: tuple[Point, ...] = (start, end)
            else:
                track = tracks.take(self._column(source), *self._passed(source, target))
                points = (start, *self._around(start, end, source, target, track), end)
            made.append(Edge(points=points, guess=guess))
        return made

    def _passed(self, source: str, target: str) -> tuple[int, int]:
        """The gaps, by the row below them, between which an edge runs along the gutter."""
        leaves, arrives = self.rank[source] % self.rows + 1, self.rank[target] % self.rows
        if self._column(target) > self._column(source) + 1:
            arrives = 0
        return min(leaves, arrives), max(leaves, arrives)

    def _around(self, start: Point, end: Point, source: str, target: str, track: int) -> tuple[Point, ...]:
        """Corners of an edge that passes other boxes: through the gaps and the gutters."""
        first, last = self._column(source), self._column(target)
        shift = TRACK * (0.6 + min(track, 5))
        leave = start[1] + 0.05 + 0.4 * TRACK * (track % 3)
        arrive = end[1] - 0.08 - 0.4 * TRACK * (track % 3)
        x0 = self.left[first + 1] - self.gutter + shift
        x1 = self.left[max(first + 1, last)] - self.gutter + shift
        top = 0.3 * self.gap
        over = ((x0, top), (x1, top)) if last > first + 1 else ()
        return ((start[0], leave), (x0, leave), *over, (x1 if over else x0, arrive), (end[0], arrive))

    def _column(self, key: str) -> int:
        return self.rank[key] // self.rows


class _Tracks:
    """Which parallel track of a gutter is free along some rows."""

    def __init__(self) -> None:
        self.spans: dict[int, list[list[tuple[int, int]]]] = {}

    def take(self, column: int, low: int, high: int) -> int:
        """The first track of a column's gutter that nothing uses between two gaps."""
        tracks = self.spans.setdefault(column, [])
        for i, spans in enumerate(tracks):
            if all(high <= a or b <= low for a, b in spans):
                spans.append((low, high))
                return i
        tracks.append([(low, high)])
        return len(tracks) - 1
