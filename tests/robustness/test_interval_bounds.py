"""Interval bounds against brute force over corners, against random points of the ball, and against the exact oracle."""

import itertools

import keras
import numpy as np
import pytest

from analyzer.errors import ConfigError, DataError, Unsupported
from analyzer.inspection import open_model
from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.threat import Box
from analyzer.robustness.certificates.curves import CURVES
from analyzer.robustness.certificates.interval_bounds import certified_margins, certified_radii, interval_bounds
from tests.robustness import oracle

L = keras.layers
WIDE = Box(low=-100.0, high=100.0, source="given")


def opened(model, x, box=WIDE, batch_size=64):
    return Attacked(view=open_model(model, x[:1]), box=box, batch_size=batch_size)


def random_weights(model, seed=0, scale=0.4):
    rng = np.random.default_rng(seed)
    new = []
    for variable in model.weights:
        drawn = rng.normal(size=variable.shape, scale=scale)
        new.append(np.abs(drawn) + 0.5 if "variance" in variable.path else drawn)
    model.set_weights(new)
    return model


def corners(low, high):
    """Every corner of a box, (2 ** d, d)."""
    return np.array(list(itertools.product(*zip(low, high, strict=True))))


def test_one_layer_equals_brute_force_over_the_corners_of_the_ball():
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(5, 3)), rng.normal(size=3)
    x, epsilon = rng.uniform(size=(7, 5)), 0.3
    model = oracle.trained(kernel, bias)
    found = interval_bounds(opened(model, x.astype("float32")), x, epsilon)
    every = np.stack([corners(row - epsilon, row + epsilon) @ kernel + bias for row in x])
    np.testing.assert_allclose(found.low, every.min(1), atol=5e-5)
    np.testing.assert_allclose(found.high, every.max(1), atol=5e-5)
    assert (found.low <= every.min(1)).all()
    assert (found.high >= every.max(1)).all()


def affine_bounds(model, x, epsilon):
    """Exact extremes of an affine model over balls, from its matrix in float64."""
    size = int(np.prod(model.input_shape[1:]))
    points = np.concatenate([np.zeros((1, size)), np.eye(size)]).reshape(-1, *model.input_shape[1:])
    rows = keras.ops.convert_to_numpy(model(points.astype("float32"))).astype("float64")
    matrix, middle = (rows[1:] - rows[0]).T, x.reshape(len(x), -1) @ (rows[1:] - rows[0]) + rows[0]
    reach = epsilon * np.abs(matrix).sum(1)
    return middle - reach, middle + reach


def both(make):
    return lambda x: make()([L.Reshape((4, 4, 2))(x), L.Permute((2, 1, 3))(x)])


AFFINE = {
    "convolution": lambda x: L.Conv2D(3, 3, padding="same")(x),
    "groups": lambda x: L.Conv2D(4, 2, strides=2, groups=2)(x),
    "dilation": lambda x: L.Conv2D(2, 2, dilation_rate=2)(x),
    "depthwise": lambda x: L.DepthwiseConv2D(3, depth_multiplier=2)(x),
    "pointwise first": lambda x: L.SeparableConv2D(3, 1)(x),
    "transposed": lambda x: L.Conv2DTranspose(2, 3, strides=2)(x),
    "dense": lambda x: L.Dense(3)(x),
    "einsum": lambda x: L.EinsumDense("abcd,de->abce", output_shape=(4, 4, 3), bias_axes="e")(x),
    "normalised": lambda x: L.BatchNormalization()(x),
    "rescaled": lambda x: L.Rescaling(-2.5, offset=1)(x),
    "by data": lambda x: L.Normalization(mean=[0.5, 1.0], variance=[4.0, 0.25])(x),
    "average": lambda x: L.AveragePooling2D(3, 1, padding="same")(x),
    "global average": lambda x: L.GlobalAveragePooling2D()(x),
    "moved": lambda x: L.Cropping2D(1)(L.ZeroPadding2D(2)(x)),
    "constants": lambda x: 1.0 - (x * -3.0 + np.arange(2, dtype="float32")),
    "sum": both(L.Add),
    "mean": both(L.Average),
    "joined": both(L.Concatenate),
    "difference": both(L.Subtract),
}


