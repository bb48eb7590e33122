"""Which branches are found in models of every form, and the split of the damage among them, by all orders by hand."""

from itertools import permutations

import keras
import numpy as np
import pytest

from analyzer.diagnosis.branches import find_branches, split_among
from analyzer.diagnosis.patching import patch_layers
from tests.diagnosis.faulty import (
    WIDTH,
    Block,
    Subclassed,
    UnseenSum,
    calls_of,
    chain,
    fill,
    opened,
    residual,
    residual_by_hand,
    samples,
)

L = keras.layers


def blocks():
    layers = [L.Dense(WIDTH, name="stem"), Block(name="first"), Block(name="second"), L.Dense(3, name="head")]
    return fill(keras.Sequential([keras.Input((WIDTH,)), *layers]))


def subclassed():
    model = Subclassed()
    model(np.zeros((1, WIDTH), "float32"))
    return fill(model)


def projected():
    x = inputs = keras.Input((WIDTH,))
    f = L.Dense(6, name="up")(L.Dense(5, activation="relu", name="low")(x))
    x = L.Add(name="sum")([L.Dense(6, name="shortcut")(x), f])
    return fill(keras.Model(inputs, L.Dense(3, name="head")(x)))


def nested():
    def encoder():
        x = inputs = keras.Input((WIDTH,))
        f = L.Dense(WIDTH, activation="relu", name="inner_up")(x)
        return keras.Model(inputs, x + L.Dense(WIDTH, name="inner_down")(f), name="encoder")

    x = inputs = keras.Input((WIDTH,))
    x = encoder()(x)
    f = keras.Sequential([keras.Input((WIDTH,)), L.Dense(4, name="a"), L.Dense(WIDTH, name="b")], name="mlp")(x)
    return fill(keras.Model(inputs, L.Dense(3, name="head")(x + f)))


def within():
    """A residual block inside a branch: it acts through the outer one."""
    x = inputs = keras.Input((WIDTH,))
    f = L.Dense(WIDTH, name="in")(x)
    f = f + L.Dense(WIDTH, activation="relu", name="inner")(f)
    x = x + L.Dense(WIDTH, name="out")(f)
    return fill(keras.Model(inputs, L.Dense(3, name="head")(x)))


def unseen_within():
    x = inputs = keras.Input((WIDTH,))
    x = x + UnseenSum(name="unseen")(x)
    return fill(keras.Model(inputs, L.Dense(3, name="head")(x)))


def gated():
    x = inputs = keras.Input((WIDTH,))
    x = L.Multiply(name="gated")([x, L.Dense(WIDTH, activation="sigmoid", name="gate")(x)])
    x = L.Concatenate(name="dense_net")([x, L.Dense(4, activation="relu", name="grown")(x)])
    return fill(keras.Model(inputs, L.Dense(3, name="head")(x)))


def transformer():
    x = inputs = keras.Input((3, WIDTH))
    x = x + L.MultiHeadAttention(2, 3, name="mha")(x, x)
    f = L.Dense(WIDTH, name="ff_down")(L.Dense(6, activation="relu", name="ff_up")(x))
    x = L.GlobalAveragePooling1D(name="pool")(L.Add(name="plus")([x, f]))
    return fill(keras.Model(inputs, L.Dense(3, name="head")(x)))


@pytest.mark.parametrize(
    ("build", "shape", "ends"),
    [
        (residual, (WIDTH,), ["down_0", "down_1", "down_2"]),
        (blocks, (WIDTH,), ["first/down", "second/down"]),
        (subclassed, (WIDTH,), ["down_0", "down_1", "down_2"]),
        (projected, (WIDTH,), ["shortcut", "up"]),
        (nested, (WIDTH,), ["encoder/inner_down", "mlp/b"]),
        (within, (WIDTH,), ["out"]),
        (unseen_within, (WIDTH,), ["unseen/last"]),
        (gated, (WIDTH,), ["gate", "grown"]),
        (transformer, (3, WIDTH), ["mha/attention_output", "ff_down"]),
        (chain, (WIDTH,), []),
    ],
)
def test_the_ends_of_branches(build, shape, ends):
    model = build()
    patchable, cases, places = opened(model, *samples(model, shape, move=1.5), most=4)
    patches = patch_layers(patchable, cases, calls_of(places))
    carrying = [name for name, patch in patches.items() if patch.carries_all]
    found = find_branches(patchable.view, places, carrying)
    assert sorted(call.id for call in found) == sorted(ends)


def split(model, **kwargs):
    patchable, cases, places = opened(model, *samples(model))
    ends = [call for call in calls_of(places) if call.id.startswith("down")]
    return cases, split_among(patchable, cases, ends, **kwargs)


def test_shares_are_the_mean_over_all_orders_by_hand():
    model = residual()
    cases, found = split(model)
    z, _ = residual_by_hand(model, cases.x)
    made = residual_by_hand(model, cases.moved)[1]
    rows = np.arange(len(cases.y))

    def lost(patched):
        change = z - residual_by_hand(model, cases.x, patched)[0]
        return change[rows, cases.y] - change[rows, cases.other]

    expected = dict.fromkeys(made, 0.0)
    for order in permutations(made):
        for i, name in enumerate(order):
            with_it, before = ({one: made[one] for one in order[:end]} for end in (i + 1, i))
            expected[name] = expected[name] + (lost(with_it) - lost(before)) / 6
    assert (found.exact, found.n_evaluations) == (True, 8)
    assert set(found.order_errors.values()) == {0.0}
    for name, values in expected.items():
        np.testing.assert_allclose(found.by_branch[name], values, atol=1e-5)
    np.testing.assert_allclose(found.around, cases.lost - lost(made), atol=1e-5)
    np.testing.assert_allclose(sum(found.by_branch.values()) + found.around, cases.lost, atol=1e-9)


def test_many_branches_are_sampled_and_still_add_up():
    model = residual(blocks=6)
    cases, exact = split(model)
    assert exact.exact
    _, found = split(model, n_permutations=12)
    assert not found.exact
    np.testing.assert_allclose(sum(found.by_branch.values()) + found.around, cases.lost, atol=1e-9)
    for name, values in found.by_branch.items():
        off = abs((values - exact.by_branch[name])[cases.failed].mean())
        assert off <= 2 * found.order_errors[name] + 1e-6
    assert max(found.order_errors.values()) > 0


def test_two_branches_beside_each_other_take_all():
    model = projected()
    patchable, cases, places = opened(model, *samples(model, move=1.5))
    ends = [call for call in calls_of(places) if call.id in ("shortcut", "up")]
    found = split_among(patchable, cases, ends)
    np.testing.assert_allclose(found.around, 0, atol=1e-5)
