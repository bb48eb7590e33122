"""Files of results: written atomically, large arrays beside the JSON."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

JSON_NAME = "analysis_results.json"
ARRAYS_NAME = "analysis_arrays.npz"


def arrays_path(path: Path) -> Path:
    """The array file of a JSON file; two JSON files in one folder do not share one.

    Args:
        path: The JSON file.
    """
    return path.with_name(ARRAYS_NAME if path.name == JSON_NAME else f"{path.stem}_arrays.npz")


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The members of an array file; none where there is no such file.

    Args:
        path: The array file.
    """
    if not path.exists():
        return {}
    # Opened here: numpy leaves a damaged file open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as members:
        return dict(members)


def write_document(path: Path, text: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a JSON file atomically, and before it the array file that it refers to.

    Args:
        path: The JSON file; its folder is made.
        text: What it holds.
        arrays: Members of the array file; none, no file.

    Raises:
        OSError: If something cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if arrays:
        with atomically(arrays_path(path)) as partial, partial.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    with atomically(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def atomically(target: Path) -> Iterator[Path]:
    """A temporary file beside the target, which takes its place when the block ends well.

    Args:
        target: The file to be written.
    """
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".partial-", suffix=target.suffix)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        # mkstemp files are private to the user; results are as readable as any file of theirs.
        umask = os.umask(0)
        os.umask(umask)
        partial.chmod(0o666 & ~umask)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
