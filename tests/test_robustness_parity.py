"""Verdicts of attacks and corruptions are the same on the three backends, one process each; points need not be."""

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

from tests.robustness.oracle import digits

BACKENDS = ("jax", "tensorflow", "torch")
N = 64
ONLY = {
    **{f"analyze_{name}": False for name in ("weights", "calibration", "information_flow", "training_dynamics")},
    "analyze_cost": False,
    "analyze_robustness": True,
    "robustness_samples": N,
}

pytestmark = [pytest.mark.slow, pytest.mark.once]


@pytest.fixture(scope="module")
def robustness(tmp_path_factory):
    """Results by backend, of one trained net."""
    folder = tmp_path_factory.mktemp("parity")
    x, y = digits()
    images = x.reshape(-1, 8, 8, 1)
    np.savez(folder / "data.npz", x=images[1400:], y=y[1400:])
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(images[:1400], y[:1400], epochs=3, verbose=0)
    model.save(folder / "net.keras")
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda backend: _audit(folder, backend), BACKENDS)
        return dict(zip(BACKENDS, found, strict=True))


def _audit(folder: Path, backend: str) -> dict:
    script = Path(__file__).with_name("parity.py")
    done = subprocess.run(
        [sys.executable, str(script), str(folder), backend, json.dumps(ONLY)],
        env=os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(script.parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)["robustness"]["net"]


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_robust_accuracy_differs_by_one_sample_at_most(robustness, backend):
    one, other = robustness["jax"], robustness[backend]
    assert one["n"] == other["n"] == N
    assert one["clean_accuracy"] == other["clean_accuracy"]
    curves = [np.array(each["curve"]["accuracy"]) for each in (one, other)]
    assert 0.05 < curves[0][-1] < curves[0][0]
    assert np.abs(curves[0] - curves[1]).max() <= 1 / N + 1e-9
    assert abs(one["aura"]["value"] - other["aura"]["value"]) <= 1 / N
    assert [flag["name"] for flag in one["flags"]] == [flag["name"] for flag in other["flags"]]


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_decisions_under_corruptions_differ_by_one_sample_at_most(robustness, backend):
    tables = [np.array(each["corruptions"]["accuracy"]) for each in (robustness["jax"], robustness[backend])]
    assert tables[0].shape[1] == 5
    assert tables[0].std() > 0.01
    assert np.abs(tables[0] - tables[1]).max() <= 1 / N + 1e-9
