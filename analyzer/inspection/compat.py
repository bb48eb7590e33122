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
def without_remat(places: Iterable[Place]) -> Iterator[None]:
    """Let some places compute once, as everything else: what a rematerialised call makes cannot be seen outside it."""
    with contextlib.ExitStack() as stack:
        for place in places:
            if getattr(place, "_remat_mode", None) is not None:
                stack.enter_context(replaced(place, "_remat_mode", None))
        yield


@contextlib.contextmanager
def unbuilt_left_unbuilt(model: keras.Model) -> Iterator[list[str]]:
    """Keep a call from building the layers of a model that were never built: it would change the model.

    A layer without a ``build`` of its own has nothing to make, so it runs as it is.

    Yields:
        The names of layers that had to be built for the call, which then raised.
    """
    wanted: list[str] = []

    def refusing(layer: keras.layers.Layer) -> Callable[..., None]:
        def build(input_shape: Any = None) -> None:
            del input_shape
            if type(layer).build not in (keras.layers.Layer.build, keras.Model.build):
                wanted.append(layer.name)
                raise RuntimeError(f"Layer {layer.name!r} was never built.")

        return build

    with contextlib.ExitStack() as stack:
        for layer in model._flatten_layers(include_self=False):
            if not layer.built:
                stack.enter_context(replaced(layer, "build", refusing(layer)))
                # Every call marks its layer as built.
                stack.enter_context(replaced(layer, "built", False))
        yield wanted


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
