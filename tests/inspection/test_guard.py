"""`untouched_process` on its own: what it restores, also when the body raises, and that it hides nothing else."""

import contextlib
import random
import warnings

import keras
import numpy as np
import pytest

from analyzer.inspection.guard import untouched_process
from analyzer.testing import footprint


def disturb():
    """Move everything that running a model can move."""
    random.random()  # noqa: S311
    np.random.normal(size=3)  # noqa: NPY002
    keras.random.normal((3,))
    keras.layers.Dense(1)
    warnings.simplefilter("ignore")


def test_the_measure_itself_sees_every_disturbance():
    before = footprint.process()
    disturb()
    after = footprint.process()
    moved = {key for key in before if after[key] != before[key]}
    assert moved == {"python", "numpy", "keras", "names", "warnings"}
    warnings.filters.pop(0)


@pytest.mark.parametrize("seeded", [True, False])
def test_everything_is_restored(seeded):
    if seeded:
        keras.utils.set_random_seed(7)
    before = footprint.process()
    with untouched_process():
        disturb()
    assert footprint.process() == before


def test_everything_is_restored_when_the_body_raises():
    before = footprint.process()
    with contextlib.suppress(KeyboardInterrupt), untouched_process():
        disturb()
        raise KeyboardInterrupt
    assert footprint.process() == before


def test_scopes_may_be_nested():
    before = footprint.process()
    with untouched_process():
        disturb()
        inner = footprint.process()
        with untouched_process():
            disturb()
        assert footprint.process() == inner
    assert footprint.process() == before


def test_draws_inside_are_random_as_ever():
    with untouched_process():
        first, second = random.random(), random.random()  # noqa: S311
    with untouched_process():
        again = random.random()  # noqa: S311
    assert first != second
    assert again == first
