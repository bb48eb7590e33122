"""Letting every layer of a model compute through its rule for the length of one traced call."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import keras

import analyzer.relevance.layers  # noqa: F401 - registers the rules
from analyzer.inspection import compat
from analyzer.inspection.logits import last_activations
from analyzer.inspection.selection import every_call
from analyzer.inspection.view import ModelView
from analyzer.relevance.flow import Flow, Tensor, is_float
from analyzer.relevance.layers.attention import decomposed
from analyzer.relevance.operations import patched_namespace
from analyzer.relevance.public_ops import ops
from analyzer.relevance.registry import handler_of, is_of_keras
from analyzer.relevance.tokens import passing
from analyzer.relevance.visit import Visit
from analyzer.relevance.written_activations import kept_activations


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is fixed about a model before any pass.

    Attributes:
        view: The opened model.
        places: Where calls are taken over, by index; those inside `TimeDistributed` included.
        ids: Id of each call by place and number.
        cut: Places whose last activation is left out.
        foldable: Ids of calls whose output goes into a BatchNormalization alone.
    """

    view: ModelView
    places: dict[int, Any]
    ids: dict[tuple[int, int], str]
    cut: frozenset[int]
    foldable: frozenset[str]


def plan(view: ModelView) -> Plan:
    """Look at an opened model.

    Args:
        view: The opened model.
    """
    places = dict(view.places)
    for place in list(view.places.values()):
        if isinstance(place, keras.layers.TimeDistributed):
            places.update(
                {len(places) + i: part for i, part in enumerate(_parts(place, set(map(id, places.values()))))}
            )
    ids = {key: call.id for key, call in every_call(view).items()}
    return Plan(view=view, places=places, ids=ids, cut=last_activations(view), foldable=_foldable(view, ids))


def _parts(owner: Any, known: set[int]) -> list[Any]:
    found: list[Any] = []
    inside = compat.sublayers(owner) if isinstance(owner, keras.layers.Layer) else []
    for part in [*compat.operations(owner), *inside]:
        if id(part) not in known:
            known.add(id(part))
            found += [part, *_parts(part, known)]
    return found


def _foldable(view: ModelView, ids: dict[tuple[int, int], str]) -> frozenset[str]:
    taken_by: dict[int, list[Any]] = {}
    for firing in view.firings:
        for source in firing.sources:
            taken_by.setdefault(source, []).append(view.places[firing.place])
    return frozenset(
        ids[firing.place, firing.call]
        for position, firing in enumerate(view.firings)
        if len(taken_by.get(position, ())) == 1
        and isinstance(taken_by[position][0], keras.layers.BatchNormalization)
        and not firing.inferred
    )


@dataclass
class _Calls:
    """Counts the calls of each place in one pass."""

    flow: Flow
    plan: Plan
    numbers: Counter[int] = field(default_factory=Counter)

    def wrap(self, index: int, call: Callable[..., Any]) -> Callable[..., Any]:
        place = self.plan.places[index]
        handler = handler_of(place)
        through = handler is None and _runs_others(place)

        def taken_over(*args: Any, **kwargs: Any) -> Any:
            number = self.numbers[index]
            self.numbers[index] += 1
            name = self.plan.ids.get((index, number)) or f"{place.name}@{number + 1}"
            with self.flow.call(name, type(place).__name__, container=through) as record:
                cut = index in self.plan.cut
                visit = Visit(flow=self.flow, layer=place, record=record, call=call, cut=cut)
                if through:
                    return run_through(visit, *args, **kwargs)
                return (handler or without_rule)(visit, *args, **kwargs)

        return taken_over


def _runs_others(place: Any) -> bool:
    """Whether a place is a model, or runs a user's own code, whose parts have rules."""
    own = isinstance(place, keras.layers.Layer) and not is_of_keras(place)
    return own or isinstance(place, keras.Model | keras.layers.Lambda)


def run_through(visit: Visit, *args: Any, **kwargs: Any) -> Any:
    """Run a container; what is written in it between layers shows as a gap in its books."""
    visit.record.rule.append("its parts")
    args, kwargs = keras.tree.map_structure(
        lambda t: passing(visit, visit.enter(t), "relevance_out"), (list(args), kwargs)
    )
    with decomposed(visit), kept_activations(visit.layer):
        result = visit.call(*args, **kwargs)
        alone = visit.flow.records[-1] is visit.record and not isinstance(visit.layer, keras.Model)
        if alone and visit.flow.options.ledger:
            result = _without_input(visit, result, args, kwargs)
    # A learned table that no input changes (positions) is added somewhere: like a bias it absorbs what arrives at it.
    learned = not isinstance(visit.layer, keras.Model) and bool(visit.layer.variables)

    def left(t: Any) -> Any:
        constant = learned and keras.ops.is_tensor(t) and is_float(t)
        return passing(visit, visit.leave(visit.constant(t) if constant else t), "relevance_in")

    return keras.tree.map_structure(left, result)


def _without_input(visit: Visit, result: Any, args: Any, kwargs: Any) -> Any:
    """Book what a layer written with plain operators gives where its input is 0: of an affine map that is the bias."""
    zero = keras.tree.map_structure(
        lambda t: ops.zeros_like(t) if keras.ops.is_tensor(t) and visit.flow.depends(t) else t, (args, kwargs)
    )
    constant = visit.call(*zero[0], **zero[1])

    def booked(y: Any, c: Any) -> Any:
        return visit.absorb(y, "absorbed_by_bias", ops.cast(c, y.dtype)) if keras.ops.is_tensor(y) else y

    return keras.tree.map_structure(booked, result, constant)


def without_rule(visit: Visit, *args: Any, **kwargs: Any) -> Any:
    """A layer of Keras for which there is no rule: its gradient, by name."""
    visit.flow.unknown.append(f"{visit.record.id} ({visit.record.kind})")
    visit.record.rule.append("gradient, no rule")
    return visit.natural(*args, nonnegative=False, **kwargs)


@contextlib.contextmanager
def relevance_calls(flow: Flow, of: Plan) -> Iterator[None]:
    """A scope in which calling the model runs every layer through its rule."""
    with (
        compat.plain_calls(of.view.model, of.places.values()),
        compat.wrapped_calls(of.places, _Calls(flow, of).wrap),
        patched_namespace(flow),
    ):
        yield


def run_model(flow: Flow, of: Plan, x: Any) -> Any:
    """The model's outputs, its last activations cut, made so that their gradient is relevance.

    Args:
        flow: The pass.
        of: The model's plan.
        x: Inputs in the structure that the model is called with.
    """
    model = of.view.model
    with relevance_calls(flow, of), flow.call(model.name, type(model).__name__, container=True) as record:
        visit = Visit(flow=flow, layer=model, record=record, call=model)

        def entered(t: Tensor) -> Tensor:
            return visit.enter(t)

        return model(keras.tree.map_structure(entered, x), training=False)
