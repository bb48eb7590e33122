"""Weight swaps against brute force over Keras models, closed forms, and planted culprits."""

import functools
import itertools
import math

import keras
import numpy as np
import pytest
from scipy.stats import t
from sklearn.datasets import load_digits

from analyzer.diagnosis.weight_swap import weight_swap
from analyzer.errors import ConfigError, DataError, ModelError, Unsupported
from analyzer.testing import footprint

L = keras.layers
DATA = load_digits()
X, Y = (DATA.data / 16).astype("float32"), DATA.target


def copy(model):
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    return twin


def predicted(model, x):
    """What Keras computes, without a program of its own for every model."""
    return keras.tree.map_structure(lambda z: keras.ops.convert_to_numpy(z).astype("float64"), model(x))


def noised(model, name, scale, rest=0.02, seed=3):
    """A version with much noise on the weights of one layer and a little on all others."""
    rng, twin = np.random.default_rng(seed), copy(model)
    for layer in twin.layers:
        size = scale if layer.name == name else rest
        layer.set_weights([w + size * (w.std() + 0.1) * rng.normal(size=w.shape) for w in layer.get_weights()])
    for layer in twin.layers:
        if isinstance(layer, L.BatchNormalization):
            # A variance has to stay one.
            layer.moving_variance.assign(np.abs(keras.ops.convert_to_numpy(layer.moving_variance)) + 1e-3)
    return twin


def chain():
    hidden = [L.Dense(24, activation="relu", name=f"hidden_{c}") for c in "abc"]
    head = L.Dense(10, activation="softmax", name="head")
    return keras.Sequential([keras.Input((64,)), hidden[0], L.BatchNormalization(name="norm"), *hidden[1:], head])


def residual():
    inputs = keras.Input((64,))
    h = L.Dense(24, activation="relu", name="stem")(inputs)
    for c in "abc":
        h = L.Add(name=f"add_{c}")([h, L.Dense(24, activation="relu", name=f"block_{c}")(h)])
    return keras.Model(inputs, L.Dense(10, name="head")(h))


@functools.cache
def trained(build):
    keras.utils.set_random_seed(1)
    model = build()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=build is residual)
    model.compile(keras.optimizers.Adam(5e-3), loss)
    model.fit(X[:1200], Y[:1200], epochs=4, batch_size=60, verbose=0)
    return model


def by_definition(value, n):
    """Mean of what a player adds over all orders of joining."""
    found = np.zeros(n)
    for order in itertools.permutations(range(n)):
        for k, player in enumerate(order):
            found[player] += value(frozenset(order[: k + 1])) - value(frozenset(order[:k]))
    return found / math.factorial(n)


def loss_of(model, x, y):
    """Mean cross-entropy in float64."""
    p = predicted(model, x)
    p /= p.sum(1, keepdims=True)
    return -np.log(np.clip(p[np.arange(len(y)), y], 1e-7, 1 - 1e-7)).mean()


@pytest.mark.parametrize(
    ("build", "culprit"), [(chain, "hidden_b"), (chain, "norm"), (residual, "block_b"), (residual, "stem")]
)
def test_a_planted_culprit_is_named(build, culprit):
    old = trained(build)
    new = noised(old, culprit, 2.0)
    found = weight_swap(old, new, X[1200:], Y[1200:], n_samples=300)
    assert found.culprit == culprit
    assert found.new > found.old + 0.3
    shares = {layer.layer: layer.share for layer in found.layers}
    assert shares[culprit] > 0.7
    assert found.exact
    assert abs(found.remainder) < 1e-5
    assert sum(float(layer.change) for layer in found.layers) == pytest.approx(
        found.new - found.old - found.remainder, abs=1e-9
    )


