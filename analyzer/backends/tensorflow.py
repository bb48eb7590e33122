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
    compiled: Callable[..., Any] = tf.function(fn, autograph=False)
    return compiled


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
    x = tf.convert_to_tensor(x)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        value = fn(x)
    return value, tape.gradient(value, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)


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
