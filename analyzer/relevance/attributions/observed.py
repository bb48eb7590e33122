"""A model's own forward pass, its logits cut free, with tensors noticed and moved on their way."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

from analyzer.backends import relevance_ops
from analyzer.inspection import compat
from analyzer.inspection.logits import logits_out
from analyzer.relevance.attributions.guided import guided_activations
from analyzer.relevance.flow import Tensor, is_float
from analyzer.relevance.public_ops import ops
from analyzer.relevance.tracing import Plan


@dataclass
class Seen:
    """What one pass noticed.

    Attributes:
        embedded: What embeddings made of the model's inputs of whole numbers: number of the input, and the tensor.
        tapped: Results of calls: id (with the number of the output where there are several), and the tensor.
        guided: Names of the activations whose cotangent was clipped.
        unguided: Names of other activations.
    """

    embedded: list[tuple[int, Tensor]] = field(default_factory=list)
    tapped: list[tuple[str, Tensor]] = field(default_factory=list)
    guided: set[str] = field(default_factory=set)
    unguided: set[str] = field(default_factory=set)


@dataclass(frozen=True, kw_only=True)
class Observed:
    """How a model is run.

    Attributes:
        plan: The opened model.
        taps: Ids of the calls whose results are noticed.
        guided: Whether ReLUs let only positive gradients back.
    """

    plan: Plan
    taps: frozenset[str] = frozenset()
    guided: bool = False

    def outputs(
        self, x: Any, offsets: Sequence[Tensor] | None = None, slots: Sequence[Tensor] | None = None
    ) -> tuple[Any, Seen]:
        """Run the model.

        Args:
            x: Inputs in the structure that the model is called with.
            offsets: Added to what embeddings make of inputs, one for each; None for nothing.
            slots: Tensors of zeros whose gradients are those of the tapped results; None for none.

        Returns:
            The outputs, last softmax and sigmoid cut; and what was noticed.
        """
        seen, model = Seen(), self.plan.view.model
        with contextlib.ExitStack() as scope:
            scope.enter_context(compat.plain_calls(model, self.plan.places.values()))
            scope.enter_context(logits_out(self.plan.view))
            if self.guided:
                scope.enter_context(guided_activations(self.plan, seen.guided, seen.unguided))
            scope.enter_context(self._embeddings(keras.tree.flatten(x), seen, offsets))
            scope.enter_context(self._taps(int(keras.tree.flatten(x)[0].shape[0]), seen, slots))
            return model(x, training=False), seen

    @contextlib.contextmanager
    def _embeddings(self, flat: list[Tensor], seen: Seen, offsets: Sequence[Tensor] | None) -> Iterator[None]:
        numbers = {id(t): i for i, t in enumerate(flat) if not is_float(t)}

        def wrap(index: int, call: Callable[..., Any]) -> Callable[..., Any]:
            del index

            def embed(inputs: Tensor, *args: Any, **kwargs: Any) -> Tensor:
                y = call(inputs, *args, **kwargs)
                if id(inputs) in numbers and keras.ops.is_tensor(y) and is_float(y):
                    if offsets is not None:
                        y = y + ops.cast(offsets[len(seen.embedded)], y.dtype)
                    seen.embedded.append((numbers[id(inputs)], y))
                return y

            return embed

        places = {i: place for i, place in self.plan.places.items() if isinstance(place, keras.layers.Embedding)}
        with compat.wrapped_calls(places, wrap):
            yield

    @contextlib.contextmanager
    def _taps(self, rows: int, seen: Seen, slots: Sequence[Tensor] | None) -> Iterator[None]:
        ids, calls = self.plan.ids, Counter[int]()

        def wrap(index: int, call: Callable[..., Any]) -> Callable[..., Any]:
            def tapped(*args: Any, **kwargs: Any) -> Any:
                name = ids.get((index, calls[index]), "")
                calls[index] += 1
                result = call(*args, **kwargs)
                return _noticed(result, name, rows, seen, slots) if name in self.taps else result

            return tapped

        wanted = {index for (index, _), name in ids.items() if name in self.taps}
        with compat.wrapped_calls({index: self.plan.places[index] for index in sorted(wanted)}, wrap):
            yield


def _noticed(result: Any, name: str, rows: int, seen: Seen, slots: Sequence[Tensor] | None) -> Any:
    """The result of a call, each float tensor with a row per sample tied to its slot."""
    several, number = len(keras.tree.flatten(result)) > 1, -1

    def notice(t: Any) -> Any:
        nonlocal number
        number += 1
        if not keras.ops.is_tensor(t) or not is_float(t) or not len(t.shape) or t.shape[0] != rows:
            return t
        if slots is not None:
            t = compat.copy_mask(relevance_ops().observe(t, slots[len(seen.tapped)]), t)
        seen.tapped.append((f"{name}[{number}]" if several else name, t))
        return t

    return keras.tree.map_structure(notice, result)
