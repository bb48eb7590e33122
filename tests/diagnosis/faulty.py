"""Nets with a planted fault, samples that they decide rightly, and the same samples moved."""

import keras
import numpy as np

from analyzer.diagnosis.cases import find_cases
from analyzer.diagnosis.patchable import Patchable, patchable_calls
from analyzer.inspection import open_model

L = keras.layers

WIDTH = 8


def fill(model, seed=0, scale=0.5):
    """Weights of NumPy, so that every backend has the same net."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        if "seed" in variable.path or "gamma" in variable.path:
            continue
        rows = np.prod(variable.shape[:-1]) if len(variable.shape) > 1 else 4
        variable.assign(scale * rng.normal(size=variable.shape) / np.sqrt(rows))
    return model


def noised(layer, seed=7, size=25.0):
    """The planted fault: noise in a kernel."""
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    noise = np.random.default_rng(seed).normal(size=kernel.shape) / np.sqrt(len(kernel))
    layer.kernel.assign(kernel + size * noise)


def residual(blocks=3, planted=None, seed=0):
    """x + f(x), written so, in a Functional model; branches end in down_0, down_1, …"""
    x = inputs = keras.Input((WIDTH,))
    x = L.Dense(WIDTH, name="stem")(x)
    for i in range(blocks):
        f = L.Dense(WIDTH, activation="relu", name=f"up_{i}")(x)
        x = x + L.Dense(WIDTH, name=f"down_{i}")(f)
    model = fill(keras.Model(inputs, L.Dense(3, activation="softmax", name="head")(x)), seed)
    if planted is not None:
        noised(model.get_layer(f"down_{planted}"))
    return model


class Block(L.Layer):
    """x + f(x) within a layer."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.up = L.Dense(WIDTH, activation="relu", name="up")
        self.down = L.Dense(WIDTH, name="down")

    def build(self, shape):
        self.up.build(shape)
        self.down.build(shape)

    def call(self, x):
        return x + self.down(self.up(x))


class UnseenSum(L.Layer):
    """A sum between layers, within a layer that hands on what its last one returns."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.parts = [L.Dense(WIDTH, name=name) for name in ("first", "around", "last")]

    def build(self, shape):
        for part in self.parts:
            part.build(shape)

    def call(self, x):
        first, around, last = self.parts
        x = first(x)
        return last(x + around(x))


class Subclassed(keras.Model):
    """x + f(x) between layers, where no layer sees the sum."""

    def __init__(self, blocks=3):
        super().__init__(name="subclassed")
        self.stem = L.Dense(WIDTH, name="stem")
        self.ups = [L.Dense(WIDTH, activation="relu", name=f"up_{i}") for i in range(blocks)]
        self.downs = [L.Dense(WIDTH, name=f"down_{i}") for i in range(blocks)]
        self.head = L.Dense(3, name="head")

    def call(self, x):
        x = self.stem(x)
        for up, down in zip(self.ups, self.downs, strict=True):
            x = x + down(up(x))
        return self.head(x)


def chain(activation="relu", **kwargs):
    """Three dense layers, one after the other."""
    layers = [L.Dense(6, activation=activation, name="one"), L.Dense(5, activation=activation, name="two")]
    return fill(keras.Sequential([keras.Input((WIDTH,)), *layers, L.Dense(3, name="three")], **kwargs), scale=1.0)


def samples(model, shape=(WIDTH,), n=80, move=0.7, seed=1):
    """Samples, moved samples, and as truth what the model decides on the samples: all its failures are of the move."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, *shape)).astype("float32")
    moved = (x + move * rng.normal(size=x.shape)).astype("float32")
    z = keras.ops.convert_to_numpy(model(x))
    return x, moved, (z[:, 0] > 0.5).astype(int) if z.shape[1] == 1 else z.argmax(axis=1)


def opened(model, x, moved, y, most=12):
    """The model, the samples and all calls as the parts of a diagnosis take them."""
    patchable = Patchable(view=open_model(model, x[:1]))
    cases = find_cases(patchable, x, moved, y, most=most, seed=0)
    return patchable, cases, patchable_calls(patchable.view)


def calls_of(places):
    """The calls among what is followed."""
    return [place.call for place in places]


def dense(model, name, x):
    """A dense layer by hand, in float64, without its activation."""
    kernel, bias = (keras.ops.convert_to_numpy(v).astype("float64") for v in model.get_layer(name).weights)
    return x @ kernel + bias


def relu(x):
    return np.maximum(x, 0)


def residual_by_hand(model, x, patched=None):
    """Logits of `residual`, with what some branches return replaced; and what all of them returned."""
    h = dense(model, "stem", np.asarray(x, np.float64))
    made, i = {}, 0
    while f"up_{i}" in [layer.name for layer in model.layers]:
        made[f"down_{i}"] = (patched or {}).get(
            f"down_{i}", dense(model, f"down_{i}", relu(dense(model, f"up_{i}", h)))
        )
        h = h + made[f"down_{i}"]
        i += 1
    return dense(model, "head", h), made
