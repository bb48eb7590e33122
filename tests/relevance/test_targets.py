"""Every kind of target by closed forms: of a layer without a bias, an output's relevance is ``x_i w_ij``."""

import keras
import numpy as np
import pytest

from analyzer.errors import ConfigError, DataError
from analyzer.relevance.explain import explain

L = keras.layers
ops = keras.ops
RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 6)).astype("float32")


def dense(units, activation=None, shape=(6,), name="y"):
    model = keras.Sequential([L.Input(shape), L.Dense(units, activation, use_bias=False)], name=name)
    drawn = np.random.default_rng(units).normal(size=(shape[-1], units))
    model.layers[0].set_weights([drawn.astype("float32")])
    return model, drawn


def relevance(model, x, *args, **kwargs):
    """The map of the only input, and the explanation."""
    found = explain(model, x, *args, method="epsilon", layers=None, **kwargs)
    (array,) = found.inputs.values()
    return array, found


def same(got, expected):
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-5)


# ------------------------------------------------------------------------------------------------------------ classes
@pytest.mark.parametrize("activation", [None, "softmax", "sigmoid"])
def test_a_class_and_the_predicted_class(activation):
    model, w = dense(4, activation)
    predicted = (X @ w).argmax(1)
    array, found = relevance(model, X)
    same(array, X * w[:, predicted].T)
    assert np.array_equal(found.targets, predicted)
    same(found.output, (X @ w).max(1))
    array, found = relevance(model, X, 2)
    same(array, X * w[:, 2])
    assert found.target == "class 2"
    # The logit, not the probability.
    same(found.output, (X @ w)[:, 2])


def test_several_at_once_are_single_runs():
    model, w = dense(4, "softmax")
    array, found = relevance(model, X, [2, 0, -1, "predicted"])
    assert array.shape == (4, 5, 6)
    assert found.output.shape == found.targets.shape == (4, 5)
    predicted = (X @ w).argmax(1)
    for one, target in zip(array, [[2] * 5, [0] * 5, [3] * 5, predicted], strict=True):
        same(one, X * w[:, target].T)
    assert found.targets[2].tolist() == [3] * 5
    single, _ = relevance(model, X, [2])
    assert single.shape == (5, 6)


def test_a_class_for_each_sample():
    model, w = dense(4)
    target = np.array([3, 0, -1, 2, 1])
    array, found = relevance(model, X, target, batch_size=2)
    same(array, X * w[:, target].T)
    assert found.targets.tolist() == [3, 0, 3, 2, 1]


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_both_classes_of_a_binary_output(activation):
    model, w = dense(1, activation)
    z = (X @ w)[:, 0]
    task = None if activation else "binary"
    array, found = relevance(model, X, [0, 1, "predicted"], task=task)
    same(array[1], X * w[:, 0])
    same(array[0], -X * w[:, 0])
    same(array[2], np.sign(z)[:, None] * X * w[:, 0])
    assert np.array_equal(found.targets[2], z > 0)
    assert np.all(found.output[2] > 0)


def test_the_task_says_what_a_single_output_is():
    """Without a last activation one output is a number, and only as a class has it an opposite."""
    model, w = dense(1)
    array, found = relevance(model, X)
    same(array, X * w[:, 0])
    assert found.target == "the predicted output"
    array, _ = relevance(model, X, 0, task="binary")
    same(array, -X * w[:, 0])
    with pytest.raises(ConfigError, match="out of range"):
        relevance(model, X, 1)


def test_labels_are_explained_one_by_one():
    model, w = dense(3, "sigmoid")
    array, found = relevance(model, X, [0, 1, 2])
    for k in range(3):
        same(array[k], X * w[:, k])
    assert found.target == "class [0, 1, 2]" or "0" in found.target


