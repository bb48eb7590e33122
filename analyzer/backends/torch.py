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
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = fn(x)
    return value.detach(), _gradient(value, x)


def _gradient(value: Tensor, x: Tensor, **options: Any) -> Tensor:
    if not value.requires_grad:
        # A value that nothing leads to: autograd refuses, the other backends say zero.
        return torch.zeros_like(x)
    return torch.autograd.grad(value, x, allow_unused=True, materialize_grads=True, **options)[0]


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
