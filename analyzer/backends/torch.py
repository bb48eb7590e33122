"""The engine on PyTorch."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Tensor = Any

name = "torch"


def jit(fn: Callable[..., Any]) -> Callable[..., Any]:
    # Eager kernels already run at their speed here; torch.compile costs seconds per shape and is not the default.
    return fn


def trace(fn: Callable[..., Any], *args: Any) -> None:
    with torch.no_grad():
        fn(*args)


def vjp(fn: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = fn(x)

    return value.detach(), lambda cotangent: _gradient(value, x, grad_outputs=cotangent, retain_graph=True)


def jvp(fn: Callable[[Tensor], Tensor], x: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
    with warnings.catch_warnings():
        # PyTorch's forward mode loads a module of its own that PyTorch deprecates.
        warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated", category=DeprecationWarning)
        value, derivative = torch.func.jvp(fn, (x,), (tangent,))[:2]
    return value.detach(), derivative.detach()


def value_and_grad(fn: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    several = isinstance(x, list)
    with torch.enable_grad():
        inputs = [t.detach().requires_grad_() for t in (x if several else [x])]
        value = fn(inputs if several else inputs[0])
    gradients = _gradients(value, inputs)
    return value.detach(), gradients if several else gradients[0]


def _gradient(value: Tensor, x: Tensor, **options: Any) -> Tensor:
    return _gradients(value, [x], **options)[0]


def _gradients(value: Tensor, inputs: list[Tensor], **options: Any) -> list[Tensor]:
    if not value.requires_grad:
        # A value that nothing leads to: autograd refuses, the other backends say zero.
        return [torch.zeros_like(x) for x in inputs]
    return list(torch.autograd.grad(value, inputs, allow_unused=True, materialize_grads=True, **options))


_CHUNK = 1 << 17
"""Values worked on at a time on a CPU: half a megabyte, so that a second look at them comes from the cache."""


def unit_sums(x: Tensor, shift: Tensor) -> list[Tensor]:
    per_sample = x[0].numel() if len(x) else 1
    samples = len(x) if x.is_cuda else max(1, _CHUNK // max(1, per_sample))
    parts = [_sums(part, shift) for part in x.split(samples)]
    stacked = [torch.stack(each) for each in zip(*parts, strict=True)]
    return [(s.amin if i == 2 else s.amax if i == 3 else s.sum)(0) for i, s in enumerate(stacked)]


def _sums(x: Tensor, shift: Tensor) -> tuple[Tensor, ...]:
    # Each pass writes over one buffer; a mask of bools would take four times as long to make and to sum. Axes are not
    # merged: convolutions return tensors whose channels come first in memory.
    axes = tuple(range(x.ndim - 1))
    work = torch.sub(x, shift)
    off = work.sum(axes)
    squares = work.mul_(work).sum(axes)
    torch.sign(x, out=work)
    signs = work.sum(axes)
    other = work.mul_(work).sum(axes)
    return off, squares, x.amin(axes), x.amax(axes), (other + signs) / 2, other


def stop_gradient(x: Tensor) -> Tensor:
    return x.detach()


def to_numpy(x: Tensor) -> NDArray[Any]:
    if not torch.is_tensor(x):
        return np.array(x)
    x = x.detach()
    return np.array((x.float() if x.dtype == torch.bfloat16 else x).cpu())


def synchronize(tree: Any) -> Any:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return tree


@contextlib.contextmanager
def inference() -> Iterator[None]:
    # no_grad rather than inference_mode: tensors made in inference mode cannot take part in later gradients.
    with torch.no_grad():
        yield


@contextlib.contextmanager
def rng_guard() -> Iterator[None]:
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=devices):
        yield


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    # Where an op has no deterministic kernel, PyTorch warns and goes on: an audit is not lost to one scatter.
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def memory_in_use() -> int | None:
    return int(torch.cuda.memory_allocated()) if torch.cuda.is_available() else None


def release(fns: Sequence[Callable[..., Any]]) -> None:
    # Eager functions hold no compiled program.
    del fns
