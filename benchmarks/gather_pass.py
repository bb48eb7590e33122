"""The gather pass for predictions against the model's own compiled forward pass, on 20,000 samples after warm-up."""

from __future__ import annotations

import keras
import numpy as np

from analyzer.backends import engine
from analyzer.data_types import DataInput
from analyzer.inspection import open_model
from analyzer.inspection.gather import Pass
from analyzer.inspection.needs import Context, Predictions
from analyzer.inspection.outputs import OutputHints
from benchmarks.common import Ratio, ratio

N, BATCH = 20_000, 128
LIMIT = 1.2


def cnn() -> keras.Model:
    """A convolutional net for 28 x 28 images."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(64, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


def mlp() -> keras.Model:
    """A dense net for the same images."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(512, activation="relu"),
            keras.layers.Dense(512, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


def measure(repetitions: int = 20) -> list[Ratio]:
    """One ratio per model."""
    return [_measure(name, make(), repetitions) for name, make in (("CNN", cnn), ("MLP", mlp))]


def _measure(name: str, model: keras.Model, repetitions: int) -> Ratio:
    x = np.random.default_rng(0).random((N, 28, 28, 1), dtype=np.float32)
    y = np.zeros(N, dtype=np.int64)
    view = open_model(model, x[:1])
    need = Predictions()
    run = Pass(view, need.taps(view), x, batch_size=BATCH, seed=0)
    hints = OutputHints(model_name=name)
    context = Context(view=view, data=DataInput(x, y), arranged=x, hints=hints, seed=0, batch_size=BATCH)

    def gather() -> object:
        collected = run.run()
        return need.finish([collected[tap] for tap in run.taps], context)

    backend = keras.backend.backend()
    what = f"gather pass / compiled forward, {name}, {N:,} samples, {backend}"
    return ratio(what, gather, _forward(model, x), limit=LIMIT, repetitions=repetitions)


def _forward(model: keras.Model, x: np.ndarray) -> object:
    """The least that predicting costs: the compiled model, batch by batch, outputs copied to the host."""
    program = _compiled(model)
    values = [v.value for v in [*model.trainable_variables, *model.non_trainable_variables]]

    def run() -> np.ndarray:
        outputs = []
        with engine().inference():
            for start in range(0, N, BATCH):
                batch = keras.ops.convert_to_tensor(x[start : start + BATCH])
                outputs.append(engine().to_numpy(program(values, batch)))
        return np.concatenate(outputs)

    return run


def _compiled(model: keras.Model) -> object:
    n_trainable = len(model.trainable_variables)

    def forward(values: list[object], batch: object) -> object:
        return model.stateless_call(values[:n_trainable], values[n_trainable:], batch, training=False)[0]

    return engine().jit(forward)


if __name__ == "__main__":
    for result in measure():
        print(result)
