"""The samples that a diagnosis rests on: real failures, and controls that stood the same move."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.outputs import OutputTask
from analyzer.diagnosis.patchable import Patchable
from analyzer.errors import DataError, Unsupported
from analyzer.inspection import inputs
from analyzer.inspection.features import arranged_for
from analyzer.inspection.outputs import normalise_labels
from analyzer.measures.fault import Groups, decided_rightly, lead, strongest_other
from analyzer.measures.random_streams import stream

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Cases:
    """Failures (decided rightly on x, wrongly on the moved x) and controls (rightly on both).

    Attributes:
        x: The samples as they are, in the structure that the model is called with.
        moved: The samples as they were moved.
        y: True classes.
        other: The strongest other class on the moved samples: the one that a failure is mistaken for.
        z: Logits of x.
        z_moved: Logits of the moved samples.
        failed: Which samples are failures.
        n_samples: How many samples were given.
        n_failures: How many of them are failures.
        n_controls: How many are controls; the others are decided wrongly as they are.
    """

    x: Any
    moved: Any
    y: NDArray[np.int64]
    other: NDArray[np.int64]
    z: Floats
    z_moved: Floats
    failed: NDArray[np.bool_]
    n_samples: int
    n_failures: int
    n_controls: int

    @property
    def lost(self) -> Floats:
        """How much of the lead over the other class the move takes away, in logits."""
        return self.taken_away(self.z_moved)

    def taken_away(self, z: Floats) -> Floats:
        """How much of the lead of the clean run is gone in another.

        Args:
            z: Logits of that run.
        """
        return lead(self.z, self.y, self.other) - lead(z, self.y, self.other)

    def given_back(self, z: Floats) -> Floats:
        """How much more lead there is in a run than in the moved one.

        Args:
            z: Logits of that run.
        """
        return lead(z, self.y, self.other) - lead(self.z_moved, self.y, self.other)

    def groups(self, n_bootstrap: int, seed: int) -> Groups:
        """The groups as estimates are made of them."""
        return Groups(self.failed, n_bootstrap=n_bootstrap, seed=seed)

    def batches(self, size: int) -> Iterator[tuple[slice, Any, Any]]:
        """Positions, samples and moved samples, ``size`` at a time: activations are kept of no more."""
        for start in range(0, len(self.y), size):
            rows = slice(start, start + size)
            yield rows, inputs.take(self.x, rows), inputs.take(self.moved, rows)


def find_cases(model: Patchable, x: Any, x_moved: Any, y: Any, *, most: int, seed: int) -> Cases:
    """Tell failures and controls, and draw from them.

    Args:
        model: The model.
        x: Samples as they are.
        x_moved: The same samples, each one moved: attacked, corrupted or shifted.
        y: Classes, or one-hot rows.
        most: Most failures, and most controls; above, some are drawn.
        seed: Seed of the draw.

    Raises:
        DataError: If x, x_moved and y do not fit each other or the model.
        Unsupported: If no sample fails.
    """
    arranged, moved = arranged_for(model.view.model, x), arranged_for(model.view.model, x_moved)
    _check_alike(arranged, moved)
    z, z_moved = model.logits(arranged), model.logits(moved)
    labels = _classes(model, y, z.shape)
    right, still = decided_rightly(z, labels), decided_rightly(z_moved, labels)
    if not np.any(right & ~still):
        raise Unsupported(
            f"Of {len(z)} samples, {int(right.sum())} are decided rightly as they are, and none of these wrongly once "
            "moved: there is no failure to trace. Give a stronger move, or more samples."
        )
    rng = stream(seed, 73)
    failures, controls = (_some(np.flatnonzero(mask), most, rng) for mask in (right & ~still, right & still))
    rows = np.concatenate([failures, controls])
    x_kept, moved_kept = inputs.take(arranged, rows), inputs.take(moved, rows)
    return Cases(
        x=x_kept,
        moved=moved_kept,
        y=labels[rows],
        other=strongest_other(z_moved[rows], labels[rows]),
        # Once more, in the batches that patching will use: rounding depends on their size.
        z=_by_batch(model, x_kept, len(rows)),
        z_moved=_by_batch(model, moved_kept, len(rows)),
        failed=np.arange(len(rows)) < len(failures),
        n_samples=len(z),
        n_failures=int(np.sum(right & ~still)),
        n_controls=int(np.sum(right & still)),
    )


def _by_batch(model: Patchable, x: Any, n: int) -> Floats:
    size = model.batch_size
    return np.concatenate([model.logits(inputs.take(x, slice(start, start + size))) for start in range(0, n, size)])


def _some(rows: NDArray[np.int64], most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def _check_alike(x: Any, moved: Any) -> None:
    shapes, others = ([np.shape(leaf) for leaf in keras.tree.flatten(one)] for one in (x, moved))
    if shapes != others:
        raise DataError(
            f"x has shape {shapes} and x_moved {others}: expected the same samples in the same order, each one moved."
        )


def _classes(model: Patchable, y: Any, shape: tuple[int, ...]) -> NDArray[np.int64]:
    binary = model.view.heads[0].shape[-1] == 1
    task = OutputTask(kind="binary" if binary else "multiclass", source="user", reason="Failures are wrong classes.")
    labels = np.asarray(y)
    if labels.ndim == 0 or len(labels) != shape[0]:
        raise DataError(f"y has shape {labels.shape}: expected the class of each of the {shape[0]} samples.")
    return normalise_labels("output", labels, (shape[0], 1) if binary else shape, task)
