"""Small models of several kinds with data, for running somebody's analysis on: every call builds them anew, alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.data_types import DataInput

L = keras.layers

N_SAMPLES = 24
N_FEATURES = 6
N_CLASSES = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Specimen:
    """A model and data that fit it.

    Attributes:
        model: The model.
        data: Inputs and labels.
    """

    model: keras.Model
    data: DataInput


@keras.saving.register_keras_serializable("keras_analyzer_testing")
class Subclassed(keras.Model):  # type: ignore[misc]
    """A model whose layers run in another order than they are made, one of them in a list."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.head = L.Dense(N_CLASSES, activation="softmax", name="head")
        self.blocks = [L.Dense(5, activation="relu", name=f"block_{i}") for i in range(2)]

    def call(self, x: Any) -> Any:
        """Blocks, then the head."""
        for block in self.blocks:
            x = block(x)
        return self.head(x)


@keras.saving.register_keras_serializable("keras_analyzer_testing")
class Breaks(keras.layers.Layer):  # type: ignore[misc]
    """Raises where it is run; it can be built."""

    def call(self, x: Any) -> Any:
        """Never returns."""
        del x
        raise RuntimeError("This layer is broken on purpose.")

    def compute_output_spec(self, x: Any) -> Any:
        """As the input."""
        return keras.KerasTensor(x.shape, x.dtype)


def _functional() -> keras.Model:
    x = inputs = keras.Input((N_FEATURES,))
    x = L.BatchNormalization(name="norm")(L.Dense(8, activation="relu", name="hidden")(x))
    x = L.Dropout(0.5, name="dropout")(x)
    return keras.Model(inputs, L.Dense(N_CLASSES, activation="softmax", name="head")(x), name="functional")


def _compiled(model: keras.Model) -> keras.Model:
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _subclassed() -> keras.Model:
    model = Subclassed(name="subclassed")
    model(np.zeros((1, N_FEATURES), dtype="float32"))
    return _compiled(model)


def _nested() -> keras.Model:
    inner = [keras.Input((N_FEATURES,)), L.Dense(5, activation="tanh", name="inner")]
    encoder = keras.Sequential(inner, name="encoder")
    head = L.Dense(N_CLASSES, activation="softmax", name="head")
    return _compiled(keras.Sequential([keras.Input((N_FEATURES,)), encoder, head], name="nested"))


def _two_outputs() -> keras.Model:
    inputs = keras.Input((N_FEATURES,))
    trunk = L.Dense(7, activation="relu", name="trunk")(inputs)
    kind = L.Dense(N_CLASSES, activation="softmax", name="kind")(trunk)
    model = keras.Model(inputs, {"kind": kind, "size": L.Dense(1, name="size")(trunk)}, name="two_outputs")
    model.compile("sgd", {"kind": "sparse_categorical_crossentropy", "size": "mse"})
    return model


def _broken() -> keras.Model:
    layers = [keras.Input((N_FEATURES,)), Breaks(name="breaks"), L.Dense(N_CLASSES, activation="softmax", name="head")]
    return keras.Sequential(layers, name="broken")


BUILDERS: dict[str, Callable[[], keras.Model]] = {
    "functional": lambda: _compiled(_functional()),
    "subclassed": _subclassed,
    "nested": _nested,
    "two_outputs": _two_outputs,
    "uncompiled": _functional,
    "broken": _broken,
}
"""By kind: makes the model; ``"broken"`` raises when it is run."""

KINDS = tuple(kind for kind in BUILDERS if kind != "broken")
"""Kinds of model that every analysis must run on, or skip with a reason."""


def build(kind: str) -> Specimen:
    """A fresh specimen with repeatable weights; Keras' random state is moved by it.

    Args:
        kind: A key of `BUILDERS`.
    """
    rng = np.random.default_rng(7)
    model = BUILDERS[kind]()
    for variable in model.weights:
        if "float" in str(variable.dtype) and "variance" not in variable.name:
            variable.assign(rng.normal(0.0, 0.6, variable.shape).astype("float32"))
    x, labels = data()
    y: Any = {"kind": labels, "size": x[:, :1].copy()} if kind == "two_outputs" else labels
    return Specimen(model=model, data=DataInput(x, y))


def data() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Inputs ``(24, 6)``, the same for every model, and labels 0, 1, 2 in equal numbers."""
    rng = np.random.default_rng(11)
    return rng.normal(size=(N_SAMPLES, N_FEATURES)).astype(np.float32), np.arange(N_SAMPLES) % N_CLASSES