@pytest.mark.parametrize("name", AFFINE)
def test_affine_layers_have_exact_bounds_and_room_for_rounding(name):
    image = keras.Input((4, 4, 2))
    model = random_weights(keras.Model(image, L.Flatten()(AFFINE[name](image))), 8)
    x = np.random.default_rng(8).uniform(-1, 1, (5, 4, 4, 2)).astype("float32")
    if name == "normalised":
        assert model.get_weights()[0].min() < 0
    low, high = affine_bounds(model, x, 0.25)
    found = interval_bounds(opened(model, x), x, 0.25)
    if name in ("sum", "mean", "difference"):
        # What is the same on both sides is taken for two values: only never too narrow.
        same = np.ptp([low, high], axis=0) < np.ptp([found.low, found.high], axis=0) * 0.999
        assert same.mean() < 0.5
        low, high = np.where(same, found.low, low), np.where(same, found.high, high)
    np.testing.assert_allclose(found.low, low, atol=1e-4)
    np.testing.assert_allclose(found.high, high, atol=1e-4)
    assert (found.low <= low + 1e-7).all()
    assert (found.high >= high - 1e-7).all()


def test_rounding_never_takes_a_bound_inside_the_exact_one():
    rng = np.random.default_rng(9)
    kernel, bias = rng.normal(size=(300, 10)).astype("float32"), rng.normal(size=10).astype("float32")
    x = rng.uniform(-1, 1, (50, 300)).astype("float32")
    exact = x.astype("float64") @ kernel.astype("float64") + bias
    for epsilon in (0.0, 1e-3):
        reach = epsilon * np.abs(kernel.astype("float64")).sum(0)
        found = interval_bounds(opened(oracle.trained(kernel, bias), x), x, epsilon)
        assert (found.low <= exact - reach).all()
        assert (found.high >= exact + reach).all()
        assert np.abs(found.low - (exact - reach)).max() < 0.03


BENT = {
    **{name: lambda name=name: L.Activation(name) for name in sorted(CURVES)},
    "PReLU that falls": lambda: L.PReLU(alpha_initializer=keras.initializers.Constant(-0.7)),
    "LeakyReLU": lambda: L.LeakyReLU(0.2),
    "ReLU to 2": lambda: L.ReLU(max_value=2.0, negative_slope=0.1),
    "ELU": lambda: L.ELU(2.0),
}


@pytest.mark.parametrize("name", BENT)
def test_activations_have_exact_bounds(name):
    model = keras.Sequential([keras.Input((61,)), BENT[name]()])
    x = np.linspace(-5, 5, 61, dtype="float32")[None]
    # A function that ends the model may be cut from it, so another follows that changes nothing.
    model.add(L.Rescaling(1.0))
    found = interval_bounds(opened(model, x), x, 0.4)
    grid = (x + np.linspace(-0.4, 0.4, 401)[:, None]).astype("float32")
    y = keras.ops.convert_to_numpy(model(grid))
    # Between grid points 0.002 apart a function moves by its slope times half of that at most.
    rough = 2e-3 + 1e-4 * np.abs(y).max()
    np.testing.assert_allclose(found.low[0], y.min(0), atol=rough)
    np.testing.assert_allclose(found.high[0], y.max(0), atol=rough)


