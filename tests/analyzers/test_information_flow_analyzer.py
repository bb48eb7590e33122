"""Planted faults are found and named, healthy twins raise none, and the numbers are those of plain NumPy."""

import functools

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from analyzer import AnalysisConfig, ModelAnalyzer
from analyzer.data_types import DataInput, Skipped
from tests import zoo

pytestmark = pytest.mark.slow

L = keras.layers

FAULTS = {
    "dead_units": "second",
    "exploding_activations": "second",
    "bottleneck": "second",
    "saturated_units": "bent",
    "not_finite": "second",
    "duplicate_units": "second",
}


@functools.cache
def digits():
    x, y = load_digits(return_X_y=True)
    return (x / 16).astype("float32"), y


def trained():
    """A small net that has learnt the digits."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            L.Dense(64, activation="relu", name="first"),
            L.Dense(64, activation="relu", name="second"),
            L.Dense(64, activation="tanh", name="bent"),
            L.Dense(64, activation="relu", name="third"),
            L.Dense(10, activation="softmax", name="head"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(*digits(), epochs=6, batch_size=64, verbose=0)
    return model


def plant(model, fault):
    layer = model.get_layer(FAULTS[fault])
    kernel, bias = (np.array(w) for w in layer.get_weights())
    if fault == "dead_units":
        bias[:] = -1e3
    elif fault == "exploding_activations":
        kernel *= 100
    elif fault == "bottleneck":
        u, s, v = np.linalg.svd(kernel)
        kernel = (u[:, :2] * s[:2]) @ v[:2]
    elif fault == "saturated_units":
        kernel *= 200
    elif fault == "not_finite":
        kernel[3, 5] = np.nan
    elif fault == "duplicate_units":
        kernel[:, 7], bias[7] = kernel[:, 2], bias[2]
    layer.set_weights([kernel, bias])
    return model


def flow(model, x, y=None, **options):
    options = {"n_samples": 400, "n_bootstrap": 0, "save_plots": False, "progress": False, "verbose": False} | options
    analyzer = ModelAnalyzer(
        {"m": model}, config=AnalysisConfig(**options), output_dir=options.pop("output_dir", "out")
    )
    return analyzer.analyze(DataInput(x, y), analysis_types=["information_flow"]).information_flow["m"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def model():
    return trained()


def alarms(result):
    return [(f.kind, f.layer) for f in result.findings if f.severity != "info"]


def test_a_healthy_net_raises_no_alarm(model):
    result = flow(model, *digits())
    assert alarms(result) == []
    assert result.skipped == {}
    assert [layer.id for layer in result.layers] == ["first", "second", "bent", "third", "head"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named_where_it_is(model, fault):
    healthy = model.get_weights()
    try:
        result = flow(plant(model, fault), *digits())
    finally:
        model.set_weights(healthy)
    assert (fault, FAULTS[fault]) in alarms(result)
    assert [layer for kind, layer in alarms(result) if kind == fault] == [FAULTS[fault]]


# ------------------------------------------------------------------------------------- against plain NumPy
def activations_by_hand(model, x):
    """Full activation maps by layer id, in float64, from the model's layers called one by one where it has a graph."""
    from analyzer import features

    return {key: np.asarray(value, dtype=np.float64) for key, value in features(model, x, layers=None).items()}


KINDS = ("functional_cnn", "subclassed_private", "nested_sequential", "shared_layer", "attention", "quantised_int8")


@functools.cache
def flows(kind):
    """One model of each kind, and its results with two batch sizes; 11 samples leave a short last batch in one."""
    made = zoo.build(kind, n=11)
    return made, flow(made.model, made.x, batch_size=4), flow(made.model, made.x, batch_size=11)


