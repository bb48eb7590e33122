"""What a model consists of: every parameter once, in order of execution, under unique ids; where its outputs end."""

import re

import keras
import numpy as np
import pytest

from analyzer.errors import DataError, DeviceMemoryError, ModelError
from analyzer.inspection import inputs, open_model
from analyzer.inspection.guard import untouched_process
from tests import zoo

L = keras.layers

LAYERS = {
    "functional_cnn": ["conv", "bn", "relu", "pool", "dropout", "gap", "head"],
    "subclassed_private": ["hidden", "block_0", "block_1", "scale", "head"],
    # A layer without weights that never runs stands where it was declared.
    "subclassed_training_branch": ["hidden", "auxiliary", "head"],
    "own_weights_only": ["own_weights_only"],
    "nested_sequential": ["encoder/inner", "neck/inner", "head"],
    "shared_layer": ["shared", "join", "head"],
    "attention": [
        *("mha/query", "mha/key", "mha/value", "mha/softmax", "mha/dropout", "mha/attention_output"),
        *("norm", "pool", "head"),
    ],
    "embedding_lstm": ["embedding", "both/forward_lstm/lstm_cell", "both/backward_lstm/lstm_cell", "head"],
    "recurrent_head": ["gru/gru_cell", "head/lstm_cell"],
    "convolutions": ["depthwise", "separable", "transpose", "flatten", "head"],
    "two_in_two_out_list": ["left", "right", "join", "size", "kind"],
    "two_in_two_out_dict": ["left", "right", "join", "size", "kind"],
    "tuple_outputs": ["trunk", "mean", "spread"],
    "mixed_float16": ["hidden", "head"],
    "quantised_int8": ["hidden", "head"],
    "time_distributed": ["steps/step", "flatten", "head"],
    "lora": ["hidden", "head"],
    "ops_softmax_head": ["hidden", "logits"],
    "softmax_layer_head": ["logits", "head"],
    "activation_layer_head": ["logits", "head", "drop"],
    "custom_layer": ["own", "head"],
    "tied_weights": ["encoder", "decoder"],
    "rematerialised": ["hidden", "nested/inner", "head"],
    "noisy_while_training": ["noise", "hidden", "bn", "dropout", "head"],
    "stateful_fixed_batch": ["gru/gru_cell", "head"],
    "fixed_batch": ["head"],
}

HEADS = {
    "functional_cnn": [("head", "softmax", "activation")],
    "subclassed_private": [("output", "softmax", "activation")],
    "own_weights_only": [("output", None, None)],
    "shared_layer": [("head", "sigmoid", "activation")],
    # The last product of an LSTM is no probability, whatever its activation is called.
    "recurrent_head": [("head", None, None)],
    "convolutions": [("head", "linear", "output")],
    "two_in_two_out_list": [("kind", "softmax", "activation"), ("size", "linear", "output")],
    "two_in_two_out_dict": [("the_kind", "softmax", "activation"), ("the_size", "linear", "output")],
    "tuple_outputs": [("output_0", "linear", "output"), ("output_1", "softplus", None)],
    "quantised_int8": [("output", "softmax", "activation")],
    "softmax_layer_head": [("output", "softmax", "input")],
    # A dropout that does nothing at inference hides no activation.
    "activation_layer_head": [("output", "sigmoid", "activation")],
    "stateful_fixed_batch": [("head", "softmax", "activation")],
}


def opened(name):
    specimen = zoo.build(name)
    with untouched_process():
        rows = slice(0, inputs.fixed_batch_size(specimen.model) or 1)
        return open_model(specimen.model, inputs.take(inputs.arrange(specimen.model, specimen.x), rows))


def test_every_specimen_has_an_expectation():
    assert set(LAYERS) == set(zoo.BUILDERS)


