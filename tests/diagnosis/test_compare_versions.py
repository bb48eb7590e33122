"""`compare_versions` against Keras' own predictions, CKA by its formula, and versions that differ in every way."""

import functools

import keras
import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.datasets import load_digits

from analyzer.data_types.values import Skipped
from analyzer.diagnosis.layer_pairs import aligned, stable_name
from analyzer.diagnosis.versions import compare_versions
from analyzer.errors import ConfigError, Unsupported
from analyzer.inspection import open_model
from analyzer.testing import footprint

L = keras.layers
DATA = load_digits()
X, Y = (DATA.data / 16).astype("float32"), DATA.target


def net(width=20, head="softmax", name="head"):
    hidden = L.Dense(width, activation="relu", name="hidden")
    norm = L.BatchNormalization(name="norm")
    layers = [hidden, norm, L.Dense(width, activation="tanh", name="second"), L.Dense(10, activation=head, name=name)]
    return keras.Sequential([keras.Input((64,)), *layers])


@functools.cache
def trained(width=20, seed=0, n=400):
    keras.utils.set_random_seed(seed)
    model = net(width)
    model.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy")
    model.fit(X[:n], Y[:n], epochs=4, batch_size=50, verbose=0)
    return model


def direct_cka(x, y):
    """HSIC_1 of Song et al. (2012), equation 5."""

    def hsic(k, other):
        n, one = len(k), np.ones(len(k))
        k, other = (m - np.diag(np.diag(m)) for m in (k, other))
        middle = k.sum() * other.sum() / ((n - 1) * (n - 2))
        return np.trace(k @ other) + middle - 2 / (n - 2) * one @ k @ other @ one

    k, other = x @ x.T, y @ y.T
    return hsic(k, other) / np.sqrt(hsic(k, k) * hsic(other, other))


def predicted(model, x):
    """What Keras computes, without a program of its own for every model."""
    return keras.ops.convert_to_numpy(model(x)).astype("float64")


def outputs_of(model, name, x):
    made = keras.Model(model.inputs[0], model.get_layer(name).output)
    return predicted(made, x).reshape(len(x), -1)


def decided(model, x):
    return predicted(model, x).argmax(1)


def test_decisions_losses_and_layers_of_versions_of_other_widths(tmp_path):
    old, new = trained(), trained(width=28, seed=1, n=200)
    new.save(tmp_path / "new.keras")
    x, y = X[400:700], Y[400:700]
    before = footprint.both(old)
    found = compare_versions(old, tmp_path / "new.keras", x, y)
    assert footprint.moved(before, footprint.both(old)) == []
    assert found.n == 300
    flips, a, b = found.output().flips, decided(old, x), decided(new, x)
    assert flips.churn.value == pytest.approx((a != b).mean())
    lost, won = ((a == y) & (b != y)).sum(), ((a != y) & (b == y)).sum()
    assert (flips.net.b, flips.net.c, flips.net.n) == (lost, won, 300)
    assert flips.net.p_value == pytest.approx(binomtest(lost, lost + won).pvalue)
    assert 0 < flips.relative_churn.value < 1
    loss = found.output("output").loss
    for estimate, model in ((loss.old, old), (loss.new, new)):
        p = predicted(model, x)[np.arange(300), y]
        assert estimate.value == pytest.approx(-np.log(p).mean(), abs=1e-5)
    assert loss.change.value == pytest.approx(loss.new.value - loss.old.value)
    names = ["hidden", "norm", "second", "head"]
    assert [(pair.old, pair.new) for pair in found.layers] == [(name, name) for name in names]
    for pair in found.layers:
        expected = direct_cka(outputs_of(old, pair.old, x), outputs_of(new, pair.new, x))
        assert pair.cka == pytest.approx(expected, abs=1e-5)
    assert found.cka.values.shape == (4, 4)
    assert found.cka.n == 300
    assert found.cka.values[0, 3] == pytest.approx(
        direct_cka(outputs_of(old, "hidden", x), outputs_of(new, "head", x)), abs=1e-5
    )
    # No width is the same, so nothing can be swapped.
    assert isinstance(found.weight_swap, Skipped)
    assert "hidden holds kernel (64, 20)" in found.weight_swap.reason


def test_a_layer_that_was_spoilt_shows_everywhere():
    old = trained()
    new = keras.models.clone_model(old)
    new.set_weights(old.get_weights())
    second = new.get_layer("second")
    rng = np.random.default_rng(0)
    second.set_weights([w + rng.normal(0, 0.7, w.shape) for w in second.get_weights()])
    found = compare_versions(old, new, X[400:700], Y[400:700], n_samples=200, seed=3)
    cka = {pair.old: pair.cka for pair in found.layers}
    assert cka["hidden"] == pytest.approx(1, abs=1e-6)
    assert cka["norm"] == pytest.approx(1, abs=1e-6)
    assert cka["second"] < 0.9
    assert found.cka.n == found.weight_swap.n == 200
    assert found.weight_swap.culprit == "second"
    assert found.weight_swap.unchanged == ("hidden", "norm", "head")
    assert found.output().flips.net.p_value < 0.01
    assert found.output().flips.net.change.high < 0
    assert found.output().loss.change.low > 0
    assert found.output().loss.p_value < 0.01


