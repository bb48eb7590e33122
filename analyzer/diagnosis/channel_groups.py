"""Which tensors carry the output channels of a layer, and which weights belong to each channel, by the call graph.

A channel can be removed where everything that it reaches either treats channels one by one, as activations, pooling,
dropout, batch normalisation and depthwise convolutions do, or takes it in by a kernel with weights of its own for it.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import keras
import numpy as np

from analyzer.diagnosis.channel_parts import FOREIGN, Carrier, ChannelGroup, Cut, Ints, Opening
from analyzer.diagnosis.channelwise import axis_after, flattened_index
from analyzer.diagnosis.kernel_channels import PRUNABLE, channel_axis, check_groups, incoming, is_graph, outgoing
from analyzer.errors import Unsupported
from analyzer.inspection import compat
from analyzer.inspection.call_graph import Firing, Shape
from analyzer.inspection.kernels import DEPTHWISE
from analyzer.inspection.selection import every_call
from analyzer.inspection.view import LayerInfo, ModelView

L = keras.layers


def channel_groups(view: ModelView) -> tuple[dict[str, ChannelGroup], dict[str, str]]:
    """What can be removed from a model, channel by channel.

    Args:
        view: The opened model.

    Returns:
        Groups by id of the layer, in order of execution; and for layers with a kernel that cannot be pruned, the
        reason by id.
    """
    groups, refused, graph = {}, {}, _Graph(view)
    for info in view.layers:
        if not isinstance(info.layer, (*PRUNABLE, *DEPTHWISE)):
            continue
        try:
            groups[info.id] = _Follower(graph, info).group()
        except Unsupported as reason:
            refused[info.id] = str(reason)
    return groups, refused


class _Graph:
    """A model, and what is found out about it once for all of its layers."""

    def __init__(self, view: ModelView) -> None:
        self.view = view
        self.calls = every_call(view)
        self.tied = _tied_variables(view)
        self.runs = Counter(firing.place for firing in view.firings)
        self._places = {id(place): index for index, place in view.places.items()}
        self._axes: dict[tuple[int, Shape, int], int | None] = {}

    def runs_of(self, layer: keras.layers.Layer) -> int:
        """How often a layer runs."""
        return self.runs[self._places[id(layer)]] if id(layer) in self._places else 0

    def axis_after(self, place: Any, shape: Shape, axis: int) -> int | None:
        """See `axis_after`; everything is tried once."""
        key = (id(place), shape, axis)
        if key not in self._axes:
            self._axes[key] = axis_after(place, shape, axis)
        return self._axes[key]

    def is_elementwise(self, activation: Any, shape: Shape, axis: int) -> bool:
        """Whether an activation function, if there is one, treats channels one by one."""
        return activation is None or self.axis_after(activation, shape, axis) == axis


class _Follower:
    """Follows the channels of one layer through the model."""

    def __init__(self, graph: _Graph, info: LayerInfo) -> None:
        self._graph = graph
        self._view = graph.view
        self._info = info
        self._carriers: dict[int, Carrier] = {}
        self._cuts: list[Cut] = []
        self._openings: list[Opening] = []

    def group(self) -> ChannelGroup:
        """The group, or `Unsupported` with what stands against it."""
        layer = self._info.layer
        if isinstance(layer, DEPTHWISE):
            raise Unsupported(
                "A depthwise convolution has the channels of what it receives: prune the layer before it."
            )
        self._check_own(layer, self._info.id)
        check_groups(layer, self._info.id)
        places = [i for i, firing in enumerate(self._view.firings) if self._view.places[firing.place] is layer]
        if len(places) != 1:
            raise Unsupported(f"It runs {len(places)} times when the model is called.")
        firing = self._view.firings[places[0]]
        self._check_containers(firing)
        shape = firing.output_shapes[0]
        own_axis = channel_axis(layer, len(shape))
        n = int(shape[own_axis] or 0)
        for variable, cut_axis in outgoing(layer):
            self._cut(layer, variable, cut_axis, np.arange(n))
        self._carry(places[0], own_axis, np.arange(n))
        for position in range(places[0], len(self._view.firings)):
            if position in self._carriers:
                self._follow(position)
        if not self._graph.is_elementwise(getattr(layer, "activation", None), shape, own_axis):
            raise Unsupported("Its activation function joins channels.")
        if not any(cut.taken_from is not None for cut in self._cuts):
            raise Unsupported("Nothing with a kernel takes its channels in.")
        return ChannelGroup(
            layer=self._info,
            n_channels=n,
            carriers=tuple(self._carriers.values()),
            cuts=tuple(self._cuts),
            openings=tuple(self._openings),
        )

    def _follow(self, position: int) -> None:
        """Everything that takes what one call returned."""
        view, carrier = self._view, self._carriers[position]
        place = view.firings[position].place
        if any(head.place == place for head in view.heads):
            raise Unsupported(
                "Its channels are outputs of the model."
                if place == view.firings[next(iter(self._carriers))].place
                else f"Its channels reach the outputs of the model through {carrier.call.id!r}."
            )
        for taker, firing in enumerate(view.firings):
            if position in firing.closes:
                raise Unsupported(f"{self._name(firing)} joins its channels by operations of its own.")
            if position not in firing.sources:
                continue
            if is_graph(self._view.places[firing.place]):
                self._open(firing, carrier, position)
            else:
                self._take(taker, firing, carrier, position)

    def _open(self, firing: Firing, carrier: Carrier, source: int) -> None:
        """A nested model, whose inner layers are followed one by one."""
        container = self._view.places[firing.place]
        if self._graph.runs[firing.place] > 1 or len(firing.sources) != len(firing.input_shapes):
            raise Unsupported(f"The nested model {self._name(firing)} takes its channels in more than one place.")
        number = firing.sources.index(source)
        self._openings.append(Opening(container=container, argument=number, axis=carrier.axis, index=carrier.index))

    def _take(self, position: int, firing: Firing, carrier: Carrier, source: int) -> None:
        """One call that receives channels."""
        name, layer = self._name(firing), self._view.places[firing.place]
        if firing.inferred:
            raise Unsupported(f"What {name} receives is made by operations that cannot be followed.")
        self._check_containers(firing, taker=True)
        if any(other.inside == position for other in self._view.firings):
            raise Unsupported(f"{name} is a composite layer, whose inner calls use its channels.")
        if len(firing.input_shapes) != 1:
            self._join(position, firing, carrier, source)
            return
        shape = firing.input_shapes[0]
        if type(layer) in PRUNABLE:
            self._check_own(layer, name)
            check_groups(layer, name)
            if carrier.axis != channel_axis(layer, len(shape)):
                raise Unsupported(f"{name} counts channels on another axis.")
            for variable, axis, repeat in incoming(layer):
                self._cut(layer, variable, axis, np.repeat(carrier.index, repeat), carrier)
            return
        if type(layer) in DEPTHWISE or type(layer) in (L.BatchNormalization, L.PReLU):
            self._check_own(layer, name)
            self._carry(position, carrier.axis, self._scaled(layer, name, carrier, shape))
            return
        if isinstance(layer, keras.layers.Layer) and layer.weights:
            raise Unsupported(f"{name} ({type(layer).__name__}) is no layer whose weights can be divided by channel.")
        if type(layer) is L.Flatten:
            self._carry(position, 1, flattened_index(layer, shape, carrier.axis, carrier.index))
            return
        after = self._graph.axis_after(layer, shape, carrier.axis)
        if after is None:
            raise Unsupported(f"{name} ({type(layer).__name__}) does not treat channels one by one.")
        self._carry(position, after, carrier.index)

    def _scaled(self, layer: keras.layers.Layer, name: str, carrier: Carrier, shape: Shape) -> Ints:
        """Cut what a layer holds for each channel; the index of what it returns."""
        rank, index = len(shape), carrier.index
        if isinstance(layer, L.BatchNormalization):
            if layer.axis % rank != carrier.axis:
                raise Unsupported(f"{name} normalises another axis than the channels.")
            for variable in ("gamma", "beta", "moving_mean", "moving_variance"):
                self._cut(layer, variable, 0, index)
            return index
        if isinstance(layer, L.PReLU):
            if layer.alpha.shape[carrier.axis - 1] != 1:
                self._cut(layer, "alpha", carrier.axis - 1, index)
            return index
        if carrier.axis != channel_axis(layer, rank):
            raise Unsupported(f"{name} counts channels on another axis.")
        if not self._graph.is_elementwise(layer.activation, shape, carrier.axis):
            raise Unsupported(f"The activation function of {name} joins channels.")
        repeated = np.repeat(index, layer.depth_multiplier)
        self._cut(layer, "kernel", len(layer.kernel.shape) - 2, index)
        self._cut(layer, "bias", 0, repeated)
        return repeated

    def _join(self, position: int, firing: Firing, carrier: Carrier, source: int) -> None:
        """A call with several arguments: only a concatenation of channels keeps them apart."""
        name, layer = self._name(firing), self._view.places[firing.place]
        rank = len(firing.input_shapes[0])
        concatenates = type(layer).__name__ == "Concatenate" and getattr(layer, "axis", None) is not None
        if not concatenates or layer.axis % rank != carrier.axis or len(firing.sources) != len(firing.input_shapes):
            others = [self._name_of(s) for s in firing.sources if s != source]
            beside = f" with those of {', '.join(others)}" if others else ""
            raise Unsupported(
                f"{name} ({type(layer).__name__}) joins its channels{beside}, so that they cannot be removed "
                "independently."
            )
        sizes = [int(shape[carrier.axis] or 0) for shape in firing.input_shapes]
        start = sum(sizes[: firing.sources.index(source)])
        index = np.full(sum(sizes), FOREIGN, np.int64)
        if position in self._carriers:
            index = self._carriers[position].index.copy()
        index[start : start + len(carrier.index)] = carrier.index
        self._carry(position, carrier.axis, index)

    def _carry(self, position: int, axis: int, index: Ints) -> None:
        firing = self._view.firings[position]
        self._carriers[position] = Carrier(call=self._graph.calls[firing.place, firing.call], axis=axis, index=index)

    def _cut(
        self, layer: keras.layers.Layer, variable: str, axis: int, index: Ints, taken_from: Carrier | None = None
    ) -> None:
        if getattr(layer, variable, None) is not None:
            self._cuts.append(Cut(layer=layer, variable=variable, axis=axis, index=index, taken_from=taken_from))

    def _check_own(self, layer: keras.layers.Layer, name: str) -> None:
        """Refuse weights that something else uses, or that are not what they seem."""
        runs = self._graph.runs_of(layer)
        if runs > 1:
            raise Unsupported(f"{name} runs {runs} times: its weights serve several places.")
        if any(id(variable) in self._graph.tied for variable in compat.own_variables(layer)):
            raise Unsupported(f"{name} shares a variable with another layer.")
        if getattr(layer, "quantization_mode", None) is not None or getattr(layer, "lora_enabled", False):
            raise Unsupported(f"{name} is quantised or has a low-rank adapter: prune before that.")
        if type(layer) not in (*PRUNABLE, *DEPTHWISE, L.BatchNormalization, L.PReLU):
            raise Unsupported(f"{name} is of a class of its own, {type(layer).__name__}.")

    def _check_containers(self, firing: Firing, *, taker: bool = False) -> None:
        while firing.inside is not None:
            firing = self._view.firings[firing.inside]
            if not is_graph(self._view.places[firing.place]):
                what = "Its channels are used inside" if taker else "It is part of"
                raise Unsupported(f"{what} {self._name(firing)}, whose call is not a graph of layers.")

    def _name(self, firing: Firing) -> str:
        return repr(self._graph.calls[firing.place, firing.call].id)

    def _name_of(self, position: int) -> str:
        return "an input" if position < 0 else self._name(self._view.firings[position])


def _tied_variables(view: ModelView) -> frozenset[int]:
    """Variables that several layers own, by id."""
    seen: set[int] = set()
    tied: set[int] = set()
    for info in view.layers:
        for variable in compat.own_variables(info.layer):
            (tied if id(variable) in seen else seen).add(id(variable))
    return frozenset(tied)