@pytest.mark.parametrize("name", zoo.BUILDERS)
def test_parameters_once_layers_in_order_ids_unique(name):
    view = opened(name)
    # Keras numbers the parts of attention over the whole process.
    assert [re.sub(r"^(mha/.*?)_\d+$", r"\1", layer.id) for layer in view.layers] == LAYERS[name]
    assert [layer.order for layer in view.layers] == list(range(len(view.layers)))
    assert sum(variable.size for variable in view.variables) == view.model.count_params()
    assert {id(variable.variable) for variable in view.variables} == {id(weight) for weight in view.model.weights}
    assert len(view.variables) == len(view.model.weights)
    assert len({variable.id for variable in view.variables}) == len(view.variables)
    orders = [variable.owner.order for variable in view.variables]
    assert orders == sorted(orders)
    trainable = sum(variable.size for variable in view.variables if variable.trainable)
    assert trainable == sum(int(np.prod(weight.shape)) for weight in view.model.trainable_weights)
    if name in HEADS:
        assert [(head.name, head.activation, head.via) for head in view.heads] == HEADS[name]


def test_a_written_softmax_is_a_head_of_its_own():
    (head,) = opened("ops_softmax_head").heads
    assert (head.activation, head.via) == ("softmax", "input")


def test_a_shared_layer_is_listed_once_and_says_how_often_it_ran():
    shared = opened("shared_layer").layers[0]
    assert (shared.calls, shared.kind, shared.input_shapes, shared.output_shapes) == (2, "Dense", ((1, 4),), ((1, 3),))


def test_equal_names_get_numbers():
    def block():
        return keras.Sequential([keras.Input((3,)), L.Dense(3, name="same")], name="block")

    model = keras.Sequential([keras.Input((3,)), L.Dense(3, name="a")])
    nested = [block(), block()]

    class Twice(keras.Model):
        def __init__(self):
            super().__init__()
            self.parts = nested

        def call(self, x):
            for part in self.parts:
                x = part(x)
            return x

    twice = Twice()
    twice(np.zeros((1, 3), "float32"))
    view = open_model(twice, np.zeros((1, 3), "float32"))
    assert [layer.id for layer in view.layers] == ["block/same", "block/same#2"]
    assert [v.id for v in view.variables][::2] == ["block/same/kernel", "block/same#2/kernel"]
    assert [layer.id for layer in open_model(model).layers] == ["a"]


def test_a_model_inside_a_model_twice_is_counted_once():
    encoder = keras.Sequential([keras.Input((4,)), L.Dense(3, name="inner")], name="encoder")
    a, b = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([a, b], L.Subtract(name="difference")([encoder(a), encoder(b)]))
    view = open_model(model)
    assert [(layer.id, layer.calls) for layer in view.layers] == [("encoder/inner", 2), ("difference", 1)]
    assert sum(v.size for v in view.variables) == model.count_params() == 15


def test_written_operations_are_places_but_not_layers():
    view = opened("attention")
    kinds = {type(place).__name__ for place in view.places.values()}
    fired = [type(view.places[firing.place]).__name__ for firing in view.firings]
    assert "Add" in kinds
    assert fired.index("MultiHeadAttention") < fired.index("Add") < fired.index("LayerNormalization")
    assert all(isinstance(layer.layer, L.Layer) for layer in view.layers)


def test_places_stop_at_layers_that_loop():
    for name in ("embedding_lstm", "time_distributed", "recurrent_head", "stateful_fixed_batch"):
        view = opened(name)
        inner = {"LSTMCell", "GRUCell"} & {type(place).__name__ for place in view.places.values()}
        assert inner == set()
    assert not any(place.name == "step" for place in opened("time_distributed").places.values())


class TestWithoutData:
    def test_declared_inputs_are_enough_for_the_order_of_execution(self):
        view = open_model(zoo.build("two_in_two_out_dict").model)
        assert view.traced
        assert [layer.id for layer in view.layers] == LAYERS["two_in_two_out_dict"]
        assert [head.activation for head in view.heads] == ["softmax", "linear"]

    def test_a_subclassed_model_is_listed_as_declared_and_says_so(self):
        view = open_model(zoo.build("subclassed_private").model)
        assert not view.traced
        assert {layer.id for layer in view.layers} == set(LAYERS["subclassed_private"])
        assert sum(v.size for v in view.variables) == view.model.count_params()

    def test_open_dimensions_and_fixed_batches_are_filled_in(self):
        x = keras.Input((None, 4))
        model = keras.Model(x, L.Dense(2, name="d")(x))
        assert open_model(model).layers[0].output_shapes == ((1, inputs.UNKNOWN_SIZE, 2),)
        assert open_model(zoo.build("fixed_batch").model).heads[0].shape == (zoo.FIXED_BATCH, 2)


