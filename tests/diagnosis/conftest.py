"""Diagnosis runs models many times over."""

from pathlib import Path

from tests.sampling import slow_and_sampled


def pytest_collection_modifyitems(items):
    slow_and_sampled(items, Path(__file__).parent, quick=set())
