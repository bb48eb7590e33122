"""Recurrent layers compute the same step by step, conserve by every rule, and equal the closed form, masks included."""

import dataclasses

import keras
import numpy as np
import pytest

from analyzer.backends import reference_recurrent
from analyzer.errors import Unsupported
from analyzer.relevance import presets
from analyzer.relevance.explain import explain
from analyzer.relevance.rules import Epsilon, Flat, Pass, Rule, ZBox

L = keras.layers
ops = keras.ops
N, T, D, U = 3, 6, 4, 3
ABSORBED = ["absorbed_by_bias", "absorbed_by_softmax", "absorbed_by_stabiliser"]
SIGNAL = presets.epsilon()
UNIFORM = dataclasses.replace(SIGNAL, gates="uniform")
MASK = np.array([[1, 1, 1, 1, 1, 1], [1, 0, 1, 1, 0, 0], [0, 0, 1, 0, 1, 1]], dtype=bool)
CELLS = {
    "simple": (L.SimpleRNN, {}),
    "lstm": (L.LSTM, {}),
    "gru": (L.GRU, {"reset_after": True}),
    "gru_before": (L.GRU, {"reset_after": False}),
}

SOME = ["lstm", "gru", *(pytest.param(name, marks=pytest.mark.full) for name in ("simple", "gru_before"))]
"""Where all cells share the code that is looked at, two of them stand for the others but in the full run."""


def numpy(t):
    return np.asarray(keras.ops.convert_to_numpy(t))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


X = normal(N, T, D)


def filled(model, seed=1):
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        if variable.dtype == "float32":
            variable.assign(rng.normal(0, 0.6, variable.shape).astype("float32"))
    return model


def of(layer, **options):
    """A model of one recurrent layer over steps."""
    steps = keras.Input((T, D), **options)
    return filled(keras.Model(steps, layer(steps)))


def made(name, **options):
    kind, own = CELLS[name]
    return kind(U, **own, **options)


def masked(layer):
    """A model of the steps and, as numbers, their mask."""
    steps, mask = keras.Input((T, D), name="steps"), keras.Input((T,), name="mask", dtype="bool")
    return filled(keras.Model([steps, mask], layer(steps, mask=mask)))


def all_outputs(outputs):
    """A target that everything of every output takes part in."""
    total = 0.0
    for i, t in enumerate(keras.tree.flatten(outputs)):
        size = int(np.prod(t.shape[1:]))
        weights = np.linspace(0.4 + i, 1.7 + i, size).astype("float32")
        total = total + ops.sum(ops.reshape(t, (-1, size)) * ops.convert_to_tensor(weights), axis=1)
    return total


def unexplained(explanation, allowed=1e-4):
    """Nothing is lost, in total and at every place."""
    ledger = explanation.ledger
    arrived = sum(float(np.sum(relevance)) / len(relevance) for relevance in explanation.inputs.values())
    start = float(np.mean(explanation.output))
    scale = max(abs(start), sum(float(np.abs(r).sum()) / len(r) for r in explanation.inputs.values()))
    assert abs(arrived + ledger[ABSORBED].to_numpy().sum() - start) <= allowed * scale
    assert (ledger["unexplained_fraction"] <= allowed).all(), ledger


def near(found, expected, allowed=1e-5):
    assert np.linalg.norm(found - expected) <= allowed * np.linalg.norm(expected)


def same_value(explanation, model, x):
    """What was explained is what the model itself computes."""
    expected = numpy(all_outputs(model(x)))
    assert np.allclose(explanation.output, expected, rtol=1e-5, atol=1e-5)


def closed_form(name, layer, x, start, preset, **options):
    function = reference_recurrent.lstm if name == "lstm" else reference_recurrent.gru
    weights = [numpy(w) for w in layer.weights] + ([] if layer.use_bias else [None])
    own = {} if name == "lstm" else {"reset_after": layer.reset_after}
    return function(x, *weights, start, rule=preset.gates, zero_bias=preset.recurrent.zero_bias, **own, **options)


