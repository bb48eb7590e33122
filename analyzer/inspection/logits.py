"""Calling a model without its last softmax and sigmoid, and with no other change."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras

from analyzer.inspection import compat
from analyzer.inspection.view import ModelView


def last_activations(view: ModelView) -> frozenset[int]:
    """Places of last activations whose result nothing else in the model uses.

    Args:
        view: The opened model.
    """
    taken = {source for firing in view.firings for source in firing.sources}
    used = {firing.place for position, firing in enumerate(view.firings) if position in taken and firing.inside is None}
    return frozenset(
        head.place
        for head in view.heads
        if head.place is not None and head.via in ("activation", "input") and head.place not in used
    )


@contextlib.contextmanager
def logits_out(view: ModelView) -> Iterator[None]:
    """A scope in which the model returns its logits where a last softmax or sigmoid can be left out.

    Args:
        view: The opened model.
    """
    left_out = last_activations(view)
    with contextlib.ExitStack() as scope:
        for head in view.heads:
            if head.place is None or head.place not in left_out:
                continue
            place = view.places[head.place]
            if head.via == "activation":
                scope.enter_context(compat.replaced(place, "activation", keras.activations.linear))
            else:
                scope.enter_context(compat.wrapped_calls({head.place: place}, _handing_on))
        yield


def _handing_on(index: int, call: Callable[..., Any]) -> Callable[..., Any]:
    """Stands in for a softmax or sigmoid layer."""
    del index, call

    def handing_on(x: Any, *args: Any, **kwargs: Any) -> Any:
        del args, kwargs
        return x

    return handing_on
