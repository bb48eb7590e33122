"""Operations per layer against closed forms, against known networks, and on JAX against XLA's own count."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from analyzer.backends import engine
from analyzer.inspection import open_model
from analyzer.inspection.cost import describe_cost
from analyzer.inspection.flops import CallShapes, count_flops
from analyzer.inspection.flops_shapes import Uncountable, einsum_flops, size

L = keras.layers


def functional(layer, *shapes, dtype="float32"):
    inputs = [keras.Input(shape, dtype=dtype) for shape in shapes]
    return keras.Model(inputs, layer(*inputs) if isinstance(layer, L.MultiHeadAttention) else layer(_one(inputs)))


def _one(inputs):
    return inputs[0] if len(inputs) == 1 else inputs


def flops_of(model):
    found = describe_cost(open_model(model), None)
    assert found.uncounted == {}
    return found.flops


# Worked out by hand: 2 per multiply-add, 1 per bias, 1 per activation, softmax 5.
CLOSED = {
    "dense": (lambda: L.Dense(5, activation="relu"), [(7,)], 2 * 7 * 5 + 5 + 5),
    "dense on positions": (lambda: L.Dense(5), [(3, 7)], 3 * (2 * 7 * 5 + 5)),
    "dense without bias, softmax": (lambda: L.Dense(5, use_bias=False, activation="softmax"), [(7,)], 70 + 25),
    "einsum dense": (lambda: L.EinsumDense("abc,cde->abde", (3, 4, 5), bias_axes="de"), [(3, 7)], 3 * 20 * 15),
    "einsum dense, ellipsis": (lambda: L.EinsumDense("...x,xy->...y", 5), [(7,)], 70),
    "conv": (lambda: L.Conv2D(4, 3), [(8, 9, 5)], 6 * 7 * 4 * (2 * 9 * 5 + 1)),
    "conv, strided and same": (lambda: L.Conv2D(4, 3, strides=2, padding="same"), [(8, 8, 5)], 4 * 4 * 4 * 91),
    "conv, groups": (lambda: L.Conv2D(4, 3, groups=2, use_bias=False), [(8, 8, 6)], 36 * 4 * 2 * 9 * 3),
    "conv 1d, dilated": (lambda: L.Conv1D(4, 3, dilation_rate=2), [(10, 5)], 6 * 4 * (2 * 3 * 5 + 1)),
    "conv 3d": (lambda: L.Conv3D(2, 2), [(4, 4, 4, 3)], 27 * 2 * (2 * 8 * 3 + 1)),
    "depthwise": (lambda: L.DepthwiseConv2D(3, depth_multiplier=2), [(8, 8, 3)], 36 * 6 * (2 * 9 + 1)),
    "separable": (lambda: L.SeparableConv2D(4, 3), [(8, 8, 3)], 36 * 3 * 2 * 9 + 36 * 4 * (2 * 3 + 1)),
    "transpose": (lambda: L.Conv2DTranspose(4, 2, strides=2), [(5, 5, 3)], 25 * 3 * 2 * 4 * 4 + 100 * 4),
    "embedding": (lambda: L.Embedding(11, 4), [(6,)], 0),
    "simple rnn": (lambda: L.SimpleRNN(3), [(6, 4)], 6 * (2 * 3 * (4 + 3) + 9)),
    "lstm": (lambda: L.LSTM(3), [(6, 4)], 6 * (2 * 12 * (4 + 3) + 17 * 3)),
    "gru": (lambda: L.GRU(3, return_sequences=True), [(6, 4)], 6 * (2 * 9 * (4 + 3) + 17 * 3)),
    "stacked cells": (
        lambda: L.RNN([L.SimpleRNNCell(3), L.SimpleRNNCell(2)]),
        [(6, 4)],
        6 * (2 * 3 * 7 + 9 + 2 * 2 * 5 + 6),
    ),
    "bidirectional, sum": (lambda: L.Bidirectional(L.SimpleRNN(3), merge_mode="sum"), [(6, 4)], 12 * 51 + 3),
    "time distributed": (lambda: L.TimeDistributed(L.Dense(5)), [(6, 4)], 6 * (2 * 4 * 5 + 5)),
    "conv lstm": (lambda: L.ConvLSTM1D(2, 3), [(5, 8, 4)], 5 * 6 * 2 * (8 * 3 * (4 + 2) + 17)),
    "conv lstm, sequences": (lambda: L.ConvLSTM1D(2, 3, return_sequences=True), [(5, 8, 4)], 60 * (24 * 6 + 17)),
    "batch normalisation": (lambda: L.BatchNormalization(), [(4, 4, 3)], 2 * 48),
    "layer normalisation": (lambda: L.LayerNormalization(), [(4, 3)], 7 * 12),
    "group normalisation, no shift": (lambda: L.GroupNormalization(3, center=False), [(4, 4, 3)], 6 * 48),
    "max pooling": (lambda: L.MaxPooling2D(2), [(8, 8, 3)], 8 * 8 * 3),
    "global pooling": (lambda: L.GlobalAveragePooling2D(), [(8, 8, 3)], 192),
    "add of three": (lambda: L.Add(), [(4,), (4,), (4,)], 8),
    "average": (lambda: L.Average(), [(4,), (4,)], 8),
    "concatenate": (lambda: L.Concatenate(), [(4,), (5,)], 0),
    "dot": (lambda: L.Dot(axes=-1), [(4,), (4,)], 8),
    "softmax": (lambda: L.Softmax(), [(4,)], 20),
    "relu": (lambda: L.ReLU(), [(4,)], 4),
    "dropout": (lambda: L.Dropout(0.5), [(4,)], 0),
    "up-sampling": (lambda: L.UpSampling2D(), [(4, 4, 3)], 0),
    # Projections of 5 query and 6 value positions, then the products over 2 heads of 3.
    "attention": (
        lambda: L.MultiHeadAttention(2, 3, use_bias=False),
        [(5, 8), (6, 8)],
        (5 + 6 + 6) * 8 * 6 * 2 + 5 * 6 * 8 * 2 + 2 * (2 * 5 * 6) * (3 + 3) + 5 * 6 + 5 * (2 * 5 * 6),
    ),
    "dot-product attention": (lambda: L.Attention(), [(5, 8), (6, 8)], 30 * (2 * 8 + 2 * 8 + 5)),
}


@pytest.mark.parametrize("case", CLOSED)
def test_closed_forms(case):
    make, shapes, expected = CLOSED[case]
    dtype = "int32" if case == "embedding" else "float32"
    assert flops_of(functional(make(), *shapes, dtype=dtype)) == expected


def test_grouped_query_attention_counts_every_query_head():
    layer = L.GroupQueryAttention(3, 4, 2, use_bias=False)
    a = keras.Input((5, 8))
    projections = 2 * 5 * 8 * 3 * (4 + 2 + 2) + 2 * 5 * 12 * 8
    scores = 4 * 5 * 5
    counted = flops_of(keras.Model(a, layer(a, a)))
    assert counted == projections + 2 * scores * 6 + 5 * 12 + 5 * scores


def test_a_reversible_embedding_counts_the_product_with_the_vocabulary():
    layer = L.ReversibleEmbedding(11, 4)
    tokens = CallShapes(inputs=((1, 6),), outputs=((1, 6, 4),))
    scores = CallShapes(inputs=((1, 6, 4),), outputs=((1, 6, 11),))
    assert (count_flops(layer, tokens), count_flops(layer, scores)) == (0, 2 * 4 * 6 * 11)


def test_operations_of_a_functional_model():
    a, b = keras.Input((3, 4)), keras.Input((4, 5))
    product = keras.ops.matmul(a, b)
    scaled = keras.ops.relu(product * 2.0)
    total = keras.ops.sum(keras.ops.einsum("bij,bjk->bik", scaled, keras.ops.transpose(scaled, (0, 2, 1))), axis=-1)
    assert flops_of(keras.Model([a, b], total)) == 2 * 4 * 15 + 15 + 15 + 2 * 5 * 9 + 9


def test_a_lambda_and_an_overridden_layer_are_named_and_never_counted_as_nothing():
    class Twice(L.Dense):
        def call(self, x):
            return super().call(x) + super().call(x)

    a = keras.Input((4,))
    model = keras.Model(a, L.Dense(2, name="plain")(Twice(3, name="twice")(L.Lambda(lambda x: x, name="own")(a))))
    found = describe_cost(open_model(model), None)
    assert found.uncounted == {
        "own": "there is no rule for the class Lambda",
        "twice": "there is no rule for the class Twice",
    }
    assert [layer.flops for layer in found.layers] == [None, None, 2 * 3 * 2 + 2]
    assert found.flops == 14


def test_an_einstein_sum_of_three_is_refused_and_unknown_sizes_too():
    with pytest.raises(Uncountable, match="order of the products"):
        einsum_flops("ab,bc,cd->ad", [(2, 3), (3, 4), (4, 5)], (2, 5))
    with pytest.raises(Uncountable, match="not known before"):
        size((None, 3))


def test_flops_are_for_one_sample_also_where_the_model_fixes_its_batch():
    free, fixed = keras.Input((7,)), keras.Input(batch_shape=(4, 7))
    counted = [flops_of(keras.Model(x, L.Dense(5)(x))) for x in (free, fixed)]
    assert counted == [75, 75]


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize(("name", "low", "high"), [("ResNet50", 7.7e9, 8.2e9), ("MobileNetV2", 0.59e9, 0.64e9)])
def test_networks_whose_operations_are_published(name, low, high):
    model = getattr(keras.applications, name)(weights=None, input_shape=(224, 224, 3))
    assert low < flops_of(model) < high


def xla_flops(model, x):
    """What XLA says of the compiled program; transcendental functions it counts apart."""
    state = [*model.trainable_variables, *model.non_trainable_variables]

    def forward(values, batch):
        with keras.StatelessScope(state_mapping=list(zip(state, values, strict=True))):
            return model(batch, training=False)

    lowered = engine().jit(forward).lower([v.value for v in state], x)
    return lowered.compile().cost_analysis()["flops"]


def network(kind):
    if kind == "conv":
        layers = [L.Conv2D(16, 3), L.BatchNormalization(), L.ReLU(), L.Conv2D(32, 3, groups=2), L.Flatten(), L.Dense(9)]
        return keras.Sequential([keras.Input((20, 20, 3)), *layers])
    if kind == "dense":
        return keras.Sequential([keras.Input((64,)), *(L.Dense(128, activation="relu") for _ in range(3))])
    a = keras.Input((32, 48))
    return keras.Model(a, L.MultiHeadAttention(4, 12)(a, a))


if keras.backend.backend() == "jax":

    @pytest.mark.parametrize("kind", ["conv", "dense", "attention"])
    def test_xla_counts_the_same(kind):
        model = network(kind)
        x = np.zeros((1, *model.inputs[0].shape[1:]), dtype="float32")
        assert flops_of(model) == pytest.approx(xla_flops(model, x), rel=0.03)
