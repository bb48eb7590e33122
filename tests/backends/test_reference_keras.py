"""What the oracle explains is what Keras computes: attention, LSTM and GRU forwards, and linear maps of layers."""

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose

from analyzer.backends import engine
from analyzer.backends import reference as linear
from analyzer.backends import reference_attention as attention
from analyzer.backends import reference_recurrent as recurrent

# That Keras computes alike on its backends is not what is tested here.
pytestmark = pytest.mark.once

X = np.random.default_rng(0).normal(size=(2, 5, 6)).astype("float32")


def randomised(layer, *shapes):
    """The built layer with every variable drawn anew, biases too; its weights as arrays by name."""
    layer.build(*shapes)
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    return layer


def numpy(x):
    return engine().to_numpy(x)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("mask", [None, [[1, 1, 1, 1, 1], [1, 0, 1, 1, 0]]], ids=["all", "masked"])
class TestRecurrent:
    def test_lstm(self, use_bias, mask):
        layer = randomised(keras.layers.LSTM(3, use_bias=use_bias, return_sequences=True), X.shape)
        mask = None if mask is None else np.array(mask, dtype=bool)
        steps = recurrent.lstm_steps(X, *[*layer.get_weights(), None][:3], mask=mask)
        expected = numpy(layer(X, mask=mask))
        assert_allclose(np.stack([s.h_new for s in steps], axis=1), expected, atol=2e-5)

    @pytest.mark.parametrize("reset_after", [True, False])
    def test_gru(self, use_bias, mask, reset_after):
        layer = keras.layers.GRU(3, use_bias=use_bias, reset_after=reset_after, return_sequences=True)
        layer = randomised(layer, X.shape)
        mask = None if mask is None else np.array(mask, dtype=bool)
        steps = recurrent.gru_steps(X, *[*layer.get_weights(), None][:3], mask=mask, reset_after=reset_after)
        expected = numpy(layer(X, mask=mask))
        assert_allclose(np.stack([s.h_new for s in steps], axis=1), expected, atol=2e-5)


def attention_weights(query, key, value, output):
    """From Keras' flat lists of kernel and, where there is one, bias."""
    found = {}
    for name, weights in {"query": query, "key": key, "value": value, "output": output}.items():
        found |= dict(zip((name, f"{name}_bias"), weights, strict=False))
    return attention.AttentionWeights(**found)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kv_heads", [None, 2])
def test_attention(use_bias, causal, kv_heads):
    if kv_heads is None:
        layer = keras.layers.MultiHeadAttention(4, 3, use_bias=use_bias)
    else:
        layer = keras.layers.GroupQueryAttention(3, 4, kv_heads, use_bias=use_bias)
    layer = randomised(layer, X.shape, X.shape, X.shape)
    weights = layer.get_weights()
    each = 2 if use_bias else 1
    weights = attention_weights(*(weights[k : k + each] for k in range(0, 4 * each, each)))
    mask = np.tril(np.ones((5, 5), dtype=bool)) if causal else None
    found = attention.attention_output(X, X, X, weights, mask=mask)
    assert_allclose(found, numpy(layer(X, X, X, use_causal_mask=causal)), atol=1e-4)


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Dense(3),
        keras.layers.Conv1D(3, 3, strides=2, padding="same"),
        keras.layers.Conv1DTranspose(3, 3, strides=2),
        keras.layers.AveragePooling1D(2),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_linear_map_of_a_layer(layer):
    layer = randomised(layer, X.shape)
    w, b = linear.linear_map(lambda x: numpy(layer(x.astype("float32"))), X.shape[1:])
    expected = numpy(layer(X))
    assert_allclose((X.reshape(2, -1) @ w + b).reshape(expected.shape), expected, atol=1e-5)
