"""`features` against Keras' own sub-models, calls of the layers by hand, and NumPy."""

import keras
import numpy as np
import pytest

from analyzer import features
from analyzer.errors import ConfigError, DataError, DeviceMemoryError, ModelError, OutputError
from analyzer.extraction import save_arrays
from analyzer.inspection.names import slug
from analyzer.testing import footprint
from tests import zoo

pytestmark = pytest.mark.slow

L = keras.layers
numpy = keras.ops.convert_to_numpy


def close(found, expected):
    np.testing.assert_allclose(found, numpy(expected), rtol=1e-5, atol=1e-5)


@keras.saving.register_keras_serializable("features")
class Block(L.Layer):
    """A block of the user's own, as in keras #18634: layers in a layer."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.first = L.Dense(units, activation="relu", name="first")
        self.second = L.Dense(units, name="second")

    def call(self, x):
        return x + self.second(self.first(x))

    def get_config(self):
        return super().get_config() | {"units": self.units}


@keras.saving.register_keras_serializable("features")
class Mixed(keras.Model):
    """The model of keras #18634: subclassed, with a Functional backbone and blocks of the user's own inside."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        inputs = keras.Input((6,))
        hidden = L.Dense(4, activation="tanh", name="stem")(inputs)
        self.backbone = keras.Model(inputs, L.Dense(4, activation="relu", name="top")(hidden), name="backbone")
        self.block = Block(4, name="block")
        self.head = L.Dense(3, activation="softmax", name="head")

    def call(self, x):
        return self.head(self.block(self.backbone(x)))


class SeveralTensors(keras.Model):
    """Layers that return more than one tensor, and one that has no row per sample."""

    def __init__(self):
        super().__init__()
        self.lstm = L.LSTM(3, return_sequences=True, return_state=True, name="lstm")
        self.mha = L.MultiHeadAttention(2, 3, name="mha")
        self.both = Both(name="both")
        self.total = Total(name="total")
        self.head = L.Dense(2, name="head")

    def call(self, x):
        sequence, hidden, _ = self.lstm(x)
        attended, _ = self.mha(sequence, sequence, return_attention_scores=True)
        parts = self.both(attended)
        return self.head(parts["mean"] + hidden) + self.total(x)


class Both(L.Layer):
    def call(self, x):
        return {"mean": keras.ops.mean(x, axis=1), "max": keras.ops.max(x, axis=1)}


class Total(L.Layer):
    def call(self, x):
        return 0.0 * keras.ops.sum(x)


def mixed(n=7):
    keras.utils.set_random_seed(0)
    model, x = Mixed(name="mixed"), zoo.normal(n, 6)
    model(x[:1])
    return model, x


class TestAgainstKeras:
    @pytest.mark.parametrize(
        ("name", "layers"),
        [
            ("functional_cnn", ["conv", "bn", "relu", "pool", "dropout", "gap", "head"]),
            ("convolutions", ["depthwise", "separable", "transpose", "flatten", "head"]),
            ("attention", ["mha", "norm", "pool", "head"]),
            ("embedding_lstm", ["embedding", "both", "head"]),
            ("recurrent_head", ["gru", "head"]),
            ("time_distributed", ["steps", "flatten"]),
            ("two_in_two_out_list", ["left", "right", "join", "kind", "size"]),
            ("two_in_two_out_dict", ["left", "right", "join", "kind", "size"]),
            ("noisy_while_training", ["noise", "hidden", "bn", "dropout", "head"]),
            ("lora", ["hidden", "head"]),
        ],
    )
    def test_the_sub_model_of_a_functional_model_says_the_same(self, name, layers):
        made = zoo.build(name)
        expected = keras.Model(made.model.inputs, [made.model.get_layer(one).output for one in layers])
        given = made.x if isinstance(made.x, list) else [made.x]
        if isinstance(made.x, dict):
            given = [made.x[tensor.name] for tensor in made.model.inputs]
        outputs = expected(given, training=False)
        found = features(made.model, made.x, layers, batch_size=3)
        assert set(found) == set(layers)
        for one, output in zip(layers, outputs, strict=True):
            close(found[one], output)

    @pytest.mark.parametrize("name", sorted(set(zoo.BUILDERS) - {"stateful_fixed_batch", "mixed_float16"}))
    def test_last_layer_of_every_kind_of_model(self, name):
        made = zoo.build(name, n=8)
        whole = made.model.name
        found = features(made.model, made.x, whole, batch_size=4)
        # Keras cannot compile rematerialised layers on TensorFlow (3.15).
        remat = name == "rematerialised"
        outputs = made.model(made.x) if remat else made.model.predict(made.x, batch_size=4, verbose=0)
        expected = (
            [outputs[key] for key in sorted(outputs)] if isinstance(outputs, dict) else keras.tree.flatten(outputs)
        )
        assert len(found) == len(expected)
        for array, output in zip(found.values(), expected, strict=True):
            close(array, output)

    def test_fixed_batch_size_is_padded(self):
        made = zoo.build("fixed_batch", n=8)
        close(features(made.model, made.x[:7])["head"], made.model.predict(made.x, batch_size=4, verbose=0)[:7])

    def test_half_precision_stays_half(self):
        made = zoo.build("mixed_float16")
        hidden = features(made.model, made.x)["hidden"]
        assert hidden.dtype == np.float16
        np.testing.assert_allclose(hidden, numpy(made.model.get_layer("hidden")(made.x)), atol=2e-3)


