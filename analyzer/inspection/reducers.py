"""Taps, and what becomes of the tensors that pass them.

A reducer has three parts: `partial` runs inside the compiled program and turns the tensors of one batch into a few
small ones; `merge` folds them on the host; `finish` makes arrays of what was folded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.backends import engine


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What a reducer may know about a batch inside the program.

    Attributes:
        valid: Bool tensor ``(B,)``: False where a row only pads the batch.
        keep: Int tensor ``(k,)``: rows of the samples to keep, padded with row 0.
    """

    valid: Any
    keep: Any


@dataclass(frozen=True, kw_only=True)
class HostBatch:
    """What a reducer may know about the same batch on the host.

    Attributes:
        n_valid: Number of real rows; they come first.
        ranks: Rank of each real entry of ``keep`` in the seeded order of all samples: a reducer that keeps k samples
            keeps those of rank below k, whatever others keep.
    """

    n_valid: int
    ranks: NDArray[np.int64]


class Reducer(Protocol):
    """A small frozen, hashable value."""

    def partial(self, tensor: Any, batch: Batch) -> list[Any]:
        """Small tensors out of one large one, in the compiled program."""

    def merge(self, state: Any, partial: list[NDArray[Any]], batch: HostBatch) -> Any:
        """Fold one batch into the state, which starts as None; associative, in float64."""

    def finish(self, state: Any) -> Any:
        """Arrays out of the folded state."""


@dataclass(frozen=True, kw_only=True)
class Tap:
    """A place where tensors are noticed, and their reducer.

    Attributes:
        source: ``"model"`` for an output of the model, else the ``"output"``, the ``"input"`` or the input of the
            ``"activation"`` of a place.
        position: Index of the model's output, or of the place.
        call: Which call of the place, from 0; -1 for the last one.
        fold: Rows per sample along the first axis, for layers that cut a sample into several (windows, patches).
        reducer: What becomes of the tensor.
    """

    source: Literal["model", "output", "input", "activation"]
    position: int
    call: int = 0
    fold: int = 1
    reducer: Reducer


@dataclass(frozen=True)
class Collect:
    """Keep every row: for outputs of the model, which are small."""

    def partial(self, tensor: Any, batch: Batch) -> list[Any]:
        """The tensor itself."""
        del batch
        return [tensor]

    def merge(self, state: list[NDArray[Any]] | None, partial: list[NDArray[Any]], batch: HostBatch) -> Any:
        """Append the real rows."""
        rows = [] if state is None else state
        rows.append(partial[0][: batch.n_valid])
        return rows

    def finish(self, state: list[NDArray[Any]]) -> NDArray[Any]:
        """All rows in sample order."""
        return np.concatenate(state)


@dataclass(frozen=True, kw_only=True)
class KeepSamples:
    """Keep the rows of a seeded subset of the samples, chosen by index, so that neither batch size nor order matters.

    Attributes:
        n_samples: Most samples to keep.
        n_positions: Positions to keep of each, drawn once for all samples; what is kept is then ``(samples, positions,
            units)``. None keeps the tensor's shape.
        axis: The axis of units.
    """

    n_samples: int
    n_positions: int | None = None
    axis: int = -1

    def partial(self, tensor: Any, batch: Batch) -> list[Any]:
        """Only the rows to keep leave the device."""
        kept = keras.ops.take(tensor, batch.keep, axis=0)
        if self.n_positions is None:
            return [kept]
        kept = _units_last(kept, self.axis)
        kept = keras.ops.reshape(kept, (kept.shape[0], -1, kept.shape[-1]))
        return [keras.ops.take(kept, _positions(kept.shape[1], self.n_positions), axis=1)]

    def merge(self, state: list[NDArray[Any]] | None, partial: list[NDArray[Any]], batch: HostBatch) -> Any:
        """Append the real rows."""
        rows = [] if state is None else state
        rows.append(partial[0][: len(batch.ranks)][batch.ranks < self.n_samples])
        return rows

    def finish(self, state: list[NDArray[Any]]) -> NDArray[Any]:
        """The kept rows in sample order."""
        return np.concatenate(state)


