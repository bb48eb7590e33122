"""Relevance against the plain gradient of the same compiled Keras model, on the four nets of `nets.py`.

The floor is one compiled forward pass and pullback to the input. Twenty targets at once stand against twenty runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from analyzer.backends import engine
from analyzer.inspection import open_model
from analyzer.relevance.flow import Options
from analyzer.relevance.presets import preset_of
from analyzer.relevance.program import Program
from analyzer.relevance.targets import resolve
from analyzer.relevance.tracing import plan
from benchmarks.common import Ratio, ratio
from benchmarks.nets import CLASSES, NETS, Net

METHODS = {"epsilon": 1.1, "attn_lrp": 1.1, "magnitude": 1.8, "z_plus": 1.8, "gamma": 2.6, "alpha_beta": 2.6}
"""By preset: the most that it may cost, in plain gradients, on two backends; on the third `THIRD_FACTOR` times that."""
ANY_SIGN = {"z_plus": 2.1}
"""The same where most of the arithmetic has inputs of any sign: the MLP's first layer, and all of the encoder."""
SIGNED_NETS = ("mlp", "encoder")
THIRD = {"mlp": "jax", "cnn": "tensorflow", "resnet18": "torch", "encoder": "torch"}
"""On which backend a net may cost more: JAX pays for every small operation, TensorFlow for what XLA does not fuse."""
THIRD_FACTOR = 1.3
TARGETS, TARGETS_LIMIT = 20, 0.65
REPETITIONS = 20


def ours(model: keras.Model, x: np.ndarray, method: str, target: Any = 0) -> Callable[[], Any]:
    """A callable that explains ``target`` of ``model`` at ``x`` by ``method``, compiled; only this knows our API.

    Args:
        model: One of the four nets.
        x: Its inputs.
        method: One of `METHODS`.
        target: A class, or a list of classes explained at once.
    """
    view = open_model(model, x[:1])
    options = Options(preset=preset_of(method), ledger=False)
    program = Program(plan(view), options, resolve(view, target, len(x)), x)
    for _ in range(3):
        # PyTorch records the third batch and replays it from then on.
        program.run(x)
    return lambda: program.run(x)


def gradient(model: keras.Model, x: np.ndarray, target: int = 0) -> Callable[[], Any]:
    """A callable that computes the plain gradient of one logit with respect to the input, compiled: the floor."""
    n = len(model.trainable_variables)

    def forward_and_back(values: list[Any], batch: Any) -> Any:
        def logit(batch: Any) -> Any:
            out = model.stateless_call(values[:n], values[n:], batch, training=False)[0]
            return keras.ops.sum(out[:, target])

        return engine().value_and_grad(logit, batch)

    program = engine().jit(forward_and_back)
    # Detached on PyTorch: a parameter that asks for a gradient would cost the floor more than it needs.
    values = [engine().stop_gradient(v.value) for v in [*model.trainable_variables, *model.non_trainable_variables]]

    def run() -> Any:
        return engine().to_numpy(program(values, keras.ops.convert_to_tensor(x))[1])

    return run


def applicable(net: Net) -> tuple[str, ...]:
    """The methods that say something of a net: AttnLRP is one for attention."""
    return tuple(method for method in METHODS if method != "attn_lrp" or net.name == "encoder")


def limit(net: Net, method: str) -> float:
    """The most that a method may cost on a net, on this backend."""
    most = ANY_SIGN.get(method, METHODS[method]) if net.name in SIGNED_NETS else METHODS[method]
    return round(most * (THIRD_FACTOR if keras.backend.backend() == THIRD[net.name] else 1.0), 2)


def measure(repetitions: int = REPETITIONS) -> list[Ratio]:
    """Every method on every net, then twenty targets at once."""
    backend = keras.backend.backend()
    found = []
    for net in NETS:
        model, x = net.model(), net.inputs()
        floor = gradient(model, x)
        for method in applicable(net):
            title = f"{method} / plain gradient, {net.name}, {backend}"
            run = ours(model, x, method)
            found.append(ratio(title, run, floor, limit=limit(net, method), repetitions=repetitions))
        found.append(_many(net, model, x, max(3, repetitions // 4)))
    return found


def _many(net: Net, model: keras.Model, x: np.ndarray, repetitions: int) -> Ratio:
    # The nets have ten classes; explaining each twice is the same work as twenty.
    targets = [i % CLASSES for i in range(TARGETS)]
    at_once, single = ours(model, x, "epsilon", targets), ours(model, x, "epsilon")

    def one_by_one() -> list[Any]:
        # A compiled pass takes the class as an argument: which one it is does not change the price.
        return [single() for _ in targets]

    title = f"{TARGETS} targets at once / {TARGETS} single runs, {net.name}, {keras.backend.backend()}"
    return ratio(title, at_once, one_by_one, limit=TARGETS_LIMIT, repetitions=repetitions)


if __name__ == "__main__":
    for result in measure():
        print(result)
