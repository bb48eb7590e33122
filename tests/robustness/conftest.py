"""Attacks take many steps."""

from pathlib import Path

from tests.sampling import slow_and_sampled

QUICK = {"test_losses.py", "test_threat.py", "test_corruptions.py", "test_image_corruptions.py"}
"""Files without an attack."""


def pytest_collection_modifyitems(items):
    slow_and_sampled(items, Path(__file__).parent, quick=QUICK)
