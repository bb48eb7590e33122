"""Every private attribute of Keras that `compat` touches, by name: what we believe of it must stay true."""

import ast
import contextlib
import inspect
import re
from pathlib import Path

import keras
import numpy as np
import pytest

from analyzer.inspection import compat
from tests import zoo

L = keras.layers

ANALYZER = Path(compat.__file__).parents[1]
X = np.ones((2, 3), "float32")


def private_names(path):
    """Attributes with a leading underscore that are read off anything but ``self`` and ``cls``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and re.match(r"_[a-z]", node.attr)
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    }


def test_every_private_attribute_has_a_test_that_names_it():
    touched = private_names(Path(compat.__file__)) | {"_remat_mode", "_clear_losses"}
    tested = {name for name in touched if hasattr(TestPrivateAttributes, f"test{name}")}
    assert tested == touched


def dense(units=2, **options):
    layer = L.Dense(units, **options)
    layer.build((None, 3))
    return layer


class TestPrivateAttributes:
    def test_compute_attention(self):
        x = np.ones((2, 4, 3), "float32")
        layer = L.MultiHeadAttention(1, 2, use_bias=False)
        layer(x, x)

        def nothing(query, key, value, *args, **kwargs):
            return keras.ops.zeros_like(query), None

        before = keras.ops.convert_to_numpy(layer(x, x))
        with compat.attention_by(layer, nothing, lambda x, project: project(x)):
            assert (keras.ops.convert_to_numpy(layer(x, x)) == 0).all()
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(x, x)), before)

    def test_compute_attention_of_a_users_own_stays(self):
        class Own(L.MultiHeadAttention):
            def _compute_attention(self, query, key, value, *args, **kwargs):
                return keras.ops.zeros_like(query), None

        x = np.ones((2, 4, 3), "float32")
        layer = Own(1, 2, use_bias=False)
        assert not compat.attends_as_keras(layer)
        assert compat.attends_as_keras(L.GroupQueryAttention(2, 2, 1))
        with compat.attention_by(layer, pytest.fail, lambda x, project: project(x)):
            assert (keras.ops.convert_to_numpy(layer(x, x)) == 0).all()

    def test_gate_dense(self):
        if "use_gate" not in inspect.signature(L.MultiHeadAttention.__init__).parameters:
            return
        x, seen = np.ones((2, 4, 3), "float32"), []
        layer = L.MultiHeadAttention(1, 2, use_gate=True)
        layer(x, x)
        compute = layer._compute_attention
        with compat.attention_by(layer, compute, lambda x, project: seen.append(project) or project(x)):
            layer(x, x)
        assert seen == [layer._gate_dense]

    def test_keras_mask(self):
        x = keras.ops.convert_to_tensor(X) + 0
        if keras.backend.backend() != "jax":
            x._keras_mask = True
            compat.drop_mask(x)
            assert getattr(x, "_keras_mask", None) is None

    def test_layers(self):
        model = zoo.build("subclassed_private").model
        names = [layer.name for layer in compat.sublayers(model)]
        assert sorted(names) == ["block_0", "block_1", "head", "hidden", "scale"]

    def test_layers_are_listed_once(self):
        class Holder(keras.layers.Layer):
            def __init__(self):
                super().__init__()
                self.first = self.second = dense(name="d")
                self.again = [self.first]

        assert [layer.name for layer in compat.sublayers(Holder())] == ["d"]

    def test_trainable_variables(self):
        layer = L.BatchNormalization()
        layer.build((None, 3))
        assert [v.name for v in compat.own_variables(layer)][:2] == ["gamma", "beta"]

    def test_non_trainable_variables(self):
        layer = L.BatchNormalization()
        layer.build((None, 3))
        assert [v.name for v in compat.own_variables(layer)][2:] == ["moving_mean", "moving_variance"]

    def test_non_trainable_variables_leave_seeds_and_children_out(self):
        assert compat.own_variables(L.Dropout(0.5)) == []
        assert compat.own_variables(keras.Sequential([keras.Input((3,)), L.Dense(2)])) == []

    def test_functional(self):
        model = keras.Sequential([keras.Input((3,)), L.Dense(2, name="a"), L.Dense(2, name="b")])
        assert [place.name for place in compat.operations(model)][1:] == ["a", "b"]

    def test_functional_is_none_before_a_sequential_model_is_built(self):
        assert compat.operations(keras.Sequential([L.Dense(2)])) == []

    def test_flatten_layers(self):
        model = keras.Sequential([keras.Input((3,)), keras.Sequential([L.Dense(2, name="inner")], name="nested")])
        assert {layer.name for layer in model._flatten_layers(include_self=False)} >= {"nested", "inner"}
        assert model not in model._flatten_layers(include_self=False)

    def test_remat_mode(self):
        with keras.RematScope(mode="full"):
            layer = dense()
        assert layer._remat_mode is not None
        mode = layer._remat_mode
        model = keras.Sequential([keras.Input((3,)), layer])
        with compat.plain_calls(model, [layer]):
            assert layer._remat_mode is None
        assert layer._remat_mode is mode

    def test_clear_losses(self):
        layer = dense(activity_regularizer="l2")
        model = keras.Sequential([keras.Input((3,)), layer])
        model(X)
        (loss,) = layer._losses
        with compat.plain_calls(model, [layer]), keras.StatelessScope():
            model(X)
        assert [id(kept) for kept in layer._losses] == [id(loss)]
        assert "_clear_losses" not in vars(model)
        model(X)
        assert [id(kept) for kept in layer._losses] != [id(loss)]


class TestOperations:
    def test_are_in_topological_order_and_hold_what_no_layer_list_shows(self):
        x = keras.Input((3,))
        model = keras.Model(x, L.Dense(2, name="second")(L.Dense(3, name="first")(x) + x))
        kinds = [type(place).__name__ for place in compat.operations(model)]
        assert kinds == ["InputLayer", "Dense", "Add", "Dense"]
        assert "Add" not in [type(layer).__name__ for layer in model.layers]

    def test_are_none_for_other_layers(self):
        assert compat.operations(dense()) == []
        assert compat.operations(zoo.build("subclassed_private").model) == []


class TestCalls:
    def test_an_attribute_of_the_instance_is_what_call_runs(self):
        layer = dense()
        heard = []

        def wrap(index, call):
            def noticed(*args, **kwargs):
                heard.append(index)
                return call(*args, **kwargs)

            return noticed

        expected = keras.ops.convert_to_numpy(layer(X))
        with compat.wrapped_calls({7: layer}, wrap):
            inside = keras.ops.convert_to_numpy(layer(X))
        keras.ops.convert_to_numpy(layer(X))
        assert heard == [7]
        np.testing.assert_array_equal(inside, expected)
        assert "call" not in vars(layer)

    def test_of_an_operation_in_a_functional_model_too(self):
        x = keras.Input((3,))
        model = keras.Model(x, keras.ops.exp(x))
        operation = compat.operations(model)[1]
        with compat.wrapped_calls({0: operation}, lambda _, call: lambda t: call(t) * 0.0):
            assert np.all(keras.ops.convert_to_numpy(model(X)) == 0.0)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(model(X)), np.exp(X), rtol=1e-6)

    def test_quantized_call_runs_where_the_layer_is_quantised(self):
        layer = dense()
        assert compat.entry_name(layer) == "call"
        layer.quantize("int8")
        assert (layer.quantization_mode, compat.entry_name(layer)) == ("int8", "quantized_call")
        heard = []
        with compat.wrapped_calls({0: layer}, lambda _, call: lambda *a, **k: heard.append(1) or call(*a, **k)):
            layer(X)
        assert heard == [1]
        assert not {"call", "quantized_call"} & set(vars(layer))

    def test_everything_is_put_back_when_the_body_raises(self):
        with keras.RematScope(mode="full"):
            layer = dense(activation="relu", activity_regularizer="l2")
        model = keras.Sequential([keras.Input((3,)), layer])
        before = [vars(part).copy() for part in (model, layer)]
        with (
            contextlib.suppress(ZeroDivisionError),
            compat.plain_calls(model, [layer]),
            compat.wrapped_calls({0: layer}, lambda _, call: call),
            compat.replaced(layer, "activation", abs),
        ):
            assert layer.activation is abs
            raise ZeroDivisionError
        after = [vars(part) for part in (model, layer)]
        assert [list(attributes) for attributes in after] == [list(attributes) for attributes in before]
        for attributes, old in zip(after, before, strict=True):
            assert [name for name in old if attributes[name] is not old[name]] == []

    def test_a_replaced_attribute_is_tracked_by_nobody(self):
        layer = dense()
        with compat.replaced(layer, "guest", L.Dense(5)):
            assert compat.sublayers(layer) == []
        assert not hasattr(layer, "guest")


class TestBuilding:
    class Half(keras.Model):
        def __init__(self):
            super().__init__()
            self.first = L.Dense(2, name="first")
            self.second = L.Dense(2, name="second")
            self.flatten = L.Flatten(name="flatten")

        def build(self, input_shape):
            self.first.build(input_shape)

        def call(self, x, deep=False):
            x = self.flatten(self.first(x))
            return self.second(x) if deep else x

    def half(self):
        model = self.Half()
        model.build((None, 3))
        return model

    def test_a_layer_with_variables_to_make_is_refused_by_name(self):
        model = self.half()
        with compat.plain_calls(model, []) as wanted, pytest.raises(RuntimeError, match="'second' was never built"):
            model(X, deep=True)
        assert wanted == ["second"]
        assert (model.second.built, len(model.second.weights)) == (False, 0)

    def test_a_layer_with_nothing_to_make_runs_and_stays_as_it_is(self):
        model = self.half()
        before = set(vars(model.flatten))
        with compat.plain_calls(model, []) as wanted:
            model(X)
        assert wanted == []
        assert not model.flatten.built
        assert set(vars(model.flatten)) == before

    def test_afterwards_they_build_as_ever(self):
        model = self.half()
        with compat.plain_calls(model, []):
            model(X)
        model(X, deep=True)
        assert model.second.built
        assert len(model.weights) == 4


class TestGlobalState:
    """The names that hold Keras' process-wide state: `global_state`, `GLOBAL_SEED_GENERATOR`, `object_name_uids`."""

    def draw(self):
        return keras.ops.convert_to_numpy(keras.random.uniform((2,))).tolist()

    def test_global_seed_generator_goes_on_as_if_nothing_was_drawn(self):
        keras.utils.set_random_seed(5)
        control = [self.draw(), self.draw()]
        keras.utils.set_random_seed(5)
        first = self.draw()
        with compat.keras_state_guard():
            self.draw()
        assert [first, self.draw()] == control

    def test_global_seed_generator_made_inside_is_forgotten(self):
        keras.utils.set_random_seed(5)
        control = self.draw()
        keras.utils.set_random_seed(5)
        with compat.keras_state_guard():
            self.draw()
        keras.utils.set_random_seed(5)
        assert self.draw() == control

    def test_object_name_uids_count_as_if_nothing_was_made(self):
        with compat.keras_state_guard():
            inside = [L.Dense(1).name, L.Dense(1).name]
        assert inside[0] != inside[1]
        assert [L.Dense(1).name, L.Dense(1).name] == inside


def test_no_other_file_touches_private_attributes_of_keras():
    keras_private = {"_layers", "_functional", "_flatten_layers", "_remat_mode", "_tracker", "_trainable_variables"}
    keras_private |= {
        "_non_trainable_variables",
        "_loss",
        "_compile_loss",
        "_compile_metrics",
        "_optimizer",
        "_metrics",
    }
    guilty = {
        str(path.relative_to(ANALYZER)): names
        for path in ANALYZER.rglob("*.py")
        if path.name != "compat.py" and (names := private_names(path) & keras_private)
    }
    assert guilty == {}


def test_all_layers_are_the_model_and_what_lies_below_it_at_any_depth():
    inner = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="deep")], name="inner")
    model = keras.Sequential([keras.Input((2,)), inner], name="outer")
    found = compat.all_layers(model)
    assert found[0] is model
    assert {layer.name for layer in found} >= {"outer", "inner", "deep"}
    assert len({id(layer) for layer in found}) == len(found)
