"""Operator norms against a dense SVD of the matrix of the convolution."""

import keras
import numpy as np
import pytest

from analyzer.backends import engine
from analyzer.inspection import operator_norm
from analyzer.inspection.kernels import classify
from analyzer.inspection.operator_norm import ConvolutionNorms, is_pointwise, pointwise_norm
from analyzer.measures.matrices import spectrum

L = keras.layers

LAYERS = {
    "conv1d same": (L.Conv1D(4, 3, padding="same", activation="relu"), (9, 3)),
    "conv1d causal dilated": (L.Conv1D(4, 3, padding="causal", dilation_rate=2), (9, 3)),
    "conv1d strided": (L.Conv1D(3, 4, strides=3), (11, 2)),
    "conv2d same": (L.Conv2D(5, 3, padding="same", activation="tanh"), (6, 7, 3)),
    "conv2d valid": (L.Conv2D(5, (2, 3)), (6, 7, 3)),
    "conv2d strided": (L.Conv2D(6, 3, strides=2, padding="same"), (7, 6, 3)),
    "conv2d dilated": (L.Conv2D(4, 3, dilation_rate=2, padding="same"), (7, 7, 2)),
    "conv2d groups": (L.Conv2D(4, 3, groups=2, padding="same"), (6, 6, 4)),
    "conv2d one channel": (L.Conv2D(1, 3), (5, 5, 1)),
    "conv2d pointwise strided": (L.Conv2D(5, 1, strides=2), (6, 6, 4)),
    "conv2d pointwise groups": (L.Conv2D(6, 1, groups=2), (4, 4, 4)),
    "conv3d": (L.Conv3D(2, 2, padding="same"), (3, 4, 3, 2)),
    "depthwise1d": (L.DepthwiseConv1D(3, padding="same"), (8, 3)),
    "depthwise2d": (L.DepthwiseConv2D(3, strides=2, depth_multiplier=2, padding="same"), (6, 6, 3)),
    "separable1d": (L.SeparableConv1D(4, 3, padding="same"), (8, 3)),
    "separable2d": (L.SeparableConv2D(4, 3, strides=2, padding="valid"), (7, 7, 3)),
    "transpose1d": (L.Conv1DTranspose(3, 3, strides=2, padding="same"), (5, 2)),
    "transpose2d": (L.Conv2DTranspose(3, 3, strides=2, padding="valid"), (4, 4, 2)),
    "transpose3d": (L.Conv3DTranspose(2, 2, strides=2), (2, 3, 2, 2)),
}


def built(layer, shape, seed=0):
    """A fresh layer of the same configuration with random weights, biases included."""
    keras.utils.set_random_seed(seed)
    copy = type(layer).from_config(layer.get_config())
    copy.build((None, *shape))
    rng = np.random.default_rng(seed)
    copy.set_weights([rng.normal(size=w.shape).astype("float32") for w in copy.get_weights()])
    return copy


def dense_matrix(layer, shape):
    """The matrix of the linear part, one input position and channel per row, from a twin without activation."""
    twin = type(layer).from_config({**layer.get_config(), "activation": None})
    twin.build((None, *shape))
    twin.set_weights(layer.get_weights())
    basis = np.eye(int(np.prod(shape)), dtype="float32").reshape(-1, *shape)
    outputs = keras.ops.convert_to_numpy(twin(basis)) - keras.ops.convert_to_numpy(twin(np.zeros_like(basis)))
    return outputs.reshape(len(basis), -1).astype(np.float64)


def norm_of(layer, size, **options):
    with ConvolutionNorms(engine(), **options) as norms:
        return norms.norm(layer, size)


@pytest.mark.parametrize("name", LAYERS)
def test_norm_matches_dense_svd_of_the_convolution(name):
    layer, shape = LAYERS[name]
    layer = built(layer, shape)
    found = norm_of(layer, shape[:-1])
    expected = np.linalg.norm(dense_matrix(layer, shape), 2)
    assert found.reason is None
    assert found.value == pytest.approx(expected, rel=1e-3)
    assert (found.size, found.size_source) == (shape[:-1], "model input")


def test_norm_matches_a_matrix_written_from_the_definition():
    layer = built(L.Conv2D(2, 3, strides=2, padding="valid", dilation_rate=1), (7, 6, 2))
    kernel = layer.get_weights()[0].astype(np.float64)
    matrix = np.zeros((7, 6, 2, 3, 2, 2))
    for y, x, dy, dx in np.ndindex(3, 2, 3, 3):
        matrix[2 * y + dy, 2 * x + dx, :, y, x, :] += kernel[dy, dx]
    expected = np.linalg.norm(matrix.reshape(7 * 6 * 2, -1), 2)
    assert norm_of(layer, (7, 6)).value == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("name", [name for name in LAYERS if "pointwise" in name])
def test_pointwise_norm_is_that_of_the_matrix(name):
    layer, shape = LAYERS[name]
    layer = built(layer, shape)
    _, axes = classify(layer, "kernel", tuple(layer.kernel.shape))
    found = pointwise_norm(layer, shape[:-1], spectrum(axes.matrices(layer.get_weights()[0])))
    assert is_pointwise(layer)
    assert found.value == pytest.approx(np.linalg.norm(dense_matrix(layer, shape), 2), rel=1e-5)
    assert not is_pointwise(built(*LAYERS["conv2d same"]))


