"""Architectures of `keras.applications` explain with next to nothing unexplained, and equally on the three backends."""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from analyzer.relevance.explain import explain
from tests.relevance.oracle import ABSORBED

SIDES = {
    "ResNet50": 32,
    "VGG16": 32,
    "DenseNet121": 32,
    "EfficientNetB0": 32,
    "MobileNet": 32,
    "MobileNetV2": 32,
    "Xception": 71,
    "ConvNeXtTiny": 32,
}
"""Side of the images, in pixels."""

SAMPLE = ("MobileNet",)
"""A net with depthwise convolutions and folded normalisations, and one with layers of its own; the table is `full`."""

METHODS = ("auto", "epsilon")


def build(name):
    """With weights drawn by NumPy, the same everywhere, that let a signal pass; no bias and no statistic is 0 or 1."""
    side = SIDES[name]
    before = {kind: getattr(keras.initializers, kind).__call__ for kind in _DRAWING}
    for kind in _DRAWING:
        getattr(keras.initializers, kind).__call__ = _zeros
    try:
        model = getattr(keras.applications, name)(weights=None, input_shape=(side, side, 3), classes=10)
    finally:
        for kind, own in before.items():
            getattr(keras.initializers, kind).__call__ = own
    rng = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(_drawn(variable, rng))
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            # What it computes with is not its variables, but a copy; on PyTorch, of the same memory.
            layer.finalize_state()
    return model


def _zeros(_, shape, dtype=None, **kwargs):
    del kwargs
    return keras.ops.zeros(shape, dtype)


_DRAWING = ("VarianceScaling", "RandomNormal", "TruncatedNormal")


def _drawn(variable, rng):
    shape, path = variable.shape, variable.path
    if len(shape) > 1:
        depthwise = "depthwise" in path or (len(shape) == 4 and shape[-1] == 1)
        receives = np.prod(shape[:2]) if depthwise else np.prod(shape[:-1])
        return rng.standard_normal(shape, dtype="float32") * np.sqrt(2.0 / receives).astype("float32")
    if "variance" in path or "gamma" in path or "layer_scale" in path or "normalization/" in path:
        return rng.uniform(0.5, 1.5, shape).astype("float32")
    return rng.normal(0.0, 0.1, shape).astype("float32")


def images(name):
    low, high = (0.0, 255.0) if name in ("EfficientNetB0", "ConvNeXtTiny") else (-1.0, 1.0)
    return np.random.default_rng(1).uniform(low, high, (2, SIDES[name], SIDES[name], 3)).astype("float32")


def maps(name):
    """By method: the map of the inputs, the start, and what of it is unexplained as a share."""
    model, x = build(name), images(name)
    found = {}
    for method in METHODS:
        one = explain(model, x, target=3, method=method)
        (array,) = one.inputs.values()
        wide = array.astype("float64").reshape(len(x), -1)
        scale = max(np.abs(one.output).max(), np.abs(wide).sum(1).max())
        left = one.output.mean() - wide.sum(1).mean() - one.ledger[ABSORBED].to_numpy().sum()
        found[method] = {
            "map": array,
            "start": one.output,
            "left": abs(left) / scale,
            "worst": float(one.ledger["unexplained"].abs().max()) / scale,
            "method": one.method,
        }
    del model
    gc.collect()
    return found


def check(name):
    for method, found in maps(name).items():
        assert np.isfinite(found["map"]).all(), method
        # A net through which no signal passes would conserve too, in its biases.
        assert np.abs(found["map"]).sum() > 1e-3 * np.abs(found["start"]).max(), method
        assert found["left"] < 1e-3, (method, found["left"])
        assert found["worst"] < 1e-3, (method, found["worst"])
        assert found["method"] == ("epsilon_plus" if method == "auto" else method)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLE)
def test_next_to_nothing_is_unexplained(name):
    check(name)


@pytest.mark.full
@pytest.mark.parametrize("name", [name for name in SIDES if name not in SAMPLE])
def test_next_to_nothing_is_unexplained_in_any(name):
    check(name)


def _on(backend, name, folder):
    file = Path(folder) / f"{name}-{backend}.npz"
    environment = {**os.environ, "KERAS_BACKEND": backend}
    script = "from tests.relevance.test_applications import write; import sys; write(sys.argv[1], sys.argv[2])"
    done = subprocess.run(
        [sys.executable, "-c", script, name, str(file)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return np.load(file)


def write(name, file):
    """What another process compares: maps and starts."""
    found = maps(name)
    arrays = {f"{method}/{what}": found[method][what] for method in METHODS for what in ("map", "start")}
    np.savez(file, **arrays)
    sys.stdout.write(json.dumps({method: found[method]["left"] for method in METHODS}))


CANCELLING = {"EfficientNetB0": 1e-2, "ConvNeXtTiny": 1e-2, "Xception": 1e-2}
"""Distance of maps, over their norm, that float32 leaves where a written sum of two branches is next to zero in a unit.

Drawn weights make some of many thousand sums cancel; there the shares by value divide by next to nothing, and one
backend is as far from float64 as from another. Nets without such a unit agree to 2e-4.
"""


def same(name, one, other):
    for key in one.files:
        a, b = one[key].astype("float64"), other[key].astype("float64")
        allowed = CANCELLING.get(name, 2e-4) if key.endswith("map") else 1e-5
        assert np.linalg.norm(a - b) < allowed * np.linalg.norm(a), key


@pytest.mark.once
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name == "MobileNet" else pytest.mark.full) for name in SIDES],
)
def test_backends_agree(name, tmp_path):
    first, *others = (_on(backend, name, tmp_path) for backend in ("jax", "tensorflow", "torch"))
    for other in others:
        same(name, first, other)
