"""Attributions other than relevance against closed forms and independent computations."""

import keras
import numpy as np
import pytest

from analyzer.errors import ConfigError, DataError, DeviceMemoryError, Unsupported
from analyzer.relevance.attribution import ATTRIBUTIONS
from analyzer.relevance.attributions.passing import Pass
from analyzer.relevance.attributions.spatial import resized
from analyzer.relevance.explain import explain
from analyzer.testing import footprint
from tests.zoo import normal

L = keras.layers
ops = keras.ops
array = ops.convert_to_numpy


def close(found, expected, tolerance=2e-5):
    expected = np.asarray(expected)
    assert np.shape(found) == expected.shape
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * max(1e-12, np.abs(expected).max()))


def drawn(model, seed=0):
    """The model with every weight drawn anew, biases too."""
    for i, variable in enumerate(model.weights):
        variable.assign(np.random.default_rng([seed, i]).normal(size=variable.shape) * 0.5)
    return model


def linear(activation="softmax", classes=3):
    return drawn(keras.Sequential([keras.Input((4,), name="x"), L.Dense(classes, activation=activation)]))


def quadratic():
    """``sum_i a_i x_i²`` and the a."""
    x = keras.Input((4,), name="x")
    model = drawn(keras.Model(x, L.Dense(1, use_bias=False)(x * x)))
    return model, array(model.weights[0])[:, 0]


def mlp(activation="tanh"):
    layers = [L.Dense(6, activation=activation, name="hidden"), L.Dense(3, activation="softmax", name="head")]
    return drawn(keras.Sequential([keras.Input((4,), name="x"), *layers]))


def convolutional(dimensions=2, activation="tanh"):
    convolution = {1: L.Conv1D, 2: L.Conv2D}[dimensions]
    pool = {1: L.GlobalAveragePooling1D, 2: L.GlobalAveragePooling2D}[dimensions]
    x = keras.Input((8,) * dimensions + (2,), name="x")
    y = convolution(5, 3, strides=2, padding="same", activation=activation, name="maps")(x)
    y = L.Dense(4, activation="tanh", name="mixed")(pool()(y))
    return drawn(keras.Model(x, L.Dense(3, activation="softmax", name="head")(y)))


def tokens():
    ids = keras.Input((6,), dtype="int32", name="ids")
    y = L.Embedding(9, 5, name="embedding")(ids)
    return drawn(keras.Model(ids, L.Dense(2, name="head")(L.Flatten()(y))))


IDS = np.random.default_rng(3).integers(1, 9, (5, 6))


