"""Heavy tables are sampled where every case compiles a program; PyTorch, which compiles none, runs them whole."""

import os
from collections import defaultdict
from pathlib import Path

import pytest

HERE = Path(__file__).parent

LONG = 4
"""Cases of one test above which a table is sampled."""

EVERY = 6
"""One case in so many runs in `make test` on JAX and TensorFlow; the others are `full`."""

QUICK = {"test_quality.py"}
"""Files that compile nothing; `make check` leaves out the others."""


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents and item.path.name not in QUICK:
            item.add_marker(pytest.mark.slow)
    if os.environ.get("KERAS_BACKEND") == "torch":
        return
    tables = defaultdict(list)
    for item in items:
        if HERE in item.path.parents and hasattr(item, "callspec"):
            tables[item.nodeid.partition("[")[0]].append(item)
    for table in tables.values():
        for position, item in enumerate(table):
            if len(table) > LONG and position % EVERY:
                item.add_marker(pytest.mark.full)
