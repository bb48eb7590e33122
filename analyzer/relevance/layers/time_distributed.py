"""TimeDistributed: what it wraps is a place of its own, run once over all time steps."""

from __future__ import annotations

import inspect
from typing import Any

import keras

from analyzer.relevance.flow import Tensor
from analyzer.relevance.layers.recurrence import moved
from analyzer.relevance.public_ops import ops
from analyzer.relevance.registry import handles
from analyzer.relevance.visit import Visit

L = keras.layers


@handles(L.TimeDistributed)
def time_distributed(visit: Visit, inputs: Tensor, training: Any = None, mask: Tensor | None = None) -> Tensor:
    """Steps become samples; relevance goes through the inner layer by its own rules."""
    del training
    x, inner = visit.enter(inputs), visit.layer.layer
    samples, steps = x.shape[:2]
    takes = inspect.signature(type(inner).call).parameters
    options: dict[str, Any] = {"training": False} if "training" in takes else {}
    if mask is not None and "mask" in takes:
        options["mask"] = _joined(mask)
    visit.record.rule.append("its parts")
    y = inner.call(moved(visit, x, _joined), **options)
    return visit.leave(moved(visit, y, lambda t: ops.reshape(t, (samples, steps, *t.shape[1:]))))


def _joined(t: Tensor) -> Tensor:
    return ops.reshape(t, (t.shape[0] * t.shape[1], *t.shape[2:]))
