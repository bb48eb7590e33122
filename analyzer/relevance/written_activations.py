"""Functions of `keras.activations` that user code calls, by their rules.

They compute with Keras' own operations, which no wrapper of ours sees; so the functions themselves are wrapped, in
their namespace and where layers of the user's own keep one (``self.activation = keras.activations.get(...)``).
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import keras

from analyzer.inspection import compat
from analyzer.relevance.flow import Tensor
from analyzer.relevance.public_ops import ops
from analyzer.relevance.visit import Visit

FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: function
    for name, function in vars(keras.activations).items()
    if inspect.isfunction(function) and name not in ("get", "serialize", "deserialize")
}
"""Every public activation function, taken when this module was imported."""

_KEPT = {function: (keras.ops, name) for name, function in vars(ops).items() if inspect.isfunction(function)} | {
    function: (keras.activations, name) for name, function in FUNCTIONS.items()
}
"""By function, where wrappers of it stand."""


def activation_rule(visit: Visit, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """The rule of an activation function that user code called; ``visit.call`` is the function."""
    function = functools.wraps(visit.call)(lambda z: visit.call(z, *args, **kwargs))
    axis = kwargs.get("axis", args[0] if args and isinstance(args[0], int) else -1)
    return visit.leave(visit.activate(visit.enter(x), function if args or kwargs else visit.call, axis))


@contextlib.contextmanager
def kept_activations(layer: Any) -> Iterator[None]:
    """A scope in which the functions of Keras that a layer keeps are those that now stand in its public namespaces."""
    kept = {
        attribute: getattr(*_KEPT[value])
        for attribute, value in vars(layer).items()
        if inspect.isfunction(value) and value in _KEPT
    }
    with contextlib.ExitStack() as stack:
        for attribute, function in kept.items():
            stack.enter_context(compat.replaced(layer, attribute, function))
        yield
