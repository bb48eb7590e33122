"""Bad input to `explain`: one clear error each, before anything is computed where that can be known."""

import keras
import numpy as np
import pytest

from analyzer.errors import ConfigError, DataError, ModelError, Unsupported
from analyzer.relevance import program
from analyzer.relevance.explain import explain

L = keras.layers
pytestmark = pytest.mark.once

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 6)).astype("float32")


@pytest.fixture(scope="module")
def model():
    return keras.Sequential([L.Input((6,)), L.Dense(5, "relu"), L.Dense(3, "softmax")])


@pytest.fixture
def nothing_computed(monkeypatch):
    def fail(*_, **__):
        pytest.fail("a relevance pass was made")

    monkeypatch.setattr(program.Program, "__init__", fail)


@pytest.mark.usefixtures("nothing_computed")
class TestBeforeComputing:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"method": "epsilonn"}, "Did you mean 'epsilon'"),
            ({"method": 3}, "expected the name of a method or a Preset"),
            ({"method": "epsilon_gamma_box"}, r"epsilon_gamma_box\(low, high\)"),
            ({"method": "epsilon", "options": {"steps": 3}}, "steps"),
            ({"unknown": "ignore"}, "unknown"),
            ({"batch_size": 0}, "batch_size=0"),
            ({"batch_size": 2.5}, "batch_size"),
            ({"batch_size": True}, "batch_size"),
            ({"layers": "dens_e"}, "dens_e"),
            ({"target": 3}, "out of range"),
            ({"target": []}, "at least one"),
            ({"task": "regresion"}, "Did you mean 'regression'"),
            ({"threshold": -0.1}, "threshold"),
            ({"start": float("inf")}, "start"),
        ],
    )
    def test_options(self, model, options, said):
        with pytest.raises(ConfigError, match=said):
            explain(model, X, **options)

    @pytest.mark.parametrize(
        ("x", "said"),
        [
            (X[:, :5], r"the model expects \(n, 6\)"),
            (X[None], r"the model expects \(n, 6\)"),
            (X[:0], "no samples|empty|0 samples"),
            ([X, X], "1 inputs|2 arrays"),
            (np.array([["a"] * 6]), "holds text"),
            (np.full_like(X, np.nan), "NaN|finite"),
            (np.array([[object()] * 6]), "number|dtype|object"),
        ],
    )
    def test_samples(self, model, x, said):
        with pytest.raises(DataError, match=said):
            explain(model, x)

    def test_a_class_for_each_sample_that_is_not(self, model):
        with pytest.raises(DataError, match="each of the 4 samples"):
            explain(model, X, np.array([0, 1]))

    def test_models_that_are_none(self, tmp_path):
        with pytest.raises(ModelError):
            explain(tmp_path / "nowhere.keras", X)
        with pytest.raises(ModelError):
            explain("a model", X)
        with pytest.raises(ModelError, match="built"):
            explain(keras.Sequential([L.Dense(3)]), X)


def test_an_output_that_is_not_finite_names_the_sample(model):
    broken = keras.Sequential([L.Input((6,)), L.Dense(3)])
    kernel, bias = broken.layers[0].get_weights()
    x = X.copy()
    x[2] = 1e38
    broken.layers[0].set_weights([np.full_like(kernel, 10.0), bias])
    with pytest.raises(DataError, match="not finite for sample 2 "):
        explain(broken, x, batch_size=2)
    broken.layers[0].set_weights([kernel, np.full_like(bias, np.nan)])
    with pytest.raises(DataError, match="NaN or infinite"):
        explain(broken, X)


def test_a_layer_without_a_rule_is_named_and_goes_by_its_gradient_if_asked():
    class Strange(keras.layers.Dense):
        def call(self, inputs):
            return keras.ops.logaddexp(super().call(inputs), 0.0)

    model = keras.Sequential([L.Input((6,)), Strange(4), L.Dense(3)])
    with pytest.raises(Unsupported, match=r"register_rule.*unknown='gradient'"):
        explain(model, X)
    found = explain(model, X, unknown="gradient")
    assert "logaddexp" in found.notes[-1]
    assert found.first_break() is not None


class Halved(L.Layer):
    """Uses whole numbers as if they were real."""

    def call(self, inputs):
        return 0.5 * keras.ops.cast(inputs, "float32")


@pytest.mark.parametrize("method", ["gradient", "integrated_gradients", "smoothgrad", "epsilon", "z_plus"])
def test_whole_numbers_that_no_map_can_reach_are_refused(method):
    model = keras.Sequential([L.Input((5,), dtype="int32"), Halved(), L.Dense(3)])
    with pytest.raises(Unsupported, match="whole numbers"):
        explain(model, RNG.integers(1, 9, (2, 5)), method=method)


def test_methods_for_feature_maps_refuse_tables(model):
    with pytest.raises(Unsupported, match="No layer"):
        explain(model, X, method="grad_cam")


def test_rules_for_bounded_inputs_refuse_a_range_that_is_none():
    from analyzer.relevance import presets

    with pytest.raises(ConfigError, match="low below high"):
        presets.epsilon_gamma_box(1, 0)
