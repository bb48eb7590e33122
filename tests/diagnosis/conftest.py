"""Diagnosis runs models many times over: one test in three on JAX and TensorFlow, all of them on PyTorch."""

from pathlib import Path

from tests.sampling import slow_and_sampled, thinned_out


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    slow_and_sampled(items, here, quick=set())
    thinned_out(items, here, every=3)
