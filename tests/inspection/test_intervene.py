"""`intervene` against computations by hand, and the law that the model stays as it was."""

import keras
import numpy as np
import pytest
from scipy.special import softmax

from analyzer import features, intervene
from analyzer.errors import ConfigError, DataError, ModelError
from analyzer.testing import footprint
from tests import zoo

pytestmark = pytest.mark.slow

L = keras.layers
numpy = keras.ops.convert_to_numpy


def close(found, expected):
    np.testing.assert_allclose(found, numpy(expected), rtol=1e-5, atol=2e-6)


def mlp():
    """A small network, its samples, and its four arrays."""
    keras.utils.set_random_seed(0)
    layers = [L.Dense(5, activation="relu", name="hidden"), L.Dense(3, activation="softmax", name="head")]
    model = keras.Sequential([keras.Input((4,)), *layers])
    for variable in model.weights:
        variable.assign(np.random.default_rng(len(variable.shape)).normal(size=variable.shape))
    return model, zoo.normal(7, 4), [numpy(v) for v in model.weights]


def by_hand(x, w, b, v, c, change=lambda h: h):
    return softmax(change(np.maximum(x @ w + b, 0)) @ v + c, axis=-1)


def at(index, value):
    """A function that sets some units of the last axis."""

    def change(h):
        h = np.array(h)
        h[..., index] = value(h[..., index]) if callable(value) else value
        return h

    return change


class TestOutputs:
    @pytest.mark.parametrize("batch_size", [2, 128])
    @pytest.mark.parametrize(
        ("act", "expected"),
        [
            (lambda t: t.ablate(), lambda h: 0 * h),
            (lambda t: t.ablate("mean"), lambda h: np.broadcast_to(h.mean(axis=0), h.shape)),
            (lambda t: t.scale(-2.5), lambda h: -2.5 * h),
            (lambda t: t.replace(0.5), lambda h: np.full_like(h, 0.5)),
            (lambda t: t.replace(np.arange(5.0)), lambda h: np.broadcast_to(np.arange(5.0), h.shape)),
            (
                lambda t: t.replace(np.arange(35.0).reshape(7, 5) / 9),
                lambda h: 0 * h + np.arange(35.0).reshape(7, 5) / 9,
            ),
            (lambda t: t.replace(lambda h: keras.ops.tanh(h)), np.tanh),
            (lambda t: t.unit(3).ablate(), at(3, 0)),
            (lambda t: t.unit(-1).scale(3), at(4, lambda h: 3 * h)),
            (lambda t: t.unit([0, 2]).ablate("mean"), at([0, 2], lambda h: h.mean(axis=0))),
            (lambda t: t.unit([4, 1], axis=1).replace([1.0, 2.0]), at([4, 1], [1.0, 2.0])),
            (lambda t: t.unit(2).replace(lambda h: h + 1), at(2, lambda h: h + 1)),
            (lambda t: t.unit(2).replace(np.arange(7.0)[:, None]), at(2, np.arange(7.0))),
            (lambda t: t.scale(2).unit(1).ablate(), lambda h: at(1, 0)(2 * h)),
        ],
    )
    def test_against_numpy(self, act, expected, batch_size):
        model, x, arrays = mlp()
        with intervene(model, batch_size=batch_size) as layers:
            act(layers["hidden"])
            close(layers(x), by_hand(x, *arrays, expected))

    def test_interventions_pile_up_in_order_until_reset(self):
        model, x, arrays = mlp()
        with intervene(model) as layers:
            layers["hidden"].scale(2).replace(lambda h: h + 1)
            layers["hidden"].unit(0).ablate()
            close(layers(x), by_hand(x, *arrays, lambda h: at(0, 0)(2 * h + 1)))
            layers.reset()
            close(layers(x), by_hand(x, *arrays))

    def test_effect_is_the_difference_to_the_clean_run(self):
        model, x, arrays = mlp()
        with intervene(model, batch_size=3) as layers:
            assert not layers.effect(x).difference.any()
            layers["hidden"].unit(1).ablate()
            effect = layers.effect(x)
        close(effect.clean, by_hand(x, *arrays))
        close(effect.changed, by_hand(x, *arrays, at(1, 0)))
        assert effect.difference.dtype == np.float64
        np.testing.assert_array_equal(effect.difference, effect.changed.astype(float) - effect.clean.astype(float))

    def test_the_output_of_the_model_itself(self):
        made = zoo.build("own_weights_only")
        with intervene(made.model) as layers:
            layers["own_weights_only"].unit(0).ablate()
            expected = at(0, 0)(numpy(made.model(made.x)))
            close(layers(made.x), expected)


