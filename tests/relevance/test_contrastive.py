"""Two maps that travel together: against the float64 reference, layer by layer, and both conserved."""

import keras
import numpy as np
import pytest

from analyzer.backends.reference_magnitude import contrastive as reference
from analyzer.errors import ConfigError, Unsupported
from analyzer.relevance import presets
from analyzer.relevance.contrastive import Contrastive
from analyzer.relevance.explain import explain
from analyzer.relevance.rules import Epsilon

L = keras.layers
RNG = np.random.default_rng(3)


def filled(model, *, bias=0.3):
    """The model with weights that are the same on every backend."""
    rng = np.random.default_rng(5)
    for variable in model.weights:
        scale = bias if len(variable.shape) == 1 else 1 / np.sqrt(np.prod(variable.shape[:-1]))
        drawn = rng.normal(size=variable.shape) * scale
        # Scales and variances of normalisations are positive.
        variable.assign(np.abs(drawn) + 0.5 if variable.name in ("gamma", "moving_variance") else drawn)
    return model


def mlp(*sizes, activation="relu"):
    hidden = [L.Dense(size, activation) for size in sizes[1:-1]]
    return filled(keras.Sequential([L.Input((sizes[0],)), *hidden, L.Dense(sizes[-1])]))


def starts(output, target):
    own = np.zeros_like(output)
    own[np.arange(len(output)), target] = output[np.arange(len(output)), target]
    return own, output - own


def reference_maps(model, x, target):
    """Both maps at the input of a stack of Dense layers with ReLUs between them."""
    kernels = [[w.astype(np.float64) for w in layer.get_weights()] for layer in model.layers]
    activations = [x.astype(np.float64)]
    for i, (kernel, bias) in enumerate(kernels):
        z = activations[-1] @ kernel + bias
        activations.append(z if i == len(kernels) - 1 else np.maximum(z, 0))
    maps = starts(activations[-1], target)
    for (kernel, bias), a in zip(reversed(kernels), reversed(activations[:-1]), strict=True):
        maps = [passed.lower for passed in reference(a, kernel, bias, *maps)]
    return maps


