"""Training histories in one form, whatever they come as.

A `History` comes from a History callback, its dict, a CSVLogger file, a JSON file of the dict, a data frame, or a list
of those. Files are parsed as text: nothing that can run code is opened.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.metric_names import LEARNING_RATE_NAMES, Direction, Metric, pair_metrics, split_name
from analyzer.errors import DataError

EPOCH_NAMES = ("epoch", "epochs", "", "Unnamed: 0")
"""Columns that number the epochs; the last two are what pandas makes of a frame's index."""

_MISSING = frozenset({"", "na", "n/a", "none", "null"})
_EXPECTED = (
    "expected a Keras History, its dict {'loss': [...], 'val_loss': [...]}, the path of a CSVLogger file, "
    "a data frame with one row per epoch, or a list of those for several seeds"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class History:
    """What was logged while a model was trained, in one or several runs.

    Attributes:
        epochs: Epoch numbers, counted from 1, ascending, shape ``(n_epochs,)``.
        series: By name as logged, shape ``(n_runs, n_epochs)``; NaN where nothing was recorded, or where NaN was.
        recorded: By name, same shape: whether a value was written at all. NaN and recorded means that training
            produced it.
        metrics: Recognised metrics by name (without ``val_``), with direction and pairing.
        learning_rate: Name of the series with the learning rate; None where there is none.
        unused: Series that are not used, by name as logged, each with the reason.
        notes: What had to be assumed while reading, in sentences.
    """

    epochs: NDArray[np.int64]
    series: dict[str, NDArray[np.float64]]
    recorded: dict[str, NDArray[np.bool_]]
    metrics: dict[str, Metric] = field(default_factory=dict)
    learning_rate: str | None = None
    unused: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def n_runs(self) -> int:
        """Number of runs (seeds)."""
        return len(next(iter(self.series.values())))


@dataclass
class _Run:
    """One run while it is being read: a column is a list with None where nothing was recorded."""

    columns: dict[str, list[float | None]]
    epochs: list[int] = field(default_factory=list)
    unused: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_history(source: Any, *, directions: Mapping[str, Direction] | None = None) -> History:
    """Read a training history of any kind.

    Series of one run may be shorter than the longest where validation ran every f-th epoch and only one f explains the
    length; they are then placed as Keras places them, and a note says so.

    Args:
        source: A Keras ``History`` (anything with ``history`` and ``epoch``), its dict of lists or arrays, the path of
            a CSVLogger file or of a JSON file with the dict, a pandas frame with one row per epoch, a list, tuple or
            dict of those (several seeds of one model), or a `History`, which is returned as it is.
        directions: ``"up"`` or ``"down"`` by metric name (without ``val_``), for metrics that are not in
            `analyzer.data_types.metric_names.METRIC_TABLE`; it beats the table.

    Returns:
        The history with its metrics recognised and paired.

    Raises:
        DataError: If the source is of another kind, cannot be read, or holds no series of numbers.
    """
    wrong = {name: d for name, d in (directions or {}).items() if d not in ("up", "down")}
    if wrong:
        raise DataError(f"directions={wrong!r}: expected 'up' (more is better) or 'down' for each metric.")
    if isinstance(source, History):
        if directions:
            raise DataError("directions came with a history already read: pass them with the source it was read from.")
        return source
    if isinstance(source, Mapping) and source and all(map(_is_run, source.values())):
        source = list(source.values())
    sources = list(source) if isinstance(source, list | tuple) else [source]
    if not sources:
        raise DataError(f"The training history is an empty list; {_EXPECTED}.")
    return _combine([_place(_read_run(one)) for one in sources], directions)


def _is_run(value: Any) -> bool:
    """Whether a value is a whole run, and so no series of one."""
    return isinstance(value, Mapping | os.PathLike) or hasattr(value, "columns") or hasattr(value, "history")


def _read_run(source: Any) -> _Run:
    if isinstance(source, str | os.PathLike):
        return _read_file(Path(source))
    if hasattr(source, "columns") and hasattr(source, "isna"):
        return _read_frame(source)
    logged = getattr(source, "history", None)
    if isinstance(logged, Mapping):
        run = _read_mapping(logged)
        # Keras counts epochs from 0.
        run.epochs = [int(epoch) + 1 for epoch in getattr(source, "epoch", None) or []]
        return run
    if isinstance(source, Mapping):
        return _read_mapping(source)
    raise DataError(f"The training history is of type {type(source).__name__}; {_EXPECTED}.")


def _read_mapping(logged: Mapping[Any, Any]) -> _Run:
    run = _Run(columns={})
    for name, values in logged.items():
        if not isinstance(name, str):
            raise DataError(f"The training history has the key {name!r}; expected names of metrics, such as 'loss'.")
        if isinstance(values, str | Mapping) or not hasattr(values, "__len__") or not hasattr(values, "__iter__"):
            raise DataError(
                f"The training history holds {type(values).__name__} under {name!r}; expected one number per epoch: "
                "write [value] for a single epoch."
            )
        _add_column(run, name, list(values))
    return _take_epochs(run)


def _read_file(path: Path) -> _Run:
    if path.suffix.lower() in (".pkl", ".pickle", ".npy", ".joblib"):
        raise DataError(
            f"The training history {path.name} is a {path.suffix} file, which can run code when read; "
            "save it with keras.callbacks.CSVLogger, or json.dump(history.history, file)."
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise DataError(f"The training history {path} cannot be read: {why}. Expected a CSVLogger file.") from error
    if path.suffix.lower() == ".json":
        return _read_json(text, path)
    return _read_csv(text, path)


def _read_json(text: str, path: Path) -> _Run:
    try:
        logged = json.loads(text)
    except ValueError as error:
        raise DataError(f"The training history {path} is not valid JSON: {error}.") from error
    if not isinstance(logged, dict):
        raise DataError(f"The training history {path} holds a {type(logged).__name__}; expected history.history.")
    return _read_mapping(logged)


def _read_csv(text: str, path: Path) -> _Run:
    lines = text.splitlines()
    head = lines[0] if lines else ""
    separator = max(",;\t", key=head.count)
    rows = [row for row in csv.reader(lines, delimiter=separator) if row]
    if len(rows) < 2:
        raise DataError(
            f"The training history {path} has {len(rows)} line{'s' * (len(rows) != 1)}; expected a line of names "
            "and one line per epoch, as keras.callbacks.CSVLogger writes them."
        )
    names, body = [name.strip() for name in rows[0]], rows[1:]
    if len(set(names)) != len(names):
        raise DataError(f"The training history {path} names a column twice: {', '.join(names)}.")
    for number, row in enumerate(body, start=2):
        if len(row) != len(names):
            raise DataError(
                f"The training history {path} has {len(row)} values in line {number} and {len(names)} names; "
                "was it written by runs with different metrics? Write one file per run."
            )
    run = _Run(columns={})
    for index, name in enumerate(names):
        _add_column(run, name, [row[index] for row in body])
    if not run.columns:
        raise DataError(f"The training history {path} has no column of numbers under {', '.join(names)}; {_EXPECTED}.")
    return _take_epochs(run)


def _read_frame(frame: Any) -> _Run:
    """Read a frame, where NaN stands both for a missing value and for a NaN.

    Training series are logged every epoch, so a NaN there is a NaN. A validation series has one only where its training
    series has one too; else validation did not run in that epoch.
    """
    absent = {str(name): frame[name].isna().tolist() for name in frame.columns}
    run = _Run(columns={})
    for name in frame.columns:
        training, split = split_name(str(name))
        twin = absent.get(training, absent.get(f"train_{training}"))
        values: list[Any] = []
        for row, value in enumerate(frame[name].tolist()):
            is_nan = absent[str(name)][row]
            missing = is_nan and split == "validation" and not (twin is not None and twin[row])
            values.append(None if missing else float("nan") if is_nan else value)
        _add_column(run, str(name), values)
    return _take_epochs(run)


def _add_column(run: _Run, name: str, values: Sequence[Any]) -> None:
    try:
        run.columns[name] = [_number(value) for value in values]
    except (TypeError, ValueError):
        bad = next(value for value in values if not _is_number(value))
        shape = getattr(bad, "shape", None) or (len(bad),) if hasattr(bad, "__len__") else None
        what = f"vectors of shape {shape}" if shape and not isinstance(bad, str) else f"{bad!r}"
        run.unused[name] = f"{name!r} holds {what}; expected one number per epoch"


def _number(value: Any) -> float | None:
    if value is None or (isinstance(value, str) and value.strip().lower() in _MISSING):
        return None
    return float(value)


def _is_number(value: Any) -> bool:
    try:
        _number(value)
    except (TypeError, ValueError):
        return False
    return True


def _take_epochs(run: _Run) -> _Run:
    """Move the column that numbers the epochs, if there is one, to its place, counted from 1."""
    named = [name for name in EPOCH_NAMES if name in run.columns]
    numbers = [run.columns.pop(name) for name in named]
    if not numbers or not numbers[0]:
        return run
    whole = [int(n) for n in numbers[0] if n is not None and np.isfinite(n) and n == int(n)]
    if len(whole) != len(numbers[0]):
        run.notes.append(f"The column {named[0]!r} does not number the epochs; rows are counted in order.")
        return run
    if whole[0] == 1:
        run.notes.append(f"The column {named[0]!r} starts at 1 and is taken to count epochs from 1.")
    run.epochs = whole if whole[0] == 1 else [n + 1 for n in whole]
    return run


def _place(run: _Run) -> _Run:
    """Give every column one place per epoch, and every epoch its number."""
    lengths = {len(column) for column in run.columns.values()}
    if not run.columns or lengths == {0}:
        unusable = f" Not usable: {'; '.join(run.unused.values())}." if run.unused else ""
        raise DataError(f"The training history holds no epochs; {_EXPECTED}.{unusable}")
    n_epochs = max(lengths)
    if run.epochs and len(run.epochs) != n_epochs:
        run.notes.append(f"{len(run.epochs)} epoch numbers came with {n_epochs} values; values are counted in order.")
        run.epochs = []
    if any(b <= a for a, b in zip(run.epochs, run.epochs[1:], strict=False)):
        run.notes.append("Epoch numbers restart or repeat (training was resumed); rows are counted in order.")
        run.epochs = []
    run.epochs = run.epochs or list(range(1, n_epochs + 1))
    for name, column in list(run.columns.items()):
        if len(column) < n_epochs:
            _spread(run, name, column, n_epochs)
    return run


def _spread(run: _Run, name: str, column: list[float | None], n_epochs: int) -> None:
    """Place a short series at every f-th epoch, as ``validation_freq=f`` does, where only one f can be meant."""
    frequencies = [f for f in range(2, n_epochs + 1) if n_epochs // f == len(column)]
    if len(frequencies) != 1:
        run.unused[name] = (
            f"{name!r} has {len(column)} values for {n_epochs} epochs and it cannot be told which epochs they belong "
            "to; pass a CSVLogger file, or a list with None where nothing was recorded"
        )
        del run.columns[name]
        return
    f = frequencies[0]
    spread: list[float | None] = [None] * n_epochs
    spread[f - 1 :: f] = column
    run.columns[name] = spread
    run.notes.append(f"{name!r} has {len(column)} values for {n_epochs} epochs: read as validation_freq={f}.")


def _combine(runs: list[_Run], directions: Mapping[str, Direction] | None) -> History:
    epochs = sorted({epoch for run in runs for epoch in run.epochs})
    position = {epoch: index for index, epoch in enumerate(epochs)}
    names = list(dict.fromkeys(name for run in runs for name in run.columns))
    shape = (len(runs), len(epochs))
    series = {name: np.full(shape, np.nan) for name in names}
    recorded = {name: np.zeros(shape, dtype=np.bool_) for name in names}
    unused: dict[str, str] = {}
    notes: list[str] = []
    for row, run in enumerate(runs):
        mark = f"Run {row + 1}: " if len(runs) > 1 else ""
        places = np.array([position[epoch] for epoch in run.epochs])
        for name, column in run.columns.items():
            series[name][row, places] = [np.nan if value is None else value for value in column]
            recorded[name][row, places] = [value is not None for value in column]
        notes += [mark + note for note in run.notes]
        notes += [f"{mark}no series {name!r}." for name in names if name not in run.columns]
        unused |= {name: mark + reason for name, reason in run.unused.items()}
    metrics, unknown = pair_metrics(names, directions)
    return History(
        epochs=np.array(epochs, dtype=np.int64),
        series=series,
        recorded=recorded,
        metrics=metrics,
        learning_rate=next((name for name in LEARNING_RATE_NAMES if name in names), None),
        unused=unused | unknown,
        notes=tuple(notes),
    )
