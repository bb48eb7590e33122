"""`Flow`: one traced forward pass, written so that its gradient is relevance, and what is noted on the way.

At every tensor ``t`` the relevance is ``t * cotangent``. Results leave the pass through slots: tensors of zeros whose
gradients are the sums that the ledger books and the cotangents that maps are made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras

from analyzer.backends import relevance_ops
from analyzer.inspection import compat
from analyzer.relevance.presets import Preset
from analyzer.relevance.public_ops import ops

Tensor = Any

ABSORBERS = ("absorbed_by_bias", "absorbed_by_softmax", "absorbed_by_stabiliser")


@dataclass(frozen=True)
class Slot:
    """Something that a pass reports.

    Attributes:
        kind: ``"map"`` for the cotangent of a tensor, or a column of the ledger.
        owner: Number of the call that it belongs to.
        name: Which output of the call a map is of; else a running number.
    """

    kind: str
    owner: int
    name: str = ""


@dataclass(kw_only=True)
class Record:
    """What is known of one call after tracing.

    Attributes:
        number: Its rank by when it began.
        id: Its id.
        kind: Name of its class or operation.
        owner: Number of the call that it happened in; None for the model.
        container: Whether it only runs others.
        rule: The rules applied.
        input_shapes: Shapes of what came in, for the traced batch.
        output_shapes: Likewise of what went out.
        shared: Whether something here is booked for all samples at once: how much of it each one had is not known.
    """

    number: int
    id: str
    kind: str
    owner: int | None
    container: bool = False
    rule: list[str] = field(default_factory=list)
    input_shapes: list[tuple[int, ...]] = field(default_factory=list)
    output_shapes: list[tuple[int, ...]] = field(default_factory=list)
    shared: bool = False


@dataclass(kw_only=True)
class Options:
    """What a pass is asked for.

    Attributes:
        preset: Which rule where.
        unknown: ``"raise"`` or ``"gradient"``: what happens at layers without a rule.
        ledger: Whether the books are kept.
        maps: Ids of calls whose relevance is reported.
        foldable: Ids of calls whose output goes into a BatchNormalization alone.
    """

    preset: Preset
    unknown: str = "raise"
    ledger: bool = True
    maps: frozenset[str] = frozenset()
    foldable: frozenset[str] = frozenset()


class Flow:
    """The state of one traced pass; made anew for each trace."""

    def __init__(
        self, options: Options, slots: dict[Slot, Tensor] | None, prepared: list[Tensor] | None = None
    ) -> None:
        """Start a pass.

        Args:
            options: What is asked for.
            slots: The tensors that stand for slots; None to find out which there are.
            prepared: Constants in the order in which they were asked for while finding out.
        """
        self.options = options
        self.preset = options.preset
        self.backend = relevance_ops()
        self.sources: list[Tensor] = []
        self.slots = slots
        self.wanted: dict[Slot, tuple[tuple[int, ...], str]] = {}
        self.values: dict[Slot, Tensor] = {}
        self.records: list[Record] = []
        self.unknown: list[str] = []
        self.folded: dict[int, Any] = {}
        self.prepared = prepared
        self.constants: list[Any] = []
        self.user_code = True
        self._stack: list[Record] = []
        self._alive: list[Tensor] = []
        self._nonnegative: set[int] = set()
        self._shadows: dict[int, Tensor] = {}
        self._gates: set[int] = set()

    # ---- what is known of tensors, by identity: they are kept alive so that no two share one
    def keep(self, t: Tensor) -> Tensor:
        """Keep a tensor alive."""
        self._alive.append(t)
        return t

    def is_nonnegative(self, t: Tensor) -> bool:
        """Whether no value of a tensor can be negative, as far as is known."""
        return id(t) in self._nonnegative

    def mark(self, t: Tensor, *, nonnegative: bool = False, gate: bool = False, shadow: Tensor | None = None) -> Tensor:
        """Note what is known of a tensor."""
        self.keep(t)
        if nonnegative:
            self._nonnegative.add(id(t))
        if gate:
            self._gates.add(id(t))
        if shadow is not None:
            self._shadows[id(t)] = shadow
        return t

    def like(self, new: Tensor, old: Tensor) -> Tensor:
        """Note of a tensor what is known of another with the same values."""
        if new is old:
            return new
        known, gate = id(old) in self._nonnegative, id(old) in self._gates
        return self.mark(compat.copy_mask(new, old), nonnegative=known, gate=gate, shadow=self.shadow(old))

    def is_gate(self, t: Tensor) -> bool:
        """Whether a tensor came out of a sigmoid or softmax."""
        return id(t) in self._gates

    def shadow(self, t: Tensor) -> Tensor | None:
        """The tensor of zeros beside an input, through which relevance can reach it where it is 0; None elsewhere."""
        return self._shadows.get(id(t))

    def depends(self, t: Tensor) -> bool:
        """Whether relevance can flow back through a tensor."""
        return keras.ops.is_tensor(t) and is_float(t) and self.backend.depends(t, self.sources)

    # ---- slots
    def slot(self, kind: str, owner: int, shape: tuple[int, ...], dtype: str = "float32", name: str = "") -> Tensor:
        """The tensor of zeros for something reported."""
        slot = Slot(kind, owner, name)
        self.wanted[slot] = (tuple(int(size) for size in shape), dtype)
        if self.slots is not None:
            return self.slots[slot]
        # What is booked depends on its slot: also while finding out, so that both passes see the same.
        return ops.zeros(shape, dtype) + ops.cast(ops.sum(self.sources[0][:0]), dtype)

    def constant(self, make: Callable[[], Any]) -> Tensor:
        """A host array computed once per program and handed to it as an argument."""
        if self.prepared is None:
            # Outside the pass, where variables have their real values.
            with self.backend.eager(), keras.StatelessScope():
                self.constants.append(make())
            return ops.convert_to_tensor(self.constants[-1])
        position = len(self.constants)
        self.constants.append(None)
        return self.prepared[position]

    # ---- calls
    @contextmanager
    def call(self, id: str, kind: str, *, container: bool = False) -> Iterator[Record]:
        """The scope of one call."""
        owner = self._stack[-1].number if self._stack else None
        record = Record(number=len(self.records), id=id, kind=kind, owner=owner, container=container)
        self.records.append(record)
        self._stack.append(record)
        before, self.user_code = self.user_code, container
        try:
            yield record
        finally:
            self.user_code = before
            self._stack.pop()

    @property
    def current(self) -> Record:
        """The innermost call."""
        return self._stack[-1]


def is_float(t: Tensor) -> bool:
    """Whether a tensor holds floating-point numbers."""
    return bool(keras.backend.is_float_dtype(keras.backend.standardize_dtype(t.dtype)))
