"""`ModelView`: what a Keras model consists of, in order of execution, without touching it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from analyzer.backends import engine
from analyzer.errors import DataError, DeviceMemoryError, ModelError
from analyzer.inspection import compat, inputs
from analyzer.inspection.trace import Firing, Head, trace_calls

Shape = tuple[int | None, ...]

_LOOPING = (keras.layers.RNN, keras.layers.Bidirectional, keras.layers.TimeDistributed)
"""Layers whose children run a number of times that depends on the backend: taps stop at them."""


@dataclass(frozen=True, kw_only=True)
class LayerInfo:
    """A layer that computes or owns variables; pure containers are not among them.

    Attributes:
        id: Unique path through the owners, e.g. ``"encoder/block_1/query"``; equal names get ``#2``, ``#3``, …
        name: The layer's own name.
        kind: Name of its class.
        order: Rank by first execution (by declaration where the model could not be traced).
        layer: The Keras layer.
        input_shapes: Shape of each tensor of the first call; empty where it was not seen to run.
        output_shapes: Likewise for what it returned.
        calls: How often it ran in one forward pass; a shared layer runs several times.
    """

    id: str
    name: str
    kind: str
    order: int
    layer: keras.layers.Layer = field(repr=False)
    input_shapes: tuple[Shape, ...] = ()
    output_shapes: tuple[Shape, ...] = ()
    calls: int = 0


@dataclass(frozen=True, kw_only=True)
class VariableInfo:
    """A variable of the model, listed once however often it is shared.

    Attributes:
        id: Unique, the owner's id and the variable's name.
        name: The variable's own name, e.g. ``"kernel"``.
        owner: The first layer, in order of execution, that owns it.
        variable: The Keras variable.
        trainable: Whether training changes it.
        size: Number of stored scalars.
    """

    id: str
    name: str
    owner: LayerInfo
    variable: keras.Variable = field(repr=False)
    trainable: bool
    size: int


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelView:
    """An opened model.

    Attributes:
        model: The Keras model itself.
        layers: What computes or owns variables, in order of execution.
        variables: Each variable once, in order of execution; sizes add up to ``model.count_params()``.
        places: Everything a tap can be set on, by index.
        firings: The calls of places in one forward pass, in order; empty where the model could not be traced.
        heads: One per output: its name and the place of its last activation.
        traced: Whether the order is that of execution; else it is that of declaration.
    """

    model: keras.Model
    layers: tuple[LayerInfo, ...]
    variables: tuple[VariableInfo, ...]
    places: dict[int, compat.Place]
    firings: tuple[Firing, ...]
    heads: tuple[Head, ...]
    traced: bool

    @property
    def state(self) -> list[keras.Variable]:
        """Every variable that a forward pass may read or write, random seeds included."""
        return [*self.model.trainable_variables, *self.model.non_trainable_variables]


def open_model(model: keras.Model, example: Any | None = None) -> ModelView:
    """Open a model without changing it.

    Args:
        model: A built model of any kind.
        example: A few samples in the structure that the model is called with. Without, zeros in the shape of the
            declared inputs; a subclassed model that declares none is then listed in order of declaration.

    Raises:
        ModelError: If the model was never built, or is no Keras model.
        DataError: If the model cannot run on the example.
    """
    check_built(model)
    given = example is not None
    example = example if given else inputs.example(model)
    places = dict(enumerate(_places(model)))
    firings: tuple[Firing, ...] = ()
    heads: tuple[Head, ...] = ()
    if example is not None:
        firings, heads = _trace(model, places, example, given=given)
    layers = _layers(model, places, firings)
    return ModelView(
        model=model,
        layers=layers,
        variables=_variables(model, layers),
        places=places,
        firings=firings,
        heads=heads,
        traced=bool(firings),
    )


def _trace(
    model: keras.Model, places: dict[int, compat.Place], example: Any, *, given: bool
) -> tuple[tuple[Firing, ...], tuple[Head, ...]]:
    """Calls and outputs; none where a model does not run on zeros of its declared shape."""
    with compat.plain_calls(model, places.values()) as wanted:
        try:
            return trace_calls(model, places, example, engine())
        except Exception as error:
            if wanted:
                raise ModelError(_never_built(model, wanted)) from error
            if not given:
                return (), ()
            if engine().is_out_of_memory(error):
                raise DeviceMemoryError(_does_not_fit(model, example, error)) from error
            raise DataError(_call_failed(model, example, error)) from error


def check_built(model: Any) -> None:
    """Refuse what is no built Keras model; building it would change it.

    Layers without weights are allowed beside others that have some: a branch that only training uses. Should the model
    need them, `open_model` refuses.

    Raises:
        ModelError: With what came and how to fix it.
    """
    if not isinstance(model, keras.Model):
        raise ModelError(
            f"Expected a keras.Model or a path to a .keras file, got {type(model).__module__}.{type(model).__name__}. "
            "A model of tf_keras or torch.nn is not a Keras 3 model."
        )
    unbuilt = [layer.name for _, layer in _walk(model) if not layer.built]
    if not model.built or (unbuilt and not model.weights):
        raise ModelError(_never_built(model, unbuilt if model.built else []))


def _never_built(model: keras.Model, unbuilt: list[str]) -> str:
    which = f" (layers without weights yet: {', '.join(unbuilt[:5])})" if unbuilt else ""
    return (
        f"The model {model.name!r} was never built{which}: it has no weights to analyse. Call it once on a batch, "
        "model(x[:1]), or model.build(input_shape), before the analysis."
    )


def _does_not_fit(model: keras.Model, example: Any, error: Exception) -> str:
    shapes = [tuple(array.shape) for array in keras.tree.flatten(example)]
    return (
        f"The model {model.name!r} does not fit into memory with x of shape {shapes}: {_said(error)} Free memory, run "
        "on a larger device, or lower the input size; batch_size cannot go lower."
    )


def _call_failed(model: keras.Model, example: Any, error: Exception) -> str:
    shapes = [tuple(array.shape) for array in keras.tree.flatten(example)]
    return (
        f"The model {model.name!r} cannot run on the data: x has shape {shapes}, and the call raised "
        f"{type(error).__name__}: {_said(error)} Give x as the model saw it in training."
    )


def _said(error: Exception) -> str:
    """What an error says, in one line, without the colours and the argument list that Keras puts around it."""
    plain = re.sub(r"\x1b\[\d*m", "", str(error)).split("Arguments received by")[0]
    return " ".join(plain.split())[:500]


def _walk(layer: keras.layers.Layer) -> Iterator[tuple[str, keras.layers.Layer]]:
    """All layers below one, depth first, each once, with the path through their owners."""
    seen: set[int] = set()

    def visit(owner: keras.layers.Layer, prefix: str) -> Iterator[tuple[str, keras.layers.Layer]]:
        for child in compat.sublayers(owner):
            if id(child) not in seen:
                seen.add(id(child))
                yield f"{prefix}{child.name}", child
                yield from visit(child, f"{prefix}{child.name}/")

    return visit(layer, "")


def _places(model: keras.Model) -> list[compat.Place]:
    """Layers and operations that fire the same way on every backend, containers included, each once."""
    found: dict[int, compat.Place] = {}

    def visit(container: Any) -> None:
        for place in [*compat.operations(container), *compat.sublayers(container)]:
            if id(place) in found or isinstance(place, keras.layers.InputLayer):
                continue
            found[id(place)] = place
            if isinstance(place, keras.layers.Layer) and not isinstance(place, _LOOPING):
                visit(place)

    visit(model)
    return list(found.values())


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A layer on its way into the list, with what it is sorted by."""

    rank: int
    declared: int
    path: str
    layer: keras.layers.Layer
    index: int | None


