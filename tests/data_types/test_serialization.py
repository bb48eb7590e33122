"""Result dataclasses as strict JSON and back."""

import dataclasses
import datetime
import json
import math
import pathlib
import re
import types

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from analyzer.data_types import Estimate, Finding
from analyzer.data_types.serialization import INLINE_SIZE, ArrayStore, decode, encode, encode_measured, plain
from analyzer.errors import DataError
from tests.data_types.strategies import HOSTILE, RESULTS, results, same

pytestmark = pytest.mark.plain


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Circle:
    findings: tuple[Finding, ...] = ()
    radius: float


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Square:
    findings: tuple[Finding, ...] = ()
    radius: float


def as_json(value):
    return json.loads(json.dumps(value, allow_nan=False))


@pytest.mark.parametrize("cls", RESULTS, ids=lambda cls: cls.__name__)
def test_every_result_survives_the_round_trip(cls):
    @settings(max_examples=15)
    @given(result=results(cls), inline=st.booleans())
    def check(result, inline):
        store = ArrayStore(inline_all=inline)
        document, measured = as_json(encode(result, store)), as_json(encode_measured(result, store))
        assert document["type"] == cls.__name__
        assert not set(document) & set(measured)
        assert same(decode(cls, document | measured, store.arrays), result)
        assert store.arrays == {} or not inline
        # What a user can name appears nowhere in the names of the array file.
        assert [name for name in store.arrays if not re.fullmatch(r"\d{5}_[a-z_]+", name)] == []

    check()


def test_large_arrays_leave_the_json_exactly():
    store = ArrayStore()
    array = np.random.default_rng(0).normal(size=(INLINE_SIZE + 1, 1)).astype("float32")
    array[0] = np.inf
    reference = encode({"../x": array}, store, "values")["../x"]
    assert reference == {"array": "00000_values", "shape": [INLINE_SIZE + 1, 1], "dtype": "float32"}
    assert store.arrays["00000_values"] is array
    assert decode(NDArray[np.float32], as_json(reference), store.arrays) is array
    assert isinstance(encode(array[:INLINE_SIZE], store), list)
    assert isinstance(encode(array, ArrayStore(inline_all=True)), list)


def test_inline_arrays_know_their_type_from_the_hint():
    store = ArrayStore()
    for array in (np.array([], dtype=np.int64), np.array([True, False]), np.array([[1.0, np.nan]]), np.array([2.0])):
        decoded = decode(NDArray[array.dtype.type], as_json(encode(array, store)), {})
        assert same(decoded, array)
    assert decode(np.ndarray, [1, None], {}).dtype == np.float64
    assert decode(np.ndarray, [1, 2], {}).dtype == np.int64


@pytest.mark.parametrize("stored", [{}, {"00000_a": np.zeros(2)}, {"00000_a": np.zeros(3, dtype="float32")}])
def test_an_array_that_is_not_the_one_named_is_refused(stored):
    reference = {"array": "00000_a", "shape": [3], "dtype": "float64"}
    with pytest.raises(DataError, match=r"name an array '00000_a' of shape \(3,\).*Keep both files"):
        decode(NDArray[np.float64], reference, stored)


def test_not_finite_is_null_everywhere():
    estimate = Estimate(value=math.nan, low=-math.inf, high=math.inf, n=3)
    assert as_json(encode(estimate, ArrayStore()))["value"] is None
    assert encode(np.array([1.0, np.nan, np.inf]), ArrayStore()) == [1.0, None, None]
    finding = Finding(kind="x", layer=None, severity="info", evidence={"rate": np.float32("nan")}, message="")
    assert encode(finding, ArrayStore())["evidence"] == {"rate": None}
    assert plain({"a": [math.inf, (math.nan,)]}) == {"a": [None, [None]]}


def test_a_union_of_results_is_told_apart_by_the_class_name():
    for made in (Circle(radius=1.0), Square(radius=1.0)):
        document = encode(made, ArrayStore())
        assert document["type"] == type(made).__name__
        assert type(decode(Circle | Square | None, document, {})) is type(made)
    assert decode(Circle | None, None, {}) is None


def test_a_union_of_shapes_is_told_apart_by_the_json():
    assert decode(str | tuple[float, ...], [1.0, 2.0], {}) == (1.0, 2.0)
    assert decode(str | tuple[float, ...], "1", {}) == "1"
    assert decode(int | dict[str, int], {"a": 1}, {}) == {"a": 1}
    assert decode(tuple[str, int], ["a", 1], {}) == ("a", 1)
    np.testing.assert_array_equal(decode(float | NDArray[np.float64], [1, 2], {}), [1.0, 2.0])


def test_a_field_of_a_later_minor_version_is_passed_over():
    document = {**encode(Circle(radius=2.0), ArrayStore()), "added_later": 1}
    assert decode(Circle, document, {}).radius == 2.0


class Tensor:
    """Of a framework: not an array, but it can become one."""

    def __array__(self, dtype=None, copy=None):
        return np.array([1.0, np.nan], dtype=np.float32)


class GradientTensor(Tensor):
    """As torch's with a gradient."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")

    def detach(self):
        return types.SimpleNamespace(cpu=Tensor)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (np.bool_(False), False),
        (np.int8(3), 3),
        (np.float32(0.5), 0.5),
        (np.float64("nan"), None),
        (np.str_("a"), "a"),
        (np.array([[1, 2]]), [[1, 2]]),
        (np.array(3.0), 3.0),
        ({1: {"a": np.nan}}, {"1": {"a": None}}),
        ({"x"}, ["x"]),
        (frozenset({2}), [2]),
        ((1, "a"), [1, "a"]),
        (pd.DataFrame({"a": [1, 2], "b": [np.nan, 1.5]}), {"a": [1, 2], "b": [None, 1.5]}),
        (pd.Series([1.0, np.nan]), [1.0, None]),
        (Tensor(), [1.0, None]),
        (GradientTensor(), [1.0, None]),
        (Circle(radius=np.inf), {"findings": [], "radius": None}),
        (pathlib.PurePosixPath("/a/b"), "/a/b"),
        (datetime.date(2024, 1, 2), "2024-01-02"),
        (1 + 2j, "(1+2j)"),
        (b"raw", "b'raw'"),
        (types.SimpleNamespace, str(types.SimpleNamespace)),
    ],
)
def test_what_plugins_may_say_becomes_json(value, expected):
    assert plain(value) == expected
    assert as_json(plain(value)) == expected


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(HOSTILE) | st.binary(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_any_nesting_is_strict_json(value):
    assert as_json(plain(value)) == plain(value)
