"""`layer_outputs`: what any layer of any model puts out, as arrays."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.data_input import DataInput
from analyzer.errors import ConfigError, DataError
from analyzer.inspection import inputs
from analyzer.inspection.guard import untouched_process
from analyzer.inspection.instrumented import Arrays, Instrumented
from analyzer.inspection.selection import LayerCall, Layers, select_calls
from analyzer.inspection.sources import ModelSources
from analyzer.inspection.view import ModelView, open_model

Post = Callable[[NDArray[Any]], Any]
"""From the output of a layer for one batch to what is kept of it, one row per sample."""


@dataclass(frozen=True, kw_only=True)
class LayerOutputs:
    """Outputs of layers.

    Attributes:
        arrays: One row per sample, in the order of the samples. See `Arrays` for the names.
        channels_first: Names of those whose second axis holds the channels.
    """

    arrays: Arrays
    channels_first: frozenset[str]


def layer_outputs(
    model: keras.Model | str | Path,
    x: Any,
    layers: Layers = None,
    *,
    post: Post | None = None,
    batch_size: int = 128,
    n_samples: int | None = None,
    at_most: int | None = None,
) -> LayerOutputs:
    """Outputs of layers at inference; see `analyzer.extraction.features`.

    Args:
        model: A built model, or the path of a ``.keras`` file.
        x: Samples.
        layers: Which layers.
        post: Applied to the array of each layer, one batch at a time.
        batch_size: Most samples per batch.
        n_samples: Only the first of x; None for all.
        at_most: How many outputs the caller has a use for; None for any number.
    """
    check_whole("batch_size", batch_size)
    if n_samples is not None:
        check_whole("n_samples", n_samples)
    if post is not None and not callable(post):
        raise ConfigError(f"post={post!r}: expected a function of an array with one row per sample, or None.")
    with opened(model) as live, untouched_process():
        arranged = arranged_for(live, x)
        if n_samples is not None:
            arranged = inputs.take(arranged, slice(0, n_samples))
        view = open_on(live, arranged)
        calls = select_calls(view, layers)
        if at_most is not None and len(calls) > at_most:
            names = ", ".join(call.id for call in calls[:5])
            raise ConfigError(f"layers={layers!r} selects {len(calls)} outputs ({names}, …), expected {at_most}.")
        arrays = _collected(view, calls, arranged, post or _as_it_is, batch_size)
    first = {c.id for c in calls if getattr(c.layer.layer, "data_format", None) == "channels_first"}
    second = frozenset(name for name in arrays if name in first or name.rpartition("[")[0] in first)
    return LayerOutputs(arrays=arrays, channels_first=second)


def _collected(
    view: ModelView, calls: tuple[LayerCall, ...], arranged: Any, post: Post, batch_size: int
) -> dict[str, NDArray[Any]]:
    rows: dict[str, list[NDArray[Any]]] = {}
    count = 0
    for batch in Instrumented(view=view, read=calls, compiled=True).batches(arranged, batch_size):
        count += 1
        for name, array in batch.results.items():
            rows.setdefault(name, []).append(_processed(post, name, array))
    found = {name: np.concatenate(arrays) for name, arrays in rows.items() if len(arrays) == count}
    if not found:
        raise DataError(
            f"None of the layers {', '.join(call.id for call in calls)} returns a tensor with one row per sample, so "
            "there are no features of samples."
        )
    ordered = {call.id: [n for n in found if n == call.id or n.startswith(f"{call.id}[")] for call in calls}
    return {name: found[name] for names in ordered.values() for name in names}


def _as_it_is(array: NDArray[Any]) -> NDArray[Any]:
    return array


def _processed(post: Post, name: str, array: NDArray[Any]) -> NDArray[Any]:
    made = np.asarray(post(array))
    if made.ndim == 0 or len(made) != len(array) or made.dtype == object:
        raise DataError(
            f"post returned an array of shape {made.shape} and dtype {made.dtype} for {len(array)} samples of layer "
            f"{name!r}, whose output has shape {array.shape}. It sees one batch at a time: return one row per sample."
        )
    return made


def check_whole(name: str, value: Any) -> None:
    """Refuse an option that is no whole number of at least 1.

    Raises:
        ConfigError: With what came.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ConfigError(f"{name}={value!r}: expected a whole number of at least 1.")


@contextlib.contextmanager
def opened(model: Any) -> Iterator[keras.Model]:
    """A live model as it is, or the model in a `.keras` file for the length of the scope.

    Args:
        model: A built model, or the path of a file.

    Raises:
        ModelError: If it was never built, is no Keras model, or its file cannot be opened.
    """
    name = getattr(model, "name", None)
    name = name if isinstance(name, str) and name else "model"
    with ModelSources({name: model}).opened(name) as live:
        yield live


def arranged_for(model: keras.Model, x: Any) -> Any:
    """Samples in the structure that the model is called with, checked.

    Raises:
        DataError: If there are none, or they do not fit the model.
    """
    return inputs.arrange(model, DataInput(list(x) if isinstance(x, tuple) else x).x_data)


def open_on(model: keras.Model, arranged: Any) -> ModelView:
    """Open a model on the first of some samples, so that its layers are known in order of execution."""
    return open_model(model, inputs.take(arranged, slice(0, inputs.fixed_batch_size(model) or 1)))
