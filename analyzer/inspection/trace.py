"""One symbolic forward pass that writes down which places ran, in which order, and where the outputs came from."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import keras

from analyzer.backends.contract import Engine
from analyzer.inspection import compat
from analyzer.inspection.call_graph import CallGraph, Firing, Shape, shape_of, tensors_of

__all__ = ["Firing", "Head", "named_outputs", "trace_calls"]

Via = Literal["activation", "input", "output"]


@dataclass(frozen=True, kw_only=True)
class Head:
    """One output of the model.

    Attributes:
        name: Its key in a dict output, its name in a Functional model, else ``output`` or ``output_<i>``.
        shape: Its shape for the traced number of samples.
        activation: ``"softmax"``, ``"sigmoid"``, ``"linear"``, another activation's name, or None where no named
            activation made the output (an LSTM's does not: it is followed by a product).
        place: Index of the place whose result the output is; None where no place returned it.
        via: Where the logits can be read: the ``activation`` attribute of the place, the ``input`` of the place, its
            ``output`` (a linear head), or nowhere (None).
    """

    name: str
    shape: Shape
    activation: str | None = None
    place: int | None = None
    via: Via | None = None


_LOGITS_OF: dict[str, Via] = {"softmax": "activation", "sigmoid": "activation", "linear": "output"}
"""Where the logits of a head with a named activation can be read."""


def trace_calls(
    model: keras.Model, places: Mapping[int, compat.Place], example: Any, engine: Engine
) -> tuple[tuple[Firing, ...], tuple[Head, ...]]:
    """Run the model symbolically once.

    Args:
        model: A built model.
        places: Where calls are noticed.
        example: Samples in the structure that the model is called with.
        engine: The backend's engine.

    Returns:
        The calls in the order in which they ended, and the outputs.
    """
    graph = CallGraph()
    heads: list[Head] = []
    state = [*model.trainable_variables, *model.non_trainable_variables]

    def forward(values: list[Any], x: Any) -> None:
        # The tensors are kept until the pass ends, so that no two of them share an id.
        alive: list[Any] = []
        made_by: dict[int, int] = {}
        activated: set[tuple[int, int]] = set()

        def wrap(index: int, call: Callable[..., Any]) -> Callable[..., Any]:
            def noticed(*args: Any, **kwargs: Any) -> Any:
                arguments = tensors_of((args, kwargs))
                alive.extend(arguments)
                graph.begin(index, arguments)
                result = call(*args, **kwargs)
                tensors = tensors_of(result)
                alive.extend(tensors)
                for tensor in tensors:
                    made_by.setdefault(id(tensor), index)
                graph.end(tensors)
                return result

            return noticed

        def activated_by(index: int, result: Any) -> None:
            alive.append(result)
            activated.add((id(result), index))

        heads.clear()
        graph.start(inputs=tensors_of(x), constants=values)
        mapping = list(zip(state, values, strict=True))
        with (
            keras.StatelessScope(state_mapping=mapping),
            compat.wrapped_calls(places, wrap),
            _listening_at_activations(places, activated_by),
        ):
            outputs = model(x, training=False)
        for name, tensor in named_outputs(model, outputs):
            index = made_by.get(id(tensor))
            heads.append(_head(name, shape_of(tensor), index, places, activated=(id(tensor), index) in activated))

    engine.trace(forward, [v.value for v in state], keras.tree.map_structure(keras.ops.convert_to_tensor, example))
    return graph.firings(), tuple(heads)


def named_outputs(model: keras.Model, outputs: Any) -> list[tuple[str, Any]]:
    """Outputs of a call with their names, in a fixed order.

    Args:
        model: The model.
        outputs: What the call returned: a tensor, or a list, tuple or dict of tensors.
    """
    if isinstance(outputs, Mapping):
        # Backends return dicts in different orders.
        return [(str(key), outputs[key]) for key in sorted(outputs, key=str) if outputs[key] is not None]
    flat = [tensor for tensor in keras.tree.flatten(outputs) if tensor is not None]
    names = list(getattr(model, "output_names", ()) or ())
    if len(names) != len(flat) or len(set(names)) != len(names):
        names = ["output"] if len(flat) == 1 else [f"output_{i}" for i in range(len(flat))]
    return list(zip(names, flat, strict=True))


@contextlib.contextmanager
def _listening_at_activations(places: Mapping[int, compat.Place], notice: Callable[[int, Any], None]) -> Iterator[None]:
    """Notice what the activation functions that places hold return; activations that are layers are places."""

    def heard(index: int, activation: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(activation)
        def activate(*args: Any, **kwargs: Any) -> Any:
            result = activation(*args, **kwargs)
            notice(index, result)
            return result

        return activate

    with contextlib.ExitStack() as stack:
        for index, place in places.items():
            activation = vars(place).get("activation")
            if callable(activation) and not isinstance(activation, keras.layers.Layer):
                stack.enter_context(compat.replaced(place, "activation", heard(index, activation)))
        yield


def _head(name: str, shape: Shape, index: int | None, places: Mapping[int, compat.Place], *, activated: bool) -> Head:
    if index is None:
        return Head(name=name, shape=shape)
    place = places[index]
    kind = type(place).__name__.lower()
    if kind in ("softmax", "sigmoid"):
        # A Softmax layer, or keras.ops.softmax / sigmoid written in a Functional model.
        return Head(name=name, shape=shape, activation=kind, place=index, via="input")
    if vars(place).get("activation", place) is None:
        return Head(name=name, shape=shape, activation="linear", place=index, via="output")
    if not activated:
        return Head(name=name, shape=shape, place=index)
    named = getattr(place.activation, "__name__", type(place.activation).__name__).lower()
    return Head(name=name, shape=shape, activation=named, place=index, via=_LOGITS_OF.get(named))
