"""Drawing parameters anew, and the randomisation test that rests on it."""

import keras
import numpy as np
import pytest

from analyzer.errors import ConfigError, Unsupported
from analyzer.inspection.view import open_model
from analyzer.relevance.evaluation.randomization import parameter_randomization, values_of
from analyzer.relevance.evaluation.reinitialize import redraw
from analyzer.relevance.evaluation.removal import removal_of

L = keras.layers
X = np.random.default_rng(0).normal(size=(20, 6)).astype("float32")


def to_numpy(value):
    return keras.ops.convert_to_numpy(value)


def chain(*units, bias=True):
    """Linear layers, whose map is known in closed form."""
    keras.utils.set_random_seed(0)
    layers = [L.Dense(n, use_bias=bias, name=f"dense_{i}") for i, n in enumerate(units)]
    return keras.Sequential([L.Input((6,)), *layers])


def attribution(model):
    """Input × gradient of a chain of linear layers, under any values of its variables."""

    def attribute(x, values):
        values = values or {}
        kernels = [to_numpy(values.get(id(layer.kernel), layer.kernel.value)) for layer in model.layers]
        return x * np.linalg.multi_dot([*kernels, np.ones((kernels[-1].shape[1], 1))])[:, 0]

    return attribute


def values_by_name(model, seed=0):
    view = open_model(model)
    drawn, skipped = redraw(view, seed)
    values = values_of(drawn)
    return {
        info.id: to_numpy(values[id(info.variable)]) for info in view.variables if id(info.variable) in values
    }, skipped


# ------------------------------------------------------------------------------------------------------------ redrawing
def test_every_variable_comes_from_its_own_initialiser():
    keras.utils.set_random_seed(1)
    init = keras.initializers
    model = keras.Sequential(
        [
            L.Input((200,)),
            L.Dense(300, kernel_initializer=init.RandomNormal(2.0, 0.5), bias_initializer="ones", name="normal"),
            L.Dense(100, kernel_initializer="he_uniform", name="he"),
            L.Dense(4, kernel_initializer=init.RandomUniform(3.0, 4.0), use_bias=False, name="uniform"),
        ]
    )
    for variable in model.weights:
        variable.assign(np.full(variable.shape, 9.0))
    found, skipped = values_by_name(model)
    assert skipped == {}
    assert found["normal/kernel"].mean() == pytest.approx(2.0, abs=5 * 0.5 / np.sqrt(60_000))
    assert found["normal/kernel"].std() == pytest.approx(0.5, rel=0.02)
    assert np.all(found["normal/bias"] == 1)
    limit = np.sqrt(6 / 300)
    assert 0.99 * limit < np.abs(found["he/kernel"]).max() <= limit
    assert np.all(found["he/bias"] == 0)
    assert 3 <= found["uniform/kernel"].min() < found["uniform/kernel"].max() <= 4
    assert all(np.all(to_numpy(variable.value) == 9) for variable in model.weights)


def test_an_untrained_model_does_not_get_its_first_weights_back():
    model = chain(5, 3)
    before = [to_numpy(v.value).copy() for v in model.weights]
    found, _ = values_by_name(model)
    assert not np.allclose(found["dense_0/kernel"], before[0])
    again, _ = values_by_name(model)
    other, _ = values_by_name(model, seed=1)
    for name, value in found.items():
        assert np.array_equal(value, again[name])
        assert "bias" in name or not np.allclose(value, other[name])
    assert all(np.array_equal(a, to_numpy(v.value)) for a, v in zip(before, model.weights, strict=True))


def test_the_draws_of_a_process_are_left_alone():
    model = chain(5, 3)
    keras.utils.set_random_seed(7)
    expected = to_numpy(keras.random.normal((3,)))
    keras.utils.set_random_seed(7)
    redraw(open_model(model))
    assert np.array_equal(to_numpy(keras.random.normal((3,))), expected)


