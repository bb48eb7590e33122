"""Time of a model's own compiled forward pass: warmed up, waited for, repeated within a bounded time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from analyzer.backends import engine
from analyzer.data_types.cost import Latency
from analyzer.inspection import compat, inputs
from analyzer.inspection.view import ModelView
from analyzer.measures.timing import median_estimate

BUDGET = 0.25
"""Seconds of repetitions of one batch size; one is made whatever it takes."""

MOST_REPETITIONS = 30
LONGEST_BATCH = 2.0
"""Seconds that a larger batch may be expected to take, by the time of the smallest; else it is halved."""


def measure_latency(
    view: ModelView, arranged: Any | None, batch_size: int, step: Callable[[int, int], None]
) -> tuple[tuple[Latency, ...], str | None]:
    """Time batches of one sample and of the usual size, or of the size that the model fixes.

    Args:
        view: An opened model.
        arranged: Samples in the structure that the model is called with, repeated where they are too few; None takes
            zeros in the shape of the declared inputs.
        batch_size: The usual size; halved until a batch is expected to take at most `LONGEST_BATCH`.
        step: Called with sizes done and sizes in all.

    Returns:
        One entry per size, and why one is missing.
    """
    fixed = inputs.fixed_batch_size(view.model)
    found: list[Latency] = []
    with engine().inference(), compat.plain_calls(view.model, view.places.values()):
        for i, size in enumerate((fixed,) if fixed else (1, batch_size)):
            size = _affordable(size, found)
            if any(one.batch_size == size for one in found):
                continue
            step(i, 1 if fixed else 2)
            try:
                found.append(_measure(view, _batch(view.model, arranged, size), size))
            except Exception as error:  # noqa: BLE001 - whatever a device or model says, the other costs are known
                said = " ".join(str(error).split())[:200]
                return tuple(found), f"A batch of {size} could not be timed: {type(error).__name__}: {said}"
    step(1 if fixed else 2, 1 if fixed else 2)
    return tuple(found), None


def _affordable(size: int, found: list[Latency]) -> int:
    """The size, halved until it is expected to end in time."""
    each = found[0].lower_quartile if found else 0.0
    while size > 1 and each * size > LONGEST_BATCH:
        size //= 2
    return size


def _batch(model: keras.Model, arranged: Any | None, size: int) -> Any:
    if arranged is None:
        arranged = inputs.example(model, size)
    if arranged is None:
        raise ValueError("the model declares no inputs, and no data were given")
    rows = np.arange(size) % inputs.count(arranged)
    return keras.tree.map_structure(keras.ops.convert_to_tensor, inputs.take(arranged, rows))


def _measure(view: ModelView, batch: Any, size: int) -> Latency:
    program = engine().jit(_forward(view))
    values = [variable.value for variable in view.state]
    try:
        seconds = _repeat(lambda: engine().synchronize(program(values, batch)))
    finally:
        engine().release([program])
    lower, upper = np.quantile(seconds, (0.25, 0.75))
    return Latency(
        id=f"batch_{size}",
        batch_size=size,
        seconds=median_estimate(seconds),
        lower_quartile=float(lower),
        upper_quartile=float(upper),
    )


def _forward(view: ModelView) -> Callable[[list[Any], Any], list[Any]]:
    def forward(values: list[Any], x: Any) -> list[Any]:
        with keras.StatelessScope(state_mapping=list(zip(view.state, values, strict=True))):
            outputs = view.model(x, training=False)
        return [tensor for tensor in keras.tree.flatten(outputs) if tensor is not None]

    return forward


def _repeat(run: Callable[[], object]) -> list[float]:
    """Seconds of each repetition after warm-up: the first call compiles, the second fills caches."""
    _timed(run)
    second = _timed(run)
    if second > BUDGET:
        # So long that caches no longer matter, and another would take as long.
        return [second]
    seconds: list[float] = []
    end = time.perf_counter() + BUDGET
    while not seconds or (len(seconds) < MOST_REPETITIONS and time.perf_counter() < end):
        seconds.append(_timed(run))
    return seconds


def _timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
