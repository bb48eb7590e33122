"""Law 2: the same `.keras` files and data give the same numbers on the three backends, one process each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest

BACKENDS = ("jax", "tensorflow", "torch")

RESOLUTION = {"p_value": 0.1, "ks_p_value": 0.1, "iterations": 1e9, "condition": 1e9}
"""Absolute slack of what has a resolution of its own: Monte-Carlo p-values, and counts of iterations."""

pytestmark = [pytest.mark.slow, pytest.mark.once]


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parity")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 12, 12, 2)).astype("float32")
    y = (x.mean(axis=(1, 2, 3)) * 40).round().astype(int) % 4
    np.savez(folder / "data.npz", x=x, y=y)
    for name, model in _models():
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(x[:128], y[:128], epochs=1, verbose=0)
        model.save(folder / f"{name}.keras")
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(BACKENDS, pool.map(lambda backend: _audit(folder, backend), BACKENDS), strict=True))


def _models():
    layers = keras.layers
    keras.utils.set_random_seed(3)
    yield (
        "convolutions",
        keras.Sequential(
            [
                keras.Input((12, 12, 2)),
                layers.Conv2D(8, 3, activation="relu"),
                layers.BatchNormalization(),
                layers.SeparableConv2D(8, 3, strides=2, padding="same"),
                layers.Conv2DTranspose(6, 3),
                layers.LayerNormalization(),
                layers.GlobalAveragePooling2D(),
                layers.Dense(4, activation="softmax"),
            ]
        ),
    )
    inputs = keras.Input((12, 12, 2))
    tokens = layers.Dense(8)(layers.Reshape((12, 24))(inputs))
    mixed = tokens + layers.MultiHeadAttention(2, 4)(tokens, tokens)
    recurrent = layers.Bidirectional(layers.GRU(5))(mixed)
    yield "attention", keras.Model(inputs, layers.Dense(4, activation="softmax")(recurrent))


def _audit(folder: Path, backend: str) -> dict:
    script = Path(__file__).with_name("parity.py")
    done = subprocess.run(
        [sys.executable, str(script), str(folder), backend],
        env=os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(script.parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_every_number_agrees_with_jax(documents, backend):
    differences = list(_differences(documents["jax"], documents[backend], ""))
    assert not differences, "\n".join(differences[:20])


def test_the_comparison_notices_a_difference(documents):
    changed = json.loads(json.dumps(documents["jax"]))
    changed["performance"]["attention"]["loss"]["value"] *= 1.001
    assert [d.split(":")[0] for d in _differences(documents["jax"], changed, "")] == [
        "/performance/attention/loss/value"
    ]


def _differences(a, b, where):
    """Places where two documents differ by more than law 2 allows, each as text."""
    key = where.rsplit("/", 1)[-1]
    if isinstance(a, dict) and isinstance(b, dict):
        if a.keys() != b.keys():
            yield f"{where}: keys differ: {sorted(a.keys() ^ b.keys())}"
        for name in a.keys() & b.keys():
            yield from _differences(a[name], b[name], f"{where}/{name}")
    elif isinstance(a, list) and isinstance(b, list):
        yield from _list_differences(a, b, where)
    elif isinstance(a, float | int) and isinstance(b, float | int) and not isinstance(a, bool):
        # Counts to ±1, everything else to 1e-4, or 1e-5 of a scale of 1.
        slack = 1 if isinstance(a, int) and isinstance(b, int) else max(1e-4 * abs(a), 1e-5)
        if abs(a - b) > max(slack, RESOLUTION.get(key, 0)):
            yield f"{where}: {a} against {b}"
    elif a != b and not _has_digits(a, b):
        yield f"{where}: {a!r} against {b!r}"


def _has_digits(*values):
    """Sentences repeat numbers that were compared where they stand."""
    return all(isinstance(value, str) and any(map(str.isdigit, value)) for value in values)


def _list_differences(a, b, where):
    if len(a) != len(b):
        yield f"{where}: {len(a)} against {len(b)} entries"
        return
    try:
        left, right = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    except (TypeError, ValueError):
        for i, (item_a, item_b) in enumerate(zip(a, b, strict=True)):
            yield from _differences(item_a, item_b, f"{where}[{i}]")
        return
    if left.size == 0:
        return
    if np.issubdtype(np.asarray(a).dtype, np.integer):
        if np.abs(left - right).max() > 1:
            yield f"{where}: counts differ by {np.abs(left - right).max()}"
        return
    scale = np.nanmax(np.abs(left), initial=0.0)
    worst = np.nanmax(np.abs(left - right), initial=0.0)
    if worst > 1e-4 * max(scale, 1e-1):
        yield f"{where}: arrays differ by {worst} at scale {scale}"