class TestGradient:
    def test_of_several_logits_at_once_with_a_padded_batch(self):
        model = linear()
        found = explain(model, normal(5, 4), target=[2, 0], method="gradient", batch_size=2)
        kernel, bias = map(array, model.weights)
        close(found.inputs["x"], np.broadcast_to(kernel.T[[2, 0], None, :], (2, 5, 4)))
        close(found.output, (normal(5, 4) @ kernel + bias).T[[2, 0]])
        np.testing.assert_array_equal(found.targets, np.repeat([[2], [0]], 5, axis=1))

    def test_of_a_network_by_hand_at_inputs_and_layers(self):
        model, x = mlp(), normal(5, 4)
        w, b, v, _ = map(array, model.weights)
        h = np.tanh(x @ w + b)
        found = explain(model, x, target=1, method="gradient")
        close(found.inputs["x"], ((1 - h**2) * v[:, 1]) @ w.T)
        close(found.layers["hidden"], np.broadcast_to(v[:, 1], h.shape))
        times = explain(model, x, target=1, method="input_x_gradient", layers="hidden")
        close(times.inputs["x"], x * (((1 - h**2) * v[:, 1]) @ w.T))
        assert list(times.layers) == ["hidden"]
        close(times.layers["hidden"], h * v[:, 1])

    def test_class_0_of_a_binary_output_is_the_negative_logit(self):
        model, x = linear("sigmoid", 1), normal(5, 4)
        found = explain(model, x, target=[0, 1, "predicted"], method="gradient")
        kernel, bias = (array(v) for v in model.weights)
        sign = np.where(x @ kernel + bias > 0, 1, -1)
        expected = np.broadcast_to(kernel[:, 0], x.shape)
        close(found.inputs["x"], np.stack([-expected, expected, sign * expected]))

    def test_start_and_multiplier_scale_it(self):
        model, x = linear(), normal(5, 4)
        plain = explain(model, x, target=1, method="gradient")
        ten = explain(model, x, target=1, method="gradient", start=10.0, multiplier=3.0)
        close(ten.output, np.full(5, 30.0))
        close(ten.inputs["x"], plain.inputs["x"] * 30 / plain.output[:, None], 1e-4)

    def test_per_token_at_the_embedding(self):
        model = tokens()
        table, kernel, _ = map(array, model.weights)
        per_token = kernel[:, 1].reshape(6, 5)
        found = explain(model, IDS, target=1, method="gradient")
        close(found.inputs["ids"], np.broadcast_to(np.linalg.norm(per_token, axis=-1), (5, 6)))
        assert "norm" in found.notes[0]
        times = explain(model, IDS, target=1, method="input_x_gradient")
        close(times.inputs["ids"], (table[IDS] * per_token).sum(-1))

    def test_masks_of_embeddings_stay(self):
        ids = keras.Input((6,), dtype="int32", name="ids")
        pooled = L.GlobalAveragePooling1D()(L.Embedding(9, 5, mask_zero=True)(ids))
        model, x = drawn(keras.Model(ids, L.Dense(2)(pooled))), np.where(IDS > 4, 0, IDS)
        table, kernel, _ = map(array, model.weights)
        assert ((x == 0).any(1) & (x > 0).any(1)).any()
        x = x[(x > 0).any(1)]
        expected = (x > 0) * (table[x] @ kernel[:, 1]) / (x > 0).sum(1, keepdims=True)
        for method in ("input_x_gradient", "integrated_gradients"):
            found = explain(model, x, target=1, method=method)
            close(found.inputs["ids"], expected)

    def test_a_fixed_batch_size_and_values_for_variables(self):
        x = keras.Input(batch_shape=(2, 4), name="x")
        model = drawn(keras.Model(x, L.Dense(3)(x)))
        other = normal(4, 3, seed=9)
        found = explain(model, normal(5, 4), target=2, method="gradient", values={id(model.weights[0]): other})
        close(found.inputs["x"], np.broadcast_to(other[:, 2], (5, 4)))

    def test_lack_of_memory_halves_the_batch(self, monkeypatch):
        whole, sizes = Pass.gradients, []

        def scarce(self, flat, *args):
            sizes.append(self.rows)
            if self.rows > most:
                raise MemoryError
            return whole(self, flat, *args)

        monkeypatch.setattr(Pass, "gradients", scarce)
        model, most = linear(), 2
        found = explain(model, normal(5, 4), target=0, method="gradient")
        close(found.inputs["x"], np.broadcast_to(array(model.weights[0])[:, 0], (5, 4)))
        assert sizes == [5, 2, 2, 2]
        most = 0
        with pytest.raises(DeviceMemoryError, match="gradient"):
            explain(model, normal(5, 4), target=0, method="gradient")