def test_products_and_extremes_are_those_of_the_corners():
    pair = keras.Input((3,))
    other = L.Dense(3, use_bias=False)(pair)
    model = keras.Model(pair, L.Concatenate()([L.Multiply()([pair, other]), L.Maximum()([pair, other]), pair * other]))
    model.set_weights([np.diag([1.0, -2.0, 0.5])])
    x = np.array([[0.1, 2.0, -0.3], [-1.0, 0.0, 3.0]], "float32")
    found = interval_bounds(opened(model, x), x, 0.5)
    first = np.stack([x - 0.5, x + 0.5])
    second = np.sort(first * [1.0, -2.0, 0.5], axis=0)
    every = np.stack([a * b for a in first for b in second])
    largest = np.maximum(first, second)
    for bound, product, extreme in ((found.low, every.min(0), largest[0]), (found.high, every.max(0), largest[1])):
        np.testing.assert_allclose(bound, np.concatenate([product, extreme, product], axis=1), atol=1e-4)


def test_two_layers_equal_intervals_of_intervals_by_brute_force():
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(4, 6)), rng.normal(size=(6, 3))
    shift, offset = rng.normal(size=6), rng.normal(size=3)
    model = keras.Sequential([keras.Input((4,)), L.Dense(6, activation="relu"), L.Dense(3)])
    model.set_weights([first, shift, second, offset])
    x, epsilon = rng.uniform(size=(5, 4)), 0.2
    y = np.array([0, 1, 2, 0, 1])
    attacked = opened(model, x.astype("float32"))
    found = interval_bounds(attacked, x, epsilon)
    margins = certified_margins(attacked, x, y, epsilon)
    apart = [found.low[i, y[i]] - np.delete(found.high[i], y[i]).max() for i in range(5)]
    assert (margins.margin >= np.array(apart) - 1e-4).all()
    assert (margins.margin > np.array(apart) + 1e-2).any()
    for i, row in enumerate(x):
        hidden = np.maximum(corners(row - epsilon, row + epsilon) @ first + shift, 0)
        logits = corners(hidden.min(0), hidden.max(0)) @ second + offset
        np.testing.assert_allclose([found.low[i], found.high[i]], [logits.min(0), logits.max(0)], atol=5e-5)
        # The last layer is folded into differences: the margin is that of one corner, not of two different ones.
        others = np.delete(logits, y[i], axis=1).max(1)
        np.testing.assert_allclose(margins.margin[i], (logits[:, y[i]] - others).min(), atol=5e-5)
        assert margins.margin[i] <= (logits[:, y[i]] - others).min()


def test_inputs_outside_the_bounds_do_not_count():
    model = oracle.trained(np.array([[1.0, 0.0]]), np.zeros(2))
    x = np.array([[0.9], [0.5]])
    found = interval_bounds(opened(model, x, Box(low=0.0, high=1.0, source="given")), x, 0.2)
    np.testing.assert_allclose(found.low[:, 0], [0.7, 0.3], atol=1e-5)
    np.testing.assert_allclose(found.high[:, 0], [1.0, 0.7], atol=1e-5)


def image_net():
    image = keras.Input((6, 6, 2))
    h = L.Normalization(mean=[0.4, 0.1], variance=[0.3, 2.0])(L.Rescaling(-1.5, offset=1.0)(image))
    h = L.Conv2D(4, 3, padding="same", strides=2, groups=2, activation="tanh")(L.ZeroPadding2D(1)(h))
    h = L.BatchNormalization()(h)
    side = L.LeakyReLU(0.1)(L.DepthwiseConv2D(3, padding="same", activation="gelu")(h))
    h = L.Add()([h, L.SeparableConv2D(4, 2, padding="same", activation="silu")(side)])
    h = L.Concatenate()([L.MaxPooling2D(3, strides=1, padding="same")(h), L.AveragePooling2D(2, 1, padding="same")(h)])
    h = keras.ops.relu(L.Conv2DTranspose(3, 3, strides=2)(L.Dropout(0.5)(h)) - 0.2)
    h = L.Permute((3, 1, 2))(h)
    h = L.Reshape((3, -1))(h)
    h = L.PReLU()(L.Dense(5, activation="elu")(h))
    return random_weights(keras.Model(image, L.Dense(3, activation="softmax")(L.Flatten()(h))), 2)


