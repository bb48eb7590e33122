"""The Pareto analysis as a part of results: made without being asked for, and put where files and figures look."""

from __future__ import annotations

import dataclasses

from analyzer.comparison.pareto import pareto
from analyzer.data_types.comparison import Comparison
from analyzer.data_types.pareto import ParetoResult
from analyzer.data_types.results import AnalysisResults
from analyzer.data_types.serialization import plain
from analyzer.errors import DataError


def add_pareto(results: AnalysisResults, *, at_least: int) -> None:
    """Add the default Pareto analysis to results, where enough models have the values that it needs.

    Args:
        results: Finished results; their ``comparison`` gets it.
        at_least: Fewest models to compare.
    """
    try:
        found = pareto(results)
    except DataError:
        return
    if len(found.compared) >= at_least:
        store_pareto(results, found)


def store_pareto(results: AnalysisResults, found: ParetoResult) -> None:
    """Put a Pareto analysis into ``results.comparison``; where that was skipped or failed, it keeps its reason.

    One over times, which differ between equal runs, goes to ``results.measured["pareto"]`` as plain values.

    Args:
        results: Gets it.
        found: The analysis.
    """
    if any(objective.measured for objective in found.objectives):
        results.measured["pareto"] = plain(found)
        return
    comparison = Comparison(names=results.model_names) if results.comparison is None else results.comparison
    if isinstance(comparison, Comparison):
        results.comparison = dataclasses.replace(comparison, pareto=found)


def as_results(found: ParetoResult) -> AnalysisResults:
    """Results that hold nothing but a Pareto analysis, e.g. one over several earlier analyses, to save or to draw.

    Args:
        found: The analysis.
    """
    results = AnalysisResults(tuple(found.models))
    results.comparison = Comparison(names=results.model_names, pareto=found)
    return results
