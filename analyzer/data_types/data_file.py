"""Reading samples and labels from an npz file, as the command line's `--data` takes them."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import DataError

Arrays = NDArray[Any] | dict[str, NDArray[Any]]

EXPECTED = (
    "Expected the arrays x (or x_<input> for several inputs), y (or y_<output> for several outputs; may be left out) "
    "and sample_weight (may be left out), as written by numpy.savez(path, x=..., y=...)."
)
# Booleans, integers, floats, complex numbers and text. Objects would be pickles, that is, programs.
_KINDS = frozenset("biufcUS")


class NpzData(NamedTuple):
    """The contents of a data file.

    Attributes:
        x: Samples, shape `(n, ...)`, or a dict of such arrays by input name.
        y: Labels, shape `(n, ...)`, or a dict of such arrays by output name; None without labels.
        sample_weight: Weights, shape `(n,)`; None without.
    """

    x: Arrays
    y: Arrays | None
    sample_weight: NDArray[Any] | None


def load_npz(path: str | Path) -> NpzData:
    """Read samples, labels and weights from an npz file; nothing in it can run code.

    Args:
        path: A file with `x` or several `x_<input>`, perhaps `y` or several `y_<output>`, perhaps `sample_weight`.

    Returns:
        Its arrays as `(x, y, sample_weight)`.

    Raises:
        DataError: The file is missing, unreadable or of another format, holds Python objects or unknown names, or
            lacks x.
    """
    path = Path(path)
    arrays = _read(path)
    known = {key for key in arrays if key in ("x", "y", "sample_weight") or key.startswith(("x_", "y_"))}
    unknown = [key for key in arrays if key not in known]
    if unknown:
        raise DataError(f"{path.name}: cannot tell what {', '.join(map(repr, unknown))} stands for. {EXPECTED}")
    x, y = _one_or_several(arrays, "x", "input", path), _one_or_several(arrays, "y", "output", path)
    if x is None:
        raise DataError(f"{path.name}: has no x, only {', '.join(arrays) or 'nothing'}. {EXPECTED}")
    return NpzData(x=x, y=y, sample_weight=arrays.get("sample_weight"))


def _read(path: Path) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "there is no such file"
        raise DataError(f"{path}: {what}. {EXPECTED}")
    if not zipfile.is_zipfile(path):
        size = path.stat().st_size
        raise DataError(f"{path.name}: is not an npz file, or a truncated one ({size} bytes). {EXPECTED}")
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            for key in archive.files:
                arrays[key] = _read_array(archive, key, path)
    except DataError:
        raise
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path.name}: cannot be read ({error}). {EXPECTED}") from error
    return arrays


def _read_array(archive: Any, key: str, path: Path) -> NDArray[Any]:
    try:
        array = archive[key]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise DataError(
            f"{path.name}: {key!r} is an array of Python objects, which could run code when read. Save it with one "
            f"numeric dtype, for example numpy.asarray(values, dtype='float32')."
        ) from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in _KINDS:
        found = f"dtype {array.dtype}" if isinstance(array, np.ndarray) else "no NumPy array"
        raise DataError(f"{path.name}: {key!r} has {found}, expected an array of numbers or text.")
    return array


def _one_or_several(arrays: dict[str, NDArray[Any]], key: str, what: str, path: Path) -> Arrays | None:
    several = {name[2:]: array for name, array in arrays.items() if name.startswith(f"{key}_")}
    if "" in several:
        raise DataError(f"{path.name}: {f'{key}_'!r} names no {what}. Expected {key}_<{what}>, or {key} alone.")
    if key not in arrays:
        return several or None
    if several:
        names = ", ".join(repr(f"{key}_{name}") for name in several)
        raise DataError(f"{path.name}: has {key!r} and {names}. Expected {key!r} alone, or one array for every {what}.")
    return arrays[key]
