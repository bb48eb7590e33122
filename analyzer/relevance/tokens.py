"""Relevance of whole numbers: shadows that follow them until something is looked up by them.

A token has no value to multiply a cotangent with. Beside it travels its shadow, a tensor of zeros in its shape, whose
gradient is relevance itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras

from analyzer.inspection import compat
from analyzer.relevance.flow import Flow, Tensor, is_float
from analyzer.relevance.public_ops import ops

if TYPE_CHECKING:
    from analyzer.relevance.visit import Visit

MOVING = (
    "broadcast_to",
    "cast",
    "convert_to_tensor",
    "copy",
    "expand_dims",
    "flip",
    "get_item",
    "identity",
    "moveaxis",
    "pad",
    "ravel",
    "repeat",
    "reshape",
    "roll",
    "slice",
    "split",
    "squeeze",
    "swapaxes",
    "tile",
    "transpose",
    "unstack",
)
"""Operations of `keras.ops` that move numbers around; a shadow moves with them."""

JOINING = ("concatenate", "stack", "hstack", "vstack", "where")
"""Operations that put several tensors side by side; beside one without a shadow there is none."""

LOOKING_UP = ("take", "one_hot")
"""Operations that whole numbers go into and what depends on the input comes out of: they have rules."""

CHANGING = ("add", "subtract", "multiply", "maximum", "minimum", "mod", "remainder", "clip", "abs", "absolute")
"""Operations that make other whole numbers of the same tokens: an offset per feature, a bucket."""


def shadowed(flow: Flow, tree: Any) -> bool:
    """Whether any tensor in a structure has a shadow."""
    return any(flow.shadow(t) is not None for t in _tensors(tree))


def carry(flow: Flow, name: str, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """The result of an operation on whole numbers, shadows beside it where there is a way to follow them.

    Args:
        flow: The pass.
        name: The operation's name in `keras.ops`.
        call: The operation.
        args: What it was called with.
        kwargs: Likewise.
    """
    result = call(*args, **kwargs)
    follow(flow, name, call, args, kwargs, result)
    return result


def follow(flow: Flow, name: str, call: Callable[..., Any], args: Any, kwargs: Any, result: Any) -> None:
    """Let shadows go the way of the tensors that they are beside; see `carry`."""
    if not shadowed(flow, (args, kwargs)) or any(is_float(t) for t in _tensors(result)):
        return
    if name in ("cast", "convert_to_tensor"):
        shadow = flow.shadow(args[0] if args else kwargs["x"])
    elif name in MOVING or name in JOINING:
        given = keras.tree.map_structure(lambda t: _beside(flow, t, name in JOINING), (list(args), kwargs))
        shadow = call(*given[0], **given[1])
    elif name in CHANGING:
        shadow = _shared(flow, (args, kwargs), result)
    else:
        return
    for t, beside in zip(_tensors(result), _tensors(shadow), strict=True):
        flow.mark(t, shadow=beside)


def looked_up(visit: Visit, value: Tensor, shadow: Tensor) -> Tensor:
    """What was looked up by tokens: their relevance is the sum over what each one brought.

    Args:
        visit: The call.
        value: ``(..., d)``, float.
        shadow: Of the tokens, in a shape that broadcasts to ``value``.
    """
    part = ops.broadcast_to(ops.cast(shadow, value.dtype), value.shape)
    y = visit.flow.backend.bind(value, [part], [], _unchanged)
    if visit.flow.options.ledger:
        y = visit._book(y, {"relevance_out": value})
    return y


def passing(visit: Visit, t: Any, column: str) -> Any:
    """Whole numbers on their way into or out of a container, booked by what flows through their shadow.

    Args:
        visit: The call of the container.
        t: Anything; what has no shadow, or is float, comes back as it is.
        column: ``"relevance_out"`` on the way in, ``"relevance_in"`` on the way out.
    """
    shadow = visit.flow.shadow(t)
    if shadow is None or is_float(t) or not visit.flow.options.ledger:
        return t
    # Another tensor of the same numbers: whoever else uses these has books of their own.
    again = compat.copy_mask(ops.add(t, ops.zeros_like(t)), t)
    return visit.flow.mark(again, shadow=visit._book(shadow, {column: ops.ones_like(shadow)}))


def _unchanged(relevance: Tensor, kept: list[Tensor]) -> list[Tensor]:
    del kept
    return [relevance]


def _beside(flow: Flow, t: Any, joining: bool) -> Any:
    shadow = flow.shadow(t)
    if shadow is not None:
        return shadow
    numbers = keras.ops.is_tensor(t) and keras.backend.standardize_dtype(t.dtype) != "bool"
    return ops.zeros(t.shape, "float32") if joining and numbers else t


def _shared(flow: Flow, given: Any, result: Tensor) -> Tensor:
    """The mean of the shadows: each of the tokens that made a number gets an equal part."""
    shadows = [s for s in map(flow.shadow, _tensors(given)) if s is not None]
    return sum(ops.broadcast_to(s, result.shape) for s in shadows) / len(shadows)


def _tensors(tree: Any) -> list[Tensor]:
    return [t for t in keras.tree.flatten(tree) if keras.ops.is_tensor(t)]