class TestGuided:
    def by_hand(self, model, x):
        w, b, v, c, u, _ = map(array, model.weights)
        first = x @ w + b
        second = np.maximum(first, 0) @ v + c
        back = (second > 0) * np.maximum(u[:, 1], 0)
        return ((first > 0) * np.maximum(back @ v.T, 0)) @ w.T

    def model(self, one, other):
        x = keras.Input((4,), name="x")
        y = other(L.Dense(7)(one(L.Dense(6)(x))))
        return drawn(keras.Model(x, L.Dense(3, activation="softmax")(y)))

    @pytest.mark.parametrize("form", ["activation", "layer", "operation", "ops", "activations"])
    def test_by_hand_in_every_form_of_a_relu(self, form):
        class Own(L.Layer):
            def call(self, x):
                return ops.relu(x) if form == "ops" else keras.activations.relu(x)

        one = {"activation": L.Activation("relu"), "layer": L.ReLU(), "operation": ops.relu}.get(form) or Own()
        other = {"activation": L.Activation("relu"), "layer": L.ReLU(), "operation": ops.relu}.get(form) or Own()
        model, x = self.model(one, other), normal(5, 4)
        expected = self.by_hand(model, x)
        found = explain(model, x, target=1, method="guided_backprop", layers=None)
        close(found.inputs["x"], expected)
        plain = explain(model, x, target=1, method="gradient", layers=None)
        assert np.abs(plain.inputs["x"] - expected).max() > 0.1
        both = explain(model, x, target=[1, 2], method="guided_backprop", layers=None)
        close(both.inputs["x"][0], expected)

    def test_other_activations_keep_their_gradient_and_are_named(self):
        model = self.model(L.Activation("relu"), L.Activation("tanh", name="curved"))
        found = explain(model, normal(5, 4), method="guided_backprop")
        assert "curved (tanh)" in found.notes[-1]
        assert "relu" not in found.notes[-1].replace("ReLU", "")

    def test_without_a_relu(self):
        with pytest.raises(Unsupported, match="none was found"):
            explain(mlp(), normal(5, 4), method="guided_backprop")


class TestNoise:
    def test_of_a_linear_model(self):
        model, x = linear(), normal(5, 4)
        expected = np.broadcast_to(array(model.weights[0])[:, 1], x.shape)
        few = {"target": 1, "options": {"samples": 4}}
        close(explain(model, x, method="smoothgrad", **few).inputs["x"], expected)
        np.testing.assert_array_equal(explain(model, x, method="vargrad", **few).inputs["x"], 0)
        close(explain(model, x, method="squaregrad", **few).inputs["x"], expected**2)

    def test_moments_of_a_quadratic_and_its_spread(self):
        model, a = quadratic()
        x = normal(3, 4)
        found = {
            name: explain(model, x, method=name, options={"samples": 400, "noise": 0.2}).inputs["x"].astype(float)
            for name in ("smoothgrad", "vargrad", "squaregrad")
        }
        close(found["squaregrad"], found["vargrad"] + found["smoothgrad"] ** 2, 1e-4)
        # The gradient is 2 a x; its variance (2 a sigma)², known to 7 % (one standard error) from 400 draws.
        width = 0.2 * (x.max(1) - x.min(1))
        assert np.abs(found["vargrad"] / (2 * a * width[:, None]) ** 2 - 1).max() < 0.3
        assert np.abs(found["smoothgrad"] - 2 * a * x).max() < 4 * (2 * np.abs(a) * width[:, None]).max() / 20

    def test_a_seed_repeats_it_whatever_the_batches(self):
        model, _ = quadratic()
        runs = [
            explain(model, normal(5, 4), method="smoothgrad", batch_size=size, seed=seed, options={"samples": 3})
            for size, seed in ((2, 0), (5, 0), (5, 1))
        ]
        close(runs[0].inputs["x"], runs[1].inputs["x"])
        assert np.abs(runs[0].inputs["x"] - runs[2].inputs["x"]).max() > 1e-3
        twins = explain(model, np.ones((2, 4)) * normal(4), method="smoothgrad", options={"samples": 3}).inputs["x"]
        assert np.abs(twins[0] - twins[1]).max() > 1e-3

    def test_on_tokens_noise_reaches_the_embedding(self):
        ids = keras.Input((6,), dtype="int32", name="ids")
        y = L.Embedding(9, 5)(ids)
        model = drawn(keras.Model(ids, L.Dense(1)(L.Flatten()(y * y))))
        found = explain(model, IDS, method="vargrad", options={"samples": 5})
        assert found.inputs["ids"].shape == (5, 6)
        assert (found.inputs["ids"] > 0).all()


