"""Trained on digits, relevance names what the model goes by: better than the plain gradient and than noise."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from analyzer.relevance.evaluation.compare_methods import compare_methods
from analyzer.relevance.evaluation.quality import map_similarity
from analyzer.relevance.evaluation.randomization import parameter_randomization
from analyzer.relevance.evaluation.removal import removal_of
from analyzer.relevance.explain import explain

pytestmark = pytest.mark.slow

L = keras.layers


@pytest.fixture(scope="module")
def digits():
    found = load_digits()
    x, y = (found.images / 16).astype("float32")[..., None], found.target
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="digit"),
            L.Conv2D(12, 3, padding="same", activation="relu"),
            L.MaxPooling2D(),
            L.Conv2D(16, 3, activation="relu"),
            L.Flatten(),
            L.Dense(10, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x[:1200], y[:1200], epochs=6, batch_size=32, verbose=0)
    assert model.evaluate(x[1200:], y[1200:], verbose=0)[1] > 0.85
    return model, x[1200:1248]


def test_lrp_beats_the_gradient_and_noise(digits):
    model, x = digits
    found = compare_methods(model, x, ["epsilon", "gradient"], metrics=["abpc"], seed=0)
    pairs = {(one.first, one.second): one.difference for one in found.differences if one.measure == "abpc"}
    for other in ("gradient", "random"):
        difference = pairs.get(("epsilon", other))
        low = difference.low if difference is not None else -pairs[other, "epsilon"].high
        assert low > 0
    assert "epsilon" in found.verdict.trusted
    assert "random" not in found.verdict.trusted


def test_maps_depend_on_the_parameters_of_the_top_layer(digits):
    model, x = digits

    def attribute(given, values):
        return explain(model, given, method="epsilon", layers=None, values=values).inputs

    removal = removal_of({"digit": x})
    test = parameter_randomization(attribute, model, removal, steps=1, order="independent", seed=0)
    (step,) = test.steps
    assert step.randomized
    assert step.similarity.high < 0.6
    same = map_similarity(removal, attribute({"digit": x}, None), attribute({"digit": x}, None))
    np.testing.assert_allclose(same, 1.0)
