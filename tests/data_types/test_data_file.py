"""Reading `--data`: what is understood, and one clear error for what is not."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from analyzer.data_types.data_file import load_npz
from analyzer.errors import DataError

pytestmark = pytest.mark.plain

X = np.arange(12, dtype="float32").reshape(4, 3)
Y = np.array([0, 1, 1, 0])


@pytest.fixture
def save(tmp_path):
    def write(**arrays):
        np.savez(tmp_path / "test.npz", **arrays)
        return tmp_path / "test.npz"

    return write


def test_samples_labels_and_weights_come_back_as_they_were(save):
    x, y, weight = load_npz(save(x=X, y=Y, sample_weight=np.ones(4)))
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)
    np.testing.assert_array_equal(weight, np.ones(4))
    assert (x.dtype, y.dtype) == (X.dtype, Y.dtype)


def test_labels_and_weights_may_be_left_out(save):
    data = load_npz(str(save(x=X)))
    assert data.y is None
    assert data.sample_weight is None


def test_several_inputs_and_outputs_come_by_name(save):
    data = load_npz(save(x_image=X, x_meta_data=X[:, :1], y_class=Y, y_box=X))
    assert list(data.x) == ["image", "meta_data"]
    assert list(data.y) == ["class", "box"]
    np.testing.assert_array_equal(data.x["meta_data"], X[:, :1])


def test_text_is_a_kind_of_sample(save):
    np.testing.assert_array_equal(load_npz(save(x=np.array(["a", "bc"]))).x, ["a", "bc"])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": Y}, "has no x, only y"),
        ({}, "has no x, only nothing"),
        ({"x": X, "labels": Y}, "'labels'"),
        ({"X": X}, "'X'"),
        ({"x": X, "x_image": X}, "has 'x' and 'x_image'"),
        ({"x": X, "y": Y, "y_box": X}, "has 'y' and 'y_box'"),
        ({"x_": X}, "'x_' names no input"),
        ({"x": np.array(["2020-01-01"], dtype="datetime64[D]")}, "dtype datetime64"),
        ({"x": np.zeros(2, dtype=[("a", "f4")])}, "expected an array of numbers or text"),
    ],
)
def test_arrays_that_cannot_be_placed_are_named(save, arrays, message):
    with pytest.raises(DataError, match=message):
        load_npz(save(**arrays))


class _Sentinel:
    ran = False

    @classmethod
    def run(cls):
        cls.ran = True
        return 0

    def __reduce__(self):
        return (_Sentinel.run, ())


def test_objects_are_refused_and_not_unpickled(save):
    path = save(x=np.array([_Sentinel()], dtype=object))
    np.load(path, allow_pickle=True)["x"]
    assert _Sentinel.ran  # the file would run code if it were let
    _Sentinel.ran = False
    with pytest.raises(DataError, match=r"'x' is an array of Python objects"):
        load_npz(path)
    assert not _Sentinel.ran


def _npy():
    buffer = io.BytesIO()
    np.save(buffer, X)
    return buffer.getvalue()


def _npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _damaged():
    content = bytearray(_npz(x=X))
    content[content.index(X.tobytes()) + 5] ^= 0xFF
    return bytes(content)


def _foreign_member():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x", b"text")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated one \\(0 bytes\\)"),
        (b"1,2,3\n", "not an npz file"),
        (pickle.dumps({"x": 1}), "not an npz file"),
        (_npy(), "not an npz file"),
        (_npz(x=X)[:-30], "truncated"),
        (_damaged(), "cannot be read"),
        (_foreign_member(), "no NumPy array"),
    ],
    ids=["empty", "csv", "pickle", "npy", "truncated", "damaged", "foreign"],
)
def test_other_formats_and_damage_are_one_clear_error(tmp_path, content, message):
    path = tmp_path / "test.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_npz(path)


def test_a_missing_file_and_a_folder_are_said_to_be_so(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        load_npz(tmp_path / "nothing.npz")
    with pytest.raises(DataError, match="is a folder"):
        load_npz(tmp_path)
