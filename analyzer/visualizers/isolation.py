"""Figures of others, drawn so that whatever they do costs nothing but their own picture."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import matplotlib

from analyzer.config import AnalysisConfig
from analyzer.data_types import AnalysisResults
from analyzer.plugins import BROKEN
from analyzer.visualizers.base import BaseVisualizer


def draw_alone(
    cls: type[BaseVisualizer],
    results: AnalysisResults,
    config: AnalysisConfig,
    output_dir: Path,
    colors: Mapping[str, str],
) -> list[str]:
    """Make one visualizer and let it draw; Matplotlib's settings and open figures are as before, also when it raises.

    Args:
        cls: The visualizer.
        results: What was found.
        config: The options of the run.
        output_dir: Folder of the figures.
        colors: Colour by model name.

    Returns:
        What was wrong, one clause each.
    """
    before = open_figures()
    problems = []
    with matplotlib.rc_context():
        try:
            cls(results, config, output_dir, colors).create_visualizations()
        except BROKEN as error:
            problems.append(f"{type(error).__name__}: {error}")
    left = open_figures() - before
    if left:
        pyplot = sys.modules["matplotlib.pyplot"]
        for number in left:
            pyplot.close(number)
        problems.append(f"it left {len(left)} figure{'s' * (len(left) > 1)} open, now closed: end with plt.close(fig)")
    return problems


def open_figures() -> set[int]:
    """Numbers of the figures that pyplot holds; it is not imported for that."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    return set() if pyplot is None else set(pyplot.get_fignums())