def test_agrees_with_the_definition_on_keras_models():
    """Each of the 16 mixtures is a model of its own; statistics of normalisation move with their layer."""
    old = trained(chain)
    new = noised(old, "head", 0.5, rest=0.5)
    for name in ("hidden_c",):
        new.get_layer(name).set_weights(old.get_layer(name).get_weights())
    x, y = X[1200:1290], Y[1200:1290]
    names = ["hidden_a", "norm", "hidden_b", "head"]

    @functools.cache
    def value(members):
        mixed = copy(old)
        for i in members:
            mixed.get_layer(names[i]).set_weights(new.get_layer(names[i]).get_weights())
        return loss_of(mixed, x, y)

    found = weight_swap(old, new, x, y, batch_size=32)
    assert [layer.layer for layer in found.layers] == names
    assert found.unchanged == ("hidden_c",)
    assert found.n_evaluations == 16
    expected = by_definition(value, 4)
    np.testing.assert_allclose([float(layer.change) for layer in found.layers], expected, atol=2e-6)
    assert found.old == pytest.approx(value(frozenset()), abs=2e-6)
    assert found.new == pytest.approx(value(frozenset(range(4))), abs=2e-6)
    assert abs(expected.sum() - (found.new - found.old)) < 1e-5


def branches(kernels, names="abc"):
    """A sum of linear branches."""
    inputs = keras.Input((4,))
    parts = [L.Dense(1, use_bias=False, name=name) for name in names]
    model = keras.Model(inputs, L.Add()([part(inputs) for part in parts]))
    for part, kernel in zip(parts, kernels, strict=True):
        part.set_weights([np.asarray(kernel, "float32").reshape(4, 1)])
    return model


class TestClosedForms:
    """Squared error of a sum of branches: with d what a branch adds and r the old error, its value is E d (2r + Σd)."""

    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4)).astype("float32")
    y = rng.normal(size=(200, 1)).astype("float32")

    def values(self, old, new, y=None):
        found = weight_swap(branches(old), branches(new), self.x, self.y if y is None else y, task="regression")
        return found, np.array([float(layer.change) for layer in found.layers])

    def test_quadratic_game(self):
        old, new = self.rng.normal(size=(2, 3, 4))
        found, values = self.values(old, new)
        x = self.x.astype("float64")
        added, missing = x @ (new - old).T, (x @ old.sum(0))[:, None] - self.y
        rows = added * (2 * missing + added.sum(1, keepdims=True))
        np.testing.assert_allclose(values, rows.mean(0), rtol=1e-5, atol=1e-5)
        # Three intervals hold together at 95 %: Bonferroni's level.
        half = t.ppf(1 - 0.025 / 3, 199) * rows.std(0, ddof=1) / np.sqrt(200)
        widths = [(layer.change.high - layer.change.low) / 2 for layer in found.layers]
        np.testing.assert_allclose(widths, half, rtol=1e-5)
        assert values.sum() + found.remainder == pytest.approx(found.new - found.old, abs=1e-9)

    def test_additive_game(self):
        """Branches that see uncorrelated inputs, and no error before: each pays for itself alone."""
        x = np.linalg.qr(self.x)[0].astype("float32") * 10
        new = np.eye(4)[:3] * [[1.0], [2.0], [3.0]]
        y = np.zeros((len(x), 1), "float32")
        found = weight_swap(branches(np.zeros((3, 4))), branches(new), x, y, task="regression")
        values = [float(layer.change) for layer in found.layers]
        alone = [((x @ kernel) ** 2).mean() for kernel in new]
        np.testing.assert_allclose(values, alone, rtol=1e-5)

    def test_symmetry(self):
        kernel = self.rng.normal(size=4)
        old = self.rng.normal(size=(3, 4))
        _, values = self.values(old, old + np.stack([kernel, 3 * kernel, kernel]))
        assert values[0] == pytest.approx(values[2], rel=1e-5)
        assert values[0] != pytest.approx(values[1], rel=0.1)


class TestManyLayers:
    def made(self):
        keras.utils.set_random_seed(2)
        layers = [L.Dense(6, activation="tanh", name=f"layer_{c}") for c in "abcdefgh"]
        old = keras.Sequential([keras.Input((5,)), *layers[:-1], L.Dense(3, activation="softmax", name="layer_h")])
        x = np.random.default_rng(0).normal(size=(64, 5)).astype("float32")
        return old, noised(old, "layer_c", 1.0, rest=0.3), x, predicted(old, x).argmax(1)

    def test_sampled_orders_agree_with_all(self):
        data = self.made()
        exact, sampled = (weight_swap(*data, n_permutations=n) for n in (200, 16))
        assert exact.exact
        assert not sampled.exact
        assert sampled.n_evaluations < exact.n_evaluations == 256
        total = sum(float(layer.change) for layer in sampled.layers)
        assert total == pytest.approx(sampled.new - sampled.old - sampled.remainder, abs=1e-9)
        for a, b in zip(exact.layers, sampled.layers, strict=True):
            assert b.change.low < float(a.change) < b.change.high
            assert b.change.high - b.change.low > a.change.high - a.change.low
            assert float(a.change) != float(b.change)


