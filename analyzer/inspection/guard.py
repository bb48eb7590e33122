"""Leaving the user's process as it was found."""

from __future__ import annotations

import contextlib
import random
import warnings
from collections.abc import Iterator

import numpy as np

from analyzer.backends import engine
from analyzer.inspection import compat


@contextlib.contextmanager
def untouched_process() -> Iterator[None]:
    """Restore every process-wide state that running a model can move, also when the body raises.

    That is: the random states of Python, NumPy, Keras and the framework, Keras' name counters, and the warning filters.
    """
    python_state = random.getstate()
    numpy_state = np.random.get_state()  # noqa: NPY002 - the legacy global state is what is guarded
    with warnings.catch_warnings(), compat.keras_state_guard(), engine().rng_guard():
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002