class TestRecord:
    def test_what_was_handed_on_and_what_came_in(self):
        model, x, (w, b, _, _) = mlp()
        with intervene(model, batch_size=3) as layers:
            layers[["hidden", "head"]].record()
            layers["hidden"].unit(2).ablate()
            outputs = layers(x)
        hidden = at(2, 0)(np.maximum(x @ w + b, 0))
        assert list(layers.recorded) == ["hidden", "head"]
        close(layers.recorded["hidden"], hidden)
        close(layers.recorded["head"], outputs)
        close(layers.recorded_inputs["hidden"], x)
        close(layers.recorded_inputs["head"], hidden)

    def test_patching_one_run_into_another(self):
        """Activations of other samples, layer by layer: with the last one replaced nothing of the own input is left."""
        made = zoo.build("functional_cnn")
        other = zoo.normal(7, 8, 8, 3, seed=9)
        with intervene(made.model, batch_size=3) as layers:
            layers["pool"].record()
            there = layers(other)
            layers["pool"].replace(layers.recorded["pool"])
            close(layers(made.x), there)
            close(layers(other), there)

    def test_the_same_as_features(self):
        made = zoo.build("attention")
        with intervene(made.model) as layers:
            layers["mha"].record()
            layers(made.x)
        close(layers.recorded["mha"], features(made.model, made.x, "mha")["mha"])


class TestWeights:
    def test_a_single_weight(self):
        model, x, (w, b, v, c) = mlp()
        changed = v.copy()
        changed[2, 1] = 0
        with intervene(model) as layers:
            layers["head"].weight("kernel", (2, 1)).ablate()
            close(layers(x), by_hand(x, w, b, changed, c))

    @pytest.mark.parametrize(
        ("act", "expected"),
        [
            (lambda t: t.ablate(), lambda v: 0 * v),
            (lambda t: t.ablate("mean"), lambda v: np.full_like(v, v.mean())),
            (lambda t: t.scale(0.5), lambda v: v / 2),
            (lambda t: t.replace(np.ones((5, 3))), np.ones_like),
            (lambda t: t.replace(lambda v: v**2), np.square),
            (lambda t: t.scale(2).replace(lambda v: v + 1), lambda v: 2 * v + 1),
        ],
    )
    def test_a_whole_variable(self, act, expected):
        model, x, (w, b, v, c) = mlp()
        with intervene(model) as layers:
            act(layers["head"].weight("kernel"))
            close(layers(x), by_hand(x, w, b, expected(v), c))

    def test_rows_of_several_layers_at_once(self):
        model, x, (w, b, v, c) = mlp()
        with intervene(model) as layers:
            layers[L.Dense].weight("bias", slice(0, 2)).ablate()
            close(layers(x), by_hand(x, w, at([0, 1], 0)(b), v, at([0, 1], 0)(c)))

    def test_of_the_parts_of_a_layer(self):
        made = zoo.build("attention")
        mha = made.model.get_layer("mha")
        with intervene(made.model) as layers:
            layers["mha"].weight("attention_output/kernel").ablate()
            layers["mha"].record()
            layers(made.x)
        expected = np.broadcast_to(numpy(mha.output_dense.bias), (7, 5, 8))
        close(layers.recorded["mha"], expected)

    def test_of_a_recurrent_layer(self):
        """Without recurrent weights every step is a dense layer."""
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((3, 2)), L.SimpleRNN(4, return_sequences=True, name="rnn")])
        x = zoo.normal(5, 3, 2)
        kernel, _, bias = (numpy(v) for v in model.weights)
        with intervene(model) as layers:
            layers["rnn"].weight("recurrent_kernel").ablate()
            close(layers(x), np.tanh(x @ kernel + bias))

    def test_tied_weights_change_wherever_they_are_used(self):
        made = zoo.build("tied_weights")
        kernel, bias = (numpy(v) for v in made.model.get_layer("encoder").weights)
        with intervene(made.model) as layers:
            layers["encoder"].weight("kernel").scale(2)
            close(layers(made.x), np.tanh(made.x @ (2 * kernel) + bias) @ (2 * kernel).T)


