"""`Pass`: compiled programs that give the explained value and its own gradients, at inputs and inside the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.backends import engine, relevance_ops
from analyzer.inspection.inputs import count
from analyzer.inspection.trace import named_outputs
from analyzer.relevance.attributions.observed import Observed, Seen
from analyzer.relevance.flow import Tensor, is_float
from analyzer.relevance.public_ops import ops
from analyzer.relevance.targets import Target

Array = NDArray[Any]
Arrays = list[Array]


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where a gradient with respect to the inputs is taken.

    Attributes:
        input: Number of the input.
        embedded: Whether it is taken at what an Embedding makes of whole numbers; else at the input itself.
    """

    input: int
    embedded: bool


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """A target as it is for some samples, whatever their inputs become: along a path, under noise, with parts missing.

    Attributes:
        score: The value explained, ``(k, n)``.
        chosen: Position explained, ``(k, n)``; -1 where there is none.
        scale: What the value at that position is multiplied with, ``(k, n)``.
        weights: Weights of many values that are explained together, ``(n, values)``; else None.
        values: Values at the sites, each ``(n, ...)``.
    """

    score: NDArray[np.float64]
    chosen: NDArray[np.int32]
    scale: Array
    weights: Array | None
    values: Arrays


@dataclass(frozen=True, kw_only=True)
class Gradients:
    """What one backward pass brought.

    Attributes:
        score: The value explained, ``(k, n)``.
        chosen: Position explained, ``(k, n)``; -1 where there is none.
        values: Values at the sites, each ``(n, ...)``.
        gradients: The gradients there, each ``(k, n, ...)``.
        taps: Value and gradient of tapped results, by id.
    """

    score: NDArray[np.float64]
    chosen: NDArray[np.int32]
    values: Arrays
    gradients: Arrays
    taps: dict[str, tuple[Array, Array]]


