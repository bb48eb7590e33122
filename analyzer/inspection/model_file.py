"""Opening a `.keras` file: look first, without Keras and without running anything, then load in safe mode.

Loading a model file rebuilds the classes that it names, and Keras' own guard against files from strangers has been
passed by more than a dozen published attacks. :func:`preflight` therefore reads the file as data and refuses what
could run code, read other files or exhaust memory; :func:`load` lets Keras at it afterwards.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analyzer.errors import ModelError
from analyzer.inspection.model_archive import read_archive
from analyzer.inspection.model_config import (
    CompiledLoss,
    CompiledLosses,
    Reference,
    parse_losses,
    references,
    refuse_code,
)

if TYPE_CHECKING:
    import keras

__all__ = ["CompiledLoss", "CompiledLosses", "ModelFileFacts", "compiled_losses", "load", "preflight"]

# The first release with every fix for files from strangers that was published by August 2026 (decompression bombs in
# assets and nested HDF5 groups came last); 3.12.4 has them too, but no later release below this one.
SAFE_KERAS = (3, 15, 1)
SAFE_KERAS_BRANCH = (3, 12, 4)

_HOW_TO_CONVERT = (
    "Convert it in an environment that can open it: model = keras.models.load_model({name!r}); model.save({new!r})"
)

OWN_CLASSES = frozenset(
    f"keras_analyzer>{name}" for name in ("RecalibratedModel", "ScoreScaling", "IsotonicCalibration")
)
"""What `recalibrate` adds to a model; `load` makes Keras know them."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ModelFileFacts:
    """What a `.keras` file says about itself, the same on every backend.

    Attributes:
        name: Name of the file, without folders.
        size: Its length in bytes.
        sha256: Its SHA-256 digest, hexadecimal.
        keras_version: Version of Keras that wrote it; None if it does not say.
        class_name: Class of the model, `Sequential`, `Functional` or its own.
        custom_objects: Registered names of the classes and functions that do not come with Keras, in the file's order.
        loss: The `loss` of its `compile_config` as plain JSON; None if it was not compiled. See `compiled_losses`.
        metrics: The `metrics` of its `compile_config` as plain JSON; None if there are none.
        weighted_metrics: Its `weighted_metrics` likewise.
    """

    name: str
    size: int
    sha256: str
    keras_version: str | None
    class_name: str
    custom_objects: tuple[str, ...]
    loss: Any
    metrics: Any
    weighted_metrics: Any = None


def preflight(path: str | Path, custom_objects: Mapping[str, Any] | None = None) -> ModelFileFacts:
    """Look at a `.keras` file as data; imports neither Keras nor a framework and runs nothing from the file.

    Args:
        path: The file.
        custom_objects: Classes and functions by registered name that the user allows, besides those registered with
            Keras so far.

    Returns:
        Its facts.

    Raises:
        ModelError: The file is missing, of another format, truncated, damaged or incomplete.
        UnsafeModelError: Loading it could run code, write or read other files, or exhaust memory.
    """
    path = _regular_file(Path(path))
    archive = read_archive(path)
    if not isinstance(archive.config.get("class_name"), str):
        raise ModelError(f"{path.name}: config.json names no class. Expected a model saved with model.save().")
    version = archive.metadata.get("keras_version")
    version = version if isinstance(version, str) else None
    found = list(references(archive.config))
    refuse_code(found, _registration(custom_objects), f"{path.name} (written by Keras {version or '?'})")
    compile_config = archive.config.get("compile_config")
    compile_config = compile_config if isinstance(compile_config, dict) else {}
    return ModelFileFacts(
        name=path.name,
        size=path.stat().st_size,
        sha256=_sha256(path),
        keras_version=version,
        class_name=archive.config["class_name"],
        custom_objects=_custom_names(found),
        loss=compile_config.get("loss"),
        metrics=compile_config.get("metrics"),
        weighted_metrics=compile_config.get("weighted_metrics"),
    )


def compiled_losses(facts: ModelFileFacts) -> CompiledLosses:
    """The losses with which a file's model was compiled, for telling its task.

    Args:
        facts: From :func:`preflight`.

    Returns:
        One :class:`CompiledLoss` for all outputs; a tuple of them in the order of the outputs; a dict of them by
        output name; None in each of these places without a loss.
    """
    return parse_losses(facts.loss)