class TestKindsOfModels:
    def test_a_channel_of_a_convolution(self):
        made = zoo.build("functional_cnn")
        bn, head = made.model.get_layer("bn"), made.model.get_layer("head")
        maps = numpy(made.model.get_layer("conv")(made.x))
        with intervene(made.model) as layers:
            layers["conv"].unit(1).ablate()
            found = layers(made.x)
        after = np.maximum(numpy(bn(at(1, 0)(maps), training=False)), 0)
        pooled = after.reshape(7, 4, 2, 4, 2, 4).max(axis=(2, 4)).mean(axis=(1, 2))
        close(found, head(pooled))

    def test_rows_of_a_map(self):
        made = zoo.build("functional_cnn")
        with intervene(made.model) as layers:
            layers["conv"].unit(0, axis=1).replace(7.0)
            layers["conv"].record()
            layers(made.x)
        expected = numpy(made.model.get_layer("conv")(made.x)).copy()
        expected[:, 0] = 7
        close(layers.recorded["conv"], expected)

    def test_subclassed(self):
        made = zoo.build("subclassed_private")
        m = made.model
        second = m.blocks[1](at(2, 0)(numpy(m.blocks[0](m._hidden(made.x)))))
        with intervene(m) as layers:
            assert "hidden" in layers
            layers["block_0"].unit(2).ablate()
            close(layers(made.x), m.head(m.by_name["scale"](second)))
            assert list(layers) == ["hidden", "block_0", "block_1", "scale", "head"]

    def test_nested(self):
        made = zoo.build("nested_sequential")
        encoder, neck, head = made.model.layers
        with intervene(made.model) as layers:
            layers["encoder/inner"].unit(0).ablate()
            close(layers(made.x), head(neck(at(0, 0)(numpy(encoder(made.x))))))
            layers.reset()
            layers["encoder"].ablate()
            close(layers(made.x), head(neck(np.zeros((7, 5), "float32"))))

    @pytest.mark.parametrize(("which", "factors"), [("shared@2", (1, 0)), ("shared@1", (0, 1)), ("shared", (0, 0))])
    def test_one_call_of_a_shared_layer(self, which, factors):
        made = zoo.build("shared_layer")
        shared, head = made.model.get_layer("shared"), made.model.get_layer("head")
        parts = [factor * numpy(shared(x)) for factor, x in zip(factors, made.x, strict=True)]
        with intervene(made.model) as layers:
            layers[which].ablate()
            close(layers(made.x), head(np.concatenate(parts, axis=-1)))

    def test_attention_and_what_was_added_to_it(self):
        made = zoo.build("attention")
        norm, head = made.model.get_layer("norm"), made.model.get_layer("head")
        with intervene(made.model) as layers:
            layers["mha"].ablate()
            close(layers(made.x), head(numpy(norm(made.x)).mean(axis=1)))

    def test_a_recurrent_layer_as_a_whole(self):
        made = zoo.build("embedding_lstm")
        both, head = (made.model.get_layer(name) for name in ("both", "head"))
        with intervene(made.model) as layers:
            layers["both"].unit([0, 1, 2]).ablate()
            layers["both"].record()
            found = layers(made.x)
        states = features(made.model, made.x, "both")["both"]
        close(layers.recorded["both"], at([0, 1, 2], 0)(states))
        close(found, head(at([0, 1, 2], 0)(states)))
        assert both.name == "both"

    def test_quantised(self):
        made = zoo.build("quantised_int8")
        hidden, head = made.model.layers
        with intervene(made.model) as layers:
            layers["hidden"].unit(1).ablate()
            close(layers(made.x), head(at(1, 0)(numpy(hidden(made.x)))))

    def test_dict_outputs_keep_their_structure(self):
        made = zoo.build("two_in_two_out_dict")
        with intervene(made.model, batch_size=3) as layers:
            layers["kind"].unit(0).replace(4.0)
            effect = layers.effect(made.x)
        assert set(effect.changed) == {"the_kind", "the_size"}
        assert (effect.changed["the_kind"][:, 0] == 4).all()
        assert not effect.difference["the_size"].any()

    def test_several_tensors_of_one_layer(self):
        x = inputs = keras.Input((3, 2))
        sequence, state = L.GRU(4, return_sequences=True, return_state=True, name="gru")(x)
        model = keras.Model(inputs, [sequence, state])
        data = zoo.normal(5, 3, 2)
        with intervene(model, batch_size=2) as layers:
            layers["gru"].replace(lambda result: [result[0], 2 * result[1]])
            effect = layers.effect(data)
            assert not effect.difference[0].any()
            close(effect.changed[1], 2 * effect.clean[1])
            layers.reset()
            layers["gru"].ablate("mean")
            close(layers(data)[0], np.broadcast_to(effect.clean[0].mean(axis=0), (5, 3, 4)))
            layers.reset()
            layers["gru"].unit(0).ablate()
            with pytest.raises(DataError, match="returns 2 tensors"):
                layers(data)

    @pytest.mark.parametrize("name", ["stateful_fixed_batch", "fixed_batch", "mixed_float16", "lora", "rematerialised"])
    def test_doing_nothing_changes_nothing(self, name):
        made = zoo.build(name, n=8)
        with intervene(made.model) as layers:
            layers["head"].scale(1.0)
            effect = layers.effect(made.x[:7])
        assert not effect.difference.any()
        assert effect.clean.shape[0] == 7

    def test_from_a_file(self, tmp_path):
        model, x, arrays = mlp()
        model.save(tmp_path / "mlp.keras")
        with intervene(tmp_path / "mlp.keras") as layers:
            layers["hidden"].unit(0).ablate()
            close(layers(x), by_hand(x, *arrays, at(0, 0)))


