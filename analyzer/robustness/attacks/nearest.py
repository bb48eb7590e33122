"""Moving an adversarial point towards its sample while the decision stays wrong."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.losses import margin
from analyzer.robustness.attacks.threat import Norm, length, wide

Tensor = Any
Array = NDArray[Any]

HALVINGS = 12
"""Halvings of the segment: the step is then known to a four-thousandth of its length."""


def shortened(
    attacked: Attacked, u: Array, points: Array, y: Array, norm: Norm
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The point nearest to each sample, on the segment to the point given, whose decision is still wrong.

    Args:
        attacked: The model.
        u: Samples that are decided rightly.
        points: Points that are not.
        y: True classes.
        norm: What lengths are measured in.

    Returns:
        The points, and the lengths of the steps to them.
    """
    ops = keras.ops

    def along(origin: Tensor, point: Tensor, share: Tensor) -> Tensor:
        return origin + wide(share, origin) * (point - origin)

    def halve(
        values: list[Tensor], origin: Tensor, point: Tensor, y: Tensor, low: Tensor, high: Tensor
    ) -> tuple[Tensor, Tensor]:
        middle = (low + high) / 2
        wrong = margin(attacked.logits(values, along(origin, point, middle)), y, y) >= 0
        return ops.where(wrong, low, middle), ops.where(wrong, middle, high)

    def finish(values: list[Tensor], origin: Tensor, point: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        del values
        nearest = along(origin, point, share)
        return nearest, length(nearest - origin, norm)

    program, last = attacked.program("shortened", halve), attacked.program(("shortened", norm), finish)

    def work(batch: list[Tensor], rows: Array) -> list[Tensor]:
        del rows
        origin, point, y = batch
        high = ops.cast(ops.ones_like(y), "float32")
        low = ops.zeros_like(high)
        for _ in range(HALVINGS):
            low, high = program(origin, point, y, low, high)
        return list(last(origin, point, high))

    found, lengths = attacked.by_batch([u, points, y], work)
    return found, lengths.astype(np.float64)