@pytest.mark.parametrize("kind", KINDS)
def test_moments_are_those_of_the_full_maps(kind):
    made, result, _ = flows(kind)
    maps = activations_by_hand(made.model, made.x)
    checked = 0
    for layer in result.layers:
        if layer.id not in maps:
            continue
        units = maps[layer.id].reshape(-1, layer.n_units)
        checked += 1
        scale = np.abs(units).max()
        np.testing.assert_allclose(layer.unit_mean, units.mean(axis=0), rtol=1e-4, atol=1e-5 * scale)
        np.testing.assert_allclose(layer.unit_std, units.std(axis=0), rtol=1e-4, atol=1e-5 * scale)
        np.testing.assert_allclose(layer.unit_min, units.min(axis=0), rtol=1e-5, atol=1e-6 * scale)
        np.testing.assert_allclose(layer.unit_max, units.max(axis=0), rtol=1e-5, atol=1e-6 * scale)
        np.testing.assert_allclose(layer.unit_zero_share, (units == 0).mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(layer.unit_positive_share, (units > 0).mean(axis=0), atol=1e-6)
        assert layer.n_values == len(units)
    assert checked >= 2


@pytest.mark.parametrize("kind", KINDS)
def test_batch_size_changes_nothing(kind):
    _, one, other = flows(kind)
    for a, b in zip(one.layers, other.layers, strict=True):
        scale = max(abs(a.min), abs(a.max))
        for name in ("unit_mean", "unit_std", "unit_min", "unit_max", "unit_zero_share", "unit_positive_share"):
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-5, atol=1e-5 * scale)
        for name in ("participation_ratio", "stable_rank", "rankme", "mean_square"):
            assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-4)


def test_order_of_samples_changes_no_moment():
    made = zoo.build("functional_cnn", n=9)
    one, other = flow(made.model, made.x), flow(made.model, made.x[::-1].copy())
    for a, b in zip(one.layers, other.layers, strict=True):
        np.testing.assert_allclose(a.unit_mean, b.unit_mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(a.unit_std, b.unit_std, rtol=1e-5, atol=1e-6)


def test_ranks_and_similarity_are_those_of_the_kept_rows(model):
    x, y = digits()
    result = flow(model, x[:200], y[:200], n_samples=None)
    maps = activations_by_hand(model, x[:200])
    assert result.n_kept == 200
    for layer in result.layers:
        rows = maps[layer.id]
        centred = rows - rows.mean(axis=0)
        s = np.linalg.svd(centred, compute_uv=False)
        p = s[s > 1e-7 * s[0]] / s.sum()
        assert layer.effective_rank.value == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-3)
        assert layer.participation_ratio == pytest.approx((s**2).sum() ** 2 / (s**4).sum(), rel=1e-4)
        assert layer.stable_rank == pytest.approx((s**2).sum() / s[0] ** 2, rel=1e-4)
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        cosines = unit @ unit.T
        off = ~np.eye(len(rows), dtype=bool)
        assert layer.input_cosine.value == pytest.approx(cosines[off].mean(), rel=1e-4)
        assert layer.mean_square == pytest.approx((rows**2).mean(), rel=1e-4)
    gains = [layer.gain for layer in result.layers]
    squares = [(x[:200].astype(np.float64) ** 2).mean(), *(layer.mean_square for layer in result.layers)]
    np.testing.assert_allclose(gains, np.divide(squares[1:], squares[:-1]), rtol=1e-4)


def test_cka_is_the_unbiased_formula(model):
    x, _ = digits()
    result = flow(model, x[:150], n_samples=None)
    maps = activations_by_hand(model, x[:150])

    def hsic(k, m):
        n = len(k)
        k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
        one = np.ones(n)
        cross = one @ k @ one * (one @ m @ one) / ((n - 1) * (n - 2))
        return (np.trace(k @ m) + cross - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))

    grams = [maps[key] @ maps[key].T for key in result.cka_layers]
    wanted = [[hsic(a, b) / np.sqrt(hsic(a, a) * hsic(b, b)) for b in grams] for a in grams]
    np.testing.assert_allclose(result.cka, wanted, atol=1e-5)


