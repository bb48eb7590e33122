"""Loss and metrics of the finished model on its training data, beside those on the data of the analysis."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from analyzer.analyzers.base import REFERENCE, material, outcome
from analyzer.analyzers.compiled_metrics import CompiledMetrics
from analyzer.analyzers.performance_analyzer import measure_performance
from analyzer.data_types.evaluated_gap import EvaluatedGap, EvaluatedOutput
from analyzer.data_types.performance import PerformanceResult
from analyzer.data_types.values import Estimate, Failed, Skipped
from analyzer.errors import Unsupported
from analyzer.inspection.needs import Predictions
from analyzer.measures.gap import difference, relative_difference

if TYPE_CHECKING:
    from analyzer.config import AnalysisConfig


def evaluate_both(cache: Mapping[str, Any], name: str, config: AnalysisConfig) -> dict[str, EvaluatedOutput]:
    """Loss and metrics on training and held-out data, by output.

    Both come from the same program as every prediction of the analysis, so nothing but the data differs: no dropout,
    final weights, every sample once. What ``fit`` logged for training is a running mean under dropout, over weights
    that were still changing.

    Args:
        cache: What was gathered, with that of the training data under `REFERENCE`.
        name: Name of the model.
        config: The options.

    Raises:
        Unsupported: If one of the two could not be had.
        AnalyzerError: If the model could not be run over one of the two.
    """
    held_out, train = material(cache, name, Predictions()), material(cache[name], REFERENCE, Predictions())
    compiled = CompiledMetrics(cache[name]["compile_config"], list(held_out))
    work = functools.partial(measure_performance, compiled=compiled, config=config)
    return {key: _output(*(outcome(functools.partial(work, data[key])) for data in (train, held_out))) for key in train}


def _output(train: Any, held_out: Any) -> EvaluatedOutput:
    for result, what in ((train, "training data"), (held_out, "data of the analysis")):
        if isinstance(result, Skipped | Failed):
            note = f"Not evaluated on the {what}: {result.reason}"
            return EvaluatedOutput(loss_name=None, loss=None, normalized_gap=None, notes=(note,))
    notes = tuple(dict.fromkeys([*train.notes, *held_out.notes]))
    if train.loss_name != held_out.loss_name:
        notes += (f"The losses are not the same: {train.loss_name} on the training data, else {held_out.loss_name}.",)
        return EvaluatedOutput(
            loss_name=None, loss=None, normalized_gap=None, metrics=_metrics(train, held_out), notes=notes
        )
    return EvaluatedOutput(
        loss_name=held_out.loss_name,
        loss=_pair(train.loss, held_out.loss),
        normalized_gap=None if train.loss is None else relative_difference(train.loss, held_out.loss),
        metrics=_metrics(train, held_out),
        notes=notes,
    )


def _metrics(train: PerformanceResult, held_out: PerformanceResult) -> dict[str, EvaluatedGap]:
    values = [{"accuracy": result.accuracy, **result.metrics} for result in (train, held_out)]
    pairs = {name: _pair(value, values[1].get(name)) for name, value in values[0].items()}
    return {name: pair for name, pair in pairs.items() if pair is not None}


def _pair(train: Estimate | None, held_out: Estimate | None) -> EvaluatedGap | None:
    if train is None or held_out is None:
        return None
    return EvaluatedGap(train=train, held_out=held_out, gap=difference(train, held_out))


def headline(evaluated: Mapping[str, EvaluatedOutput]) -> dict[str, Any]:
    """The gap of the loss of a model with one output, as fields of `TrainingResult`.

    Args:
        evaluated: Result by output.

    Raises:
        Unsupported: If there is no output.
    """
    if not evaluated:
        raise Unsupported("The model has no output that could be evaluated.")
    only = next(iter(evaluated.values())) if len(evaluated) == 1 else None
    return {
        "evaluated_gap": only.loss.gap if only is not None and only.loss is not None else None,
        "normalized_evaluated_gap": None if only is None else only.normalized_gap,
    }