def volume_net():
    layers = [
        L.Conv3D(3, 2, activation="mish"),
        L.MaxPooling3D(2, 1),
        L.GlobalAveragePooling3D(),
        L.Dense(2),
        L.Softmax(),
    ]
    return random_weights(keras.Sequential([keras.Input((4, 4, 4, 1)), *layers]), 3)


def series_net():
    series = keras.Input((12, 3))
    h = L.Conv1D(6, 3, padding="causal", dilation_rate=2)(series)
    gate = L.Activation("sigmoid")(L.Dense(6)(L.GlobalMaxPooling1D(keepdims=True)(h)))
    h = L.Multiply()([h, gate])
    h = L.Maximum()([L.Subtract()([h, L.AveragePooling1D(3, 1, padding="same")(h)]), 0.5 * h + 0.1])
    return random_weights(keras.Model(series, L.Dense(1, activation="sigmoid")(L.Flatten()(h))), 4)


@pytest.mark.parametrize("build", [image_net, volume_net, series_net])
def test_bounds_hold_at_ten_thousand_points_and_corners_of_the_ball(build):
    model = build()
    shape, rng = model.input_shape[1:], np.random.default_rng(5)
    x = rng.uniform(size=(2, *shape))
    attacked = opened(model, x.astype("float32"), Box(low=-1.0, high=2.0, source="given"), batch_size=512)
    found = interval_bounds(attacked, x, 0.03)
    for i, row in enumerate(x):
        steps = rng.uniform(-1, 1, (2500, *shape))
        points = row + 0.03 * np.concatenate([steps, np.sign(steps)])
        z = attacked.all_logits(attacked.to_unit(points))
        assert (z >= found.low[i]).all()
        assert (z <= found.high[i]).all()
    # Of a ball without extent the bounds are the logits, up to the room for rounding.
    plain, at_rest = attacked.all_logits(attacked.to_unit(x)), interval_bounds(attacked, x, 0.0)
    assert (at_rest.low <= plain).all()
    assert (at_rest.high >= plain).all()
    np.testing.assert_allclose(at_rest.low, plain, atol=2e-3 * np.abs(plain).max())
    np.testing.assert_allclose(at_rest.high, plain, atol=2e-3 * np.abs(plain).max())


@pytest.mark.parametrize("name", sorted(CURVES))
def test_what_is_said_of_activations_is_so(name):
    x = np.linspace(-9, 9, 36001)
    y = keras.ops.convert_to_numpy(getattr(keras.activations, name)(keras.ops.convert_to_tensor(x, "float32")))
    curve, change = CURVES[name], np.diff(y.astype("float64"))
    falling = np.zeros(len(change), bool) if curve.lowest is None else x[1:] <= curve.lowest
    slack = 2e-6 * (1 + np.abs(y[1:]))
    assert (np.where(falling, -change, change) >= -slack).all()
    if curve.slope is not None:
        coarse = np.abs(np.diff(y[::20].astype("float64"))) / np.diff(x[::20])
        assert coarse.max() <= curve.slope + 2e-4
        assert coarse.max() > 0.98 * curve.slope


def test_certified_radii_are_the_exact_distances_of_a_linear_softmax():
    data, labels = oracle.digits()
    kernel, bias = oracle.linear_weights(data[:1400], labels[:1400])
    x, y = data[1400:1480], labels[1400:1480]
    exact = oracle.exact_distances(x, y, kernel, bias, "linf")
    attacked = opened(oracle.trained(kernel, bias), x, Box(low=0.0, high=1.0, source="given"))
    found = certified_radii(attacked, x, y, 0.5)
    assert (found.radius <= exact).all()
    # Within the bounds of the inputs the ball is no cube around the sample, and its centre moves: still exact.
    np.testing.assert_allclose(found.radius, np.minimum(exact, 0.5), atol=0.5 / 2**12 + 1e-4)
    wrong = exact == 0
    assert wrong.any()
    assert (found.radius[wrong] == 0).all()