class TestNothingIsTouched:
    def trained(self):
        made = zoo.build("noisy_while_training", n=8)
        made.model.compile("adam", "sparse_categorical_crossentropy")
        made.model.fit(made.x, np.arange(8) % 3, batch_size=4, verbose=0)
        return made.model, made.x, made.model.predict(made.x, verbose=0)

    def intervened(self, layers, x):
        layers["hidden"].record()
        layers["hidden"].unit(0).ablate("mean")
        layers["head"].weight("kernel", (0, 0)).scale(9)
        assert np.abs(layers.effect(x).difference).max() > 1e-3

    def test_afterwards_and_inside_the_scope(self):
        model, x, predicted = self.trained()
        before, function = footprint.both(model), model.predict_function
        with intervene(model, batch_size=3) as layers:
            self.intervened(layers, x)
            assert footprint.both(model) == before
        assert footprint.both(model) == before
        with intervene(model) as layers:
            self.intervened(layers, x)
            assert model.predict(x, verbose=0).tobytes() == predicted.tobytes()
        assert model.predict_function is function
        assert model.predict(x, verbose=0).tobytes() == predicted.tobytes()

    def test_when_the_body_raises(self):
        model, x, _ = self.trained()
        before = footprint.both(model)
        with pytest.raises(ZeroDivisionError), intervene(model) as layers:  # noqa: PT012
            self.intervened(layers, x)
            raise ZeroDivisionError
        assert footprint.both(model) == before

    def test_when_a_function_raises(self):
        model, x, _ = self.trained()
        before = footprint.both(model)

        def broken(tensor):
            keras.random.normal((2,))
            raise ZeroDivisionError("in the middle")

        with intervene(model) as layers:
            layers["bn"].replace(broken)
            with pytest.raises(ZeroDivisionError, match=r"^in the middle$"):
                layers(x)
        assert footprint.both(model) == before

    def test_training_may_go_on_inside_the_scope(self):
        model, x, _ = self.trained()
        with intervene(model) as layers:
            layers["head"].weight("kernel", (0, 0)).ablate()
            layers(x)
            model.fit(x, np.arange(8) % 3, batch_size=4, verbose=0)
            kernel = numpy(model.get_layer("head").kernel)
            layers.reset()
            close(layers(x), model.predict(x, verbose=0))
        assert kernel[0, 0] != 0


