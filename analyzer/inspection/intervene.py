"""`intervene`: change what a layer, a unit or a weight does, and read the effect; the model stays as it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.backends import engine
from analyzer.errors import ConfigError, DataError, ModelError
from analyzer.inspection import inputs
from analyzer.inspection.edits import Change, check_part
from analyzer.inspection.features import arranged_for, check_whole, open_on, opened
from analyzer.inspection.guard import untouched_process
from analyzer.inspection.instrumented import MODEL, Arrays, Edit, Instrumented, joined
from analyzer.inspection.selection import LayerCall, Layers, select_calls
from analyzer.inspection.targets import LayerTarget, Rule, WeightRule
from analyzer.inspection.view import ModelView, open_model


@contextlib.contextmanager
def intervene(model: keras.Model | str | Path, *, batch_size: int = 128) -> Iterator[Interventions]:
    """Change what layers, units or weights do, within a scope, and read the effect.

    Nothing is written into the model: results are edited on their way and weights are replaced in a scope of their own,
    only while ``layers(x)`` runs. `model.predict` means the untouched model at all times, also inside the scope, and
    scopes can be nested: each knows its own interventions only. The model runs at inference and is not compiled.

    Example::

        with intervene(model) as layers:
            layers["conv_2"].unit(3).ablate()
            layers["dense"].weight("kernel", (0, 5)).scale(0.5)
            layers["dense"].record()
            print(layers.effect(x).difference, layers.recorded["dense"])

    Args:
        model: A built model of any kind, or the path of a ``.keras`` file.
        batch_size: Most samples per batch, unless the model fixes it.

    Yields:
        The layers: see `Interventions`.

    Raises:
        ModelError: If the model was never built or its file cannot be opened.
        ConfigError: If ``batch_size`` is no whole number of at least 1.
    """
    check_whole("batch_size", batch_size)
    with opened(model) as live:
        session = Interventions(live, batch_size)
        try:
            yield session
        finally:
            session.close()


@dataclass(frozen=True, kw_only=True, eq=False)
class Effect:
    """Outputs of a model without and with interventions, in the structure that the model returns.

    Attributes:
        clean: Without.
        changed: With them.
    """

    clean: Any
    changed: Any

    @property
    def difference(self) -> Any:
        """``changed - clean``, in float64 and the same structure."""

        def minus(changed: NDArray[Any], clean: NDArray[Any]) -> NDArray[np.float64]:
            return np.asarray(changed, dtype=np.float64) - np.asarray(clean, dtype=np.float64)

        return keras.tree.map_structure(minus, self.changed, self.clean)


class Interventions:
    """The layers of a model within `intervene`, which makes it.

    ``layers[...]`` takes whatever ``layers=`` takes elsewhere: a name, an id, a call (``"dense@2"``), a class, a
    predicate, a list. Iterating gives the ids of the calls of layers, in order of execution. Interventions pile up in
    the order in which they were set, until `reset`.

    Attributes:
        recorded: After a call: what the recorded layers handed on, interventions included; one row per sample, by id.
        recorded_inputs: After a call: the tensors that they were called with.
    """

    def __init__(self, model: keras.Model, batch_size: int) -> None:
        self.recorded: Arrays = {}
        self.recorded_inputs: Arrays = {}
        self._batch_size = batch_size
        self._rules: list[Rule] = []
        self._weight_rules: list[WeightRule] = []
        self._read: list[Layers] = []
        with untouched_process():
            self._view: ModelView | None = open_model(model)
        # Without declared inputs, a model is opened again on the first data, which say what runs when.
        self._knows_calls = self._view.traced

    def __getitem__(self, layers: Layers) -> LayerTarget:
        select_calls(self.view, layers)
        return LayerTarget(self, layers)

    def __iter__(self) -> Iterator[str]:
        return (call.id for call in select_calls(self.view))

    def __len__(self) -> int:
        return len(select_calls(self.view))

    def __contains__(self, layers: Layers) -> bool:
        try:
            return bool(select_calls(self.view, layers))
        except ConfigError:
            return False

    def __call__(self, x: Any) -> Any:
        """Run the model with the interventions.

        Args:
            x: Samples, as for the model: an array, a list, or a dict by input name.

        Returns:
            What the model returns, as arrays in its own structure.

        Raises:
            DataError: If x does not fit the model, or a new value does not fit a layer.
        """
        with untouched_process():
            view, arranged = self._prepared(x)
            return self._changed(view, arranged)

    def effect(self, x: Any) -> Effect:
        """Run the model without and with the interventions; `recorded` is of the second run.

        Args:
            x: Samples, as for the model.

        Returns:
            Both outputs and their difference.
        """
        with untouched_process():
            view, arranged = self._prepared(x)
            clean = joined(Instrumented(view=view, read=()).batches(arranged, self._batch_size))
            return Effect(clean=clean.outputs, changed=self._changed(view, arranged))

    def reset(self) -> None:
        """Forget all interventions and recordings."""
        self._rules.clear()
        self._weight_rules.clear()
        self._read.clear()
        self.recorded, self.recorded_inputs = {}, {}

    def close(self) -> None:
        """Let go of the model; what was recorded stays."""
        self._rules.clear()
        self._weight_rules.clear()
        self._view = None

    @property
    def view(self) -> ModelView:
        """The opened model.

        Raises:
            ModelError: If the scope has ended.
        """
        if self._view is None:
            raise ModelError("This intervene() scope has ended. Call the layers inside the with block.")
        return self._view

    def add(self, rule: Rule | WeightRule) -> None:
        """Append an intervention."""
        if isinstance(rule, Rule):
            self._check_units(rule)
            self._rules.append(rule)
        else:
            self._weight_rules.append(rule)

    def read(self, layers: Layers) -> None:
        """Record these layers from now on."""
        self._read.append(layers)

    def _prepared(self, x: Any) -> tuple[ModelView, Any]:
        arranged = arranged_for(self.view.model, x)
        if not self._knows_calls:
            self._view = open_on(self.view.model, arranged)
            self._knows_calls = True
        for rule in self._rules:
            self._check_units(rule)
        return self.view, arranged

    def _check_units(self, rule: Rule) -> None:
        for call in select_calls(self.view, rule.layers) if rule.change.part is not None else ():
            if len(call.layer.output_shapes) == 1 and rule.change.part is not None:
                check_part(rule.change.part, call.layer.output_shapes[0], call.id)

    def _changed(self, view: ModelView, arranged: Any) -> Any:
        n = inputs.count(arranged)
        averaged = [rule.layers for rule in self._rules if rule.change.verb == "mean"]
        means = self._means(view, averaged, arranged) if averaged else {}
        edits: dict[tuple[int, int], list[Edit]] = {}
        for rule in self._rules:
            for call in select_calls(view, rule.layers):
                key = (MODEL if call.place is None else call.place, call.call)
                edits.setdefault(key, []).append(_edit(rule.change, n, means.get(call.id, []), call.id))
        read = _each_once(view, self._read)
        run = Instrumented(view=view, read=read, edits=edits, values=self._values(), with_arguments=True)
        brought = joined(run.batches(arranged, self._batch_size))
        self.recorded, self.recorded_inputs = brought.results, brought.arguments
        return brought.outputs

    def _means(self, view: ModelView, averaged: list[Layers], arranged: Any) -> dict[str, list[NDArray[np.float64]]]:
        """Mean over the samples of the clean results, by id of the call."""
        calls = _each_once(view, averaged)
        sums: dict[str, NDArray[np.float64]] = {}
        for batch in Instrumented(view=view, read=calls).batches(arranged, self._batch_size):
            for name, array in batch.results.items():
                sums[name] = sums.get(name, 0.0) + array.sum(axis=0, dtype=np.float64)
        n = inputs.count(arranged)
        means = {
            call.id: [total / n for name, total in sums.items() if name == call.id or name.startswith(f"{call.id}[")]
            for call in calls
        }
        for call in calls:
            if len(means[call.id]) != max(1, len(call.layer.output_shapes)):
                raise DataError(
                    f"Layer {call.id!r} returns a tensor without a row per sample, so it has no mean over samples. Use "
                    "ablate() or replace(value)."
                )
        return means

    def _values(self) -> dict[int, Any]:
        """Values that stand for those of the variables that are intervened on."""
        arrays: dict[int, NDArray[Any]] = {}
        variables: dict[int, keras.Variable] = {}
        for rule in self._weight_rules:
            for variable in rule.variables:
                key = id(variable)
                variables[key] = variable
                old = arrays[key] if key in arrays else engine().to_numpy(variable.value)
                arrays[key] = rule.change.of_values(old, rule.index)
        return {key: keras.ops.convert_to_tensor(array, variables[key].dtype) for key, array in arrays.items()}


def _edit(change: Change, n: int, means: list[NDArray[np.float64]], what: str) -> Edit:
    return lambda result, rows: change.apply(result, rows, n, means, what)


def _each_once(view: ModelView, several: list[Layers]) -> tuple[LayerCall, ...]:
    return tuple({call.id: call for layers in several for call in select_calls(view, layers)}.values())
