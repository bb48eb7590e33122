"""Occlusion: how much the value explained falls when a part of the input is covered."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from analyzer.errors import ConfigError
from analyzer.relevance.attributions.baselines import baselines
from analyzer.relevance.attributions.method import Batch, Floats, Method, Part, Question, of_inputs
from analyzer.relevance.attributions.passing import Array, Frozen, Pass
from analyzer.relevance.attributions.spatial import channels_first

DEFAULT_SHARE = 8
"""Unless said otherwise, a window is an eighth of each side of a series, image or volume."""

Window = tuple[int, ...]


class Occlusion(Method):
    """Windows are covered one after the other (Zeiler & Fergus, 2014, arXiv 1311.2901).

    Each element gets the fall of the value explained when a window over it is covered: the mean over the windows that
    cover it. Windows at the far edge are cut off there.
    """

    needs_sites = False

    def __init__(self, question: Question, *, window: Any = None, stride: Any = None, baseline: Any = "zeros") -> None:
        """Set the windows.

        Args:
            question: What is explained.
            window: Size for every axis but that of channels, or a tuple with a size for each axis of a sample (channels
                may be left out); a dict of these by input. None: one feature of a table, one token, or an eighth of
                each side of a series, image or volume.
            stride: From one window to the next, likewise; None for the size of the window.
            baseline: What covers; see `analyzer.relevance.attributions.baselines.baselines`. Of whole numbers,
                ``"zeros"`` is the number 0.
        """
        super().__init__(question)
        windows, strides = of_inputs(question, "window", window), of_inputs(question, "stride", stride)
        self.windows = [self._sizes("window", i, one, None) for i, one in enumerate(windows)]
        self.strides = [self._sizes("stride", i, one, self.windows[i]) for i, one in enumerate(strides)]
        for size, step in zip(self.windows, self.strides, strict=True):
            if any(s > w for s, w in zip(step, size, strict=True)):
                raise ConfigError(
                    f"options: stride {step} is larger than the window {size}: what lies between is lost."
                )
        self.covers = [
            np.broadcast_to(np.zeros((), x.dtype), x.shape) if cover is None else cover
            for cover, x in zip(baselines(question, baseline), question.flat, strict=True)
        ]

    def _part(self, passing: Pass, batch: Batch) -> Part:
        frozen = passing.freeze(batch.flat, batch.rows)
        maps: dict[int, Array] = {
            number: self._map(passing, batch, frozen, number) for number in range(len(batch.flat))
        }
        return Part(score=frozen.score, chosen=frozen.chosen, inputs=maps)

    def _begun(self, passing: Pass) -> None:
        del passing
        sizes = ", ".join(
            f"{name!r} {' × '.join(map(str, size))}"
            for name, size in zip(self.question.names, self.windows, strict=True)
        )
        self.notes.append(
            f"Windows (size in each axis of a sample): {sizes}. Values are falls, not shares of the output."
        )

    def _map(self, passing: Pass, batch: Batch, frozen: Frozen, number: int) -> Floats:
        x, cover = batch.flat[number], self.covers[number][batch.rows]
        total = np.zeros((len(frozen.score), *x.shape))
        times = np.zeros(x.shape[1:])
        for place in self._places(number, x.shape[1:]):
            covered = x.copy()
            covered[:, *place] = cover[:, *place]
            flat = [covered if i == number else one for i, one in enumerate(batch.flat)]
            fall = frozen.score - passing.scores(flat, frozen)
            total[:, :, *place] += fall.reshape(*fall.shape, *(1,) * (x.ndim - 1))
            times[place] += 1
        return total / times

    def _places(self, number: int, shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
        sides = [
            [slice(start, start + window) for start in range(0, max(1, size - window + step), step)]
            for size, window, step in zip(shape, self.windows[number], self.strides[number], strict=True)
        ]
        yield from itertools.product(*sides)

    def _sizes(self, name: str, number: int, given: Any, window: Window | None) -> Window:
        """Size in each axis of a sample."""
        shape = self.question.flat[number].shape[1:]
        channel = self._channel(number)
        if given is None:
            if window is not None:
                return window
            positions = len(shape) - (channel is not None)
            single = self.question.whole(number) or (positions < 2 and channel is None)
            sizes = [1 if single else -(-size // DEFAULT_SHARE) for size in shape]
        elif isinstance(given, tuple | list):
            sizes = list(given)
            if channel is not None and len(sizes) == len(shape) - 1:
                sizes.insert(channel, shape[channel])
                channel = None
            elif len(sizes) == len(shape):
                channel = None
        else:
            sizes = [given] * len(shape)
        if channel is not None:
            sizes[channel] = shape[channel]
        self._check(name, number, given, sizes, shape)
        return tuple(min(int(size), side) for size, side in zip(sizes, shape, strict=True))

    def _check(self, name: str, number: int, given: Any, sizes: list[Any], shape: tuple[int, ...]) -> None:
        whole = all(isinstance(s, int | np.integer) and not isinstance(s, bool) and s >= 1 for s in sizes)
        if len(sizes) != len(shape) or not whole:
            raise ConfigError(
                f"options[{name!r}]={given!r} for the input {self.question.names[number]!r}: expected a whole number "
                f"of at least 1, or a tuple of them for the axes of a sample, which has shape {shape}."
            )

    def _channel(self, number: int) -> int | None:
        """The axis of channels of a sample; None for tables and tokens."""
        if self.question.whole(number) or self.question.flat[number].ndim < 3:
            return None
        return 0 if channels_first(self.question.plan) else self.question.flat[number].ndim - 2
