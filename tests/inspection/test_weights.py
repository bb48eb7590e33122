"""Reading the variables of opened models: each once, in its role, as the layer uses it."""

import random

import keras
import numpy as np
import pytest

from analyzer.backends import engine
from analyzer.inspection import open_model
from analyzer.inspection.initial_scale import initial_rms
from analyzer.inspection.kernels import classify
from analyzer.inspection.logical_weights import read, saturated_share
from analyzer.inspection.weights import describe_weights

L, K = keras.layers, keras.initializers
ops = keras.ops


def described(model, **options):
    return describe_weights(open_model(model), engine(), **options)


def tensors(model, **options):
    return {tensor.id: tensor for layer in described(model, **options).layers for tensor in layer.tensors}


def attention():
    x = keras.Input((6, 8))
    y = L.MultiHeadAttention(num_heads=4, key_dim=3, name="mha")(x, x)
    return keras.Model(x, L.Dense(2, name="head")(y))


def recurrent():
    return keras.Sequential([L.Input((5, 3)), L.Bidirectional(L.LSTM(4)), L.Dense(2)])


def convolutions():
    return keras.Sequential(
        [
            L.Input((8, 8, 4)),
            L.Conv2D(8, 3, groups=2),
            L.BatchNormalization(),
            L.DepthwiseConv2D(3),
            L.SeparableConv2D(5, 2),
            L.Conv2DTranspose(3, 2),
        ]
    )


def shared():
    layer, x, y = L.Dense(3, name="shared"), keras.Input((3,)), keras.Input((3,))
    return keras.Model([x, y], L.Add()([layer(x), layer(layer(y))]))


class Custom(L.Layer):
    """Experts in one tensor, a bias of two axes, and a plain matrix under another name."""

    def build(self, shape):
        self.experts = self.add_weight(name="experts_gate", shape=(3, shape[-1], 5), initializer="glorot_uniform")
        self.head_bias = self.add_weight(name="head_bias", shape=(2, 5), initializer="zeros")
        self.w = self.add_weight(name="w", shape=(shape[-1], 4), initializer="glorot_uniform")

    def call(self, x):
        return ops.matmul(x, self.w)


@pytest.mark.parametrize("make", [attention, recurrent, convolutions, shared])
def test_each_variable_once_and_totals_as_keras_counts(make):
    model = make()
    found = described(model)
    all_tensors = [tensor for layer in found.layers for tensor in layer.tensors]
    assert found.total == sum(tensor.parameters for tensor in all_tensors) == model.count_params()
    assert len({tensor.id for tensor in all_tensors}) == len(all_tensors) == len(model.weights)
    assert sum(t.parameters for t in all_tensors if t.trainable) == sum(
        int(np.prod(w.shape)) for w in model.trainable_weights
    )


def test_nothing_is_changed():
    model = convolutions()
    before = model.get_weights()
    keras.utils.set_random_seed(7)
    expected = random.random(), np.random.random(), ops.convert_to_numpy(keras.random.normal((3,)))  # noqa: NPY002, S311
    keras.utils.set_random_seed(7)
    described(model)
    after = random.random(), np.random.random(), ops.convert_to_numpy(keras.random.normal((3,)))  # noqa: NPY002, S311
    assert after[:2] == expected[:2]
    assert np.array_equal(after[2], expected[2])
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_attention_kernels_are_matrices_of_inputs_by_heads_and_query_bias_is_a_bias():
    model = attention()
    found = tensors(model)
    query = next(t for name, t in found.items() if name.endswith("query/kernel"))
    output = next(t for name, t in found.items() if name.endswith("attention_output/kernel"))
    biases = [t for name, t in found.items() if name.endswith("query/bias")]
    weights = {w.path.split("/")[-2] + "/" + w.name: ops.convert_to_numpy(w) for w in model.weights}
    assert query.shape == (8, 4, 3)
    assert query.channels == 12
    assert query.spectral_norm == pytest.approx(np.linalg.norm(weights["query/kernel"].reshape(8, 12), 2), rel=1e-6)
    assert output.spectral_norm == pytest.approx(
        np.linalg.norm(weights["attention_output/kernel"].reshape(12, 8), 2), rel=1e-6
    )
    assert [(b.role, b.shape, b.spectral_norm) for b in biases] == [("bias", (4, 3), None)]


