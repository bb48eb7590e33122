"""`DataInput`: what is accepted as data, what is refused and how, and how samples are drawn."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.data_types import DataInput
from analyzer.errors import DataError

pytestmark = pytest.mark.plain

X = np.arange(12, dtype="float32").reshape(4, 3)
Y = np.array([0, 1, 1, 0])


def refused(*args, **options):
    with pytest.raises(DataError) as error:
        DataInput(*args, **options)
    return str(error.value)


class TestConstruction:
    def test_arrays_are_kept_as_they_are(self):
        data = DataInput(x_data=X, y_data=Y, sample_weight=[1, 2, 0, 1])
        assert data.x_data is X
        assert data.y_data is Y
        assert data.sample_weight.dtype == np.float64
        assert len(data) == 4
        assert data.indices is None

    def test_lists_and_frames_become_arrays(self):
        data = DataInput(x_data=[[1.0, 2.0], [3.0, 4.0]], y_data=pd.Series([0, 1]))
        np.testing.assert_array_equal(data.x_data, [[1, 2], [3, 4]])
        np.testing.assert_array_equal(DataInput(pd.DataFrame({"a": [1, 2], "b": [3, 4]})).x_data, [[1, 3], [2, 4]])
        np.testing.assert_array_equal(data.y_data, [0, 1])

    def test_several_inputs_and_outputs(self):
        data = DataInput({"a": X, "b": X[:, :1]}, {"kind": Y, "size": Y * 0.5})
        assert (list(data.x_data), list(data.y_data)) == (["a", "b"], ["kind", "size"])
        assert [array.shape for array in DataInput([X, X[:, :2]]).x_data] == [(4, 3), (4, 2)]

    def test_a_tensor_on_a_device_with_a_gradient_is_read(self):
        class Tensor:
            """As torch's: an array only after detach() and cpu()."""

            detached = False

            def detach(self):
                made = Tensor()
                made.detached = True
                return made

            def cpu(self):
                return X if self.detached else None

        np.testing.assert_array_equal(DataInput(Tensor()).x_data, X)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"x_data": X[:0]}, "hold no sample: x is empty"),
            ({"x_data": X[:0], "y_data": Y[:0]}, "hold no sample"),
            ({"x_data": []}, "hold no sample"),
            ({"x_data": {}}, "first axis is the sample"),
            ({"x_data": np.float32(3)}, "first axis is the sample"),
            ({"x_data": X, "y_data": 1}, "['y'] is not one"),
            ({"x_data": X, "y_data": Y[:3]}, "same number of samples, got x: 4, y: 3"),
            ({"x_data": {"a": X, "b": X[:2]}}, "got x_a: 4, x_b: 2"),
            ({"x_data": [X, X[:2]]}, "got x[0]: 4, x[1]: 2"),
            ({"x_data": X, "y_data": {"o": Y[:1]}}, "got x: 4, y_o: 1"),
            ({"x_data": X, "sample_weight": np.ones(3)}, "got x: 4, sample_weight: 3"),
            ({"x_data": [[1, 2], [3]]}, "x cannot be read as an array"),
            ({"x_data": X, "y_data": np.array([{}, 1, 2, 3], dtype=object)}, "y holds Python objects"),
            ({"x_data": X, "sample_weight": [1, -1, 1, 1]}, "negative, NaN or infinite"),
            ({"x_data": X, "sample_weight": [1, np.nan, 1, 1]}, "negative, NaN or infinite"),
            ({"x_data": X, "sample_weight": np.zeros(4)}, "0 for every sample"),
            ({"x_data": X, "sample_weight": np.ones((4, 1))}, "shape (n,), got shape (4, 1)"),
            ({"x_data": X, "sample_weight": list("abcd")}, "one number per sample"),
        ],
    )
    def test_what_does_not_fit_is_refused_with_what_came(self, options, message):
        assert message in refused(**options)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_missing_values_are_counted_and_the_first_is_named(self, bad):
        x = X.copy()
        x[2:, 1] = bad
        assert "x contains NaN or infinite values in 2 of 4 samples (first: sample 2)" in refused(x)
        assert "x_b contains NaN" in refused({"a": X, "b": x})

    def test_integers_and_words_have_nothing_to_miss(self):
        assert DataInput(np.arange(3)).x_data.dtype == np.int64
        assert len(DataInput(np.array([["a"], ["b"]]))) == 2


