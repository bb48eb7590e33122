"""Heavy tables are sampled where every case compiles a program; PyTorch, which compiles none, runs them whole."""

import os
from collections import defaultdict

import pytest

LONG = 4
"""Cases of one test above which a table is sampled."""

EVERY = 6
"""One case in so many runs in `make test` on JAX and TensorFlow; the others are `full`."""


def slow_and_sampled(items, folder, quick):
    """Mark the tests of a folder.

    Args:
        items: What pytest collected.
        folder: Of the tests meant.
        quick: Names of files that compile nothing; `make check` leaves out the others.
    """
    ours = [item for item in items if folder in item.path.parents]
    for item in ours:
        if item.path.name not in quick:
            item.add_marker(pytest.mark.slow)
    if os.environ.get("KERAS_BACKEND") == "torch":
        return
    tables = defaultdict(list)
    for item in ours:
        if hasattr(item, "callspec") and not item.get_closest_marker("plain"):
            tables[item.nodeid.partition("[")[0]].append(item)
    for table in tables.values():
        for position, item in enumerate(table):
            if len(table) > LONG and position % EVERY:
                item.add_marker(pytest.mark.full)


def thinned_out(items, folder, every, quick=frozenset()):
    """Mark all but one in so many tests of each file `full` where every case compiles a program.

    Args:
        items: What pytest collected.
        folder: Of the tests meant.
        every: How many tests one stands for.
        quick: Names of files that compile nothing; they run whole.
    """
    if os.environ.get("KERAS_BACKEND") == "torch":
        return
    files = defaultdict(list)
    for item in items:
        kept_out = item.get_closest_marker("plain") or item.get_closest_marker("full")
        if folder in item.path.parents and item.path.name not in quick and not kept_out:
            files[item.path].append(item)
    for tests in files.values():
        for position, item in enumerate(tests):
            if position % every:
                item.add_marker(pytest.mark.full)
