"""`Program`: one compiled forward and backward pass that gives relevance everywhere."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.backends import engine, relevance_ops
from analyzer.errors import Unsupported
from analyzer.inspection.inputs import count, fixed_batch_size
from analyzer.relevance.alternatives import contrasted
from analyzer.relevance.flow import Flow, Options, Record, Slot, Tensor, is_float
from analyzer.relevance.public_ops import ops
from analyzer.relevance.rules import Flat, WSquare, ZBox
from analyzer.relevance.targets import Target
from analyzer.relevance.tracing import Plan, run_model

Arrays = list[NDArray[Any]]

_EXPLICIT = (Flat, WSquare, ZBox)
"""Rules that give relevance where the input is 0."""


@dataclass(frozen=True, kw_only=True)
class Passed:
    """What one batch brought; arrays of its rows, relevance with a leading axis of targets.

    Attributes:
        score: Where relevance started, ``(k, n)``.
        chosen: Position explained, ``(k, n)``; -1 where there is none.
        inputs: Relevance of each input, ``(k, n, ...)``.
        maps: By number of the call and of its output: its value ``(n, ...)`` and relevance ``(k, n, ...)``.
        booked: By number of the call and column of the ledger: amounts ``(k, n)``.
        against: The second map, where two travel together; else None.
    """

    score: NDArray[np.float32]
    chosen: NDArray[np.int32]
    inputs: Arrays
    maps: dict[tuple[int, int], tuple[NDArray[Any], NDArray[Any]]]
    booked: dict[tuple[int, str], NDArray[np.float64]]
    against: Passed | None = None

    def rows(self, index: slice) -> Passed:
        """The same for some of the rows."""
        return Passed(
            score=self.score[:, index],
            chosen=self.chosen[:, index],
            inputs=[t[:, index] for t in self.inputs],
            maps={key: (value[index], relevance[:, index]) for key, (value, relevance) in self.maps.items()},
            booked={key: amount[:, index] for key, amount in self.booked.items()},
            against=None if self.against is None else self.against.rows(index),
        )


class Program:
    """A compiled pass for one model, preset, target and shape of input; see `run`.

    Attributes:
        records: Every call, in order of execution.
        unknown: What has no rule and was given its gradient.
    """

    def __init__(self, plan: Plan, options: Options, target: Target, example: Any) -> None:
        """Trace the model once to find out what a pass reports.

        Args:
            plan: The opened model.
            options: What is asked for.
            target: What is explained.
            example: A batch, in the structure that the model is called with.

        Raises:
            Unsupported: If layers have no rule and ``unknown`` is ``"raise"``.
        """
        self.plan, self.target = plan, target
        self.options = dataclasses.replace(options, foldable=_foldable(plan, options))
        self.rows = count(example)
        # Two maps travel together as two copies of each sample, one after the other.
        self.copies = 2 if options.preset.contrastive else 1
        _check_copies(self.copies, plan)
        self.structure = keras.tree.map_structure(lambda _: 0, example)
        self.records: list[Record] = []
        self.unknown: list[str] = []
        self._slots: dict[Slot, tuple[tuple[int, ...], str]] = {}
        self._prepared: list[Any] = []
        self._explicit = _needs_explicit(options) or _embeds(plan)
        self._find_out(example)
        convolutions = any("Conv" in record.kind or record.kind == "conv" for record in self.records)
        model = plan.view.model
        # Asked of a compiled model alone: any other would note down the answer.
        jit_compile = bool(model.compiled and model.jit_compile)
        self._program = relevance_ops().compile(self._step, convolutions=convolutions, jit_compile=jit_compile)

    def run(self, x: Any, index: NDArray[np.int32] | None = None, values: Mapping[int, Any] | None = None) -> Passed:
        """One batch.

        Args:
            x: Inputs, as many rows as the example had.
            index: Positions explained, from `Target.indices`; None for those of the first samples.
            values: Values that stand for those of variables, by ``id`` of the variable.
        """
        flat = [ops.convert_to_tensor(t) for t in keras.tree.flatten(x)]
        index = ops.convert_to_tensor(self.target.indices(np.arange(self.rows)) if index is None else index)
        with engine().inference():
            brought = self._program(self._weights if values is None else self._values(values), flat, index)
        return self._on_host(brought)

    def release(self) -> None:
        """Drop the compiled program."""
        engine().release([self._program])

    @functools.cached_property
    def _weights(self) -> list[Tensor]:
        """The model's own values, as they are at the first batch, and the constants that were prepared."""
        return self._values()

    def _values(self, values: Mapping[int, Any] | None = None) -> list[Tensor]:
        given = values or {}
        own = [ops.stop_gradient(ops.convert_to_tensor(given.get(id(v), v.value))) for v in self.plan.view.state]
        return [*own, *(ops.convert_to_tensor(array) for array in self._prepared)]

    # ---- tracing
    def _find_out(self, example: Any) -> None:
        """Trace until every folding that was planned really happens."""
        given = [ops.convert_to_tensor(t) for t in keras.tree.flatten(example)]
        index = ops.convert_to_tensor(self.target.indices(np.zeros(self.rows, np.int64)))
        flows: list[Flow] = []

        def traced(values: list[Tensor], flat: list[Tensor], index: Tensor) -> None:
            flat, index = self._copied(flat), self._copied([index], axis=1)[0]

            def forward(leaves: list[Tensor]) -> tuple[Tensor, list[Any]]:
                return self._forward(values, flat, index, leaves, {}, flows)

            relevance_ops().pull(forward, self._sources(flat), None)

        while True:
            engine().trace(traced, self._values(), given, index)
            flow = flows[-1]
            left = {before.record.id for before, _, _ in flow.folded.values()}
            if not left:
                break
            self.options = dataclasses.replace(self.options, foldable=self.options.foldable - left)
        self.records, self.unknown = flow.records, list(dict.fromkeys(flow.unknown))
        self._slots, self._prepared = flow.wanted, flow.constants
        if self.unknown and self.options.unknown == "raise":
            raise Unsupported(_no_rule(self.unknown))

    def _copied(self, tensors: Sequence[Tensor], axis: int = 0) -> list[Tensor]:
        return [ops.concatenate([t] * self.copies, axis=axis) if self.copies > 1 else t for t in tensors]

    def _sources(self, flat: Sequence[Tensor]) -> list[Tensor]:
        """What is always differentiated for: float inputs, and zeros that stand for tokens (and for zero inputs)."""
        floats = [t for t in flat if is_float(t)]
        shadows = [ops.zeros(t.shape, "float32") for t in flat if self._explicit or not is_float(t)]
        return [*floats, *shadows]

    def _forward(
        self,
        values: list[Tensor],
        flat: list[Tensor],
        index: Tensor,
        leaves: list[Tensor],
        slots: dict[Slot, Tensor],
        flows: list[Flow],
        prepared: list[Tensor] | None = None,
    ) -> tuple[Tensor, list[Any]]:
        finding_out = not slots
        flow = Flow(self.options, None if finding_out else slots, prepared)
        flows.append(flow)
        flow.sources = [*leaves, *slots.values()]
        given = iter(leaves)
        live = [next(given) if is_float(t) else t for t in flat]
        for t in live:
            if self._explicit or not is_float(t):
                flow.mark(t, shadow=next(given))
        x = keras.tree.pack_sequence_as(self.structure, live)
        mapping = list(zip(self.plan.view.state, values, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            outputs = run_model(flow, self.plan, x)
            model = self.plan.view.model
            if self.options.preset.contrastive:
                score, chosen = contrasted(self.target, model, outputs, index)
            else:
                score, chosen = self.target.score(model, outputs, index)
        kept = [flow.values[slot] for slot in flow.wanted if slot.kind == "map"]
        return score, [chosen, kept]

    def _step(self, weights: list[Tensor], flat: list[Tensor], index: Tensor) -> list[Any]:
        """The program: flat lists of tensors."""
        values, prepared = weights[: len(self.plan.view.state)], weights[len(self.plan.view.state) :]
        flat, index = self._copied(flat), self._copied([index], axis=1)[0]
        sources = self._sources(flat)
        zeros = [ops.zeros(shape, dtype) for shape, dtype in self._slots.values()]

        def forward(leaves: list[Tensor]) -> tuple[Tensor, list[Any]]:
            slots = dict(zip(self._slots, leaves[len(sources) :], strict=True))
            return self._forward(values, flat, index, leaves[: len(sources)], slots, [], prepared)

        score, (chosen, kept), gradients = relevance_ops().pull(forward, [*sources, *zeros], _one_by_one)
        of_sources, of_slots = gradients[: len(sources)], gradients[len(sources) :]
        return [score, chosen, self._of_inputs(flat, of_sources), *self._of_slots(kept, of_slots)]

    def _of_inputs(self, flat: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        given = iter(gradients)
        by_value = [t[None] * next(given) if is_float(t) else None for t in flat]
        direct = [next(given) if self._explicit or not is_float(t) else None for t in flat]
        return [
            a if b is None else b if a is None else a + ops.cast(b, a.dtype)
            for a, b in zip(by_value, direct, strict=True)
        ]

    def _of_slots(self, kept: list[Tensor], gradients: list[Tensor]) -> list[list[Tensor]]:
        maps = [g for slot, g in zip(self._slots, gradients, strict=True) if slot.kind == "map"]
        books = [g for slot, g in zip(self._slots, gradients, strict=True) if slot.kind != "map"]
        return [kept, [ops.cast(t[None], g.dtype) * g for t, g in zip(kept, maps, strict=True)], books]

    # ---- results
    def _on_host(self, brought: list[Any]) -> Passed:
        score, chosen, of_inputs, kept, maps, books = keras.tree.map_structure(engine().to_numpy, brought)
        map_slots = [slot for slot in self._slots if slot.kind == "map"]
        booked: dict[tuple[int, str], NDArray[np.float64]] = {}
        for slot, amount in zip([s for s in self._slots if s.kind != "map"], books, strict=True):
            key = (slot.owner, slot.kind)
            booked[key] = booked.get(key, 0.0) + _per_sample(amount.astype(np.float64), self.rows * self.copies)
        passed = Passed(
            score=score,
            chosen=chosen,
            inputs=of_inputs,
            maps={
                (slot.owner, int(slot.name)): (value, relevance)
                for slot, value, relevance in zip(map_slots, kept, maps, strict=True)
            },
            booked=booked,
        )
        if self.copies == 1:
            return passed
        first, second = passed.rows(slice(0, self.rows)), passed.rows(slice(self.rows, None))
        return dataclasses.replace(first, against=second)


def _check_copies(copies: int, plan: Plan) -> None:
    fixed = fixed_batch_size(plan.view.model)
    if copies > 1 and fixed:
        raise Unsupported(
            f"A contrastive explanation runs two copies of each sample, but the model fixes its batch size to {fixed}. "
            "Build it with an open batch size, or choose another method."
        )


def _per_sample(amount: NDArray[np.float64], rows: int) -> NDArray[np.float64]:
    """Amounts ``(k, n)``; of a leading axis of a multiple of n parts are summed, one sum is shared equally."""
    k, length = amount.shape
    if length == rows:
        return amount
    if length % rows == 0:
        return np.asarray(amount.reshape(k, rows, -1).sum(-1))
    return np.repeat(amount.sum(1, keepdims=True) / rows, rows, axis=1)


def _one_by_one(score: Tensor) -> Tensor:
    """For each target a cotangent of ones at its own scores."""
    k, n = score.shape
    return ops.broadcast_to(ops.eye(k, dtype=score.dtype)[:, :, None], (k, k, n))


def _foldable(plan: Plan, options: Options) -> frozenset[str]:
    return plan.foldable if options.preset.batch_normalization == "fold" else frozenset()


def _needs_explicit(options: Options) -> bool:
    preset = options.preset
    rules = [preset.first, preset.dense, preset.convolution, preset.recurrent, *preset.overrides.values()]
    return preset.first is not None or any(isinstance(rule, _EXPLICIT) for rule in rules)


def _embeds(plan: Plan) -> bool:
    """Whether tokens may come as float inputs: their relevance does not depend on the number that stands for them."""
    return any(isinstance(place, keras.layers.Embedding) for place in plan.places.values())


def _no_rule(unknown: Sequence[str]) -> str:
    shown = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
    return (
        f"There is no relevance rule for {shown}. Give one with @register_rule, or explain with unknown='gradient', "
        "which lets relevance through by the gradient and names these places in the ledger."
    )