class TestPaths:
    @pytest.mark.parametrize("baseline", ["zeros", "mean", 0.3, "one", "each"])
    def test_integrated_gradients_of_a_quadratic(self, baseline):
        model, a = quadratic()
        x = normal(5, 4)
        b = {"zeros": 0 * x, "mean": x.mean(0), "one": normal(4, seed=5), "each": normal(5, 4, seed=6)}.get(
            baseline, 0.3
        )
        given = baseline if baseline in ("zeros", "mean", 0.3) else b
        found = explain(model, x, method="integrated_gradients", batch_size=2, options={"baseline": given, "steps": 3})
        close(found.inputs["x"], a * (x - b) * (x + b))

    def test_completeness_is_booked_and_the_class_stays_that_of_the_sample(self):
        model, x = mlp(), 3 * normal(6, 4)
        w, b, v, c = map(array, model.weights)

        def logits(x):
            return np.tanh(x @ w + b) @ v + c

        chosen = logits(x).argmax(1)
        start = logits(0 * x)
        assert (chosen != start.argmax(1)).any()
        due = np.take_along_axis(logits(x) - start, chosen[:, None], 1)[:, 0]
        found = explain(model, x, method="integrated_gradients", batch_size=4)
        close(found.inputs["x"].sum(1), due, 1e-3)
        row = found.ledger.iloc[0]
        close([row.relevance_in, row.relevance_out], [due.mean(), found.inputs["x"].sum(1).mean()])
        assert row.unexplained_fraction < 1e-3
        close(np.abs(found.measured["completeness_gap"]).max() + 1, np.abs(found.inputs["x"].sum(1) - due).max() + 1)
        few = explain(model, x, method="integrated_gradients", options={"steps": 2})
        assert few.ledger.iloc[0].unexplained_fraction > 1e-3

    def test_a_start_scales_the_path(self):
        model, x = linear(), normal(5, 4)
        kernel, bias = map(array, model.weights)
        found = explain(model, x, target=1, method="integrated_gradients", start=100.0, options={"steps": 2})
        close(found.inputs["x"], 100 * x * kernel[:, 1] / (x @ kernel + bias)[:, 1:2], 1e-4)

    def test_tokens_from_an_embedding_of_zeros_and_from_a_mask_token(self):
        model = tokens()
        table, kernel, _ = map(array, model.weights)
        per_token = kernel[:, 1].reshape(6, 5)
        for options, begin in (({}, 0 * table[0]), ({"baseline": 7}, table[7])):
            found = explain(model, IDS, target=1, method="integrated_gradients", options={"steps": 3, **options})
            close(found.inputs["ids"], ((table[IDS] - begin) * per_token).sum(-1))
            assert found.unexplained_fraction < 1e-5

    def test_a_mask_stays_as_it_is_for_the_sample(self):
        x = keras.Input((4, 4, 2), name="x")
        model = drawn(keras.Model(x, L.Conv2D(1, 1, activation="sigmoid")(x)))
        data = normal(3, 4, 4, 2)
        kernel, bias = array(model.weights[0])[0, 0, :, 0], array(model.weights[1])
        on = (data @ kernel + bias > 0)[..., None]
        found = explain(model, data, method="integrated_gradients", options={"steps": 2})
        close(found.inputs["x"], on * data * kernel)

    def test_a_function_of_the_outputs(self):
        model, x = linear(), normal(5, 4)
        kernel, _ = map(array, model.weights)
        found = explain(
            model, x, target=lambda y: y[:, 0] - y[:, 1], method="integrated_gradients", options={"steps": 2}
        )
        close(found.inputs["x"], x * (kernel[:, 0] - kernel[:, 1]))

    def test_expected_gradients(self):
        model, x = linear(), normal(5, 4)
        kernel, _ = map(array, model.weights)
        one = normal(1, 4, seed=4)
        found = explain(model, x, target=1, method="expected_gradients", options={"references": one, "samples": 2})
        close(found.inputs["x"], (x - one) * kernel[:, 1])
        many = normal(8, 4, seed=4)
        options = {"references": many, "samples": 300}
        found = explain(model, x, target=1, method="expected_gradients", options=options)
        error = (x - many.mean(0)) * kernel[:, 1] - found.inputs["x"]
        assert np.abs(error).max() < 5 * (many.std(0) * np.abs(kernel[:, 1])).max() / np.sqrt(300)
        assert found.unexplained_fraction < 1e-4
        again = explain(model, x, target=1, method="expected_gradients", batch_size=2, options=options)
        close(again.inputs["x"], found.inputs["x"])

    def test_conductance_adds_up_in_every_layer_that_all_goes_through(self):
        model, x = convolutional(), normal(3, 8, 8, 2)
        found = explain(model, x, target=[0, 2], method="layer_conductance", batch_size=2)
        zero = explain(model, 0 * x[:1], target=[0, 2], method="gradient", layers=None).output
        due = found.output - zero
        assert {"maps", "mixed", "head"} <= set(found.layers)
        for name, one in found.layers.items():
            close(one.reshape(2, 3, -1).sum(-1), due, 1e-3)
            assert found.ledger.loc[name].unexplained_fraction < 1e-3
        close(found.inputs["x"].reshape(2, 3, -1).sum(-1), due, 1e-3)

    def test_conductance_of_one_layer_by_hand(self):
        # F = v tanh(x w + b) along a x: what flows through unit j is v_j (tanh at x - tanh at 0).
        model, x = mlp(), normal(5, 4)
        w, b, v, _ = map(array, model.weights)
        found = explain(model, x, target=1, method="layer_conductance", layers="hidden", options={"steps": 8})
        close(found.layers["hidden"], (np.tanh(x @ w + b) - np.tanh(b)) * v[:, 1])

    def test_a_branch_is_no_row_of_the_ledger(self):
        x = keras.Input((4,), name="x")
        y = L.Dense(4, name="branch")(x)
        model = drawn(keras.Model(x, L.Dense(2, name="head")(L.Add(name="both")([x, y]))))
        found = explain(model, normal(3, 4), target=0, method="layer_conductance", options={"steps": 2})
        assert list(found.ledger.index) == [model.name, "both", "head"]
        assert "branch" in found.layers
        assert found.unexplained_fraction < 1e-5


