"""What stands for a sample, or a part of it, that says nothing: the baseline."""

from __future__ import annotations

from typing import Any

import numpy as np

from analyzer.errors import ConfigError, DataError
from analyzer.relevance.attributions.method import Question, of_inputs
from analyzer.relevance.attributions.passing import Array


def baselines(question: Question, given: Any) -> list[Array | None]:
    """A baseline for every input, each broadcast to all samples.

    Args:
        question: What is explained.
        given: ``"zeros"``, ``"mean"`` (over the samples), a number, an array (one sample, or as many as x has); or a
            dict of these by input. For an input of whole numbers: ``"zeros"``, or what stands there.

    Returns:
        Arrays ``(n, ...)``; None for an input of whole numbers whose baseline is ``"zeros"``: an embedding of zeros.

    Raises:
        ConfigError: If it is none of these.
        DataError: If an array does not fit.
    """
    entries = of_inputs(question, "baseline", given)
    return [_one(question, number, entry) for number, entry in enumerate(entries)]


def _one(question: Question, number: int, given: Any) -> Array | None:
    x, name, whole = question.flat[number], question.names[number], question.whole(number)
    if isinstance(given, str):
        if given == "zeros":
            return None if whole else np.broadcast_to(np.zeros((), x.dtype), x.shape)
        if given == "mean" and not whole:
            return np.broadcast_to(x.mean(axis=0, dtype=np.float64).astype(x.dtype), x.shape)
        expected = "'zeros', or the whole number or array that stands there" if whole else "'zeros', 'mean', a number"
        raise ConfigError(f"options['baseline']={given!r} for the input {name!r}: expected {expected}.")
    array = np.asarray(given)
    if not np.issubdtype(array.dtype, np.number) or not np.isfinite(array).all():
        raise ConfigError(f"options['baseline'] for the input {name!r} holds no finite numbers.")
    if whole and not np.array_equal(array, np.trunc(array)):
        raise ConfigError(f"options['baseline'] for the input {name!r}: it holds whole numbers, so give such.")
    if array.ndim and array.shape not in (x.shape, x.shape[1:]):
        raise DataError(
            f"options['baseline'] for the input {name!r} has shape {array.shape}: expected one sample {x.shape[1:]}, "
            f"or as many as x has, {x.shape}."
        )
    return np.broadcast_to(array.astype(x.dtype), x.shape)
