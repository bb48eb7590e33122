"""Which visualizers there are: built in, registered, and from other packages."""

from __future__ import annotations

import warnings
from importlib.metadata import entry_points
from typing import TypeVar

from analyzer.errors import ConfigError
from analyzer.visualizers.base import BaseVisualizer
from analyzer.visualizers.calibration_visualizer import CalibrationVisualizer
from analyzer.visualizers.information_flow_visualizer import InformationFlowVisualizer
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
        TrainingDynamicsVisualizer,
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
    _check(visualizer)
    _registered[visualizer.name] = visualizer
    return visualizer


def visualizer_classes() -> dict[str, type[BaseVisualizer]]:
    """Every visualizer by name: built in, from entry points, registered. A broken plugin is left out with a warning."""
    return BUILT_IN | _from_entry_points() | _registered


def _check(visualizer: object) -> None:
    if not (isinstance(visualizer, type) and issubclass(visualizer, BaseVisualizer)):
        raise ConfigError(f"{visualizer!r} is no visualizer: expected a subclass of BaseVisualizer.")
    if visualizer.name in BUILT_IN:
        raise ConfigError(f"The visualizer name {visualizer.name!r} is taken: set another `name` on the class.")


def _from_entry_points() -> dict[str, type[BaseVisualizer]]:
    found: dict[str, type[BaseVisualizer]] = {}
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            visualizer = entry.load()
            _check(visualizer)
        except Exception as error:  # noqa: BLE001 - whatever another package raises, the run goes on without it
            warnings.warn(f"The visualizer plugin {entry.name!r} ({entry.value}) is left out: {error}", stacklevel=3)
            continue
        found[visualizer.name] = visualizer
    return found
