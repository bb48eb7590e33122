"""The magnitude flow beside DLBacktrace: its two steps where it is right, and conservation where it is not.

The published method (arXiv 2411.12643) shares a unit's relevance out between its positive and its negative side, and
within each side by contributions. Numbers below were measured with its packages (the TensorFlow version and 0.1.24).
"""

import itertools

import keras
import numpy as np
import pytest

from analyzer.relevance import presets
from analyzer.relevance.explain import explain
from analyzer.relevance.rules import Magnitude

L = keras.layers
UNGATED = presets.magnitude().with_rules({"Layer": Magnitude()}, name="magnitude without ranges")


def two_steps(x, w, b, r, *, active=(True, True)):
    """One sample through one layer, unit by unit, as the paper writes it."""
    lower = np.zeros(len(x))
    for j, of_unit in enumerate(r):
        z = x * w[:, j]
        positive, negative = np.maximum(z, 0) * active[0], np.maximum(-z, 0) * active[1]
        p, n, up, down = positive.sum(), negative.sum(), max(b[j], 0), max(-b[j], 0)
        whole = p + n + up + down
        if p:
            lower += positive / p * (p + up) / whole * (p / (p + up)) * of_unit
        if n:
            lower += negative / n * (n + down) / whole * (n / (n + down)) * of_unit
    return lower


def unit(weights, bias, activation=None):
    """A single unit whose output is one number."""
    model = keras.Sequential([L.Input((len(weights),)), L.Dense(1, activation), L.Dense(1, use_bias=False)])
    model.layers[0].set_weights([np.array(weights, "float32")[:, None], np.array([bias], "float32")])
    model.layers[1].set_weights([np.ones((1, 1), "float32")])
    return model


def explained(model, x, method="magnitude", **options):
    found = explain(model, np.asarray(x, "float32"), method=method, **options)
    (name,) = found.inputs
    return found.inputs[name], found


def test_a_perceptron_equals_the_published_steps_unit_by_unit():
    """To 4e-9 the package is its closed form; the sums over the logit are below 1 by what biases absorb."""
    rng = np.random.default_rng(0)
    sizes = (30, 20, 12, 5)
    model = keras.Sequential([L.Input((30,)), L.Dense(20, "relu"), L.Dense(12, "relu"), L.Dense(5)])
    for layer, (i, o) in zip(model.layers, itertools.pairwise(sizes), strict=True):
        layer.set_weights([rng.uniform(-1, 1, shape).astype("float32") / np.sqrt(i) for shape in ((i, o), (o,))])
    x = rng.normal(size=(6, 30)).astype("float32")
    got, found = explained(model, x)
    for i, sample in enumerate(x.astype(np.float64)):
        weights = [[w.astype(np.float64) for w in layer.get_weights()] for layer in model.layers]
        activations = [sample]
        for position, (w, b) in enumerate(weights):
            z = activations[-1] @ w + b
            activations.append(z if position == 2 else np.maximum(z, 0))
        r = np.where(np.arange(5) == activations[-1].argmax(), activations[-1], 0)
        for (w, b), a in zip(reversed(weights), reversed(activations[:-1]), strict=True):
            r = two_steps(a, w, b, r)
        np.testing.assert_allclose(got[i], r, rtol=2e-5, atol=1e-7)
    assert np.all(got.sum(1) < found.output)
    assert np.all(got >= 0)
    assert found.unexplained_fraction < 1e-5


def test_the_published_start_is_100():
    """Multiplier 100 and the seed 1: shares in per cent; a bias of a fifth of |z| + |b| holds 20 of them."""
    x, model = [[2.0, 1.0, 1.0]], unit([1.0, -1.0, 1.0], 1.0)
    got, found = explained(model, x, start=1.0, multiplier=100.0)
    np.testing.assert_allclose(got, [[40, 20, 20]], rtol=1e-4)
    assert found.output == pytest.approx(100, rel=1e-4)
    assert found.ledger["absorbed_by_bias"].sum() == pytest.approx(20, rel=1e-4)


def test_a_unit_of_one_sign_does_not_leak():
    """0.1.24 puts 1 for the empty side before it adds up, and hands on 100 * 0.3 / 1.3 = 23.08."""
    leaking = 100 * 0.3 / (1 + 0.3)
    assert leaking == pytest.approx(23.08, abs=0.01)
    got, _ = explained(unit([-0.2, -0.1], 0.0), [[1.0, 1.0]], start=1.0, multiplier=100.0)
    np.testing.assert_allclose(got, [[100 * 2 / 3, 100 / 3]], rtol=1e-4)


