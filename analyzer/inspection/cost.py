"""`Cost`: parameters, memory and operations of every call of a layer, from the traced shapes, and time per batch."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from analyzer.data_types.cost import CostResult, LayerCost, ModelInput
from analyzer.inspection import compat, inputs
from analyzer.inspection.call_graph import Firing, Shape, item_bytes
from analyzer.inspection.flops import CallShapes, count_flops
from analyzer.inspection.flops_shapes import Uncountable
from analyzer.inspection.latency import measure_latency
from analyzer.inspection.needs import Context
from analyzer.inspection.reducers import Tap
from analyzer.inspection.view import ModelView

UNSEEN = "it computes by itself between its layers, and what is not a layer is not seen"
UNTRACED = "the model was not traced: it declares no inputs, and no data were given"


@dataclass(frozen=True)
class Cost:
    """What a model costs; data only give the shapes.

    Gathered as `CostResult`.
    """

    requires_data = False

    def taps(self, view: ModelView) -> tuple[Tap, ...]:
        """None: costs come from shapes and from a clock."""
        del view
        return ()

    def finish(self, collected: Sequence[Any], context: Context) -> CostResult:
        """Costs of the model and of each call of a layer."""
        del collected
        step = functools.partial(context.progress, "latency")
        latency, missing = measure_latency(context.view, context.arranged, context.batch_size, step)
        return describe_cost(context.view, context.arranged, latency=latency, latency_missing=missing)


def describe_cost(view: ModelView, arranged: Any | None, **measured: Any) -> CostResult:
    """Costs that follow from shapes.

    Args:
        view: An opened model.
        arranged: Samples like those that the model was traced with; None where it was traced on declared inputs.
        measured: Further fields of the result.
    """
    given = _inputs(view, inputs.example(view.model) if arranged is None else arranged)
    layers = _Calls(view, given).layers
    held = [layer for layer in layers if not layer.composite or layer.closes]
    largest = max(held, key=lambda layer: layer.output_bytes, default=None)
    counted = [layer.flops for layer in layers if layer.flops is not None]
    by_dtype: Counter[str] = Counter()
    for info in view.variables:
        by_dtype[str(info.variable.dtype)] += item_bytes(info.variable.dtype) * info.size
    return CostResult(
        parameters=sum(info.size for info in view.variables),
        trainable_parameters=sum(info.size for info in view.variables if info.trainable),
        parameter_bytes=sum(by_dtype.values()),
        bytes_by_dtype=dict(by_dtype),
        flops=sum(counted) if counted else None,
        uncounted={layer.id: layer.why_uncounted for layer in layers if layer.why_uncounted} | _own(view),
        activation_bytes=sum(layer.output_bytes for layer in held) if held else None,
        largest_activation_bytes=None if largest is None else largest.output_bytes,
        largest_activation_layer=None if largest is None else largest.id,
        inputs=given,
        layers=layers,
        **measured,
    )


def _own(view: ModelView) -> dict[str, str]:
    """What the model computes outside its layers."""
    if not view.firings:
        return {view.model.name: UNSEEN if view.heads else UNTRACED}
    outermost = [firing for firing in view.firings if firing.inside is None]
    unseen = any(firing.inferred for firing in outermost) or any(head.place is None for head in view.heads)
    return {view.model.name: UNSEEN} if unseen else {}


def _inputs(view: ModelView, example: Any | None) -> tuple[ModelInput, ...]:
    arrays = [] if example is None else keras.tree.flatten(example)
    names = [tensor.name for tensor in getattr(view.model, "inputs", None) or ()]
    # Automatic names count the tensors of the process: they differ from one loading of a file to the next.
    if len(names) != len(arrays) or any(name.startswith("keras_tensor") for name in names):
        names = [str(i + 1) for i in range(len(arrays))]
    ids = ["input"] if len(arrays) == 1 else [f"input {name}" for name in names]
    return tuple(ModelInput(id=key, shape=tuple(array.shape[1:])) for key, array in zip(ids, arrays, strict=True))


class _Calls:
    """The calls of a traced model as rows of the result."""

    def __init__(self, view: ModelView, given: tuple[ModelInput, ...]) -> None:
        self.view = view
        self.n = inputs.fixed_batch_size(view.model) or 1
        self.infos = {id(info.layer): info for info in view.layers}
        self.inner: dict[int, list[int]] = {}
        for position, firing in enumerate(view.firings):
            if firing.inside is not None:
                self.inner.setdefault(firing.inside, []).append(position)
        self.parameters = self._parameters()
        self.ids = {-1 - i: one.id for i, one in enumerate(given)} | self._ids()
        self.layers = tuple(self._layer(position, firing) for position, firing in enumerate(view.firings))

    def _ids(self) -> dict[int, str]:
        made: dict[int, str] = {}
        taken: Counter[str] = Counter()
        # A layer ends after the layers that it calls: backwards, the caller has its id first.
        paths: dict[int, str] = {}
        for position in reversed(range(len(self.view.firings))):
            firing = self.view.firings[position]
            place = self.view.places[firing.place]
            info = self.infos.get(id(place))
            owner = "" if firing.inside is None else f"{paths[firing.inside]}/"
            paths[position] = info.id if info is not None else f"{owner}{place.name}"
        for position, path in sorted(paths.items()):
            call = self.view.firings[position].call
            name = path if call == 0 else f"{path}@{call + 1}"
            taken[name] += 1
            made[position] = name if taken[name] == 1 else f"{name}#{taken[name]}"
        return made

    def _parameters(self) -> dict[int, int]:
        """Parameters by position of the call: each variable at the first call of the layer that runs with it."""
        sizes = {id(info.variable): info.size for info in self.view.variables}
        found: dict[int, int] = {}
        # Layers that call none first: they hold cells and wrapped layers that never fire by themselves.
        for position in sorted(range(len(self.view.firings)), key=lambda i: (i in self.inner, i)):
            place = self.view.places[self.view.firings[position].place]
            variables = compat.own_variables(place) if position in self.inner else getattr(place, "weights", ())
            found[position] = sum(sizes.pop(id(variable), 0) for variable in variables)
        return found

    def _layer(self, position: int, firing: Firing) -> LayerCost:
        place = self.view.places[firing.place]
        flops, why = self._flops(position, firing, place)
        return LayerCost(
            id=self.ids[position],
            name=place.name,
            kind=type(place).__name__,
            order=position,
            inside=None if firing.inside is None else self.ids[firing.inside],
            composite=position in self.inner,
            sources=tuple(self.ids[source] for source in firing.sources),
            sources_inferred=firing.inferred,
            closes=tuple(self.ids[source] for source in firing.closes),
            parameters=self.parameters.get(position, 0),
            output_shapes=tuple(self._of_one_sample(shape) for shape in firing.output_shapes),
            output_bytes=round(firing.output_bytes / self.n),
            flops=flops,
            why_uncounted=why,
        )

    def _of_one_sample(self, shape: Shape) -> Shape:
        return shape[1:] if shape[:1] == (self.n,) else shape

    def _flops(self, position: int, firing: Firing, place: Any) -> tuple[int | None, str | None]:
        """Operations for one sample, or why they are not known."""
        inner = [self.view.firings[i] for i in self.inner.get(position, ())]
        names = {self.view.places[one.place].name: one.output_shapes[0] for one in inner if one.output_shapes}
        try:
            shapes = CallShapes(inputs=firing.input_shapes, outputs=firing.output_shapes, inner=names)
            return round(count_flops(place, shapes) / self.n), None
        except Uncountable as reason:
            if not inner:
                return None, str(reason)
        seen = not firing.closes and not any(one.inferred for one in inner)
        return (0, None) if seen else (None, UNSEEN)
