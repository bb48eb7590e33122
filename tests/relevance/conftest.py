"""Relevance compiles a program for almost every case: one test in two on JAX and TensorFlow, all of them on PyTorch."""

from pathlib import Path

from tests.sampling import slow_and_sampled, thinned_out

QUICK = {"test_quality.py"}
"""Files that compile nothing."""


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    slow_and_sampled(items, here, quick=QUICK)
    thinned_out(items, here, every=2, quick=QUICK)