def test_normalisation_goes_back_to_its_start_unless_it_is_there():
    model = keras.Sequential(
        [L.Input((6,)), L.Dense(4), L.BatchNormalization(name="trained"), L.LayerNormalization(name="new")]
    )
    for variable in model.get_layer("trained").weights:
        variable.assign(np.full(variable.shape, 5.0))
    found, skipped = values_by_name(model)
    assert {name: set(found[f"trained/{name}"]) for name in ("gamma", "beta", "moving_mean", "moving_variance")} == {
        "gamma": {1.0},
        "beta": {0.0},
        "moving_mean": {0.0},
        "moving_variance": {1.0},
    }
    assert skipped == {"new": "its initialisers give the values that it has"}


def test_statistics_of_the_data_are_no_parameters():
    scaling = L.Normalization(name="scaling")
    scaling.adapt(X)
    model = keras.Sequential([L.Input((6,)), scaling, L.Dense(2, name="dense")])
    found, skipped = values_by_name(model)
    assert set(found) == {"dense/kernel", "dense/bias"}
    assert skipped == {"scaling": "nothing in it was learned"}


class Scaled(L.Layer):
    """A variable whose initialiser nobody remembers."""

    def build(self, input_shape):
        self.table = self.add_weight(shape=(400, input_shape[-1]), name="table")
        self.factor = self.add_weight(shape=(), initializer="ones", name="factor")
        self.seen = self.add_weight(shape=(3,), trainable=False, initializer="ones", name="seen")

    def call(self, x):
        return x * keras.ops.sum(self.table, axis=0) * self.factor


@pytest.mark.parametrize("frozen", [False, True])
def test_without_an_initialiser_the_scale_of_its_own_values_is_kept(frozen):
    layer = Scaled(name="scaled")
    model = keras.Sequential([L.Input((6,)), layer])
    own = np.random.default_rng(0).normal(2.0, 0.1, layer.table.shape).astype("float32")
    layer.table.assign(own)
    layer.trainable = not frozen
    found, _ = values_by_name(model)
    table = found["scaled/table"]
    assert table.mean() == pytest.approx(2.0, abs=5 * 0.1 / np.sqrt(2400))
    assert table.std() == pytest.approx(0.1, rel=0.1)
    assert abs(np.corrcoef(table.ravel(), own.ravel())[0, 1]) < 0.1
    assert found["scaled/factor"] != 1
    assert ("scaled/seen" in found) == frozen


def test_layers_with_unusual_names_of_variables_are_known():
    keras.utils.set_random_seed(0)
    tokens = keras.Input((7,), dtype="int32")
    x = L.Embedding(10, 8, name="embedding")(tokens)
    x = L.MultiHeadAttention(2, 4, name="attention")(x, x)
    x = L.SeparableConv1D(8, 3, name="separable")(x)
    model = keras.Model(tokens, L.LSTM(5, name="lstm")(x))
    for variable in model.weights:
        variable.assign(np.full(variable.shape, 9.0))
    found, skipped = values_by_name(model)
    assert skipped == {}
    # Uniform on ±0.05; orthogonal columns; ones for the forget gate, as when the layer was built.
    assert 0.04 < np.abs(next(v for k, v in found.items() if k.startswith("embedding"))).max() <= 0.05
    recurrent = next(v for k, v in found.items() if k.endswith("recurrent_kernel"))
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(5), atol=1e-5)
    bias = next(v for k, v in found.items() if k.startswith("lstm") and k.endswith("bias"))
    assert bias.tolist() == [0] * 5 + [1] * 5 + [0] * 10
    assert {k for k, v in found.items() if np.all(v == 9)} == set()
    assert len(found) == len(model.weights)


def test_quantised_weights_are_shuffled():
    model = chain(8, 4)
    model.quantize("int8")
    view = open_model(model)
    kernel = next(v for v in view.variables if v.id.startswith("dense_0") and "int8" in str(v.variable.dtype))
    before = to_numpy(kernel.variable.value)
    drawn, _ = redraw(view)
    after = to_numpy(values_of(drawn)[id(kernel.variable)])
    assert after.dtype == before.dtype
    assert not np.array_equal(after, before)
    assert np.array_equal(np.sort(after, axis=None), np.sort(before, axis=None))


