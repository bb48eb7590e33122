"""Data and results: readable on a machine with neither Keras nor matplotlib."""

from analyzer.data_types.data_input import DataInput
from analyzer.data_types.outputs import OutputData, OutputTask
from analyzer.data_types.results import AnalysisResults, MultiOutput, for_outputs
from analyzer.data_types.values import Estimate, Failed, Finding, Skipped

__all__ = [
    "AnalysisResults",
    "DataInput",
    "Estimate",
    "Failed",
    "Finding",
    "MultiOutput",
    "OutputData",
    "OutputTask",
    "Skipped",
    "for_outputs",
]