class Pass:
    """The programs for one model, target and shape of input.

    Attributes:
        sites: Where gradients with respect to the inputs are taken.
        seen: What the traced pass noticed.
    """

    def __init__(
        self, observed: Observed, target: Target, example: Any, values: Mapping[int, Any] | None = None
    ) -> None:
        """Trace the model once.

        Args:
            observed: How the model is run.
            target: What is explained.
            example: A batch, in the structure that the model is called with.
            values: Values that stand for those of variables, by ``id`` of the variable.
        """
        self.observed, self.target = observed, target
        self.rows = count(example)
        self._view = observed.plan.view
        self._bare = dataclasses.replace(target, start="output", multiplier=1.0)
        self._structure = keras.tree.map_structure(lambda _: 0, example)
        self._given = values or {}
        self._find_out(_tensors(keras.tree.flatten(example)))
        self._freeze = engine().jit(self._frozen_step)
        self._scores = engine().jit(self._score_step)
        self._backward = engine().jit(self._gradient_step)

    def freeze(self, flat: Arrays, rows: NDArray[np.int64]) -> Frozen:
        """The target as it is for a batch.

        Args:
            flat: Inputs.
            rows: Which of all samples these are.
        """
        index = ops.convert_to_tensor(self.target.indices(rows))
        with engine().inference():
            brought = self._freeze(self._variables(), _tensors(flat), index)
        score, chosen, scale, weights, embedded = keras.tree.map_structure(engine().to_numpy, brought)
        return Frozen(
            score=score.astype(np.float64),
            chosen=chosen,
            scale=scale,
            weights=weights[0] if weights else None,
            values=self._site_values(flat, embedded),
        )

    def scores(self, flat: Arrays, frozen: Frozen, offsets: Arrays | None = None) -> NDArray[np.float64]:
        """The value explained for other inputs, ``(k, n)``; see `values`."""
        return self.values(flat, frozen, offsets)[0]

    def values(
        self, flat: Arrays, frozen: Frozen, offsets: Arrays | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Array]]:
        """The value explained for other inputs, ``(k, n)``, and tapped results by id; without gradients.

        Args:
            flat: Inputs.
            frozen: The target.
            offsets: Added to what embeddings make of inputs, one for each such site.
        """
        with engine().inference():
            brought = self._scores(self._variables(), _tensors(flat), self._offsets(offsets), _arguments(frozen))
        score, tapped = keras.tree.map_structure(engine().to_numpy, brought)
        return score.astype(np.float64), dict(zip([name for name, _ in self.seen.tapped], tapped, strict=True))

    def gradients(self, flat: Arrays, target: Frozen | NDArray[np.int64], offsets: Arrays | None = None) -> Gradients:
        """Gradients of the value explained.

        Args:
            flat: Inputs.
            target: The target as it was for some samples; or which of all samples these are.
            offsets: Added to what embeddings make of inputs, one for each such site.
        """
        held = _arguments(target) if isinstance(target, Frozen) else self._asked(target)
        with engine().inference():
            brought = self._backward(self._variables(), _tensors(flat), self._offsets(offsets), held)
        score, chosen, embedded, tapped, at_sites, at_taps = keras.tree.map_structure(engine().to_numpy, brought)
        names = [name for name, _ in self.seen.tapped]
        return Gradients(
            score=score.astype(np.float64),
            chosen=chosen,
            values=self._site_values(flat, embedded),
            gradients=at_sites,
            taps=dict(zip(names, zip(tapped, at_taps, strict=True), strict=True)),
        )

    def release(self) -> None:
        """Drop the compiled programs."""
        engine().release([self._freeze, self._scores, self._backward])

    # ---- arguments
    def _variables(self) -> list[Tensor]:
        return [ops.stop_gradient(ops.convert_to_tensor(self._given.get(id(v), v.value))) for v in self._view.state]

    def _offsets(self, offsets: Arrays | None) -> list[Tensor]:
        if offsets is None:
            return [ops.zeros(shape, "float32") for shape in self._embedded_shapes]
        return [ops.convert_to_tensor(one, "float32") for one in offsets]

    def _asked(self, rows: NDArray[np.int64]) -> list[Any]:
        return [ops.convert_to_tensor(self.target.indices(rows)), [], []]

    def _site_values(self, flat: Arrays, embedded: Arrays) -> Arrays:
        given = iter(embedded)
        return [next(given) if site.embedded else flat[site.input] for site in self.sites]

    # ---- tracing
    def _find_out(self, flat: list[Tensor]) -> None:
        found: list[Seen] = []

        def traced(values: list[Tensor], flat: list[Tensor]) -> None:
            _, seen = self._run(values, flat)
            # Tensors of a trace are of no use outside it.
            self._embedded_shapes = [tuple(map(int, t.shape)) for _, t in seen.embedded]
            self._tap_slots = [
                (tuple(map(int, t.shape)), keras.backend.standardize_dtype(t.dtype)) for _, t in seen.tapped
            ]
            seen.embedded = [(number, None) for number, _ in seen.embedded]
            seen.tapped = [(name, None) for name, _ in seen.tapped]
            found.append(seen)

        engine().trace(traced, self._variables(), flat)
        self.seen = found[-1]
        floats = [Site(input=i, embedded=False) for i, t in enumerate(flat) if is_float(t)]
        self.sites = [*floats, *(Site(input=number, embedded=True) for number, _ in self.seen.embedded)]

    # ---- the programs
    def _run(
        self,
        values: list[Tensor],
        flat: Sequence[Tensor],
        offsets: Sequence[Tensor] | None = None,
        slots: Sequence[Tensor] | None = None,
    ) -> tuple[Any, Seen]:
        mapping = list(zip(self._view.state, values, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            return self.observed.outputs(keras.tree.pack_sequence_as(self._structure, list(flat)), offsets, slots)

    def _frozen_step(self, values: list[Tensor], flat: list[Tensor], index: Tensor) -> list[Any]:
        outputs, seen = self._run(values, flat)
        embedded = [t for _, t in seen.embedded]
        score, chosen = self.target.score(self._view.model, outputs, index)
        weights = self.target.weights(self._view.model, outputs)
        if weights is not None:
            return [score, chosen, ops.ones_like(score), [weights], embedded]
        bare, _ = self._bare.score(self._view.model, outputs, index)
        scale = self.target.factor(bare) * ops.ones_like(bare)
        return [score, chosen, scale, [], embedded]

    def _score_step(
        self, values: list[Tensor], flat: list[Tensor], offsets: list[Tensor], held: list[Any]
    ) -> list[Any]:
        outputs, seen = self._run(values, flat, offsets)
        return [self._score(outputs, held)[0], [t for _, t in seen.tapped]]

    def _score(self, outputs: Any, held: list[Any]) -> tuple[Tensor, Tensor]:
        index, scale, weights = held
        model = self._view.model
        if weights:
            logits = ops.cast(named_outputs(model, outputs)[self.target.head][1], "float32")
            return ops.sum(ops.reshape(logits, weights[0].shape) * weights[0], axis=-1)[None], index
        if scale:
            value, chosen = self._bare.score(model, outputs, index)
            return value * scale[0], chosen
        return self.target.score(model, outputs, index)

    def _gradient_step(
        self, values: list[Tensor], flat: list[Tensor], offsets: list[Tensor], held: list[Any]
    ) -> list[Any]:
        floats = [t for t in flat if is_float(t)]
        slots = [ops.zeros(shape, dtype) for shape, dtype in self._tap_slots]
        first, second = len(floats), len(floats) + len(offsets)

        def forward(leaves: list[Tensor]) -> tuple[Tensor, list[Any]]:
            given = iter(leaves[:first])
            live = [next(given) if is_float(t) else t for t in flat]
            outputs, seen = self._run(values, live, leaves[first:second], leaves[second:])
            score, chosen = self._score(outputs, held)
            return score, [chosen, [t for _, t in seen.embedded], [t for _, t in seen.tapped]]

        score, (chosen, embedded, tapped), found = relevance_ops().pull(forward, [*floats, *offsets, *slots], _each)
        return [score, chosen, embedded, tapped, found[:second], found[second:]]


def _each(score: Tensor) -> Tensor:
    """For each target a cotangent of ones at its own scores."""
    k, n = score.shape
    return ops.broadcast_to(ops.eye(k, dtype=score.dtype)[:, :, None], (k, k, n))


def _tensors(arrays: Sequence[Any]) -> list[Tensor]:
    return [ops.convert_to_tensor(array) for array in arrays]


def _arguments(frozen: Frozen) -> list[Any]:
    weights = [] if frozen.weights is None else _tensors([frozen.weights])
    scale = [] if weights else _tensors([frozen.scale])
    return [ops.convert_to_tensor(frozen.chosen), scale, weights]
