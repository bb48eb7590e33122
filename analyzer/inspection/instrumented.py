"""A forward pass in which results of layer calls are read and replaced, while nothing of the model changes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.backends import engine
from analyzer.errors import DataError, DeviceMemoryError
from analyzer.inspection import compat, inputs
from analyzer.inspection.selection import LayerCall
from analyzer.inspection.view import ModelView

Edit = Callable[[Any, NDArray[np.int64]], Any]
"""From what a call returned and the positions of the batch's samples in x, to what is handed on instead."""

MODEL = -1
"""Stands for the model itself where places are numbered."""

Arrays = dict[str, NDArray[Any]]
"""By id of the call; where it holds several tensors, ``"<id>[0]"``, ``"<id>[1]"``, … or ``"<id>[<key>]"``."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one batch brought, as arrays of its real rows.

    Attributes:
        outputs: What the model returned, in its own structure.
        results: What the calls that are read handed on.
        arguments: The tensors that they were called with.
    """

    outputs: Any
    results: Arrays
    arguments: Arrays


@dataclass(kw_only=True)
class Instrumented:
    """A forward pass with readings and edits; see `batches`.

    Attributes:
        view: The opened model.
        read: Calls whose results and arguments are kept.
        edits: What happens to the results of calls, in this order; keyed by place (`MODEL` for the model) and call.
        values: Values that stand for those of variables, by ``id`` of the variable.
        compiled: Whether the pass is compiled. Edits that are Python functions want an eager one.
        with_arguments: Whether arguments are read, too.
    """

    view: ModelView
    read: Sequence[LayerCall]
    edits: Mapping[tuple[int, int], Sequence[Edit]] = field(default_factory=dict)
    values: Mapping[int, Any] = field(default_factory=dict)
    compiled: bool = False
    with_arguments: bool = False
    _rows: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)
    _names: dict[str, Any] = field(default_factory=dict, repr=False)
    _failed: Exception | None = field(default=None, repr=False)

    def batches(self, arranged: Any, batch_size: int) -> Iterator[Batch]:
        """Run all samples through the model, in order.

        Args:
            arranged: Inputs of all samples in the structure that the model is called with.
            batch_size: Most samples per batch; a size that the model fixes goes before it, lack of memory halves it.

        Raises:
            DeviceMemoryError: If a single sample does not fit.
        """
        program = engine().jit(self._forward) if self.compiled else self._forward
        n, fixed = inputs.count(arranged), inputs.fixed_batch_size(self.view.model)
        # Batches of equal size: compiled programs are made once per size.
        size = fixed or math.ceil(n / math.ceil(n / batch_size))
        start = 0
        try:
            while start < n:
                real = np.arange(start, min(start + size, n))
                rows = np.concatenate([real, np.full((fixed or len(real)) - len(real), real[0])])
                try:
                    batch = self._run(program, inputs.take(arranged, rows), rows, len(real))
                except Exception as error:
                    if not engine().is_out_of_memory(error):
                        raise
                    if fixed or size == 1:
                        raise DeviceMemoryError(_too_large(self.view, size)) from error
                    size = max(1, size // 2)
                    continue
                yield batch
                start += len(real)
        finally:
            if self.compiled:
                engine().release([program])

    def _run(self, program: Callable[..., Any], x: Any, rows: NDArray[np.int64], n_real: int) -> Batch:
        self._rows = rows
        values = [self.values.get(id(variable), variable.value) for variable in self.view.state]
        self._failed = None
        with engine().inference():
            try:
                brought = program(values, keras.tree.map_structure(keras.ops.convert_to_tensor, x))
            except Exception:
                if self._failed is not None:
                    # As the edit raised it, without what Keras wraps around errors inside a call.
                    raise self._failed from None
                raise
            outputs, results, arguments = ([_on_host(tensor) for tensor in part] for part in brought)

        def by_name(kind: str, arrays: list[NDArray[Any]]) -> Arrays:
            named = zip(self._names[kind], arrays, strict=True)
            return {name: array[:n_real] for name, array in named if array.ndim and len(array) == len(rows)}

        cut = [array[:n_real] if array is not None and array.ndim else array for array in outputs]
        return Batch(
            outputs=keras.tree.pack_sequence_as(self._names["outputs"], cut),
            results=by_name("results", results),
            arguments=by_name("arguments", arguments),
        )

    def _forward(self, values: list[Any], x: Any) -> list[list[Any]]:
        """The program: flat lists of tensors; what they are called is noted on the way."""
        calls: Counter[int] = Counter()
        wanted = {(MODEL if one.place is None else one.place, one.call): one.id for one in self.read}
        results: dict[str, Any] = {}
        arguments: dict[str, Any] = {}
        at_work = False

        def wrap(place: int, call: Callable[..., Any]) -> Callable[..., Any]:
            def instrumented(*args: Any, **kwargs: Any) -> Any:
                nonlocal at_work
                if at_work:
                    # An edit called the layer, or the whole model: that call is its own affair.
                    return call(*args, **kwargs)
                key = (place, calls[place])
                calls[place] += 1
                result = call(*args, **kwargs)
                at_work = True
                try:
                    for edit in self.edits.get(key, ()):
                        result = edit(result, self._rows)
                except Exception as error:
                    self._failed = error
                    raise
                finally:
                    at_work = False
                if key in wanted:
                    results.update(_named(wanted[key], result))
                    arguments.update(_named(wanted[key], [args, kwargs]) if self.with_arguments else {})
                return result

            return instrumented

        used = {place for place, _ in [*wanted, *self.edits]}
        places = {place: self.view.model if place == MODEL else self.view.places[place] for place in sorted(used)}
        with (
            keras.StatelessScope(state_mapping=list(zip(self.view.state, values, strict=True))),
            compat.plain_calls(self.view.model, self.view.places.values()),
            compat.wrapped_calls(places, wrap),
        ):
            outputs = self.view.model(x, training=False)
        structure = keras.tree.map_structure(lambda _: 0, outputs)
        self._names = {"outputs": structure, "results": list(results), "arguments": list(arguments)}
        return [keras.tree.flatten(outputs), list(results.values()), list(arguments.values())]


def joined(batches: Iterator[Batch]) -> Batch:
    """All batches as one.

    Args:
        batches: From `Instrumented.batches`.

    Returns:
        The arrays of all batches, one row per sample; readings that have no such rows in some batch are left out.

    Raises:
        DataError: If an output of the model has no row per sample and there are several batches.
    """
    parts = list(batches)
    if len(parts) == 1:
        return parts[0]

    def rows(*leaves: Any) -> Any:
        if any(leaf is None or leaf.ndim == 0 for leaf in leaves):
            raise DataError("An output of the model has no row per sample: give a batch_size of at least len(x).")
        return np.concatenate(leaves)

    def common(arrays: list[Arrays]) -> Arrays:
        return {
            name: np.concatenate([one[name] for one in arrays])
            for name in arrays[0]
            if all(name in one for one in arrays)
        }

    return Batch(
        outputs=keras.tree.map_structure(rows, *(part.outputs for part in parts)),
        results=common([part.results for part in parts]),
        arguments=common([part.arguments for part in parts]),
    )


def _named(name: str, result: Any) -> dict[str, Any]:
    """The tensors of a result by name."""
    if isinstance(result, Mapping):
        items = [(f"{name}[{key}]", result[key]) for key in sorted(result, key=str)]
        return {key: tensor for key, tensor in items if keras.ops.is_tensor(tensor)}
    tensors = [leaf for leaf in keras.tree.flatten(result) if keras.ops.is_tensor(leaf)]
    return {name: tensors[0]} if len(tensors) == 1 else {f"{name}[{i}]": tensor for i, tensor in enumerate(tensors)}


def _on_host(tensor: Any) -> Any:
    return None if tensor is None else engine().to_numpy(tensor)


def _too_large(view: ModelView, size: int) -> str:
    return (
        f"The model {view.model.name!r} does not fit into memory at batch size {size}. Free memory, ask for fewer "
        "layers, or lower the input size; batch_size cannot go lower."
    )
