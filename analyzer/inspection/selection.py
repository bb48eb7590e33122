"""`layers=`: names, ids, classes, layers or a predicate, as layers of an opened model and as their calls."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from analyzer.config import check_names
from analyzer.errors import ConfigError
from analyzer.inspection import compat
from analyzer.inspection.view import LayerInfo, ModelView

Selector = str | type[Any] | Callable[[LayerInfo], bool] | Any
"""One entry of ``layers=``: see `select_layers`."""

Layers = Selector | Sequence[Selector] | None

_CALL = re.compile(r"(?P<name>.+)@(?P<number>[1-9][0-9]*)", re.DOTALL)

_EXPECTED = (
    "expected the name or id of a layer ('dense', 'encoder/dense'), one of its calls ('dense@2'), a layer class or its "
    "name (keras.layers.Dense, 'Dense'), a layer of this model, a function of a LayerInfo that returns True or False, "
    "or a list of these; None for all layers."
)


@dataclass(frozen=True, kw_only=True)
class LayerCall:
    """One call of one layer in a forward pass.

    Attributes:
        id: The layer's id for its first call; ``"<id>@2"``, ``"<id>@3"``, … for further ones.
        layer: The layer, or in a Functional model an operation such as a written ``x + y``.
        place: Its index in `ModelView.places`; None for the model itself.
        call: How often it had run before in the pass.
    """

    id: str
    layer: LayerInfo
    place: int | None
    call: int


def select_layers(view: ModelView, layers: Layers = None) -> tuple[LayerInfo, ...]:
    """The layers that ``layers=`` stands for.

    A string is looked up as id, then as call (``"dense@2"``), as name, and as name of a class; a name that several
    layers have means all of them. Ids and names also reach containers (a nested model, an attention layer as a whole),
    the model itself and the operations of a Functional model; classes and predicates see layers, containers included.

    Args:
        view: The opened model.
        layers: Id, name, call, class, name of a class, layer of the model, predicate on `LayerInfo`, or a list of
            those. None stands for every layer that ran and computes something: containers are left out where their
            parts ran, loops (RNN, Bidirectional, TimeDistributed) stand for their parts.

    Returns:
        Each layer once, in order of execution; containers after their parts.

    Raises:
        ConfigError: If something in ``layers`` is unknown, matches nothing, or is none of these.
    """
    return tuple({id(entry.info.layer): entry.info for entry, _ in _matches(view, layers)}.values())


def select_calls(view: ModelView, layers: Layers = None) -> tuple[LayerCall, ...]:
    """The calls in one forward pass that ``layers=`` stands for; a layer means every call of it.

    Args:
        view: The opened model. Where it could not be traced, each layer is taken to run once.
        layers: See `select_layers`.

    Returns:
        Each call once, in order of execution; those of one layer together.

    Raises:
        ConfigError: As `select_layers`, and if a layer that was named never runs by itself, or less often.
    """
    calls: dict[tuple[int, int], LayerCall] = {}
    for entry, number in _matches(view, layers):
        for call in range(entry.ran) if number is None else [number - 1]:
            calls[id(entry.info.layer), call] = _call_of(entry, call)
    return tuple(calls.values())


def every_call(view: ModelView) -> dict[tuple[int, int], LayerCall]:
    """Everything that ran in one forward pass, containers and operations included, by place and call.

    Args:
        view: The opened model.
    """
    found = {}
    for entry in _entries(view):
        if entry.place is not None:
            found.update({(entry.place, call): _call_of(entry, call) for call in range(entry.ran)})
    return found


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """Something that a selector can mean.

    Attributes:
        info: The layer, or what stands for a container, an operation or the model itself.
        place: Its index in `ModelView.places`, if it has one.
        ran: How often it runs in a forward pass.
        position: When it ended for the first time.
        computes: Whether it is part of ``layers=None``.
    """

    info: LayerInfo
    place: int | None
    ran: int
    position: int
    computes: bool


def _call_of(entry: _Entry, call: int) -> LayerCall:
    name = entry.info.id if call == 0 else f"{entry.info.id}@{call + 1}"
    return LayerCall(id=name, layer=entry.info, place=entry.place, call=call)


_Match = tuple[_Entry, int | None]
"""An entry, and the number of one of its calls (from 1) or None for all."""


def _matches(view: ModelView, layers: Layers) -> list[_Match]:
    entries = _entries(view)
    if layers is None:
        return [(entry, None) for entry in entries if entry.computes and entry.ran]
    selectors = list(layers) if isinstance(layers, list | tuple | set | frozenset) else [layers]
    if not selectors:
        raise ConfigError(f"layers={layers!r} names no layer: {_EXPECTED}")
    return sorted((m for one in selectors for m in _match(entries, one)), key=lambda match: match[0].position)


def _match(entries: list[_Entry], selector: Selector) -> list[_Match]:
    if isinstance(selector, str):
        return _match_text(entries, selector)
    if isinstance(selector, keras.Operation):
        found = [entry for entry in entries if entry.info.layer is selector]
        if not found:
            raise ConfigError(f"The layer {selector.name!r} is not part of this model: {_EXPECTED}")
        return _running(entries, [(entry, None) for entry in found], selector.name)
    real = [entry for entry in entries if isinstance(entry.info.layer, keras.Layer)]
    if isinstance(selector, type) and issubclass(selector, keras.Operation):
        chosen, what = [e for e in real if isinstance(e.info.layer, selector)], f"is a {selector.__name__}"
    elif callable(selector) and not isinstance(selector, type):
        chosen, what = [e for e in real if selector(e.info)], f"satisfies {getattr(selector, '__name__', selector)}"
    else:
        raise ConfigError(f"layers={selector!r}: {_EXPECTED}")
    ran = [(entry, None) for entry in chosen if entry.ran]
    if not ran:
        never = " and runs when the model is called for inference" if chosen else ""
        kinds = ", ".join(sorted({entry.info.kind for entry in real}))
        raise ConfigError(f"No layer of this model {what}{never}. Its layers are of the classes {kinds}.")
    return list(ran)


def _match_text(entries: list[_Entry], text: str) -> list[_Match]:
    whole = _by_text(entries, text)
    if whole:
        return _running(entries, [(entry, None) for entry in whole], text)
    call = _CALL.fullmatch(text)
    named = _by_text(entries, call["name"]) if call else []
    if call is None or not named:
        infos = [entry.info for entry in entries]
        known = dict.fromkeys([*(i.id for i in infos), *(i.name for i in infos), *(i.kind for i in infos)])
        check_names([call["name"] if call else text], list(known), what="layer")
    number = int(call["number"]) if call else 0
    often = [(entry, number) for entry in named if entry.ran >= number]
    if not often:
        most = max(entry.ran for entry in named)
        raise ConfigError(f"Layer {text!r}: that layer runs {most} times when the model is called; give @1 to @{most}.")
    return list(often)


def _by_text(entries: list[_Entry], text: str) -> list[_Entry]:
    """By id, else by name, else by the name of the class."""
    by_id = [entry for entry in entries if entry.info.id == text]
    by_name = [entry for entry in entries if entry.info.name == text]
    return by_id or by_name or [e for e in entries if e.info.kind == text and isinstance(e.info.layer, keras.Layer)]


def _running(entries: list[_Entry], matches: list[_Match], named: str) -> list[_Match]:
    """Those that run; an error where none of what was named does."""
    ran = [match for match in matches if match[0].ran]
    if ran:
        return ran
    path = matches[0][0].info.id
    around = [e.info.id for e in entries if e.ran and path.startswith(f"{e.info.id}/")]
    advice = "It is not part of what the model computes at inference."
    if around:
        owner = max(around, key=len)
        advice = f"It is a part of {owner!r}, which runs it in a loop or computes without calling it; take {owner!r}."
    raise ConfigError(f"Layer {named!r} does not run by itself when the model is called. {advice}")


def _entries(view: ModelView) -> list[_Entry]:
    """All that can be selected, in order of execution."""
    first: dict[int, int] = {}
    for position, firing in enumerate(view.firings):
        first.setdefault(firing.place, position)
    ran = Counter(firing.place for firing in view.firings)
    if not view.traced:
        first, ran = {place: place for place in view.places}, Counter(list(view.places))
    last = max(len(view.firings), len(view.places))
    index = {id(place): number for number, place in view.places.items()}
    infos = [*view.layers, *_others(view, ran)]
    own = {id(info.layer) for info in view.layers}
    entries = []
    for info in infos:
        place = index.get(id(info.layer))
        is_model = info.layer is view.model
        parts = any(ran[index[id(part)]] for part, _ in _walk(info.layer) if id(part) in index)
        entries.append(
            _Entry(
                info=info,
                place=place,
                ran=1 if is_model else ran[place] if place is not None else 0,
                position=last if place is None else first.get(place, last),
                computes=id(info.layer) in own or (not parts and isinstance(info.layer, keras.Layer)),
            )
        )
    return sorted(entries, key=lambda entry: entry.position)


def _others(view: ModelView, ran: Counter[int]) -> Iterator[LayerInfo]:
    """What is not in `ModelView.layers`: containers, loops, operations that ran, and the model itself."""
    own = {id(info.layer) for info in view.layers}
    taken = {info.id for info in view.layers}
    firings = {firing.place: firing for firing in reversed(view.firings)}
    paths = {id(part): path for part, path in _walk(view.model)}
    for index, place in [*view.places.items(), (None, view.model)]:
        if id(place) in own:
            continue
        path = paths.get(id(place), place.name)
        count = 1
        while (numbered := path if count == 1 else f"{path}#{count}") in taken:
            count += 1
        taken.add(numbered)
        firing = None if index is None else firings.get(index)
        yield LayerInfo(
            id=numbered,
            name=place.name,
            kind=type(place).__name__,
            order=len(view.layers),
            layer=place,
            input_shapes=firing.input_shapes if firing else (),
            output_shapes=firing.output_shapes if firing else (),
            calls=1 if index is None else ran[index],
        )


def _walk(owner: Any) -> Iterator[tuple[Any, str]]:
    """Everything below a layer, depth first, each once, with the path through its owners."""
    seen: set[int] = set()

    def visit(place: Any, prefix: str) -> Iterator[tuple[Any, str]]:
        parts = [*compat.sublayers(place), *compat.operations(place)] if isinstance(place, keras.Layer) else []
        for part in parts:
            if id(part) not in seen:
                seen.add(id(part))
                yield part, f"{prefix}{part.name}"
                yield from visit(part, f"{prefix}{part.name}/")

    return visit(owner, "")
