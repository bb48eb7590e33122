"""`prune`: the same model without some of its channels, physically smaller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.diagnosis.channel_contributions import contributions, weakest
from analyzer.diagnosis.channel_groups import channel_groups
from analyzer.diagnosis.channel_parts import ChannelGroup
from analyzer.diagnosis.kernel_channels import PRUNABLE, is_graph
from analyzer.errors import AnalyzerError, ConfigError, ModelError
from analyzer.inspection import compat, inputs
from analyzer.inspection.features import arranged_for, check_whole, open_on, opened
from analyzer.inspection.guard import untouched_process
from analyzer.inspection.instrumented import Edit, Instrumented, joined
from analyzer.inspection.selection import select_layers
from analyzer.inspection.view import ModelView, open_model

Removed = Mapping[str, NDArray[np.int64]]
"""Channels by id of the layer."""

TRIED_ON = 8
"""Samples on which the pruned model is compared with the masked one before it is handed out."""

_WIDTH = {"Dense": "units"}
"""What a layer calls its number of output channels; ``filters`` for all kinds of convolutions."""


def prune(
    model: keras.Model | str | Path,
    channels: Mapping[str, Sequence[int]] | None = None,
    *,
    fraction: float | None = None,
    x: Any = None,
    batch_size: int = 128,
) -> keras.Model:
    """A new, smaller model without some output channels of Dense and convolutional layers.

    What hangs on a channel goes with it: batch normalisation, depthwise convolutions, and the weights by which later
    layers take it in. The result equals the model with these channels at 0 wherever a kernel takes them in, which is
    checked on a few samples before it is returned. Nothing is trained: compile it and train on to recover what was
    lost.

    Args:
        model: A built Functional or Sequential model, or the path of a ``.keras`` file; it stays as it is.
        channels: Which channels, by name or id of the layer.
        fraction: Instead: this share of the channels of every layer that can be pruned, those first that bring least to
            the layers that take them in: root mean square of the channel on x times the norm of its weights there (as
            Sun et al. 2023, arXiv 2306.11695, for single weights). Layers that cannot be pruned stay whole.
        x: Samples; needed for ``fraction``, and used for the check.
        batch_size: Most samples per batch.

    Returns:
        A new model of the same kind with the names of the given one; not compiled.

    Raises:
        ConfigError: If a layer cannot be pruned, with the reason and the layer that stands against it; or if channels
            do not exist.
        ModelError: If the model is no graph of layers, no layer of it can be pruned, or a copy cannot be made.
        DataError: If x does not fit the model.
    """
    check_whole("batch_size", batch_size)
    if (channels is None) == (fraction is None):
        raise ConfigError("prune takes either channels={layer: [0, 5]} or fraction=0.25, one of them.")
    if fraction is not None and (isinstance(fraction, bool) or not 0 < fraction < 1):
        raise ConfigError(f"fraction={fraction!r}: expected a share above 0 and below 1.")
    if fraction is not None and x is None:
        raise ConfigError("fraction= ranks channels by what they bring on samples: give x.")
    with opened(model) as live, untouched_process():
        arranged = None if x is None else arranged_for(live, x)
        view = open_model(live) if arranged is None else open_on(live, arranged)
        groups, refused = groups_of(view)
        if channels is not None:
            removed = _named(view, channels, groups, refused)
        else:
            scores = contributions(view, groups, arranged, batch_size)
            removed = weakest(scores, float(fraction or 0.0))
        return pruned(view, groups, removed, arranged)


def groups_of(view: ModelView) -> tuple[dict[str, ChannelGroup], dict[str, str]]:
    """Layers that can be pruned, and why others cannot.

    Args:
        view: The opened model.

    Raises:
        ModelError: If the model is no graph, or nothing in it can be pruned.
    """
    if not is_graph(view.model) or not view.firings:
        raise ModelError(
            f"The model {view.model.name!r} is no Functional or Sequential model: what follows what is only in its "
            "code, so that no smaller copy can be made."
        )
    groups, refused = channel_groups(view)
    if not groups:
        why = "; ".join(f"{name}: {reason}" for name, reason in list(refused.items())[:5])
        raise ModelError(f"No layer of {view.model.name!r} can be pruned. {why or 'It has none with a kernel.'}")
    return groups, refused


def pruned(view: ModelView, groups: Mapping[str, ChannelGroup], removed: Removed, arranged: Any | None) -> keras.Model:
    """The smaller model.

    Args:
        view: The opened model.
        groups: Layers that can be pruned.
        removed: Channels that go.
        arranged: Samples for the check; None for made-up ones.

    Raises:
        ModelError: If a copy cannot be made, or does not equal the masked model.
    """
    model = view.model
    kept = _kept(groups, removed)
    copies = _Copies(groups, removed)
    try:
        smaller = copies.of_graph(model)
        for old, new in copies.made:
            if isinstance(old, keras.layers.Layer):
                _hand_over(old, new, kept)
    except AnalyzerError:
        raise
    except Exception as error:
        raise ModelError(
            f"No smaller copy of {model.name!r} can be made: {type(error).__name__}: {error} Layers of your own need "
            "get_config and from_config, and must not depend on the number of channels."
        ) from error
    _check_equal(view, groups, removed, smaller, arranged)
    return smaller


class _Copies:
    """Copies of the parts of a model with fewer channels, each part once.

    Args:
        groups: Layers that can be pruned.
        removed: Channels that go.
    """

    def __init__(self, groups: Mapping[str, ChannelGroup], removed: Removed) -> None:
        self.made: list[tuple[Any, Any]] = []
        self._by_id: dict[int, Any] = {}
        self._widths = {
            id(groups[name].layer.layer): groups[name].n_channels - len(gone) for name, gone in removed.items()
        }
        self._openings: dict[tuple[int, int, int], NDArray[np.bool_]] = {}
        for name, gone in removed.items():
            for one in groups[name].openings:
                key = (id(one.container), one.argument, one.axis)
                stays = ~np.isin(one.index, gone)
                self._openings[key] = self._openings.get(key, np.ones_like(stays)) & stays

    def of_graph(self, model: keras.Model) -> keras.Model:
        """A copy of a Functional or Sequential model, nested ones included."""
        # The copy of a compiled model would be compiled with an optimiser state that does not fit it.
        with compat.replaced(model, "compiled", False):
            return keras.models.clone_model(model, clone_function=self.of, input_tensors=self._inputs(model))

    def of(self, place: Any) -> Any:
        """A copy of a layer, an operation or a nested model."""
        if id(place) not in self._by_id:
            self._by_id[id(place)] = self.of_graph(place) if is_graph(place) else self._of_part(place)
        return self._by_id[id(place)]

    def _of_part(self, place: Any) -> Any:
        config = place.get_config()
        if id(place) in self._widths:
            config = {**config, _WIDTH.get(type(place).__name__, "filters"): self._widths[id(place)]}
        new = type(place).from_config(config)
        self.made.append((place, new))
        return new

    def _inputs(self, model: keras.Model) -> Any:
        """New inputs of a nested model that receives fewer channels; None where its own will do."""
        shapes = [list(tensor.shape) for tensor in model.inputs]
        changed = False
        for (container, argument, axis), stays in self._openings.items():
            if container == id(model):
                shapes[argument][axis], changed = int(stays.sum()), True
        if not changed:
            return None
        made = [
            keras.Input(batch_shape=shape, dtype=tensor.dtype, name=tensor.name)
            for shape, tensor in zip(shapes, model.inputs, strict=True)
        ]
        return made[0] if isinstance(model, keras.Sequential) else keras.tree.pack_sequence_as(model.input, made)


def _kept(groups: Mapping[str, ChannelGroup], removed: Removed) -> dict[int, list[tuple[int, NDArray[np.bool_]]]]:
    """Axes and positions that stay, by id of the variable."""
    found: dict[int, list[tuple[int, NDArray[np.bool_]]]] = {}
    for name, gone in removed.items():
        for cut in groups[name].cuts:
            stays = ~np.isin(cut.index, gone)
            found.setdefault(id(getattr(cut.layer, cut.variable)), []).append((cut.axis, stays))
    return found


def _hand_over(old: keras.layers.Layer, new: keras.layers.Layer, kept: Mapping[int, Any]) -> None:
    """Give a copied layer the weights that are left of the old one's."""
    if len(old.weights) != len(new.weights):
        raise ModelError(f"The copy of layer {old.name!r} has {len(new.weights)} weights, not {len(old.weights)}.")
    for source, target in zip(old.weights, new.weights, strict=True):
        value = keras.ops.convert_to_numpy(source)
        masks: dict[int, NDArray[np.bool_]] = {}
        for axis, stays in kept.get(id(source), ()):
            masks[axis] = masks.get(axis, np.ones_like(stays)) & stays
        for axis, stays in masks.items():
            value = np.compress(stays, value, axis=axis)
        target.assign(value)


