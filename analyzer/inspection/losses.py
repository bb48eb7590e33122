"""The loss of a task as a function of the backend: one value per sample."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.outputs import OutputData

_CLASSES = ("multiclass", "sequence", "segmentation")


@dataclass(frozen=True, kw_only=True)
class Loss:
    """The loss of one output: a function of targets and outputs that gives one value per sample."""

    text: str
    targets: NDArray[Any]
    values: Callable[[Any, Any], Any]


def loss_of(output: OutputData) -> Loss:
    """The loss that fits the task."""
    kind, n = output.task.kind, output.n
    told = output.labels is not None
    source = "labels" if told else "its own decisions, for no labels were given"
    logits = output.task.from_logits
    if kind in (*_CLASSES, "binary", "multilabel") and output.probabilities is not None:
        labels = output.labels if output.labels is not None else _decisions(output)
        if kind in _CLASSES:
            values = functools.partial(_cross_entropy, from_logits=logits)
        else:
            values = functools.partial(_binary_cross_entropy, from_logits=logits)
        shape = output.raw.shape[:-1] if kind in _CLASSES else output.raw.shape
        targets = np.asarray(labels).reshape(shape).astype("int32" if kind in _CLASSES else "float32")
        return Loss(text=f"cross-entropy against {source}", targets=targets, values=values)
    if kind == "regression" and told:
        targets = np.asarray(output.labels, dtype=np.float32).reshape(output.raw.shape)
        return Loss(text="mean squared error against labels", targets=targets, values=_squared_error)
    return Loss(text="mean square of the outputs", targets=np.zeros((n, 1), np.float32), values=_square)


def _decisions(output: OutputData) -> NDArray[np.int64]:
    probabilities = np.asarray(output.probabilities)
    if output.task.kind in _CLASSES:
        return np.asarray(probabilities.argmax(axis=-1))
    return (probabilities >= 0.5).astype(np.int64)


def _per_sample(values: Any) -> Any:
    return keras.ops.mean(keras.ops.reshape(values, (values.shape[0], -1)), axis=1)


def _cross_entropy(targets: Any, outputs: Any, *, from_logits: bool) -> Any:
    loss = keras.losses.sparse_categorical_crossentropy(targets, outputs, from_logits=from_logits)
    return _per_sample(loss)


def _binary_cross_entropy(targets: Any, outputs: Any, *, from_logits: bool) -> Any:
    return _per_sample(keras.ops.binary_crossentropy(targets, outputs, from_logits=from_logits))


def _squared_error(targets: Any, outputs: Any) -> Any:
    return _per_sample(keras.ops.square(outputs - targets))


def _square(targets: Any, outputs: Any) -> Any:
    del targets
    return _per_sample(keras.ops.square(outputs))