class TestGradCam:
    def of_maps(self, model, x, target):
        """The feature map, and the gradient of a logit there, by hand."""
        value = array(keras.Model(model.input, model.get_layer("maps").output)(x)).astype(float)
        v, c, u, _ = (array(w).astype(float) for w in model.weights[2:])
        positions = tuple(range(1, value.ndim - 1))
        h = np.tanh(value.mean(positions) @ v + c)
        gradient = ((1 - h**2) * u[:, target]) @ v.T / np.prod(value.shape[1:-1])
        return value, np.broadcast_to(gradient.reshape(len(x), *(1,) * len(positions), -1), value.shape)

    @pytest.mark.parametrize("dimensions", [1, 2])
    @pytest.mark.parametrize("method", ["grad_cam", "grad_cam_plus_plus"])
    def test_against_numpy(self, method, dimensions):
        model, x = convolutional(dimensions), normal(5, *(8,) * dimensions, 2)
        value, g = self.of_maps(model, x, 1)
        positions = tuple(range(1, value.ndim - 1))
        if method == "grad_cam":
            weights = g.mean(positions, keepdims=True)
        else:
            below = 2 * g**2 + g**3 * value.sum(positions, keepdims=True)
            weights = (g**2 / below * np.maximum(g, 0)).sum(positions, keepdims=True)
        coarse = np.maximum((weights * value).sum(-1), 0)
        assert (coarse == 0).any()
        assert (coarse > 0).any()
        found = explain(model, x, target=1, method=method, batch_size=2)
        image = coarse[..., None] if dimensions == 2 else coarse[..., None, None]
        size = (8, 8) if dimensions == 2 else (8, 1)
        wide = array(ops.image.resize(image.astype("float32"), size, data_format="channels_last"))
        close(found.inputs["x"].sum(-1), wide.reshape(5, *(8,) * dimensions), 1e-4)
        close(np.maximum(found.layers["maps"].sum(-1), 0), coarse, 1e-4)

    def test_several_targets_and_a_named_layer(self):
        model, x = convolutional(), normal(3, 8, 8, 2)
        both = explain(model, x, target=[0, 2], method="grad_cam", options={"layer": "maps"})
        for i, target in enumerate((0, 2)):
            single = explain(model, x, target=target, method="grad_cam")
            close(both.inputs["x"][i], single.inputs["x"])

    def test_layers_that_are_no_feature_map(self):
        with pytest.raises(ConfigError, match="positions and channels"):
            explain(convolutional(), normal(2, 8, 8, 2), method="grad_cam", options={"layer": "mixed"})
        with pytest.raises(Unsupported, match="feature map"):
            explain(mlp(), normal(2, 4), method="grad_cam")

    def test_resizing_is_that_of_keras(self):
        maps = normal(1, 2, 3, 5)
        for size in ((7, 11), (2, 3)):
            theirs = array(ops.image.resize(maps[0][..., None], size, data_format="channels_last"))
            close(resized(maps, size)[0], theirs[..., 0])


