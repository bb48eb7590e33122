"""Reading batches from whatever yields them, with no framework at hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.data_types import DataInput, streams
from analyzer.errors import DataError

pytestmark = pytest.mark.plain

X = np.arange(20, dtype="float32").reshape(10, 2)
Y = np.arange(10)


def batches(size=4, *columns):
    for start in range(0, len(X), size):
        yield tuple(column[start : start + size] for column in columns or (X, Y))


def refused(source, max_samples=None):
    with pytest.raises(DataError) as error:
        DataInput.from_object(source, max_samples=max_samples)
    return str(error.value)


class Sequence:
    """Like `keras.utils.PyDataset`: batches by index, and how many there are; its own iterator never ends."""

    def __init__(self, size):
        self.size = size
        self.read = []

    def __getitem__(self, index):
        self.read.append(index)
        return X[:4] + index, Y[:4]

    def __iter__(self):
        return (self[index] for index in itertools.count())

    @property
    def num_batches(self):
        if self.size == "not written":
            raise NotImplementedError
        return self.size


@given(size=st.integers(1, 12), most=st.one_of(st.none(), st.integers(1, 15)))
def test_batches_are_joined_up_to_the_most_samples(size, most):
    data = DataInput.from_object(batches(size), max_samples=most)
    n = min(10, most or 10)
    np.testing.assert_array_equal(data.x_data, X[:n])
    np.testing.assert_array_equal(data.y_data, Y[:n])
    assert data.sample_weight is None


def test_reading_stops_at_the_most_samples():
    read = []

    def endless():
        for i in itertools.count():
            read.append(i)
            yield X[:4]

    assert len(DataInput.from_object(endless(), max_samples=6)) == 6
    assert read == [0, 1]


def test_batches_of_inputs_alone_and_with_weights():
    alone = DataInput.from_object(piece for (piece,) in batches(3, X))
    assert (alone.x_data.shape, alone.y_data) == ((10, 2), None)
    weighted = DataInput.from_object(batches(3, X, Y, Y + 1.0))
    np.testing.assert_array_equal(weighted.sample_weight, np.arange(1, 11))
    listed = DataInput.from_object(iter([[X, Y]]))
    np.testing.assert_array_equal(listed.y_data, Y)


def test_several_inputs_and_outputs_keep_their_names_and_order():
    named = DataInput.from_object(({"b": x, "a": x * 2}, {"o": y}) for x, y in batches())
    np.testing.assert_array_equal(named.x_data["a"], X * 2)
    np.testing.assert_array_equal(named.y_data["o"], Y)
    ordered = DataInput.from_object(((x, x[:, :1]), y) for x, y in batches())
    assert [array.shape for array in ordered.x_data] == [(10, 2), (10, 1)]
    cut = DataInput.from_object((({"a": x}, y) for x, y in batches()), max_samples=3)
    assert len(cut.x_data["a"]) == len(cut.y_data) == 3


def test_a_batched_sequence_is_read_by_index_to_its_end():
    source = Sequence(3)
    data = DataInput.from_object(source)
    assert (len(data), source.read) == (12, [0, 1, 2])
    np.testing.assert_array_equal(data.x_data[8:], X[:4] + 2)


@pytest.mark.parametrize("size", [None, math.inf, "not written"])
def test_a_sequence_without_end_asks_where_to_stop(size):
    assert "has no end. Say DataInput.from_object(source, max_samples=...)" in refused(Sequence(size))
    assert len(DataInput.from_object(Sequence(size), max_samples=10)) == 10


def test_a_dataset_that_repeats_for_ever_says_so_by_its_cardinality():
    class Repeated:
        def cardinality(self):
            return np.int64(-1)

        def __iter__(self):
            return itertools.repeat((X, Y))

    assert "The Repeated has no end" in refused(Repeated())
    assert len(DataInput.from_object(Repeated(), max_samples=25)) == 25


def test_a_generator_without_end_is_given_up_before_the_memory_is_full(monkeypatch):
    monkeypatch.setattr(streams, "MOST_BYTES", 10 * X.nbytes)
    read = []

    def endless():
        for i in itertools.count():
            read.append(i)
            yield X, Y

    assert "generator yielded" in refused(endless())
    assert len(read) < 11
    # Whoever says where to stop may read as much as they like.
    assert len(DataInput.from_object(endless(), max_samples=200)) == 200


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (iter(()), "yielded no batch. Was a generator used up before?"),
        ([], "yielded no batch"),
        (5, "Cannot read data from builtins.int"),
        ("test.npz", "Cannot read data from builtins.str"),
        (object(), "a tuple (x, y), a tf.data.Dataset, a torch DataLoader, a PyDataset or a generator"),
        (iter([(np.float32(1), 0)]), "whose first axis is the sample"),
        ([X, Y], "The batches do not fit together"),
        (iter([(X, Y), (X[:, :1], Y)]), "The batches do not fit together"),
        (iter([{"a": X}, {"b": X}]), "The batches do not fit together"),
        (iter([[[X, X], Y], [[X], Y]]), "The batches do not fit together"),
        (iter([(X, Y), (X,)]), "Some batches of the list_iterator hold labels or weights and others do not"),
        (iter([{}]), "whose first axis is the sample"),
    ],
)
def test_what_is_no_stream_of_batches_is_refused(source, message):
    assert message in refused(source)


def test_samples_without_a_batch_axis_are_not_taken_for_batches():
    # A row of two features would pass for a batch of two samples; the label without an axis gives it away.
    assert "do not fit together" in refused((x, y) for x, y in zip(X, Y, strict=True))
