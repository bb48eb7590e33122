"""Noise gain of real models: closed forms, what it does not depend on, and the order of layers."""

import keras
import numpy as np

from analyzer.diagnosis.noise_gain import noise_gains
from tests.diagnosis.faulty import calls_of, chain, fill, opened, residual, samples

L = keras.layers


def gains(model, shape=(8,), **kwargs):
    x, moved, y = samples(model, shape)
    patchable, cases, places = opened(model, x, moved, y)
    return cases, noise_gains(patchable, cases, calls_of(places), **kwargs)


def test_nothing_grows_on_the_way_from_the_logits_nor_through_a_rotation():
    layers = [L.Dense(4, activation="relu", name="one"), L.Dense(4, use_bias=False, name="turn")]
    model = fill(keras.Sequential([keras.Input((8,)), *layers]), scale=1.0)
    layers[1].kernel.assign(30 * np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0])
    _, found = gains(model)
    assert list(found) == ["one", "turn"]
    np.testing.assert_allclose(found["turn"], 1, rtol=1e-4)
    np.testing.assert_allclose(found["one"], 1, rtol=1e-4)


def test_of_a_linear_layer_is_its_frobenius_norm_over_its_action():
    layers = [L.Dense(4, use_bias=False, name="one"), L.Dense(3, use_bias=False, name="two")]
    model = fill(keras.Sequential([keras.Input((8,)), *layers]), scale=1.0)
    one, two = (keras.ops.convert_to_numpy(layer.kernel).astype("float64") for layer in layers)
    cases, found = gains(model, n_draws=200)
    h = cases.x.astype("float64") @ one
    expected = np.linalg.norm(two) / np.sqrt(4) * np.linalg.norm(h, axis=1) / np.linalg.norm(h @ two, axis=1)
    np.testing.assert_allclose(found["one"] / expected, 1, atol=0.2)
    np.testing.assert_allclose(np.mean(found["one"] / expected), 1, atol=0.03)


def test_the_size_of_the_noise_and_of_the_layer_do_not_matter_in_a_linear_net():
    model = fill(keras.Sequential([keras.Input((8,)), L.Dense(5, name="one"), L.Dense(3, name="two")]), scale=1.0)
    large, small = gains(model, size=0.5)[1], gains(model, size=0.05)[1]
    np.testing.assert_allclose(large["one"], small["one"], rtol=1e-3)
    layer = model.get_layer("one")
    for variable in layer.weights:
        variable.assign(keras.ops.convert_to_numpy(variable) * 100)
    layer = model.get_layer("two")
    layer.kernel.assign(keras.ops.convert_to_numpy(layer.kernel) / 100)
    np.testing.assert_allclose(gains(model, size=0.5)[1]["one"], large["one"], rtol=1e-3)


def test_a_branch_that_says_little_gains_little():
    model = residual(blocks=2)
    model.get_layer("down_1").kernel.assign(np.zeros((8, 8)))
    _, found = gains(model)
    assert not found["up_1"].any()
    assert found["up_0"].all()
    assert (found["stem"] > found["down_0"]).mean() > 0.9


def test_seeds_decide_the_noise():
    model = chain()
    one, same, other = (gains(model, seed=seed)[1]["one"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).all()


def test_whole_numbers_take_no_noise():
    @keras.saving.register_keras_serializable("faulty")
    class Rounded(L.Layer):
        def call(self, x):
            return keras.ops.cast(keras.ops.round(3 * x), "int32")

    model = keras.Sequential([keras.Input((8,)), Rounded(name="rounded"), L.Dense(3, name="head", autocast=False)])
    found = gains(fill(model, scale=1.0))[1]
    assert np.isnan(found["rounded"]).all()
    np.testing.assert_allclose(found["head"], 1, rtol=1e-4)