def test_convolutions_keep_the_positions_that_cka_needs():
    def conv(filters):
        layers = [L.Conv2D(filters, 3, name="conv"), L.GlobalAveragePooling2D(), L.Dense(10, activation="softmax")]
        return keras.Sequential([keras.Input((8, 8, 1)), *layers])

    keras.utils.set_random_seed(0)
    old, new = conv(4), conv(6)
    x = X[:40].reshape(-1, 8, 8, 1)
    found = compare_versions(old, new, x, Y[:40], swap_weights=False)
    assert found.weight_swap == Skipped("Not asked for: swap_weights is off.")
    # 36 positions of 4 or 6 units are few enough to keep all.
    expected = direct_cka(outputs_of(old, "conv", x), outputs_of(new, "conv", x))
    assert found.layers[0].cka == pytest.approx(expected, abs=1e-5)


def test_equal_versions():
    old = trained()
    found = compare_versions(old, old, X[:60], Y[:60])
    assert found.output().flips.churn.value == 0
    assert found.output().loss.change.value == 0
    assert found.output().loss.p_value == 1
    assert [pair.cka for pair in found.layers] == pytest.approx([1] * 4, abs=1e-9)
    assert found.weight_swap.layers == ()


class TestOutputs:
    def test_one_logit(self):
        def binary():
            return keras.Sequential([keras.Input((64,)), L.Dense(1, name="logit")])

        keras.utils.set_random_seed(1)
        old, new, y = binary(), binary(), Y[:80] % 2
        compared = compare_versions(old, new, X[:80], y, task="binary", from_logits=True, metric="accuracy")
        found = compared.output()
        a, b = (predicted(model, X[:80])[:, 0] > 0 for model in (old, new))
        assert found.flips.churn.value == pytest.approx((a != b).mean())
        assert found.flips.old_accuracy.value == pytest.approx((a == y).mean())
        assert compared.weight_swap.old == pytest.approx((a == y).mean(), abs=1e-6)
        assert compared.weight_swap.new == pytest.approx((b == y).mean(), abs=1e-6)

    def test_sequences_have_a_loss_but_no_flips(self):
        def tagger():
            return keras.Sequential([keras.Input((5, 3)), L.Dense(4, activation="softmax", name="tags")])

        keras.utils.set_random_seed(1)
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(30, 5, 3)).astype("float32"), rng.integers(4, size=(30, 5))
        old, new = tagger(), tagger()
        found = compare_versions(old, new, x, y, metric="accuracy")
        assert isinstance(found.output().flips, Skipped)
        for version, model in (("old", old), ("new", new)):
            p = np.take_along_axis(predicted(model, x), y[..., None], 2)
            assert getattr(found.output().loss, version).value == pytest.approx(-np.log(p).mean(), abs=1e-5)
            right = (predicted(model, x).argmax(2) == y).mean()
            assert getattr(found.weight_swap, version) == pytest.approx(right, abs=1e-6)
        with pytest.raises(ConfigError, match="expected one of output"):
            found.output("head")

    def test_what_one_version_lacks_is_said_and_the_rest_is_there(self):
        old = trained()
        broken = keras.models.clone_model(old)
        broken.set_weights(old.get_weights())
        broken.get_layer("head").set_weights([np.full((20, 10), np.nan), np.zeros(10)])
        found = compare_versions(old, broken, X[:40], Y[:40])
        assert "NaN" in found.outputs.reason
        assert "NaN" in found.weight_swap.reason
        assert [pair.cka for pair in found.layers[:3]] == pytest.approx([1] * 3)
        assert found.layers[3].cka is None
        with pytest.raises(Unsupported, match="NaN"):
            found.output()

    def test_options_are_checked_before_anything_runs(self):
        for options in ({"metric": "auc"}, {"n_samples": -1}, {"n_permutations": 3}):
            with pytest.raises(ConfigError, match=next(iter(options))):
                compare_versions("nowhere.keras", "nowhere.keras", X[:4], Y[:4], **options)


class TestPairing:
    @pytest.mark.parametrize(
        ("old", "new", "expected"),
        [
            ("abc", "abc", [(0, 0), (1, 1), (2, 2)]),
            ("abc", "cab", [(0, 1), (1, 2), (2, 0)]),
            ("aab", "aaab", [(0, 0), (1, 1), (2, 3)]),
            ("axb", "ayb", [(0, 0), (2, 2)]),
            ("", "ab", []),
        ],
    )
    def test_by_name_then_in_order(self, old, new, expected):
        assert aligned([[key] for key in old], [[key] for key in new]) == expected

    def test_further_keys_pair_what_is_left(self):
        old, new = [("a", 1), ("b", 2), ("c", 3)], [("c", 9), ("z", 2), ("a", 1)]
        assert aligned(old, new) == [(0, 2), (1, 1), (2, 0)]

    def test_numbers_of_keras_mean_nothing_and_those_of_the_user_do(self):
        inner = keras.Sequential([keras.Input((4,)), L.Dense(4), L.Dense(4, name="block_2")], name="encoder")
        model = keras.Sequential([keras.Input((4,)), inner, L.LayerNormalization(), L.Dense(2, name="dense_of_mine")])
        view = open_model(model)
        names = [stable_name(view, info.id) for info in view.layers]
        assert names == ["encoder/dense", "encoder/block_2", "layer_normalization", "dense_of_mine"]
        assert stable_name(view, f"{view.layers[0].id}@2") == "encoder/dense@2"
