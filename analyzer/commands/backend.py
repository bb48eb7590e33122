"""Choosing Keras' backend, and importing the user's own modules, before Keras is imported by anything of ours."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from analyzer.errors import ConfigError, MissingExtraError

BACKENDS = ("jax", "tensorflow", "torch")


def choose_backend(asked: str | None) -> str | None:
    """Settle the backend by setting ``KERAS_BACKEND``.

    The option goes before the environment, the environment before ``keras.json``. Where none of them names an
    installed backend, the first installed one of `BACKENDS` is taken.

    Args:
        asked: What ``--backend`` says; None where it was not given.

    Returns:
        One line for the user where the choice was not theirs, else None.

    Raises:
        ConfigError: If the name is unknown, or Keras already runs on another backend.
        MissingExtraError: If the backend, any backend, or Keras is not installed.
    """
    if importlib.util.find_spec("keras") is None:
        raise MissingExtraError("Keras is not installed here; this needs it: pip install 'keras-analyzer[jax]'.")
    named = asked or os.environ.get("KERAS_BACKEND")
    if named:
        _use(named, origin="--backend" if asked else "KERAS_BACKEND")
        return None
    configured = _configured_backend()
    if configured in BACKENDS and _installed(configured):
        return None
    installed = [backend for backend in BACKENDS if _installed(backend)]
    if not installed:
        raise MissingExtraError(
            "None of Keras' backends is installed: pip install 'keras-analyzer[jax]', or [tensorflow], or [torch]."
        )
    _use(installed[0], origin="the first installed backend")
    why = f"keras.json names {configured}, which is not installed here" if configured else "none was chosen"
    return f"running on {installed[0]}: {why} (--backend or KERAS_BACKEND chooses)"


def _use(backend: str, *, origin: str) -> None:
    if backend not in BACKENDS:
        raise ConfigError(f"{origin}={backend!r}: expected one of {', '.join(BACKENDS)}.")
    if not _installed(backend):
        raise MissingExtraError(
            f"{origin} asks for {backend}, which is not installed here: pip install 'keras-analyzer[{backend}]'."
        )
    keras = sys.modules.get("keras")
    if keras is not None and keras.backend.backend() != backend:
        raise ConfigError(f"{origin} asks for {backend}, but Keras already runs on {keras.backend.backend()} here.")
    os.environ["KERAS_BACKEND"] = backend
    # TensorFlow's start-up notes would stand between our lines; its errors still come.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def _installed(backend: str) -> bool:
    return importlib.util.find_spec(backend) is not None


def _configured_backend() -> str | None:
    """What keras.json says; Keras writes that file itself on its first import, so it may be nobody's choice."""
    folder = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()
    try:
        settings = json.loads((folder / "keras.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    backend = settings.get("backend") if isinstance(settings, dict) else None
    return backend if isinstance(backend, str) else None


def import_modules(names: Sequence[str]) -> None:
    """Import modules that register the user's own classes with Keras or their own analyses with us.

    Args:
        names: Dotted names; modules in the current folder are found, as with ``python -m``.

    Raises:
        ConfigError: If a module is not found or raises.
    """
    here = str(Path.cwd())
    if names and here not in sys.path:
        sys.path.insert(0, here)
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise ConfigError(f"--import {name}: {type(error).__name__}: {error}") from error
