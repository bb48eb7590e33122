"""Relative amplification along real models against the same computed by hand, and what it must not depend on."""

import keras
import numpy as np
import pytest

from analyzer.diagnosis.amplification import amplification, input_shift, relative_shifts
from tests.diagnosis.faulty import calls_of, chain, dense, fill, opened, relu, samples

L = keras.layers


def shift(h, moved):
    return np.linalg.norm(moved - h, axis=1) / np.linalg.norm(h, axis=1)


def split(model, shape=(8,), **kwargs):
    x, moved, y = samples(model, shape, **kwargs)
    patchable, cases, places = opened(model, x, moved, y)
    shifts = relative_shifts(patchable, cases, calls_of(places))
    return cases, shifts, amplification(cases, shifts)


def test_against_the_chain_by_hand():
    model = chain()
    cases, _, found = split(model)
    points = []
    for x in (cases.x.astype("float64"), cases.moved.astype("float64")):
        one = relu(dense(model, "one", x))
        two = relu(dense(model, "two", one))
        points.append([x, one, two, dense(model, "three", two)])
    logs = np.log([shift(h, moved) for h, moved in zip(*points, strict=True)])
    assert list(found.by_call) == ["one", "two", "three"]
    assert found.begins_at == "input"
    np.testing.assert_allclose(np.stack(list(found.by_call.values())), np.diff(logs, axis=0), atol=2e-5)
    np.testing.assert_allclose(np.sum(list(found.by_call.values()), axis=0), logs[-1] - logs[0], atol=2e-5)


def test_a_linear_chain_acts_by_its_singular_values():
    """Samples on one singular direction and shifts on another: what each layer does is known exactly."""
    spectra = [np.array([1.0, 3.0, 0.5]), np.array([2.0, 0.25, 1.0])]
    layers = [L.Dense(3, use_bias=False, name=name) for name in ("one", "two")]
    model = keras.Sequential([keras.Input((3,)), *layers])
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    layers[0].kernel.assign(np.diag(spectra[0]) @ turn.T)
    layers[1].kernel.assign(turn @ np.diag(spectra[1]))
    x = np.zeros((8, 3), "float32")
    x[:, 0] = 1
    moved = x.copy()
    # Logits are 2 and 0.75 times the shift: its size decides.
    moved[:, 1] = np.linspace(2.5, 4, 8)
    patchable, cases, places = opened(model, x, moved, np.zeros(8, int))
    assert cases.n_failures == np.sum(moved[:, 1] * 0.75 >= 2)
    found = amplification(cases, relative_shifts(patchable, cases, calls_of(places)))
    np.testing.assert_allclose(found.by_call["one"], np.log(3 / 1), atol=1e-5)
    np.testing.assert_allclose(found.by_call["two"], np.log(0.25 / 2), atol=1e-5)


def test_scaling_a_layer_up_and_the_next_one_down_changes_nothing():
    model = chain()
    before = split(model)[2].by_call
    for name, factor in (("one", 10.0), ("two", 0.1)):
        layer = model.get_layer(name)
        layer.kernel.assign(keras.ops.convert_to_numpy(layer.kernel) * factor)
    layer = model.get_layer("one")
    layer.bias.assign(keras.ops.convert_to_numpy(layer.bias) * 10)
    for name, values in split(model)[2].by_call.items():
        np.testing.assert_allclose(values, before[name], atol=2e-5)


def test_whole_numbers_have_no_shift_so_the_chain_begins_behind_them():
    x = inputs = keras.Input((4,), dtype="int32")
    x = L.Flatten(name="flat")(L.Embedding(9, 3, name="embedding")(x))
    model = fill(keras.Model(inputs, L.Dense(3, name="head")(x)), scale=1.0)
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 9, size=(40, 4)).astype("int32")
    moved = np.where(rng.random(tokens.shape) < 0.5, rng.integers(0, 9, size=tokens.shape), tokens).astype("int32")
    patchable, cases, places = opened(model, tokens, moved, keras.ops.convert_to_numpy(model(tokens)).argmax(axis=1))
    assert input_shift(cases) is None
    shifts = relative_shifts(patchable, cases, calls_of(places))
    found = amplification(cases, shifts)
    assert found.begins_at == "embedding"
    assert list(found.by_call) == ["flat", "head"]
    known = np.isfinite(found.by_call["head"])
    assert known[cases.failed].all()
    np.testing.assert_allclose(
        sum(found.by_call.values())[known], np.log(shifts["head"] / shifts["embedding"])[known], atol=1e-12
    )


@pytest.mark.parametrize("batch_size", [5, 128])
def test_batches_change_nothing(batch_size):
    model = chain()
    x, moved, y = samples(model)
    patchable, cases, places = opened(model, x, moved, y)
    whole = relative_shifts(patchable, cases, calls_of(places))
    object.__setattr__(patchable, "batch_size", batch_size)
    for name, values in relative_shifts(patchable, cases, calls_of(places)).items():
        np.testing.assert_allclose(values, whole[name], rtol=1e-4)