class TestOcclusion:
    def test_of_a_linear_model_over_windows(self):
        model, x = linear(), normal(5, 4)
        share = x * array(model.weights[0])[:, 1]
        for options, expected in (
            ({}, share),
            ({"window": 2}, np.repeat(share.reshape(5, 2, 2).sum(-1), 2, axis=1)),
            # Windows at 0 and 3; the second is cut off at the edge.
            ({"window": 3}, np.concatenate([np.repeat(share[:, :3].sum(1)[:, None], 3, 1), share[:, 3:]], 1)),
        ):
            found = explain(model, x, target=1, method="occlusion", batch_size=2, options=options)
            close(found.inputs["x"], expected)

    def test_overlapping_windows_are_averaged(self):
        model, x = linear(), normal(5, 4)
        share = x * array(model.weights[0])[:, 1]
        found = explain(model, x, target=1, method="occlusion", options={"window": 2, "stride": 1, "baseline": "zeros"})
        pairs = share[:, :-1] + share[:, 1:]
        expected = np.stack([pairs[:, 0], pairs[:, :2].mean(1), pairs[:, 1:].mean(1), pairs[:, 2]], 1)
        close(found.inputs["x"], expected)

    def test_images_lose_all_channels_of_a_window(self):
        x = keras.Input((4, 6, 2), name="x")
        model = drawn(keras.Model(x, L.Dense(2)(L.Flatten()(x))))
        data = normal(3, 4, 6, 2)
        share = (data - data.mean(0)) * array(model.weights[0])[:, 1].reshape(4, 6, 2)
        found = explain(model, data, target=1, method="occlusion", options={"window": (2, 3), "baseline": "mean"})
        blocks = share.reshape(3, 2, 2, 2, 3, 2).sum((2, 4, 5), keepdims=True)
        close(found.inputs["x"], np.broadcast_to(blocks, (3, 2, 2, 2, 3, 2)).reshape(data.shape))

    def test_tokens_are_replaced_by_a_mask_token(self):
        model = tokens()
        table, kernel, _ = map(array, model.weights)
        found = explain(model, IDS, target=1, method="occlusion", options={"baseline": 7})
        close(found.inputs["ids"], ((table[IDS] - table[7]) * kernel[:, 1].reshape(6, 5)).sum(-1))


