"""Whole models: relevance is conserved, the ledger adds up, nothing of the model changes, rules are open to users."""

import keras
import numpy as np
import pytest

from analyzer.errors import ConfigError, Unsupported
from analyzer.inspection.trace import named_outputs
from analyzer.relevance import presets
from analyzer.relevance.explain import explain
from analyzer.relevance.registry import register_rule
from analyzer.relevance.rules import Epsilon, ZPlus
from analyzer.testing import footprint
from tests import zoo

L = keras.layers
ops = keras.ops

HALF = {"mixed_float16": 5e-3}
"""Share that may be unexplained where a model computes with eleven bits."""

CONSERVING = ("epsilon", "epsilon_plus", "epsilon_alpha2_beta1", "gamma", "z_plus", "magnitude", "alpha_beta")


def sum_of_outputs(model):
    """Every output, whatever it is."""

    def total(outputs):
        flat = [ops.cast(tensor, "float32") for _, tensor in named_outputs(model, outputs)]
        return sum(ops.sum(ops.reshape(tensor, (tensor.shape[0], -1)), axis=-1) for tensor in flat)

    return total


def arrived(explanation):
    return sum(r.astype(np.float64).reshape(len(r), -1).sum(axis=1) for r in explanation.inputs.values())


def absorbed(explanation):
    columns = ["absorbed_by_bias", "absorbed_by_softmax", "absorbed_by_stabiliser"]
    return float(explanation.ledger[columns].to_numpy().sum())


def build(name, n=4):
    return zoo.build(name, n)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(zoo.BUILDERS))
def test_every_kind_of_model_is_explained_and_the_books_add_up(name):
    made = build(name)
    found = explain(made.model, made.x, sum_of_outputs(made.model))
    tolerance = HALF.get(name, 1e-3)
    assert found.unexplained_fraction < tolerance
    assert found.first_break(tolerance) is None
    unexplained = float(found.ledger["unexplained"].sum())
    whole = arrived(found).mean() + absorbed(found) + unexplained
    assert whole == pytest.approx(found.output.mean(), rel=1e-3, abs=1e-4 * np.abs(found.output).max())
    assert found.inputs
    assert all(len(r) == made.n for r in found.inputs.values())


def bias_free(kind):
    keras.utils.set_random_seed(3)
    x = zoo.normal(5, 12)
    if kind == "mlp":
        body = [L.Dense(16, activation="relu", use_bias=False), L.Dense(8, activation="tanh", use_bias=False)]
        return keras.Sequential([keras.Input((12,)), *body, L.Dense(3, use_bias=False)]), x
    if kind == "lstm":
        body = [L.LSTM(6, use_bias=False, unit_forget_bias=False), L.Dense(3, use_bias=False)]
        return keras.Sequential([keras.Input((6, 2)), *body]), x.reshape(5, 6, 2)
    inputs = keras.Input((8, 8, 2))
    h = L.Conv2D(6, 3, padding="same", use_bias=False)(inputs)
    h = L.BatchNormalization(center=False)(h)
    h = L.ReLU()(h)
    if kind == "resnet":
        h = h + L.Conv2D(6, 3, padding="same", use_bias=False, activation="relu")(h)
    h = L.GlobalAveragePooling2D()(L.MaxPooling2D()(h))
    return keras.Model(inputs, L.Dense(3, use_bias=False)(h)), zoo.normal(5, 8, 8, 2)


@pytest.mark.parametrize("kind", ["mlp", "cnn", "resnet", "lstm"])
@pytest.mark.parametrize("method", CONSERVING)
def test_without_biases_all_relevance_arrives_at_the_inputs(kind, method):
    model, x = bias_free(kind)
    found = explain(model, x, method=method)
    left = found.output - arrived(found)
    # What finds no taker (a unit without a positive part) is booked, and nothing else.
    booked = float(found.ledger["absorbed_by_stabiliser"].sum())
    scale = np.abs(found.output).mean()
    assert left.mean() == pytest.approx(booked, abs=1e-4 * scale)
    assert found.ledger["absorbed_by_bias"].abs().max() <= 1e-6 * scale
    if method in ("epsilon", "gamma", "magnitude"):
        np.testing.assert_allclose(arrived(found), found.output, rtol=1e-4, atol=1e-5)


