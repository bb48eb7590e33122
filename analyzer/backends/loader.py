"""Choosing the backend module: once, by what Keras chose."""

from __future__ import annotations

import functools
from importlib import import_module
from typing import cast

from analyzer.backends.contract import Engine, RelevanceOps
from analyzer.errors import MissingExtraError

_MODULES = {name: f"analyzer.backends.{name}" for name in ("jax", "tensorflow", "torch")}


@functools.cache
def engine() -> Engine:
    """The engine of the backend that Keras runs on.

    Raises:
        MissingExtraError: If Keras runs on a backend that computes no gradients (NumPy, OpenVINO).
    """
    import keras

    name = keras.backend.backend()
    if name not in _MODULES:
        raise MissingExtraError(
            f"Keras runs on the {name!r} backend; keras-analyzer computes on {', '.join(_MODULES)}. Set KERAS_BACKEND "
            "to one of them before importing Keras, e.g. KERAS_BACKEND=jax after pip install 'keras-analyzer[jax]'."
        )
    return cast(Engine, import_module(_MODULES[name]))


@functools.cache
def relevance_ops() -> RelevanceOps:
    """The relevance ops of the backend that Keras runs on.

    Raises:
        MissingExtraError: As `engine`.
    """
    return cast(RelevanceOps, import_module(f"{_MODULES[engine().name]}_relevance"))
