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
    from analyzer.diagnosis.faults import layers_at_fault
    from analyzer.diagnosis.modeltrace.inspect import inspect_model
    from analyzer.diagnosis.pruning import prune
    from analyzer.diagnosis.unit_faults import units_at_fault
    from analyzer.diagnosis.versions import compare_versions
    from analyzer.extraction import features
    from analyzer.inspection.intervene import intervene
    from analyzer.model_analyzer import ModelAnalyzer
    from analyzer.relevance.evaluation.compare_methods import compare_methods
    from analyzer.relevance.explain import explain
    from analyzer.relevance.registry import register_rule
    from analyzer.robustness.certificates.certify import certify
    from analyzer.visualizers.plot import plot
    from analyzer.visualizers.registry import register_visualizer

__version__ = "0.1.0"

_HOMES = {
    "AnalysisConfig": "analyzer.config",
    "AnalysisResults": "analyzer.data_types.results",
    "DataInput": "analyzer.data_types.data_input",
    "ModelAnalyzer": "analyzer.model_analyzer",
    "certify": "analyzer.robustness.certificates.certify",
    "compare_methods": "analyzer.relevance.evaluation.compare_methods",
    "compare_versions": "analyzer.diagnosis.versions",
    "explain": "analyzer.relevance.explain",
    "features": "analyzer.extraction",
    "inspect_model": "analyzer.diagnosis.modeltrace.inspect",
    "intervene": "analyzer.inspection.intervene",
    "layers_at_fault": "analyzer.diagnosis.faults",
    "plot": "analyzer.visualizers.plot",
    "prune": "analyzer.diagnosis.pruning",
    "recalibrate": "analyzer.analyzers.recalibration",
    "register_analyzer": "analyzer.analyzers.registry",
    "register_rule": "analyzer.relevance.registry",
    "register_visualizer": "analyzer.visualizers.registry",
    "units_at_fault": "analyzer.diagnosis.unit_faults",
}

__all__ = [
    "AnalysisConfig",
    "AnalysisResults",
    "DataInput",
    "ModelAnalyzer",
    "certify",
    "compare_methods",
    "compare_versions",
    "explain",
    "features",
    "inspect_model",
    "intervene",
    "layers_at_fault",
    "plot",
    "prune",
    "recalibrate",
    "register_analyzer",
    "register_rule",
    "register_visualizer",
    "units_at_fault",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'analyzer' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
