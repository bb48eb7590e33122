"""How activations change between two inputs or two models: from sums per sample, raw and free of scale.

Every measure here is a function of sums over the samples, so that all intervals come from one bootstrap in which the
same samples are drawn for every layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.values import Estimate
from analyzer.measures.bootstrap import Units, interval_estimate, multiplicities, resampling_units, unit_sums
from analyzer.measures.random_streams import stream

Floats = NDArray[np.float64]

_PIECE = 1 << 22
"""Values that are widened to float64 at a time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RowSums:
    """Sums over the values of each sample of one tensor.

    Attributes:
        size: Values per sample.
        total: ``(n,)`` Σ v.
        magnitude: ``(n,)`` Σ |v|.
        square: ``(n,)`` Σ v².
        largest: ``(n,)`` max v.
    """

    size: int
    total: Floats
    magnitude: Floats
    square: Floats
    largest: Floats

    @property
    def n(self) -> int:
        """Samples."""
        return len(self.total)

    @property
    def n_values(self) -> int:
        """Values of all samples."""
        return self.n * self.size

    def take(self, rows: NDArray[Any]) -> RowSums:
        """The same of some samples.

        Args:
            rows: Their positions, or a mask.
        """
        return RowSums(
            size=self.size,
            total=self.total[rows],
            magnitude=self.magnitude[rows],
            square=self.square[rows],
            largest=self.largest[rows],
        )


def row_sums(values: NDArray[Any], minus: NDArray[Any] | None = None) -> RowSums:
    """Sums per sample of a tensor, or of the difference of two.

    Args:
        values: ``(n, ...)`` numbers.
        minus: What is subtracted, of the same shape; None for nothing.
    """
    n = len(values)
    size = int(np.prod(values.shape[1:], dtype=np.int64))
    found = np.zeros((4, n))
    with np.errstate(invalid="ignore", over="ignore"):
        for rows in _row_blocks(n, size):
            wide = np.asarray(values[rows], dtype=np.float64).reshape(-1, size)
            if minus is not None:
                wide = wide - np.asarray(minus[rows], dtype=np.float64).reshape(-1, size)
            found[:, rows] = wide.sum(axis=1), np.abs(wide).sum(axis=1), np.square(wide).sum(axis=1), wide.max(axis=1)
    return RowSums(size=size, total=found[0], magnitude=found[1], square=found[2], largest=found[3])


def joined_sums(parts: Sequence[RowSums]) -> RowSums:
    """Sums of batches as those of all samples.

    Args:
        parts: One per batch, in order.
    """

    def together(name: str) -> Floats:
        return np.concatenate([getattr(part, name) for part in parts])

    return RowSums(
        size=parts[0].size,
        total=together("total"),
        magnitude=together("magnitude"),
        square=together("square"),
        largest=together("largest"),
    )