class TestByHand:
    def test_subclassed(self):
        made = zoo.build("subclassed_private")
        m, found = made.model, features(made.model, made.x, batch_size=2)
        hidden = m._hidden(made.x)
        first = m.blocks[0](hidden)
        second = m.blocks[1](first)
        scale = m.by_name["scale"](second)
        for name, expected in zip(found, [hidden, first, second, scale, m.head(scale)], strict=True):
            close(found[name], expected)

    def test_nested(self):
        made = zoo.build("nested_sequential")
        encoder, neck, _ = made.model.layers
        found = features(made.model, made.x, ["inner", "encoder", "neck"])
        close(found["encoder/inner"], np.tanh(made.x @ numpy(encoder.layers[0].kernel) + numpy(encoder.layers[0].bias)))
        close(found["encoder"], found["encoder/inner"])
        close(found["neck/inner"], neck(found["encoder"]))

    def test_shared_layer_has_an_entry_per_call(self):
        """`get_output_at(0)` and `get_output_at(1)`, keras #20267."""
        made = zoo.build("shared_layer")
        kernel, bias = (numpy(v) for v in made.model.get_layer("shared").weights)
        a, b = made.x
        found = features(made.model, made.x, "shared")
        assert list(found) == ["shared", "shared@2"]
        close(found["shared"], np.maximum(a @ kernel + bias, 0))
        close(found["shared@2"], np.maximum(b @ kernel + bias, 0))
        assert list(features(made.model, made.x, "shared@2")) == ["shared@2"]

    def test_attention_inside(self):
        made = zoo.build("attention")
        query = made.model.get_layer("mha").query_dense
        expected = np.einsum("ntd,dhk->nthk", made.x, numpy(query.kernel)) + numpy(query.bias)
        close(features(made.model, made.x, "mha/query")["mha/query"], expected)

    def test_quantised(self):
        made = zoo.build("quantised_int8")
        hidden, head = made.model.layers
        found = features(made.model, made.x)
        close(found["hidden"], hidden(made.x))
        close(found["head"], head(hidden(made.x)))

    def test_several_tensors(self):
        keras.utils.set_random_seed(0)
        model, x = SeveralTensors(), zoo.normal(5, 4, 3)
        model(x[:1])
        found = features(model, x, ["lstm", "mha", "both"], batch_size=2)
        sequence, hidden, cell = model.lstm(x)
        attended, scores = model.mha(sequence, sequence, return_attention_scores=True)
        expected = {"lstm[0]": sequence, "lstm[1]": hidden, "lstm[2]": cell, "mha[0]": attended, "mha[1]": scores}
        expected |= {f"both[{key}]": value for key, value in model.both(attended).items()}
        assert list(found) == ["lstm[0]", "lstm[1]", "lstm[2]", "mha[0]", "mha[1]", "both[max]", "both[mean]"]
        for name, array in expected.items():
            close(found[name], array)

    def test_what_has_no_row_per_sample(self):
        model, x = SeveralTensors(), zoo.normal(5, 4, 3)
        model(x[:1])
        assert "total" not in features(model, x)
        with pytest.raises(DataError, match="None of the layers total"):
            features(model, x, "total")


