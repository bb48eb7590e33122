"""Compiled passes kept for the length of a scope in which one model is explained many times."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import keras

from analyzer.relevance.flow import Options
from analyzer.relevance.program import Program
from analyzer.relevance.targets import Target

_kept: ContextVar[dict[Any, Program] | None] = ContextVar("kept_programs", default=None)


@contextlib.contextmanager
def kept_programs() -> Iterator[None]:
    """A scope in which equal passes of one model are compiled once.

    The models explained inside must not change; other values for their variables can be handed to a pass.
    """
    if _kept.get() is not None:
        yield
        return
    programs: dict[Any, Program] = {}
    token = _kept.set(programs)
    try:
        yield
    finally:
        _kept.reset(token)
        for program in programs.values():
            program.release()


def program_for(
    model: keras.Model, options: Options, target: Target, batch: Any, make: Callable[[], Program]
) -> tuple[Program, bool]:
    """A compiled pass, and whether the caller must release it.

    Args:
        model: The model.
        options: What is asked for.
        target: What is explained.
        batch: A batch of the shape that it is for.
        make: Compiles it.
    """
    programs = _kept.get()
    if programs is None:
        return make(), True
    shapes = tuple((tuple(array.shape), str(array.dtype)) for array in keras.tree.flatten(batch))
    preset = repr(options.preset)
    key = (id(model), preset, options.unknown, options.ledger, options.maps, target.program_key, shapes)
    if key not in programs:
        programs[key] = make()
    return programs[key], False