def test_with_zero_bias_biases_absorb_nothing():
    made = build("functional_cnn")
    found = explain(made.model, made.x, method=presets.epsilon().with_zero_bias())
    linear = found.ledger[found.ledger["kind"].isin(["Dense", "Conv2D"])]
    assert linear["absorbed_by_bias"].abs().max() == 0
    assert explain(made.model, made.x, method="epsilon").ledger["absorbed_by_bias"].abs().max() > 0


def test_relevance_of_a_linear_model_is_weight_times_input():
    model = keras.Sequential([keras.Input((4,)), L.Dense(3)])
    x = zoo.normal(6, 4)
    kernel = np.asarray(ops.convert_to_numpy(model.weights[0]), np.float64)
    found = explain(model, x, target=[0, 1, 2], method="epsilon")
    assert found.output.shape == (3, 6)
    (r,) = found.inputs.values()
    np.testing.assert_allclose(r, np.stack([x * kernel[:, c] for c in range(3)]), rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("layers", ["all", None])
@pytest.mark.parametrize("name", ["functional_cnn", "subclassed_private", "noisy_while_training"])
def test_the_model_and_the_process_stay_as_they_were(name, layers):
    made = build(name)
    made.model.compile("adam", "mse")
    made.model.predict(made.x, verbose=0)
    before, multiply = footprint.both(made.model), keras.ops.multiply
    explain(made.model, made.x, sum_of_outputs(made.model), layers=layers)
    assert footprint.moved(before, footprint.both(made.model)) == []
    assert keras.ops.multiply is multiply


def test_they_stay_so_when_a_rule_raises():
    model = keras.Sequential([keras.Input((4,)), L.Dense(4), Spectrum(name="spectrum"), L.Dense(2)])
    before, multiply = footprint.both(model), keras.ops.multiply
    with pytest.raises(Unsupported):
        explain(model, zoo.normal(3, 4))
    assert footprint.moved(before, footprint.both(model)) == []
    assert keras.ops.multiply is multiply


def test_a_batch_size_changes_no_number():
    made = build("functional_cnn", 7)
    whole, parts = (explain(made.model, made.x, batch_size=size) for size in (7, 3))
    for name, r in whole.inputs.items():
        np.testing.assert_allclose(parts.inputs[name], r, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(parts.ledger["relevance_in"], whole.ledger["relevance_in"], rtol=1e-4, atol=1e-5)


def test_layers_are_those_asked_for_and_in_their_shape():
    made = build("functional_cnn")
    everything = explain(made.model, made.x)
    chosen = list(everything.layers)[1]
    one = explain(made.model, made.x, layers=chosen)
    assert list(one.layers) == [chosen]
    np.testing.assert_allclose(one.layers[chosen], everything.layers[chosen], rtol=1e-4, atol=1e-6)
    assert explain(made.model, made.x, layers=None).ledger.empty


class Doubler(L.Layer):
    """Two raw factors of its input: relevance would double."""

    def call(self, x):
        return x * x


class Triple(L.Layer):
    def call(self, x):
        return x * x * x


def test_a_raw_product_is_a_gap_and_is_named():
    model = keras.Sequential([keras.Input((4,)), L.Dense(5), Doubler(name="square"), L.Dense(2)])
    found = explain(model, zoo.normal(3, 4))
    assert found.first_break() == "square"
    assert found.unexplained_fraction > 0.1


def test_a_registered_rule_closes_the_gap():
    @register_rule(Triple)
    def by_position(visit, x):
        entered = visit.enter(x)
        return visit.leave(visit.identity(entered, visit.call(ops.stop_gradient(entered))))

    model = keras.Sequential([keras.Input((4,)), L.Dense(5), Triple(name="cube"), L.Dense(2)])
    found = explain(model, zoo.normal(3, 4))
    assert found.first_break() is None


def test_what_cannot_have_a_rule_is_refused():
    with pytest.raises(ConfigError, match=r"subclass of keras\.layers\.Layer"):
        register_rule(int)


class Spectrum(L.Layer):
    def call(self, x):
        return ops.fft((x, ops.zeros_like(x)))[0]


class Turned(L.Layer):
    """What comes in is not negative; what goes out may be."""

    def __init__(self, turn):
        super().__init__()
        self.turn = turn

    def call(self, x):
        return self.turn(ops.relu(x))


@pytest.mark.parametrize(
    "turn",
    [ops.negative, lambda x: ops.where(x < 1.0, x - 1.0, 0.0), lambda x: ops.pad(x, [[0, 0], [0, 1]]) * -1.0],
    ids=["negative", "where", "pad"],
)
def test_what_turns_negative_contributes_nothing_under_z_plus(turn):
    dense = L.Dense(2, kernel_initializer="ones", use_bias=False)
    model = keras.Sequential([keras.Input((4,)), Turned(turn), dense])
    x = np.abs(zoo.normal(3, 4)) % 0.9 + 0.05
    found = explain(model, x, target=0, method=presets.z_plus())
    assert (found.output < 0).all()
    np.testing.assert_array_equal(found.inputs["input"], np.zeros_like(x))


def test_a_negative_number_among_the_arguments_may_be_a_value():
    turned = Turned(lambda x: ops.where(x > 1.0, x, -2.0))
    dense = L.Dense(2, kernel_initializer="ones", use_bias=False)
    model = keras.Sequential([keras.Input((3,)), turned, dense])
    x = np.array([[0.5, 1.5, 2.5]], "float32")
    found = explain(model, x, target=0, method=presets.z_plus())
    # Of what counts, 1.5 and 2.5, each gets its share of 1.5 + 2.5 - 2.
    np.testing.assert_allclose(found.inputs["input"], [[0, 2 * 1.5 / 4, 2 * 2.5 / 4]], rtol=1e-5)


def test_an_operation_without_a_rule_is_named_or_goes_by_its_gradient():
    model = keras.Sequential([keras.Input((4,)), L.Dense(4), Spectrum(name="spectrum"), L.Dense(2)])
    x = zoo.normal(3, 4)
    with pytest.raises(Unsupported, match=r"keras\.ops\.fft in spectrum"):
        explain(model, x)
    found = explain(model, x, unknown="gradient")
    assert any("keras.ops.fft" in note for note in found.notes)


def test_auto_says_what_it_chose():
    made = build("functional_cnn")
    found = explain(made.model, made.x)
    assert found.method == "epsilon_plus"
    assert "convolutions" in found.notes[0]


def test_presets_are_values_that_can_be_changed():
    made = build("functional_cnn")
    changed = presets.epsilon().with_rules({keras.layers.Conv2D: ZPlus()})
    plus = explain(made.model, made.x, method="epsilon_plus")
    same = explain(made.model, made.x, method=changed)
    (name,) = plus.inputs
    np.testing.assert_allclose(same.inputs[name], plus.inputs[name], rtol=1e-4, atol=1e-6)
    rules = {step.rule for step in same.trace if step.kind == "Conv2D"}
    assert all(rule.startswith("ZPlus") for rule in rules)
    with pytest.raises(ConfigError, match="expected a value"):
        presets.epsilon().with_rules({"dense": "epsilon"})


def test_options_of_rules_have_effects():
    model = keras.Sequential([keras.Input((6,)), L.Dense(8, activation="relu"), L.Dense(3)])
    x = zoo.normal(4, 6)

    def relevance(method):
        (r,) = explain(model, x, method=method, layers=None).inputs.values()
        return r

    plain = relevance(presets.epsilon())
    for other in (
        presets.epsilon(0.5),
        presets.gamma(0.25),
        presets.alpha_beta(2, 1),
        presets.epsilon_gamma_box(-4, 4),
    ):
        assert not np.allclose(relevance(other), plain)
    assert not np.allclose(relevance(presets.gamma(1.0)), relevance(presets.gamma(0.25)))
    assert Epsilon(epsilon=0.5) != Epsilon()