# ------------------------------------------------------------------------------------ regression, boxes, masks, tokens
def test_coordinates_of_a_regression_and_a_whole_box():
    model, w = dense(4)
    array, found = relevance(model, X, 2, task="regression")
    same(array, X * w[:, 2])
    assert found.target == "output 2"
    array, found = relevance(model, X, task="box")
    same(array, X * w.sum(1))
    same(found.output, (X @ w).sum(1))
    array, found = relevance(model, X, 1, task="box")
    same(array, X * w[:, 1])
    assert found.target == "coordinate 1"
    # An amount to begin with is divided equally among the coordinates.
    array, found = relevance(model, X, task="box", start=8.0)
    same(found.output, 8)
    same(array, X * (w * 2 / (X @ w)[:, None, :]).sum(-1))


def test_a_mask_by_its_threshold():
    model, w = dense(3, "softmax", (4, 4, 2))
    x = RNG.normal(size=(3, 4, 4, 2)).astype("float32")
    logits = x @ w
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    outputs = []
    for threshold in (0.4, 0.7):
        array, found = relevance(model, x, 1, threshold=threshold)
        inside = (p[..., 1] > threshold)[..., None]
        assert 0 < inside.sum() < inside.size
        same(array, x * w[:, 1] * inside)
        assert np.array_equal(array.any(-1), inside[..., 0])
        outputs.append(found.output)
    assert not np.allclose(*outputs)
    array, _ = relevance(model, x, threshold=0.0)
    same(array, x * np.moveaxis(w[:, logits.argmax(-1)], 0, -1))
    array, found = relevance(model, x, -1, threshold=0.4, start=6.0)
    has_any = (p[..., 2] > 0.4).any((1, 2))
    same(found.output, 6.0 * has_any)
    # Single pixels are indexed like any output.
    array, found = relevance(model, x, (1, -1, 0))
    expected = np.zeros_like(x)
    expected[:, 1, 3] = x[:, 1, 3] * w[:, 0]
    same(array, expected)


def test_a_mask_of_one_channel():
    model, w = dense(1, "sigmoid", (4, 4, 2))
    x = RNG.normal(size=(2, 4, 4, 2)).astype("float32")
    inside = 1 / (1 + np.exp(-(x @ w))) > 0.6
    array, _ = relevance(model, x, threshold=0.6)
    same(array, x * w[:, 0] * inside)


def test_a_token_of_a_position():
    model, w = dense(4, "softmax", (3, 6))
    x = RNG.normal(size=(2, 3, 6)).astype("float32")
    array, found = relevance(model, x, [(1, 2), (-1, 0)])
    for one, (position, token) in zip(array, [(1, 2), (2, 0)], strict=True):
        expected = np.zeros_like(x)
        expected[:, position] = x[:, position] * w[:, token]
        same(one, expected)
    assert found.targets[:, 0].tolist() == [1 * 4 + 2, 2 * 4]
    with pytest.raises(ConfigError, match="say which one"):
        relevance(model, x)
    with pytest.raises(ConfigError, match="give 2 numbers"):
        relevance(model, x, 1)


# ---------------------------------------------------------------------------------------- several outputs, callables
def two_heads():
    inputs = L.Input((6,))
    a, b = L.Dense(3, "softmax", use_bias=False, name="cls"), L.Dense(4, use_bias=False, name="box")
    model = keras.Model(inputs, [a(inputs), b(inputs)])
    rng = np.random.default_rng(1)
    wa, wb = rng.normal(size=(6, 3)), rng.normal(size=(6, 4))
    a.set_weights([wa.astype("float32")])
    b.set_weights([wb.astype("float32")])
    return model, wa, wb


def test_one_of_several_outputs_or_a_function_of_them():
    model, wa, wb = two_heads()
    array, _ = relevance(model, X, {"cls": 1})
    same(array, X * wa[:, 1])
    array, _ = relevance(model, X, {"box": [3, 0]})
    same(array[0], X * wb[:, 3])
    same(array[1], X * wb[:, 0])
    array, _ = relevance(model, X, {"box": "predicted"}, task="box")
    same(array, X * wb.sum(1))

    def both(outputs):
        return outputs[0][:, 2] + 2 * outputs[1][:, 1]

    array, found = relevance(model, X, both)
    same(array, X * (wa[:, 2] + 2 * wb[:, 1]))
    same(found.output, X @ (wa[:, 2] + 2 * wb[:, 1]))
    assert found.target == "both"
    assert found.targets is None
    with pytest.raises(ConfigError, match="2 outputs"):
        relevance(model, X, 1)
    with pytest.raises(ConfigError, match="Did you mean 'box'"):
        relevance(model, X, {"bx": 1})


