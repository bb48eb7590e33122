"""`layers=`: everything it accepts, on models of every kind, and what it says to what it does not."""

import keras
import pytest

from analyzer.errors import ConfigError
from analyzer.inspection import inputs, open_model
from analyzer.inspection.selection import select_calls, select_layers
from tests import zoo

L = keras.layers


def view_of(name):
    made = zoo.build(name)
    x = inputs.arrange(made.model, made.x)
    return open_model(made.model, inputs.take(x, slice(0, inputs.fixed_batch_size(made.model) or 1)))


def ids(view, layers=None):
    return [call.id for call in select_calls(view, layers)]


EVERYTHING = {
    "functional_cnn": ["conv", "bn", "relu", "pool", "dropout", "gap", "head"],
    "subclassed_private": ["hidden", "block_0", "block_1", "scale", "head"],
    "subclassed_training_branch": ["hidden", "head"],
    "own_weights_only": ["own_weights_only"],
    "nested_sequential": ["encoder/inner", "neck/inner", "head"],
    "shared_layer": ["shared", "shared@2", "join", "head"],
    "attention": [
        "mha/query",
        "mha/key",
        "mha/value",
        "mha/attention_output",
        "norm",
        "pool",
        "head",
    ],
    "embedding_lstm": ["embedding", "both", "head"],
    "recurrent_head": ["gru", "head"],
    "time_distributed": ["steps", "flatten", "head"],
    "quantised_int8": ["hidden", "head"],
}


class TestEverything:
    @pytest.mark.parametrize("name", EVERYTHING)
    def test_none_takes_what_computes(self, name):
        assert sorted(ids(view_of(name))) == sorted(EVERYTHING[name])

    @pytest.mark.parametrize("name", ["functional_cnn", "subclassed_private", "nested_sequential", "shared_layer"])
    def test_in_order_of_execution(self, name):
        assert ids(view_of(name)) == EVERYTHING[name]

    @pytest.mark.parametrize("name", sorted(zoo.BUILDERS))
    def test_ids_are_unique_and_mean_what_they_name(self, name):
        view = view_of(name)
        found = ids(view)
        assert found
        assert len(set(found)) == len(found)
        for one in found:
            assert ids(view, one)[0] == one

    def test_layers_are_those_of_the_view(self):
        view = view_of("shared_layer")
        assert select_layers(view) == view.layers
        assert [info.id for info in select_layers(view, ["shared@2", "shared"])] == ["shared"]


