"""Samples to draw: those that a result kept, or the first of an explanation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.explanation import Explanation
from analyzer.data_types.relevance import InputKind, RelevanceExample, RelevanceResult
from analyzer.visualizers.series import Series
from analyzer.visualizers.text import displayable

MOST_SAMPLES = 6
"""Samples in one panel."""

IMAGES: tuple[InputKind, ...] = ("image", "volume")


def examples_of(result: Any, kinds: Sequence[InputKind] = ()) -> list[RelevanceExample]:
    """The samples that there are, those with an input of these kinds only.

    Args:
        result: A `RelevanceResult`, an `Explanation` or a `RelevanceExample`.
        kinds: What the input must be; any where empty.
    """
    if isinstance(result, RelevanceExample):
        found = [result]
    elif isinstance(result, RelevanceResult):
        found = list(result.examples)
    else:
        found = list(_of_explanation(result, kinds))
    return [one for one in found if not kinds or one.kind in kinds]


def of_one_input(found: Sequence[RelevanceExample]) -> list[RelevanceExample]:
    """The samples of the first input among them: one picture shows one input.

    Args:
        found: Samples.
    """
    return [one for one in found if one.input == found[0].input and one.relevance.ndim == found[0].relevance.ndim]


def kind_of(explanation: Explanation, name: str) -> InputKind:
    """What an input seems to be, by the shape of its relevance and by what read it first.

    Args:
        explanation: An explanation.
        name: Name of the input.
    """
    shape = np.shape(explanation.inputs[name])[np.ndim(explanation.output) :]
    if len(shape) > 3:
        return "volume"
    # Pixels without an axis of channels; a series is rarely as long as it is wide.
    if len(shape) == 3 or (len(shape) == 2 and shape[0] == shape[1] > 4):
        return "image"
    if len(shape) == 2:
        return "series"
    return "tokens" if any("Embedding" in step.kind for step in explanation.trace) else "features"


def _of_explanation(explanation: Explanation, kinds: Sequence[InputKind]) -> Iterator[RelevanceExample]:
    output = np.asarray(explanation.output)
    for name, array in explanation.inputs.items():
        kind = _as_asked(kind_of(explanation, name), kinds, np.asarray(array).ndim - output.ndim)
        opposing = None if explanation.against is None else explanation.against.get(name)
        for place in _places(output.shape):
            yield RelevanceExample(
                index=place[-1],
                input=name,
                kind=kind,
                target=_target(explanation, place),
                output=float(output[place]),
                relevance=_one(np.asarray(array), place),
                against=None if opposing is None else _one(np.asarray(opposing), place),
            )


def _as_asked(kind: InputKind, kinds: Sequence[InputKind], axes: int) -> InputKind:
    """Who asks for a picture of a given kind knows the input better than its shape does."""
    asked = {1: ("tokens", "features"), 2: ("image", "series"), 3: ("image",), 4: ("volume",)}.get(axes, ())
    fitting = [word for word in kinds if word in asked]
    return kind if kind in kinds or not fitting else fitting[0]


def _places(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [tuple(int(i) for i in place) for place in np.ndindex(*shape)]


def _one(array: NDArray[Any], place: tuple[int, ...]) -> NDArray[np.float32]:
    return np.asarray(array[place], dtype=np.float32)


def _target(explanation: Explanation, place: tuple[int, ...]) -> str:
    """What was explained for one sample: a class or position by its number where there is one."""
    targets = None if explanation.targets is None else np.asarray(explanation.targets)
    several = len(place) > 1
    if targets is not None and targets.shape == np.shape(explanation.output):
        return f"target {targets[place]}"
    if targets is not None and several and targets.shape == np.shape(explanation.output)[:1]:
        return f"target {targets[place[0]]}"
    return f"no. {place[0]}" if several else explanation.target


def what(one: RelevanceExample) -> str:
    """What was explained and what came out, in one line.

    Args:
        one: A sample.
    """
    target, *more = in_lines(one)
    return f"{target} ({', '.join(more)})" if more else target


def in_lines(one: RelevanceExample) -> tuple[str, ...]:
    """The same in two lines; one where there is no more to say.

    Args:
        one: A sample.
    """
    value = [] if one.output is None else [f"{one.output:.3g}"]
    true = [f"true: {displayable(one.label)}"] if one.label is not None and one.label != one.target else []
    more = [", ".join([*value, *true])] if value or true else []
    return (displayable(one.target), *more)


def all_examples(series: Sequence[Series], kinds: Sequence[InputKind]) -> list[tuple[Series, list[RelevanceExample]]]:
    """The samples to draw of each series that has any, and that has the first one's input.

    Args:
        series: Results, explanations or examples.
        kinds: What the input must be.
    """
    pairs = [(s, examples_of(s.result, kinds)) for s in series]
    return [(s, of_one_input(found)[:MOST_SAMPLES]) for s, found in pairs if found]


def how_many(series: Sequence[Series], kinds: Sequence[InputKind]) -> str:
    """``6 of 64 samples``, or the number where all are shown.

    Args:
        series: What is drawn.
        kinds: What the input must be.
    """
    shown = max((len(found) for _, found in all_examples(series, kinds)), default=0)
    total = max((getattr(s.result, "n", 1) for s in series), default=0)
    explained = [s.result for s in series if isinstance(s.result, Explanation)]
    targets = max((np.size(one.output) // max(one.n, 1) for one in explained), default=1)
    if targets > 1:
        return f"{shown} of {targets * total} maps: {targets} targets of {total} samples"
    return f"{shown} of {total} samples" if shown < total else f"{shown} sample{'s' * (shown != 1)}"


def without_channels(one: RelevanceExample) -> NDArray[np.float64]:
    """Relevance by place: pixels, steps, tokens or columns; channels are summed.

    Args:
        one: A sample.
    """
    values = np.asarray(one.relevance, np.float64)
    axes = {"image": 2, "volume": 3, "series": 1}.get(one.kind, values.ndim)
    summed = range(values.ndim - axes) if one.channels_first else range(axes, values.ndim)
    return np.asarray(values.sum(axis=tuple(summed)))