def test_norm_is_not_that_of_the_reshaped_kernel():
    layer = built(L.Conv2D(4, 3, padding="same"), (8, 8, 3))
    reshaped = np.linalg.norm(layer.get_weights()[0].reshape(-1, 4), 2)
    assert abs(norm_of(layer, (8, 8)).value / reshaped - 1) > 0.2


@pytest.mark.parametrize("scale", [1e-20, 1e15])
def test_norm_scales_with_the_kernel_far_beyond_where_squares_fit_float32(scale):
    layer = built(L.Conv2D(4, 3, padding="same"), (6, 6, 3))
    before = norm_of(layer, (6, 6)).value
    layer.kernel.assign(layer.kernel * scale)
    assert norm_of(layer, (6, 6)).value == pytest.approx(scale * before, rel=1e-3)


def test_open_size_is_assumed_and_a_large_one_capped(monkeypatch):
    layer = built(L.Conv2D(4, 3, padding="same"), (6, 6, 3))
    assert (norm_of(layer, None).size, norm_of(layer, None).size_source) == ((32, 32), "assumed")
    whole = norm_of(layer, (64, 64)).value
    monkeypatch.setattr(operator_norm, "MOST_VALUES", 40 * 40 * 4)
    capped = norm_of(layer, (64, 64))
    assert (capped.size, capped.size_source) == ((40, 40), "capped")
    assert capped.value == pytest.approx(whole, rel=5e-3)


def test_layer_is_untouched_also_when_it_fails():
    class Fails(L.Conv2D):
        def call(self, inputs):
            raise RuntimeError("cannot run alone")

    for kind in (L.Conv2D, Fails):
        layer = kind(3, 3, activation="relu")
        layer.build((None, 6, 6, 2))
        before, attributes = layer.get_weights(), dict(vars(layer))
        found = norm_of(layer, (6, 6))
        assert dict(vars(layer)) == attributes
        assert all(np.array_equal(a, b) for a, b in zip(before, layer.get_weights(), strict=True))
        assert (found.value is None) == (kind is Fails)
    assert "cannot run alone" in found.reason


def test_nonlinear_subclass_and_nan_have_no_norm_but_a_reason():
    class Rectified(L.Conv2D):
        def call(self, inputs):
            return keras.ops.relu(super().call(inputs))

    layer = Rectified(3, 3)
    layer.build((None, 6, 6, 2))
    assert norm_of(layer, (6, 6)).value is None
    assert "linear" in norm_of(layer, (6, 6)).reason
    layer = built(L.Conv2D(2, 3), (6, 6, 2))
    weights = layer.get_weights()
    weights[0][0, 0, 0, 0] = np.nan
    layer.set_weights(weights)
    assert norm_of(layer, (6, 6)).value is None
    assert "finite" in norm_of(layer, (6, 6)).reason


def test_zero_kernel_has_norm_zero():
    layer = built(L.Conv2D(2, 3), (6, 6, 2))
    layer.set_weights([np.zeros_like(w) for w in layer.get_weights()])
    assert norm_of(layer, (6, 6)).value == 0.0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_float16"])
def test_half_precision_layers_are_measured_in_float32(dtype):
    layer = L.Conv2D(3, 3, padding="same", dtype=dtype)
    layer.build((None, 6, 6, 2))
    full = L.Conv2D(3, 3, padding="same", dtype="float32")
    full.build((None, 6, 6, 2))
    full.kernel.assign(keras.ops.cast(layer.kernel, "float32"))
    assert norm_of(layer, (6, 6)).value == pytest.approx(norm_of(full, (6, 6)).value, rel=1e-4)


def test_adapter_is_left_out_unless_asked_for():
    layer = built(L.Conv2D(4, 3, padding="same"), (6, 6, 3))
    plain = norm_of(layer, (6, 6)).value
    layer.enable_lora(2)
    layer.lora_kernel_b.assign(np.ones(layer.lora_kernel_b.shape, "float32"))
    assert norm_of(layer, (6, 6)).value == pytest.approx(plain, rel=1e-3)
    merged = norm_of(layer, (6, 6), merge_lora=True).value
    assert merged == pytest.approx(np.linalg.norm(dense_matrix_of_merged(layer), 2), rel=1e-3)


def dense_matrix_of_merged(layer):
    twin = built(L.Conv2D(4, 3, padding="same"), (6, 6, 3))
    twin.kernel.assign(layer.kernel)
    return dense_matrix(twin, (6, 6, 3))


def test_alike_layers_share_one_program_and_keep_their_own_weights():
    first, second = (built(L.Conv2D(4, 3, padding="same"), (6, 6, 3), seed=seed) for seed in (1, 2))
    with ConvolutionNorms(engine()) as norms:
        values = [norms.norm(layer, (6, 6)).value for layer in (first, second)]
        assert len(norms._programs) == 1
    expected = [np.linalg.norm(dense_matrix(layer, (6, 6, 3)), 2) for layer in (first, second)]
    assert values == pytest.approx(expected, rel=1e-3)