class TestScopes:
    def test_nested_ones_know_their_own_interventions_only(self):
        model, x, arrays = mlp()
        with intervene(model) as outer:
            outer["hidden"].unit(0).ablate()
            with intervene(model) as inner:
                inner["hidden"].unit(1).ablate()
                close(inner(x), by_hand(x, *arrays, at(1, 0)))
                close(outer(x), by_hand(x, *arrays, at(0, 0)))
            close(outer(x), by_hand(x, *arrays, at(0, 0)))

    def test_a_function_may_use_the_model_itself(self):
        model, x, (w, b, v, c) = mlp()
        hidden = model.get_layer("hidden")
        with intervene(model) as layers:
            layers["hidden"].replace(lambda h: 0 * h + hidden(2 * x))
            close(layers(x), by_hand(2 * x, w, b, v, c))
            layers.reset()
            layers["head"].replace(lambda y: 0 * y + model(x))
            close(layers(x), by_hand(x, w, b, v, c))

    def test_what_a_function_calls_is_no_call_of_the_pass(self):
        model, x, arrays = mlp()
        seen = []
        with intervene(model) as layers:
            layers["head"].scale(2).record()
            layers["hidden"].replace(lambda h: seen.append(numpy(model(x))) or h)
            close(layers(x), 2 * by_hand(x, *arrays))
            close(layers.recorded["head"], 2 * by_hand(x, *arrays))
        close(seen[0], by_hand(x, *arrays))

    def test_closed(self):
        model, x, _ = mlp()
        with intervene(model) as layers:
            layers["hidden"].record()
            layers(x)
        assert layers.recorded["hidden"].shape == (7, 5)
        with pytest.raises(ModelError, match="has ended"):
            layers(x)

    def test_what_is_in_it(self):
        made = zoo.build("shared_layer")
        with intervene(made.model) as layers:
            assert list(layers) == ["shared", "shared@2", "join", "head"]
            assert len(layers) == 4
            assert "shared@2" in layers
            assert "shared@3" not in layers


class TestErrors:
    @pytest.mark.parametrize(
        ("act", "error", "says"),
        [
            (lambda s: s["hiden"], ConfigError, "Did you mean 'hidden'"),
            (lambda s: s["hidden"].scale("2"), ConfigError, "expected a number"),
            (lambda s: s["hidden"].scale(True), ConfigError, "expected a number"),
            (lambda s: s["hidden"].ablate("median"), ConfigError, "'zero' or 'mean'"),
            (lambda s: s["hidden"].unit(5).ablate(), DataError, "has 5 units"),
            (lambda s: s["hidden"].unit(0, axis=0).ablate(), DataError, "axis 0 is the sample"),
            (lambda s: s["hidden"].unit(0, axis=2).ablate(), DataError, "expected an axis from 1 to 1"),
            (lambda s: s["hidden"].unit([]), ConfigError, "the number of a unit"),
            (lambda s: s["hidden"].unit(0.5), ConfigError, "the number of a unit"),
            (lambda s: s["hidden"].weight("kernal"), ConfigError, "Did you mean 'kernel'"),
            (lambda s: s["hidden"].weight("kernel", (0, 9)), DataError, "shape \\(4, 5\\)"),
            (lambda s: s[s.view.model.name].weight("kernel"), ConfigError, "has 2 variables"),
        ],
    )
    def test_come_before_anything_runs(self, act, error, says):
        model, _, _ = mlp()
        with intervene(model) as layers, pytest.raises(error, match=says):
            act(layers)

    @pytest.mark.parametrize("value", [np.zeros((3, 5)), np.zeros(4), lambda h: h[:, :2], lambda h: (h, h)])
    def test_new_values_of_another_shape(self, value):
        model, x, _ = mlp()
        with intervene(model) as layers:
            layers["hidden"].replace(value)
            with pytest.raises(DataError, match="'hidden'"):
                layers(x)

    def test_new_weights_of_another_shape(self):
        model, x, _ = mlp()
        with intervene(model) as layers:
            layers["hidden"].weight("kernel").replace(np.zeros((5, 4)))
            with pytest.raises(DataError, match="shape"):
                layers(x)

    def test_data_that_do_not_fit(self):
        model, _, _ = mlp()
        with intervene(model) as layers, pytest.raises(DataError, match="the model expects"):
            layers(np.zeros((2, 9), "float32"))

    def test_integer_weights(self):
        made = zoo.build("quantised_int8")
        with intervene(made.model) as layers, pytest.raises(DataError, match="stored as int8"):
            layers["hidden"].weight("kernel")

    @pytest.mark.parametrize("model", [keras.Sequential([L.Dense(2)]), "nowhere.keras", 3])
    def test_no_model(self, model):
        with pytest.raises(ModelError), intervene(model):
            pass

    def test_batch_size(self):
        with pytest.raises(ConfigError, match="batch_size=0"), intervene(mlp()[0], batch_size=0):
            pass
