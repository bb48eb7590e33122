"""Material for a first look: three small, different models trained on scikit-learn's handwritten digits."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import OutputError

if TYPE_CHECKING:
    import keras

Report = Callable[[str, int, int], None]

N_OVERFIT = 100
"""Training samples of the model that is meant to learn them by heart."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Digits:
    """The 1,797 digits of 8 × 8 pixels in three seeded, stratified parts.

    Attributes:
        x_train: ``(898, 8, 8, 1)`` float32 in [0, 1].
        y_train: ``(898,)`` int64 classes.
        x_validation: ``(299, 8, 8, 1)``.
        y_validation: ``(299,)``.
        x_test: ``(600, 8, 8, 1)``.
        y_test: ``(600,)``.
    """

    x_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    x_validation: NDArray[np.float32]
    y_validation: NDArray[np.int64]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class DemoFiles:
    """Where the material lies, in the form that ``keras-analyzer audit`` takes.

    Attributes:
        models: ``.keras`` files by model name.
        histories: Training logs (CSV, as Keras' CSVLogger writes them) by model name.
        data: npz file with ``x`` and ``y`` of the test part.
    """

    models: Mapping[str, Path]
    histories: Mapping[str, Path]
    data: Path


def load_digits(seed: int = 0) -> Digits:
    """The digits; no download, they come with scikit-learn.

    Args:
        seed: Seed of the split.
    """
    from sklearn.datasets import load_digits as load
    from sklearn.model_selection import train_test_split

    pixels, classes = load(return_X_y=True)
    x, y = (pixels.reshape(-1, 8, 8, 1) / 16).astype("float32"), classes.astype("int64")
    x, x_test, y, y_test = train_test_split(x, y, test_size=600, random_state=seed, stratify=y)
    x_train, x_val, y_train, y_val = train_test_split(x, y, test_size=299, random_state=seed, stratify=y)
    return Digits(
        x_train=x_train, y_train=y_train, x_validation=x_val, y_validation=y_val, x_test=x_test, y_test=y_test
    )


def train_models(
    digits: Digits, *, seed: int = 0, report: Report | None = None
) -> tuple[dict[str, keras.Model], dict[str, dict[str, list[float]]]]:
    """Train a perceptron, a convolutional network, and one of the same kind that sees few samples far too often.

    Sets the seeds of Python, NumPy and the framework.

    Args:
        digits: The data.
        seed: Seed of initial weights, dropout and order of samples.
        report: Receives ``(label, done, total)`` after each epoch.

    Returns:
        Models and training histories (metric to one value per epoch) by model name.
    """
    import keras

    few = slice(0, N_OVERFIT)
    everything = (digits.x_train, digits.y_train)
    plans = {
        "mlp": (_perceptron, everything, 12),
        "cnn": (_convolutional, everything, 10),
        "cnn_overfit": (_overfitting, (digits.x_train[few], digits.y_train[few]), 40),
    }
    models, histories = {}, {}
    for name, (build, (x, y), epochs) in plans.items():
        keras.utils.set_random_seed(seed)
        model = build()
        model.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy", metrics=["accuracy"])
        callbacks = [] if report is None else [_reporter(report, f"training {name}", epochs)]
        history = model.fit(
            x,
            y,
            batch_size=32,
            epochs=epochs,
            validation_data=(digits.x_validation, digits.y_validation),
            validation_batch_size=len(digits.x_validation),
            callbacks=callbacks,
            verbose=0,
        )
        models[name] = model
        histories[name] = {metric: [float(v) for v in values] for metric, values in history.history.items()}
    return models, histories


def _perceptron() -> keras.Model:
    from keras import layers

    return _sequential("mlp", layers.Flatten(), layers.Dense(64, "relu"), layers.Dense(32, "relu"))


def _convolutional() -> keras.Model:
    from keras import layers

    return _sequential(
        "cnn",
        layers.Conv2D(16, 3, padding="same", use_bias=False),
        # Keras' default of 0.99 needs more steps than these few epochs have.
        layers.BatchNormalization(momentum=0.9),
        layers.ReLU(),
        layers.MaxPooling2D(),
        layers.Conv2D(32, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dropout(0.3),
    )


def _overfitting() -> keras.Model:
    from keras import layers

    return _sequential(
        "cnn_overfit",
        layers.Conv2D(24, 3, padding="same", activation="relu"),
        layers.Conv2D(24, 3, activation="relu"),
        layers.Flatten(),
        layers.Dense(64, "relu"),
    )


def _sequential(name: str, *layers: keras.Layer) -> keras.Model:
    import keras

    head = keras.layers.Dense(10, "softmax", name="digit")
    return keras.Sequential([keras.Input((8, 8, 1)), *layers, head], name=name)


def _reporter(report: Report, label: str, epochs: int) -> Any:
    import keras

    report(label, 0, epochs)
    return keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, _: report(label, epoch + 1, epochs))


def make_folder(folder: Path) -> None:
    """Make a folder, if it is not there.

    Args:
        folder: Its path.

    Raises:
        OutputError: If that is not possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be written: {error.strerror or error}.") from error


def save_material(
    folder: Path,
    digits: Digits,
    models: Mapping[str, keras.Model],
    histories: Mapping[str, Mapping[str, list[float]]],
) -> DemoFiles:
    """Write models, histories and test data as a user would have them.

    Args:
        folder: An existing folder that receives the files.
        digits: The data, of which the test part is written.
        models: Models by name.
        histories: Training histories by model name.

    Raises:
        OutputError: If the folder cannot be written.
    """
    files = DemoFiles(
        models={name: folder / f"{name}.keras" for name in models},
        histories={name: folder / f"{name}.csv" for name in histories},
        data=folder / "test.npz",
    )
    try:
        np.savez_compressed(files.data, x=digits.x_test, y=digits.y_test)
        for name, path in files.histories.items():
            _write_log(path, histories[name])
        for name, path in files.models.items():
            models[name].save(path)
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be written: {error.strerror or error}.") from error
    return files


def _write_log(path: Path, history: Mapping[str, list[float]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", *history])
        writer.writerows([epoch, *row] for epoch, row in enumerate(zip(*history.values(), strict=True)))
