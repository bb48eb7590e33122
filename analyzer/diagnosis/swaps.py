"""Layers of two versions of a model that can swap their weights, and the game in which they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.backends import engine
from analyzer.diagnosis.layer_pairs import aligned, stable_name
from analyzer.diagnosis.opened_version import Floats, Version
from analyzer.errors import Unsupported
from analyzer.inspection import compat, inputs
from analyzer.inspection.batching import in_batches
from analyzer.inspection.losses import Loss
from analyzer.inspection.trace import named_outputs
from analyzer.inspection.view import ModelView, VariableInfo


@dataclass(frozen=True, kw_only=True, eq=False)
class Swap:
    """One player.

    Attributes:
        layer: Id of the layer in the old version.
        new_layer: Its id in the new version.
        values: Values of the new version, by ``id`` of the old variable that they stand for.
    """

    layer: str
    new_layer: str
    values: dict[int, NDArray[Any]]


def swaps_between(old: ModelView, new: ModelView) -> tuple[list[Swap], tuple[str, ...], dict[str, str]]:
    """Layers to swap, ids of those with equal weights, and why others cannot be swapped, by id.

    Args:
        old: The opened version before.
        new: The opened version after.
    """
    before, after = _by_owner(old), _by_owner(new)
    pairs = aligned([_keys(old, v) for v in before.values()], [_keys(new, v) for v in after.values()])
    olds, news = list(before), list(after)
    swaps, unchanged, skipped = [], [], {}
    for i, j in pairs:
        ours, theirs = before[olds[i]], after[news[j]]
        if not _fit(ours, theirs):
            skipped[olds[i]] = f"{olds[i]} holds {_text(ours)} in the old version, {_text(theirs)} in the new one."
            continue
        values = {id(a.variable): engine().to_numpy(b.variable.value) for a, b in zip(ours, theirs, strict=True)}
        if all(np.array_equal(engine().to_numpy(v.variable.value), values[id(v.variable)]) for v in ours):
            unchanged.append(olds[i])
        else:
            swaps.append(Swap(layer=olds[i], new_layer=news[j], values=values))
    for i in sorted(set(range(len(olds))) - {i for i, _ in pairs}):
        skipped[olds[i]] = f"{olds[i]} has no counterpart in the new version."
    for j in sorted(set(range(len(news))) - {j for _, j in pairs}):
        name = news[j] if news[j] not in before else f"{news[j]} (new)"
        skipped[name] = f"{news[j]} of the new version has no counterpart in the old one."
    return swaps, tuple(unchanged), skipped


def _by_owner(view: ModelView) -> dict[str, list[VariableInfo]]:
    owned: dict[str, list[VariableInfo]] = {}
    for variable in view.variables:
        owned.setdefault(variable.owner.id, []).append(variable)
    return owned


def _keys(view: ModelView, owned: Sequence[VariableInfo]) -> list[Any]:
    """Name and shapes, else kind and shapes (renamed), else name alone (of another width)."""
    name, shapes = stable_name(view, owned[0].owner.id), tuple((v.name, tuple(v.variable.shape)) for v in owned)
    return [(name, shapes), (owned[0].owner.kind, shapes), name]


def _fit(ours: Sequence[VariableInfo], theirs: Sequence[VariableInfo]) -> bool:
    def told(variable: VariableInfo) -> tuple[Any, ...]:
        dtype = str(variable.variable.dtype)
        return variable.name, tuple(variable.variable.shape), "float" if "float" in dtype else dtype

    return [told(v) for v in ours] == [told(v) for v in theirs]


def _text(owned: Sequence[VariableInfo]) -> str:
    return ", ".join(f"{v.name} {tuple(v.variable.shape)} {v.variable.dtype}" for v in owned)


class SwapGame:
    """The metric of the old version with the weights of some layers from the new: by sample, and at the end the mean.

    Args:
        old: The version whose layers are swapped.
        swaps: The players.
        parts: The metric of each output.
        chosen: Samples.
    """

    def __init__(self, old: Version, swaps: Sequence[Swap], parts: Sequence[Loss], chosen: NDArray[np.int64]) -> None:
        self._view, self._batch_size, self._parts = old.view, old.batch_size, parts
        self._swaps = swaps
        self._data = inputs.take({"x": old.arranged, "targets": [part.targets for part in parts]}, chosen)
        self._program = engine().jit(self._rows)
        # To TensorFlow a variable is of another type than a tensor, and every mixture of them another program.
        self._state = [engine().stop_gradient(keras.ops.convert_to_tensor(v.value)) for v in old.view.state]
        position = {id(variable): i for i, variable in enumerate(old.view.state)}
        self._replaced = [
            {
                position[key]: keras.ops.convert_to_tensor(value, old.view.state[position[key]].dtype)
                for key, value in swap.values.items()
            }
            for swap in swaps
        ]

    def __call__(self, coalition: NDArray[np.bool_]) -> Floats:
        """``(n + 1,)``: the metric of each sample, and the mean.

        Args:
            coalition: Whose weights are from the new version.

        Raises:
            Unsupported: If the metric is not finite.
        """
        values = list(self._state)
        members = np.flatnonzero(coalition).tolist()
        for i in members:
            for position, value in self._replaced[i].items():
                values[position] = value

        def run(batch: Any, rows: NDArray[np.int64], n_real: int) -> NDArray[Any]:
            del rows
            with engine().inference():
                found = self._program(values, keras.tree.map_structure(keras.ops.convert_to_tensor, batch))
            return engine().to_numpy(found)[:n_real]

        model = self._view.model
        parts = in_batches(
            model, self._data, self._batch_size, run, forget=self.release, too_large="while weights are swapped."
        )
        found = np.concatenate(list(parts)).astype(np.float64)
        if not np.isfinite(found).all():
            names = ", ".join(self._swaps[i].layer for i in members) or "no layer"
            raise Unsupported(f"The metric is not finite with the new weights of {names}: there is nothing to split.")
        return np.append(found, found.mean())

    def release(self) -> None:
        """Drop the compiled program."""
        engine().release([self._program])

    def _rows(self, values: list[Any], batch: dict[str, Any]) -> Any:
        mapping = list(zip(self._view.state, values, strict=True))
        model = self._view.model
        with keras.StatelessScope(state_mapping=mapping), compat.plain_calls(model, self._view.places.values()):
            outputs = [tensor for _, tensor in named_outputs(model, model(batch["x"], training=False))]
        found = [p.values(y, z) for p, y, z in zip(self._parts, batch["targets"], outputs, strict=True)]
        return sum(found[1:], start=found[0])
