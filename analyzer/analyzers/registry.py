"""The analyses that are run, in order: those of this package, and those that others register."""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module
from importlib.metadata import entry_points
from typing import TypeVar, cast

from analyzer.analyzers.base import BaseAnalyzer
from analyzer.data_types.results import RESERVED
from analyzer.errors import ConfigError
from analyzer.plugins import check_plugin, installed

ENTRY_POINT_GROUP = "analyzer.analyzers"

_BUILT_IN = {
    "performance": "analyzer.analyzers.performance_analyzer:PerformanceAnalyzer",
    "weights": "analyzer.analyzers.weight_analyzer:WeightAnalyzer",
    "calibration": "analyzer.analyzers.calibration_analyzer:CalibrationAnalyzer",
    "information_flow": "analyzer.analyzers.information_flow_analyzer:InformationFlowAnalyzer",
    "training_dynamics": "analyzer.analyzers.training_dynamics_analyzer:TrainingDynamicsAnalyzer",
    "cost": "analyzer.analyzers.cost_analyzer:CostAnalyzer",
    "relevance": "analyzer.analyzers.relevance_analyzer:RelevanceAnalyzer",
    "robustness": "analyzer.analyzers.robustness_analyzer:RobustnessAnalyzer",
    "shift": "analyzer.analyzers.shift_analyzer:ShiftAnalyzer",
    "similarity": "analyzer.analyzers.similarity_analyzer:SimilarityAnalyzer",
}

_registered: dict[str, type[BaseAnalyzer]] = {}

A = TypeVar("A", bound=type[BaseAnalyzer])


def register_analyzer(cls: A) -> A:
    """Class decorator: run this analysis in every later `ModelAnalyzer.analyze`.

    Args:
        cls: A subclass of `BaseAnalyzer`.

    Raises:
        ConfigError: If it is no such subclass, or its name is taken by another class or by `AnalysisResults`.
    """
    check_analyzer_class(cls)
    known = _registered.get(cls.name)
    # Running a notebook cell again defines the class anew under its old name.
    same = known is not None and (known.__module__, known.__qualname__) == (cls.__module__, cls.__qualname__)
    if known is not None and not same:
        raise ConfigError(f"An analyzer named {cls.name!r} exists already. Give {cls.__name__} another `name`.")
    _registered[cls.name] = cls
    return cls


def analyzer_classes() -> dict[str, type[BaseAnalyzer]]:
    """All analyses by name: built in, from entry points, and registered. A broken entry point is a warning."""
    plugins = installed(entry_points(group=ENTRY_POINT_GROUP), "analyzer", _check_installed)
    return {name: _load_built_in(path) for name, path in _BUILT_IN.items()} | plugins | _registered


def check_analyzer_class(cls: object) -> None:
    """Refuse what cannot be run as a further analysis.

    Args:
        cls: A subclass of `BaseAnalyzer`.

    Raises:
        ConfigError: If it is no such class, or its name is none, one of ours, or one of `AnalysisResults`.
    """
    check_plugin(cls, BaseAnalyzer, "An analyzer", _BUILT_IN, reserved=RESERVED)


def is_built_in(analyzer: BaseAnalyzer) -> bool:
    """Whether an analysis is one of this package's own.

    Args:
        analyzer: The analysis.
    """
    path = f"{type(analyzer).__module__}:{type(analyzer).__qualname__}"
    return path in _BUILT_IN.values()


def _check_installed(cls: object, found: Collection[str]) -> None:
    check_plugin(cls, BaseAnalyzer, "An analyzer", {*_BUILT_IN, *found}, reserved=RESERVED)


def _load_built_in(path: str) -> type[BaseAnalyzer]:
    module, _, name = path.partition(":")
    return cast(type[BaseAnalyzer], getattr(import_module(module), name))