def test_a_function_sees_logits_and_may_keep_an_axis():
    model, w = dense(3, "softmax")
    array, found = relevance(model, X, lambda y: ops.max(y, axis=-1, keepdims=True))
    same(array, X * w[:, (X @ w).argmax(1)].T)
    same(found.output, (X @ w).max(1))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda y: ops.sum(y),
        lambda y: y,
        lambda y: ops.argmax(y, axis=-1),
        lambda y: y[:2, 0],
        lambda _: None,
        lambda _: 1.0,
    ],
)
@pytest.mark.once
def test_a_function_that_gives_no_number_per_sample_is_refused(wrong):
    with pytest.raises(ConfigError, match="expected one float number for each"):
        relevance(dense(3)[0], X, wrong)


# ------------------------------------------------------------------------------------------------------------- options
def test_start_and_multiplier():
    model, w = dense(4)
    z = (X @ w)[:, 1]
    plain, _ = relevance(model, X, 1)
    for options, factor in (
        ({"multiplier": 3.0}, np.full(5, 3.0)),
        ({"start": 1.0}, 1 / z),
        ({"start": 100.0, "multiplier": -0.5}, -50 / z),
    ):
        array, found = relevance(model, X, 1, **options)
        same(array, factor[:, None] * plain)
        same(found.output, factor * z)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 32])
def test_batches_of_any_size_give_the_same_numbers(batch_size):
    model, w = dense(4, "softmax")
    array, found = relevance(model, X, batch_size=batch_size)
    assert array.shape == X.shape
    same(array, X * w[:, (X @ w).argmax(1)].T)
    same(found.output, (X @ w).max(1))


def test_a_batch_is_never_one_sample():
    model, _ = dense(4)
    array, _ = relevance(model, X)
    assert len({tuple(row) for row in array.round(6).tolist()}) == len(X)
    one, found = relevance(model, X[3:4])
    assert one.shape == (1, 6)
    assert found.n == 1
    same(one[0], array[3])


def test_a_fixed_batch_size_is_kept_to():
    model = keras.Sequential([L.Input(batch_shape=(2, 6)), L.Dense(3, use_bias=False)])
    w = model.layers[0].get_weights()[0]
    array, _ = relevance(model, X, 1)
    same(array, X * w[:, 1])


# ------------------------------------------------------------------------------------------------------ what is wrong
@pytest.mark.once
@pytest.mark.parametrize(
    ("target", "options", "said"),
    [
        (4, {}, "out of range"),
        (-5, {}, "out of range"),
        ("best", {}, "expected 'predicted'"),
        (1.0, {}, "expected 'predicted'"),
        (True, {}, "expected 'predicted'"),
        ([], {}, "at least one"),
        ([1, 7], {}, "out of range"),
        ((1, 2), {}, "give 1 numbers"),
        ({}, {}, "expected one output's name"),
        ({"z": 1}, {}, "output"),
        (0, {"task": "clas"}, "task"),
        (0, {"start": 0}, "start"),
        (0, {"start": "input"}, "start"),
        (0, {"multiplier": 0}, "multiplier"),
        (0, {"multiplier": float("nan")}, "multiplier"),
        (0, {"threshold": 1.0}, "threshold"),
        (9, {"task": "segmentation"}, "masks have 4 classes"),
    ],
)
def test_wrong_targets_and_options(target, options, said):
    with pytest.raises(ConfigError, match=said):
        relevance(dense(4)[0], X, target, **options)


@pytest.mark.once
@pytest.mark.parametrize("target", [np.zeros(4, int), np.zeros((5, 1), int), np.zeros(5), np.array([], int)])
def test_a_class_for_each_sample_is_one_whole_number_each(target):
    with pytest.raises(DataError, match="one whole number for each of the 5 samples"):
        relevance(dense(4)[0], X, target)
