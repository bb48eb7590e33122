"""Which inputs, layers and units carry a model's decisions, and where relevance is lost on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from analyzer.analyzers.base import BaseAnalyzer, material
from analyzer.analyzers.input_relevance import describe_inputs, examples
from analyzer.analyzers.relevance_findings import relevance_findings
from analyzer.data_types import AnalysisResults, DataInput
from analyzer.data_types.relevance import Conservation, LayerRelevance, RelevanceResult
from analyzer.measures.map_complexity import gini
from analyzer.relevance.evaluation.scoring import mean_of
from analyzer.relevance.flow import ABSORBERS
from analyzer.relevance.gathered import CallRelevance, GatheredRelevance, Relevance
from analyzer.relevance.ledger import Books
from analyzer.relevance.presets import preset_of

SILENT_SHARE = 1e-4
"""Share of a layer's |relevance| that a unit must exceed in some sample not to count as silent."""

TOLERANCE = 1e-3
"""Share of the start value that may be missing at a place before the sum counts as broken there."""


class RelevanceAnalyzer(BaseAnalyzer):
    """Explains the decisions on a stratified sample, and counts who carried them."""

    name: ClassVar[str] = "relevance"

    def requires_data(self) -> bool:
        """Decisions exist only on data."""
        return True

    def needs(self) -> tuple[Relevance, ...]:
        """Explanations of the drawn samples."""
        return (relevance_need(self.config),)

    def analyze(self, results: AnalysisResults, data: DataInput | None, cache: Mapping[str, Any]) -> None:
        """Fill ``results.relevance``."""
        need = relevance_need(self.config)

        def work(name: str) -> RelevanceResult:
            found: GatheredRelevance = material(cache, name, need)
            return _result(found, data, self.config)

        results.relevance = self.each_model(work)


def relevance_need(config: Any) -> Relevance:
    """What the analysis asks for, also where something else reads it.

    Raises:
        ConfigError: If there is no such method.
    """
    if config.relevance_method != "auto":
        preset_of(config.relevance_method)
    return Relevance(method=config.relevance_method, n_samples=config.relevance_samples)


def _result(found: GatheredRelevance, data: DataInput | None, config: Any) -> RelevanceResult:
    draws: dict[str, Any] = {"n_bootstrap": config.n_bootstrap, "seed": config.seed}
    amounts = _Amounts(found.books)
    layers = tuple(_layer(order, call, found, amounts, draws) for order, call in enumerate(found.layers))
    conservation = _conservation(amounts)
    return RelevanceResult(
        findings=tuple(relevance_findings(found, layers, conservation)),
        n=len(found.score),
        seed=config.seed,
        method=found.method,
        method_reason=found.reason,
        target=found.target,
        silent_share=SILENT_SHARE,
        layers=layers,
        inputs=describe_inputs(found, draws),
        conservation=conservation,
        faithfulness=found.faithfulness,
        faithfulness_reason=found.faithfulness_reason,
        examples=examples(found, data, config),
        notes=found.notes,
        seconds=found.seconds,
    )


def _layer(
    order: int, call: CallRelevance, found: GatheredRelevance, amounts: _Amounts, draws: dict[str, Any]
) -> LayerRelevance:
    start = np.abs(found.score)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(start > 0, call.total / start, np.nan)
        units = np.where(call.total[:, None] > 0, call.units / call.total[:, None], np.nan)
    known = np.isfinite(units).all(axis=1)
    mean = units[known].mean(axis=0) if known.any() else None
    largest = units[known].max(axis=0) if known.any() else None
    return LayerRelevance(
        id=call.call.id,
        kind=call.call.layer.kind,
        order=order,
        rule=call.rule,
        share=mean_of(share, **draws),
        **{column: amounts.of(call.number, column) for column in ("relevance_in", "relevance_out", *ABSORBERS)},
        unexplained=amounts.unexplained(call.number),
        unexplained_fraction=amounts.worst(call.number),
        n_units=units.shape[1],
        gini=mean_of(gini(units[known]), **draws) if known.any() and units.shape[1] > 1 else None,
        units_for_90=None if mean is None else int(np.searchsorted(np.cumsum(np.sort(mean)[::-1]), 0.9) + 1),
        silent_units=None if largest is None else int(np.count_nonzero(largest <= SILENT_SHARE)),
        # No sample of n was above: one-sided 95 % Clopper–Pearson.
        silent_bound=float(1 - 0.05 ** (1 / known.sum())) if known.any() else None,
        unit_share=mean,
        unit_largest=largest,
    )


class _Amounts:
    """Booked sums, signed by the start value of their sample, over the mean magnitude of the start values."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self._sign = np.sign(books.score[0])
        self._scale = float(np.abs(books.score[0]).mean())
        self._unexplained = books.unexplained()

    def share(self, amount: NDArray[np.float64]) -> float | None:
        """The mean over samples."""
        return float((amount * self._sign).mean() / self._scale) if self._scale > 0 else None

    def of(self, number: int, column: str) -> float | None:
        """One column of one call; None where nothing was booked."""
        booked = self.books.booked.get((number, column))
        if booked is None:
            return None if column in ("relevance_in", "relevance_out") else 0.0
        return self.share(booked[0])

    def unexplained(self, number: int) -> float | None:
        """What one call cannot explain."""
        return self.share(self._unexplained[number][0])

    def worst(self, number: int) -> float | None:
        """Largest share that a sample misses at one call."""
        gap = np.abs(self._unexplained[number][0]) / self.books.scale()[0]
        return float(gap.max()) if len(gap) else None


def _conservation(amounts: _Amounts) -> Conservation:
    books = amounts.books

    def absorbed(column: str) -> float | None:
        booked = [amount for (_, kind), amount in books.booked.items() if kind == column]
        return amounts.share(sum(booked, np.zeros_like(books.score))[0])

    worst = [amounts.worst(record.number) or 0.0 for record in books.records]
    broken = [record.id for record in reversed(books.records) if worst[record.number] > TOLERANCE]
    return Conservation(
        start=float(np.abs(books.score[0]).mean()),
        reaches_inputs=amounts.share(books.inputs[0]),
        absorbed_by_bias=absorbed("absorbed_by_bias"),
        absorbed_by_softmax=absorbed("absorbed_by_softmax"),
        absorbed_by_stabiliser=absorbed("absorbed_by_stabiliser"),
        unexplained=amounts.share(books.total_unexplained()[0]),
        unexplained_fraction=max(worst, default=None),
        tolerance=TOLERANCE,
        first_break=broken[0] if broken else None,
    )
