"""The engine on JAX."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

Tensor = Any

name = "jax"

_deterministic = False


def jit(fn: Callable[..., Any]) -> Callable[..., Any]:
    # XLA's GPU kernels can only be told apart per program: its process-wide flags are read once, at start.
    on_gpu = jax.default_backend() in ("gpu", "cuda", "rocm")
    if _deterministic and on_gpu:
        options = {"xla_gpu_deterministic_ops": True, "xla_gpu_exclude_nondeterministic_ops": True}
        return jax.jit(fn, compiler_options=options)
    return jax.jit(fn)


def trace(fn: Callable[..., Any], *args: Any) -> None:
    def nothing_out(*inner: Any) -> int:
        fn(*inner)
        return 0

    jax.eval_shape(nothing_out, *args)


def vjp(fn: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    value, pullback = jax.vjp(fn, x)
    return value, lambda cotangent: pullback(cotangent)[0]


def jvp(fn: Callable[[Tensor], Tensor], x: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
    value, derivative = jax.jvp(fn, (x,), (tangent,))
    return value, derivative


def value_and_grad(fn: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    value, gradient = jax.value_and_grad(fn)(x)
    return value, gradient


_DEEP = 8
"""Positions counted at a time in one byte: at most 8 of each kind fit into half of it."""


def unit_sums(x: Tensor, shift: Tensor) -> list[Tensor]:
    axes = tuple(range(x.ndim - 1))
    off = x - shift
    return [off.sum(axes), (off * off).sum(axes), x.min(axes), x.max(axes), *_counts(x.reshape(-1, x.shape[-1]))]


def _counts(rows: Tensor) -> tuple[Tensor, Tensor]:
    # Summed as floats, each of the two counts would cost XLA on a CPU as much as the four sums together.
    body = len(rows) // _DEEP * _DEEP
    kinds = (rows[:body] > 0).astype(jnp.uint8) + (rows[:body] != 0).astype(jnp.uint8) * 16
    few = kinds.reshape(-1, _DEEP, rows.shape[1]).sum(1, dtype=jnp.uint8)
    above, other = (few & 15).astype(rows.dtype).sum(0), (few >> 4).astype(rows.dtype).sum(0)
    rest = rows[body:]
    return above + (rest > 0).astype(rows.dtype).sum(0), other + (rest != 0).astype(rows.dtype).sum(0)


def stop_gradient(x: Tensor) -> Tensor:
    return jax.lax.stop_gradient(x)


def to_numpy(x: Tensor) -> NDArray[Any]:
    array = np.array(x)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def synchronize(tree: Any) -> Any:
    return jax.block_until_ready(tree)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def inference() -> Iterator[None]:
    yield


@contextlib.contextmanager
def rng_guard() -> Iterator[None]:
    # JAX keeps no random state of its own.
    yield


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    global _deterministic
    before = _deterministic
    _deterministic = True
    try:
        yield
    finally:
        _deterministic = before


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    text = str(error)
    return isinstance(error, jax.errors.JaxRuntimeError) and ("RESOURCE_EXHAUSTED" in text or "Out of memory" in text)


def memory_in_use() -> int | None:
    statistics = jax.local_devices()[0].memory_stats()
    return None if statistics is None else int(statistics["bytes_in_use"])


def release(fns: Sequence[Callable[..., Any]]) -> None:
    for fn in fns:
        fn.clear_cache()  # type: ignore[attr-defined]
