"""Results of every kind made by Hypothesis from their type hints, and equality of what holds arrays."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from analyzer.data_types.comparison import Comparison
from analyzer.data_types.results import ANALYSIS_TYPES
from analyzer.data_types.serialization import INLINE_SIZE

RESULTS: dict[type, str] = {
    cls: name for name, hint in ANALYSIS_TYPES.items() for cls in (get_args(hint) or (hint,))
} | {Comparison: "comparison"}
"""Every result dataclass and the attribute of `AnalysisResults` that holds it."""

HOSTILE = ("../x", "/etc/passwd", "<b>bold</b> & co", "a" * 300, "🦊", "", "type", "array", "null", 'quo"te', "\ud800")
"""Names that users may give to models, layers, outputs and classes."""

names = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=8))
numbers = st.floats(allow_nan=False, allow_infinity=False)

_SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    float: numbers,
    int: st.integers(-(2**53), 2**53),
    str: names,
    bool: st.booleans(),
    type(None): st.none(),
}


def results(cls: type) -> st.SearchStrategy[Any]:
    """Instances of a dataclass with every field filled by its type."""
    hints = get_type_hints(cls)
    return st.builds(cls, **{field.name: of_hint(hints[field.name]) for field in dataclasses.fields(cls)})


def of_hint(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a hinted type."""
    origin, args = get_origin(hint), get_args(hint)
    if hint in _SCALARS:
        return _SCALARS[hint]
    if origin is Literal:
        return st.sampled_from(args)
    if origin in (Union, types.UnionType):
        return st.one_of([of_hint(option) for option in args])
    if origin is tuple and args[-1] is Ellipsis:
        return st.lists(of_hint(args[0]), max_size=2).map(tuple)
    if origin is np.ndarray:
        return arrays(get_args(args[1])[0])
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return st.dictionaries(names, of_hint(args[1]), max_size=2)
    return results(hint)


def arrays(dtype: Any) -> st.SearchStrategy[np.ndarray]:
    """Small arrays, which are written into the JSON, and large ones, which are not; NaN is missing."""
    elements = {"allow_infinity": False} if np.dtype(dtype).kind == "f" else {}
    small = stn.arrays(
        dtype,
        st.one_of(st.just((0,)), st.just((3,)), st.just((2, 2))),
        elements=stn.from_dtype(np.dtype(dtype), **elements),
    )
    large = st.integers(0, 9).map(lambda seed: _large(seed).astype(dtype))
    return st.one_of(small, large)


def _large(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(INLINE_SIZE // 2 + 1, 2)) * 3


def same(one: Any, other: Any) -> bool:
    """Whether two results are equal in value and type, arrays with their dtype and NaN in the same places."""
    if isinstance(one, np.ndarray):
        return (
            isinstance(other, np.ndarray)
            and one.dtype == other.dtype
            and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
        )
    if dataclasses.is_dataclass(one):
        fields = [field.name for field in dataclasses.fields(one)]
        return type(one) is type(other) and all(same(getattr(one, name), getattr(other, name)) for name in fields)
    if isinstance(one, Mapping):
        return isinstance(other, Mapping) and list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, tuple | list):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    # A measured float may be one of NumPy's; what was read is Python's.
    return (isinstance(one, type(other)) or isinstance(other, type(one))) and one == other