def _layers(model: keras.Model, places: dict[int, compat.Place], firings: tuple[Firing, ...]) -> tuple[LayerInfo, ...]:
    first: dict[int | None, Firing] = {}
    for firing in firings:
        first.setdefault(firing.place, firing)
    calls = Counter(firing.place for firing in firings)
    paths: Counter[str] = Counter()
    infos = []
    for order, row in enumerate(sorted(_rows(model, places, firings), key=lambda row: (row.rank, row.declared))):
        paths[row.path] += 1
        seen = first.get(row.index)
        infos.append(
            LayerInfo(
                id=_numbered(row.path, paths[row.path]),
                name=row.layer.name,
                kind=type(row.layer).__name__,
                order=order,
                layer=row.layer,
                input_shapes=seen.input_shapes if seen else (),
                output_shapes=seen.output_shapes if seen else (),
                calls=0 if row.index is None else calls[row.index],
            )
        )
    return tuple(infos)


def _rows(model: keras.Model, places: dict[int, compat.Place], firings: tuple[Firing, ...]) -> Iterator[_Row]:
    index_of = {id(place): index for index, place in places.items()}
    ranks: dict[int, int] = {}
    for position, firing in enumerate(firings):
        ranks.setdefault(firing.place, position)
    # What never fires by itself (cells inside a loop, unused branches) follows the owner it was found under.
    rank = len(firings)
    for declared, (path, layer) in enumerate([(model.name, model), *_walk(model)]):
        index = index_of.get(id(layer))
        if index is not None:
            rank = ranks.get(index, rank)
        is_leaf = not compat.sublayers(layer) and not isinstance(layer, keras.layers.InputLayer)
        if is_leaf or compat.own_variables(layer):
            yield _Row(rank=rank, declared=declared, path=path, layer=layer, index=index)


def _numbered(path: str, count: int) -> str:
    return path if count == 1 else f"{path}#{count}"


def _variables(model: keras.Model, layers: tuple[LayerInfo, ...]) -> tuple[VariableInfo, ...]:
    counted = {id(v) for v in model.weights}
    found: dict[int, VariableInfo] = {}
    ids: Counter[str] = Counter()
    for info in layers:
        for variable in compat.own_variables(info.layer):
            if id(variable) not in counted or id(variable) in found:
                continue
            path = f"{info.id}/{variable.name}"
            ids[path] += 1
            found[id(variable)] = VariableInfo(
                id=_numbered(path, ids[path]),
                name=variable.name,
                owner=info,
                variable=variable,
                trainable=bool(variable.trainable),
                size=int(np.prod(variable.shape, dtype=np.int64)),
            )
    return tuple(found.values())
