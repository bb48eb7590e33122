"""Every feed-forward layer computes the same with its rule, and what comes in equals what goes on and is absorbed."""

import keras
import numpy as np
import pytest

from analyzer.errors import Unsupported
from analyzer.relevance.explain import explain
from analyzer.relevance.presets import Preset, epsilon, epsilon_plus_flat, magnitude
from tests.relevance.oracle import ABSORBED, fill

L = keras.layers
ops = keras.ops
BACKEND = keras.backend.backend()
IMAGE, STEPS, FLAT = (6, 6, 4), (6, 3), (8,)
RNG = np.random.default_rng(0)


def adapted():
    layer = L.Normalization()
    layer.adapt(np.random.default_rng(5).normal(1.0, 2.0, (20, 8)))
    return layer


LAYERS = {
    "dense": (lambda: L.Dense(4, activation="gelu"), FLAT),
    "dense on two axes": (lambda: L.Dense(4, activation="softmax"), STEPS),
    "einsum": (lambda: L.EinsumDense("abc,cd->abd", output_shape=(None, 5), bias_axes="d", activation="tanh"), STEPS),
    "conv": (lambda: L.Conv2D(3, 3, activation="elu"), IMAGE),
    "separable1d": (lambda: L.SeparableConv1D(4, 3, depth_multiplier=2, activation="relu"), STEPS),
    "separable2d": (lambda: L.SeparableConv2D(4, 3, strides=2, padding="same"), IMAGE),
    "max": (lambda: L.MaxPooling2D(2), IMAGE),
    "max overlapping": (lambda: L.MaxPooling2D(3, strides=1, padding="same"), IMAGE),
    "max with a rest": (lambda: L.MaxPooling2D((4, 2)), IMAGE),
    "max1d": (lambda: L.MaxPooling1D(2, strides=2, padding="same"), (5, 3)),
    "max3d": (lambda: L.MaxPooling3D(2), (4, 4, 2, 2)),
    "max3d overlapping": (lambda: L.MaxPooling3D((2, 3, 2), strides=(1, 2, 1), padding="same"), (3, 4, 3, 2)),
    "average": (lambda: L.AveragePooling2D(3, strides=2, padding="same"), IMAGE),
    "average1d": (lambda: L.AveragePooling1D(2), STEPS),
    "average3d": (lambda: L.AveragePooling3D(2), (4, 4, 2, 2)),
    "global max": (lambda: L.GlobalMaxPooling2D(), IMAGE),
    "global average": (lambda: L.GlobalAveragePooling2D(keepdims=True), IMAGE),
    "global average first": (lambda: L.GlobalAveragePooling1D(data_format="channels_first"), STEPS),
    "global max first": (lambda: L.GlobalMaxPooling1D(data_format="channels_first"), STEPS),
    "adaptive average": (lambda: L.AdaptiveAveragePooling2D((4, 3)), IMAGE),
    "adaptive max": (lambda: L.AdaptiveMaxPooling2D((4, 3)), IMAGE),
    "adaptive max1d": (lambda: L.AdaptiveMaxPooling1D(4), STEPS),
    "batch": (lambda: L.BatchNormalization(), IMAGE),
    "layer": (lambda: L.LayerNormalization(), STEPS),
    "layer over two axes": (lambda: L.LayerNormalization(axis=[1, 2]), STEPS),
    "group": (lambda: L.GroupNormalization(2), IMAGE),
    "group first": (lambda: L.GroupNormalization(3, axis=1), IMAGE),
    "rms": (lambda: L.RMSNormalization(), STEPS),
    "unit": (lambda: L.UnitNormalization(), STEPS),
    "spectral": (lambda: L.SpectralNormalization(L.Dense(4, activation="relu")), FLAT),
    "normalization": (adapted, FLAT),
    "normalization given": (lambda: L.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 4.0, 9.0]), STEPS),
    "normalization inverted": (lambda: L.Normalization(mean=0.5, variance=2.0, invert=True), FLAT),
    "rescaling": (lambda: L.Rescaling(1 / 3, offset=-0.5), IMAGE),
    "resizing": (lambda: L.Resizing(4, 9), IMAGE),
    "resizing nearest": (lambda: L.Resizing(9, 4, interpolation="nearest"), IMAGE),
    "center crop": (lambda: L.CenterCrop(4, 3), IMAGE),
    "upsampling": (lambda: L.UpSampling2D(2), IMAGE),
    "upsampling bilinear": (lambda: L.UpSampling2D(2, interpolation="bilinear"), IMAGE),
    "upsampling1d": (lambda: L.UpSampling1D(2), STEPS),
    "upsampling3d": (lambda: L.UpSampling3D(2), (2, 2, 2, 2)),
    "padding": (lambda: L.ZeroPadding2D(1), IMAGE),
    "cropping": (lambda: L.Cropping2D(1), IMAGE),
    "flatten": (lambda: L.Flatten(), IMAGE),
    "permute": (lambda: L.Permute((3, 1, 2)), IMAGE),
    "reshape": (lambda: L.Reshape((-1, 4)), IMAGE),
    "repeat": (lambda: L.RepeatVector(3), FLAT),
    "dropout": (lambda: L.Dropout(0.5), FLAT),
    "spatial dropout": (lambda: L.SpatialDropout2D(0.5), IMAGE),
    "noise": (lambda: L.GaussianNoise(1.0), FLAT),
    "regularisation": (lambda: L.ActivityRegularization(l2=1.0), FLAT),
    "relu layer": (lambda: L.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.2), FLAT),
    "leaky": (lambda: L.LeakyReLU(0.2), FLAT),
    "prelu": (lambda: L.PReLU(shared_axes=[1, 2]), IMAGE),
    "elu": (lambda: L.ELU(), FLAT),
    "softmax": (lambda: L.Softmax(axis=1), STEPS),
    "random flip": (lambda: L.RandomFlip(), IMAGE),
    "random rotation": (lambda: L.RandomRotation(0.2), IMAGE),
    "random contrast": (lambda: L.RandomContrast(0.2), IMAGE),
    "lambda": (lambda: L.Lambda(lambda x: ops.add(ops.tanh(ops.transpose(x, (0, 2, 1))), 1.0)), STEPS),
}