def calm(model, closed):
    """Weights away from denominators near 0, where noise of the size of float32 moves relevance least.

    Args:
        model: Its weights are drawn.
        closed: Computes the closed form and the relevance of x in it.
    """

    moved = X + 1e-5 * normal(*X.shape, seed=3)

    def drawn(seed):
        filled(model, seed)
        expected, relevance = closed(X)
        return np.linalg.norm(closed(moved)[1] - relevance) / np.linalg.norm(relevance), seed, expected

    _, seed, expected = min((drawn(seed) for seed in range(20)), key=lambda one: one[:2])
    filled(model, seed)
    return expected


def calm_layer(model, name, layer, preset, **options):
    """The closed form of one layer whose outputs all count."""
    weights = np.linspace(0.4, 1.7, T * U).reshape(T, U)
    given = {"initial_state" if key == "states" else key: value for key, value in options.items()}

    def closed(x):
        start = numpy(layer(x.astype("float32"), **given)) * weights
        found = closed_form(name, layer, x, start, preset, **options)
        return found, found.lower

    return calm(model, closed)


@pytest.mark.parametrize("preset", [SIGNAL, UNIFORM, UNIFORM.with_zero_bias()], ids=["signal", "uniform", "zero_bias"])
@pytest.mark.parametrize("name", ["lstm", "gru", "gru_before"])
class TestClosedForm:
    def test_equals_the_reference(self, name, preset):
        layer = made(name, return_sequences=True)
        model = of(layer)
        expected = calm_layer(model, name, layer, preset)
        found = explain(model, X, target=all_outputs, method=preset)
        same_value(found, model, X)
        near(next(iter(found.inputs.values())), expected.lower)
        row = found.ledger[found.ledger["kind"] == type(layer).__name__].iloc[0]
        assert row["absorbed_by_bias"] == pytest.approx(expected.bias.mean(), rel=1e-4, abs=1e-5)
        unexplained(found)

    def test_equals_it_with_a_mask(self, name, preset):
        layer = made(name, return_sequences=True)
        model = masked(layer)
        expected = calm_layer(model, name, layer, preset, mask=MASK)
        x = {"steps": X, "mask": MASK}
        found = explain(model, x, target=all_outputs, method=preset)
        same_value(found, model, [X, MASK])
        near(found.inputs["steps"], expected.lower)
        assert np.array_equal(found.inputs["steps"][~MASK], np.zeros_like(X[~MASK]))
        unexplained(found)


@pytest.mark.parametrize("name", CELLS)
class TestConserves:
    @pytest.mark.parametrize(
        "preset",
        [
            presets.epsilon(0.1),
            dataclasses.replace(presets.gamma(), gates="uniform"),
            presets.z_plus(),
            presets.alpha_beta(),
            dataclasses.replace(presets.magnitude(), gates="uniform"),
        ],
        ids=lambda p: p.name,
    )
    def test_by_every_rule(self, name, preset):
        model = of(made(name))
        found = explain(model, X, target=all_outputs, method=preset)
        same_value(found, model, X)
        unexplained(found)
        row = found.ledger[found.ledger["kind"] == type(made(name)).__name__].iloc[0]
        assert row["absorbed_by_bias"] != 0

    @pytest.mark.parametrize("preset", [SIGNAL, UNIFORM], ids=["signal", "uniform"])
    def test_whole_without_biases(self, name, preset):
        found = explain(of(made(name, use_bias=False)), X, target=all_outputs, method=preset)
        assert found.ledger["absorbed_by_bias"].abs().max() == 0
        relevance = next(iter(found.inputs.values()))
        size = np.maximum(np.abs(found.output), np.abs(relevance).sum((1, 2)))
        assert np.all(np.abs(relevance.sum((1, 2)) - found.output) <= 1e-4 * size)

    @pytest.mark.parametrize("first", [Flat(), ZBox(-4, 4)], ids=["flat", "box"])
    def test_by_rules_for_what_is_zero(self, name, first):
        x = X.copy()
        x[:, :2] = 0
        found = explain(of(made(name)), x, target=all_outputs, method=dataclasses.replace(SIGNAL, first=first))
        relevance = next(iter(found.inputs.values()))
        assert np.abs(relevance[:, :2]).min() > 0
        arrived = relevance.sum((1, 2)).mean() + found.ledger[ABSORBED].to_numpy().sum()
        scale = max(abs(found.output.mean()), np.abs(relevance).sum((1, 2)).mean())
        assert abs(arrived - found.output.mean()) <= 1e-4 * scale


