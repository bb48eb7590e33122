"""Calling a model without its last softmax and sigmoid, and with no other change."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras

from analyzer.inspection import compat
from analyzer.relevance.tracing import Plan


@contextlib.contextmanager
def logits_out(plan: Plan) -> Iterator[None]:
    """A scope in which the model returns its logits where a last softmax or sigmoid can be left out.

    Args:
        plan: The model's plan; see `analyzer.relevance.tracing.Plan.cut`.
    """
    view = plan.view
    with contextlib.ExitStack() as scope:
        for head in view.heads:
            if head.place is None or head.place not in plan.cut:
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
