"""The relevance ops on JAX."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from analyzer.backends.jax import jit

Tensor = Any


def bind(
    value: Tensor, parts: list[Tensor], kept: list[Tensor], back: Callable[[Tensor, list[Tensor]], list[Tensor]]
) -> Tensor:
    constants = jax.lax.stop_gradient((value, list(kept)))
    return _bind(back, constants[0], list(parts), constants[1])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _bind(back: Callable[..., list[Tensor]], value: Tensor, parts: list[Tensor], kept: list[Tensor]) -> Tensor:
    del back, parts, kept
    return value


def _bind_forward(
    back: Callable[..., list[Tensor]], value: Tensor, parts: list[Tensor], kept: list[Tensor]
) -> tuple[Tensor, Any]:
    del back, parts
    return value, (value, kept)


def _bind_backward(back: Callable[..., list[Tensor]], saved: Any, cotangent: Tensor) -> tuple[Any, Any, Any]:
    value, kept = saved
    return jnp.zeros_like(value), back(cotangent * value, kept), [jnp.zeros_like(k) for k in kept]


_bind.defvjp(_bind_forward, _bind_backward)


def bind_value(value: Tensor, part: Tensor, epsilon: float) -> Tensor:
    return _bind_value(epsilon, jax.lax.stop_gradient(value), part)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _bind_value(epsilon: float, value: Tensor, part: Tensor) -> Tensor:
    del epsilon, part
    return value


def _bind_value_forward(epsilon: float, value: Tensor, part: Tensor) -> tuple[Tensor, Any]:
    del epsilon, part
    return value, value


def _bind_value_backward(epsilon: float, value: Tensor, cotangent: Tensor) -> tuple[Any, Any]:
    size = jnp.abs(value)
    return jnp.zeros_like(value), cotangent * (size / (size + epsilon))


_bind_value.defvjp(_bind_value_forward, _bind_value_backward)


def stabilise(z: Tensor, epsilon: float) -> Tensor:
    return z + jnp.where(z >= 0, epsilon, -epsilon).astype(z.dtype)


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
    n, *sizes, channels = x.shape
    cells = [(size // side, side) for size, side in zip(sizes, window, strict=True)]
    fitting = padding == "valid" or all(size == count * side for size, (count, side) in zip(sizes, cells, strict=True))
    if tuple(strides) != tuple(window) or not fitting:
        return plain(x)
    # XLA scatters to the winners in a loop, once more for every target; a mask of winners is one fused product.
    whole = x[(slice(None), *(slice(count * side) for count, side in cells))]
    tiles = whole.reshape(n, *itertools.chain(*cells), channels)
    within = tuple(range(2, tiles.ndim - 1, 2))
    fixed = jax.lax.stop_gradient(tiles)
    largest = (fixed == fixed.max(within, keepdims=True)) | jnp.isnan(fixed)
    rank = jnp.arange(math.prod(window)).reshape([1, *itertools.chain(*((1, side) for side in window)), 1])
    first = jnp.where(largest, rank, math.prod(window)).min(within, keepdims=True)
    return jnp.where(rank == first, tiles, 0).sum(within, dtype=x.dtype)


def compile(fn: Callable[..., Any], *, convolutions: bool, jit_compile: bool) -> Callable[..., Any]:
    del convolutions, jit_compile
    return jit(fn)


def book(t: Tensor, amounts: list[Tensor], slots: list[Tensor]) -> Tensor:
    return _book(t, jax.lax.stop_gradient(list(amounts)), list(slots))


@jax.custom_vjp
def _book(t: Tensor, amounts: list[Tensor], slots: list[Tensor]) -> Tensor:
    del amounts, slots
    return t


def _book_forward(t: Tensor, amounts: list[Tensor], slots: list[Tensor]) -> tuple[Tensor, Any]:
    del slots
    return t, amounts


def _book_backward(amounts: Any, cotangent: Tensor) -> tuple[Any, Any, Any]:
    axes = tuple(range(1, cotangent.ndim))
    wide = cotangent.astype("float32")
    return cotangent, [jnp.zeros_like(a) for a in amounts], [(wide * a).sum(axes) for a in amounts]


_book.defvjp(_book_forward, _book_backward)


def observe(t: Tensor, slot: Tensor) -> Tensor:
    # The compiler drops the sum: the slot's zeros are made inside the program.
    return t + slot.astype(t.dtype)


@contextlib.contextmanager
def eager() -> Iterator[None]:
    with jax.ensure_compile_time_eval():
        yield


_reached: list[bool] = []


@jax.custom_jvp
def _mark(t: Tensor) -> Tensor:
    return t


@_mark.defjvp
def _noticed(primals: tuple[Tensor], tangents: tuple[Tensor]) -> tuple[Tensor, Tensor]:
    # Called while tracing, and only where a tangent arrives.
    _reached.append(True)
    return primals[0], tangents[0]


def depends(t: Tensor, sources: list[Tensor]) -> bool:
    del sources
    if not hasattr(t, "dtype") or not jnp.issubdtype(t.dtype, jnp.floating):
        return False
    _reached.clear()
    _mark(t)
    return bool(_reached)


def pull(
    fn: Callable[[list[Tensor]], tuple[Tensor, Any]],
    x: list[Tensor],
    cotangents: Callable[[Tensor], Tensor] | None,
) -> tuple[Tensor, Any, list[Tensor]]:
    value, pullback, rest = jax.vjp(fn, list(x), has_aux=True)
    if cotangents is None:
        return value, rest, []
    seeds = cotangents(value)
    if seeds.shape[0] == 1:
        return value, rest, [g[None] for g in pullback(seeds[0])[0]]
    return value, rest, list(jax.vmap(pullback)(seeds)[0])
