"""Statistics of every layer against the model's own compiled forward pass: ResNet50 at 128 pixels, batches of 16.

The activations of all 176 layers leave the device as moments, extremes and counts of each unit, and as the rows of kept
samples that ranks, probes and similarity are computed from.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from analyzer.backends import engine
from analyzer.inspection import open_model
from analyzer.inspection.activations import Activations
from analyzer.inspection.gather import Pass
from analyzer.inspection.reducers import Moments
from benchmarks.common import Ratio, ratio

SIZE, BATCH = 128, 16
LIMITS = {"jax": (1.6, 2.2), "tensorflow": (2.0, 2.8), "torch": (3.0, 4.0)}
"""By backend: for moments, extremes and counts, and with the kept rows that covariances are computed from."""


def measure(repetitions: int = 20) -> list[Ratio]:
    """Moments alone, and with the kept rows."""
    keras.utils.set_random_seed(0)
    model = keras.applications.ResNet50(weights=None, input_shape=(SIZE, SIZE, 3), classes=10)
    x = np.random.default_rng(0).normal(size=(BATCH, SIZE, SIZE, 3)).astype("float32")
    view = open_model(model, x[:1])
    taps = tuple(tap for tap in Activations().taps(view) if tap.source in ("output", "activation"))
    moments = tuple(tap for tap in taps if isinstance(tap.reducer, Moments))
    backend = keras.backend.backend()
    floor = _forward(model, x)
    found = []
    for what, chosen, limit in (
        ("moments, extremes and counts", moments, LIMITS[backend][0]),
        ("the same and kept rows", taps, LIMITS[backend][1]),
    ):
        run = Pass(view, chosen, x, batch_size=BATCH, seed=0)
        title = f"{what} of {len(moments)} layers / compiled forward, ResNet50, {backend}"
        found.append(ratio(title, run.run, floor, limit=limit, repetitions=repetitions))
        run.release()
    return found


def _forward(model: keras.Model, x: np.ndarray) -> Any:
    n = len(model.trainable_variables)

    def forward(values: list[Any], batch: Any) -> Any:
        return model.stateless_call(values[:n], values[n:], batch, training=False)[0]

    program = engine().jit(forward)
    values = [v.value for v in [*model.trainable_variables, *model.non_trainable_variables]]

    def run() -> np.ndarray:
        with engine().inference():
            return engine().to_numpy(program(values, keras.ops.convert_to_tensor(x)))

    return run


if __name__ == "__main__":
    for result in measure():
        print(result)