class TestFromObject:
    def test_data_input_is_itself(self):
        data = DataInput(X)
        assert DataInput.from_object(data) is data

    def test_tuples(self):
        assert DataInput.from_object((X,)).y_data is None
        assert DataInput.from_object((X, Y)).y_data is Y
        np.testing.assert_array_equal(DataInput.from_object((X, Y, np.ones(4))).sample_weight, np.ones(4))

    @pytest.mark.parametrize("names", [("x_data", "y_data"), ("x_test", "y_test")])
    def test_objects_that_name_their_arrays(self, names):
        holder = type("Holder", (), {names[0]: X, names[1]: Y, "sample_weight": np.ones(4)})()
        data = DataInput.from_object(holder)
        assert (data.x_data is X, data.y_data is Y, data.sample_weight.sum()) == (True, True, 4)
        unlabelled = type("Holder", (), {names[0]: X})()
        assert DataInput.from_object(unlabelled).y_data is None

    def test_arrays_mappings_and_frames_are_inputs_without_labels(self):
        assert DataInput.from_object(X).x_data is X
        assert list(DataInput.from_object({"a": X}).x_data) == ["a"]
        frame = DataInput.from_object(pd.DataFrame(X))
        np.testing.assert_array_equal(frame.x_data, X)


class TestSample:
    def test_all_are_kept_in_order(self):
        data = DataInput(X, Y)
        for n in (None, 4, 5):
            drawn = data.sample(n, seed=0)
            np.testing.assert_array_equal(drawn.x_data, X)
            np.testing.assert_array_equal(drawn.indices, [0, 1, 2, 3])

    def test_the_seed_decides_and_rows_stay_together(self):
        n = 200
        x = np.arange(n)[:, None]
        data = DataInput({"a": x, "b": x * 2}, {"o": x[:, 0] * 3}, np.arange(1.0, n + 1))
        drawn, again, other = data.sample(50, seed=1), data.sample(50, seed=1), data.sample(50, seed=2)
        np.testing.assert_array_equal(drawn.indices, again.indices)
        assert not np.array_equal(drawn.indices, other.indices)
        assert (np.diff(drawn.indices) > 0).all()
        np.testing.assert_array_equal(drawn.x_data["a"][:, 0], drawn.indices)
        np.testing.assert_array_equal(drawn.x_data["b"][:, 0], drawn.indices * 2)
        np.testing.assert_array_equal(drawn.y_data["o"], drawn.indices * 3)
        np.testing.assert_array_equal(drawn.sample_weight, drawn.indices + 1)
        np.testing.assert_array_equal(DataInput([x, x]).sample(50, seed=1).x_data[1][:, 0], drawn.indices)

    @given(
        counts=st.lists(st.integers(11, 120), min_size=1, max_size=6),
        share=st.floats(0.05, 0.95),
        form=st.sampled_from(["sparse", "column", "float", "one-hot", "negative"]),
        seed=st.integers(0, 5),
    )
    def test_classes_keep_their_share_to_one_sample(self, counts, share, form, seed):
        labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
        forms = {
            "sparse": labels,
            "column": labels[:, None],
            "float": labels.astype("float32"),
            "one-hot": np.eye(max(len(counts), 2))[labels],
            "negative": labels * 7 - 3,
        }
        n, wanted = len(labels), max(1, int(share * len(labels)))
        drawn = DataInput(np.zeros((n, 1)), forms[form]).sample(wanted, seed)
        assert len(drawn) == len(np.unique(drawn.indices)) == wanted
        kept = np.bincount(labels[drawn.indices], minlength=len(counts))
        assert (np.abs(kept - np.array(counts) * wanted / n) < 1).all()

    def test_what_is_left_over_goes_to_the_largest_remainders(self):
        # Exactly 1.4, 2.1 and 3.5 of the classes: the last sample goes to the half.
        y = np.repeat([0, 1, 2], [20, 30, 50])
        drawn = DataInput(np.zeros((100, 1)), y).sample(7, seed=0)
        assert np.bincount(drawn.y_data).tolist() == [1, 2, 4]

    @pytest.mark.parametrize(
        "y",
        [
            np.linspace(0, 1, 100),
            np.arange(100),
            np.array(["cat", "dog"] * 50),
            np.full(100, np.nan),
            np.r_[np.zeros(99), np.inf],
            np.arange(200.0).reshape(100, 2),
            np.array([True, False] * 50),
            None,
        ],
        ids=["real", "too many values", "words", "nan", "inf", "two targets", "booleans", "none"],
    )
    def test_any_labels_can_be_drawn_from(self, y):
        drawn = DataInput(np.zeros((100, 1)), y).sample(10, seed=0)
        assert len(drawn) == 10
        if y is not None and y.dtype == bool:
            assert drawn.y_data.sum() == 5

    def test_a_draw_is_uniform_within_its_class(self):
        y = np.repeat([0, 1], [40, 60])
        data = DataInput(np.zeros((100, 1)), y)
        times = np.bincount(np.concatenate([data.sample(20, seed).indices for seed in range(400)]), minlength=100)
        # Each sample is drawn with probability 1/5: 80 times expected, standard deviation 8; six of them is a bug.
        assert np.abs(times - 80).max() < 48
