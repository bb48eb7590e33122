"""Every rule is its closed form in float64 for every linear layer, and its ledger closes."""

import keras
import numpy as np
import pytest

from analyzer.backends import reference_magnitude
from analyzer.errors import ConfigError, Unsupported
from analyzer.relevance.explain import explain
from analyzer.relevance.presets import Preset, magnitude
from analyzer.relevance.rules import AlphaBeta, Epsilon, Magnitude, Pass, ZBox
from tests.relevance.oracle import ABSORBED, RULES, Case, compare, fill

L = keras.layers
BACKEND = keras.backend.backend()
FIRST = "channels_first"

CASES = {
    "dense": lambda: (L.Dense(4), (6,)),
    "dense without bias": lambda: (L.Dense(4, use_bias=False), (6,)),
    "dense on three axes": lambda: (L.Dense(3), (2, 3, 4)),
    "einsum": lambda: (L.EinsumDense("abc,cde->abde", output_shape=(None, 2, 3), bias_axes="de"), (3, 4)),
    "einsum over two axes": lambda: (L.EinsumDense("abcd,cde->abe", output_shape=(None, 5), bias_axes="e"), (2, 3, 2)),
    "einsum with ellipsis": lambda: (L.EinsumDense("...x,xy->...y", output_shape=(3,)), (2, 4)),
    "conv1d": lambda: (L.Conv1D(3, 3, strides=2, padding="same"), (7, 2)),
    "causal": lambda: (L.Conv1D(3, 2, dilation_rate=2, padding="causal"), (6, 2)),
    "conv2d": lambda: (L.Conv2D(3, (3, 2), padding="same"), (4, 4, 2)),
    "conv2d strided without bias": lambda: (L.Conv2D(3, 3, strides=2, use_bias=False), (7, 5, 2)),
    "conv2d dilated": lambda: (L.Conv2D(2, 2, dilation_rate=2, padding="same"), (5, 5, 2)),
    "conv2d in groups": lambda: (L.Conv2D(4, 3, groups=2), (4, 5, 4)),
    "conv3d": lambda: (L.Conv3D(2, 2, strides=(1, 2, 1), padding="same"), (3, 3, 2, 2)),
    "depthwise1d": lambda: (L.DepthwiseConv1D(3, depth_multiplier=2, padding="same"), (5, 2)),
    "depthwise2d": lambda: (L.DepthwiseConv2D(3, strides=2, depth_multiplier=2, padding="same"), (5, 5, 2)),
    "depthwise2d dilated": lambda: (L.DepthwiseConv2D(2, dilation_rate=2), (5, 5, 2)),
    "transposed1d": lambda: (L.Conv1DTranspose(3, 3, strides=2, output_padding=1), (4, 2)),
    "transposed2d": lambda: (L.Conv2DTranspose(2, 3, strides=2, padding="same"), (3, 3, 2)),
    "transposed2d dilated": lambda: (L.Conv2DTranspose(2, 2, dilation_rate=2), (3, 3, 2)),
    "transposed3d": lambda: (L.Conv3DTranspose(2, 2, strides=2, use_bias=False), (2, 2, 2, 2)),
    "conv1d channels first": lambda: (L.Conv1D(3, 2, data_format=FIRST), (2, 5)),
    "conv2d channels first": lambda: (L.Conv2D(3, 3, padding="same", data_format=FIRST), (2, 4, 4)),
    "depthwise2d channels first": lambda: (L.DepthwiseConv2D(2, depth_multiplier=2, data_format=FIRST), (2, 4, 4)),
    "transposed2d channels first": lambda: (L.Conv2DTranspose(3, 2, strides=2, data_format=FIRST), (2, 3, 3)),
}


def runs_here(name):
    """TensorFlow cannot run convolutions whose channels come first on a CPU, whatever asks for them."""
    return not (BACKEND == "tensorflow" and "channels first" in name)


CASES = {name: make for name, make in CASES.items() if runs_here(name)}

DEEPER = [
    name
    for name in [
        "dense",
        "conv2d",
        "depthwise2d",
        "transposed2d",
        "conv2d channels first",
        "depthwise2d channels first",
    ]
    if runs_here(name)
]
"""Also behind a ReLU, and with a normalisation folded in."""

QUICK = ["dense", "conv2d"]
SAMPLE = [
    name
    for name in ["einsum", "causal", "conv2d in groups", "depthwise2d", "transposed2d", "conv2d channels first"]
    if runs_here(name)
]
"""One of each kind; the whole table is marked `full`."""


def check(name, **kwargs):
    layer, shape = CASES[name]()
    distances, _, _ = compare(Case(name, layer, shape, **kwargs))
    assert set(distances) == set(RULES)
    assert {rule: gap for rule, gap in distances.items() if not gap < 1e-5} == {}


@pytest.mark.parametrize("name", QUICK)
def test_rules_are_their_closed_form(name):
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLE)
def test_rules_are_their_closed_form_on_each_kind_of_layer(name):
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [{"nonnegative": True}, {"normalised": True}])
def test_behind_a_relu_and_with_a_normalisation_folded_in(kind):
    check("depthwise2d", **kind)


