"""One streamed run of everything that is compared: what every layer puts out, reduced to sums per sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.diagnosis.modeltrace.subject import INPUT, OUTPUT, Subject
from analyzer.inspection import inputs
from analyzer.inspection.instrumented import Arrays, Instrumented
from analyzer.inspection.selection import LayerCall
from analyzer.measures.activation_drift import RowSums, joined_sums, row_sums
from analyzer.measures.random_streams import stream

MOST_UNITS = 512
"""Units of one layer whose means over positions are kept; of wider layers, as many drawn at random."""

Told = Callable[[str, int, int], None]


@dataclass(kw_only=True, eq=False)
class Side:
    """What one model put out on one set of samples.

    Attributes:
        n: Samples.
        sums: By name of the tensor, inputs and outputs of the model included.
        units: By name, ``(n, u)`` means over positions, of leaves only.
    """

    n: int
    sums: dict[str, RowSums] = field(default_factory=dict)
    units: dict[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(kw_only=True, eq=False)
class Recorded:
    """What a run brought.

    Attributes:
        subject: The model on its data.
        clean: On the data.
        shifted: On the shifted data; None without.
        other: The other model on the data; None without.
        matches: Name of the other model's tensor by that of the model's, for those of one name or place.
        drift: Sums of clean minus shifted by name, where samples are pairs; else None.
        regression: Sums of the model's minus the other's by name, of tensors of one shape; None without another model.
        skipped: Reason by id, for calls that brought no tensor with a row per sample.
    """

    subject: Subject
    clean: Side
    shifted: Side | None = None
    other: Side | None = None
    matches: dict[str, str] = field(default_factory=dict)
    drift: dict[str, RowSums] | None = None
    regression: dict[str, RowSums] | None = None
    skipped: dict[str, str] = field(default_factory=dict)

    def names(self, call: LayerCall) -> list[str]:
        """Names of the tensors that a call returned: its id, or that with an index behind it."""
        return names_of(call.id, self.clean.sums)

    def leaf_names(self) -> list[str]:
        """Names of all tensors of leaves, in order of execution."""
        return [name for call in self.subject.leaves for name in self.names(call)]


def names_of(call: str, known: dict[str, Any]) -> list[str]:
    """Names of the tensors of a call, or of an input.

    Args:
        call: Its id.
        known: Tensors by name.
    """
    if call in known:
        return [call]
    return [name for name in known if name.startswith(f"{call}[") and name.endswith("]")]


def record(
    subject: Subject,
    shifted: Any | None,
    other: Subject | None,
    matches: dict[str, str],
    *,
    batch_size: int,
    seed: int,
    told: Told,
) -> Recorded:
    """Run what is to be compared side by side, batch by batch.

    Args:
        subject: The model on its data.
        shifted: Shifted samples, as arranged; pairs are compared where there are as many as in the data.
        other: Another model on the same data.
        matches: Id of the other model's call by that of the model's.
        batch_size: Most samples per batch.
        seed: Chooses the units that are kept of wide layers.
        told: Told of progress.
    """
    paired = shifted is not None and inputs.count(shifted) == subject.n
    runs = [("clean", subject)]
    if paired:
        runs.append(("shifted", subject.on(shifted)))
    if other is not None:
        runs.append(("other", other))
    sides = {name: _Gathering(one, seed) for name, one in runs}
    drift, regression = _Differences(), _Differences()
    done = 0
    streams = [_arrays(one, batch_size) for _, one in runs]
    for parts in in_step(streams):
        batch = dict(zip(sides, parts, strict=True))
        for name, arrays in batch.items():
            sides[name].add(arrays)
        if "shifted" in batch:
            drift.add(batch["clean"], batch["shifted"], {name: name for name in batch["clean"]})
        if "other" in batch:
            regression.add(batch["clean"], batch["other"], _by_tensor(batch["clean"], batch["other"], matches))
        done += _rows(parts[0])
        told("activations", done, subject.n)
    found = {name: side.finish() for name, side in sides.items()}
    if shifted is not None and not paired:
        found["shifted"] = _alone(subject.on(shifted), batch_size, seed, told)
    clean, beside = found["clean"], found.get("other")
    return Recorded(
        subject=subject,
        clean=clean,
        shifted=found.get("shifted"),
        other=beside,
        matches={} if beside is None else _by_tensor(clean.sums, beside.sums, matches),
        drift=drift.finish() if paired else None,
        regression=None if other is None else regression.finish(),
        skipped={
            call.id: "It returns no tensor of numbers with one row per sample."
            for call in subject.leaves
            if not names_of(call.id, clean.sums)
        },
    )


def in_step(streams: Sequence[Iterator[Arrays]]) -> Iterator[list[Arrays]]:
    """Batches of several runs over equally many samples, cut so that their rows belong together.

    Args:
        streams: Arrays by name, one row per sample, in batches that may differ in size where memory was lacking.
    """
    waiting: list[Arrays] = [{} for _ in streams]
    while True:
        for i, batches in enumerate(streams):
            if not waiting[i] or not _rows(waiting[i]):
                waiting[i] = next(batches, {})
        if not all(waiting):
            return
        rows = min(map(_rows, waiting))
        yield [{name: array[:rows] for name, array in arrays.items()} for arrays in waiting]
        waiting = [{name: array[rows:] for name, array in arrays.items()} for arrays in waiting]


def _rows(arrays: Arrays) -> int:
    return len(next(iter(arrays.values())))


def _arrays(subject: Subject, batch_size: int) -> Iterator[Arrays]:
    """Inputs, layers and outputs of every batch as arrays of numbers, by name."""
    run = Instrumented(view=subject.view, read=[*subject.leaves, *subject.extra], compiled=True)
    start = 0
    for batch in run.batches(subject.arranged, batch_size):
        outputs = [leaf for leaf in keras.tree.flatten(batch.outputs) if leaf is not None and leaf.ndim]
        results = list(batch.results.items())
        rows = len(outputs[0]) if outputs else len(results[0][1])
        given = keras.tree.flatten(inputs.take(subject.arranged, slice(start, start + rows)))
        start += rows
        named = [
            *((f"{INPUT}[{i}]", np.asarray(leaf)) for i, leaf in enumerate(given)),
            *results,
            *((f"{OUTPUT}[{i}]", leaf) for i, leaf in enumerate(outputs)),
        ]
        yield {name: array for name, array in named if array.dtype.kind in "biuf" and len(array) == rows}


def _alone(subject: Subject, batch_size: int, seed: int, told: Told) -> Side:
    side, done = _Gathering(subject, seed), 0
    for arrays in _arrays(subject, batch_size):
        side.add(arrays)
        done += _rows(arrays)
        told("shifted activations", done, subject.n)
    return side.finish()


def _by_tensor(own: dict[str, Any], others: dict[str, Any], matches: dict[str, str]) -> dict[str, str]:
    """Tensors of matched calls, by name."""
    pairs = [(OUTPUT, OUTPUT), *matches.items()]
    return {
        first: second
        for call, match in pairs
        for first, second in zip(names_of(call, own), names_of(match, others), strict=False)
    }


class _Differences:
    """Sums of differences, batch by batch."""

    def __init__(self) -> None:
        self._parts: dict[str, list[RowSums]] = {}
        self._batches = 0

    def add(self, first: Arrays, second: Arrays, matches: dict[str, str]) -> None:
        self._batches += 1
        for name, match in matches.items():
            if match in second and first[name].shape == second[match].shape:
                self._parts.setdefault(name, []).append(row_sums(first[name], minus=second[match]))

    def finish(self) -> dict[str, RowSums]:
        return {name: joined_sums(parts) for name, parts in self._parts.items() if len(parts) == self._batches}


class _Gathering:
    """Sums and unit means of one side, batch by batch."""

    def __init__(self, subject: Subject, seed: int) -> None:
        self._subject = subject
        self._seed = seed
        self._sums: dict[str, list[RowSums]] = {}
        self._units: dict[str, list[NDArray[np.float32]]] = {}
        self._batches = 0

    def add(self, arrays: Arrays) -> None:
        self._batches += 1
        for name, array in arrays.items():
            self._sums.setdefault(name, []).append(row_sums(array))
        for number, call in enumerate(self._subject.leaves):
            for name in names_of(call.id, arrays):
                first = getattr(call.layer.layer, "data_format", None) == "channels_first"
                means = unit_means(arrays[name], channels_first=first)
                kept = drawn_units(means.shape[1], self._seed, number)
                self._units.setdefault(name, []).append(means[:, kept])

    def finish(self) -> Side:
        whole = {name: joined_sums(parts) for name, parts in self._sums.items() if len(parts) == self._batches}
        units = {name: np.concatenate(self._units[name]) for name in self._units if name in whole}
        return Side(n=next(iter(whole.values())).n if whole else 0, sums=whole, units=units)


def unit_means(array: NDArray[Any], *, channels_first: bool) -> NDArray[np.float32]:
    """Mean of each unit over positions.

    Args:
        array: ``(n, ...)``, units last, or second for channels first.
        channels_first: Whether units come second where there are positions.

    Returns:
        ``(n, units)``.
    """
    if array.ndim < 2:
        return array.reshape(len(array), 1).astype(np.float32)
    moved = np.moveaxis(array, 1, -1) if channels_first and array.ndim > 2 else array
    means = moved.reshape(len(array), -1, moved.shape[-1]).mean(axis=1, dtype=np.float64)
    return np.asarray(means, dtype=np.float32)


def drawn_units(n_units: int, seed: int, layer: int) -> NDArray[np.int64]:
    """Which units of a layer are kept: all of them in a random order, `MOST_UNITS` at most.

    Args:
        n_units: How many there are.
        seed: The user's seed.
        layer: Number of the layer.
    """
    return stream(seed, 41, layer).permutation(n_units)[:MOST_UNITS]
