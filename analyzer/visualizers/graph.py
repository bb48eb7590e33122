"""The graph of a model's layers, made small enough to draw: blocks, chains and repetitions become one box each."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from analyzer.data_types.cost import CostResult, LayerCost, Shape

FEWEST = 6
"""Boxes below which a model's own containers say too little."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Box:
    """One box of the picture.

    Attributes:
        id: Id of its first layer, or of the input.
        title: What is written on it.
        kinds: Classes of its layers in order; empty for an input.
        layers: Ids of its layers, those that others call included.
        shape: Shape of its result for one sample; None where it has several results.
        parameters: Of all its layers.
        flops: Of all its layers that can be counted; None where none can.
        counted: Whether all can.
        sources: Whether the edge is a guess, by id of the box that it comes from.
        times: How many equal blocks it stands for.
    """

    id: str
    title: str
    kinds: tuple[str, ...]
    layers: tuple[str, ...]
    shape: Shape | None
    parameters: int
    flops: int | None
    sources: Mapping[str, bool]
    counted: bool = True
    times: int = 1


Grouping = Mapping[str, str]
"""Key of the group by id of the box."""


def sketch(cost: CostResult, most: int) -> tuple[Box, ...]:
    """The graph of a model in at most so many boxes, in order of execution, inputs first.

    Args:
        cost: The model's costs, with its layers.
        most: Most boxes beside the inputs.
    """
    boxes = _all_boxes(cost)
    if len(boxes) <= most:
        return boxes
    for depth in reversed(range(_depth(cost))):
        by_container = _merge(boxes, _containers(cost, boxes, depth))
        if FEWEST <= len(by_container) <= most:
            return by_container
    for group in (_light_followers, _branches, _repetitions):
        boxes = _merge(boxes, group(boxes), repeats=group is _repetitions)
        if len(boxes) <= most:
            return boxes
    return _merge(boxes, _runs(boxes, most))


# ------------------------------------------------------------------------------------------------- from layers to boxes
def _all_boxes(cost: CostResult) -> tuple[Box, ...]:
    """A box per call; a composite layer that computes by itself, such as attention, is one box with all within."""
    layers = {layer.id: layer for layer in cost.layers}
    drawn = {layer.id: _representative(layer, layers) for layer in cost.layers}
    members: dict[str, list[LayerCost]] = {}
    for layer in cost.layers:
        key = drawn[layer.id]
        if key is not None:
            members.setdefault(key, []).append(layer)
    inputs = tuple(
        Box(id=one.id, title=one.id, kinds=(), layers=(), shape=one.shape, parameters=0, flops=0, sources={})
        for one in cost.inputs
    )
    return (*inputs, *(_box(layers[key], group, drawn) for key, group in members.items()))


def _representative(layer: LayerCost, layers: Mapping[str, LayerCost]) -> str | None:
    """Id of the box that shows a layer; None for containers that only call others."""
    shown = layer.id if not layer.composite or layer.closes or _computes(layer) else None
    above = layer
    while above.inside is not None:
        above = layers[above.inside]
        if _computes(above):
            shown = above.id
    return shown


def _computes(layer: LayerCost) -> bool:
    return layer.composite and bool(layer.flops or layer.parameters)


def _box(head: LayerCost, members: Sequence[LayerCost], drawn: Mapping[str, str | None]) -> Box:
    sources: dict[str, bool] = {}
    for layer in members:
        inner = layer.composite and bool(layer.closes)
        for source in layer.closes if inner else layer.sources:
            at = drawn.get(source, source)
            if at is not None and at != head.id:
                sources[at] = sources.get(at, True) and (layer.sources_inferred or inner)
    flops = [layer.flops for layer in members]
    return Box(
        id=head.id,
        title=head.id,
        kinds=(head.kind,),
        layers=tuple(layer.id for layer in members),
        shape=head.output_shapes[0] if len(head.output_shapes) == 1 else None,
        parameters=sum(layer.parameters for layer in members),
        flops=_total(flops),
        counted=None not in flops,
        sources=sources,
    )


# -------------------------------------------------------------------------------------------------------- merging boxes
def _merge(boxes: Sequence[Box], groups: Grouping, *, repeats: bool = False) -> tuple[Box, ...]:
    members: dict[str, list[Box]] = {}
    for box in boxes:
        members.setdefault(groups[box.id], []).append(box)
    ids = {key: group[0].id for key, group in members.items()}
    now = {box.id: ids[groups[box.id]] for box in boxes}
    merged = []
    for group in members.values():
        others = [layer for box in boxes if now[box.id] != group[0].id for layer in box.layers]
        merged.append(_merged(group, now, others, repeats=repeats))
    return tuple(merged)


def _merged(group: Sequence[Box], now: Mapping[str, str], others: Sequence[str], *, repeats: bool) -> Box:
    first, last = group[0], group[-1]
    sources: dict[str, bool] = {}
    for box in group:
        for source, guess in box.sources.items():
            if now[source] != first.id:
                sources[now[source]] = sources.get(now[source], True) and guess
    if len(group) == 1:
        return dataclasses.replace(first, sources=sources)
    flops = [box.flops for box in group]
    return Box(
        id=first.id,
        title=_common_title(group, others),
        kinds=first.kinds if repeats else tuple(kind for box in group for kind in box.kinds),
        layers=tuple(layer for box in group for layer in box.layers),
        shape=last.shape,
        parameters=sum(box.parameters for box in group),
        flops=_total(flops),
        counted=all(box.counted for box in group),
        sources=sources,
        times=len(group) if repeats else 1,
    )