class TestAll:
    @pytest.mark.parametrize("method", [name for name in ATTRIBUTIONS if name != "expected_gradients"])
    def test_leaves_the_model_as_it_was(self, method):
        model = convolutional(activation="relu")
        before = footprint.both(model)
        steps = {"smoothgrad", "vargrad", "squaregrad"}
        options = {"samples": 2} if method in steps else {"steps": 2} if "integ" in method or "cond" in method else None
        found = explain(model, normal(3, 8, 8, 2), method=method, options=options)
        assert footprint.both(model) == before
        assert found.method == method
        assert found.inputs["x"].shape == (3, 8, 8, 2)
        assert np.isfinite(found.inputs["x"]).all()

    @pytest.mark.parametrize("method", ATTRIBUTIONS)
    def test_an_unknown_option_names_those_that_exist(self, method):
        expected = (
            "has no options" if method in ("gradient", "input_x_gradient", "guided_backprop") else "Its options: "
        )
        with pytest.raises(ConfigError, match=expected):
            explain(mlp("relu"), normal(2, 4), method=method, options={"step": 3})

    @pytest.mark.parametrize(
        ("method", "options", "message"),
        [
            ("integrated_gradients", {"steps": 0}, "at least 1"),
            ("integrated_gradients", {"baseline": "none"}, "'zeros', 'mean'"),
            ("vargrad", {"samples": 1}, "at least 2"),
            ("smoothgrad", {"noise": 0}, "above 0"),
            ("expected_gradients", {}, "references"),
            ("occlusion", {"window": 2, "stride": 3}, "larger than the window"),
            ("occlusion", {"window": (1, 2, 3)}, "a tuple"),
            ("occlusion", {"window": {"y": 2}}, "Unknown input"),
        ],
    )
    def test_options_out_of_range(self, method, options, message):
        with pytest.raises(ConfigError, match=message):
            explain(mlp(), normal(2, 4), method=method, options=options)

    def test_a_baseline_of_another_shape(self):
        with pytest.raises(DataError, match="expected one sample"):
            explain(mlp(), normal(2, 4), method="integrated_gradients", options={"baseline": np.zeros(3)})

    def test_whole_numbers_without_an_embedding(self):
        x = keras.Input((4,), dtype="int32", name="ids")
        model = drawn(keras.Model(x, L.Dense(2)(ops.cast(x, "float32"))))
        with pytest.raises(Unsupported, match="whole numbers"):
            explain(model, IDS[:, :4], method="gradient")
        share = IDS[:, :4] * array(model.weights[0])[:, 1]
        close(explain(model, IDS[:, :4], target=1, method="occlusion").inputs["ids"], share)

    def test_an_input_without_a_gradient_beside_others_is_named(self):
        x, ids = keras.Input((4,), name="x"), keras.Input((4,), dtype="int32", name="ids")
        model = drawn(keras.Model([x, ids], L.Dense(2)(x * ops.cast(ids, "float32"))))
        found = explain(model, {"x": normal(5, 4), "ids": IDS[:, :4]}, target=0, method="gradient")
        assert list(found.inputs) == ["x"]
        assert "'ids'" in found.notes[0]
        close(found.inputs["x"], IDS[:, :4] * array(model.weights[0])[:, 0])

    def test_layers_named_to_a_method_that_has_none(self):
        with pytest.raises(ConfigError, match="inputs only"):
            explain(mlp(), normal(2, 4), method="occlusion", layers="hidden")

    def test_an_output_that_is_not_finite(self):
        x = normal(5, 4)
        x[3, 1] = np.nan
        with pytest.raises(DataError, match="sample 3"):
            explain(mlp(), x, method="gradient", batch_size=2)

    def test_progress(self):
        told = []
        explain(mlp(), normal(5, 4), method="gradient", batch_size=2, progress=lambda *one: told.append(one))
        assert told == [("gradient", 2, 5), ("gradient", 4, 5), ("gradient", 5, 5)]