def close(got, expected):
    assert np.linalg.norm(got - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("sign", ["any", "nonnegative"])
@pytest.mark.parametrize("target", [0, 3])
def test_a_dense_layer_is_the_reference(sign, target):
    model = mlp(7, 4)
    x = RNG.normal(size=(5, 7)).astype("float32")
    if sign == "nonnegative":
        # A ReLU before the layer: the rule then takes the two halves of the kernel, not the two products.
        inputs = L.Input((7,))
        model = keras.Model(inputs, filled_dense(L.ReLU()(inputs), model.layers[-1].get_weights()))
        x = np.abs(x)
    kernel, bias = (w.astype(np.float64) for w in model.layers[-1].get_weights())
    maps = [p.lower for p in reference(x, kernel, bias, *starts(x.astype(float) @ kernel + bias, target))]
    found = explain(model, x, target, "contrastive")
    (name,) = found.inputs
    close(found.inputs[name], maps[0])
    close(found.against[name], maps[1])
    assert not np.allclose(maps[0], maps[1])


def filled_dense(t, weights):
    layer = L.Dense(weights[0].shape[1])
    made = layer(t)
    layer.set_weights(weights)
    return made


@pytest.mark.parametrize("batch_size", [2, 5])
def test_a_whole_network_is_the_reference(batch_size):
    model = mlp(9, 12, 8, 5)
    x = RNG.normal(size=(5, 9)).astype("float32")
    target = np.array([0, 1, 2, 3, 4])
    supporting, opposing = reference_maps(model, x, target)
    found = explain(model, x, target, "contrastive", batch_size=batch_size)
    (name,) = found.inputs
    close(found.inputs[name], supporting)
    close(found.against[name], opposing)
    # The layers hold relevance at their outputs: the last one's is where both maps start.
    own, others = starts(np.asarray(keras.ops.convert_to_numpy(model(x))), target)
    last = model.layers[-1].name
    close(found.layers[last], own)
    close(found.layers_against[last], others)


def test_several_targets_at_once_are_single_runs():
    model = mlp(6, 9, 4)
    x = RNG.normal(size=(3, 6)).astype("float32")
    together = explain(model, x, [2, 0], "contrastive")
    (name,) = together.inputs
    for row, target in enumerate([2, 0]):
        alone = explain(model, x, target, "contrastive")
        np.testing.assert_allclose(together.inputs[name][row], alone.inputs[name], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(together.against[name][row], alone.against[name], rtol=1e-5, atol=1e-6)


def as_matrix(layer, shape):
    """A convolution without its bias as a matrix ``(inputs, outputs)``."""
    basis = np.eye(int(np.prod(shape)), dtype="float32").reshape(-1, *shape)
    return np.asarray(keras.ops.convert_to_numpy(layer(basis)), np.float64).reshape(len(basis), -1)


def test_a_convolution_is_the_reference():
    shape = (5, 4, 2)
    convolution = L.Conv2D(3, 3, strides=2, padding="same", use_bias=False)
    model = filled(keras.Sequential([L.Input(shape), convolution, L.Flatten(), L.Dense(3)]))
    x = RNG.normal(size=(4, *shape)).astype("float32")
    first, (kernel, bias) = as_matrix(convolution, shape), model.layers[-1].get_weights()
    flat = x.reshape(4, -1).astype(np.float64)
    hidden = flat @ first
    maps = [p.lower for p in reference(hidden, kernel, bias, *starts(hidden @ kernel + bias, 1))]
    maps = [p.lower for p in reference(flat, first, None, *maps)]
    found = explain(model, x, 1, "contrastive")
    (name,) = found.inputs
    close(found.inputs[name].reshape(4, -1), maps[0])
    close(found.against[name].reshape(4, -1), maps[1])


def cnn():
    inputs = L.Input((12, 12, 3))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(6, 3, padding="same")(inputs)))
    y = L.BatchNormalization()(L.Conv2D(6, 3, padding="same")(x))
    x = L.MaxPooling2D()(L.ReLU()(L.BatchNormalization()(L.Add()([x, y]))))
    x = L.AveragePooling2D(2)(L.Conv2D(6, 3, padding="same", activation="gelu")(x))
    return filled(keras.Model(inputs, L.Dense(4, "softmax")(L.GlobalAveragePooling2D()(x))))


def test_both_maps_are_conserved_in_every_layer_of_a_network_with_biases():
    x = RNG.normal(size=(3, 12, 12, 3)).astype("float32")
    found = explain(cnn(), x, method="contrastive")
    (name,) = found.inputs
    axes = (1, 2, 3)
    scale = np.abs(found.inputs[name]).sum(axes) + np.abs(found.against[name]).sum(axes)
    assert np.all(np.abs(found.inputs[name].sum(axes) - found.output) < 1e-4 * scale)
    others = next(reversed(found.layers_against.values())).sum(axis=-1)
    assert np.all(np.abs(found.against[name].sum(axes) - others) < 1e-4 * scale)
    assert others.shape == (3,)
    assert found.unexplained_fraction < 1e-4
    assert found.first_break(1e-4) is None
    # Both maps are in the books; biases take nothing.
    total = found.ledger.iloc[-1]
    assert total["relevance_in"] == pytest.approx(np.mean(found.output + others), rel=1e-5)
    assert found.ledger["absorbed_by_bias"].abs().max() == 0
    # Unlike the magnitude flow, whose biases do absorb.
    assert explain(cnn(), x, method="magnitude").ledger["absorbed_by_bias"].abs().max() > 0


@pytest.mark.parametrize("target", ["predicted", 0, 1])
def test_a_binary_output_speaks_against_itself(target):
    model = filled(keras.Sequential([L.Input((6,)), L.Dense(5, "tanh"), L.Dense(1, "sigmoid")]))
    x = RNG.normal(size=(8, 6)).astype("float32")
    found = explain(model, x, target, "contrastive")
    (name,) = found.inputs
    (of_last,) = [found.layers_against[one] for one in [model.layers[-1].name]]
    np.testing.assert_allclose(of_last[:, 0], -found.output, rtol=1e-5)
    np.testing.assert_allclose(found.against[name].sum(1), -found.output, rtol=1e-3, atol=1e-4)
    if target == "predicted":
        assert np.all(found.output > 0)