class TestSelectors:
    def test_id_goes_before_name_and_names_mean_all_of_them(self):
        view = view_of("nested_sequential")
        assert ids(view, "neck/inner") == ["neck/inner"]
        assert ids(view, "inner") == ["encoder/inner", "neck/inner"]

    def test_calls(self):
        view = view_of("shared_layer")
        assert ids(view, "shared") == ["shared", "shared@2"]
        assert ids(view, "shared@1") == ["shared"]
        assert [call.call for call in select_calls(view, "shared@2")] == [1]

    def test_a_name_that_looks_like_a_call(self):
        model = keras.Sequential([keras.Input((2,)), L.Dense(2, name="a@2"), L.Dense(2, name="a")])
        assert ids(open_model(model), "a@2") == ["a@2"]

    @pytest.mark.parametrize("selector", [L.Dense, "Dense"])
    def test_classes_and_their_names(self, selector):
        assert ids(view_of("subclassed_private"), selector) == ["hidden", "block_0", "block_1", "head"]

    def test_a_base_class_reaches_containers_too(self):
        assert ids(view_of("attention"), L.MultiHeadAttention) == ["mha"]
        assert ids(view_of("nested_sequential"), keras.Sequential)[:2] == ["encoder", "neck"]

    def test_predicates_see_layers_and_containers(self):
        view = view_of("attention")
        assert ids(view, lambda info: info.output_shapes[:1] == ((1, 5, 8),)) == ["mha/attention_output", "mha", "norm"]
        assert ids(view_of("shared_layer"), lambda info: info.calls == 2) == ["shared", "shared@2"]

    def test_a_layer_of_the_model(self):
        view = view_of("functional_cnn")
        assert ids(view, view.model.get_layer("pool")) == ["pool"]

    def test_lists_mix_all_of_them_and_say_nothing_twice(self):
        view = view_of("functional_cnn")
        assert ids(view, ["head", L.Conv2D, lambda info: info.name == "bn", "conv"]) == ["conv", "bn", "head"]
        assert ids(view, ("head", "conv")) == ["conv", "head"]

    def test_operations_and_the_model_itself_by_name(self):
        view = view_of("attention")
        added = next(place.name for place in view.places.values() if type(place).__name__ == "Add")
        calls = select_calls(view, [added, view.model.name])
        assert [call.id for call in calls] == [added, view.model.name]
        assert calls[0].layer.output_shapes == ((1, 5, 8),)
        assert calls[1].place is None

    def test_equal_paths_stay_apart(self):
        class Twins(keras.Model):
            def __init__(self):
                super().__init__()
                self.parts = [keras.Sequential([L.Dense(2, name="d")], name="same") for _ in range(2)]

            def call(self, x):
                return self.parts[1](self.parts[0](x))

        model = Twins()
        x = zoo.normal(2, 3)
        model(x)
        view = open_model(model, x)
        assert ids(view, keras.Sequential) == ["same", "same#2"]
        assert ids(view, ["same#2"]) == ["same#2"]
        assert ids(view) == ["same/d", "same/d#2"]


class TestWithoutATrace:
    def test_layers_are_listed_as_declared_and_run_once(self):
        view = open_model(zoo.build("subclassed_private").model)
        assert not view.traced
        assert set(ids(view)) == set(EVERYTHING["subclassed_private"])
        assert ids(view, "Dense") == ids(view, L.Dense)


class TestErrors:
    @pytest.mark.parametrize(
        ("model", "layers", "says"),
        [
            ("functional_cnn", "conf", "Did you mean 'conv'"),
            ("functional_cnn", ["conv", "hed"], "Did you mean 'head'"),
            ("functional_cnn", "hed@2", "Did you mean 'head'"),
            ("functional_cnn", "head@2", "runs 1 times"),
            ("shared_layer", "shared@3", "give @1 to @2"),
            ("functional_cnn", L.LSTM, "No layer of this model is a LSTM"),
            ("functional_cnn", lambda info: info.order < 0, "satisfies <lambda>"),
            ("functional_cnn", [], "names no layer"),
            ("functional_cnn", 3, "expected the name or id"),
            ("functional_cnn", int, "expected the name or id"),
            ("functional_cnn", [None], "expected the name or id"),
            ("embedding_lstm", "both/forward_lstm/lstm_cell", "take 'both'"),
            ("time_distributed", "step", "take 'steps'"),
            ("subclassed_training_branch", "auxiliary", "at inference"),
        ],
    )
    def test_say_what_is_wrong_and_what_to_do(self, model, layers, says):
        with pytest.raises(ConfigError, match=says):
            select_calls(view_of(model), layers)

    def test_attention_computes_its_softmax_without_calling_it(self):
        view = view_of("attention")
        softmax = next(info.id for info in view.layers if info.kind == "Softmax")
        with pytest.raises(ConfigError, match="part of 'mha'"):
            select_calls(view, softmax)

    def test_a_layer_of_another_model(self):
        with pytest.raises(ConfigError, match="'conv' is not part of this model"):
            select_calls(view_of("shared_layer"), zoo.build("functional_cnn").model.get_layer("conv"))

    def test_what_never_runs_is_left_out_of_classes(self):
        assert ids(view_of("subclassed_training_branch"), L.Dense) == ["hidden", "head"]