def _named(
    view: ModelView,
    channels: Mapping[str, Sequence[int]],
    groups: Mapping[str, ChannelGroup],
    refused: Mapping[str, str],
) -> dict[str, NDArray[np.int64]]:
    """The channels that the user names, checked."""
    removed: dict[str, NDArray[np.int64]] = {}
    for given, numbers in channels.items():
        for info in select_layers(view, given):
            if info.id not in groups:
                kinds = ", ".join(sorted(kind.__name__ for kind in PRUNABLE))
                why = refused.get(info.id, f"It is a {info.kind}; channels are those of {kinds}.")
                raise ConfigError(f"Layer {info.id!r} cannot be pruned: {why}")
            removed[info.id] = _checked(info.id, numbers, groups[info.id].n_channels)
    removed = {name: gone for name, gone in removed.items() if len(gone)}
    if not removed:
        raise ConfigError(f"channels={dict(channels)!r} names no channel: give {{layer: [numbers]}}.")
    return removed


def _checked(layer: str, numbers: Sequence[int], n_channels: int) -> NDArray[np.int64]:
    given = np.asarray(list(numbers))
    if given.size == 0:
        return np.zeros(0, np.int64)
    if given.ndim != 1 or given.dtype.kind not in "iu" or given.min() < 0 or given.max() >= n_channels:
        raise ConfigError(
            f"Channels {list(numbers)} of layer {layer!r}: expected whole numbers from 0 to {n_channels - 1}."
        )
    unique = np.unique(given).astype(np.int64)
    if len(unique) == n_channels:
        raise ConfigError(f"Layer {layer!r} would lose all of its {n_channels} channels; at least one must stay.")
    return unique


