"""Which corruptions a kind of input has, by name, with the settings of their severities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ConfigError, DataError
from analyzer.robustness.bounds import check_bounds
from analyzer.robustness.corruptions import image_blurs, images, series, tables, tensors, tokens
from analyzer.robustness.corruptions.image_levels import levels_for
from analyzer.robustness.corruptions.reference import Reference, checked, reference_of
from analyzer.robustness.corruptions.severities import Levels
from analyzer.robustness.corruptions.tokens import Vocabulary, vocabulary_of
from analyzer.robustness.corruptions.unit_images import COLOURS, LAYOUT, Bounds

Array = NDArray[Any]
Kind = Literal["tensor", "image", "table", "tokens", "series"]
KINDS: tuple[Kind, ...] = ("tensor", "image", "table", "tokens", "series")
Known = Reference | Vocabulary | Bounds
"""What a corruption needs to know of the data: their features, their tokens, or the range of images."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Corrupted:
    """Data under one corruption.

    Attributes:
        x: ``(n, ...)`` the data.
        rows: ``(n,)`` which sample each row was made of; labels and clean predictions go along.
    """

    x: Array
    rows: NDArray[np.int64]

    def by_sample(self, values: Array) -> NDArray[np.float64]:
        """Numbers of the rows, such as whether each was decided rightly, as numbers of the samples of the same mean.

        Args:
            values: ``(n,)``, one per row.

        Returns:
            ``(n,)``: the sum over the rows that were made of each sample.
        """
        sums = np.bincount(self.rows, weights=np.asarray(values, np.float64), minlength=len(self.rows))
        return np.asarray(sums, np.float64)


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """One corruption of one kind of input.

    Attributes:
        name: As in results.
        levels: What its severities mean.
        random: Whether two seeds give two results; one run says all there is if not.
        function: ``(x, severity, rng, known)`` to the changed data, or to the rows that are drawn.
        draws_rows: Whether it draws rows again instead of changing values.
    """

    name: str
    levels: Levels[Any]
    function: Callable[..., Array]
    random: bool = True
    draws_rows: bool = False

    def __call__(self, x: Array, severity: int, seed: int | np.random.SeedSequence, known: Known) -> Corrupted:
        """Corrupt data; the same seed at all severities makes them differ in nothing but their strength.

        Args:
            x: ``(n, ...)``.
            severity: 1 to 5.
            seed: Of the random numbers.
            known: What `known_of` says about data of this kind.

        Raises:
            ConfigError: If there is no such severity.
            DataError: If the data are none that this corruption applies to.
        """
        found = self.function(x, severity, np.random.default_rng(seed), known)
        if self.draws_rows:
            return Corrupted(x=x[found], rows=found)
        return Corrupted(x=found, rows=np.arange(len(x)))


def input_kind(x: Array) -> Kind:
    """The kind of input that data look like; whoever knows better says so.

    Args:
        x: ``(n, ...)``: whole numbers in rows are tokens, other rows a table; images have 1, 3 or 4 channels last.
    """
    if x.ndim == 2:
        return "tokens" if np.issubdtype(x.dtype, np.integer) else "table"
    if x.ndim == 3:
        return "series"
    return "image" if x.ndim == 4 and x.shape[-1] in (1, COLOURS, COLOURS + 1) else "tensor"


def known_of(kind: Kind, x: Array, *, bounds: Bounds | None = None, padding: int = 0) -> Known:
    """What the corruptions of a kind need to know, from reference data.

    Args:
        kind: One of `KINDS`.
        x: ``(n, ...)`` reference data, such as those the model was trained with.
        bounds: Smallest and largest value; None for what the data reach. Tokens have none.
        padding: The id that fills texts up.

    Raises:
        ConfigError: If there is no such kind, or the bounds are none.
        DataError: If the data do not fit the kind or the bounds.
    """
    _check_kind(kind)
    if kind == "tokens":
        return vocabulary_of(x, padding=padding)
    if kind != "image":
        return reference_of(x, axes=(0, 1) if kind == "series" else (0,), bounds=bounds)
    checked(x, rank=4, layout=LAYOUT)
    bounds = (float(x.min()), float(x.max())) if bounds is None else bounds
    check_bounds(x, bounds)
    return bounds


