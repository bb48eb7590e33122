"""Data in the structure that a model is called with; what does not fit is refused with shapes."""

import keras
import numpy as np
import pytest

from analyzer.errors import DataError
from analyzer.inspection import inputs
from tests import zoo

L = keras.layers
KINDS = (
    "functional_cnn",
    "embedding_lstm",
    "shared_layer",
    "two_in_two_out_list",
    "two_in_two_out_dict",
    "mixed_float16",
    "own_weights_only",
    "stateful_fixed_batch",
)
"""Specimens whose inputs differ in number, structure, dtype or declaration."""

X = np.arange(20, dtype="float64").reshape(5, 4)


def dense(size=(4,), dtype="float32", name="x"):
    return keras.Sequential([keras.Input(size, dtype=dtype, name=name), L.Dense(1)])


def two_inputs(structure=list):
    a, b = keras.Input((4,), name="a"), keras.Input((2,), name="b")
    joined = L.Dense(1)(L.Concatenate()([a, b]))
    return keras.Model([a, b] if structure is list else {"b": b, "a": a}, joined)


def refused(model, x):
    with pytest.raises(DataError) as error:
        inputs.arrange(model, x)
    return str(error.value)


class TestArrange:
    @pytest.mark.parametrize("name", KINDS)
    def test_every_kind_of_model_gets_what_it_is_called_with(self, name):
        made = zoo.build(name, n=4)
        arranged = inputs.arrange(made.model, made.x)
        assert inputs.count(arranged) == made.n
        keras.tree.assert_same_structure(arranged, made.x)
        for one, other in zip(keras.tree.flatten(arranged), keras.tree.flatten(made.x), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_one_input_in_any_form(self):
        for x in (X, [X], {"x": X}, {"whatever": X}):
            arranged = inputs.arrange(dense(), x)
            np.testing.assert_array_equal(arranged, X)
            assert arranged.dtype == np.float32
        assert inputs.arrange(dense(dtype="int32"), X).dtype == np.int32

    @pytest.mark.parametrize("structure", [list, dict])
    def test_several_inputs_by_name_or_in_order(self, structure):
        model = two_inputs(structure)
        a, b = X, X[:, :2]
        by_name = inputs.arrange(model, {"b": b, "a": a})
        in_order = inputs.arrange(model, [{"a": a, "b": b}[tensor.name] for tensor in model.inputs])
        for arranged in (by_name, in_order):
            assert type(arranged) is structure
            np.testing.assert_array_equal(arranged[0] if structure is list else arranged["a"], a)
            np.testing.assert_array_equal(arranged[1] if structure is list else arranged["b"], b)
            assert model(arranged).shape == (5, 1)

    def test_a_model_that_declares_nothing_gets_the_data_as_they_are(self):
        model = zoo.PrivateParts()
        model(X[:1])
        assert inputs.arrange(model, X) is X

    @pytest.mark.parametrize(
        ("x", "message"),
        [
            (X[:, :3], "x for input 'x' has shape (5, 3); the model expects (n, 4). Reshape or resize x"),
            (X[:, 0], "has shape (5,)"),
            (X[..., None], "has shape (5, 4, 1)"),
            ([X, X], "The model has 1 inputs (x) and x holds 2 arrays"),
            ({"x": X, "z": X}, "missing [], unknown ['z']"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, x, message):
        assert message in refused(dense(), x)

    def test_open_sizes_fit_anything_and_are_named_so(self):
        model = keras.Sequential([keras.Input((None, None, 3), name="image"), L.GlobalAveragePooling2D()])
        assert inputs.arrange(model, np.zeros((2, 5, 7, 3))).shape == (2, 5, 7, 3)
        assert "the model expects (n, any, any, 3)" in refused(model, np.zeros((2, 5, 7, 1)))

    def test_a_last_axis_of_one_may_be_left_out_as_keras_allows(self):
        assert inputs.arrange(dense((4, 1)), X).shape == (5, 4)

    def test_several_inputs_that_do_not_fit(self):
        model = two_inputs()
        assert "missing ['b'], unknown ['c']" in refused(model, {"a": X, "c": X})
        assert "The model has 2 inputs (a, b) and x holds 1 arrays" in refused(model, X)
        assert "x for input 'b' has shape (5, 3)" in refused(model, [X, X[:, :3]])
        assert "one key x_<input name> each" in refused(model, [X, X, X])


class TestExample:
    @pytest.mark.parametrize("name", KINDS)
    def test_a_declared_input_can_be_called_with_its_example(self, name):
        model = zoo.build(name).model
        made = inputs.example(model)
        if getattr(model, "inputs", None):
            assert len(keras.tree.flatten(model(made))) >= 1
        else:
            assert made is None

    def test_number_of_samples_open_sizes_and_dtypes(self):
        model = keras.Sequential([keras.Input((None, 3), dtype="int32"), L.Dense(1)])
        made = inputs.example(model, 3)
        assert (made.shape, made.dtype) == ((3, inputs.UNKNOWN_SIZE, 3), np.int32)
        fixed = keras.Sequential([keras.Input(batch_shape=(2, 4)), L.Dense(1)])
        assert inputs.example(fixed, 3).shape == (2, 4)


def test_a_fixed_batch_size_is_known():
    assert inputs.fixed_batch_size(keras.Sequential([keras.Input(batch_shape=(2, 4)), L.Dense(1)])) == 2
    assert inputs.fixed_batch_size(dense()) is None
    model = zoo.PrivateParts()
    model(X[:1])
    assert inputs.fixed_batch_size(model) is None


def test_samples_are_taken_in_every_part():
    taken = inputs.take({"a": X, "b": [X * 2]}, np.array([3, 1]))
    np.testing.assert_array_equal(taken["a"], X[[3, 1]])
    np.testing.assert_array_equal(taken["b"][0], X[[3, 1]] * 2)
    assert inputs.count(inputs.take({"a": X}, slice(0, 2))) == 2
