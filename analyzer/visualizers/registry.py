"""Which visualizers there are: built in, registered, and from other packages."""

from __future__ import annotations

from collections.abc import Collection
from importlib.metadata import entry_points
from typing import TypeVar

from analyzer.plugins import check_plugin, installed
from analyzer.visualizers.architecture_visualizer import ArchitectureVisualizer
from analyzer.visualizers.base import BaseVisualizer
from analyzer.visualizers.calibration_visualizer import CalibrationVisualizer
from analyzer.visualizers.information_flow_visualizer import InformationFlowVisualizer
from analyzer.visualizers.pareto_visualizer import ParetoVisualizer
from analyzer.visualizers.relevance_visualizer import RelevanceVisualizer
from analyzer.visualizers.robustness_visualizer import RobustnessVisualizer
from analyzer.visualizers.shift_visualizer import ShiftVisualizer
from analyzer.visualizers.summary_visualizer import SummaryVisualizer
from analyzer.visualizers.training_dynamics_visualizer import TrainingDynamicsVisualizer
from analyzer.visualizers.weight_visualizer import WeightVisualizer

V = TypeVar("V", bound=type[BaseVisualizer])

ENTRY_POINTS = "analyzer.visualizers"
"""Group of entry points under which other packages offer visualizers."""

BUILT_IN: dict[str, type[BaseVisualizer]] = {
    one.name: one
    for one in (
        WeightVisualizer,
        CalibrationVisualizer,
        InformationFlowVisualizer,
        RelevanceVisualizer,
        RobustnessVisualizer,
        ShiftVisualizer,
        TrainingDynamicsVisualizer,
        ArchitectureVisualizer,
        ParetoVisualizer,
        SummaryVisualizer,
    )
}

_registered: dict[str, type[BaseVisualizer]] = {}


def register_visualizer(visualizer: V) -> V:
    """Have a visualizer called after every analysis; a class decorator.

    Defining a class of the same name again, as in a notebook, replaces the earlier one.

    Args:
        visualizer: Subclass of `BaseVisualizer`.

    Raises:
        ConfigError: If it is no such class, or has the name of a built-in visualizer.
    """
    check_visualizer_class(visualizer)
    _registered[visualizer.name] = visualizer
    return visualizer


def visualizer_classes() -> dict[str, type[BaseVisualizer]]:
    """Every visualizer by name: built in, from entry points, registered. A broken plugin is left out with a warning."""
    plugins = installed(entry_points(group=ENTRY_POINTS), "visualizer", _check_installed)
    return BUILT_IN | plugins | _registered


def check_visualizer_class(visualizer: object) -> None:
    """Refuse what cannot be called as a further visualizer.

    Args:
        visualizer: A subclass of `BaseVisualizer`.

    Raises:
        ConfigError: If it is no such class, or its name is none or that of a built-in visualizer.
    """
    check_plugin(visualizer, BaseVisualizer, "A visualizer", BUILT_IN)


def _check_installed(visualizer: object, found: Collection[str]) -> None:
    check_plugin(visualizer, BaseVisualizer, "A visualizer", {*BUILT_IN, *found})
