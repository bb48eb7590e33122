"""The analyses that are run, in order: those of this package, and those that others register."""

from __future__ import annotations

import logging
from importlib import import_module
from importlib.metadata import entry_points
from typing import TypeVar, cast

from analyzer.analyzers.base import BaseAnalyzer
from analyzer.data_types.results import RESERVED
from analyzer.errors import ConfigError

ENTRY_POINT_GROUP = "analyzer.analyzers"

_BUILT_IN = {
    "performance": "analyzer.analyzers.performance_analyzer:PerformanceAnalyzer",
    "weights": "analyzer.analyzers.weight_analyzer:WeightAnalyzer",
    "calibration": "analyzer.analyzers.calibration_analyzer:CalibrationAnalyzer",
    "information_flow": "analyzer.analyzers.information_flow_analyzer:InformationFlowAnalyzer",
    "training_dynamics": "analyzer.analyzers.training_dynamics_analyzer:TrainingDynamicsAnalyzer",
    "similarity": "analyzer.analyzers.similarity_analyzer:SimilarityAnalyzer",
}

_registered: dict[str, type[BaseAnalyzer]] = {}

logger = logging.getLogger("analyzer")

A = TypeVar("A", bound=type[BaseAnalyzer])


def register_analyzer(cls: A) -> A:
    """Class decorator: run this analysis in every later `ModelAnalyzer.analyze`.

    Args:
        cls: A subclass of `BaseAnalyzer`.

    Raises:
        ConfigError: If it is no such subclass, or its name is taken by another class or by `AnalysisResults`.
    """
    if not (isinstance(cls, type) and issubclass(cls, BaseAnalyzer)):
        raise ConfigError(f"register_analyzer got {cls!r}; expected a subclass of BaseAnalyzer.")
    if cls.name in RESERVED and cls.name not in _BUILT_IN:
        raise ConfigError(f"{cls.name!r} is a name of AnalysisResults itself. Give {cls.__name__} another `name`.")
    known = _registered.get(cls.name)
    # Running a notebook cell again defines the class anew under its old name.
    same = known is not None and (known.__module__, known.__qualname__) == (cls.__module__, cls.__qualname__)
    if cls.name in _BUILT_IN or (known is not None and not same):
        raise ConfigError(f"An analyzer named {cls.name!r} exists already. Give {cls.__name__} another `name`.")
    _registered[cls.name] = cls
    return cls


def analyzer_classes() -> dict[str, type[BaseAnalyzer]]:
    """All analyses by name: built in, from entry points, and registered. A broken entry point is a warning."""
    found = {name: _load_built_in(path) for name, path in _BUILT_IN.items()}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            cls = point.load()
            if not (isinstance(cls, type) and issubclass(cls, BaseAnalyzer)):
                raise TypeError(f"{cls!r} is no subclass of BaseAnalyzer")
            if cls.name in found or cls.name in RESERVED:
                raise ValueError(f"the name {cls.name!r} is taken")
            found[cls.name] = cls
        except Exception as error:  # noqa: BLE001 - somebody else's package must not break the run
            logger.warning("the analyzer plugin %r cannot be loaded: %s: %s", point.name, type(error).__name__, error)
    return found | _registered


def _load_built_in(path: str) -> type[BaseAnalyzer]:
    module, _, name = path.partition(":")
    return cast(type[BaseAnalyzer], getattr(import_module(module), name))
