"""Pruned models against the given ones with the weights of the removed channels at 0, which is done by hand here."""

import keras
import numpy as np
import pytest

from analyzer.diagnosis.channel_contributions import contributions, weakest
from analyzer.diagnosis.channel_groups import channel_groups
from analyzer.diagnosis.channelwise import axis_after
from analyzer.diagnosis.pruning import groups_of, prune
from analyzer.errors import ConfigError, ModelError
from analyzer.inspection import open_model
from analyzer.testing import footprint

pytestmark = pytest.mark.slow

L = keras.layers


def randomised(model, seed=0):
    """Every weight drawn, biases and moving statistics included."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        drawn = (
            rng.uniform(0.5, 1.5, variable.shape) if "var" in variable.name else rng.normal(size=variable.shape) * 0.5
        )
        variable.assign(drawn)
    return model


def samples(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def outputs(model, x):
    return model.predict(x, verbose=0)


def without(model, x, silenced):
    """Outputs with some inputs of kernels at 0: ``{layer: (variable, axis, positions)}``; the weights are put back."""
    kept = [keras.ops.convert_to_numpy(v).copy() for v in model.weights]
    for name, cuts in silenced.items():
        for variable, axis, positions in cuts:
            values = keras.ops.convert_to_numpy(getattr(model.get_layer(name), variable)).copy()
            np.moveaxis(values, axis, 0)[positions] = 0
            getattr(model.get_layer(name), variable).assign(values)
    found = outputs(model, x)
    for variable, value in zip(model.weights, kept, strict=True):
        variable.assign(value)
    return found


def branching():
    """Convolutions of three kinds, normalisation, branches, concatenation, flattening, and a residual sum."""
    x = inputs = keras.Input((8, 8, 3), name="image")
    x = L.Conv2D(6, 3, padding="same", name="c1")(x)
    x = L.BatchNormalization(name="bn")(x)
    x = L.ReLU(name="relu")(x)
    x = L.DepthwiseConv2D(3, depth_multiplier=2, activation="relu", name="depthwise")(x)
    x = L.MaxPooling2D(name="pool")(x)
    first = L.Conv2D(5, 3, padding="same", activation="relu", name="c2")(x)
    second = L.SeparableConv2D(4, 1, depth_multiplier=2, name="c3")(x)
    x = L.PReLU(shared_axes=(1,), name="prelu")(L.Concatenate(name="cat")([first, second]))
    x = keras.ops.tanh(L.Dense(7, name="d1")(L.Flatten(name="flat")(L.Dropout(0.5)(x))))
    x = L.Add(name="add")([L.Dense(7, name="d2")(x), L.Dense(7, name="d3")(x)])
    return randomised(keras.Model(inputs, L.Dense(3, activation="softmax", name="head")(x)))


class TestExact:
    @pytest.mark.parametrize(
        ("channels", "silenced"),
        [
            (
                {"c1": [0, 4]},
                {
                    "c2": [("kernel", 2, [0, 1, 8, 9])],
                    "c3": [("depthwise_kernel", 2, [0, 1, 8, 9])],
                },
            ),
            ({"c2": [1]}, {"d1": [("kernel", 0, [9 * p + 1 for p in range(9)])]}),
            ({"c3": [0, 3]}, {"d1": [("kernel", 0, [9 * p + c for p in range(9) for c in (5, 8)])]}),
            ({"d1": [2, 6]}, {"d2": [("kernel", 0, [2, 6])], "d3": [("kernel", 0, [2, 6])]}),
        ],
        ids=["convolution", "concatenated", "separable", "dense"],
    )
    def test_it_equals_the_masked_model_and_the_given_one_stays(self, channels, silenced):
        model, x = branching(), samples(9, 8, 8, 3)
        wanted = without(model, x, silenced)
        # Keras imports TensorFlow, where it is installed, for the first config that it writes: no doing of ours.
        model.get_config()
        before = footprint.both(model)
        smaller = prune(model, channels, x=x)
        assert footprint.moved(before, footprint.both(model)) == []
        np.testing.assert_allclose(outputs(smaller, x), wanted, atol=1e-5)
        assert not np.allclose(outputs(model, x), wanted, atol=1e-3)
        assert [layer.name for layer in smaller.layers] == [layer.name for layer in model.layers]
        (name, gone), *_ = channels.items()
        width = {"d1": "units"}.get(name, "filters")
        assert getattr(smaller.get_layer(name), width) == getattr(model.get_layer(name), width) - len(gone)

    def test_several_layers_at_once(self):
        model, x = branching(), samples(5, 8, 8, 3)
        smaller = prune(model, {"c1": [5], "c2": [0, 2], "c3": [1], "d1": [0]})
        kept = [9 * p + c for p in range(9) for c in (0, 2, 6)]
        silenced = {
            "c2": [("kernel", 2, [10, 11])],
            "c3": [("depthwise_kernel", 2, [10, 11])],
            "d1": [("kernel", 0, kept)],
            "d2": [("kernel", 0, [0])],
            "d3": [("kernel", 0, [0])],
        }
        np.testing.assert_allclose(outputs(smaller, x), without(model, x, silenced), atol=1e-5)
        assert smaller.get_layer("depthwise").kernel.shape == (3, 3, 5, 2)
        assert smaller.get_layer("prelu").alpha.shape == (1, 3, 6)
        assert smaller.get_layer("d1").kernel.shape == (54, 6)
        assert smaller.count_params() < model.count_params()

    @pytest.mark.parametrize("rank", [1, 3])
    def test_convolutions_of_other_ranks(self, rank):
        conv = {1: L.Conv1D, 3: L.Conv3D}[rank]
        pool = {1: L.GlobalAveragePooling1D, 3: L.GlobalMaxPooling3D}[rank]
        layers = [conv(4, 2, name="a"), L.Activation("gelu"), conv(3, 2, name="b"), pool(), L.Dense(2, name="head")]
        model = randomised(keras.Sequential([keras.Input((5,) * rank + (2,)), *layers], name="net"))
        x = samples(6, *(5,) * rank, 2)
        smaller = prune(model, {"a": [1, 3], "b": [0]}, x=x)
        wanted = without(model, x, {"b": [("kernel", rank, [1, 3])], "head": [("kernel", 0, [0])]})
        np.testing.assert_allclose(outputs(smaller, x), wanted, atol=1e-5)
        assert isinstance(smaller, keras.Sequential)
        assert smaller.name == "net"

    def test_nested_models_and_transposed_convolutions(self):
        inner = keras.Sequential([keras.Input((4, 4, 5)), L.Conv2DTranspose(6, 2, name="up"), L.ReLU()], name="inner")
        x = inputs = keras.Input((4, 4, 2))
        x = inner(L.Conv2D(5, 1, name="first")(x))
        model = randomised(keras.Model(inputs, L.Dense(2, name="head")(L.GlobalAveragePooling2D()(x))))
        data = samples(4, 4, 4, 2)
        smaller = prune(model, {"first": [2], "up": [0, 5]}, x=data)
        assert tuple(smaller.get_layer("inner").get_layer("up").kernel.shape) == (2, 2, 4, 4)
        # By hand: the same function from sliced weights.
        first, bias, up, up_bias, head, head_bias = (keras.ops.convert_to_numpy(w) for w in model.weights)
        z = np.einsum("nijc,cd->nijd", data, np.delete(first[0, 0], 2, axis=1)) + np.delete(bias, 2)
        up, up_bias = np.delete(np.delete(up, 2, axis=3), [0, 5], axis=2), np.delete(up_bias, [0, 5])
        spread = np.zeros((4, 5, 5, 4))
        for i in range(2):
            for j in range(2):
                spread[:, i : i + 4, j : j + 4] += np.einsum("nijc,dc->nijd", z, up[i, j])
        pooled = np.maximum(spread + up_bias, 0).mean(axis=(1, 2))
        wanted = pooled @ np.delete(head, [0, 5], axis=0) + head_bias
        np.testing.assert_allclose(outputs(smaller, data), wanted, atol=1e-5)

    def test_a_compiled_model_a_file_and_training_on(self, tmp_path):
        model = branching()
        model.compile("adam", "sparse_categorical_crossentropy")
        model.save(tmp_path / "m.keras")
        x = samples(8, 8, 8, 3)
        smaller = prune(tmp_path / "m.keras", {"c1": [1]}, x=x)
        np.testing.assert_allclose(outputs(smaller, x), outputs(prune(model, {"c1": [1]}), x), atol=1e-6)
        assert not smaller.compiled
        smaller.compile("sgd", "sparse_categorical_crossentropy")
        smaller.fit(x, np.arange(8) % 3, epochs=1, verbose=0)
        smaller.save(tmp_path / "smaller.keras")


class TestRefused:
    def test_reasons_name_what_stands_against_it(self):
        model = branching()
        groups, refused = channel_groups(open_model(model))
        assert list(groups) == ["c1", "c2", "c3", "d1"]
        assert "'add' (Add) joins its channels with those of 'd3'" in refused["d2"]
        assert "'add' (Add) joins its channels with those of 'd2'" in refused["d3"]
        assert refused["head"] == "Its channels are outputs of the model."
        assert "prune the layer before it" in refused["depthwise"]
        with pytest.raises(ConfigError, match="Layer 'd3' cannot be pruned: 'add'"):
            prune(model, {"d3": [0]})
        with pytest.raises(ConfigError, match="Layer 'bn' cannot be pruned: It is a BatchNormalization"):
            prune(model, {"bn": [0]})

    def test_sharing_mixing_and_classes_of_ones_own(self):
        @keras.saving.register_keras_serializable("pruning")
        class OwnDense(L.Dense):
            pass

        x = inputs = keras.Input((6,))
        shared = L.Dense(6, name="shared")
        x = shared(shared(x))
        x = L.LayerNormalization(name="norm")(L.Dense(4, name="normalised")(x))
        x = L.Reshape((2, 2), name="reshape")(L.Dense(4, name="reshaped")(x))
        x = OwnDense(3, name="own")(L.Flatten()(x))
        x = L.Dense(5, activation="softmax", name="soft")(L.Dense(3, name="before")(x))
        x = L.Softmax(name="softmax")(L.Dense(4, name="mixed")(x))
        x = L.GRU(3, name="gru")(L.Dense(4, name="looped")(L.Reshape((2, 2))(x)))
        x = L.Dense(2, name="head")(x)
        model = keras.Model(inputs, x)
        groups, refused = channel_groups(open_model(model))
        assert list(groups) == ["before"]
        assert "runs 2 times" in refused["shared"]
        assert "'norm' (LayerNormalization)" in refused["normalised"]
        assert "'reshape' (Reshape) does not treat channels one by one" in refused["reshaped"]
        assert "a class of its own, OwnDense" in refused["own"]
        assert refused["soft"] == "Its activation function joins channels."
        assert "'softmax' (Softmax) does not treat" in refused["mixed"]
        assert "'gru'" in refused["looped"]

    def test_inner_layers_of_composites_and_grouped_convolutions(self):
        inputs = keras.Input((4, 8))
        x = L.MultiHeadAttention(2, 3, name="attention")(*[L.Dense(8, name="before")(inputs)] * 2)
        x = L.Conv1D(4, 1, groups=2, name="grouped")(L.Conv1D(4, 1, name="into")(x))
        x = L.TimeDistributed(L.Dense(3, name="step"), name="steps")(L.Dense(4, name="repeated")(x))
        _, refused = channel_groups(open_model(keras.Model(inputs, L.Dense(2)(x))))
        assert "'attention'" in refused["before"]
        assert "'grouped' is a grouped convolution" in refused["into"]
        assert "'steps'" in refused["repeated"]

    def test_wrong_words(self):
        model, x = branching(), samples(3, 8, 8, 3)
        for words, said in [
            ({}, "either channels"),
            ({"channels": {"c1": [0]}, "fraction": 0.5}, "either channels"),
            ({"fraction": 0.5}, "give x"),
            ({"fraction": 1.0, "x": x}, "fraction=1.0"),
            ({"channels": {"c1": [6]}}, "from 0 to 5"),
            ({"channels": {"c1": [-1]}}, "from 0 to 5"),
            ({"channels": {"c1": [0.5]}}, "from 0 to 5"),
            ({"channels": {"c1": range(6)}}, "lose all of its 6 channels"),
            ({"channels": {"c1": []}}, "names no channel"),
            ({"channels": {"c9": [0]}}, "c9"),
        ]:
            with pytest.raises(ConfigError, match=said):
                prune(model, **words)

    def test_models_that_are_no_graph_or_have_nothing_to_prune(self):
        class Own(keras.Model):
            def __init__(self):
                super().__init__()
                self.first, self.head = L.Dense(4), L.Dense(2)

            def call(self, x):
                return self.head(self.first(x))

        own = Own()
        own(np.zeros((1, 3), "float32"))
        with pytest.raises(ModelError, match="no Functional or Sequential model"):
            prune(own, {"dense": [0]}, x=samples(2, 3))
        single = keras.Sequential([keras.Input((3,)), L.Dense(2, name="only")])
        with pytest.raises(ModelError, match="only: Its channels are outputs of the model"):
            prune(single, fraction=0.5, x=samples(2, 3))

    def test_a_config_that_forgets_is_found_out(self):
        @keras.saving.register_keras_serializable("pruning")
        class Forgets(L.Layer):
            factor = 1.0

            def call(self, x):
                return x * self.factor

        forgets = Forgets()
        forgets.factor = 3.0
        layers = [L.Dense(4, name="first"), forgets, L.Dense(2)]
        model = randomised(keras.Sequential([keras.Input((3,)), *layers]))
        with pytest.raises(ModelError, match="does not compute what the model does"):
            prune(model, {"first": [0]}, x=samples(4, 3))


class TestFraction:
    def test_contributions_are_rms_times_norm_and_free_of_scale(self):
        model = keras.Sequential(
            [keras.Input((3,)), L.Dense(5, activation="relu", name="first"), L.Dense(4, activation="relu", name="next")]
        )
        model.add(L.Dense(2))
        randomised(model)
        x = samples(50, 3)

        def shares():
            view = open_model(model)
            groups, _ = groups_of(view)
            return contributions(view, groups, x, 16)

        hidden = np.maximum(x @ np.asarray(model.weights[0]) + np.asarray(model.weights[1]), 0).astype("float64")
        brought = np.square(hidden).sum(axis=0) * np.square(np.asarray(model.weights[2], "float64")).sum(axis=1)
        before = shares()
        np.testing.assert_allclose(before["first"], brought / brought.sum(), rtol=1e-5)
        for weight, factor in zip(model.weights[:3], (10, 10, 0.1), strict=True):
            weight.assign(np.asarray(weight) * factor)
        for name, share in shares().items():
            np.testing.assert_allclose(share, before[name], rtol=1e-4)

    def test_the_weakest_go_first_and_one_stays(self):
        scores = {"a": np.array([0.5, 0.0, 0.3, 0.2]), "b": np.array([0.4, 0.6]), "c": np.array([1.0])}
        assert {name: gone.tolist() for name, gone in weakest(scores, 0.5).items()} == {"a": [1, 3], "b": [0]}
        assert {name: gone.tolist() for name, gone in weakest(scores, 0.99).items()} == {"a": [1, 2, 3], "b": [0]}
        assert weakest(scores, 0.1) == {}

    def test_a_silent_channel_costs_nothing(self):
        model, x = branching(), samples(20, 8, 8, 3)
        kernel, bias = (keras.ops.convert_to_numpy(w).copy() for w in model.get_layer("c2").weights)
        kernel[..., 3], bias[3] = 0, -1
        model.get_layer("c2").set_weights([kernel, bias])
        view = open_model(model)
        groups, _ = groups_of(view)
        found = contributions(view, groups, x, 8)["c2"]
        assert found[3] == 0
        assert (np.delete(found, 3) > 0).all()
        np.testing.assert_allclose(outputs(prune(model, {"c2": [3]}), x), outputs(model, x), atol=1e-5)
        smaller = prune(model, fraction=0.3, x=x)
        assert {name: smaller.get_layer(name).filters for name in ("c1", "c2", "c3")} == {"c1": 5, "c2": 4, "c3": 3}


class TestChannelwise:
    @pytest.mark.parametrize(
        ("place", "passes"),
        [
            (L.ReLU(), True),
            (L.AveragePooling1D(2), True),
            (L.UpSampling1D(2), True),
            (L.SpatialDropout1D(0.5), True),
            (keras.activations.gelu, True),
            (L.Softmax(), False),
            (keras.activations.softmax, False),
            (keras.activations.glu, False),
            (L.UnitNormalization(), False),
            (L.Reshape((3, 8)), False),
        ],
        ids=lambda value: getattr(value, "name", getattr(value, "__name__", str(value))),
    )
    def test_what_treats_channels_one_by_one(self, place, passes):
        assert axis_after(place, (2, 4, 6), 2) == (2 if passes else None)

    def test_axes_move(self):
        assert axis_after(L.Permute((2, 1)), (2, 4, 6), 2) == 1
        assert axis_after(L.GlobalMaxPooling1D(), (2, 4, 6), 2) == 1
        assert axis_after(L.GlobalMaxPooling1D(), (2, 4, 6), 1) is None
