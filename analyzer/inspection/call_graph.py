"""Which call took what another returned, followed by the identity of tensors through one pass."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

Shape = tuple[int | None, ...]


@dataclass(frozen=True, kw_only=True)
class Firing:
    """One call of one place.

    Attributes:
        place: Index of the place.
        call: How often the place had run before in this pass.
        input_shapes: Shapes of its tensor arguments.
        output_shapes: Shapes of what it returned.
        output_bytes: Memory of what it returned, for the traced number of samples.
        sources: Positions, in the order of the trace, of the calls that made its tensor arguments; ``-1 - i`` stands
            for input ``i`` of the model.
        inferred: Whether an argument was made by operations between layers, which no layer returned; its sources are
            then those that nothing had taken yet, else the last one: a guess that misses what such operations join.
        inside: Position of the call of the layer that called it; None where the model itself did.
        closes: Positions of the inner calls whose results the layer turned into its own by operations of its own;
            empty for layers that call no others, or return what another returned.
    """

    place: int
    call: int
    input_shapes: tuple[Shape, ...]
    output_shapes: tuple[Shape, ...]
    output_bytes: int
    sources: tuple[int, ...] = ()
    inferred: bool = False
    inside: int | None = None
    closes: tuple[int, ...] = ()


@dataclass
class _Call:
    """A call on its way; tokens number calls in the order in which they began, and inputs of the model below zero."""

    place: int
    number: int
    container: int | None
    input_shapes: tuple[Shape, ...]
    sources: list[int]
    inferred: bool
    children: list[int] = field(default_factory=list)
    makers: list[int] = field(default_factory=list)
    output_shapes: tuple[Shape, ...] = ()
    output_bytes: int = 0
    closes: list[int] = field(default_factory=list)


class CallGraph:
    """Writes down calls as they begin and end. The caller keeps their tensors alive, so that no two share an id."""

    def __init__(self) -> None:
        self.start(inputs=(), constants=())

    def start(self, *, inputs: Sequence[Any], constants: Iterable[Any]) -> None:
        """Forget everything and begin a pass.

        Args:
            inputs: Tensors that the model is called with.
            constants: Tensors of its variables: arguments that no call made.
        """
        self.calls: list[_Call] = []
        self.ended: list[int] = []
        self.numbers: Counter[int] = Counter()
        self.open: list[int] = []
        self.outermost: list[int] = []
        self.taken: set[int] = set()
        self.input_shapes = tuple(map(shape_of, inputs))
        self.inputs = [-1 - i for i in range(len(inputs))]
        self.maker = {id(tensor): -1 - i for i, tensor in enumerate(inputs)}
        self.constants = {id(tensor) for tensor in constants}

    def begin(self, place: int, arguments: Sequence[Any]) -> None:
        """A place is called.

        Args:
            place: Its index.
            arguments: Its tensor arguments.
        """
        sources, inferred = self._sources(arguments)
        self.taken.update(sources)
        container = self.open[-1] if self.open else None
        call = _Call(place, self.numbers[place], container, tuple(map(shape_of, arguments)), sources, inferred)
        self.numbers[place] += 1
        self._children().append(len(self.calls))
        self.open.append(len(self.calls))
        self.calls.append(call)

    def end(self, results: Sequence[Any]) -> None:
        """The place that was called last returns.

        Args:
            results: The tensors among what it returns.
        """
        token = self.open[-1]
        call = self.calls[token]
        call.output_shapes = tuple(map(shape_of, results))
        call.output_bytes = sum(map(bytes_of, results))
        if call.children and any(self.maker.get(id(tensor), -1) < token for tensor in results):
            call.closes = self._loose_ends()
            self.taken.update(call.closes)
        for tensor in results:
            # What a layer hands on as an inner one returned it stays the inner one's; else it is its own, also where
            # it returns its argument, as dropout does at inference.
            if self.maker.get(id(tensor), -1) <= token:
                self.maker[id(tensor)] = token
            call.makers.append(self.maker[id(tensor)])
        self.open.pop()
        self.ended.append(token)

    def firings(self) -> tuple[Firing, ...]:
        """The calls in the order in which they ended."""
        position = {token: i for i, token in enumerate(self.ended)} | {source: source for source in self.inputs}
        return tuple(
            Firing(
                place=call.place,
                call=call.number,
                input_shapes=call.input_shapes,
                output_shapes=call.output_shapes,
                output_bytes=call.output_bytes,
                sources=tuple(position[source] for source in call.sources),
                inferred=call.inferred,
                inside=None if call.container is None else position[call.container],
                closes=tuple(position[token] for token in call.closes),
            )
            for call in (self.calls[token] for token in self.ended)
        )

    def _sources(self, arguments: Sequence[Any]) -> tuple[list[int], bool]:
        known = [self.maker[id(t)] for t in arguments if id(t) in self.maker]
        unknown = [t for t in arguments if id(t) not in self.maker and id(t) not in self.constants]
        # A mask or positions beside a known argument are no branch of their own.
        inferred = any(keras.backend.is_float_dtype(t.dtype) for t in unknown) or bool(unknown and not known)
        guessed = self._guess(has_known=bool(known)) if inferred else []
        if not self._children() and all(shape_of(tensor) in self._given() for tensor in unknown):
            # The first layer gets its container's argument in another float type.
            inferred = False
        return list(dict.fromkeys([*known, *guessed])), inferred

    def _given(self) -> tuple[Shape, ...]:
        """Shapes of what the open container, or the model, was called with."""
        return self.calls[self.open[-1]].input_shapes if self.open else self.input_shapes

    def _guess(self, *, has_known: bool) -> list[int]:
        """Where an argument may come from that no call returned."""
        if self._children():
            loose = [token for token in self._loose_ends() if token not in self.taken]
            return loose if loose or has_known else self._loose_ends()
        return list(self.calls[self.open[-1]].sources) if self.open else list(self.inputs)

    def _loose_ends(self) -> list[int]:
        """Results within the open container that nothing has taken; the last ones where all were."""
        children = self._children()
        loose = [m for child in children for m in self.calls[child].makers if m not in self.taken]
        return list(dict.fromkeys(loose or self.calls[children[-1]].makers))

    def _children(self) -> list[int]:
        return self.calls[self.open[-1]].children if self.open else self.outermost


def tensors_of(tree: Any) -> list[Any]:
    """The tensors in any nesting."""
    return [leaf for leaf in keras.tree.flatten(tree) if keras.ops.is_tensor(leaf)]


def shape_of(tensor: Any) -> Shape:
    """Its shape; None for sizes that are not known while tracing."""
    return tuple(None if size is None else int(size) for size in tensor.shape)


def bytes_of(tensor: Any) -> int:
    """Memory of a tensor or variable; an unknown size counts as 1."""
    return item_bytes(tensor.dtype) * math.prod(size or 1 for size in shape_of(tensor))


def item_bytes(dtype: Any) -> int:
    """Bytes of one element; a reference where elements are strings."""
    bits = re.search(r"\d+", keras.backend.standardize_dtype(dtype).replace("bool", "8").replace("string", "64"))
    return 1 if bits is None else math.ceil(int(bits[0]) / 8)
