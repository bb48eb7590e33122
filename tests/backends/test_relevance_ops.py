"""The ops that carry relevance: what flows back is what the contract says, on the backend at hand."""

import itertools

import keras
import numpy as np
import pytest

from analyzer.backends import engine, relevance_ops
from analyzer.backends.contract import Tensor

PLACES = np.arange(1, 1 + 2 * 5 * 7 * 3, dtype="float32").reshape(2, 5, 7, 3)


def pulled(fn, *arrays, seeds=None):
    """The value of ``fn(*tensors)`` and its gradients for each seed (ones unless given), as arrays."""

    def wrapped(tensors: list[Tensor]):
        return fn(*tensors), None

    def cotangents(value):
        return keras.ops.convert_to_tensor(np.ones((1, *value.shape), "float32") if seeds is None else seeds)

    value, _, found = relevance_ops().pull(wrapped, [keras.ops.convert_to_tensor(a) for a in arrays], cotangents)
    return engine().to_numpy(value), [engine().to_numpy(g) for g in found]


def pool(window, strides=None, padding="valid"):
    strides = strides or window

    def plain(x):
        return keras.ops.max_pool(x, window, strides, padding, "channels_last")

    return lambda t: relevance_ops().max_pool(t, window, strides, padding, plain)


def windows_of(sizes, window, strides, padding):
    """Slices of every window along the axes of space, by its place in the output."""
    axes = []
    for size, side, stride in zip(sizes, window, strides, strict=True):
        count = -(-size // stride) if padding == "same" else (size - side) // stride + 1
        before = max((count - 1) * stride + side - size, 0) // 2 if padding == "same" else 0
        axes.append([slice(max(i * stride - before, 0), i * stride - before + side) for i in range(count)])
    return {
        place: tuple(axis[i] for axis, i in zip(axes, place, strict=True))
        for place in itertools.product(*(range(len(axis)) for axis in axes))
    }


def pooled_by_hand(x, window, strides, padding, seeds):
    """Maxima, and what flows back to the first of the largest of every window."""
    windows = windows_of(x.shape[1:-1], window, strides, padding)
    shape = [1 + last for last in max(windows)]
    value, back = np.zeros((len(x), *shape, x.shape[-1])), np.zeros((len(seeds), *x.shape))
    for place, where in windows.items():
        for n, channel in itertools.product(range(len(x)), range(x.shape[-1])):
            cells = x[(n, *where, channel)]
            first = np.unravel_index(int(np.argmax(cells)), cells.shape)
            value[(n, *place, channel)] = cells[first]
            for found, seed in zip(back, seeds, strict=True):
                found[(n, *where, channel)][first] += seed[(n, *place, channel)]
    return value, back


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(
    ("shape", "window", "strides"),
    [
        ((2, 5, 7, 3), (2, 3), (2, 3)),
        ((2, 9, 2), (4,), (4,)),
        ((1, 4, 5, 4, 2), (2, 2, 3), (2, 2, 3)),
        ((2, 6, 7, 1), (3, 2), (2, 1)),
        ((1, 5, 4, 5, 2), (3, 2, 2), (1, 2, 1)),
    ],
)
def test_maxima_and_the_way_back_with_ties_overlaps_and_leftovers(shape, window, strides, padding):
    rng = np.random.default_rng(0)
    x = rng.integers(-1, 2, shape).astype("float32")  # three values only: nearly every window has a tie
    value, _ = pulled(pool(window, strides, padding), x)
    seeds = rng.standard_normal((3, *value.shape)).astype("float32")
    expected, back = pooled_by_hand(x, window, strides, padding, seeds)
    value, (found,) = pulled(pool(window, strides, padding), x, seeds=seeds)
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_allclose(found, back, rtol=1e-5, atol=1e-6)


def test_negative_windows_and_infinite_values_are_pooled_as_they_are():
    x = -PLACES
    x[0, 0, 0, 0], x[1, 0, 0, 1] = np.inf, -np.inf
    expected, _ = pooled_by_hand(x, (2, 3), (2, 3), "valid", np.ones((1, 2, 2, 2, 3)))
    value, _ = pulled(pool((2, 3)), x)
    np.testing.assert_array_equal(value, expected)


def test_what_is_not_a_number_stays_visible():
    x = PLACES.copy()
    x[0, 1, 1, 0] = np.nan
    value, _ = pulled(pool((2, 3)), x)
    shown = engine().to_numpy(keras.ops.max_pool(keras.ops.convert_to_tensor(x), (2, 3), (2, 3), "valid"))
    np.testing.assert_array_equal(value, shown)


@pytest.mark.parametrize("epsilon", [1e-6, 0.25, 3.0])
def test_bind_value_is_bind_by_the_stabilised_value(epsilon):
    rng = np.random.default_rng(1)
    value, part = rng.standard_normal((2, 4, 6)).astype("float32"), rng.standard_normal((2, 4, 6)).astype("float32")[0]
    value = value[0]
    value[0, :2] = 0.0
    seeds = rng.standard_normal((2, 4, 6)).astype("float32")
    ops, constant = relevance_ops(), keras.ops.convert_to_tensor(value)

    def by_bind(t):
        return ops.bind(constant, [t], [constant], lambda r, kept: [r / ops.stabilise(kept[0], epsilon)])

    kept, (short,) = pulled(lambda t: ops.bind_value(constant, t, epsilon), part, seeds=seeds)
    _, (long,) = pulled(by_bind, part, seeds=seeds)
    np.testing.assert_array_equal(kept, value)
    np.testing.assert_allclose(short, long, rtol=2e-6, atol=1e-6)
    wide = value.astype("float64")
    signed = wide + np.where(wide >= 0, epsilon, -epsilon)
    np.testing.assert_allclose(short, seeds * wide / signed, rtol=1e-5, atol=1e-6)


def test_nothing_flows_back_through_the_value():
    x = PLACES[0, :, :, 0]

    def twice(t):
        return relevance_ops().bind_value(2.0 * t, 0.0 * t, 1.0)

    _, (found,) = pulled(twice, x)
    np.testing.assert_array_equal(found[0], np.zeros_like(x))


class _OneByOne:
    """Doubling; on PyTorch its way back asks for a number, which a batch of cotangents cannot give."""

    calls = 0

    def __call__(self, t):
        if keras.backend.backend() != "torch":
            return 2.0 * t
        import torch

        class Doubled(torch.autograd.Function):
            @staticmethod
            def forward(_, value):
                return 2.0 * value

            @staticmethod
            def backward(_, cotangent):
                _OneByOne.calls += 1
                return cotangent * (2.0 if float(cotangent.abs().sum()) >= 0 else 0.0)

        return Doubled.apply(t)


def test_several_cotangents_where_an_operation_has_no_batched_form():
    rng = np.random.default_rng(2)
    x, seeds = rng.standard_normal((3, 5)).astype("float32"), rng.standard_normal((4, 3)).astype("float32")
    factors, _OneByOne.calls = rng.standard_normal((1, 5)).astype("float32"), 0

    def fn(t):
        return keras.ops.sum(keras.ops.multiply(_OneByOne()(t), keras.ops.convert_to_tensor(factors)), axis=-1)

    _, (found,) = pulled(fn, x, seeds=seeds)
    np.testing.assert_allclose(found, 2.0 * seeds[:, :, None] * factors, rtol=1e-6)
    assert _OneByOne.calls in ((5,) if keras.backend.backend() == "torch" else (0,))
