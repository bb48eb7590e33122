"""The Square attack on images, series, vectors and volumes of one linear softmax, whose robustness is known exactly."""

import functools

import keras
import numpy as np
import pytest

from analyzer.errors import ConfigError
from analyzer.robustness.attacks import square
from analyzer.robustness.attacks.apgd import APGD
from analyzer.robustness.attacks.square import Square, share_at
from tests.robustness import oracle

X, Y = oracle.digits()
KERNEL, BIAS = oracle.linear_weights(X[:1400], Y[:1400])
TEST, LABELS = X[1400:1430], Y[1400:1430]


@functools.cache
def exact_of(norm):
    return oracle.exact_distances(TEST, LABELS, KERNEL, BIAS, norm)


SHAPES = [(64,), (8, 8, 1), (16, 4), (4, 4, 2, 2), (4, 16, 1)]


def linear(shape):
    """The oracle's softmax, of inputs of some shape."""
    layers = [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")]
    model = keras.Sequential(layers)
    model.set_weights([KERNEL, BIAS])
    return model


def lengths(steps, norm):
    flat = steps.reshape(len(steps), -1)
    return np.linalg.norm(flat, {"linf": np.inf, "l2": 2, "l1": 1}[norm], axis=1)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("norm", "least"), [("linf", 0.65), ("l2", 0.35), ("l1", 0.1)])
def test_every_shape_is_attacked_within_box_and_ball_and_no_robust_sample_is_claimed(shape, norm, least):
    exact = np.tile(exact_of(norm), 2)
    epsilon = np.repeat(np.quantile(exact[exact > 0], [0.5, 0.8]), len(TEST))
    u, y = np.tile(TEST, (2, 1)).reshape(-1, *shape), np.tile(LABELS, 2)
    attacked = oracle.attacked(linear(shape), u)
    found = Square(norm=norm, queries=200).run(attacked, u, y, epsilon)
    sure = np.abs(exact - epsilon) > 1e-4
    assert not found.fooled[sure & (exact > epsilon)].any()
    falls = sure & (exact < epsilon) & (exact > 0)
    assert found.fooled[falls].mean() > least
    assert found.fooled[exact == 0].all()
    assert found.points.min() >= 0
    assert found.points.max() <= 1
    assert (lengths(found.points - u, norm) <= epsilon * (1 + 1e-5)).all()
    assert not attacked.correct(found.points[found.fooled], y[found.fooled]).any()
    np.testing.assert_array_equal(found.points[~found.fooled], u[~found.fooled])


def test_more_queries_leave_few_samples_standing():
    falls = exact_of("linf") > 0
    u, y, epsilon = TEST[falls], LABELS[falls], exact_of("linf")[falls] * 1.1
    attacked = oracle.attacked(linear((64,)), u)
    few, many = (Square(queries=queries).run(attacked, u, y, epsilon).fooled.mean() for queries in (100, 1000))
    assert few < many
    assert many > 0.8


def test_the_start_is_stripes_at_the_ends_of_the_ball():
    u = np.full((40, 6, 5, 3), 0.5, "float32") + np.linspace(0, 0.01, 40, dtype="float32")[:, None, None, None]
    rng = np.random.default_rng(0)
    model = keras.Sequential([keras.Input((6, 5, 3)), keras.layers.Flatten(), keras.layers.Dense(4)])
    model.set_weights([rng.normal(size=(90, 4)), np.zeros(4)])
    attacked = oracle.attacked(model, u)
    y = attacked.all_logits(u).argmax(1)
    found = Square(queries=1).run(attacked, u, y, np.full(40, 0.25))
    steps = (found.points - u)[found.fooled]
    assert 5 < len(steps) < 40
    np.testing.assert_allclose(np.abs(steps), 0.25, atol=1e-6)
    np.testing.assert_allclose(steps, np.broadcast_to(steps[:, :1], steps.shape), atol=1e-6)
    assert 0.3 < (steps[:, 0] > 0).mean() < 0.7


def test_an_l2_start_fills_the_ball_with_tiles_of_opposite_halves():
    u = np.full((40, 10, 10, 1), 0.5, "float32") + np.linspace(0, 0.01, 40, dtype="float32")[:, None, None, None]
    rng = np.random.default_rng(1)
    model = keras.Sequential([keras.Input((10, 10, 1)), keras.layers.Flatten(), keras.layers.Dense(4)])
    model.set_weights([rng.normal(size=(100, 4)), np.zeros(4)])
    attacked = oracle.attacked(model, u)
    y = attacked.all_logits(u).argmax(1)
    found = Square(norm="l2", queries=1).run(attacked, u, y, np.full(40, 3.0))
    steps = (found.points - u)[found.fooled][..., 0]
    assert len(steps) > 5
    np.testing.assert_allclose(np.linalg.norm(steps.reshape(len(steps), -1), axis=1), 3.0, rtol=1e-5)
    # Tiles of 2 x 2 have halves of one row or column each; both are as strong.
    tiles = steps.reshape(-1, 5, 2, 5, 2)
    np.testing.assert_allclose(tiles.sum((2, 4)), 0, atol=1e-5)


