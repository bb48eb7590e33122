"""One symbolic forward pass that writes down which places ran, in which order, and where the outputs came from."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np

from analyzer.backends.contract import Engine
from analyzer.inspection import compat

Shape = tuple[int | None, ...]
Via = Literal["activation", "input", "output"]


@dataclass(frozen=True, kw_only=True)
class Firing:
    """One call of one place.

    Attributes:
        place: Index of the place.
        call: How often the place had run before in this pass.
        input_shapes: Shapes of its tensor arguments.
        output_shapes: Shapes of what it returned.
        output_bytes: Memory of what it returned, for the traced number of samples.
    """

    place: int
    call: int
    input_shapes: tuple[Shape, ...]
    output_shapes: tuple[Shape, ...]
    output_bytes: int


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
    firings: list[Firing] = []
    heads: list[Head] = []
    state = [*model.trainable_variables, *model.non_trainable_variables]

    def forward(values: list[Any], x: Any) -> None:
        # The tensors are kept until the pass ends, so that no two of them share an id.
        alive: list[Any] = []
        made_by: dict[int, int] = {}
        activated: set[tuple[int, int]] = set()
        calls: Counter[int] = Counter()

        def wrap(index: int, call: Callable[..., Any]) -> Callable[..., Any]:
            def noticed(*args: Any, **kwargs: Any) -> Any:
                result = call(*args, **kwargs)
                tensors = _tensors(result)
                alive.extend(tensors)
                for tensor in tensors:
                    made_by.setdefault(id(tensor), index)
                firings.append(_firing(index, calls[index], _tensors((args, kwargs)), tensors))
                calls[index] += 1
                return result

            return noticed

        def activated_by(index: int, result: Any) -> None:
            alive.append(result)
            activated.add((id(result), index))

        firings.clear()
        heads.clear()
        mapping = list(zip(state, values, strict=True))
        with (
            keras.StatelessScope(state_mapping=mapping),
            compat.wrapped_calls(places, wrap),
            _listening_at_activations(places, activated_by),
        ):
            outputs = model(x, training=False)
        for name, tensor in named_outputs(model, outputs):
            index = made_by.get(id(tensor))
            heads.append(_head(name, _shape(tensor), index, places, activated=(id(tensor), index) in activated))

    engine.trace(forward, [v.value for v in state], keras.tree.map_structure(keras.ops.convert_to_tensor, example))
    return tuple(firings), tuple(heads)


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


def _tensors(tree: Any) -> list[Any]:
    return [leaf for leaf in keras.tree.flatten(tree) if keras.ops.is_tensor(leaf)]


def _shape(tensor: Any) -> Shape:
    return tuple(None if size is None else int(size) for size in tensor.shape)


def _firing(place: int, call: int, arguments: list[Any], results: list[Any]) -> Firing:
    return Firing(
        place=place,
        call=call,
        input_shapes=tuple(map(_shape, arguments)),
        output_shapes=tuple(map(_shape, results)),
        output_bytes=sum(_bytes(tensor) for tensor in results),
    )


def _bytes(tensor: Any) -> int:
    bits = {"bool": 8, "bfloat16": 16}.get(name := keras.backend.standardize_dtype(tensor.dtype))
    item = bits // 8 if bits else np.dtype(name).itemsize if name != "string" else 8
    return item * int(np.prod([size or 1 for size in _shape(tensor)], dtype=np.int64))


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
