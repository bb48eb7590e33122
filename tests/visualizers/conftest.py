"""Visualizers on made-up results, and what is visible on a figure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analyzer.config import AnalysisConfig
from analyzer.data_types import AnalysisResults
from analyzer.visualizers.registry import BUILT_IN
from analyzer.visualizers.style import model_colors

Make = Callable[..., Any]


@pytest.fixture
def visualizer(tmp_path: Path) -> Make:
    """Makes a visualizer by name, with options of the configuration."""

    def make(name: str, results: AnalysisResults, **options: Any) -> Any:
        config = AnalysisConfig(**{"dpi": 60, "progress": False} | options)
        return BUILT_IN[name](results, config, tmp_path / "figures", model_colors(results.model_names))

    return make