def corruptions_of(kind: Kind, shape: tuple[int, ...]) -> tuple[Corruption, ...]:
    """The corruptions of a kind of input.

    Args:
        kind: One of `KINDS`.
        shape: Of the data; the size of images decides between the severities of ImageNet-C and CIFAR-10-C.

    Raises:
        ConfigError: If there is no such kind.
        DataError: If images have another number of axes.
    """
    _check_kind(kind)
    return _of_images(shape) if kind == "image" else _OTHERS[kind]


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ConfigError(f"kind={kind!r}: expected one of {', '.join(KINDS)}.")


def _of_images(shape: tuple[int, ...]) -> tuple[Corruption, ...]:
    if len(shape) != 4:
        raise DataError(f"Images of shape {shape} came; expected {LAYOUT}.")
    levels, colourless = levels_for(*shape[1:3]), shape[-1] < COLOURS
    return tuple(
        Corruption(
            name=function.__name__,
            function=function,
            levels=getattr(levels, function.__name__),
            random=function not in _IMAGES_NOT_RANDOM,
        )
        for function in _IMAGES
        if not (colourless and function is images.saturate)
    )


_IMAGES: tuple[Callable[..., Array], ...] = (
    images.gaussian_noise,
    images.shot_noise,
    images.impulse_noise,
    images.speckle_noise,
    image_blurs.gaussian_blur,
    image_blurs.defocus_blur,
    image_blurs.glass_blur,
    image_blurs.motion_blur,
    image_blurs.zoom_blur,
    images.fog,
    images.brightness,
    images.contrast,
    images.saturate,
    image_blurs.elastic_transform,
    images.pixelate,
    images.jpeg_compression,
)

_IMAGES_NOT_RANDOM = {
    image_blurs.gaussian_blur,
    image_blurs.defocus_blur,
    image_blurs.zoom_blur,
    images.brightness,
    images.contrast,
    images.saturate,
    images.pixelate,
    images.jpeg_compression,
}

_OTHERS: dict[str, tuple[Corruption, ...]] = {
    "tensor": (
        Corruption(name="gaussian_noise", function=tensors.gaussian_noise, levels=tensors.GAUSSIAN_NOISE),
        Corruption(name="uniform_noise", function=tensors.uniform_noise, levels=tensors.UNIFORM_NOISE),
        Corruption(name="impulse_noise", function=tensors.impulse_noise, levels=tensors.IMPULSE_NOISE),
        Corruption(name="gain", function=tensors.gain, levels=tensors.GAIN),
        Corruption(name="offset", function=tensors.offset, levels=tensors.OFFSET),
        Corruption(name="feature_dropout", function=tensors.feature_dropout, levels=tensors.FEATURE_DROPOUT),
        Corruption(name="quantisation", function=tensors.quantisation, levels=tensors.QUANTISATION, random=False),
    ),
    "table": (
        Corruption(name="missing_values", function=tables.missing_values, levels=tables.MISSING_VALUES),
        Corruption(name="swap_noise", function=tables.swap_noise, levels=tables.SWAP_NOISE),
        Corruption(name="permuted_columns", function=tables.permuted_columns, levels=tables.PERMUTED_COLUMNS),
        Corruption(
            name="covariate_shift",
            function=tables.covariate_shift,
            levels=tables.COVARIATE_SHIFT,
            draws_rows=True,
        ),
    ),
    "tokens": (
        Corruption(name="token_dropout", function=tokens.token_dropout, levels=tokens.TOKEN_DROPOUT),
        Corruption(name="token_replacement", function=tokens.token_replacement, levels=tokens.TOKEN_REPLACEMENT),
        Corruption(name="neighbour_swap", function=tokens.neighbour_swap, levels=tokens.NEIGHBOUR_SWAP),
        Corruption(name="truncation", function=tokens.truncation, levels=tokens.TRUNCATION, random=False),
    ),
    "series": (
        Corruption(name="jitter", function=series.jitter, levels=series.JITTER),
        Corruption(name="scaling", function=series.scaling, levels=series.SCALING),
        Corruption(name="missing_span", function=series.missing_span, levels=series.MISSING_SPAN),
        Corruption(name="channel_dropout", function=series.channel_dropout, levels=series.CHANNEL_DROPOUT),
        Corruption(name="time_warp", function=series.time_warp, levels=series.TIME_WARP),
        Corruption(name="lag", function=series.lag, levels=series.LAG, random=False),
    ),
}
