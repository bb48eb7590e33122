"""The relevance ops on PyTorch."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows it by
import torch.utils._pytree as pytree
from torch.fx.experimental.proxy_tensor import make_fx

Tensor = Any


def bind(
    value: Tensor, parts: list[Tensor], kept: list[Tensor], back: Callable[[Tensor, list[Tensor]], list[Tensor]]
) -> Tensor:
    if not any(part.requires_grad for part in parts):
        return value.detach()
    return _Bind.apply(  # type: ignore[no-untyped-call]
        value.detach(), back, len(parts), *parts, *(k.detach() for k in kept)
    )


class _Bind(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, back: Callable[..., list[Tensor]], n: int, *tensors: Tensor) -> Tensor:
        ctx.back, ctx.n = back, n
        ctx.save_for_backward(value, *tensors[n:])
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        value, *kept = ctx.saved_tensors
        of_parts = ctx.back(cotangent * value, kept)
        return None, None, None, *of_parts, *(None for _ in kept)


def bind_value(value: Tensor, part: Tensor, epsilon: float) -> Tensor:
    return _BindValue.apply(value.detach(), part, epsilon)  # type: ignore[no-untyped-call]


class _BindValue(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, part: Tensor, epsilon: float) -> Tensor:
        del part
        ctx.epsilon = epsilon
        ctx.save_for_backward(value)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        (value,) = ctx.saved_tensors
        # cotangent * |value| / (|value| + epsilon), in three passes over memory.
        below = value.abs().add_(ctx.epsilon)
        return None, torch.addcdiv(cotangent, cotangent, below, value=-ctx.epsilon), None


def stabilise(z: Tensor, epsilon: float) -> Tensor:
    return torch.copysign(torch.scalar_tensor(epsilon, dtype=z.dtype), z).add_(z)


def convolve(
    x: Tensor,
    kernel: Tensor,
    strides: Sequence[int],
    padding: str,
    dilation: Sequence[int],
    plain: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    # Channels last in memory throughout: Keras would bring input, kernel and output into another layout and back.
    del plain
    n = len(strides)
    first, last = (0, n + 1, *range(1, n + 1)), (0, *range(2, n + 2), 1)
    before = [0] * n
    if padding == "same":
        x, before = _padded(x, kernel.shape[:n], strides, dilation)
    weights = kernel.permute(n + 1, n, *range(n))
    if n > 1:
        weights = weights.contiguous(memory_format=torch.channels_last if n == 2 else torch.channels_last_3d)
    groups = x.shape[-1] // kernel.shape[n]
    convolve = (F.conv1d, F.conv2d, F.conv3d)[n - 1]
    return convolve(x.permute(first), weights, None, tuple(strides), before, tuple(dilation), groups).permute(last)


def max_pool(
    x: Tensor, window: Sequence[int], strides: Sequence[int], padding: str, plain: Callable[[Tensor], Tensor]
) -> Tensor:
    del window, strides, padding
    return plain(x)


def _padded(
    x: Tensor, window: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> tuple[Tensor, list[int]]:
    """As TensorFlow pads: what cannot be shared equally goes behind. Equal padding is left to the convolution."""
    pairs = []
    for size, wide, stride, apart in zip(x.shape[1:-1], window, strides, dilation, strict=True):
        total = max((-(-size // stride) - 1) * stride + (wide - 1) * apart + 1 - size, 0)
        pairs.append((total // 2, total - total // 2))
    if all(low == high for low, high in pairs):
        return x, [low for low, _ in pairs]
    flat = [0, 0, *(side for pair in reversed(pairs) for side in pair)]
    return F.pad(x, flat), [0] * len(pairs)


def compile(fn: Callable[..., Any], *, convolutions: bool, jit_compile: bool) -> Callable[..., Any]:
    del convolutions
    return _Replayed(fn, jit_compile)


_EAGER_CALLS = 2
"""Calls before recording: it takes as long as several of them, and most explanations are one or two batches."""


class _Replayed:
    """Records the operations of a call, forth and back, and from then on runs these alone.

    Nothing of Keras, Python closures or autograd is left in what is run. Operations on the first argument alone (the
    variables) are run once, as long as it is the same list.
    """

    def __init__(self, fn: Callable[..., Any], jit_compile: bool) -> None:
        self._fn, self._jit_compile = fn, jit_compile
        self._calls = 0
        self._recordable = True
        self._main: Any = None
        self._prepare: Any = None
        self._made: list[Tensor] = []
        self._of: Any = None

    def __call__(self, values: list[Tensor], *rest: Any) -> Any:
        self._calls += 1
        if self._calls <= _EAGER_CALLS or not self._recordable:
            return self._fn(values, *rest)
        if self._main is None:
            try:
                self._record(values, rest)
            except (RuntimeError, TypeError):
                # A user's layer that looks at values. Errors of the function itself come again without the recording.
                self._recordable = False
                return self._fn(values, *rest)
        if self._of is not values:
            self._made, self._of = list(self._prepare(*values)), values
        found = self._main(*self._made, *pytree.tree_leaves(rest))
        return pytree.tree_unflatten(list(found), self._structure)

    def _record(self, values: list[Tensor], rest: tuple[Any, ...]) -> None:
        flat, form = pytree.tree_flatten(rest)

        def flattened(*tensors: Tensor) -> list[Tensor]:
            given = pytree.tree_unflatten(list(tensors[len(values) :]), form)
            leaves, self._structure = pytree.tree_flatten(self._fn(list(tensors[: len(values)]), *given))
            return [leaf if torch.is_tensor(leaf) else torch.as_tensor(leaf) for leaf in leaves]

        # Without values: a layer that branches on them, or takes them to NumPy, must fail here and not be recorded as
        # it went this once.
        recorded = make_fx(flattened, tracing_mode="fake", _allow_non_fake_inputs=True)(*values, *flat)
        recorded.graph.eliminate_dead_code()
        self._prepare, self._main = _split(recorded, len(values))
        if self._jit_compile:
            self._main = _Compiled(self._main)


class _Compiled:
    """Recorded operations by ``torch.compile``; as they were recorded where that fails, for it needs a C++ compiler."""

    def __init__(self, recorded: Any) -> None:
        self._recorded = recorded
        self._compiled: Any = torch.compile(recorded)

    def __call__(self, *tensors: Tensor) -> Any:
        if self._compiled is None:
            return self._recorded(*tensors)
        try:
            return self._compiled(*tensors)
        except RuntimeError as error:
            self._compiled = None
            reason = str(error).strip().partition("\n")[0]
            warnings.warn(f"torch.compile failed, so the relevance pass runs without it: {reason}", stacklevel=2)
            return self._recorded(*tensors)


def _split(recorded: torch.fx.GraphModule, n: int) -> tuple[Any, Any]:
    """One graph for what follows from the first n arguments alone, and one for the rest."""
    nodes = list(recorded.graph.nodes)
    arguments = [node for node in nodes if node.op == "placeholder"]
    early: set[Any] = set(arguments[:n])
    for node in nodes:
        from_early = bool(node.all_input_nodes) and early.issuperset(node.all_input_nodes)
        if node.op == "get_attr" or (node.op == "call_function" and from_early):
            early.add(node)
    handed = [node for node in nodes if node in early and any(user not in early for user in node.users)]
    prepare, main = torch.fx.Graph(), torch.fx.Graph()
    copied: dict[Any, Any] = {}
    for node in nodes:
        if node in early:
            copied[node] = prepare.node_copy(node, lambda one: copied[one])
    prepare.output(tuple(copied[node] for node in handed))
    moved: dict[Any, Any] = {node: main.placeholder(f"made_{i}") for i, node in enumerate(handed)}
    for node in nodes:
        if node not in early:
            moved[node] = main.node_copy(node, lambda one: moved[one])
    return torch.fx.GraphModule(recorded, prepare), torch.fx.GraphModule(recorded, main)


def book(t: Tensor, amounts: list[Tensor], slots: list[Tensor]) -> Tensor:
    return _Book.apply(  # type: ignore[no-untyped-call]
        t, len(slots), *(a.detach() for a in amounts), *slots
    )


class _Book(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, t: Tensor, n: int, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors[:n])
        return t.view_as(t)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        amounts = ctx.saved_tensors
        wide = cotangent.float()
        sums = [(wide * a).flatten(1).sum(1) if wide.ndim > 1 else wide * a for a in amounts]
        return cotangent, None, *(None for _ in amounts), *sums


def observe(t: Tensor, slot: Tensor) -> Tensor:
    return _Observe.apply(t, slot)  # type: ignore[no-untyped-call]


class _Observe(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, t: Tensor, slot: Tensor) -> Tensor:
        ctx.dtype = slot.dtype
        return t.view_as(t)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        return cotangent, cotangent.to(ctx.dtype)


@contextlib.contextmanager
def eager() -> Iterator[None]:
    # Nothing is traced here but what really runs.
    yield


def depends(t: Tensor, sources: list[Tensor]) -> bool:
    del sources
    return bool(torch.is_tensor(t) and t.requires_grad)


def pull(
    fn: Callable[[list[Tensor]], tuple[Tensor, Any]],
    x: list[Tensor],
    cotangents: Callable[[Tensor], Tensor] | None,
) -> tuple[Tensor, Any, list[Tensor]]:
    with torch.enable_grad():
        leaves = [t.detach().requires_grad_() for t in x]
        value, rest = fn(leaves)
    if cotangents is None:
        return value.detach(), rest, []
    seeds = cotangents(value.detach())
    if not value.requires_grad:
        return value, rest, [torch.zeros((len(seeds), *t.shape), dtype=t.dtype, device=t.device) for t in leaves]
    if len(seeds) == 1:
        found = torch.autograd.grad(value, leaves, seeds[0], allow_unused=True, materialize_grads=True)
        return value.detach(), rest, [g[None] for g in found]
    return value.detach(), rest, _of_several(value, leaves, seeds)


def _of_several(value: Tensor, leaves: list[Tensor], seeds: Tensor) -> list[Tensor]:
    """Gradients for each seed, as one batch; one after the other where an operation has no batched form."""
    try:
        with warnings.catch_warnings():
            # That some operation will be looped over is no news for a user.
            warnings.filterwarnings("ignore", message=".*batching rule.*")
            batched = torch.autograd.grad(
                value, leaves, seeds, retain_graph=True, allow_unused=True, is_grads_batched=True
            )
    except RuntimeError:
        options = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
        found = [torch.autograd.grad(value, leaves, seed, **options) for seed in seeds]
        return [torch.stack(each) for each in zip(*found, strict=True)]
    none = [torch.zeros((len(seeds), *t.shape), dtype=t.dtype, device=t.device) for t in leaves]
    return [zeros if g is None else g for g, zeros in zip(batched, none, strict=True)]