@keras.saving.register_keras_serializable("test_weight_swap")
class Counted(L.Layer):
    """Counts how often its code runs: once per program where programs are compiled."""

    runs = 0

    def call(self, x):
        Counted.runs += 1
        return x


def test_all_mixtures_are_one_program():
    def net():
        hidden = [L.Dense(4, activation="tanh", name=f"layer_{c}") for c in "abcd"]
        return keras.Sequential([keras.Input((4,)), *hidden, Counted(), L.Dense(3, activation="softmax", name="head")])

    keras.utils.set_random_seed(0)
    old, new = net(), net()
    few, many = [], []
    for counts, n in ((few, 16), (many, 64)):
        Counted.runs = 0
        found = weight_swap(old, new, X[:n, :4], Y[:n] % 3, batch_size=16)
        counts.extend([Counted.runs, found.n_evaluations * n // 16])
    assert few[1] == 32
    assert many[1] == 128
    assert (many[0] - few[0] >= 96) if keras.backend.backend() == "torch" else (many[0] == few[0] < 20)


def test_versions_of_other_widths_swap_what_fits():
    def net(width):
        layers = [L.Dense(16), L.Dense(width, activation="relu"), L.Dense(16), L.Dense(10, activation="softmax")]
        return keras.Sequential([keras.Input((64,)), *layers])

    keras.utils.set_random_seed(4)
    old, new = net(12), net(20)
    found = weight_swap(old, new, X[:100], Y[:100])
    names = [layer.name for layer in old.layers]
    others = [layer.name for layer in new.layers]
    # Keras numbered the layers of the second model on: names mean nothing, order and shapes do.
    assert not set(names) & set(others)
    assert [(layer.layer, layer.new_layer) for layer in found.layers] == [(names[0], others[0]), (names[3], others[3])]
    assert sorted(found.skipped) == sorted(names[1:3])
    assert "(16, 12)" in found.skipped[names[1]]
    assert "(16, 20)" in found.skipped[names[1]]
    mixed = copy(old)
    for i in (0, 3):
        mixed.layers[i].set_weights(new.layers[i].get_weights())
    assert found.remainder == pytest.approx(loss_of(new, X[:100], Y[:100]) - loss_of(mixed, X[:100], Y[:100]), abs=1e-5)
    total = sum(float(layer.change) for layer in found.layers)
    assert total + found.remainder == pytest.approx(found.new - found.old, abs=1e-9)


def test_layers_that_only_one_version_has_are_named():
    def net(*names):
        return keras.Sequential([keras.Input((64,)), *[L.Dense(10, name=name) for name in names]])

    keras.utils.set_random_seed(4)
    old, new = net("first", "second", "head"), net("first", "extra", "second", "head")
    found = weight_swap(old, new, X[:40], Y[:40], from_logits=True, task="multiclass")
    assert [layer.layer for layer in found.layers] == ["first", "second", "head"]
    assert found.skipped == {"extra": "extra of the new version has no counterpart in the old one."}


def test_accuracy_and_files_and_nothing_changed(tmp_path):
    old = trained(chain)
    new = noised(old, "hidden_b", 3.0)
    new.save(tmp_path / "new.keras")
    before = footprint.both(old)
    found = weight_swap(old, tmp_path / "new.keras", X[1200:], Y[1200:], metric="accuracy", n_samples=None)
    assert footprint.moved(before, footprint.both(old)) == []
    assert found.n == len(X) - 1200
    for value, model in ((found.old, old), (found.new, new)):
        assert value == pytest.approx((predicted(model, X[1200:]).argmax(1) == Y[1200:]).mean(), abs=1e-6)
    assert found.culprit == "hidden_b"
    assert min(float(layer.change) for layer in found.layers) < 0


def test_who_does_no_harm_is_no_culprit():
    old = trained(chain)
    same = weight_swap(old, copy(old), X[:50], Y[:50])
    assert same.layers == ()
    assert same.culprit is None
    assert same.old == pytest.approx(same.new, abs=1e-6)
    assert len(same.unchanged) == 5
    worse = noised(old, "hidden_b", 2.0)
    better = weight_swap(worse, old, X[1200:], Y[1200:])
    assert better.new < better.old
    assert better.culprit is None


def test_several_outputs_add_up_and_half_precision_is_swapped():
    def net(dtype):
        inputs = keras.Input((64,))
        h = L.Dense(8, activation="relu", name="trunk", dtype=dtype)(inputs)
        digit = L.Dense(10, activation="softmax", name="digit")(h)
        return keras.Model(inputs, {"digit": digit, "odd": L.Dense(1, activation="sigmoid", name="odd")(h)})

    keras.utils.set_random_seed(5)
    old, new = net("float32"), net("float16")
    y = {"digit": Y[:60], "odd": Y[:60] % 2}
    found = weight_swap(old, new, X[:60], y)
    assert {layer.layer for layer in found.layers} == {"trunk", "digit", "odd"}
    assert abs(found.remainder) < 5e-3
    p = predicted(old, X[:60])
    odd = np.where(y["odd"] == 1, p["odd"][:, 0], 1 - p["odd"][:, 0])
    expected = -np.log(p["digit"][np.arange(60), Y[:60]]).mean() - np.log(odd).mean()
    assert found.old == pytest.approx(expected, abs=1e-5)
    with pytest.raises(Unsupported, match="2 outputs do not add up"):
        weight_swap(old, new, X[:60], y, metric="accuracy")


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"metric": "f1"}, "expected one of loss, accuracy"),
            ({"n_samples": 0}, "n_samples=0"),
            ({"n_permutations": 2}, "expected 4 or more"),
            ({"batch_size": 0}, "batch_size=0"),
            ({"task": "colour"}, "task"),
        ],
    )
    def test_options(self, options, says):
        model = trained(chain)
        with pytest.raises(ConfigError, match=says):
            weight_swap(model, model, X[:8], Y[:8], **options)

    def test_data_and_models(self):
        model = trained(chain)
        with pytest.raises(DataError, match="one label per sample"):
            weight_swap(model, model, X[:8], None)
        with pytest.raises(DataError, match="labels from"):
            weight_swap(model, model, X[:8], Y[:8] + 5)
        with pytest.raises(ModelError, match="no file"):
            weight_swap(model, "nowhere.keras", X[:8], Y[:8])

    def test_what_has_nothing_to_split(self):
        model = trained(chain)
        narrow = keras.Sequential([keras.Input((64,)), L.Dense(10, activation="softmax", name="other")])
        with pytest.raises(Unsupported, match="equal shapes"):
            weight_swap(narrow, trained(residual), X[:8], Y[:8])
        with pytest.raises(Unsupported, match="'regression'"):
            weight_swap(branches(np.ones((3, 4))), branches(np.zeros((3, 4))), X[:8, :4], X[:8, :1], metric="accuracy")
        broken = copy(model)
        broken.get_layer("head").set_weights([np.full((24, 10), np.nan), np.zeros(10)])
        with pytest.raises(Unsupported, match=r"Output .* is NaN"):
            weight_swap(model, broken, X[:8], Y[:8])

    def test_a_mixture_that_overflows_is_named(self):
        def net(first, second):
            layers = [L.Dense(1, use_bias=False, name=name) for name in ("first", "second")]
            model = keras.Sequential([keras.Input((1,)), *layers])
            model.set_weights([np.full((1, 1), value, "float32") for value in (first, second)])
            return model

        x = np.ones((4, 1), "float32")
        with pytest.raises(Unsupported, match="new weights of first"):
            weight_swap(net(1e-30, 1e30), net(1e30, 1e-30), x, x, task="regression")