ACTIVATIONS = sorted(
    name
    for name, fn in vars(keras.activations).items()
    if callable(fn) and name not in ("get", "serialize", "deserialize", "threshold")
)


def value_and_books(model, x, method, weights_like=None, **kwargs):
    """An explanation of a weighted sum of all outputs, checked: its value, and every line of its ledger."""
    y = ops.convert_to_numpy(model(x, training=False))
    weights = np.random.default_rng(7).uniform(0.2, 1.0, y.shape) * np.random.default_rng(8).choice([-1, 1], y.shape)
    weights = weights.astype("float32")

    def told(outputs):
        return ops.sum(ops.reshape(ops.multiply(outputs, weights), (weights.shape[0], -1)), axis=-1)

    found = explain(model, x, target=told, method=method, **kwargs)
    expected = (y.astype("float64") * weights).reshape(len(y), -1).sum(1)
    scale = np.abs(y * weights).reshape(len(y), -1).sum(1).max()
    np.testing.assert_allclose(found.output, expected, atol=1e-5 * scale)
    wide = [array.astype("float64").reshape(len(y), -1).sum(1) for array in found.inputs.values()]
    all_of_it = sum(one.mean() for one in wide) + found.ledger[ABSORBED].to_numpy().sum()
    scale = max(scale, max(np.abs(a).reshape(len(y), -1).sum(1).max() for a in found.inputs.values()))
    assert abs(all_of_it - expected.mean()) < 1e-4 * scale
    assert (found.ledger["unexplained"].abs() < 1e-4 * scale).all(), found.ledger
    return found


def with_layer(name):
    make, shape = LAYERS[name]
    layer = make()
    # What comes last would be cut off; something after it keeps it in the model.
    model = keras.Sequential([keras.Input(shape), layer, L.Identity(name="end")])
    if not isinstance(layer, L.Normalization):
        fill(layer)
    return model, np.random.default_rng(1).normal(size=(3, *shape)).astype("float32")