def test_a_saturated_unit_is_shared_out_anew():
    """Below the range of a sigmoid (t = -4.43) the negative side has N / (N + |b|) = .9493, not .9658."""
    b = 0.5402
    n = b * 0.9493 / (1 - 0.9493)
    p = b * 0.9658 / (1 - 0.9658) - n
    assert p - n + b == pytest.approx(-4.43, abs=0.01)
    model = unit([p, -n], b, "sigmoid")
    gated, _ = explained(model, [[1.0, 1.0]], start=1.0)
    np.testing.assert_allclose(gated, [[0, 0.9493]], atol=2e-4)
    plain, _ = explained(model, [[1.0, 1.0]], UNGATED, start=1.0)
    assert plain.sum() == pytest.approx(0.9658, abs=2e-4)
    np.testing.assert_allclose(plain[0], two_steps(np.ones(2), np.array([[p], [-n]]), [b], [1.0]), rtol=1e-4)
    # The range of ReLU changes nothing: below it there is no relevance to share out.
    inside, _ = explained(unit([p, -n], 6.0, "relu"), [[1.0, 1.0]], start=1.0)
    np.testing.assert_allclose(inside[0], two_steps(np.ones(2), np.array([[p], [-n]]), [6.0], [1.0]), rtol=1e-4)


def test_the_winner_of_a_pool_has_all_of_it():
    """0.1.24 has no rule for pools and spreads 12.29 as 3.07 to each of four."""
    model = keras.Sequential([L.Input((4, 4, 1)), L.MaxPooling2D(), L.Flatten(), L.Dense(1, use_bias=False)])
    model.layers[-1].set_weights([np.array([[1.0], [0], [0], [0]], "float32")])
    x = np.zeros((1, 4, 4, 1))
    x[0, :2, :2, 0] = [[1.0, 12.29], [3.0, 0.5]]
    got, _ = explained(model, x)
    expected = np.zeros_like(x)
    expected[0, 0, 1] = 12.29
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_sums_and_means_by_magnitude_keep_the_total():
    """Terms share by |x| (0.1.24: equally); a mean over steps hands on what it has, not that times the steps."""
    inputs = L.Input((5, 2))
    mean = L.GlobalAveragePooling1D()(inputs)
    written = keras.ops.mean(inputs, axis=1)
    out = L.Dense(1, use_bias=False)(L.Add()([mean, 0.5 * written]))
    model = keras.Model(inputs, out)
    model.layers[-1].set_weights([np.array([[2.0], [-1.0]], "float32")])
    rng = np.random.default_rng(2)
    x = rng.uniform(0.1, 1, (3, 5, 2)).astype("float32")
    got, found = explained(model, x)
    np.testing.assert_allclose(got.sum((1, 2)), found.output, rtol=1e-4)
    means = x.mean(1)
    shares = 2 * means[:, 0] / (2 * means[:, 0] + means[:, 1])
    np.testing.assert_allclose(got[:, :, 0].sum(1) / found.output, shares, rtol=1e-4)
    np.testing.assert_allclose(got / got.sum(1, keepdims=True), x / x.sum(1, keepdims=True), rtol=1e-4)


def test_terms_of_either_sign_share_by_their_size():
    inputs = L.Input((2,))
    model = keras.Model(inputs, L.Add()([inputs[:, :1], inputs[:, 1:]]))
    got, found = explained(model, [[3.0, -1.0]])
    assert found.output == pytest.approx(2)
    np.testing.assert_allclose(got, [[1.5, 0.5]], rtol=1e-5)


def test_tokens_have_the_sum_over_their_dimensions():
    """The TensorFlow version takes the mean, and keeps 0.25 of 1 with four dimensions."""
    model = keras.Sequential([L.Input((3,), dtype="int32"), L.Embedding(7, 4), L.Flatten(), L.Dense(1, use_bias=False)])
    rng = np.random.default_rng(1)
    for variable in model.weights:
        variable.assign(rng.normal(size=variable.shape))
    tokens = np.array([[1, 5, 2]])
    found = explain(model, tokens, method="magnitude", start=1.0)
    (got,) = found.inputs.values()
    z = model.layers[0].get_weights()[0][tokens[0]].ravel() * model.layers[-1].get_weights()[0][:, 0]
    np.testing.assert_allclose(got[0], np.abs(z).reshape(3, 4).sum(1) / np.abs(z).sum(), rtol=1e-4)
    assert got.sum() == pytest.approx(1, rel=1e-4)


def test_zeros_are_nothing_to_share_by_and_no_nan():
    """A patch of zeros without a bias is NaN in the TensorFlow version."""
    model = keras.Sequential(
        [L.Input((6, 6, 1)), L.Conv2D(2, 3, use_bias=False), L.AveragePooling2D(2), L.Flatten(), L.Dense(1)]
    )
    rng = np.random.default_rng(4)
    for variable in model.weights:
        variable.assign(rng.normal(size=variable.shape))
    x = np.zeros((2, 6, 6, 1))
    x[0, 5, 5] = 1.0
    got, found = explained(model, x)
    assert np.isfinite(got).all()
    assert np.flatnonzero(got[0]).tolist() == [35]
    assert np.all(got[1] == 0)
    # Where there is nothing but the last bias, that has everything.
    assert found.ledger["absorbed_by_bias"].sum() + got.sum() / 2 == pytest.approx(found.output.mean(), rel=1e-4)