# ---------------------------------------------------------------------------------------------- gradients
def test_gradients_are_those_of_finite_differences(model):
    x, y = digits()
    x, y = x[:5], y[:5]
    result = flow(model, x, y, n_samples=None)
    head = model.get_layer("head")
    hidden = activations_by_hand(model, x)["third"]
    kernel, bias = (w.astype(np.float64) for w in head.get_weights())
    logits = hidden @ kernel + bias
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    delta = p - np.eye(10)[y]
    wanted = np.linalg.norm(delta @ kernel.T, axis=1).mean()
    third = next(layer for layer in result.layers if layer.id == "third")
    assert third.gradient_norm.value == pytest.approx(wanted, rel=1e-3)
    by_id = {v.id: v for v in result.gradients.variables}
    assert by_id["head/kernel"].norm == pytest.approx(np.linalg.norm(hidden.T @ delta / 5), rel=1e-3)
    assert result.gradients.loss == "cross-entropy against labels"


def test_what_is_structurally_zero_raises_no_alarm():
    _, result, _ = flows("attention")
    zero = {v.id: v.structural_zero for v in result.gradients.variables if v.structural_zero}
    assert set(zero) == {"mha/key/bias"}
    assert "dead_gradient" not in [f.kind for f in result.findings]


def test_a_bias_before_batch_normalization_is_known():
    _, result, _ = flows("functional_cnn")
    assert [v.id for v in result.gradients.variables if v.zero_in_training] == ["conv/bias"]
    assert "dead_gradient" not in [f.kind for f in result.findings]


def test_a_variable_that_dead_units_cut_off_raises_the_alarm(model):
    healthy = model.get_weights()
    try:
        result = flow(plant(model, "dead_units"), *digits())
    finally:
        model.set_weights(healthy)
    assert {layer for kind, layer in alarms(result) if kind == "dead_gradient"} >= {"first", "second"}


# ---------------------------------------------------------------------------------------------- what layers know
def test_deeper_layers_know_the_label_better_and_say_their_n(model):
    result = flow(model, *digits(), n_samples=None)
    first, head = result.layers[0], result.layers[-1]
    assert 0.8 < first.probe.value <= head.probe.value <= 1
    assert first.probe.n == result.n_kept == 256
    assert 0.05 < first.probe_chance < 0.2
    assert first.separability.value < head.separability.value
    assert result.last_hidden.n_classes == 10
    assert result.last_hidden.layer == "head"
    assert result.last_hidden.nc4.value > 0.8


def test_random_labels_are_not_known(model):
    x, y = digits()
    shuffled = np.random.default_rng(0).permutation(y)
    result = flow(model, x, shuffled, n_samples=None)
    assert all(layer.probe.low < 0.2 for layer in result.layers)
    assert all(abs(layer.specialization.value) < 0.03 for layer in result.layers)


# ---------------------------------------------------------------------------------------------- every kind
@pytest.mark.parametrize("kind", zoo.BUILDERS)
def test_every_kind_of_model_runs_to_the_end(kind):
    made = zoo.build(kind, n=8)
    result = flow(made.model, made.x, batch_size=4)
    if kind == "own_weights_only":
        assert isinstance(result, Skipped)
        return
    keys = [layer.id for layer in result.layers] + list(result.skipped)
    parts = {part for key in keys for part in key.replace("@2", "").split("/")}
    assert {layer.name for layer in made.model.layers if layer.variables} <= parts
    assert all(np.isfinite(layer.unit_mean).all() for layer in result.layers)


def test_a_gradient_that_fades_on_its_way_back_is_named_and_a_residual_twin_is_not():
    keras.utils.set_random_seed(0)
    x = keras.Input((16,))
    plain, skipping = x, x
    for i in range(12):
        plain = L.Dense(16, activation="sigmoid", name=f"s{i}")(plain)
        skipping = L.Add(name=f"a{i}")([skipping, L.Dense(16, activation="tanh", name=f"r{i}")(skipping)])
    data, labels = zoo.normal(60, 16), np.arange(60) % 3
    fading = flow(keras.Model(x, L.Dense(3, activation="softmax")(plain)), data, labels)
    healthy = flow(keras.Model(x, L.Dense(3, activation="softmax")(skipping)), data, labels)
    assert ("vanishing_gradient", "s0") in alarms(fading)
    assert "vanishing_gradient" not in [kind for kind, _ in alarms(healthy)]


