"""The engine on TensorFlow."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.python.eager import context as eager_context
from tensorflow.python.framework import config as framework_config

Tensor = Any

name = "tensorflow"


def jit(fn: Callable[..., Any]) -> Callable[..., Any]:
    # Not jit_compile: on a CPU, XLA's convolutions take five times as long as oneDNN's (ResNet50, 64 px).
    return _compiled(fn)


def _compiled(fn: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    compiled: Any = tf.function(fn, autograph=False, **options)
    # One program per model and shape is what is wanted; TensorFlow would take the fifth for a mistake.
    compiled._omit_frequent_tracing_warning = True
    return compiled  # type: ignore[no-any-return]


def trace(fn: Callable[..., Any], *args: Any) -> None:
    def nothing_out(*inner: Any) -> Tensor:
        fn(*inner)
        return tf.constant(0)

    tf.function(nothing_out, autograph=False).get_concrete_function(*args)


def vjp(fn: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    x = tf.convert_to_tensor(x)
    tape = tf.GradientTape(persistent=True, watch_accessed_variables=False)
    with tape:
        tape.watch(x)
        value = fn(x)
    zero = tf.UnconnectedGradients.ZERO
    return value, lambda cotangent: tape.gradient(value, x, output_gradients=cotangent, unconnected_gradients=zero)


def jvp(fn: Callable[[Tensor], Tensor], x: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
    x = tf.convert_to_tensor(x)
    with tf.autodiff.ForwardAccumulator(x, tf.cast(tangent, x.dtype)) as accumulator:
        value = fn(x)
    return value, accumulator.jvp(value, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def value_and_grad(fn: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    x = tf.nest.map_structure(tf.convert_to_tensor, x)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        value = fn(x)
    gradient = tape.gradient(value, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    # That of an embedding's table comes as the rows that were looked up.
    return value, tf.nest.map_structure(tf.convert_to_tensor, gradient, expand_composites=False)


_BLOCK = 2048
"""Values that one step of the loop below reads; XLA keeps the body of a small loop in one function, in registers."""


def unit_sums(x: Tensor, shift: Tensor) -> list[Tensor]:
    rows = tf.reshape(x, (-1, x.shape[-1]))
    units = rows.shape[1]
    # Side by side, narrow rows fill vector registers too; eight blocks of them at once hide the latency of adding.
    side = max(1, _BLOCK // (8 * units))
    deep = max(1, min(8, _BLOCK // units))
    steps = (rows.shape[0] or 0) // (side * deep)
    if steps < 4 or tf.config.list_logical_devices("GPU"):
        return _sums(rows, shift)
    body = steps * side * deep
    lanes = _looped(tf.reshape(rows[:body], (steps * deep, side * units)), tf.tile(shift, (side,)), deep)
    lanes = [tf.reshape(s, (side, units)) for s in lanes]
    folds = [tf.reduce_sum, tf.reduce_sum, tf.reduce_min, tf.reduce_max, tf.reduce_sum, tf.reduce_sum]
    folded = [fold(s, 0) for fold, s in zip(folds, lanes, strict=True)]
    return folded if body == rows.shape[0] else _added(folded, _sums(rows[body:], shift))


def _loop(blocks: Tensor, shifts: Tensor, deep: int) -> list[Tensor]:
    # TensorFlow's own kernels would read the values a dozen times and write half as many copies; here XLA is faster.
    def step(i: Tensor, *sums: Tensor) -> tuple[Tensor, ...]:
        return i + 1, *_added(sums, _sums(tf.slice(blocks, (i * deep, 0), (deep, blocks.shape[1])), shifts))

    zero = tf.zeros_like(shifts)
    start = [tf.constant(0), zero, zero, zero + np.inf, zero - np.inf, zero, zero]
    looped: list[Tensor] = tf.while_loop(lambda i, *_: i < blocks.shape[0] // deep, step, start)[1:]
    return looped


_looped = _compiled(_loop, jit_compile=True)


def _sums(rows: Tensor, shift: Tensor) -> list[Tensor]:
    off = rows - shift
    above, other = tf.cast(rows > 0, rows.dtype), tf.cast(tf.not_equal(rows, 0), rows.dtype)
    sums = [tf.reduce_sum(t, 0) for t in (off, off * off, above, other)]
    return [*sums[:2], tf.reduce_min(rows, 0), tf.reduce_max(rows, 0), *sums[2:]]


def _added(a: Sequence[Tensor], b: Sequence[Tensor]) -> list[Tensor]:
    return [a[0] + b[0], a[1] + b[1], tf.minimum(a[2], b[2]), tf.maximum(a[3], b[3]), a[4] + b[4], a[5] + b[5]]


def stop_gradient(x: Tensor) -> Tensor:
    return tf.stop_gradient(x)


def to_numpy(x: Tensor) -> NDArray[Any]:
    array = np.array(x)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def synchronize(tree: Any) -> Any:
    for leaf in tf.nest.flatten(tree):
        if tf.is_tensor(leaf):
            leaf.numpy()
    return tree


@contextlib.contextmanager
def inference() -> Iterator[None]:
    yield


@contextlib.contextmanager
def rng_guard() -> Iterator[None]:
    # The seed of each random op comes from a Python generator inside the eager context; there is no public handle.
    # It is made with the first seed, so there may be none yet.
    operation_seeds = getattr(eager_context.context(), "_rng", None)
    before = None if operation_seeds is None else operation_seeds.getstate()
    try:
        yield
    finally:
        if operation_seeds is not None:
            operation_seeds.setstate(before)


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    before = framework_config.is_op_determinism_enabled()
    tf.config.experimental.enable_op_determinism()
    try:
        yield
    finally:
        if not before:
            framework_config.disable_op_determinism()


def is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | tf.errors.ResourceExhaustedError)


def memory_in_use() -> int | None:
    gpus = tf.config.list_logical_devices("GPU")
    return int(tf.config.experimental.get_memory_info(gpus[0].name)["current"]) if gpus else None


def release(fns: Sequence[Callable[..., Any]]) -> None:
    # A tf.function's graphs go with the function; nothing else holds them.
    del fns