# ------------------------------------------------------------------------------------------------------------- the test
def test_the_cascade_goes_from_the_output_to_the_input():
    model = chain(5, 4, 3)
    result = parameter_randomization(attribution(model), model, removal_of(X))
    assert [step.randomized for step in result.steps] == [
        ("dense_2",),
        ("dense_2", "dense_1"),
        ("dense_2", "dense_1", "dense_0"),
    ]
    assert [step.layer for step in result.steps] == ["dense_2", "dense_1", "dense_0"]
    for order, first in (("bottom_up", ("dense_0",)), ("independent", ("dense_2",))):
        other = parameter_randomization(attribution(model), model, removal_of(X), order=order)
        assert other.steps[0].randomized == first
        assert len(other.steps[-1].randomized) == (3 if order == "bottom_up" else 1)
    frame = result.to_frame()
    assert frame["n_randomized"].tolist() == [1, 2, 3]
    assert frame["n"].tolist() == [20, 20, 20]


def test_similarities_are_those_of_the_maps_under_the_values():
    model = chain(5, 4, 3)
    attribute = attribution(model)
    result = parameter_randomization(attribute, model, removal_of(X), similarity="cosine", seed=3)
    drawn, _ = redraw(open_model(model), 3)
    own = attribute(X, None)
    for step in result.steps:
        values = values_of([one for one in drawn if one.layer in step.randomized])
        other = attribute(X, values)
        cosine = (own * other).sum(1) / np.linalg.norm(own, axis=1) / np.linalg.norm(other, axis=1)
        assert step.similarity.value == pytest.approx(cosine.mean(), rel=1e-5)
        assert step.similarity.low < step.similarity.value < step.similarity.high
    means = [step.similarity.value for step in result.steps]
    assert result.mean_similarity.value == pytest.approx(np.mean(means))


def test_an_explainer_that_ignores_the_model_is_found_out():
    model = chain(5, 3)
    blind = parameter_randomization(lambda x, _: x, model, removal_of(X))
    assert [step.similarity.value for step in blind.steps] == pytest.approx([1, 1])
    assert blind.entropy_rise.value == pytest.approx(0)
    honest = parameter_randomization(attribution(model), model, removal_of(X))
    assert honest.mean_similarity.high < 0.9


@pytest.mark.parametrize("order", ["top_down", "bottom_up", "independent"])
@pytest.mark.parametrize("steps", [1, 2, 3, 50])
def test_no_step_randomises_nothing(order, steps):
    model = chain(5, 4, 3, 2)
    result = parameter_randomization(attribution(model), model, removal_of(X), order=order, steps=steps)
    assert len(result.steps) == min(steps, 4)
    assert all(step.randomized for step in result.steps)
    # The last step is the whole model, or the layer at the far end.
    assert result.steps[-1].layer == ("dense_3" if order == "bottom_up" else "dense_0")
    assert result.mean_similarity.value < 0.999


def test_the_rise_in_entropy_is_that_of_the_fully_random_model():
    model = chain(5, 3)
    attribute = attribution(model)
    values = values_of(redraw(open_model(model), 0)[0])

    def entropy(maps):
        shares = np.abs(maps) / np.abs(maps).sum(axis=1, keepdims=True)
        return -(shares * np.log(shares)).sum(axis=1)

    expected = np.mean(entropy(attribute(X, values)) / entropy(attribute(X, None)) - 1)
    for order in ("top_down", "independent"):
        result = parameter_randomization(attribute, model, removal_of(X), order=order)
        assert result.entropy_rise.value == pytest.approx(expected, rel=1e-4)


def test_what_cannot_be_randomised_is_refused():
    model = keras.Sequential([L.Input((6,)), L.LayerNormalization()])
    with pytest.raises(Unsupported, match="no layer whose parameters"):
        parameter_randomization(lambda x, _: x, model, removal_of(X))
    with pytest.raises(ConfigError, match="order"):
        parameter_randomization(lambda x, _: x, chain(3), removal_of(X), order="topdown")
    with pytest.raises(ConfigError, match="steps=0"):
        parameter_randomization(lambda x, _: x, chain(3), removal_of(X), steps=0)
