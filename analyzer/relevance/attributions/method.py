"""`Method`: what an attribution is, and what it is given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.config import check_names
from analyzer.errors import ConfigError, Unsupported
from analyzer.inspection.selection import Layers
from analyzer.relevance.attributions.passing import Array, Arrays, Pass, Site
from analyzer.relevance.flow import is_float
from analyzer.relevance.tracing import Plan

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is explained, and of which model.

    Attributes:
        plan: The opened model.
        arranged: All samples in the structure that the model is called with.
        names: Names of the inputs, in the order in which samples are flattened.
        layers: Whose maps are asked for.
        taps: Ids of their calls.
        seed: For what is drawn.
        arrange: Brings further samples into the same structure.
    """

    plan: Plan
    arranged: Any
    names: Sequence[str]
    layers: Layers | str
    taps: frozenset[str]
    seed: int
    arrange: Callable[[Any], Any]

    @property
    def flat(self) -> Arrays:
        """All samples, an array for each input."""
        return [np.asarray(array) for array in keras.tree.flatten(self.arranged)]

    def whole(self, number: int) -> bool:
        """Whether an input holds whole numbers."""
        return not is_float(self.flat[number])


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some samples.

    Attributes:
        flat: An array for each input.
        rows: Which of all samples these are.
    """

    flat: Arrays
    rows: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Book:
    """What should have been shared out and what was, ``(k, n)`` each.

    Attributes:
        due: The difference that is explained.
        given: The sum of the map.
        magnitude: The sum of its absolute values.
    """

    due: Floats
    given: Floats
    magnitude: Floats


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a batch brought.

    Attributes:
        score: The value explained, ``(k, n)``.
        chosen: Position explained, ``(k, n)``; -1 where there is none.
        inputs: Maps by number of the input, ``(k, n, ...)``.
        layers: Maps by id of the call, ``(k, n, ...)``.
        books: By place: the name of the model for its inputs, ids of calls for others.
    """

    score: Floats
    chosen: NDArray[np.int32]
    inputs: dict[int, Array]
    layers: dict[str, Array] = field(default_factory=dict)
    books: dict[str, Book] = field(default_factory=dict)


class Method(ABC):
    """An attribution with its options: the keyword-only arguments of its constructor."""

    of_layers = False
    """Whether ``layers=`` has maps of layers returned."""

    needs_sites = True
    """Whether gradients with respect to the inputs are needed."""

    guided = False
    """Whether ReLUs let only positive gradients back."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.taps: frozenset[str] = question.taps if self.of_layers else frozenset()
        self.notes: list[str] = []

    def part(self, passing: Pass, batch: Batch) -> Part:
        """Explain a batch."""
        return self._part(passing, batch)

    @abstractmethod
    def _part(self, passing: Pass, batch: Batch) -> Part: ...

    def _begun(self, passing: Pass) -> None:
        """What a method has to check and to note of a model that was just traced."""
        del passing

    def begin(self, passing: Pass) -> None:
        """Look at a model that was just traced, and take down what the reader must know.

        Raises:
            Unsupported: If the method does not apply.
        """
        self.notes = []
        if self.needs_sites:
            self._check_sites(passing)
        self._begun(passing)

    def _check_sites(self, passing: Pass) -> None:
        names = self.question.names
        left = [i for i in range(len(names)) if i not in {site.input for site in passing.sites}]
        if not passing.sites:
            raise Unsupported(
                f"The input {', '.join(map(repr, names))} holds whole numbers and goes into no keras.layers.Embedding: "
                "it has no gradient, and a float map was asked for. Use a float input, "
                "method='occlusion', or a relevance preset."
            )
        if left:
            which = ", ".join(repr(names[i]) for i in left)
            self.notes.append(f"No map of {which}: whole numbers that go into no Embedding have no gradient.")


def by_input(
    sites: Sequence[Site], arrays: Sequence[Array], merge: Callable[[Array], Array] = lambda a: a.sum(-1)
) -> dict[int, Array]:
    """Maps at sites as maps of inputs.

    Args:
        sites: The sites.
        arrays: Their maps.
        merge: From a map at an embedding to one number per token; several embeddings of an input are added.
    """
    found: dict[int, Array] = {}
    for site, array in zip(sites, arrays, strict=True):
        one = merge(array) if site.embedded else array
        found[site.input] = found[site.input] + one if site.input in found else one
    return found


def summed(maps: dict[int, Array], due: Floats) -> Book:
    """The book of the inputs' maps."""
    wide = [array.astype(np.float64).reshape(*due.shape, -1) for array in maps.values()]
    return Book(
        due=due,
        given=np.sum([array.sum(-1) for array in wide], axis=0),
        magnitude=np.sum([np.abs(array).sum(-1) for array in wide], axis=0),
    )


def check_count(name: str, value: Any, at_least: int = 1) -> int:
    """An option that is a whole number.

    Raises:
        ConfigError: If it is none, or too small.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < at_least:
        raise ConfigError(f"options[{name!r}]={value!r}: expected a whole number of at least {at_least}.")
    return int(value)


def check_positive(name: str, value: Any) -> float:
    """An option that is a number above 0.

    Raises:
        ConfigError: If it is none.
    """
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not 0 < float(value) < float("inf"):
        raise ConfigError(f"options[{name!r}]={value!r}: expected a number above 0.")
    return float(value)


def of_inputs(question: Question, name: str, value: Any) -> list[Any]:
    """An option that is one for all inputs, or a dict by input, as a list with an entry for each input."""
    if not isinstance(value, dict):
        return [value] * len(question.names)
    check_names(value, list(question.names), what="input")
    missing = [one for one in question.names if one not in value]
    if missing:
        raise ConfigError(f"options[{name!r}] says nothing of the input(s) {', '.join(missing)}.")
    return [value[one] for one in question.names]