def test_recurrent_kernels_of_both_directions_are_described():
    roles = [tensor.role for tensor in tensors(recurrent()).values()]
    assert roles.count("recurrent_kernel") == 2
    assert roles.count("kernel") == 3


def test_norm_of_an_einsum_with_a_batch_letter_is_the_largest_block():
    layer = L.EinsumDense("bnd,ndo->bno", output_shape=(3, 5))
    model = keras.Sequential([L.Input((3, 4)), layer])
    kernel = ops.convert_to_numpy(layer.kernel)
    (found,) = (t for t in tensors(model).values() if t.role == "kernel")
    assert found.spectral_norm == pytest.approx(max(np.linalg.norm(block, 2) for block in kernel), rel=1e-6)
    assert found.full_rank == 4


def test_blocks_of_grouped_depthwise_and_transposed_kernels():
    model = convolutions()
    found = {t.id: t for t in tensors(model).values()}
    axes = {
        type(layer).__name__: classify(layer, layer.weights[0].name, tuple(layer.weights[0].shape))[1]
        for layer in model.layers
        if layer.weights
    }
    assert axes["Conv2D"].matrices(np.zeros((3, 3, 2, 8))).shape == (2, 18, 4)
    assert axes["DepthwiseConv2D"].matrices(np.zeros((3, 3, 8, 1))).shape == (8, 9, 1)
    assert axes["Conv2DTranspose"].matrices(np.zeros((2, 2, 3, 5))).shape == (1, 20, 3)
    grouped = np.arange(2 * 8.0).reshape(1, 1, 2, 8)
    assert np.array_equal(axes["Conv2D"].matrices(grouped)[1], grouped[0, 0, :, 4:])
    assert next(t for t in found.values() if t.layer_type == "BatchNormalization" and t.name == "gamma").channels == 8


def test_custom_layers_are_read_by_shape_with_the_assumption_said():
    found = {t.name: t for t in tensors(keras.Sequential([L.Input((6,)), Custom()])).values()}
    assert found["head_bias"].role == "bias"
    assert found["w"].full_rank == 4
    assert found["experts_gate"].channels == 15
    assert "assumed" in found["experts_gate"].operator_norm.method
    assert "assumed" not in found["w"].operator_norm.method


INITIALIZERS = [
    K.GlorotUniform(),
    K.GlorotNormal(),
    K.HeNormal(),
    K.LecunUniform(),
    K.VarianceScaling(scale=2.0, mode="fan_out", distribution="untruncated_normal"),
    K.RandomNormal(mean=0.1, stddev=0.2),
    K.TruncatedNormal(stddev=0.3),
    K.RandomUniform(-0.1, 0.4),
    K.Orthogonal(gain=2.0),
    K.Constant(0.7),
    K.Ones(),
    K.Zeros(),
]


@pytest.mark.parametrize("initializer", INITIALIZERS, ids=lambda i: type(i).__name__)
def test_initial_rms_is_what_the_initializer_draws(initializer):
    layer = L.Dense(120, kernel_initializer=initializer)
    layer.build((None, 90))
    drawn = ops.convert_to_numpy(layer.kernel)
    rms, name = initial_rms(layer, "kernel", (90, 120))
    assert rms == pytest.approx(np.sqrt(np.mean(drawn.astype(np.float64) ** 2)), rel=0.03)
    assert name == type(initializer).__name__


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (L.Conv2D(32, 3), (9, 9, 16)),
        (L.DepthwiseConv2D(3), (9, 9, 200)),
        (L.SeparableConv2D(64, 3), (9, 9, 60)),
        (L.Conv2DTranspose(32, 3), (9, 9, 16)),
        (L.EinsumDense("abc,cde->abde", output_shape=(None, 8, 30)), (4, 60)),
        (L.EinsumDense("abcd,cde->abe", output_shape=(None, 60)), (4, 8, 30)),
        (L.LSTMCell(32), (40,)),
        (L.Embedding(300, 40), ()),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, L.Layer) else None,
)
def test_initial_rms_of_every_kind_of_kernel(layer, shape):
    layer = type(layer).from_config(layer.get_config())
    keras.utils.set_random_seed(3)
    layer.build((None, *shape))
    kernels = [w for w in layer.weights if w.name != "bias"]
    for variable in kernels:
        drawn = ops.convert_to_numpy(variable).astype(np.float64)
        rms, _ = initial_rms(layer, variable.name, drawn.shape)
        assert rms == pytest.approx(np.sqrt(np.mean(drawn**2)), rel=0.06), variable.name


