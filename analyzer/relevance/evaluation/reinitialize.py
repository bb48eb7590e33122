"""Drawing the parameters of a model anew, with the initialisers that its layers have, without touching the model."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.backends import engine
from analyzer.inspection.guard import untouched_process
from analyzer.inspection.initial_scale import initializer_of
from analyzer.inspection.view import ModelView, VariableInfo
from analyzer.measures.random_streams import stream

Values = Mapping[int, Any]
"""Values that stand for those of variables, by ``id`` of the variable."""

_DATA_STATISTICS = (keras.layers.Normalization, keras.layers.Discretization)
"""Layers whose variables describe the data, not what was learned."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Redrawn:
    """New values for one layer.

    Attributes:
        layer: Id of the layer.
        values: By ``id`` of the variable, as tensors of the backend; at least one of them differs from the model's.
    """

    layer: str
    values: dict[int, Any]


def redraw(view: ModelView, seed: int = 0) -> tuple[tuple[Redrawn, ...], dict[str, str]]:
    """Draw the parameters of every layer anew.

    Each variable comes from its layer's own initialiser under a seed of its own: an initialiser without one would give
    the very weights that training began with. A variable without a known initialiser is drawn from a normal
    distribution with the mean and standard deviation of its own values (its magnitude, where all are equal); quantised
    weights are shuffled. Statistics that do not train and have no initialiser stay as they are.

    Args:
        view: The opened model.
        seed: Decides all draws; a variable's do not depend on those of others.

    Returns:
        Layers in order of execution, none of which is left as it was; and the reason by layer id for those that are.
    """
    by_layer: dict[str, list[tuple[int, VariableInfo]]] = {}
    for number, info in enumerate(view.variables):
        by_layer.setdefault(info.owner.id, []).append((number, info))
    drawn, skipped = [], {}
    with untouched_process():
        for layer, numbered in by_layer.items():
            values: dict[int, Any] = {}
            changed = False
            for number, info in numbered:
                made = _drawn(info, stream(seed, number))
                if made is not None:
                    values[id(info.variable)] = keras.ops.convert_to_tensor(made, dtype=info.variable.dtype)
                    changed |= not np.array_equal(made, engine().to_numpy(info.variable.value))
            if changed:
                drawn.append(Redrawn(layer=layer, values=values))
            else:
                skipped[layer] = (
                    "its initialisers give the values that it has" if values else "nothing in it was learned"
                )
    return tuple(drawn), skipped


def _drawn(info: VariableInfo, rng: np.random.Generator) -> NDArray[Any] | None:
    """New values of a variable; None where it holds nothing that training decides."""
    layer = info.owner.layer
    if isinstance(layer, _DATA_STATISTICS):
        return None
    current = engine().to_numpy(info.variable.value)
    initializer = initializer_of(layer, info.name)
    if not keras.backend.is_float_dtype(info.variable.dtype):
        stores_weights = initializer is not None or info.name.startswith("quantized")
        quantized = getattr(layer, "quantization_mode", None) is not None and stores_weights
        return rng.permutation(current.reshape(-1)).reshape(current.shape) if quantized else None
    if initializer is not None:
        return _initial(initializer, layer, info, rng)
    # A frozen layer's variables do not train either, yet they were learned.
    if not info.trainable and layer.trainable:
        return None
    wide = current.astype(np.float64)
    spread = wide.std() or abs(wide.mean())
    return rng.normal(wide.mean(), spread, wide.shape).astype(current.dtype)


def _initial(initializer: Any, layer: keras.layers.Layer, info: VariableInfo, rng: np.random.Generator) -> NDArray[Any]:
    fresh = copy.copy(initializer)
    if hasattr(fresh, "seed"):
        fresh.seed = int(rng.integers(2**31))
    made = engine().to_numpy(keras.ops.convert_to_tensor(fresh(tuple(info.variable.shape), dtype=info.variable.dtype)))
    if info.name == "bias" and getattr(layer, "unit_forget_bias", False):
        made = made.copy()
        made[layer.units : 2 * layer.units] = 1
    return made