class TestWhatUsersAskFor:
    def test_any_layer_of_a_subclassed_model_of_mixed_parts(self):
        """keras #18634: Functional backbone and own blocks inside a subclassed model."""
        model, x = mixed()
        found = features(model, x, ["backbone/top", "block/first", "block", "head"])
        top = model.backbone(x)
        close(found["backbone/top"], top)
        close(found["block/first"], model.block.first(top))
        close(found["block"], model.block(top))
        close(found["head"], model(x))

    def test_the_intermediate_layer_getter(self):
        """keras #20267: feature maps of several named layers of a backbone at once."""
        made = zoo.build("functional_cnn")
        maps = features(made.model, made.x, ["relu", "pool"])
        assert {name: array.shape for name, array in maps.items()} == {"relu": (7, 8, 8, 4), "pool": (7, 4, 4, 4)}

    def test_within_a_callback_it_changes_no_bit_of_the_training(self):
        """tensorflow #33478 and #41009: activations of any layer while the model is being trained."""
        x, y = zoo.normal(24, 4), np.arange(24) % 3
        seen = []

        class Look(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                seen.append(features(self.model, x, ["hidden", "head"]))

        def train(callbacks):
            model = zoo.build("noisy_while_training").model
            keras.utils.set_random_seed(3)
            model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
            history = model.fit(x, y, batch_size=8, epochs=3, verbose=0, callbacks=callbacks).history
            return model, history, [numpy(v).tobytes() for v in model.weights]

        _, plain_history, plain_weights = train([])
        model, history, weights = train([Look()])
        assert weights == plain_weights
        assert history == plain_history
        assert len(seen) == 3
        close(seen[-1]["head"], model(x, training=False))
        assert np.abs(seen[0]["hidden"] - seen[-1]["hidden"]).max() > 1e-4

    def test_from_a_file(self, tmp_path):
        model, x = mixed()
        model.save(tmp_path / "mixed.keras")
        close(features(tmp_path / "mixed.keras", x, "block/first")["block/first"], features(model, x)["block/first"])


class TestBatches:
    @pytest.mark.parametrize("name", ["functional_cnn", "attention", "subclassed_private", "quantised_int8"])
    def test_their_size_changes_nothing(self, name):
        made = zoo.build(name)
        whole = features(made.model, made.x)
        for batch_size in (1, 3, 100):
            for one, array in features(made.model, made.x, batch_size=batch_size).items():
                np.testing.assert_allclose(array, whole[one], atol=2e-6)

    def test_n_samples_takes_the_first(self):
        made = zoo.build("shared_layer")
        whole = features(made.model, made.x)
        for one, array in features(made.model, made.x, n_samples=3).items():
            close(array, whole[one][:3])

    def test_too_little_memory_halves_them(self):
        model = keras.Sequential([keras.Input((3,)), zoo.Breaks(most=2, name="breaks"), L.Dense(2, name="head")])
        x = zoo.normal(7, 3)
        close(features(model, x)["breaks"], x)

    def test_too_little_memory_for_one_sample(self):
        model = keras.Sequential([keras.Input((3,)), zoo.Breaks(most=1, name="breaks"), L.Dense(2, name="head")])
        x = zoo.normal(7, 3)
        model.layers[0].most = 0
        with pytest.raises((DeviceMemoryError, DataError), match="does not fit into memory"):
            features(model, x)


class TestPost:
    def test_sees_batches_and_makes_rows(self):
        made = zoo.build("functional_cnn")
        sizes = []

        def pooled(array):
            sizes.append(len(array))
            return array.mean(axis=(1, 2)) if array.ndim == 4 else array

        found = features(made.model, made.x, ["conv", "head"], post=pooled, batch_size=4)
        close(found["conv"], features(made.model, made.x, "conv")["conv"].mean(axis=(1, 2)))
        assert sizes == [4, 4, 3, 3]

    @pytest.mark.parametrize("post", [lambda a: a.mean(axis=0), lambda a: a.mean(), lambda a: [a.sum()]])
    def test_refuses_what_has_no_row_per_sample(self, post):
        made = zoo.build("functional_cnn")
        with pytest.raises(DataError, match="return one row per sample"):
            features(made.model, made.x, "conv", post=post)


class TestSave:
    def test_npz(self, tmp_path):
        made = zoo.build("nested_sequential")
        found = features(made.model, made.x, save=tmp_path / "deep" / "features.npz")
        with np.load(tmp_path / "deep" / "features.npz") as saved:
            assert list(saved) == ["encoder/inner", "neck/inner", "head"]
            for name in saved:
                np.testing.assert_array_equal(saved[name], found[name])

    def test_names_lead_nowhere(self, tmp_path):
        names = ["file", "..", "A>b", "con"]
        model = keras.Sequential([keras.Input((3,)), *(L.ReLU(name=name) for name in names)])
        features(model, zoo.normal(2, 3), save=tmp_path / "f.npz")
        with np.load(tmp_path / "f.npz") as saved:
            assert list(saved) == ["file", "%2E%2E", "A%3Eb", "con"]
        features(model, zoo.normal(2, 3), save=tmp_path / "pictures")
        assert {p.name for p in (tmp_path / "pictures").iterdir()} == {f"{slug(name)}.png" for name in names}
        assert {p.name for p in tmp_path.iterdir()} == {"f.npz", "pictures"}

    def test_no_name_leads_out_of_an_archive(self, tmp_path):
        """Names that some backends refuse to run, but files can hold."""
        names = ["..\\x", "a/../../b", "c:\\x", "/etc/x", "conv@2", "lstm[0]", "a.b"]
        save_arrays({name: np.zeros(1) for name in names}, tmp_path / "f.npz")
        with np.load(tmp_path / "f.npz") as saved:
            found = list(saved)
        assert found == ["..%5Cx", "a/%2E%2E/%2E%2E/b", "c%3A%5Cx", "%/etc/x", "conv@2", "lstm[0]", "a.b"]

    def test_a_picture_per_layer_and_one_alone(self, tmp_path):
        made = zoo.build("functional_cnn")
        features(made.model, made.x, ["conv", "gap"], save=tmp_path / "maps")
        assert {p.name for p in (tmp_path / "maps").iterdir()} == {"conv.png", "gap.png"}
        features(made.model, made.x, "conv", save=tmp_path / "one.png")
        assert (tmp_path / "one.png").read_bytes() == (tmp_path / "maps" / "conv.png").read_bytes()
        assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")

    def test_errors_come_before_any_computing(self, tmp_path):
        made = zoo.build("functional_cnn")
        with pytest.raises(ConfigError, match="a folder, or a file ending in"):
            features(made.model, made.x, save=tmp_path / "features.h5")
        with pytest.raises(ConfigError, match="selects 7 outputs"):
            features(made.model, made.x, save=tmp_path / "one.png")
        (tmp_path / "file").write_text("x")
        with pytest.raises(OutputError, match="cannot be written"):
            features(made.model, made.x, "head", save=tmp_path / "file" / "maps")


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "error", "says"),
        [
            ({"layers": "conf"}, ConfigError, "Did you mean 'conv'"),
            ({"batch_size": 0}, ConfigError, "batch_size=0"),
            ({"n_samples": 0}, ConfigError, "n_samples=0"),
            ({"n_samples": True}, ConfigError, "n_samples=True"),
            ({"post": "mean"}, ConfigError, "post='mean'"),
            ({"x": np.zeros((2, 5, 5, 3), "float32")}, DataError, "the model expects"),
            ({"x": np.zeros((0, 8, 8, 3), "float32")}, DataError, "no sample"),
            ({"model": "nowhere.keras"}, ModelError, "no file"),
            ({"model": keras.Sequential([L.Dense(2)])}, ModelError, "never built"),
        ],
    )
    def test_say_what_is_wrong(self, options, error, says):
        made = zoo.build("functional_cnn")
        given = {"model": made.model, "x": made.x} | options
        with pytest.raises(error, match=says):
            features(given.pop("model"), given.pop("x"), **given)


