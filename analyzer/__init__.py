"""keras-analyzer: one audit for any Keras 3 model on TensorFlow, JAX or PyTorch.

Public names are resolved on first use, so that importing the package imports neither Keras nor matplotlib.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analyzer.analyzers.recalibration import recalibrate
    from analyzer.analyzers.registry import register_analyzer
    from analyzer.config import AnalysisConfig
    from analyzer.data_types.data_input import DataInput
    from analyzer.data_types.results import AnalysisResults
    from analyzer.extraction import features
    from analyzer.inspection.intervene import intervene
    from analyzer.model_analyzer import ModelAnalyzer
    from analyzer.relevance.evaluation.compare_methods import compare_methods
    from analyzer.relevance.explain import explain
    from analyzer.relevance.registry import register_rule
    from analyzer.visualizers.plot import plot
    from analyzer.visualizers.registry import register_visualizer

__version__ = "0.1.0"

_HOMES = {
    "AnalysisConfig": "analyzer.config",
    "AnalysisResults": "analyzer.data_types.results",
    "DataInput": "analyzer.data_types.data_input",
    "ModelAnalyzer": "analyzer.model_analyzer",
    "compare_methods": "analyzer.relevance.evaluation.compare_methods",
    "explain": "analyzer.relevance.explain",
    "features": "analyzer.extraction",
    "intervene": "analyzer.inspection.intervene",
    "plot": "analyzer.visualizers.plot",
    "recalibrate": "analyzer.analyzers.recalibration",
    "register_analyzer": "analyzer.analyzers.registry",
    "register_rule": "analyzer.relevance.registry",
    "register_visualizer": "analyzer.visualizers.registry",
}

__all__ = [
    "AnalysisConfig",
    "AnalysisResults",
    "DataInput",
    "ModelAnalyzer",
    "compare_methods",
    "explain",
    "features",
    "intervene",
    "plot",
    "recalibrate",
    "register_analyzer",
    "register_rule",
    "register_visualizer",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'analyzer' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