@pytest.mark.parametrize("order", [1, 2])
def test_a_query_moves_mass_as_algorithm_3_says(order):
    rng = np.random.default_rng(2)
    sizes, side, axis, channels, epsilon = (7, 6), 4, 1, 2, {1: 4.0, 2: 0.9}[order]
    before = rng.normal(0, 0.05, (1, *sizes, channels))
    corners, signs = np.array([[2, 0, 1, 2]]), np.array([1.0, -1.0])
    tensor = keras.ops.convert_to_tensor
    places = square._Places(
        tensor(corners.astype("int32")), tensor(np.full(2, side, "int32")), tensor(np.array([axis], "int32")), sizes
    )
    wide_signs, patterns = signs.reshape(1, 1, 1, 2), square._patterns(sizes, (side, side), order)
    given = [tensor(np.asarray(each, "float32")) for each in (before, [[[[epsilon]]]], wide_signs, patterns)]
    found = keras.ops.convert_to_numpy(square._moved_mass(given[0], given[1], places, *given[2:], order=order))

    def norm(values):
        return np.linalg.norm(values.ravel(), order)

    def eta(height, width):
        n = max(height, width) // 2
        layer = [[n - max(abs(r - height // 2), abs(s - width // 2)) for s in range(width)] for r in range(height)]
        return np.array([[sum(1 / (n + 1 - k) ** 2 for k in range(m + 1)) for m in row] for row in layer])

    halves = np.hstack([eta(side, side // 2), -eta(side, side - side // 2)])
    expected, nu = before[0].copy(), before[0]
    unused = epsilon**order - np.sum(np.abs(nu) ** order)
    one, two = np.zeros(sizes, bool), np.zeros(sizes, bool)
    one[2:6, 0:4] = True
    two[1:5, 2:6] = True
    for c in range(channels):
        window = nu[2:6, 0:4, c]
        mixed = signs[c] * halves / norm(halves) + window / norm(window)
        available = (norm(nu[one | two, c]) ** order + unused / channels) ** (1 / order)
        expected[two, c] = 0
        expected[2:6, 0:4, c] = mixed / norm(mixed) * available
    np.testing.assert_allclose(found[0], expected, atol=1e-5)
    np.testing.assert_allclose(norm(found), epsilon, rtol=1e-5)


def test_the_schedule_is_the_published_one_stretched():
    halvings = [np.log2(0.8 / share_at(query, 10_000, 0.8)) for query in (0, 10, 11, 51, 201, 501, 1001, 2001, 4001)]
    np.testing.assert_array_equal(halvings, [0, 0, 1, 2, 3, 4, 5, 6, 7])
    assert share_at(9999, 10_000, 0.8) == 0.8 / 2**9
    assert [share_at(query, 1000, 0.8) for query in (1, 2, 5, 6)] == [0.8, 0.4, 0.4, 0.2]


def test_random_numbers_are_the_samples_own():
    epsilon = np.full(len(TEST), np.quantile(exact_of("l2"), 0.7))
    attack = Square(norm="l2", queries=150)
    whole = attack.run(oracle.attacked(linear((64,)), TEST, batch_size=32), TEST, LABELS, epsilon)
    rows = np.arange(len(TEST))[::-3]
    part = attack.run(oracle.attacked(linear((64,)), TEST, batch_size=8), TEST[rows], LABELS[rows], epsilon[rows])
    assert part.fooled.any()
    np.testing.assert_array_equal(part.fooled, whole.fooled[rows])
    np.testing.assert_allclose(part.points, whole.points[rows], atol=1e-3)
    other = Square(norm="l2", queries=150, seed=1).run(oracle.attacked(linear((64,)), TEST), TEST, LABELS, epsilon)
    assert np.abs(other.points - whole.points).max() > 0.01


@keras.saving.register_keras_serializable("tests")
class Rounded(keras.layers.Layer):
    """Eighths: a function without gradients."""

    def call(self, x):
        return keras.ops.round(x * 8) / 8


def test_it_needs_no_gradients():
    model = keras.Sequential([keras.Input((64,)), Rounded(), keras.layers.Dense(10)])
    model.set_weights([KERNEL, BIAS])
    attacked = oracle.attacked(model, TEST)
    epsilon = np.full(len(TEST), 0.15)
    blind, seeing = (attack.run(attacked, TEST, LABELS, epsilon).fooled for attack in (APGD(), Square(queries=300)))
    assert seeing.mean() > blind.mean() + 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "l3"}, "norm='l3'"),
        ({"queries": 0}, "queries=0: expected 1 or more"),
        ({"share": 0.0}, "share=0.0: expected a share"),
        ({"share": 1.5}, "share=1.5: expected a share"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        Square(**options).run(oracle.attacked(linear((64,)), TEST), TEST, LABELS, np.full(len(TEST), 0.1))