def test_other_tokens_of_a_position_and_other_classes_of_a_mask_are_the_alternatives():
    sequence = filled(keras.Sequential([L.Input((4, 3)), L.Dense(5)]))
    x = RNG.normal(size=(2, 4, 3)).astype("float32")
    logits = np.asarray(keras.ops.convert_to_numpy(sequence(x)))
    found = explain(sequence, x, (2, 1), "contrastive")
    expected = np.zeros_like(logits)
    expected[:, 2] = logits[:, 2]
    expected[:, 2, 1] = 0
    np.testing.assert_allclose(found.layers_against[sequence.layers[-1].name], expected, rtol=1e-5)
    masks = filled(keras.Sequential([L.Input((6, 6, 2)), L.Conv2D(3, 1, activation="softmax")]))
    x = RNG.normal(size=(2, 6, 6, 2)).astype("float32")
    probability = np.asarray(keras.ops.convert_to_numpy(masks(x)))
    found = explain(masks, x, 1, "contrastive", threshold=0.4)
    inside = probability[..., 1] > 0.4
    last = masks.layers[-1].name
    assert 0 < inside.sum() < inside.size
    assert np.array_equal(found.layers[last][..., 1] != 0, inside)
    assert np.all(found.layers[last][..., [0, 2]] == 0)
    assert np.array_equal((found.layers_against[last][..., [0, 2]] != 0).any(-1), inside)
    assert np.all(found.layers_against[last][..., 1] == 0)
    single = filled(keras.Sequential([L.Input((6, 6, 2)), L.Conv2D(1, 1, activation="sigmoid")]))
    found = explain(single, x, method="contrastive")
    np.testing.assert_allclose(next(iter(found.layers_against.values())), -next(iter(found.layers.values())), rtol=1e-5)


def test_a_given_start_scales_both_maps_and_keeps_the_signs_of_the_alternatives():
    model = mlp(6, 8, 3)
    x = RNG.normal(size=(4, 6)).astype("float32")
    plain = explain(model, x, 1, "contrastive")
    begun = explain(model, x, 1, "contrastive", start=2.0, multiplier=3.0)
    (name,) = plain.inputs
    np.testing.assert_allclose(begun.output, 6.0, rtol=1e-4)
    factor = (6 / np.abs(plain.output))[:, None]
    last = model.layers[-1].name
    np.testing.assert_allclose(begun.layers_against[last], factor * plain.layers_against[last], rtol=1e-3)
    positive = plain.output > 0
    np.testing.assert_allclose(
        begun.against[name][positive], (factor * plain.against[name])[positive], rtol=1e-3, atol=1e-4
    )


def test_the_bias_decides_the_side():
    """One unit, contributions 2 and -1: with t > 0 the larger map gets the 2, with a bias of -5 the other one."""
    model = keras.Sequential([L.Input((2,)), L.Dense(1, name="unit"), L.Dense(2, use_bias=False)])
    model.layers[1].set_weights([np.array([[1.0, -0.5]], "float32")])
    x = np.array([[2.0, 1.0]], "float32")
    for bias, larger in ((0.0, 0), (-5.0, 1)):
        model.layers[0].set_weights([np.array([[1.0], [-1.0]], "float32"), np.array([bias], "float32")])
        found = explain(model, x, 0, "contrastive")
        (name,) = found.inputs
        # t = 1: for 1, against -0.5; t = -4: for -4, against 2: the larger is what is against.
        wins, loses = (found.inputs, found.against) if bias == 0 else (found.against, found.inputs)
        assert np.flatnonzero(wins[name][0]).tolist() == [larger]
        assert np.flatnonzero(loses[name][0]).tolist() == [1 - larger]