def _row_blocks(n: int, size: int) -> Iterator[slice]:
    step = max(1, _PIECE // max(size, 1))
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def mean_of(sums: RowSums) -> float:
    """Mean over all values."""
    return float(sums.total.sum()) / sums.n_values


def std_of(sums: RowSums) -> float:
    """Standard deviation over all values, with the divisor of an unbiased variance (count − 1)."""
    if sums.n_values < 2:
        return float("nan")
    mean = mean_of(sums)
    # In float64 the cancellation only shows where the mean is ten million times the spread.
    variance = (float(sums.square.sum()) - sums.n_values * mean * mean) / (sums.n_values - 1)
    return float(np.sqrt(max(variance, 0.0))) if np.isfinite(variance) else float("nan")


def mean_magnitude(sums: RowSums) -> float:
    """Mean of |v| over all values; of a difference, ModelTrace's drift of one layer."""
    return float(sums.magnitude.sum()) / sums.n_values


@dataclass(frozen=True, eq=False)
class Resampling:
    """Bootstrap samples of one set of samples, shared by all layers.

    Attributes:
        units: What is drawn: samples, or bundles of them.
        draws: ``(B, units)`` how often each is.
    """

    units: Units
    draws: Floats

    @property
    def n(self) -> int:
        """Samples."""
        return self.units.n_independent

    def totals(self, values: Floats) -> tuple[float, Floats]:
        """The sum over all samples, and over each bootstrap sample.

        Args:
            values: ``(n,)``.
        """
        sums = unit_sums(values[:, None], self.units)[:, 0]
        # What is not finite makes the result so; it is no reason to warn.
        with np.errstate(invalid="ignore", over="ignore"):
            return float(sums.sum()), np.asarray(self.draws @ sums)


def resampling(n: int, n_bootstrap: int, seed: int, *purpose: int) -> Resampling:
    """Draw bootstrap samples.

    Args:
        n: Samples.
        n_bootstrap: Draws; 0 computes no intervals.
        seed: Seed of the draws.
        purpose: Tells sets of samples that are drawn independently apart.
    """
    rng = stream(seed, 40, *purpose)
    units = resampling_units(n, None, rng)
    draws = multiplicities(units.count, n_bootstrap, rng) if n_bootstrap and units.count else np.zeros((0, units.count))
    return Resampling(units, draws)


@dataclass(frozen=True, eq=False)
class Bootstrapped:
    """A number with its values on bootstrap samples; sums and means of these stay paired.

    Attributes:
        value: On the data; NaN where undefined.
        draws: ``(B,)``.
        n: Samples.
    """

    value: float
    draws: Floats
    n: int

    def estimate(self, low: float = -np.inf) -> Estimate:
        """With its interval (`interval_estimate`, bias-corrected).

        Args:
            low: Smallest value that is possible.
        """
        return interval_estimate(self.value, self.draws, n=self.n, bounds=(low, np.inf))


def relative_norm(part: RowSums, whole: RowSums, drawn: Resampling) -> Bootstrapped:
    """‖part‖ / ‖whole‖ over all values of all samples; undefined where the whole is 0.

    Args:
        part: Sums of the difference.
        whole: Sums of what it is compared with.
        drawn: Bootstrap samples of the same samples.
    """
    above, above_drawn = drawn.totals(part.square)
    below, below_drawn = drawn.totals(whole.square)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.sqrt(np.float64(above) / np.float64(below)) if below > 0 else np.nan
        return Bootstrapped(float(value), np.sqrt(above_drawn / below_drawn), drawn.n)


def relative_change_of_magnitude(
    before: RowSums, after: RowSums, first: Resampling, second: Resampling
) -> Bootstrapped:
    """Mean |v| after over mean |v| before, minus 1; the two may hold different samples.

    Args:
        before: Sums on one set of samples.
        after: On another.
        first: Bootstrap samples of the one.
        second: Of the other; the same object where samples are pairs.
    """
    below, below_drawn = first.totals(before.magnitude)
    above, above_drawn = second.totals(after.magnitude)
    ratio = before.n_values / after.n_values if after.n_values else np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        value = above / below * ratio - 1 if below > 0 else np.nan
        return Bootstrapped(float(value), above_drawn / below_drawn * ratio - 1, first.n)


def over_rms(power: float, sums: RowSums, drawn: Resampling) -> Bootstrapped:
    """A mean over the root mean square of all values: mean (power 1), or standard deviation (power 2).

    Args:
        power: 1 for mean / rms; 2 for std / rms, which is sqrt(1 − (mean / rms)²).
        sums: Sums of the tensor.
        drawn: Bootstrap samples.
    """
    total, total_drawn = drawn.totals(sums.total)
    square, square_drawn = drawn.totals(sums.square)
    n_values = sums.n_values
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.float64(total) / np.sqrt(square * n_values) if square > 0 else np.nan
        draws = total_drawn / np.sqrt(square_drawn * n_values)
        if power == 2:
            value, draws = np.sqrt(np.maximum(1 - value**2, 0)), np.sqrt(np.maximum(1 - draws**2, 0))
        return Bootstrapped(float(value), draws, drawn.n)


def log_amplification(
    change_in: Sequence[RowSums],
    value_in: Sequence[RowSums],
    change_out: Sequence[RowSums],
    value_out: Sequence[RowSums],
    drawn: Resampling,
) -> Bootstrapped:
    """Ln of how much a layer amplifies a relative change: (‖Δout‖ / ‖out‖) / (‖Δin‖ / ‖in‖).

    Along a chain the logarithms add up to that of the whole model, and no factor that one layer multiplies and the next
    divides by changes any of them.

    Args:
        change_in: Sums of the change of each tensor that the layer receives.
        value_in: Of these tensors.
        change_out: Of the change of what it returns.
        value_out: Of what it returns.
        drawn: Bootstrap samples.

    Returns:
        In nats; undefined where something vanishes.
    """
    value, draws = 0.0, np.zeros(len(drawn.draws))
    for sign, several in ((1, change_out), (-1, value_out), (-1, change_in), (1, value_in)):
        squares = np.sum([one.square for one in several], axis=0) if several else np.full(drawn.n, np.nan)
        total, total_drawn = drawn.totals(squares)
        with np.errstate(divide="ignore", invalid="ignore"):
            value += sign * 0.5 * float(np.log(total)) if total > 0 else np.nan
            draws = draws + sign * 0.5 * np.log(total_drawn)
    return Bootstrapped(value, draws, drawn.n)


def difference_of(first: Bootstrapped, second: Bootstrapped) -> Bootstrapped:
    """First minus second, from independent draws of two groups or paired draws of one.

    Args:
        first: One number.
        second: The other, with as many draws.
    """
    with np.errstate(invalid="ignore"):
        return Bootstrapped(first.value - second.value, first.draws - second.draws, min(first.n, second.n))


def mean_of_layers(several: Sequence[Bootstrapped]) -> Bootstrapped:
    """Mean over the layers for which a number is defined; undefined where that is none.

    Args:
        several: One per layer, paired.
    """
    known = [one for one in several if np.isfinite(one.value)]
    if not known:
        return Bootstrapped(float("nan"), np.zeros(0), several[0].n if several else 0)
    return Bootstrapped(
        float(np.mean([one.value for one in known])),
        np.mean([one.draws for one in known], axis=0),
        min(one.n for one in known),
    )


def modeltrace_composite(normal: float, shifted: float, drift: float, sensitivity: float) -> float:
    """0.4 |shifted − normal| + 0.4 drift + 0.2 sensitivity: lower means that activations change less.

    ModelTrace's sensitivity is the very mean that is its drift, so this is 0.4 |shifted − normal| + 0.6 drift.

    Args:
        normal: Mean magnitude of the activations on the data, averaged over layers.
        shifted: Likewise on the shifted data.
        drift: Mean magnitude of the change, averaged over layers.
        sensitivity: The same once more.
    """
    return 0.4 * abs(shifted - normal) + 0.4 * drift + 0.2 * sensitivity
