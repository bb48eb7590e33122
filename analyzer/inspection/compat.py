"""The one file that touches Keras' private attributes; tests/inspection/test_compat.py has a test for each."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras

Place = Any
"""A layer, or in a Functional model any `keras.Operation`: a written ``x + s`` is one, and no layer list shows it."""


def sublayers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Direct children of a layer, each once, also those held in private attributes, lists and dicts."""
    return list({id(child): child for child in layer._layers}.values())


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """The model and every layer below it, each once."""
    return list(model._flatten_layers())


def own_variables(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Variables that the layer itself made, without those of its children, seeds or metrics."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def operations(container: Any) -> list[Place]:
    """Operations of a Functional or Sequential container in topological order; empty for other layers."""
    if isinstance(container, keras.Sequential):
        container = container._functional
    return list(getattr(container, "operations", ()) or ())


def entry_name(place: Place) -> str:
    """Name of the attribute that ``__call__`` runs: ``quantized_call`` where the layer is quantised."""
    return "quantized_call" if getattr(place, "quantization_mode", None) is not None else "call"


@contextlib.contextmanager
def replaced(place: Any, attribute: str, value: Any) -> Iterator[None]:
    """Set an instance attribute past every tracking ``__setattr__``, and restore what was there.

    Args:
        place: The object.
        attribute: Name of the attribute.
        value: What stands there inside the scope.
    """
    missing = object()
    before = place.__dict__.get(attribute, missing)
    object.__setattr__(place, attribute, value)
    try:
        yield
    finally:
        if before is missing:
            object.__delattr__(place, attribute)
        else:
            object.__setattr__(place, attribute, before)


Wrap = Callable[[int, Callable[..., Any]], Callable[..., Any]]


@contextlib.contextmanager
def wrapped_calls(places: Mapping[int, Place], wrap: Wrap) -> Iterator[None]:
    """Let every call of some places pass through a wrapper; only functions traced inside the scope see it.

    Args:
        places: Places by their index.
        wrap: Receives the index and the original bound method, and returns what is called instead.
    """
    with contextlib.ExitStack() as stack:
        for index, place in places.items():
            name = entry_name(place)
            stack.enter_context(replaced(place, name, wrap(index, getattr(place, name))))
        yield


@contextlib.contextmanager
def plain_calls(model: keras.Model, places: Iterable[Place]) -> Iterator[list[str]]:
    """Let a model be called for what it computes, without what else a call does to it.

    Layers that were never built stay so, unless they have something to make: then the call raises. Nothing is
    rematerialised, for what such a call makes cannot be seen outside it. Losses of the user's last call are kept.

    Args:
        model: The model.
        places: Everything in it that a tap can be set on.

    Yields:
        The names of layers that had to be built for the call.
    """
    wanted: list[str] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(replaced(model, "_clear_losses", lambda: None))
        for place in (model, *places):
            if getattr(place, "_remat_mode", None) is not None:
                stack.enter_context(replaced(place, "_remat_mode", None))
        for layer in model._flatten_layers(include_self=False):
            if not layer.built:
                stack.enter_context(replaced(layer, "build", _refusing_to_build(layer, wanted)))
                # Every call marks its layer as built.
                stack.enter_context(replaced(layer, "built", False))
        yield wanted


def _refusing_to_build(layer: keras.layers.Layer, wanted: list[str]) -> Callable[..., None]:
    """What stands in for ``build``; a layer without one of its own has nothing to make, so it runs as it is."""

    def build(input_shape: Any = None) -> None:
        del input_shape
        if type(layer).build not in (keras.layers.Layer.build, keras.Model.build):
            wanted.append(layer.name)
            raise RuntimeError(f"Layer {layer.name!r} was never built.")

    return build


def copy_mask(new: Any, old: Any) -> Any:
    """Give a tensor the mask that Keras hung on another with the same values."""
    mask = getattr(old, "_keras_mask", None)
    if mask is not None:
        new._keras_mask = mask
    return new


def drop_mask(tensor: Any) -> None:
    """Take away the mask that Keras hung on a tensor."""
    if getattr(tensor, "_keras_mask", None) is not None:
        tensor._keras_mask = None


def attends_as_keras(layer: Any) -> bool:
    """Whether a layer of the kind of `keras.layers.MultiHeadAttention` computes attention as its base in Keras does."""
    base: Any = next(one for one in type(layer).__mro__ if one.__module__.partition(".")[0] == "keras")
    return bool(type(layer)._compute_attention is base._compute_attention)


@contextlib.contextmanager
def attention_by(
    layer: keras.layers.Layer, compute: Callable[..., Any], gate: Callable[[Any, Callable[..., Any]], Any]
) -> Iterator[None]:
    """Let a layer of the kind of `keras.layers.MultiHeadAttention` compute attention by another function.

    Masks, projections and their order stay the layer's own. A class that computes attention in its own way keeps it.

    Args:
        layer: The layer.
        compute: What stands for ``_compute_attention``: Keras' way for users to change attention.
        gate: Receives what the gate's projection is called with and the projection, where there is a gate.
    """
    with contextlib.ExitStack() as stack:
        if attends_as_keras(layer):
            stack.enter_context(replaced(layer, "_compute_attention", compute))
        opened = getattr(layer, "_gate_dense", None)
        if opened is not None:
            stack.enter_context(replaced(layer, "_gate_dense", lambda x: gate(x, opened)))
        yield


@contextlib.contextmanager
def keras_state_guard() -> Iterator[None]:
    """Leave Keras' process-wide state as it was: the global seed generator and the counters behind automatic names."""
    module = sys.modules[keras.random.SeedGenerator.__module__]
    attributes = module.global_state
    generator = attributes.get_global_attribute(module.GLOBAL_SEED_GENERATOR)
    state = None if generator is None else keras.ops.convert_to_numpy(generator.state)
    counters = attributes.get_global_attribute("object_name_uids")
    counters = None if counters is None else counters.copy()
    try:
        yield
    finally:
        attributes.set_global_attribute(module.GLOBAL_SEED_GENERATOR, generator)
        if generator is not None:
            generator.state.assign(state)
        attributes.set_global_attribute("object_name_uids", counters)
