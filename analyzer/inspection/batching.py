"""All samples in batches of equal size, the last one padded, all of them halved where memory is lacking."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.backends import engine
from analyzer.errors import DeviceMemoryError
from analyzer.inspection import inputs

Result = TypeVar("Result")

Run = Callable[[Any, NDArray[np.int64], int], Result]
"""From a batch, the positions of its rows in x, and how many of them are no padding, to what it brings."""


def in_batches(
    model: keras.Model,
    arranged: Any,
    batch_size: int,
    run: Run[Result],
    *,
    forget: Callable[[], None],
    too_large: str,
    told: Callable[[int, int], None] | None = None,
) -> Iterator[Result]:
    """What every batch of some samples brings, in order.

    Args:
        model: The model; a batch size that it fixes goes before `batch_size`.
        arranged: Samples in the structure that the model is called with.
        batch_size: Most samples per batch.
        run: Works on one batch; padding repeats the first of its rows.
        forget: Called before batches get another size: compiled programs do not fit them.
        too_large: What the error says where a single sample does not fit.
        told: Called after every batch with how many samples are done and how many there are.

    Raises:
        DeviceMemoryError: If a single sample does not fit.
    """
    n, fixed = inputs.count(arranged), inputs.fixed_batch_size(model)
    size = fixed or math.ceil(n / math.ceil(n / batch_size))
    start = 0
    while start < n:
        real = np.arange(start, min(start + size, n))
        rows = np.concatenate([real, np.full(size - len(real), real[0])])
        try:
            result = run(inputs.take(arranged, rows), rows, len(real))
        except Exception as error:
            if not engine().is_out_of_memory(error):
                raise
            if fixed or size == 1:
                raise DeviceMemoryError(
                    f"The model {model.name!r} does not fit into memory for {size} sample(s) {too_large}"
                ) from error
            size = max(1, size // 2)
            forget()
            continue
        yield result
        start += len(real)
        if told is not None:
            told(start, n)