@pytest.mark.full
@pytest.mark.parametrize("name", [name for name in CASES if name not in QUICK + SAMPLE])
def test_rules_are_their_closed_form_on_every_layer(name):
    check(name)


@pytest.mark.full
@pytest.mark.parametrize(
    "kind", [{"nonnegative": True}, {"normalised": True}, {"nonnegative": True, "normalised": True}]
)
@pytest.mark.parametrize("name", DEEPER)
def test_every_pair_of_layers(name, kind):
    check(name, **kind)


@pytest.mark.parametrize("normalised", [False, True])
def test_the_ledger_closes_for_every_rule(normalised):
    _, explained, r = compare(Case("dense", L.Dense(4), (6,), normalised=normalised), layers="all")
    scale = np.abs(r).sum(1).max()
    assert (explained.ledger["unexplained"].abs() < 1e-5 * scale).all()
    left = sum(array.astype("float64").sum(1).mean() for array in explained.inputs.values())
    start = len(RULES) * r.sum(1).mean()
    assert abs(left + explained.ledger[ABSORBED].to_numpy().sum() - start) < 1e-5 * len(RULES) * scale
    # Each rule spoke for its own call: nothing is lost where nothing may be absorbed.
    assert any("folded" in step.rule for step in explained.trace) == normalised


ACTIVATIONS = {"tanh": "tanh", "sigmoid": "sigmoid", "silu": "swish", "softmax": "softmax", "relu": "relu"}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("zero_bias", [False, True])
def test_magnitude_leaves_out_what_a_saturated_activation_did_not_see(activation, zero_bias):
    layer = L.Dense(40, activation=activation)
    model = keras.Sequential([keras.Input((5,)), layer, L.Dense(1, use_bias=False, name="sum")])
    fill(layer)
    layer.kernel.assign(keras.ops.convert_to_numpy(layer.kernel) * 2.0)
    x = np.random.default_rng(0).normal(size=(3, 5)).astype("float32")
    rule = Magnitude(gates=True, zero_bias=zero_bias)
    preset = Preset(name="gated", dense=Epsilon(epsilon=0.0), attention="cp_lrp").with_rules({layer.name: rule})
    found = explain(model, x, method=preset, layers="all")
    upper = _before_activation(layer, x, found)
    w, b = (keras.ops.convert_to_numpy(v).astype("float64") for v in (layer.kernel, layer.bias))
    gate = reference_magnitude.GATES[ACTIVATIONS[activation]]
    expected = reference_magnitude.magnitude(x, w, b, upper, gate=gate, zero_bias=zero_bias).lower
    np.testing.assert_allclose(
        found.inputs["keras_tensor"] if "keras_tensor" in found.inputs else _only(found),
        expected,
        atol=1e-5 * np.linalg.norm(expected),
    )
    plain = reference_magnitude.magnitude(x, w, b, upper, zero_bias=zero_bias).lower
    # ReLU's range begins where its output, and so the relevance, ends.
    assert np.allclose(plain, expected) == (activation == "relu")


def _only(found):
    (array,) = found.inputs.values()
    return array


def _before_activation(layer, x, found):
    """What arrives at the pre-activation: the relevance of the output; a softmax has a rule of its own."""
    upper = found.layers[layer.name].astype("float64")
    if layer.activation.__name__ != "softmax":
        return upper
    w, b = (keras.ops.convert_to_numpy(v).astype("float64") for v in (layer.kernel, layer.bias))
    z = x @ w + b
    s = np.exp(z - z.max(1, keepdims=True))
    s /= s.sum(1, keepdims=True)
    return z * (upper - s * upper.sum(1, keepdims=True))


def test_the_magnitude_preset_uses_the_ranges():
    assert magnitude().dense == Magnitude(gates=True)
    assert magnitude().convolution == Magnitude(gates=True)


def test_pass_hands_relevance_on_unchanged():
    layer = L.Dense(4, name="square")
    model = keras.Sequential([keras.Input((4,)), layer])
    fill(layer)
    x = np.random.default_rng(0).uniform(0.5, 1, (2, 4)).astype("float32")
    found = explain(
        model, x, target=lambda y: keras.ops.sum(y, -1), method=Preset(name="p").with_rules({"square": Pass()})
    )
    np.testing.assert_allclose(_only(found), keras.ops.convert_to_numpy(model(x)), rtol=1e-4)


def test_pass_is_refused_where_shapes_differ():
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, name="narrow")])
    with pytest.raises(Unsupported, match="same position"):
        explain(model, np.ones((1, 4), "float32"), method=Preset(name="p", dense=Pass()))


@pytest.mark.parametrize("make", [lambda: AlphaBeta(alpha=1.0, beta=1.0), lambda: ZBox(1.0, 1.0)])
def test_rules_that_cannot_be_are_refused(make):
    with pytest.raises(ConfigError, match="expected"):
        make()
