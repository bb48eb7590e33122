"""Which function applies the rule of which layer; open to users through `register_rule`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import keras

from analyzer.errors import ConfigError

Handler = Callable[..., Any]
"""Called as ``handler(visit, *args, **kwargs)`` with what the layer was called with; returns what the layer returns."""

_LAYERS: dict[type, Handler] = {}
_OPERATIONS: dict[str, Handler] = {}


def handles(*classes: type | None) -> Callable[[Handler], Handler]:
    """Register a handler of our own for layer classes; those that this Keras does not have are None."""

    def register(handler: Handler) -> Handler:
        _LAYERS.update({one: handler for one in classes if one is not None})
        return handler

    return register


def handles_operations(*names: str) -> Callable[[Handler], Handler]:
    """Register a handler of our own for operations, by their name in `keras.ops`."""

    def register(handler: Handler) -> Handler:
        _OPERATIONS.update(dict.fromkeys(names, handler))
        return handler

    return register


def register_rule(layer_class: type[keras.layers.Layer]) -> Callable[[Handler], Handler]:
    """Give a layer class of your own a rule for relevance.

    The decorated function is called in place of the layer's `call`, as ``rule(visit, *args, **kwargs)``; it returns
    what the layer returns, made so that its gradient is the rule. `analyzer.relevance.visit.Visit` offers the building
    blocks: `enter` and `leave` for the edges, `linear`, `product`, `identity`, `affine`, `natural`. ``visit.layer`` is
    the layer, ``visit.call`` its own `call`.

    Example:
        ::

            @register_rule(Scale)
            def scale(visit, x):
                return visit.leave(visit.affine(visit.enter(x), visit.layer.factor, None))

    Args:
        layer_class: The class. Subclasses share the rule unless they override `call`.

    Raises:
        ConfigError: If it is no layer class.
    """
    if not (isinstance(layer_class, type) and issubclass(layer_class, keras.layers.Layer)):
        raise ConfigError(f"register_rule({layer_class!r}): expected a subclass of keras.layers.Layer.")
    return handles(layer_class)


def handler_of(place: Any) -> Handler | None:
    """The handler of a layer or operation; None if there is none.

    A subclass shares that of its base only as long as it computes the same, that is, does not override `call`.
    """
    if not isinstance(place, keras.layers.Layer):
        return _OPERATIONS.get(operation_name(place))
    for base in type(place).__mro__:
        if base in _LAYERS:
            same = type(place).call is base.call  # type: ignore[attr-defined]
            return _LAYERS[base] if same else None
    return None


def operation_handler(name: str) -> Handler | None:
    """The handler of an operation of `keras.ops`."""
    return _OPERATIONS.get(name)


def operation_name(operation: Any) -> str:
    """The name in `keras.ops` of what a `keras.Operation` computes: ``"get_item"`` for a ``GetItem``."""
    kind = type(operation).__name__
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind).lower()


def is_of_keras(layer: keras.layers.Layer) -> bool:
    """Whether a layer's class is one that Keras offers; those of its ready-made applications are like a user's own."""
    return getattr(keras.layers, type(layer).__name__, None) is type(layer)
