"""Guided backpropagation: ReLUs that hand back positive gradients only (Springenberg et al., 2015, arXiv 1412.6806)."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras

from analyzer.backends import relevance_ops
from analyzer.inspection import compat
from analyzer.relevance.flow import Tensor
from analyzer.relevance.public_ops import ops
from analyzer.relevance.tracing import Plan

L = keras.layers

RELUS = ("relu", "relu6")
"""Functions that are cut off at 0: what guided backpropagation is defined for."""

_OTHER_LAYERS = (L.LeakyReLU, L.PReLU, L.ELU, L.Softmax, L.RNN, L.Bidirectional)
"""Layers that hold an activation of another kind, or out of sight."""


@contextlib.contextmanager
def guided_activations(plan: Plan, guided: set[str], unguided: set[str]) -> Iterator[None]:
    """A scope in which the gradient that comes back through a ReLU is clipped at 0 before the ReLU's own.

    ReLUs are known as ``activation=`` of a layer, as layers, as operations of a Functional model, and as `keras.ops` or
    `keras.activations` that a layer of the user's own calls.

    Args:
        plan: The opened model.
        guided: Receives the names of those found on the way.
        unguided: Receives the names of other activations, which keep their gradient.
    """
    relus: dict[int, Any] = {}
    with contextlib.ExitStack() as scope:
        for index, place in plan.places.items():
            activation = vars(place).get("activation")
            if _is_relu(place):
                relus[index] = place
            elif callable(activation) and not isinstance(activation, L.Layer):
                name = getattr(activation, "__name__", type(activation).__name__)
                if name in RELUS:
                    scope.enter_context(compat.replaced(place, "activation", _clipping(activation, name, guided)))
                elif name != "linear" and index not in plan.cut:
                    unguided.add(f"{place.name} ({name})")
            elif isinstance(place, _OTHER_LAYERS) and index not in plan.cut:
                unguided.add(f"{place.name} ({type(place).__name__})")
        scope.enter_context(compat.wrapped_calls(relus, lambda i, call: _clipping(call, relus[i].name, guided)))
        scope.enter_context(_clipped_functions(guided))
        yield


def _is_relu(place: Any) -> bool:
    if isinstance(place, L.ReLU):
        return float(place.negative_slope) == 0
    return not isinstance(place, L.Layer) and type(place).__name__.lower() in RELUS


def _clipping(relu: Callable[..., Any], name: str, guided: set[str]) -> Callable[..., Any]:
    @functools.wraps(relu)
    def clipped(*args: Any, **kwargs: Any) -> Any:
        y = relu(*args, **kwargs)
        if not keras.ops.is_tensor(y):
            return y
        guided.add(name)
        return positive_gradient(y)

    return clipped


def positive_gradient(y: Tensor) -> Tensor:
    """``y``, whose cotangent goes on where it is positive."""
    # The cotangent arrives at a tensor of ones, so that it is not multiplied with values that may be 0.
    ones = relevance_ops().bind(ops.ones_like(y), [y], [], _positive)
    return compat.copy_mask(ops.stop_gradient(y) + (ones - 1), y)


def _positive(cotangent: Tensor, kept: list[Tensor]) -> list[Tensor]:
    del kept
    return [ops.maximum(cotangent, 0)]


@contextlib.contextmanager
def _clipped_functions(guided: set[str]) -> Iterator[None]:
    """Public functions as this thread's user code sees them; those that Keras' layers use are others."""
    thread = threading.get_ident()

    def here(original: Callable[..., Any], name: str) -> Callable[..., Any]:
        clipped = _clipping(original, name, guided)

        @functools.wraps(original)
        def function(*args: Any, **kwargs: Any) -> Any:
            return (clipped if threading.get_ident() == thread else original)(*args, **kwargs)

        return function

    places = [(module, name) for module in (keras.ops, keras.activations) for name in RELUS if hasattr(module, name)]
    originals = [getattr(module, name) for module, name in places]
    try:
        for (module, name), original in zip(places, originals, strict=True):
            setattr(module, name, here(original, name))
        yield
    finally:
        for (module, name), original in zip(places, originals, strict=True):
            setattr(module, name, original)