def trained():
    """A compiled model that was fitted and asked to predict, and what its predictions are."""
    made = zoo.build("noisy_while_training", n=8)
    made.model.compile("adam", "sparse_categorical_crossentropy")
    made.model.fit(made.x, np.arange(8) % 3, batch_size=4, verbose=0)
    return made.model, made.x, made.model.predict(made.x, verbose=0)


class TestNothingIsTouched:
    def test_of_a_trained_model(self):
        model, x, predicted = trained()
        before = footprint.both(model)
        features(model, x, batch_size=3)
        assert footprint.both(model) == before
        assert model.predict(x, verbose=0).tobytes() == predicted.tobytes()

    @pytest.mark.parametrize(
        "name", ["attention", "embedding_lstm", "quantised_int8", "stateful_fixed_batch", "subclassed_training_branch"]
    )
    def test_of_other_kinds(self, name):
        made = zoo.build(name, n=8)
        # Cells of recurrent layers note in their first call that they drop nothing.
        made.model.predict(made.x, batch_size=4, verbose=0)
        before = footprint.both(made.model)
        features(made.model, made.x)
        assert footprint.both(made.model) == before

    def test_when_post_raises(self):
        model, x, _ = trained()
        before = footprint.both(model)

        def broken(array):
            raise RuntimeError("half-way")

        with pytest.raises(RuntimeError, match="half-way"):
            features(model, x, post=broken)
        assert footprint.both(model) == before

    def test_by_what_draws_random_numbers(self):
        model, x, _ = trained()
        before = footprint.both(model)

        def noisy(array):
            keras.random.normal((2,))
            keras.layers.Dense(1)
            return array + np.random.normal(size=array.shape)  # noqa: NPY002

        features(model, x, post=noisy)
        assert footprint.both(model) == before

    def test_pictures_leave_matplotlib_as_it_was(self, tmp_path):
        import matplotlib as mpl

        settings = dict(mpl.rcParams)
        made = zoo.build("functional_cnn")
        features(made.model, made.x, "conv", save=tmp_path)
        assert dict(mpl.rcParams) == settings
