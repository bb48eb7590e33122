"""What panels of relevance read: explanations and results alike as layers with their books."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.explanation import LEDGER_COLUMNS, Explanation
from analyzer.data_types.relevance import LayerRelevance, RelevanceResult
from analyzer.data_types.values import Estimate
from analyzer.visualizers.panels.flow_rows import LayerRows
from analyzer.visualizers.series import Series


def by_layer(series: Sequence[Series]) -> list[Series]:
    """The same series, each with a `RelevanceResult`: explanations as their layers.

    Args:
        series: Results or explanations.
    """
    return [s.of(_of_layers(s.result)) if isinstance(s.result, Explanation) else s for s in series]


def by_place(series: Sequence[Series]) -> list[Series]:
    """The same series, each with a `RelevanceResult`: explanations as the places of their ledger.

    Args:
        series: Results or explanations.
    """
    return [s.of(_of_ledger(s.result)) if isinstance(s.result, Explanation) else s for s in series]


def layer_rows(series: Sequence[Series], limit: int | None) -> LayerRows:
    """The layers that matter most: those that findings name, then those that leave most unexplained.

    Args:
        series: Models of one architecture.
        limit: Most layers to show.
    """
    return LayerRows.of(series, limit, lambda layer: layer.unexplained_fraction or 0.0)


def start_value(explanation: Explanation) -> float:
    """Mean magnitude of the values explained, with their sign where it is one; 1 where all are zero.

    Args:
        explanation: An explanation.
    """
    output = np.asarray(explanation.output, np.float64)
    sign = -1.0 if output.size and (output <= 0).all() else 1.0
    return sign * float(np.abs(output).mean() if output.size else 0.0) or 1.0


def _of_layers(explanation: Explanation) -> RelevanceResult:
    if not explanation.layers:
        return _of_ledger(explanation)
    ledger = explanation.ledger
    layers = []
    for i, (key, array) in enumerate(explanation.layers.items()):
        magnitude = _magnitude(np.asarray(array), explanation) / abs(start_value(explanation))
        share = Estimate(value=magnitude if np.isfinite(magnitude) else None, n=explanation.n)
        books = _amounts(explanation, key) if key in ledger.index else {}
        layers.append(LayerRelevance(id=key, kind=_kind(explanation, key), order=i, share=share, **books))
    return _result(explanation, layers)


def _magnitude(array: NDArray[Any], explanation: Explanation) -> float:
    """Sum of magnitudes of one sample, mean over samples and targets."""
    samples = max(int(np.size(explanation.output)), 1)
    return float(np.abs(array.astype(np.float64)).sum()) / samples


def _of_ledger(explanation: Explanation) -> RelevanceResult:
    """In order of execution: the ledger goes the other way."""
    places = [str(place) for place in explanation.ledger.index][::-1]
    layers = [
        LayerRelevance(id=key, kind=_kind(explanation, key), order=i, **_amounts(explanation, key))
        for i, key in enumerate(places)
    ]
    return _result(explanation, layers)


def _amounts(explanation: Explanation, key: str) -> dict[str, Any]:
    row = explanation.ledger.loc[key]
    start = start_value(explanation)
    found: dict[str, Any] = {}
    for name in LEDGER_COLUMNS:
        value = float(row[name]) if name in row.index else float("nan")
        unit = 1.0 if name == "unexplained_fraction" else start
        found[name] = value / unit if np.isfinite(value) else None
    return found


def _kind(explanation: Explanation, key: str) -> str:
    return next((step.kind for step in explanation.trace if step.id == key), "")


def _result(explanation: Explanation, layers: Sequence[LayerRelevance]) -> RelevanceResult:
    return RelevanceResult(
        n=explanation.n,
        seed=0,
        method=explanation.method,
        target=explanation.target,
        layers=tuple(layers),
        notes=explanation.notes,
    )
