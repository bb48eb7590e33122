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


_BLOCK = 2048
"""Values that one step of the loop below reads; XLA keeps the body of a small loop in one function, in registers."""


def unit_sums(x: Tensor, shift: Tensor) -> list[Tensor]:
    rows = x.reshape(-1, x.shape[-1])
    units = rows.shape[1]
    # Side by side, narrow rows fill vector registers too; eight blocks of them at once hide the latency of adding.
    side = max(1, _BLOCK // (8 * units))
    deep = max(1, min(8, _BLOCK // units))
    steps = rows.shape[0] // (side * deep)
    if jax.default_backend() != "cpu" or steps < 4:
        return _sums(rows, shift)
    # On a CPU, XLA would read x once for every sum. The barrier keeps it from computing x anew in the loop.
    blocks = jax.lax.optimization_barrier(rows)  # type: ignore[no-untyped-call]
    shifts = jnp.tile(shift, side)

    def step(i: Tensor, sums: list[Tensor]) -> list[Tensor]:
        block = jax.lax.dynamic_slice(blocks, (i * deep * side, 0), (deep * side, units))
        return _added(sums, _sums(block.reshape(deep, side * units), shifts))

    zero = jnp.zeros(side * units, x.dtype)
    start = [zero, zero, zero + jnp.inf, zero - jnp.inf, zero, zero]
    lanes = [s.reshape(side, units) for s in jax.lax.fori_loop(0, steps, step, start)]
    folded = [(s.min if i == 2 else s.max if i == 3 else s.sum)(axis=0) for i, s in enumerate(lanes)]
    body = steps * side * deep
    return folded if body == len(rows) else _added(folded, _sums(blocks[body:], shift))


def _sums(rows: Tensor, shift: Tensor) -> list[Tensor]:
    off = rows - shift
    above, other = (rows > 0).astype(rows.dtype), (rows != 0).astype(rows.dtype)
    return [off.sum(0), (off * off).sum(0), rows.min(0), rows.max(0), above.sum(0), other.sum(0)]


def _added(a: list[Tensor], b: list[Tensor]) -> list[Tensor]:
    return [a[0] + b[0], a[1] + b[1], jnp.minimum(a[2], b[2]), jnp.maximum(a[3], b[3]), a[4] + b[4], a[5] + b[5]]


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