@pytest.mark.parametrize("name", SOME)
class TestOptions:
    @pytest.mark.parametrize("sequences", [True, False])
    def test_states_are_outputs_and_backwards_is_the_reversed_input(self, name, sequences):
        options = {"return_sequences": sequences, "return_state": True}
        model = of(made(name, **options))
        found = explain(model, X, target=all_outputs, method=UNIFORM)
        same_value(found, model, X)
        unexplained(found)
        backwards = of(made(name, go_backwards=True, **options))
        mirrored = explain(backwards, X[:, ::-1].copy(), target=all_outputs, method=UNIFORM)
        assert np.allclose(mirrored.output, found.output, atol=1e-5)
        near(next(iter(mirrored.inputs.values()))[:, ::-1], next(iter(found.inputs.values())))

    def test_first_states_may_depend_on_the_input(self, name):
        layer = made(name, return_sequences=True)
        count = 2 if name == "lstm" else 1
        steps = keras.Input((T, D), name="steps")
        starts = [keras.Input((U,), name=f"start{i}") for i in range(count)]
        model = filled(keras.Model([steps, *starts], layer(steps, initial_state=starts)))
        x = [X, *(normal(N, U, seed=5 + i) for i in range(count))]
        expected = None if name == "simple" else calm_layer(model, name, layer, UNIFORM, states=x[1:])
        found = explain(model, x, target=all_outputs, method=UNIFORM)
        same_value(found, model, x)
        unexplained(found)
        assert all(np.abs(found.inputs[f"start{i}"]).min() > 0 for i in range(count))
        if expected is not None:
            near(found.inputs["steps"], expected.lower)
            for i, state in enumerate(expected.states):
                near(found.inputs[f"start{i}"], state)

    def test_stored_states_are_read_and_not_written(self, name):
        layer = made(name, stateful=True)
        steps = keras.Input(batch_shape=(N, T, D))
        model = filled(keras.Model(steps, layer(steps)))
        stored = [normal(N, U, seed=8 + i) for i in range(len(layer.states))]
        for state, value in zip(layer.states, stored, strict=True):
            state.assign(value)
        found = explain(model, X, target=all_outputs, method=SIGNAL)
        for state, value in zip(layer.states, stored, strict=True):
            assert np.array_equal(numpy(state), value)
        same_value(found, model, X)
        unexplained(found)

    @pytest.mark.parametrize(("zero", "unroll"), [(True, False), (False, False), (False, True)])
    def test_masked_steps_give_what_the_layer_gives(self, name, zero, unroll):
        layer = made(name, return_sequences=True, zero_output_for_mask=zero, unroll=unroll, return_state=True)
        steps, mask = keras.Input((T, D), name="steps"), keras.Input((T,), name="mask", dtype="bool")
        starts = [keras.Input((U,), name=f"start{i}") for i in range(2 if name == "lstm" else 1)]
        model = filled(keras.Model([steps, mask, *starts], layer(steps, mask=mask, initial_state=starts)))
        x = [X, MASK, *(normal(N, U, seed=5 + i) for i in range(len(starts)))]
        found = explain(model, x, target=all_outputs, method=SIGNAL)
        same_value(found, model, x)
        unexplained(found)

    def test_other_activations(self, name):
        options = {} if name == "simple" else {"recurrent_activation": "hard_sigmoid"}
        model = of(made(name, activation="relu", **options))
        x = np.abs(X)
        for preset in (SIGNAL, presets.z_plus(), UNIFORM):
            found = explain(model, x, target=all_outputs, method=preset)
            same_value(found, model, x)
            unexplained(found)

    def test_several_targets_are_those_one_by_one(self, name):
        model = of(made(name))
        together = explain(model, X, target=[0, 2], method=UNIFORM)
        for i, target in enumerate((0, 2)):
            alone = explain(model, X, target=target, method=UNIFORM)
            near(next(iter(together.inputs.values()))[i], next(iter(alone.inputs.values())))

    def test_without_books_the_maps_are_the_same(self, name):
        model = of(made(name))
        with_books = explain(model, X, target=1, method=UNIFORM)
        without = explain(model, X, target=1, method=UNIFORM, layers=None)
        near(next(iter(without.inputs.values())), next(iter(with_books.inputs.values())))