def exists(name):
    return "daptive" not in name or hasattr(L, "AdaptiveAveragePooling2D")


@pytest.mark.parametrize("name", [name for name in LAYERS if exists(name)])
def test_value_and_conservation(name):
    value_and_books(*with_layer(name), epsilon())


@pytest.mark.parametrize("name", [n for n in LAYERS if any(w in n for w in ("max", "average"))])
def test_pooling_by_magnitude(name):
    model, x = with_layer(name)
    preset = Preset(name="shares", sum="magnitude", pooling="proportional")
    found = value_and_books(model, x, preset)
    y = ops.convert_to_numpy(model(x))
    if "global" in name:
        axes = (2,) if "first" in name else tuple(range(1, len(x.shape) - 1))
        weights = np.random.default_rng(7).uniform(0.2, 1.0, y.shape) * np.random.default_rng(8).choice(
            [-1, 1], y.shape
        )
        r = (y * weights).reshape([1 if a in axes else s for a, s in enumerate(x.shape)])
        expected = np.abs(x) / np.abs(x).sum(axes, keepdims=True) * r
        np.testing.assert_allclose(next(iter(found.inputs.values())), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    inputs = keras.Input((6,))
    fused = L.Dense(8, activation=name, name="fused")
    model = keras.Model(inputs, L.Identity()(L.Activation(name)(fused(inputs))))
    fill(fused)
    x = np.random.default_rng(1).normal(size=(3, 6)).astype("float32")
    value_and_books(model, x, epsilon())
    if name == "glu":
        value_and_books(model, x, Preset(name="signal", product="signal"))


def test_an_element_wise_activation_hands_on_what_arrives():
    inputs = keras.Input((6,))
    model = keras.Model(inputs, L.Identity()(L.Activation("tanh")(inputs)))
    x = np.random.default_rng(1).normal(size=(3, 6)).astype("float32")
    found = explain(model, x, target=lambda y: ops.sum(y, -1), method="epsilon")
    np.testing.assert_allclose(next(iter(found.inputs.values())), np.tanh(x), rtol=1e-4)


def test_an_activation_that_is_a_layer_uses_its_own_rule():
    inputs = keras.Input((6,))
    layer = L.Dense(5, activation=L.LeakyReLU(0.3))
    model = keras.Model(inputs, L.Identity()(layer(inputs)))
    fill(layer)
    value_and_books(model, np.random.default_rng(1).normal(size=(3, 6)).astype("float32"), epsilon())


def test_an_activation_that_changes_the_shape_is_named():
    inputs = keras.Input((6,))
    model = keras.Model(inputs, L.Identity()(L.Activation(lambda z: z[:, :3])(inputs)))
    with pytest.raises(Unsupported, match="activation"):
        explain(model, np.ones((2, 6), "float32"), target=0, method="epsilon")


MERGING = ("Add", "Average", "Subtract", "Maximum", "Minimum", "Multiply", "Concatenate")


@pytest.mark.parametrize(
    "preset", [epsilon(), magnitude(), Preset(name="signal", product="signal")], ids=lambda p: p.name
)
@pytest.mark.parametrize("kind", MERGING)
def test_merging(kind, preset):
    inputs = [keras.Input((5,)), keras.Input((5,)), keras.Input((5,))]
    terms = inputs[:2] if kind == "Subtract" else inputs
    layer = getattr(L, kind)()
    made = layer([*terms[:-1], L.Activation("sigmoid")(terms[-1])])
    model = keras.Model(inputs[: len(terms)], L.Identity()(made))
    x = [np.random.default_rng(i).normal(size=(3, 5)).astype("float32") for i in range(len(terms))]
    value_and_books(model, x, preset)


def test_sums_by_magnitude_are_their_closed_form():
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    model = keras.Model([a, b], L.Identity()(L.Subtract()([a, b])))
    x = [np.random.default_rng(i).normal(size=(2, 4)).astype("float32") for i in range(2)]
    found = explain(model, x, target=lambda y: ops.sum(y, -1), method="magnitude")
    for name, value in zip("ab", x, strict=True):
        expected = np.abs(value) / (np.abs(x[0]) + np.abs(x[1])) * (x[0] - x[1])
        np.testing.assert_allclose(found.inputs[name], expected, rtol=1e-4, atol=1e-6)


def test_of_equal_maxima_the_first_takes_all():
    a, b, c = (keras.Input((4,), name=name) for name in "abc")
    model = keras.Model([a, b, c], L.Identity()(L.Maximum()([a, b, c])))
    one = np.ones((2, 4), "float32")
    found = explain(model, [one, one, one], target=lambda y: ops.sum(y, -1), method="epsilon")
    np.testing.assert_array_equal(found.inputs["a"], one)
    np.testing.assert_array_equal(found.inputs["b"], 0 * one)


def test_factors_get_equal_shares():
    inputs = [keras.Input((4,), name=name) for name in "abc"]
    model = keras.Model(inputs, L.Identity()(L.Multiply()(inputs)))
    x = [np.random.default_rng(i).normal(size=(2, 4)).astype("float32") for i in range(3)]
    found = explain(model, x, target=lambda y: ops.sum(y, -1), method="epsilon")
    for array in found.inputs.values():
        np.testing.assert_allclose(array, x[0] * x[1] * x[2] / 3, rtol=1e-5, atol=1e-7)


OF_ONE = {
    "1 - x": lambda x: 1 - x,
    "x / 3": lambda x: x / 3.0,
    "x ** 2": lambda x: x**2,
    "-x": lambda x: -x,
    "abs": lambda x: abs(x),
    "x[:, 1:]": lambda x: x[:, 1:],
    "x[..., -1]": lambda x: x[..., -1],
    "x[:, None]": lambda x: x[:, None],
    "transpose": lambda x: ops.transpose(x, (0, 2, 1)),
    "squeeze": lambda x: ops.squeeze(x[:, :, :1], axis=-1),
    "expand_dims": lambda x: ops.expand_dims(x, -2),
    "take": lambda x: ops.take(x, [2, 0], axis=-2),
    "split": lambda x: ops.split(x, 3, axis=-1)[1],
    "reshape": lambda x: ops.reshape(x, (-1, 12)),
    "flip": lambda x: ops.flip(x, axis=-1),
    "pad": lambda x: ops.pad(x, [[0, 0], [1, 1], [0, 0]]),
    "mean": lambda x: ops.mean(x, axis=-1),
    "sum": lambda x: ops.sum(x, axis=(1, 2)),
    "max": lambda x: ops.max(x, axis=-2),
    "minimum with a number": lambda x: ops.minimum(x, 0.5),
    "relu": lambda x: ops.relu(x),
    "activations.relu": lambda x: keras.activations.relu(x, max_value=1.0),
    "leaky_relu": lambda x: ops.leaky_relu(x, 0.1),
    "gelu": lambda x: ops.gelu(x),
    "softmax": lambda x: ops.softmax(x, axis=-2),
    "log_softmax": lambda x: ops.log_softmax(x, axis=-2),
    "glu": lambda x: ops.glu(x[:, :, :2], axis=-1),
    "mish": lambda x: keras.activations.mish(x),
    "exp": lambda x: ops.exp(x),
    "tile": lambda x: ops.tile(x, (1, 2, 1)),
    "max_pool": lambda x: ops.max_pool(x, 2, 1),
    "average_pool": lambda x: ops.average_pool(x, 2, 1),
}

OF_TWO = {
    "x + y": lambda x, y: x + y,
    "x - y": lambda x, y: x - y,
    "x * y": lambda x, y: x * y,
    "concatenate": lambda x, y: ops.concatenate([x, y], axis=-2),
    "stack": lambda x, y: ops.stack([x, y], axis=-1),
    "maximum": lambda x, y: ops.maximum(x, y),
    "matmul": lambda x, y: ops.matmul(x, ops.transpose(y, (0, 2, 1))),
    "einsum": lambda x, y: ops.einsum("abc,adc->abd", x, y),
    "where": lambda x, y: ops.where(x > 0, x, y),
}

WRITTEN = OF_ONE | OF_TWO


class Written(keras.Model):
    def __init__(self, fn):
        super().__init__()
        self.fn, self.end = fn, L.Identity()

    def call(self, inputs):
        return self.end(self.fn(*inputs))


RAW = {"x + y", "1 - x", "x - y", "x * y", "x / 3", "x ** 2", "-x", "abs"}
"""Written on raw tensors, these cannot be seen: the model shows as a gap what they do."""


@pytest.mark.parametrize("name", [name for name in WRITTEN if name != "mish"])
def test_operations_as_places_of_a_functional_model(name):
    inputs = [keras.Input((4, 3)), keras.Input((4, 3))][: 1 + (name in OF_TWO)]
    model = keras.Model(inputs, L.Identity()(WRITTEN[name](*inputs)))
    value_and_books(model, samples(name), epsilon())


def samples(name):
    return [np.random.default_rng(i).normal(size=(3, 4, 3)).astype("float32") for i in range(1 + (name in OF_TWO))]


@pytest.mark.parametrize("name", [name for name in WRITTEN if name not in RAW])
def test_operations_called_by_a_subclassed_model(name):
    model, x = Written(WRITTEN[name]), samples(name)
    model(x)
    value_and_books(model, x, epsilon())


@pytest.mark.parametrize("written", [False, True])
def test_volumes_with_ties_are_pooled_by_the_first_maximum(written):
    def pool(x):
        return ops.max_pool(x, (2, 2, 2), (1, 1, 1), padding="same", data_format="channels_last")

    inputs = keras.Input((4, 3, 5, 2))
    model = Written(pool) if written else keras.Model([inputs], L.Identity()(pool(inputs)))
    x = [np.random.default_rng(0).integers(0, 3, (3, 4, 3, 5, 2)).astype("float32")]
    model(x)
    value_and_books(model, x, epsilon())


@pytest.mark.parametrize("name", ["flatten", "padding", "rescaling", "upsampling bilinear", "dropout", "permute"])
def test_a_rule_for_the_first_layer_sees_through_what_moves_values(name):
    make, shape = LAYERS[name]
    model = keras.Sequential([keras.Input(shape), make(), L.Flatten(), L.Dense(3, name="first"), L.Dense(2)])
    fill(model)
    x = np.random.default_rng(1).normal(size=(3, *shape)).astype("float32")
    x[:, :2] = 0.0
    found = explain(model, x, target=1, method=epsilon_plus_flat())
    rules = {step.id: step.rule for step in found.trace}
    assert rules["first"].startswith("Flat")
    (array,) = found.inputs.values()
    total = array.reshape(3, -1).sum(1).mean() + found.ledger[ABSORBED].to_numpy().sum()
    assert abs(total - found.output.mean()) < 1e-4 * np.abs(found.output).max()
    assert (found.ledger["unexplained"].abs() < 1e-4 * np.abs(found.output).max()).all(), found.ledger
    # Relevance also where the input is 0, and equal shares: what each value gets is what it is connected with.
    assert (array[:, :2] != 0).all()


@pytest.mark.parametrize(
    "make", [lambda: L.CategoryEncoding(4, output_mode="multi_hot"), lambda: L.Discretization([0.0])]
)
def test_layers_without_a_rule_are_named(make):
    layer = make()
    model = keras.Sequential([keras.Input((3,)), layer, L.Dense(2)])
    with pytest.raises(Unsupported, match=layer.name):
        explain(model, np.ones((2, 3), "float32"), target=0, method="epsilon")


def test_layers_of_ready_made_applications_run_through_like_user_code():
    block = keras.applications.ConvNeXtTiny(weights=None, include_top=False, input_shape=(32, 32, 3))
    scale = next(layer for layer in block.layers if type(layer).__name__ == "LayerScale")
    inputs = keras.Input((4, 4, scale.projection_dim))
    model = keras.Model(inputs, L.Identity()(scale(inputs)))
    fill(scale)
    value_and_books(model, np.random.default_rng(0).normal(size=(2, *inputs.shape[1:])).astype("float32"), epsilon())
