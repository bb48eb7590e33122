"""PGD-20 against its floor: as many compiled forward and backward passes to the input as it has steps.

The floor keeps everything on the device and judges nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from analyzer.backends import engine
from analyzer.inspection import open_model
from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.gradient_descent import PGD
from analyzer.robustness.attacks.losses import margin
from analyzer.robustness.attacks.threat import Box
from benchmarks.common import Ratio, ratio
from benchmarks.nets import NETS, Net

STEPS = 20
BATCH = 128
LIMIT = 1.15
NAMES = ("mlp", "cnn")


def floor(attacked: Attacked, u: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    """A callable that computes the gradient of the margin at the samples as often as the attack has steps."""

    def gradient(values: list[Any], u: Any, y: Any) -> Any:
        return engine().value_and_grad(lambda u: keras.ops.sum(margin(attacked.logits(values, u), y, y)), u)[1]

    program = attacked.program("floor", gradient)
    tensors = [keras.ops.convert_to_tensor(array) for array in (u, y)]

    def run() -> None:
        engine().synchronize([program(*tensors) for _ in range(STEPS)])

    return run


def measure(repetitions: int = 20) -> list[Ratio]:
    """The attack on each net."""
    return [_on(net, repetitions) for net in NETS if net.name in NAMES]


def _on(net: Net, repetitions: int) -> Ratio:
    u = np.random.default_rng(0).uniform(size=(BATCH, *net.shape)).astype("float32")
    box = Box(low=-2.0, high=2.0, source="given")
    attacked = Attacked(view=open_model(net.model(), u[:1]), box=box, batch_size=BATCH)
    y, epsilon = attacked.all_logits(u).argmax(1), np.full(BATCH, 0.02, "float32")
    attack = PGD(steps=STEPS)
    title = f"PGD-{STEPS} / {STEPS} gradients, {net.name}, {keras.backend.backend()}"
    return ratio(
        title,
        lambda: attack.run(attacked, u, y, epsilon, y),
        floor(attacked, u, y),
        limit=LIMIT,
        repetitions=repetitions,
    )


if __name__ == "__main__":
    for result in measure():
        print(result)