class TestStacks:
    def cells(self):
        return [L.LSTMCell(U), L.GRUCell(4), L.SimpleRNNCell(2)]

    @pytest.mark.parametrize("preset", [SIGNAL, UNIFORM], ids=["signal", "uniform"])
    def test_a_stack_is_its_layers_one_after_the_other(self, preset):
        stack = of(L.RNN(self.cells()))
        found = explain(stack, X, target=all_outputs, method=preset)
        same_value(found, stack, X)
        unexplained(found)
        steps = keras.Input((T, D))
        layers = [L.LSTM(U, return_sequences=True), L.GRU(4, return_sequences=True), L.SimpleRNN(2)]
        y = steps
        for layer in layers:
            y = layer(y)
        apart = keras.Model(steps, y)
        apart.set_weights(stack.get_weights())
        expected = explain(apart, X, target=all_outputs, method=preset)
        near(next(iter(found.inputs.values())), next(iter(expected.inputs.values())))
        assert (found.ledger["kind"] == "RNN").sum() == 1

    def test_states_of_a_stack(self):
        model = of(L.RNN(self.cells(), return_sequences=True, return_state=True))
        found = explain(model, X, target=all_outputs, method=UNIFORM)
        same_value(found, model, X)
        unexplained(found)

    def test_a_stack_with_a_mask(self):
        model = masked(L.RNN(self.cells(), return_sequences=True))
        found = explain(model, {"steps": X, "mask": MASK}, target=all_outputs, method=SIGNAL)
        same_value(found, model, [X, MASK])
        assert np.array_equal(found.inputs["steps"][~MASK], np.zeros_like(X[~MASK]))
        unexplained(found)

    def test_a_cell_of_ones_own_is_named(self):
        class Own(L.LSTMCell):
            def call(self, inputs, states, training=False):
                h, new = super().call(inputs, states, training=training)
                return 2 * h, new

        model = of(L.RNN(Own(U)))
        with pytest.raises(Unsupported, match=r"RNN"):
            explain(model, X, target=0, method=SIGNAL)
        found = explain(model, X, target=0, method=SIGNAL, unknown="gradient")
        assert any("RNN" in note for note in found.notes)


class TestBidirectional:
    @pytest.mark.parametrize(
        ("mode", "sequences"),
        [("concat", True), ("concat", False), ("sum", True), ("ave", False), ("mul", True), (None, True)],
    )
    def test_every_way_to_merge(self, mode, sequences):
        layer = L.Bidirectional(L.GRU(U, return_sequences=sequences, return_state=True), merge_mode=mode)
        model = of(layer)
        found = explain(model, X, target=all_outputs, method=UNIFORM)
        same_value(found, model, X)
        unexplained(found)
        assert (found.ledger["kind"] == "Bidirectional").sum() == 1
        assert "GRU" not in set(found.ledger["kind"])

    def test_the_sum_of_both_directions(self):
        layer = L.Bidirectional(L.LSTM(U, return_sequences=True))
        model = of(layer)

        def closed(x):
            start = numpy(layer(x.astype("float32"))) * np.linspace(0.4, 1.7, T * 2 * U).reshape(T, 2 * U)
            there = closed_form("lstm", layer.forward_layer, x, start[..., :U], SIGNAL).lower
            mirrored = closed_form("lstm", layer.backward_layer, x[:, ::-1], start[:, ::-1, U:], SIGNAL).lower
            return there + mirrored[:, ::-1], there + mirrored[:, ::-1]

        expected = calm(model, closed)
        near(next(iter(explain(model, X, target=all_outputs, method=SIGNAL).inputs.values())), expected)

    def test_other_layers_backwards_first_states_and_masks(self):
        forward = L.LSTM(U, return_sequences=True)
        backward = L.LSTM(U, return_sequences=True, go_backwards=True, activation="softsign")
        layer = L.Bidirectional(forward, backward_layer=backward)
        steps, mask = keras.Input((T, D), name="steps"), keras.Input((T,), name="mask", dtype="bool")
        starts = [keras.Input((U,), name=f"start{i}") for i in range(4)]
        model = filled(keras.Model([steps, mask, *starts], layer(steps, mask=mask, initial_state=starts)))
        x = [X, MASK, *(normal(N, U, seed=5 + i) for i in range(4))]
        found = explain(model, x, target=all_outputs, method=UNIFORM)
        same_value(found, model, x)
        unexplained(found)
        assert all(np.abs(found.inputs[f"start{i}"]).min() > 0 for i in range(4))