def test_what_has_no_contributions_stays_in_its_bias():
    model = keras.Sequential([L.Input((2,)), L.Dense(2, name="hidden"), L.Dense(2, use_bias=False)])
    model.layers[0].set_weights([np.ones((2, 2), "float32"), np.array([0.5, 1.0], "float32")])
    model.layers[1].set_weights([np.eye(2, dtype="float32")])
    found = explain(model, np.zeros((1, 2), "float32"), 0, "contrastive")
    assert found.ledger.loc["hidden", "absorbed_by_bias"] == pytest.approx(1.5)
    assert found.unexplained_fraction < 1e-6
    bare = explain(model, np.zeros((1, 2), "float32"), 0, presets.contrastive().with_zero_bias())
    assert bare.ledger.loc["hidden", "absorbed_by_bias"] == 0
    assert bare.ledger.loc["hidden", "absorbed_by_stabiliser"] == pytest.approx(1.5)


def test_tokens_and_attention_have_two_maps():
    tokens = L.Input((5,), dtype="int32")
    x = L.Embedding(11, 8)(tokens)
    x = L.Add()([x, L.MultiHeadAttention(2, 4)(x, x)])
    model = filled(keras.Model(tokens, L.Dense(3)(L.GlobalAveragePooling1D()(L.LayerNormalization()(x)))))
    found = explain(model, RNG.integers(0, 11, (3, 5)), method="contrastive")
    (name,) = found.against
    assert found.inputs[name].shape == found.against[name].shape == (3, 5)
    assert found.unexplained_fraction < 1e-3


@pytest.mark.parametrize("kind", ["SimpleRNN", "GRU", "LSTM"])
@pytest.mark.slow
def test_recurrent_layers_hand_on_both_maps(kind):
    model = filled(keras.Sequential([L.Input((4, 3)), getattr(L, kind)(5), L.Dense(3)]))
    found = explain(model, RNG.normal(size=(2, 4, 3)).astype("float32"), method="contrastive")
    (name,) = found.inputs
    assert found.unexplained_fraction < 1e-4
    assert not np.allclose(found.inputs[name], found.against[name])


@pytest.mark.once
def test_what_has_no_alternatives_is_refused():
    x = RNG.normal(size=(2, 6)).astype("float32")
    regression = filled(keras.Sequential([L.Input((6,)), L.Dense(1)]))
    with pytest.raises(ConfigError, match="needs classes"):
        explain(regression, x, method="contrastive")
    with pytest.raises(ConfigError, match="needs classes"):
        explain(mlp(6, 3), x, lambda y: y[:, 0], "contrastive")
    with pytest.raises(ConfigError, match="needs classes"):
        explain(mlp(6, 4), x, task="box", method="contrastive")
    with pytest.raises(ConfigError, match="contrastive=True"):
        explain(mlp(6, 3), x, method=presets.epsilon().with_rules({"Dense": Contrastive()}))
    fixed = filled(keras.Sequential([L.Input(batch_shape=(2, 6)), L.Dense(3)]))
    with pytest.raises(Unsupported, match="fixes its batch size to 2"):
        explain(fixed, x, method="contrastive")
    inputs = L.Input((4, 6))
    turned = keras.Model(inputs, L.Dense(3)(L.Dense(3)(inputs[:, :1])[:, 0]))
    assert explain(turned, RNG.normal(size=(2, 4, 6)).astype("float32"), method="contrastive").against is not None


def test_other_rules_take_both_maps_by_themselves():
    model = mlp(6, 8, 3)
    x = RNG.normal(size=(4, 6)).astype("float32")
    (name,) = explain(model, x).inputs
    by_value = presets.contrastive().with_rules({"Dense": Epsilon()})
    found = explain(model, x, 0, by_value)
    alone = [explain(model, x, k, "epsilon").inputs[name] for k in range(3)]
    np.testing.assert_allclose(found.inputs[name], alone[0], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found.against[name], alone[1] + alone[2], rtol=1e-3, atol=1e-5)


def test_samples_that_are_not_on_the_first_axis_are_refused():
    class Turned(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner, self.last = L.Dense(3), L.Dense(3)

        def call(self, x):
            return self.last(keras.ops.transpose(self.inner(keras.ops.transpose(x, (1, 0, 2))), (1, 0, 2))[:, 0])

    model = Turned()
    x = RNG.normal(size=(3, 5, 4)).astype("float32")
    model(x)
    with pytest.raises(Unsupported, match="first axis"):
        explain(filled(model), x, method="contrastive")