@dataclass(frozen=True, kw_only=True)
class KeepMeans(KeepSamples):
    """Means over positions of the kept samples: ``(samples, units)``, whatever the tensor's shape."""

    def partial(self, tensor: Any, batch: Batch) -> list[Any]:
        """Only means leave the device."""
        kept = keras.ops.cast(_units_last(keras.ops.take(tensor, batch.keep, axis=0), self.axis), "float32")
        kept = keras.ops.reshape(kept, (kept.shape[0], -1, kept.shape[-1]))
        return [keras.ops.mean(kept, axis=1)]


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Per unit: count, mean, variance, extremes, and shares of exact zeros and of positives.

    Attributes:
        axis: The axis of units.
    """

    axis: int = -1

    def partial(self, tensor: Any, batch: Batch) -> list[Any]:
        """Sums about the mean of the batch's first sample, so that float32 loses nothing to a large offset.

        The rows that pad a batch repeat its first one, so they are subtracted again instead of masked: a mask as large
        as the tensor would cost more than the sums.
        """
        ops = keras.ops
        x = ops.cast(_units_last(tensor, self.axis), "float32")
        first = x[:1]
        shift = _near_mean(first)
        sums = ops.stack(engine().unit_sums(x, shift))
        padding = ops.sum(ops.cast(ops.logical_not(batch.valid), "float32"))
        # Of the six only extremes do not change when a row is repeated. Most batches are full and skip this.
        counted = np.array([1, 1, 0, 0, 1, 1], dtype=np.float32)[:, None]
        sums = ops.cond(
            padding > 0,
            lambda: sums - padding * ops.where(counted, ops.stack(engine().unit_sums(first, shift)), 0.0),
            lambda: sums,
        )
        positions = np.prod(x.shape[1:-1], dtype=np.float32)
        return [ops.concatenate([shift[None], sums]), ops.convert_to_tensor(positions)]

    def merge(self, state: Any, partial: list[NDArray[Any]], batch: HostBatch) -> Any:
        """Chan, Golub & LeVeque (1979): pairwise combination of centred sums, in float64."""
        shift, off, squares, low, high, above, other = np.asarray(partial[0], dtype=np.float64)
        count = batch.n_valid * float(partial[1])
        # Backends disagree whether NaN is an extreme; where it is not, extremes are finite or of no value at all.
        unnoticed = np.isnan(off) & ((np.isfinite(low) & np.isfinite(high)) | (low > high))
        low, high = np.where(unnoticed, np.nan, low), np.where(unnoticed, np.nan, high)
        with np.errstate(invalid="ignore", over="ignore"):
            # Infinite activations make the mean undefined: NaN, without a warning.
            mean = shift + off / count
            m2 = np.maximum(squares - off * off / count, 0.0)
            if state is None:
                return count, mean, m2, low, high, above, other
            count_a, mean_a, m2_a, low_a, high_a, above_a, other_a = state
            total = count_a + count
            delta = mean - mean_a
            return (
                total,
                mean_a + delta * count / total,
                m2_a + m2 + delta**2 * count_a * count / total,
                np.minimum(low_a, low),
                np.maximum(high_a, high),
                above_a + above,
                other_a + other,
            )

    def finish(self, state: Any) -> dict[str, NDArray[np.float64]]:
        """Arrays ``(units,)`` by name; ``count`` is the number of values behind each."""
        count, mean, m2, low, high, above, other = state
        return {
            "count": np.full(mean.shape, count),
            "mean": mean,
            "variance": m2 / count,
            "min": low,
            "max": high,
            "zero_share": 1.0 - other / count,
            "positive_share": above / count,
        }


_SHIFT_POSITIONS = 64
"""Positions that the mean of a sample is guessed from; it only has to lie within a few standard deviations."""


def seeded_samples(n: int, most: int, seed: int) -> NDArray[np.int64]:
    """Indices of the samples that a reducer keeps, in the order of their ranks: its first k are those of a smaller one.

    Args:
        n: Number of samples.
        most: Most to keep.
        seed: Chooses them.
    """
    return np.random.default_rng(seed).permutation(n)[:most]


def _units_last(tensor: Any, axis: int) -> Any:
    """The tensor with its units last; one number per sample is one unit."""
    if len(tensor.shape) == 1:
        return keras.ops.expand_dims(tensor, -1)
    return tensor if axis == -1 else keras.ops.moveaxis(tensor, axis, -1)


def _near_mean(sample: Any) -> Any:
    """``(units,)``: the mean of some positions of one sample; 0 where it is not finite."""
    rows = keras.ops.reshape(sample, (-1, sample.shape[-1]))
    some = rows[:: max(1, rows.shape[0] // _SHIFT_POSITIONS)]
    mean = keras.ops.mean(some, axis=0)
    return keras.ops.where(keras.ops.isfinite(mean), mean, 0.0)


def _positions(total: int, most: int) -> NDArray[np.int32]:
    """Which positions are kept: a random choice that depends on nothing but their number.

    Evenly spaced ones would all lie in one column of an image.
    """
    chosen = np.random.default_rng(total).choice(total, min(most, total), replace=False)
    return np.sort(chosen).astype(np.int32)