class TestClassifiers:
    @pytest.mark.parametrize("loop", [L.LSTM(U), L.GRU(U), L.Bidirectional(L.LSTM(U))], ids=["lstm", "gru", "both"])
    def test_over_tokens(self, loop):
        loop = type(loop).from_config(loop.get_config())
        tokens = keras.Input((T,), dtype="int32")
        y = L.Dense(4, activation="softmax")(loop(L.Embedding(9, D, mask_zero=True)(tokens)))
        model = filled(keras.Model(tokens, y))
        x = np.array([[3, 1, 4, 1, 5, 8], [2, 6, 5, 3, 0, 0], [7, 0, 0, 0, 0, 0]])
        found = explain(model, x, target=2, method=SIGNAL)
        relevance = next(iter(found.inputs.values()))
        assert relevance.shape == x.shape
        assert np.array_equal(relevance[x == 0], np.zeros((x == 0).sum()))
        assert np.abs(relevance[x != 0]).min() > 0
        unexplained(found)

    def test_half_precision(self):
        keras.utils.set_random_seed(0)
        steps = keras.Input((T, D))
        y = L.Dense(3, dtype="float32")(L.LSTM(U, dtype="mixed_float16")(steps))
        model = filled(keras.Model(steps, y))
        found = explain(model, X, target=1, method=SIGNAL)
        assert np.allclose(found.output, numpy(model(X))[:, 1], atol=5e-3)
        unexplained(found, 5e-3)


def test_two_maps_travel_together():
    steps = keras.Input((T, D))
    model = filled(keras.Model(steps, L.Dense(4)(L.GRU(U)(L.LSTM(U, return_sequences=True)(steps)))))
    found = explain(model, X, target=1, method="contrastive")
    assert np.allclose(next(iter(found.inputs.values())).sum((1, 2)), found.output, rtol=1e-4, atol=1e-4)
    y = numpy(model(X))
    others = next(iter(found.against.values())).sum((1, 2))
    assert np.allclose(others, y.sum(1) - y[:, 1], rtol=1e-4, atol=1e-4)


class TestBad:
    def test_a_rule_by_position_is_refused(self):
        with pytest.raises(Unsupported, match=r"same position.*recurrent"):
            explain(of(L.LSTM(U)), X, target=0, method=SIGNAL.with_rules({L.LSTM: Pass()}))

    def test_a_rule_that_mixes_its_products_is_refused(self):
        class Mixing(Rule):
            def spread(self, terms):
                given = Epsilon().spread(terms)
                return dataclasses.replace(given, parts=[2 * given.parts[0]])

        with pytest.raises(Unsupported, match=r"Mixing.*products themselves"):
            explain(of(L.LSTM(U)), X, target=0, method=SIGNAL.with_rules({L.LSTM: Mixing()}))

    def test_an_activation_that_mixes_units_is_refused(self):
        with pytest.raises(Unsupported, match=r"softmax.*mixes units"):
            explain(of(L.SimpleRNN(U, activation="softmax")), X, target=0, method=SIGNAL)