def _total(flops: Sequence[int | None]) -> int | None:
    known = [n for n in flops if n is not None]
    return sum(known) if known else None


_SIGNS = "_/.-"
"""What separates words in names of layers."""


def _continues(name: str, shared: str) -> bool:
    return name[len(shared) :][:1] in ("", *_SIGNS)


def _common_title(group: Sequence[Box], others: Sequence[str]) -> str:
    """What names begin with, up to a sign that separates words, if no other layer's does; else the first and last."""
    names = [layer for box in group for layer in box.layers]
    pairs = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    shared = "".join(letters[0] for letters in pairs)
    if not all(_continues(name, shared) for name in names):
        shared = shared[: max(shared.rfind(sign) for sign in _SIGNS) + 1]
    shared = shared.rstrip(_SIGNS)
    if len(shared) > 2 and not any(name.startswith(shared) and _continues(name, shared) for name in others):
        return shared
    return f"{group[0].title.split(' … ')[0]} … {group[-1].title.split(' … ')[-1]}"


# ----------------------------------------------------------------------------------------------------- ways of grouping
def _depth(cost: CostResult) -> int:
    layers = {layer.id: layer for layer in cost.layers}
    return max((len(_owners(layer, layers)) for layer in cost.layers), default=0)


def _owners(layer: LayerCost, layers: Mapping[str, LayerCost]) -> list[str]:
    """Ids of the calls that a call happened in, outermost first."""
    found: list[str] = []
    while layer.inside is not None:
        layer = layers[layer.inside]
        found.insert(0, layer.id)
    return found


def _containers(cost: CostResult, boxes: Sequence[Box], depth: int) -> Grouping:
    """By the container at a depth; 0 is what the model itself calls."""
    layers = {layer.id: layer for layer in cost.layers}
    groups = {}
    for box in boxes:
        owners = [*_owners(layers[box.id], layers), box.id] if box.id in layers else [box.id]
        groups[box.id] = owners[min(depth, len(owners) - 1)]
    return groups


def _consumers(boxes: Sequence[Box]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {box.id: [] for box in boxes}
    for box in boxes:
        for source in box.sources:
            found[source].append(box.id)
    return found


def _follows(box: Box, consumers: Mapping[str, list[str]]) -> str | None:
    """The box before, where nothing else comes from there and nothing else leads here."""
    only = next(iter(box.sources)) if len(box.sources) == 1 else None
    return only if only is not None and len(consumers[only]) == 1 else None


def _chains(boxes: Sequence[Box], joins: Callable[[Box, Box], bool]) -> Grouping:
    """Each box goes to the group of the one before, where they form a chain and may be joined."""
    consumers, by_id = _consumers(boxes), {box.id: box for box in boxes}
    groups: dict[str, str] = {}
    for box in boxes:
        before = _follows(box, consumers)
        joined = before is not None and bool(by_id[before].kinds) and joins(by_id[before], box)
        groups[box.id] = groups[before] if joined and before is not None else box.id
    return groups


_LIGHT = ("Normalization", "Activation", "ReLU", "Relu", "Dropout", "Padding", "Swish", "Silu", "Multiply", "Softmax")


def _light_followers(boxes: Sequence[Box]) -> Grouping:
    """Normalisation, activation and the like belong to what they follow."""
    return _chains(boxes, lambda _before, box: any(word in box.kinds[0] for word in _LIGHT))


def _branches(boxes: Sequence[Box]) -> Grouping:
    """All between two boxes that every path goes through is one block, which ends with the latter of the two."""
    place = {box.id: i for i, box in enumerate(boxes)}
    longest = [max((place[c] for c in after), default=0) for after in _consumers(boxes).values()]
    reach = list(itertools.accumulate(longest, max, initial=0))
    groups: dict[str, str] = {}
    start = 0
    for i, box in enumerate(boxes):
        if not box.kinds or reach[i] <= i:
            # Nothing passes by: the block that ran up to here ends.
            for member in boxes[start : i + 1]:
                groups[member.id] = boxes[start].id if member.kinds else member.id
            start = i + 1
    return groups | {box.id: boxes[start].id for box in boxes[start:]}


def _repetitions(boxes: Sequence[Box]) -> Grouping:
    """Blocks of equal layers, one after the other."""
    return _chains(boxes, lambda before, box: _signature(before) == _signature(box))


def _signature(box: Box) -> tuple[str, ...]:
    return tuple(sorted(box.kinds))


def _runs(boxes: Sequence[Box], most: int) -> Grouping:
    """Equal shares of the order of execution."""
    inner = [box.id for box in boxes if box.kinds]
    each = math.ceil(len(inner) / most)
    runs = {key: inner[i - i % each] for i, key in enumerate(inner)}
    return {box.id: runs.get(box.id, box.id) for box in boxes}


def kinds_in_words(box: Box) -> str:
    """Its class, or how many layers of which classes, the most frequent first."""
    if len(box.kinds) == 1:
        return box.kinds[0]
    return ", ".join(f"{n} {kind}" if n > 1 else kind for kind, n in Counter(box.kinds).most_common())
