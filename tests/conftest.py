"""What holds for every test: one backend per process, quiet and capped frameworks, and no test that looks away.

The environment is set before anything imports NumPy or a framework: all of them read it once, at import.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FRAMEWORKS = {"jax": "jax", "tensorflow": "tensorflow", "torch": "torch"}
REPOSITORY = Path(__file__).resolve().parent.parent

QUIET_AND_CAPPED = {
    "MPLBACKEND": "Agg",
    "CUDA_VISIBLE_DEVICES": "",
    "JAX_PLATFORMS": "cpu",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # Two legs share two cores: more threads than cores would make both slower, and one thread is repeatable.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    # Most of the time on JAX is LLVM optimising programs that run once: halved by optimising them less.
    "XLA_FLAGS": " ".join(
        (
            "--xla_cpu_multi_thread_eigen=false",
            "--xla_backend_optimization_level=1",
            "--xla_llvm_disable_expensive_passes=true",
        )
    ),
    # A developer's own keras.json (float type, image format) must not decide a test.
    "KERAS_HOME": str(REPOSITORY / ".pytest_cache" / "keras-home"),
}
for _name, _value in QUIET_AND_CAPPED.items():
    os.environ.setdefault(_name, _value)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--without-keras",
        action="store_true",
        help="the leg without a backend: fail if Keras or a framework is installed, collect only plain test modules",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to start when what was asked for is not there: a leg that tests nothing must not pass."""
    if config.getoption("--without-keras"):
        present = [name for name in ("keras", *FRAMEWORKS.values()) if importlib.util.find_spec(name)]
        if present:
            raise pytest.UsageError(f"--without-keras, but this environment has {', '.join(present)}")
    else:
        _check_requested_backend(os.environ.get("KERAS_BACKEND"))
    _make_hypothesis_repeatable()


def _check_requested_backend(backend: str | None) -> None:
    if backend is None:
        return
    if backend not in FRAMEWORKS:
        raise pytest.UsageError(f"KERAS_BACKEND={backend!r}; expected one of {', '.join(FRAMEWORKS)}")
    if importlib.util.find_spec("keras") is None or importlib.util.find_spec(FRAMEWORKS[backend]) is None:
        raise pytest.UsageError(f"KERAS_BACKEND={backend}, but keras or {FRAMEWORKS[backend]} is not installed here")


def _make_hypothesis_repeatable() -> None:
    """Same examples in every run, and no clock: a slow machine is not a defect."""
    from hypothesis import HealthCheck, settings

    settings.register_profile(
        "repeatable", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("repeatable")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Without Keras, do not even import a test module that has no plain test: its imports would fail."""
    if config.getoption("--without-keras") and collection_path.name.startswith("test_"):
        return None if "mark.plain" in collection_path.read_text(encoding="utf-8") else True
    return None


def pytest_collection_finish(session: pytest.Session) -> None:
    """Tests that need a backend run on the one that was named, not on whatever Keras falls back to."""
    if all(item.get_closest_marker("plain") for item in session.items):
        return
    asked = os.environ.get("KERAS_BACKEND")
    if asked is None:
        raise pytest.UsageError(f"these tests need a backend: set KERAS_BACKEND to one of {', '.join(FRAMEWORKS)}")
    import keras

    if keras.backend.backend() != asked:
        raise pytest.UsageError(f"KERAS_BACKEND={asked}, but Keras runs on {keras.backend.backend()}")


_STARTS: dict[str, dict[str, Any]] = {}
"""States that the generators of test modules had before the first of their tests."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What a test draws does not depend on the tests before it: each leg runs another choice of them."""
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(0)
    generator = getattr(getattr(item, "module", None), "RNG", None)
    if generator is not None:
        state = _STARTS.setdefault(item.module.__name__, generator.bit_generator.state)
        generator.bit_generator.state = state


def _skip_is_failure(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{reason}\nThis suite does not skip: a test that cannot run here must not be collected here."


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    report = yield
    _skip_is_failure(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    report = yield
    _skip_is_failure(report)
    return report