def test_material_does_not_grow_with_the_number_of_samples():
    model = keras.Sequential([keras.Input((6, 6, 2)), L.Conv2D(4, 3), L.Flatten(), L.Dense(2)])
    small, large = (flow(model, zoo.normal(n, 6, 6, 2), n_samples=None) for n in (300, 1500))
    assert small.n_kept == large.n_kept == 256
    assert [layer.n_rows for layer in small.layers] == [layer.n_rows for layer in large.layers]
    assert [layer.n_values for layer in large.layers] == [5 * layer.n_values for layer in small.layers]


def test_percentiles_of_units_and_similarity_of_positions_are_those_of_the_kept_rows():
    model = keras.Sequential([keras.Input((2, 2, 3)), L.Conv2D(5, 1, name="conv")])
    x = zoo.normal(30, 2, 2, 3)
    layer = flow(model, x).layers[0]
    values = activations_by_hand(model, x)["conv"].reshape(30, 4, 5)
    np.testing.assert_allclose(
        layer.unit_percentiles, np.percentile(values.reshape(-1, 5), (1, 5, 25, 50, 75, 95, 99), axis=0), atol=1e-5
    )
    unit = values / np.linalg.norm(values, axis=-1, keepdims=True)
    cosines = np.abs(np.einsum("npc,nqc->npq", unit, unit))
    wanted = np.mean([c[~np.eye(4, dtype=bool)].mean() for c in cosines])
    assert layer.position_similarity.value == pytest.approx(wanted, rel=1e-4)
    assert layer.position_similarity.n == 30


class Windows(keras.Model):
    """Cuts each sample into four rows of its own along the first axis, as window attention does."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.mixed, self.head = L.Dense(3, name="mixed"), L.Dense(2, name="head")

    def build(self, shape):
        self.mixed.build((None, 2))
        self.head.build((None, 12))

    def call(self, x):
        return self.head(keras.ops.reshape(self.mixed(keras.ops.reshape(x, (-1, 2))), (-1, 12)))


class Residual(L.Layer):
    """A block that adds with a plain `+`, which no layer shows."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = L.Dense(8, activation="tanh", name="inner")

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return x + self.inner(x)


def test_layers_that_cut_samples_into_windows_are_followed():
    model = Windows()
    model.build((None, 8))
    data = zoo.normal(10, 8)
    layers = {layer.id: layer for layer in flow(model, data, batch_size=4).layers}
    kernel, bias = model.mixed.get_weights()
    wanted = data.reshape(-1, 2) @ kernel + bias
    assert layers["mixed"].n_positions == 4
    assert layers["mixed"].n_values == 40
    np.testing.assert_allclose(layers["mixed"].unit_mean, wanted.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(layers["mixed"].unit_std, wanted.std(axis=0), atol=1e-5)


def test_a_block_is_followed_beside_its_layers_where_it_adds_something_of_its_own():
    x = keras.Input((8,))
    block = Residual(name="block")
    model = keras.Model(x, L.Dense(2, name="head")(block(x)))
    data = zoo.normal(20, 8)
    layers = {layer.id: layer for layer in flow(model, data).layers}
    kernel, bias = block.inner.get_weights()
    inner = np.tanh(data @ kernel + bias)
    assert set(layers) == {"block/inner", "block", "head"}
    np.testing.assert_allclose(layers["block/inner"].unit_mean, inner.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(layers["block"].unit_mean, (data + inner).mean(axis=0), atol=1e-5)


def test_channels_first_layers_have_their_units_on_the_first_axis():
    if keras.backend.backend() == "tensorflow":
        layer = L.Permute((2, 1), name="turned")
        x = keras.Input((3, 5))
    else:
        layer, x = L.Conv2D(3, 1, data_format="channels_first", name="turned"), keras.Input((2, 4, 4))
    model = keras.Model(x, layer(x))
    data = zoo.normal(6, *x.shape[1:])
    (found,) = flow(model, data).layers
    values = keras.ops.convert_to_numpy(model(data))
    units = np.moveaxis(values, 1, -1) if keras.backend.backend() != "tensorflow" else values
    np.testing.assert_allclose(found.unit_mean, units.reshape(-1, found.n_units).mean(axis=0), atol=1e-5)
    assert found.n_units == 3