def test_a_tie_is_not_certified_and_a_single_logit_is_two_classes():
    nothing = opened(oracle.trained(np.zeros((2, 3)), np.zeros(3)), np.zeros((2, 2)))
    assert not certified_margins(nothing, np.zeros((2, 2)), np.array([0, 1]), 0.0).certified.any()
    model = keras.Sequential([keras.Input((2,)), L.Dense(1, activation="sigmoid")])
    model.set_weights([np.array([[1.0], [-2.0]]), np.array([0.5])])
    x = np.array([[1.0, 0.0], [0.0, 1.0]])
    found = certified_margins(opened(model, x), x, np.array([1, 0]), [0.1, 0.4])
    np.testing.assert_allclose(found.margin, [1.5 - 0.3, 1.5 - 1.2], atol=1e-4)


def test_batches_and_the_model_do_not_matter_to_each_other():
    model = random_weights(keras.Sequential([keras.Input((6,)), L.Dense(5, activation="relu"), L.Dense(3)]))
    x = np.random.default_rng(6).uniform(size=(9, 6)).astype("float32")
    before, expected = [np.array(w) for w in model.get_weights()], keras.ops.convert_to_numpy(model(x))
    one, other = (interval_bounds(opened(model, x, batch_size=size), x, 0.01) for size in (3, 64))
    np.testing.assert_allclose(one.low, other.low, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(one.high, other.high, rtol=1e-5, atol=1e-6)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(x)), expected)


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = L.Dense(3)

    def call(self, x):
        return -self.dense(x)


def sequential(*layers):
    return keras.Sequential([keras.Input((4, 4)), *layers, L.Flatten(), L.Dense(2)])


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: sequential(L.LayerNormalization(name="centred")), "centred.*LayerNormalization"),
        (lambda: sequential(L.Lambda(lambda t: -t, name="turned")), "turned.*Lambda"),
        (lambda: sequential(L.Dense(3, activation="softmax", name="gate")), "gate.*Dense.*softmax"),
        (lambda: sequential(L.Dense(3, activation=lambda t: -t, name="odd")), "odd.*Dense.*lambda"),
        (lambda: sequential(L.LSTM(3, return_sequences=True, name="memory")), "memory.*LSTM"),
        (lambda: sequential(L.Dense(3, dtype="mixed_float16", name="half")), "half.*float16"),
        (lambda: keras.Sequential([keras.Input((4, 4), batch_size=2), L.Flatten(), L.Dense(2)]), "batch size"),
    ],
)
def test_what_is_not_covered_is_named(build, named):
    x = np.zeros((2, 4, 4), "float32")
    with pytest.raises(Unsupported, match=named):
        interval_bounds(opened(build(), x), x, 0.1)


def test_code_of_a_model_of_ones_own_is_not_followed():
    model, x = Own(), np.zeros((2, 4), "float32")
    model(x)
    with pytest.raises(Unsupported, match="code of its own"):
        interval_bounds(opened(model, x), x, 0.1)


def test_bad_input():
    attacked = opened(oracle.trained(np.eye(2), np.zeros(2)), np.zeros((1, 2)), Box(low=0.0, high=1.0, source="given"))
    with pytest.raises(ConfigError, match=r"epsilon=-0\.1"):
        interval_bounds(attacked, np.zeros((1, 2)), -0.1)
    with pytest.raises(ConfigError, match="epsilon_max=0"):
        certified_radii(attacked, np.zeros((1, 2)), np.zeros(1, int), 0)
    with pytest.raises(DataError, match="outside bounds"):
        interval_bounds(attacked, np.full((1, 2), 1.5), 0.1)
    with pytest.raises(DataError, match="one class per sample"):
        certified_margins(attacked, np.zeros((1, 2)), np.array([2]), 0.1)