def _check_equal(
    view: ModelView,
    groups: Mapping[str, ChannelGroup],
    removed: Removed,
    smaller: keras.Model,
    arranged: Any | None,
) -> None:
    """Compare with the given model, channels masked: a config need not hold all that a layer computes with."""
    tried = _trial(view) if arranged is None else inputs.take(arranged, slice(0, TRIED_ON))
    edits: dict[tuple[int, int], list[Edit]] = {}
    for name, gone in removed.items():
        for carrier in groups[name].carriers:
            key = (-1 if carrier.call.place is None else carrier.call.place, carrier.call.call)
            edits.setdefault(key, []).append(_mask(carrier.axis, ~np.isin(carrier.index, gone)))
    masked = joined(Instrumented(view=view, read=(), edits=edits, compiled=True).batches(tried, TRIED_ON)).outputs
    own = joined(Instrumented(view=open_on(smaller, tried), read=(), compiled=True).batches(tried, TRIED_ON)).outputs
    half = keras.backend.standardize_dtype(view.model.compute_dtype) in ("float16", "bfloat16")
    for wanted, got in zip(keras.tree.flatten(masked), keras.tree.flatten(own), strict=True):
        scale = max(1.0, float(np.abs(wanted).max(initial=0.0)))
        if not np.allclose(wanted, got, rtol=0, atol=scale * (5e-2 if half else 1e-4), equal_nan=True):
            raise ModelError(
                f"The smaller copy of {view.model.name!r} does not compute what the model does with these channels at "
                "0. A layer's config does not hold all that it computes with."
            )


def _mask(axis: int, stays: NDArray[np.bool_]) -> Edit:
    def masked(result: Any, rows: NDArray[np.int64]) -> Any:
        del rows
        shape = [1] * len(result.shape)
        shape[axis] = len(stays)
        return keras.ops.where(keras.ops.convert_to_tensor(stays.reshape(shape)), result, keras.ops.zeros_like(result))

    return masked


def _trial(view: ModelView) -> Any:
    """Random inputs in the declared shape; zeros for a model that looks ids up."""
    zeros = inputs.example(view.model, TRIED_ON)
    if any(isinstance(info.layer, keras.layers.Embedding) for info in view.layers):
        return zeros
    rng = np.random.default_rng(0)
    return keras.tree.map_structure(
        lambda array: rng.normal(size=array.shape).astype(array.dtype) if array.dtype.kind == "f" else array, zeros
    )
