"""What AURA owes its readers: training against attacks raises it, and writing the same function otherwise does not."""

import keras
import numpy as np
import pytest
from scipy.special import softmax

from analyzer.measures.robustness import aura
from analyzer.robustness.attacks.tiers import attack_in_tier
from analyzer.robustness.masking.judge import masking_flags
from tests.robustness.oracle import attacked, digits

L = keras.layers
X, Y = digits()
TRAINED, TEST, LABELS = 1400, X[1400:1460], Y[1400:1460]
LARGEST, HARDENING = 0.2, 0.15
"""The largest radius looked at, and the one of the steps that a net is trained against; greys are from 0 to 1."""
RADII = np.linspace(0, LARGEST, 6)[1:]


def slopes(weights, x, y):
    """Of cross-entropy of a net of one ReLU layer: gradients summed over samples, by weight, and by input."""
    first, shift, second, offset = weights
    hidden = np.maximum(x @ first + shift, 0)
    gap = softmax(hidden @ second + offset, axis=1)
    gap[np.arange(len(y)), y] -= 1
    back = gap @ second.T * (hidden > 0)
    return [x.T @ back, back.sum(axis=0), hidden.T @ gap, gap.sum(axis=0)], back @ first.T


def trained(epsilon, width=64, epochs=30, batches=28, rate=0.5):
    """By hand, on digits that are each moved up their own gradient by ε (Goodfellow et al. 2015); 0 for as they are.

    All else is the same: the net, where it begins, and the order of samples.
    """
    rng = np.random.default_rng(0)
    made = [rng.normal(0, (2 / 64) ** 0.5, (64, width)), np.zeros(width)]
    made += [rng.normal(0, (2 / width) ** 0.5, (width, 10)), np.zeros(10)]
    for _ in range(epochs):
        for rows in np.array_split(rng.permutation(TRAINED), batches):
            x, y = X[rows].astype("float64"), Y[rows]
            x = np.clip(x + epsilon * np.sign(slopes(made, x, y)[1]), 0, 1)
            for weight, slope in zip(made, slopes(made, x, y)[0], strict=True):
                weight -= rate * slope / len(rows)
    model = keras.Sequential([keras.Input((64,)), L.Dense(width, "relu"), L.Dense(10)])
    model.set_weights(made)
    return model


def audited(model, x, y):
    """Distances within the largest radius, and the flags that withhold a score."""
    seen = attacked(model, x)
    found = attack_in_tier(seen, x, y, RADII, tier="screen").distance
    flags = masking_flags(seen, x, y, RADII, found)
    return found, [flag.name for flag in flags if flag.severity == "withholds"]


def test_training_against_attacks_raises_it():
    (plain, first), (hardened, second) = (audited(trained(epsilon), TEST, LABELS) for epsilon in (0.0, HARDENING))
    assert first == second == []
    assert aura(hardened, LARGEST).low > aura(plain, LARGEST).high
    # Not because it is right more often to begin with.
    assert (hardened > 0).mean() <= (plain > 0).mean()


def conv_net(first=1.0, logits=1.0):
    """A random net: conv1 times a factor, which conv2's kernel divides by, and logits times another."""
    rng = np.random.default_rng(3)
    layers = [L.Conv2D(4, 3, activation="relu"), L.Conv2D(6, 3, activation="relu"), L.Flatten(), L.Dense(10)]
    model = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    factors = [first, first, 1 / first, 1, logits, logits]
    model.set_weights(
        [
            factor * rng.normal(0, (2 / np.prod(w.shape[:-1])) ** 0.5 if w.ndim > 1 else 0.1, w.shape)
            for factor, w in zip(factors, model.get_weights(), strict=True)
        ]
    )
    return model


def distances(model, x, y):
    return attack_in_tier(attacked(model, x), x, y, RADII, tier="screen").distance


@pytest.fixture(scope="module")
def random_net():
    """Digits with the classes that the net decides for, and how far they are from another."""
    x = TEST[:20].reshape(-1, 8, 8, 1)
    y = keras.ops.convert_to_numpy(conv_net()(x)).argmax(axis=1)
    return x, y, distances(conv_net(), x, y)


@pytest.mark.parametrize("factors", [(10.0, 1.0), (1.0, 100.0), (1.0, 0.01)], ids=["conv1", "louder", "softer"])
def test_factors_that_the_decision_does_not_feel_do_not_move_it(random_net, factors):
    x, y, before = random_net
    after = distances(conv_net(*factors), x, y)
    assert np.count_nonzero((before > 0) & (before < LARGEST)) > 10
    np.testing.assert_allclose(after, before, rtol=1e-4)
    assert aura(after, LARGEST).value == pytest.approx(aura(before, LARGEST).value, abs=1e-3)
