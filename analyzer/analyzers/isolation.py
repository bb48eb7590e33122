"""Analyses of others, run so that whatever they do costs nothing but their own results."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from analyzer.analyzers.base import BaseAnalyzer, failed
from analyzer.analyzers.registry import is_built_in
from analyzer.data_types import AnalysisResults, DataInput, Failed, Skipped
from analyzer.data_types.plugins import encode_plugin
from analyzer.data_types.results import ANALYSIS_TYPES
from analyzer.errors import AnalyzerError
from analyzer.inspection.gather import Gathered, gather
from analyzer.inspection.needs import Context, Need
from analyzer.plugins import BROKEN

logger = logging.getLogger("analyzer")


def checked_needs(needs: Iterable[Need]) -> tuple[Need, ...]:
    """What an analysis needs, checked: a wrong need would stop the pass that serves everybody.

    Args:
        needs: As the analysis gives them.

    Raises:
        AnalyzerError: If something is no need, or cannot be compared and hashed.
    """
    needs = tuple(needs)
    for need in needs:
        if isinstance(need, type) or not isinstance(need, Need):
            raise AnalyzerError(
                f"needs() holds {need!r}; expected frozen dataclasses such as analyzer.inspection.needs.Predictions()."
            )
        try:
            hash(need)
        except TypeError as error:
            raise AnalyzerError(
                f"needs() holds {need!r}, which cannot be hashed: make it a frozen dataclass."
            ) from error
    return needs


def gather_for(context: Context, needs: Sequence[Need]) -> Gathered:
    """Serve every need in one pass; where that breaks, each in a pass of its own, so that one never loses another.

    Args:
        context: The opened model, the data and what is known about its outputs.
        needs: What is asked for.

    Raises:
        Exception: The first error, if no need can be served: then it is the model that cannot be run.
    """
    try:
        return gather(context, needs)
    except Exception:
        if len(needs) < 2:
            raise
    gathered, errors = Gathered(), {}
    for need in needs:
        try:
            alone = gather(context, [need])
        except Exception as error:  # noqa: BLE001 - becomes the material, which fails whoever reads it
            errors[need] = error
        else:
            gathered.material |= alone.material
            gathered.findings = gathered.findings or alone.findings
            gathered.batch_size = alone.batch_size or gathered.batch_size
    if all(isinstance(gathered.material.get(need, Skipped("")), Skipped) for need in needs):
        raise next(iter(errors.values()))
    for need, reason in errors.items():
        where = f"{type(need).__module__}.{type(need).__qualname__}"
        logger.warning("model %r: nothing for the need %s: %s", context.hints.model_name, where, reason)
    gathered.material |= errors
    return gathered


def run_alone(
    analyzer: BaseAnalyzer, results: AnalysisResults, data: DataInput | None, cache: Mapping[str, Any]
) -> list[str]:
    """Run one analysis; what it takes from others is given back, and what could not be saved is left out.

    Args:
        analyzer: The analysis.
        results: Receives its results.
        data: The samples, or None.
        cache: What was gathered; the analysis gets its own copy of the mapping.

    Returns:
        What was wrong, one clause each; nothing for an analysis that does as it should.
    """
    before = {name: _shallow(value) for name, value in vars(results).items()}
    problems: list[str] = []
    try:
        analyze: Callable[..., Any] = analyzer.analyze
        returned = analyze(results, data, {name: dict(found) for name, found in cache.items()})
        if returned is not None:
            kind = type(returned).__name__
            problems.append(f"analyze() returned a {kind}, which is dropped: results are set as results.<name>")
    except BROKEN as error:
        problems.append(f"{type(error).__name__}: {error}")
        record_failure(results, analyzer.name, failed(error), before)
    if is_built_in(analyzer):
        return problems
    return [*problems, *_given_back(results, before), *_left_out(results, before)]


def record_failure(results: AnalysisResults, name: str, failure: Any, known: Mapping[str, Any] | None = None) -> None:
    """Enter what could not be had for every model, where the results of the analysis would stand.

    Args:
        results: Receives it.
        name: Name of the analysis.
        failure: `Failed` or `Skipped`.
        known: Attributes that belong to others; None where the analysis is one of ours.
    """
    if name == "similarity":
        results.comparison = failure
    elif name in ANALYSIS_TYPES:
        getattr(results, name).update(dict.fromkeys(results.model_names, failure))
    elif known is None or name not in known:
        setattr(results, name, dict.fromkeys(results.model_names, failure))


def _shallow(value: Any) -> tuple[Any, dict[Any, Any] | None]:
    return value, dict(value) if isinstance(value, dict) else None


def _given_back(results: AnalysisResults, before: Mapping[str, tuple[Any, dict[Any, Any] | None]]) -> list[str]:
    """Restore attributes that are not the analysis' own."""
    taken = []
    for name, (value, items) in before.items():
        now = vars(results).get(name)
        same_items = items is None or (
            isinstance(now, dict) and list(now) == list(items) and all(now[key] is items[key] for key in items)
        )
        if now is value and same_items:
            continue
        if items is not None:
            value.clear()
            value.update(items)
        vars(results)[name] = value
        taken.append(f"it changed results.{name}, which is not its own; what stood there was put back")
    return taken


def _left_out(results: AnalysisResults, before: Mapping[str, Any]) -> list[str]:
    """Replace what cannot be saved by the reason."""
    unfit = []
    for name in [name for name in results.plugins if name not in before]:
        try:
            json.dumps(encode_plugin(getattr(results, name)), allow_nan=False)
        except BROKEN as error:
            reason = f"{type(error).__name__}: {error}"
            failure = Failed(f"results.{name} cannot be written as JSON: {reason}", name)
            setattr(results, name, dict.fromkeys(results.model_names, failure))
            unfit.append(f"results.{name} cannot be written as JSON ({reason}) and is left out")
    return unfit
