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
        reducer: What becomes of the tensor.
    """

    source: Literal["model", "output", "input", "activation"]
    position: int
    call: int = 0
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
        n_positions: Positions to keep of each, evenly spaced over all axes between the first and the last; None keeps
            the tensor's shape.
    """

    n_samples: int
    n_positions: int | None = None

    def partial(self, tensor: Any, batch: Batch) -> list[Any]:
        """Only the rows to keep leave the device."""
        kept = keras.ops.take(tensor, batch.keep, axis=0)
        if self.n_positions is None:
            return [kept]
        kept = keras.ops.reshape(kept, (kept.shape[0], -1, kept.shape[-1]))
        total = kept.shape[1]
        positions = np.unique(np.linspace(0, total - 1, min(self.n_positions, total)).round().astype(np.int32))
        return [keras.ops.take(kept, positions, axis=1)]

    def merge(self, state: list[NDArray[Any]] | None, partial: list[NDArray[Any]], batch: HostBatch) -> Any:
        """Append the real rows."""
        rows = [] if state is None else state
        rows.append(partial[0][: len(batch.ranks)][batch.ranks < self.n_samples])
        return rows

    def finish(self, state: list[NDArray[Any]]) -> NDArray[Any]:
        """The kept rows in sample order."""
        return np.concatenate(state)


@dataclass(frozen=True)
class Moments:
    """Per unit (last axis): count, mean, variance, extremes, and shares of exact zeros and of positives."""

    def partial(self, tensor: Any, batch: Batch) -> list[Any]:
        """Sums about the batch's own mean, so that float32 loses nothing to a large offset.

        That mean is itself rounded; ``residual`` is what it is off by (Chan, Golub & LeVeque 1983, the corrected
        two-pass algorithm).
        """
        ops = keras.ops
        units = tensor.shape[-1] if len(tensor.shape) > 1 else 1
        rows = ops.reshape(ops.cast(tensor, "float32"), (tensor.shape[0], -1, units))
        valid = ops.reshape(batch.valid, (-1, 1, 1))
        count = ops.sum(ops.cast(batch.valid, "float32")) * rows.shape[1]
        mean = ops.sum(ops.where(valid, rows, 0.0), axis=(0, 1)) / count
        centred = ops.where(valid, rows - mean, 0.0)
        residual = ops.sum(centred, axis=(0, 1)) / count
        return [
            count,
            mean,
            residual,
            ops.sum(centred * centred, axis=(0, 1)) - count * residual * residual,
            ops.min(ops.where(valid, rows, np.inf), axis=(0, 1)),
            ops.max(ops.where(valid, rows, -np.inf), axis=(0, 1)),
            ops.sum(ops.cast(ops.logical_and(valid, rows == 0), "float32"), axis=(0, 1)),
            ops.sum(ops.cast(ops.logical_and(valid, rows > 0), "float32"), axis=(0, 1)),
        ]

    def merge(self, state: Any, partial: list[NDArray[Any]], batch: HostBatch) -> Any:
        """Chan, Golub & LeVeque (1979): pairwise combination of centred sums, in float64."""
        del batch
        count, mean, residual, m2, low, high, zeros, positive = (np.asarray(p, dtype=np.float64) for p in partial)
        mean = mean + residual
        if state is None:
            return count, mean, m2, low, high, zeros, positive
        count_a, mean_a, m2_a, low_a, high_a, zeros_a, positive_a = state
        total = count_a + count
        with np.errstate(invalid="ignore"):
            # Infinite activations make the mean undefined: NaN, without a warning.
            delta = mean - mean_a
        return (
            total,
            mean_a + delta * count / total,
            m2_a + m2 + delta**2 * count_a * count / total,
            np.minimum(low_a, low),
            np.maximum(high_a, high),
            zeros_a + zeros,
            positive_a + positive,
        )

    def finish(self, state: Any) -> dict[str, NDArray[np.float64]]:
        """Arrays ``(units,)`` by name; ``count`` is the number of values behind each."""
        count, mean, m2, low, high, zeros, positive = state
        return {
            "count": np.broadcast_to(count, mean.shape).copy(),
            "mean": mean,
            "variance": m2 / count,
            "min": low,
            "max": high,
            "zero_share": zeros / count,
            "positive_share": positive / count,
        }
