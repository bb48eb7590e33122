"""The relevance ops on TensorFlow."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from analyzer.backends.tensorflow import jit

Tensor = Any


def bind(
    value: Tensor, parts: list[Tensor], kept: list[Tensor], back: Callable[[Tensor, list[Tensor]], list[Tensor]]
) -> Tensor:
    value, kept = tf.stop_gradient(value), [tf.stop_gradient(k) for k in kept]

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def bound(*parts: Tensor) -> tuple[Tensor, Callable[..., Any]]:
        del parts
        return tf.identity(value), lambda cotangent: back(cotangent * value, kept)

    return bound(*parts)


def bind_value(value: Tensor, part: Tensor, epsilon: float) -> Tensor:
    value = tf.stop_gradient(value)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def bound(part: Tensor) -> tuple[Tensor, Callable[..., Any]]:
        del part

        def backward(cotangent: Tensor) -> Tensor:
            size = tf.abs(value)
            return cotangent * (size / (size + tf.cast(epsilon, size.dtype)))

        return tf.identity(value), backward

    return bound(part)


def stabilise(z: Tensor, epsilon: float) -> Tensor:
    return z + tf.where(z >= 0, tf.cast(epsilon, z.dtype), tf.cast(-epsilon, z.dtype))


def convolve(
    x: Tensor,
    kernel: Tensor,
    strides: Sequence[int],
    padding: str,
    dilation: Sequence[int],
    plain: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    del strides, padding, dilation
    return plain(x, kernel)


def max_pool(
    x: Tensor, window: Sequence[int], strides: Sequence[int], padding: str, plain: Callable[[Tensor], Tensor]
) -> Tensor:
    if len(window) < 3:
        return plain(x)
    # Without oneDNN (eager, or no such CPU) TensorFlow hands what flows back through a volume's window to each of the
    # equally large, whole. In planes it does not: first over height and width, then over depth, which leaves the first.
    _, depth, *sizes, channels = x.shape
    planes = tf.reshape(x, (-1, *sizes, channels))
    planes = tf.nn.max_pool2d(planes, window[1:], strides[1:], padding.upper())
    height, width = planes.shape[1:3]
    columns = tf.reshape(planes, (-1, depth, height * width, channels))
    columns = tf.nn.max_pool2d(columns, (window[0], 1), (strides[0], 1), padding.upper())
    return tf.reshape(columns, (-1, columns.shape[1], height, width, channels))


_PLAIN_CALLS = 2
"""Calls before XLA compiles: it takes as long as many of them, and most explanations are one or two batches."""


def compile(fn: Callable[..., Any], *, convolutions: bool, jit_compile: bool) -> Callable[..., Any]:
    # On a CPU, XLA's products and element-wise chains are faster than TensorFlow's own, its convolutions slower.
    plain = jit(fn)
    if convolutions and not jit_compile and not tf.config.list_logical_devices("GPU"):
        return plain
    return _Fused(fn, plain)


class _Fused:
    """Runs a function as it is at first, and compiled by XLA from then on, unless XLA does not know an operation."""

    def __init__(self, fn: Callable[..., Any], plain: Callable[..., Any]) -> None:
        self._plain = plain
        self._fused: Any = tf.function(fn, autograph=False, jit_compile=True)
        self._fused._omit_frequent_tracing_warning = True
        self._calls = 0

    def __call__(self, *args: Any) -> Any:
        self._calls += 1
        if self._fused is None or self._calls <= _PLAIN_CALLS:
            return self._plain(*args)
        try:
            return self._fused(*args)
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            self._fused = None
            return self._plain(*args)


def book(t: Tensor, amounts: list[Tensor], slots: list[Tensor]) -> Tensor:
    amounts = [tf.stop_gradient(a) for a in amounts]

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def booked(t: Tensor, *slots: Tensor) -> tuple[Tensor, Callable[..., Any]]:
        del slots

        def backward(cotangent: Tensor) -> Any:
            axes = list(range(1, len(cotangent.shape)))
            wide = tf.cast(cotangent, "float32")
            return [cotangent, *(tf.reduce_sum(wide * tf.cast(a, "float32"), axes) for a in amounts)]

        return tf.identity(t), backward

    return booked(t, *slots)


def observe(t: Tensor, slot: Tensor) -> Tensor:
    return t + tf.cast(slot, t.dtype)


@contextlib.contextmanager
def eager() -> Iterator[None]:
    with tf.init_scope():
        yield


_reached: weakref.WeakKeyDictionary[Any, dict[str, bool]] = weakref.WeakKeyDictionary()
"""By graph: names of operations, and whether they depend on the sources."""


def depends(t: Tensor, sources: list[Tensor]) -> bool:
    # Variables of Keras pass for tensors; they are no source of relevance.
    if not isinstance(t, tf.Tensor) or not t.dtype.is_floating or not hasattr(t, "op"):
        return False
    # Walks back along the graph, each operation once.
    known = _reached.setdefault(t.graph, {})
    for source in sources:
        known[source.op.name] = True
    pending = [t.op]
    while pending:
        op = pending[-1]
        if op.name in known:
            pending.pop()
            continue
        before = [] if op.type == "StopGradient" else [i.op for i in op.inputs if i.dtype.is_floating]
        unknown = [one for one in before if one.name not in known]
        if unknown:
            pending.extend(unknown)
            continue
        known[op.name] = any(known[one.name] for one in before)
        pending.pop()
    return known[t.op.name]


def pull(
    fn: Callable[[list[Tensor]], tuple[Tensor, Any]],
    x: list[Tensor],
    cotangents: Callable[[Tensor], Tensor] | None,
) -> tuple[Tensor, Any, list[Tensor]]:
    leaves = [tf.identity(t) for t in x]
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(leaves)
        value, rest = fn(leaves)
    if cotangents is None:
        return value, rest, []
    seeds = cotangents(value)

    def gradients(seed: Tensor) -> list[Tensor]:
        found = tape.gradient(value, leaves, seed, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return [tf.convert_to_tensor(g) for g in found]

    if seeds.shape[0] == 1:
        return value, rest, [g[None] for g in gradients(seeds[0])]
    return value, rest, list(tf.vectorized_map(gradients, seeds))
