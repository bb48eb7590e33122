"""Models that draw random numbers at inference: what their mean decides, and how attacks average over their draws."""

import keras
import numpy as np
import pytest

from analyzer.errors import ConfigError
from analyzer.inspection import open_model
from analyzer.robustness.attacks.apgd import APGD
from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.autoattack import Ensemble
from analyzer.robustness.attacks.losses import targeted_margin
from analyzer.robustness.attacks.threat import Box
from tests.robustness import oracle

X, Y = oracle.digits()
KERNEL, BIAS = oracle.linear_weights(X[:1400], Y[:1400])
TEST, LABELS = X[1400:1420], Y[1400:1420]


@keras.saving.register_keras_serializable("tests")
class Noisy(keras.layers.Layer):
    """Adds noise, or multiplies by it, in every mode."""

    def __init__(self, std, multiply=False, **options):
        super().__init__(**options)
        self.std, self.multiply = std, multiply
        self.noise = keras.random.SeedGenerator(7)

    def call(self, x):
        drawn = keras.random.normal(keras.ops.shape(x), stddev=self.std, seed=self.noise)
        return x * (1 + drawn) if self.multiply else x + drawn


def noisy(std, multiply=False, draws=1):
    """The linear softmax with noise on its logits, or on its inputs."""
    dense, noise = keras.layers.Dense(10), Noisy(std, multiply)
    model = keras.Sequential([keras.Input((64,)), *([noise, dense] if multiply else [dense, noise])])
    dense.set_weights([KERNEL, BIAS])
    box = Box(low=0.0, high=1.0, source="given")
    return Attacked(view=open_model(model, TEST[:1]), box=box, draws=draws)


def test_every_evaluation_draws_anew_and_the_model_is_left_alone():
    attacked = noisy(0.5)
    before = [keras.ops.convert_to_numpy(v.value) for v in attacked.view.state]
    assert attacked.is_random(TEST)
    z = np.stack([attacked.all_logits(TEST) for _ in range(20)])
    exact = TEST.astype("float64") @ KERNEL + BIAS
    assert abs((z - exact).std() - 0.5) < 0.03
    assert abs((z - exact).mean()) < 0.03
    # Neither rows nor calls repeat each other.
    assert np.abs(np.corrcoef((z - exact).reshape(20, -1)) - np.eye(20)).max() < 0.35
    for then, now in zip(before, attacked.view.state, strict=True):
        np.testing.assert_array_equal(then, keras.ops.convert_to_numpy(now.value))


def test_the_same_calls_draw_the_same():
    first, second = (noisy(0.5) for _ in range(2))
    for _ in range(3):
        one, other = first.all_logits(TEST), second.all_logits(TEST)
        np.testing.assert_array_equal(one, other)
    assert np.abs(noisy(0.5).averaging(1).all_logits(TEST) - one).max() > 0.1


def test_means_of_draws_have_the_spread_of_means():
    z = np.stack([noisy(0.5).averaging(20).all_logits(TEST), noisy(0.5, draws=16).all_logits(TEST)])
    errors = z - (TEST.astype("float64") @ KERNEL + BIAS)
    np.testing.assert_allclose(errors.std(axis=(1, 2)), [0.5 / np.sqrt(20), 0.5 / np.sqrt(16)], rtol=0.15)


@pytest.mark.parametrize("draws", [1, 25])
def test_gradients_are_averaged_over_draws(draws):
    attacked = noisy(0.5, multiply=True, draws=draws)
    assert attacked.is_random(TEST)
    t = (LABELS + 1) % 10

    def fn(values, u, y, t):
        return attacked.slope(values, u, lambda z: targeted_margin(z, y, t))

    program = attacked.program("slope", fn)
    z, reached, gradient = attacked.by_batch([TEST, LABELS, t], lambda batch, _: list(program(*batch)))
    exact = KERNEL.T[t] - KERNEL.T[LABELS]
    matters = np.abs(exact) > 1e-3
    spread = (gradient[matters] / exact[matters] - 1).std()
    np.testing.assert_allclose(spread, 0.5 / np.sqrt(draws), rtol=0.15)
    rows = np.arange(len(TEST))
    np.testing.assert_allclose(reached, z[rows, t] - z[rows, LABELS], atol=1e-4)


def test_what_is_fooled_is_what_the_mean_model_decides_wrongly():
    exact = oracle.exact_distances(TEST, LABELS, KERNEL, BIAS)
    epsilon = np.maximum(exact, 0.01) * np.where(np.arange(len(TEST)) % 2, 0.75, 1.35)
    attacks = (APGD(steps=15), APGD(loss="dlr", steps=15))
    found = Ensemble(attacks=attacks, draws=20).run(noisy(0.3), TEST, LABELS, epsilon)
    certain = exact > 0.01
    assert not found.fooled[certain & (epsilon < exact)].any()
    assert found.fooled[certain & (epsilon > exact)].mean() > 0.7
    # A single evaluation per step, as if it were none of chance, claims samples that the mean model holds.
    single = Ensemble(attacks=attacks).run(noisy(3.0), TEST, LABELS, np.full(len(TEST), 1e-4))
    assert single.fooled[certain].mean() > 0.8
    averaged = Ensemble(attacks=attacks, draws=20).run(noisy(3.0), TEST, LABELS, np.full(len(TEST), 1e-4))
    assert averaged.fooled[certain].mean() < single.fooled[certain].mean() - 0.3


def test_a_model_without_chance_is_evaluated_once():
    attacked = oracle.attacked(oracle.trained(KERNEL, BIAS), TEST)
    assert not attacked.is_random(TEST)
    epsilon = np.full(len(TEST), 0.05)
    attacks = (APGD(steps=5),)
    plain, drawn = (Ensemble(attacks=attacks, draws=draws).run(attacked, TEST, LABELS, epsilon) for draws in (1, 20))
    np.testing.assert_array_equal(plain.points, drawn.points)
    z = attacked.averaging(20).all_logits(TEST)
    np.testing.assert_array_equal(z, attacked.all_logits(TEST))


def test_no_draws_are_refused():
    with pytest.raises(ConfigError, match="draws=0: expected 1 or more"):
        noisy(0.5, draws=0)
