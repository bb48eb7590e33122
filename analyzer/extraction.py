"""`features`: what any layer of any model puts out, as arrays, an npz file or pictures."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ConfigError, OutputError
from analyzer.inspection.features import LayerOutputs, Post, layer_outputs
from analyzer.inspection.names import slug
from analyzer.inspection.selection import Layers

if TYPE_CHECKING:
    import keras

IMAGES = (".png", ".pdf", ".svg")


def features(
    model: keras.Model | str | Path,
    x: Any,
    layers: Layers = None,
    *,
    post: Post | None = None,
    save: str | Path | None = None,
    batch_size: int = 128,
    n_samples: int | None = None,
) -> dict[str, NDArray[Any]]:
    """The output of any layer of any model at inference, on every backend.

    Works alike for Functional, Sequential, subclassed and nested models, shared and quantised layers, attention and its
    parts, recurrent layers as a whole. The model and the process stay as they were; the pass is compiled for itself and
    streamed, so that only the asked outputs are held, all of them in memory.

    Args:
        model: A built model, or the path of a ``.keras`` file.
        x: Samples: one array, a list, or a dict by input name.
        layers: Which layers: a name, an id (``"encoder/dense"``), one call of a shared layer (``"dense@2"``), a layer
            class or its name, a layer of the model, a predicate on `LayerInfo`, or a list of those. None takes every
            layer that computes something.
        post: Applied to the array of each layer, one batch at a time, before anything is kept: ``(b, ...)`` in,
            one row per sample out. Pooling here keeps the maps of large layers out of memory.
        save: Where to write them as well: an ``.npz`` file of arrays by id; a folder for one picture per layer; or,
            for a single layer, a ``.png``, ``.pdf`` or ``.svg`` file. Names become file names with all signs replaced
            that a file system could read as something else.
        batch_size: Most samples per batch, unless the model fixes it.
        n_samples: Only the first of x; None for all.

    Returns:
        Arrays in the dtype of the layer (bfloat16 as float32), one row per sample in the order of x, by id, in order of
        execution. Further calls of a shared layer are ``"<id>@2"``, …; several tensors of one call ``"<id>[0]"``, … or
        ``"<id>[<key>]"``. Tensors without a row per sample are left out.

    Raises:
        ConfigError: If a layer is unknown or never runs, or an option has no such value.
        DataError: If x does not fit the model, or ``post`` does not return one row per sample.
        ModelError: If the model was never built or its file cannot be opened.
        OutputError: If nothing can be written to ``save``.
        DeviceMemoryError: If a single sample does not fit into memory.
    """
    path = None if save is None else _target(save)
    single = path is not None and path.suffix.lower() in IMAGES
    found = layer_outputs(
        model, x, layers, post=post, batch_size=batch_size, n_samples=n_samples, at_most=1 if single else None
    )
    if single and len(found.arrays) > 1:
        raise ConfigError(f"The layer returns {len(found.arrays)} tensors, too many for {path}: give a folder.")
    if path is not None:
        _save(found, path)
    return found.arrays


def _target(save: str | Path) -> Path:
    path = Path(save)
    known = (".npz", *IMAGES)
    if not path.is_dir() and path.suffix.lower() not in ("", *known):
        raise ConfigError(f"save={str(save)!r}: expected a folder, or a file ending in {', '.join(known)}.")
    return path


def _save(found: LayerOutputs, path: Path) -> None:
    suffix = "" if path.is_dir() else path.suffix.lower()
    try:
        (path if suffix == "" else path.parent).mkdir(parents=True, exist_ok=True)
        if suffix == ".npz":
            save_arrays(found.arrays, path)
            return
    except OSError as error:
        raise OutputError(f"The features cannot be written to {path}: {error.strerror}.") from error
    # Imported here: arrays do not need Matplotlib.
    from analyzer.visualizers.feature_maps import save_feature_maps

    for name, array in found.arrays.items():
        file = path if suffix else path / f"{slug(name)}.png"
        save_feature_maps(name, array, file, channels_first=name in found.channels_first)


def save_arrays(arrays: Mapping[str, NDArray[Any]], path: Path) -> None:
    """Write an npz file as `numpy.savez` does, which cannot take an array called ``"file"``; the same bytes every time.

    Args:
        arrays: Arrays by id. Signs that would lead out of a folder when someone unpacks the file are percent-encoded.
        path: The file.
    """
    with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{_member(name)}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def _member(name: str) -> str:
    return "/".join(_escaped(part) for part in name.split("/"))


def _escaped(part: str) -> str:
    if not part.strip("."):
        # Nothing, the folder itself or the one above.
        return "%2E" * len(part) or "%"
    return quote(part, safe="@#[] ")
