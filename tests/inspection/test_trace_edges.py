"""Who takes what from whom: the graph of calls, equal on all backends."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from analyzer.inspection import open_model
from tests import zoo

L = keras.layers


def edges(model, x=None):
    """Name of each call with the names of its sources; inputs are ``in0``, ``in1``, …"""
    view = open_model(model, x)
    names = [view.places[firing.place].name for firing in view.firings]
    return [
        (name, [f"in{-1 - s}" if s < 0 else names[s] for s in firing.sources])
        for name, firing in zip(names, view.firings, strict=True)
    ], view


def test_a_residual_block_has_both_branches():
    a = keras.Input((6,))
    h = L.Dense(6, name="up")(a)
    model = keras.Model(a, L.Dense(2, name="head")(L.Add(name="add")([L.Dropout(0.5, name="drop")(h), a])))
    found, view = edges(model)
    assert found == [("up", ["in0"]), ("drop", ["up"]), ("add", ["drop", "in0"]), ("head", ["add"])]
    assert not any(firing.inferred for firing in view.firings)


def test_inputs_and_calls_of_a_shared_layer_are_told_apart():
    found, view = edges(zoo.build("shared_layer").model)
    assert found == [("shared", ["in0"]), ("shared", ["in1"]), ("join", ["shared", "shared"]), ("head", ["join"])]
    assert view.firings[2].sources == (0, 1)


def test_nested_models_pass_on_what_their_last_layer_made():
    found, view = edges(zoo.build("nested_sequential").model)
    assert found[-1] == ("head", ["inner"])
    assert [firing.inside for firing in view.firings] == [1, None, 3, None, None]
    assert view.firings[4].sources == (2,)
    assert all(firing.closes == () for firing in view.firings)


def test_an_attention_layer_holds_its_projections():
    found, view = edges(zoo.build("attention").model)
    by_name = dict(found)
    assert by_name["attention_output"] == ["query", "key", "value"]
    assert ["in0", "attention_output"] in by_name.values(), "the sum after the attention takes its last projection"
    inner = [f for f in view.firings if f.inside is not None]
    assert [f.inferred for f in inner] == [False, False, False, True]
    assert {view.places[view.firings[f.inside].place].name for f in inner} == {"mha"}


class Joins(L.Layer):
    """Two branches, joined by plain arithmetic at the end and in the middle."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.left, self.right, self.after = (L.Dense(3, name=name) for name in ("left", "right", "after"))

    def call(self, x):
        return self.after(self.left(x) + self.right(x)) * 2.0


def test_plain_arithmetic_between_layers_is_bridged_and_said_to_be():
    a = keras.Input((3,))
    found, view = edges(keras.Model(a, L.Dense(1, name="head")(Joins(name="joins")(a))))
    assert dict(found) == {
        "left": ["in0"],
        "right": ["in0"],
        "after": ["left", "right"],
        "joins": ["in0"],
        "head": ["joins"],
    }
    by_name = {view.places[f.place].name: f for f in view.firings}
    assert [name for name, f in by_name.items() if f.inferred] == ["after"]
    assert by_name["joins"].closes == (2,)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.last = L.Dense(4, name="first"), L.Dense(2, name="last")

    def call(self, x):
        return self.last(keras.ops.mean(self.first(x), axis=1))


def test_a_subclassed_model_bridges_its_own_operations():
    model, x = Subclassed(), np.zeros((1, 5, 3), "float32")
    model(x)
    found, view = edges(model, x)
    assert found == [("first", ["in0"]), ("last", ["first"])]
    assert [firing.inferred for firing in view.firings] == [False, True]


def test_the_first_cast_of_mixed_precision_is_no_guess():
    found, view = edges(zoo.build("mixed_float16").model)
    assert found == [("hidden", ["in0"]), ("head", ["hidden"])]
    assert not any(firing.inferred for firing in view.firings)


@pytest.mark.parametrize("name", zoo.BUILDERS)
def test_sources_come_before_and_containers_after(name):
    made = zoo.build(name)
    n = zoo.FIXED_BATCH if "fixed" in name else 1
    _, view = edges(made.model, keras.tree.map_structure(lambda array: array[:n], made.x))
    for position, firing in enumerate(view.firings):
        assert firing.sources, "every call takes something"
        assert all(source < position for source in firing.sources)
        assert firing.inside is None or firing.inside > position