def load(path: str | Path, custom_objects: Mapping[str, Any] | None = None) -> keras.Model:
    """Load a `.keras` file in safe mode and without compiling, after :func:`preflight`.

    Random states are as before afterwards: Keras draws a seed from Python's for every initialiser and dropout without
    one, and counts the names of the layers it makes.

    Args:
        path: The file.
        custom_objects: Classes and functions by registered name, as for `keras.models.load_model`.

    Returns:
        The model.

    Raises:
        ModelError: The file cannot be opened; :class:`UnsafeModelError` if it could run code.
    """
    path = Path(path)
    facts = preflight(path, custom_objects)

    import keras

    from analyzer.inspection.guard import untouched_process

    # Registers OWN_CLASSES with Keras.
    import_module("analyzer.inspection.recalibrated_model")
    _warn_if_outdated(keras.__version__)
    with untouched_process():
        try:
            model = keras.models.load_model(path, dict(custom_objects or {}), compile=False, safe_mode=True)
        except MemoryError:
            raise
        except Exception as error:
            raise ModelError(_explain(facts, error, keras.__version__)) from error
    if not isinstance(model, keras.Model):
        raise ModelError(f"{facts.name}: holds a {facts.class_name}, expected a keras.Model.")
    return model


def _regular_file(path: Path) -> Path:
    if str(path).startswith("hf:/"):
        raise ModelError(f"{path}: models are not downloaded. Download it and pass the path of the .keras file.")
    if not path.exists():
        raise ModelError(f"{path}: there is no such file. Expected the path of a .keras file.")
    convert = _HOW_TO_CONVERT.format(name=path.name, new=f"{path.stem}.keras")
    if path.is_dir():
        raise ModelError(f"{path}: is a folder (a SavedModel or a checkpoint?), expected a .keras file. {convert}")
    if not path.is_file():
        raise ModelError(f"{path}: is not a regular file, expected a .keras file.")
    if path.suffix in (".h5", ".hdf5"):
        raise ModelError(f"{path.name}: HDF5 models are not opened, as Keras has no safe mode for them. {convert}")
    if path.suffix != ".keras":
        raise ModelError(f"{path.name}: expected a file whose name ends in .keras, written by model.save().")
    return path


def _registration(custom_objects: Mapping[str, Any] | None) -> Callable[[str], bool]:
    """Tell what the user has registered; where Keras has not been imported, nothing can have been."""
    keras = sys.modules.get("keras")

    def is_registered(name: str) -> bool:
        if name in OWN_CLASSES:
            return True
        if custom_objects is not None and name in custom_objects:
            return True
        return keras is not None and keras.saving.get_registered_object(name) is not None

    return is_registered


def _custom_names(found: list[Reference]) -> tuple[str, ...]:
    # A registered function is written as module "builtins" and name "package>name"; Keras' own have no package.
    custom = (r.registered_name for r in found if not r.is_from_keras or ">" in r.registered_name)
    return tuple(dict.fromkeys(custom))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


@functools.cache
def _warn_if_outdated(version: str) -> None:
    """Warn once per process and version."""
    release = _release(version)
    if release < SAFE_KERAS and not (release[:2] == SAFE_KERAS_BRANCH[:2] and release >= SAFE_KERAS_BRANCH):
        logger.warning(
            "Keras %s is installed; loading model files from strangers has known holes below %s. "
            "Upgrade with: pip install -U keras",
            version,
            ".".join(map(str, SAFE_KERAS)),
        )


def _explain(facts: ModelFileFacts, error: Exception, installed: str) -> str:
    """Turn Keras' message, which often quotes a whole config, into one sentence and what to do."""
    missing = re.search(r"Could not locate (class|function) '([^']+)'", str(error))
    if missing:
        kind, name = missing.groups()
        return (
            f"{facts.name}: the {kind} {name!r} is not part of Keras and not registered. Register it with "
            "@keras.saving.register_keras_serializable() in the module that defines it and import that module first "
            f"(command line: --import my_layers), or load with custom_objects={{{name!r}: {name.split('>')[-1]}}}."
        )
    said = " ".join(str(error).split())
    said = said if len(said) <= 400 else f"{said[:200]} … {said[-200:]}"
    if facts.keras_version and _release(facts.keras_version) > _release(installed):
        return (
            f"{facts.name}: was written by Keras {facts.keras_version}, and {installed} is installed, which cannot "
            f"open it ({said}). Upgrade with: pip install -U keras"
        )
    return f"{facts.name}: Keras {installed} cannot rebuild the model in it ({type(error).__name__}: {said})."
