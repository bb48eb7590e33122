"""Every rule beside its closed form: one model per linear layer that calls it once for each rule.

The layer is shared by as many inputs as there are rules, so that one compiled pass gives the maps of all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np

from analyzer.backends import reference, reference_magnitude
from analyzer.relevance.explain import explain
from analyzer.relevance.presets import Preset
from analyzer.relevance.rules import AlphaBeta, Epsilon, Flat, Gamma, Magnitude, WSquare, ZBox, ZPlus


@dataclass(frozen=True)
class Given:
    """A layer as its dense matrix, and what it receives from both sides."""

    x: np.ndarray
    w: np.ndarray
    b: np.ndarray
    connected: np.ndarray
    r: np.ndarray

    @property
    def all(self):
        return self.x, self.w, self.b, self.r


RULES = {
    "lrp_0": (Epsilon(epsilon=0.0), lambda g: reference.lrp_0(*g.all)),
    "epsilon": (Epsilon(), lambda g: reference.lrp_epsilon(*g.all)),
    "epsilon_large": (Epsilon(epsilon=0.25), lambda g: reference.lrp_epsilon(*g.all, epsilon=0.25)),
    "zero_bias": (Epsilon(zero_bias=True), lambda g: reference.lrp_epsilon(*g.all, zero_bias=True)),
    "gamma": (Gamma(), lambda g: reference.lrp_gamma(*g.all)),
    "gamma_one": (Gamma(gamma=1.0), lambda g: reference.lrp_gamma(*g.all, gamma=1.0)),
    "z_plus": (ZPlus(), lambda g: reference.z_plus(*g.all)),
    "alpha2_beta1": (AlphaBeta(), lambda g: reference.alpha_beta(*g.all)),
    "alpha_beta_zero_bias": (
        AlphaBeta(alpha=3.0, beta=2.0, zero_bias=True),
        lambda g: reference.alpha_beta(*g.all, alpha=3.0, beta=2.0, zero_bias=True),
    ),
    "magnitude": (Magnitude(), lambda g: reference_magnitude.magnitude(*g.all)),
    "z_box": (ZBox(-3.0, 3.5), lambda g: reference.z_box(g.x, g.w, g.r, low=-3.0, high=3.5)),
    "w_square": (WSquare(), lambda g: reference.w_squared(g.w, g.r, epsilon=0.0)),
    "flat": (Flat(), lambda g: reference.flat(g.connected, g.r, epsilon=0.0)),
}
"""Each rule, and its closed form."""

ABSORBED = ["absorbed_by_bias", "absorbed_by_softmax", "absorbed_by_stabiliser"]


@dataclass(frozen=True)
class Case:
    """A linear layer and what it is given."""

    name: str
    layer: object
    shape: tuple[int, ...]
    nonnegative: bool = False
    normalised: bool = False


def fill(layer, seed=0):
    """Weights and biases of any sign; what has to be positive stays so."""
    rng = np.random.default_rng(seed)
    for variable in layer.weights:
        positive = any(word in variable.path for word in ("variance", "gamma"))
        drawn = rng.uniform(0.5, 1.5, variable.shape) if positive else rng.normal(size=variable.shape)
        variable.assign(drawn.astype("float32"))


def with_ones(layer, linear_map):
    """What the layer connects with what: its matrix with all weights 1 and no bias."""
    before = layer.get_weights()
    for variable in layer.weights:
        variable.assign(np.zeros(variable.shape) if "bias" in variable.path else np.ones(variable.shape))
    connected, _ = linear_map()
    layer.set_weights(before)
    return np.round(connected)


def compare(case, rules=tuple(RULES), n=2, layers=None):
    """The largest distance between a map and its closed form, as a share of the map's norm, by rule."""
    layer = case.layer
    before = keras.layers.ReLU(name="before") if case.nonnegative else None
    then = keras.layers.BatchNormalization(name="behind", axis=_axis(layer)) if case.normalised else None
    model = InOrder(layer, before, then)
    rng = np.random.default_rng(2)
    # Away from 0, where what is divided by is the stabiliser.
    x = (rng.uniform(0.5, 3.0, (n, *case.shape)) * rng.choice([-1, 1], (n, *case.shape))).astype("float32")
    model([x] * len(rules))
    fill(layer)
    if then is not None:
        fill(then, seed=1)

    def call(x):
        y = layer(keras.ops.convert_to_tensor(x.astype("float32")))
        return keras.ops.convert_to_numpy(y if then is None else then(y))

    w, b = reference.linear_map(call, case.shape)
    one = with_ones(layer, lambda: reference.linear_map(lambda x: _alone(layer, x), case.shape))
    seen = np.maximum(x, 0) if case.nonnegative else x
    z = reference.contributions(seen.reshape(n, -1), w)
    t = z.sum(1) + b
    # Where what cancels is nearly everything, float32 has no digits left.
    told = (np.abs(t) > 0.1 * (np.abs(z).sum(1) + np.abs(b))) & (np.abs(z.sum(1)) > 0.1 * np.abs(z).sum(1))
    weights = np.random.default_rng(3).uniform(-1, 1, t.shape) * told
    assert told.mean() > 0.3
    r = weights * t
    explained = _explained(model, layer, rules, [x] * len(rules), weights.astype("float32"), layers)
    distances = {}
    for name in rules:
        expected = RULES[name][1](Given(seen.reshape(n, -1), w, b, one, r))
        below = expected.lower
        if case.nonnegative:
            # ReLU hands on what arrives where its input is positive; the rest has nothing to stand on.
            below = np.where(x.reshape(n, -1) > 0, below, 0)
        found = explained.inputs[str(rules.index(name))].reshape(n, -1)
        distances[name] = float(np.abs(found - below).max() / np.linalg.norm(below))
    return distances, explained, r


@keras.saving.register_keras_serializable("oracle")
class InOrder(keras.Model):
    """Calls one layer once for every input, in their order."""

    def __init__(self, layer, before, then):
        super().__init__()
        self.shared, self.before, self.then = layer, before, then

    def call(self, inputs):
        between = inputs if self.before is None else [self.before(x) for x in inputs]
        outputs = [self.shared(x) for x in between]
        return outputs if self.then is None else [self.then(y) for y in outputs]


def _axis(layer):
    return 1 if getattr(layer, "data_format", None) == "channels_first" else -1


def _alone(layer, x):
    return keras.ops.convert_to_numpy(layer(keras.ops.convert_to_tensor(x.astype("float32"))))


def _explained(model, layer, rules, x, weights, layers):
    ids = [layer.name if i == 0 else f"{layer.name}@{i + 1}" for i in range(len(rules))]
    preset = Preset(name="oracle").with_rules({key: RULES[name][0] for key, name in zip(ids, rules, strict=True)})

    def told(outputs):
        total = 0
        for y in outputs if isinstance(outputs, list | tuple) else [outputs]:
            weighted = keras.ops.multiply(keras.ops.reshape(y, weights.shape), weights)
            total = total + keras.ops.sum(weighted, axis=-1)
        return total

    return explain(model, x, target=told, method=preset, layers=layers)
