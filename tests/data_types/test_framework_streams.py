"""Reading from the loaders of Keras and of the backend at hand."""

import keras
import numpy as np
import pytest

from analyzer.data_types import DataInput
from analyzer.errors import DataError

X = np.arange(20, dtype="float32").reshape(10, 2)
Y = np.arange(10)


class Rows(keras.utils.PyDataset):
    """Four rows a batch; the last one is short."""

    def __init__(self, endless=False):
        super().__init__()
        self.endless = endless

    def __getitem__(self, index):
        return X[4 * index : 4 * index + 4], Y[4 * index : 4 * index + 4]

    @property
    def num_batches(self):
        return None if self.endless else 3


class Lengthless(keras.utils.PyDataset):
    """Says nothing about its length."""

    def __getitem__(self, index):
        return X, Y


def refused(source):
    with pytest.raises(DataError) as error:
        DataInput.from_object(source)
    return str(error.value)


def check(data):
    assert isinstance(data.x_data, np.ndarray)
    np.testing.assert_array_equal(data.x_data, X)
    np.testing.assert_array_equal(data.y_data, Y)


def test_py_dataset():
    check(DataInput.from_object(Rows()))
    check(DataInput.from_object(Rows(endless=True), max_samples=10))
    assert "no end" in refused(Rows(endless=True))


def test_py_dataset_that_says_nothing_of_its_length():
    assert "no end" in refused(Lengthless())
    check(DataInput.from_object(Lengthless(), max_samples=10))


def test_tensors_of_the_backend_are_read():
    x, y = keras.ops.convert_to_tensor(X), keras.ops.convert_to_tensor(Y)
    check(DataInput(x, y))
    check(DataInput.from_object((x, y)))
    check(DataInput.from_object((x[i : i + 3], y[i : i + 3]) for i in range(0, 10, 3)))
    np.testing.assert_array_equal(DataInput.from_object(x).x_data, X)


if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    class TestTensorFlow:
        def test_batches(self):
            check(DataInput.from_object(tf.data.Dataset.from_tensor_slices((X, Y)).batch(3)))

        def test_names_and_weights(self):
            parts = ({"a": X, "b": X}, {"o": Y}, np.ones(10))
            data = DataInput.from_object(tf.data.Dataset.from_tensor_slices(parts).batch(4))
            np.testing.assert_array_equal(data.x_data["b"], X)
            np.testing.assert_array_equal(data.y_data["o"], Y)
            assert data.sample_weight.sum() == 10

        def test_endless(self):
            repeated = tf.data.Dataset.from_tensor_slices((X, Y)).batch(5).repeat()
            assert "has no end. Say DataInput.from_object(source, max_samples=...)" in refused(repeated)
            check(DataInput.from_object(repeated, max_samples=10))

        def test_unbatched(self):
            assert "do not fit together" in refused(tf.data.Dataset.from_tensor_slices((X, Y)))
            assert "Batch it first" in refused(tf.data.Dataset.from_tensor_slices((X[:, 0], Y)))


if keras.backend.backend() == "torch":
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    class TestTorch:
        def test_batches(self):
            tensors = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
            check(DataInput.from_object(DataLoader(tensors, batch_size=3)))

        def test_inputs_alone(self):
            data = DataInput.from_object(DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=4))
            np.testing.assert_array_equal(data.x_data, X)
            assert data.y_data is None

        def test_tensors_with_gradients(self):
            x = torch.from_numpy(X).requires_grad_()
            check(DataInput.from_object(iter([(x, Y)])))
            check(DataInput(x, Y))
            assert x.grad is None
            assert x.requires_grad