class TestRefused:
    def never_built(self):
        class Subclassed(keras.Model):
            def __init__(self):
                super().__init__()
                self.dense = L.Dense(2)

            def call(self, x):
                return self.dense(x)

        return {"sequential": keras.Sequential([L.Dense(2)]), "subclassed": Subclassed()}

    @pytest.mark.parametrize("kind", ["sequential", "subclassed"])
    def test_a_model_that_was_never_built(self, kind):
        model = self.never_built()[kind]
        with pytest.raises(ModelError, match=r"was never built.*model\(x\[:1\]\)") as raised:
            open_model(model, np.zeros((1, 3), "float32"))
        assert raised.value.__cause__ is None
        assert not model.built

    def test_a_model_marked_as_built_whose_call_needs_a_layer_without_weights(self):
        class Forgetful(keras.Model):
            def __init__(self):
                super().__init__()
                self.first = L.Dense(2, name="first")
                self.second = L.Dense(2, name="second")

            def build(self, input_shape):
                self.first.build(input_shape)

            def call(self, x):
                return self.second(self.first(x))

        model = Forgetful()
        model.build((None, 3))
        with pytest.raises(ModelError, match=r"never built \(layers without weights yet: second\)"):
            open_model(model, np.zeros((1, 3), "float32"))
        assert not model.second.built
        assert len(model.weights) == 2

    def test_layers_that_never_ran_stay_as_they_are(self):
        class Doubling(L.Layer):
            def call(self, x):
                return x * 2.0

        class Built(keras.Model):
            def __init__(self):
                super().__init__()
                self.dense = L.Dense(2, name="dense")
                self.twice = Doubling(name="twice")

            def build(self, input_shape):
                self.dense.build(input_shape)

            def call(self, x):
                return self.twice(self.dense(x))

        model = Built()
        model.build((None, 3))
        view = open_model(model, np.zeros((1, 3), "float32"))
        assert [(layer.id, layer.calls) for layer in view.layers] == [("dense", 1), ("twice", 1)]
        assert not model.twice.built

    @pytest.mark.parametrize("thing", [None, 3, "a string", object(), np.zeros(3), keras.layers.Dense(2), lambda x: x])
    def test_what_is_no_keras_model(self, thing):
        with pytest.raises(ModelError, match=r"Expected a keras\.Model or a path to a \.keras file, got builtins|got "):
            open_model(thing)

    def test_data_that_the_model_cannot_run_on(self):
        with pytest.raises(DataError, match=r"'private_parts\w*' cannot run.*\(1, 9\).*ValueError.*value 4"):
            open_model(zoo.build("subclassed_private").model, np.zeros((1, 9), "float32"))

    def test_one_sample_that_does_not_fit_into_memory(self):
        x = keras.Input((4,))
        model = keras.Model(x, zoo.Breaks(0, name="huge")(x), name="giant")
        with pytest.raises(DeviceMemoryError, match=r"'giant'.*Breaks\.call\(\).*9,999,999 bytes.*batch_size"):
            open_model(model, np.zeros((1, 4), "float32"))


def test_nothing_of_the_trace_stays_on_the_layers():
    specimen = zoo.build("attention")
    layers = list(specimen.model._flatten_layers())
    before = [dict(vars(layer)) for layer in layers]
    with untouched_process():
        open_model(specimen.model, specimen.x[:1])
    for layer, attributes in zip(layers, before, strict=True):
        after = {name: value for name, value in vars(layer).items() if name != "_called"}
        changed = {name for name in after if after[name] is not attributes.get(name)}
        assert changed == set(), layer.name
        assert set(after) == set(attributes) - {"_called"}