def quantized(layer, example, mode, block_size=None):
    layer(example)
    rng = np.random.default_rng(0)
    layer.set_weights([rng.normal(size=w.shape).astype("float32") for w in layer.get_weights()])
    original = layer.get_weights()[0]
    if mode == "int4":
        config = keras.quantizers.Int4QuantizationConfig(block_size=block_size, activation_quantizer=None)
        layer.quantize("int4", config=config)
    else:
        layer.quantize(mode)
    return layer, original


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "block_size"), [("int8", None), ("int4", -1), ("int4", 4)])
@pytest.mark.parametrize("kind", ["dense", "einsum", "output einsum", "embedding", "reversible"])
def test_quantized_kernels_are_read_as_the_layer_uses_them(kind, mode, block_size):
    eye = np.eye(10, dtype="float32")
    layer, example = {
        "dense": (L.Dense(7), eye),
        "einsum": (L.EinsumDense("bi,ihd->bhd", output_shape=(3, 5), bias_axes="hd"), eye),
        "output einsum": (L.EinsumDense("bhd,hdo->bo", output_shape=7), eye.reshape(10, 2, 5)),
        "embedding": (L.Embedding(10, 9), np.arange(10)),
        "reversible": (L.ReversibleEmbedding(10, 9, tie_weights=False), np.arange(10)),
    }[kind]
    layer, original = quantized(layer, example, mode, block_size)
    stored = next(w for w in layer.weights if w.name in ("kernel", "embeddings"))
    found = read(layer, stored.name, stored)
    zero = ops.convert_to_numpy(layer(np.zeros_like(example))) if "bias" in [w.name for w in layer.weights] else 0.0
    used = ops.convert_to_numpy(layer(example)) - zero
    assert found.read_as == "dequantized"
    assert found.values.shape == original.shape
    np.testing.assert_allclose(found.values.reshape(used.shape), used, atol=2e-5)
    # How close codes come to the original is the quantiser's business; that they mean it is ours.
    error = np.linalg.norm(found.values - original) / np.linalg.norm(original)
    assert error < (0.01 if mode == "int8" else 0.3)


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "block_size"), [("int8", None), ("int4", -1), ("int4", 4)])
def test_quantized_reverse_embeddings_are_read_too(mode, block_size):
    layer = L.ReversibleEmbedding(10, 9, tie_weights=False)
    layer, _ = quantized(layer, np.arange(10), mode, block_size)
    found = read(layer, "reverse_embeddings", layer.reverse_embeddings)
    used = ops.convert_to_numpy(layer(np.eye(9, dtype="float32"), reverse=True))
    np.testing.assert_allclose(found.values, used, rtol=0.02, atol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
def test_quantized_model_counts_and_norms_are_those_of_its_weights(mode):
    model = keras.Sequential([L.Input((16,)), L.Dense(16, name="a"), L.Dense(4, name="b")])
    before = tensors(model)["a/kernel"]
    model.quantize(mode)
    after = tensors(model)
    assert sum(t.parameters for t in after.values()) == model.count_params()
    assert after["a/kernel"].l2 == pytest.approx(before.l2, rel=0.1)
    assert after["a/kernel"].shape == (16, 16)
    assert {t.role for name, t in after.items() if "scale" in name or "amax" in name} == {"quantization"}


def test_adapters_are_merged_on_request_only():
    model = keras.Sequential([L.Input((6,)), L.Dense(5, name="a")])
    layer = model.layers[0]
    base = ops.convert_to_numpy(layer.kernel)
    layer.enable_lora(2)
    layer.lora_kernel_b.assign(np.ones((2, 5), "float32"))
    merged = ops.convert_to_numpy(layer.kernel)
    apart, together = tensors(model), tensors(model, merge_lora=True)
    assert apart["a/kernel"].l2 == pytest.approx(np.linalg.norm(base), rel=1e-6)
    assert together["a/kernel"].l2 == pytest.approx(np.linalg.norm(merged), rel=1e-6)
    assert together["a/kernel"].read_as == "stored + LoRA"
    assert apart["a/lora_kernel_a"].role == "lora"
    assert sum(t.parameters for t in together.values()) == model.count_params()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_float16"])
def test_half_precision_is_read_in_float32(dtype):
    model = keras.Sequential([L.Input((6,), dtype="float32"), L.Dense(5, name="a", dtype=dtype)])
    kernel = np.asarray(ops.convert_to_numpy(ops.cast(model.layers[0].kernel, "float32")))
    found = tensors(model)["a/kernel"]
    assert found.l2 == pytest.approx(np.linalg.norm(kernel), rel=1e-6)
    assert found.spectral_norm == pytest.approx(np.linalg.norm(kernel, 2), rel=1e-5)
    assert found.dtype == ("float32" if dtype == "mixed_float16" else dtype)


def test_saturation_counts_what_clipping_put_at_the_end_of_the_range():
    layer = L.Dense(8)
    layer.build((None, 50))
    layer.kernel.assign(np.random.default_rng(0).uniform(-1, 1, size=(50, 8)).astype("float32"))
    layer.quantize("int8")
    kernel = next(w for w in layer.weights if w.name == "kernel")
    assert saturated_share(read(layer, "kernel", kernel), kernel, 8) < 0.02
    kernel.assign(np.where(np.arange(50)[:, None] < 20, 127, ops.convert_to_numpy(kernel)).astype("int8"))
    assert saturated_share(read(layer, "kernel", kernel), kernel, 8) == pytest.approx(0.4, abs=0.03)
    half = L.Dense(4, dtype="float16")
    half.build((None, 5))
    half.kernel.assign(np.where(np.arange(20).reshape(5, 4) < 5, 65504.0, 0.1).astype("float16"))
    assert saturated_share(read(half, "kernel", half.kernel), half.kernel, 4) == 0.25
    full = L.Dense(4)
    full.build((None, 5))
    assert saturated_share(read(full, "kernel", full.kernel), full.kernel, 4) is None


def test_operator_norm_uses_the_static_size_of_the_layer_or_32():
    def model(size):
        return keras.Sequential([L.Input((size, size, 2)), L.Conv2D(3, 3, strides=2), L.Conv2D(3, 3, name="c")])

    static, open_size = (tensors(model(size))["c/kernel"].operator_norm for size in (13, None))
    assert (static.size, static.size_source) == ((6, 6), "model input")
    assert (open_size.size, open_size.size_source) == ((32, 32), "assumed")


def test_layer_statistics_are_over_its_kernels_and_progress_is_told():
    model = recurrent()
    told = []
    found = described(model, step=lambda done, total: told.append((done, total)))
    cell = next(layer for layer in found.layers if "LSTMCell" in layer.type)
    kernels = [w for w in model.layers[0].forward_layer.cell.weights if "kernel" in w.name]
    values = np.concatenate([ops.convert_to_numpy(w).ravel() for w in kernels])
    assert cell.statistics.size == values.size
    assert cell.statistics.l2 == pytest.approx(np.linalg.norm(values), rel=1e-6)
    assert told == [(i + 1, len(found.layers)) for i in range(len(found.layers))]
