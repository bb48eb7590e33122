"""`Explanation` as strict JSON and back: large arrays inline or beside the file; what is not finite becomes null."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.data_types.files import arrays_path, load_arrays, write_document
from analyzer.data_types.serialization import ArrayStore, decode, plain
from analyzer.errors import DataError, OutputError

if TYPE_CHECKING:
    from analyzer.data_types.explanation import Explanation

VERSION = "1.0"
"""Releases read every document whose number before the point is theirs."""

_MAPS = ("inputs", "layers", "against", "layers_against")
_ARRAYS = ("output", "targets")

WriteArray = Callable[[NDArray[Any], str], dict[str, Any]]


def to_text(explanation: Explanation, path: str | Path | None, *, include_arrays: bool) -> str:
    """The document as text, written to ``path`` where there is one; see `Explanation.to_json`.

    Args:
        explanation: What is saved.
        path: The JSON file, or None.
        include_arrays: Whether maps are kept.
    """
    store = ArrayStore(inline_all=path is None)
    document = _document(explanation, _writer(store) if include_arrays else _outline)
    text = json.dumps(document, indent=1, allow_nan=False)
    if path is not None:
        try:
            write_document(Path(path), text, store.arrays)
        except OSError as error:
            raise OutputError(f"The explanation cannot be written to {path}: {error.strerror}.") from error
    return text


def _document(explanation: Explanation, write: WriteArray) -> dict[str, Any]:
    def maps(name: str) -> dict[str, Any] | None:
        arrays = getattr(explanation, name)
        return None if arrays is None else {key: write(np.asarray(array), name) for key, array in arrays.items()}

    # The values explained are few, and all else is relative to them: they are always whole.
    keep = _writer(ArrayStore(inline_all=True))
    targets = explanation.targets
    return {
        "type": "Explanation",
        "version": VERSION,
        "method": explanation.method,
        "target": explanation.target,
        "n": explanation.n,
        "targets": None if targets is None else keep(np.asarray(targets), "targets"),
        "output": keep(np.asarray(explanation.output), "output"),
        "unexplained_fraction": plain(explanation.unexplained_fraction),
        **{name: maps(name) for name in _MAPS},
        "ledger": _ledger(explanation.ledger),
        "trace": plain(explanation.trace),
        "notes": plain(explanation.notes),
        "measured": plain(explanation.measured),
    }


def _writer(store: ArrayStore) -> WriteArray:
    def write(array: NDArray[Any], field: str) -> dict[str, Any]:
        # A type that only a framework knows (bfloat16) would make the array file unreadable without it.
        known = array if array.dtype.kind in "biuf" else array.astype(np.float32)
        return {"dtype": str(known.dtype), "shape": list(known.shape), "values": store.add(known, field)}

    return write


def _outline(array: NDArray[Any], field: str) -> dict[str, Any]:
    """What is left of an array without its values."""
    del field
    total, magnitude = float(np.sum(array, dtype=np.float64)), float(np.sum(np.abs(array), dtype=np.float64))
    return {
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "values": None,
        "sum": plain(total),
        "sum_of_magnitudes": plain(magnitude),
    }


def _ledger(frame: pd.DataFrame) -> dict[str, Any]:
    columns = {str(name): plain(frame[name].tolist()) for name in frame.columns}
    return {"places": [str(place) for place in frame.index], "columns": columns}


def read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The document of a file, and the arrays beside it.

    Args:
        path: The JSON file.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8")), load_arrays(arrays_path(path))
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"No explanation can be read from {path}: {error}.") from error


def fields_of(document: Any, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The fields of the `Explanation` that a document holds.

    Args:
        document: JSON values.
        arrays: Members of the array file.

    Raises:
        DataError: If it is no explanation, one of a later release, damaged, or was written without its arrays.
    """
    if not isinstance(document, dict) or document.get("type") != "Explanation":
        raise DataError("This holds no explanation of keras-analyzer: its 'type' is not 'Explanation'.")
    version = str(document.get("version"))
    if version.split(".")[0] != VERSION.split(".")[0]:
        raise DataError(f"The explanation has version {version}; this release reads {VERSION}. Update it.")
    try:
        return _fields(document, arrays)
    except DataError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"The explanation is damaged: {type(error).__name__}: {error}. Explain again.") from error


def _fields(document: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    from analyzer.data_types.explanation import Step

    maps = {
        name: None if document[name] is None else {key: _array(a, arrays, key) for key, a in document[name].items()}
        for name in _MAPS
    }
    values = {name: None if document[name] is None else _array(document[name], arrays, name) for name in _ARRAYS}
    ledger = document["ledger"]
    # A column of nulls alone has no type of its own; amounts are floats.
    columns = {
        name: pd.Series(column, dtype=None if any(isinstance(v, str) for v in column) else np.float64)
        for name, column in ledger["columns"].items()
    }
    frame = pd.DataFrame(columns)
    frame.index = pd.Index(ledger["places"], dtype=object, name="place")
    return {
        **maps,
        **values,
        "method": document["method"],
        "target": document["target"],
        "ledger": frame,
        "trace": decode(tuple[Step, ...], document["trace"], arrays),
        "notes": tuple(document["notes"]),
        "measured": document["measured"],
    }


def _array(entry: Mapping[str, Any], arrays: Mapping[str, np.ndarray], name: str) -> NDArray[Any]:
    values = entry["values"]
    if values is None:
        raise DataError(
            f"The explanation was written without its arrays ({name!r}): write it with include_arrays=True."
        )
    if isinstance(values, dict):
        values = decode(np.ndarray, values, arrays)
    return np.asarray(values, dtype=entry["dtype"]).reshape(entry["shape"])
