"""Attacks take many steps: one test in two on JAX and TensorFlow, all of them on PyTorch."""

from pathlib import Path

from tests.sampling import slow_and_sampled, thinned_out

QUICK = {"test_losses.py", "test_threat.py", "test_corruptions.py", "test_image_corruptions.py"}
"""Files without an attack."""


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    slow_and_sampled(items, here, quick=QUICK)
    thinned_out(items, here, every=2, quick=QUICK)
