"""`Relevance`: the decisions of a model explained over a sample, as an analysis needs it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.relevance import Faithfulness
from analyzer.errors import ConfigError, DataError, Unsupported
from analyzer.inspection import inputs
from analyzer.inspection.inputs import input_names
from analyzer.inspection.needs import Context, Predictions
from analyzer.inspection.reducers import Tap
from analyzer.inspection.selection import LayerCall, select_calls
from analyzer.inspection.trace import named_outputs
from analyzer.inspection.view import ModelView
from analyzer.relevance.auto import choose
from analyzer.relevance.evaluation.explained_score import ExplainedScore
from analyzer.relevance.evaluation.faithfulness import faithfulness, morf_lerf
from analyzer.relevance.evaluation.quality import random_maps
from analyzer.relevance.evaluation.removal import removal_of
from analyzer.relevance.flow import Options
from analyzer.relevance.ledger import Books
from analyzer.relevance.presets import preset_of
from analyzer.relevance.program import Passed, Program
from analyzer.relevance.propagation import passes
from analyzer.relevance.targets import Target, resolve
from analyzer.relevance.tracing import plan

BATCH = 8
"""Samples per pass: the activations and the relevance of all layers are alive at once."""

_TASKS = {
    **{kind: kind for kind in ("binary", "multiclass", "multilabel", "regression", "segmentation", "sequence")},
    "gaussian": "regression",
    "quantile": "regression",
}
"""The words of `explain` for what outputs predict."""

STEPS = 16
"""Points of a perturbation curve."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CallRelevance:
    """Relevance at the output of one call of a layer.

    Attributes:
        call: The call.
        number: Its number in the books.
        rule: The rule applied.
        units: ``(n, units)`` sum of |relevance| of each unit, over positions.
        total: ``(n,)`` sum of |relevance|.
    """

    call: LayerCall
    number: int
    rule: str
    units: NDArray[np.float64]
    total: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class GatheredRelevance:
    """Explanations of the decisions on some samples.

    Attributes:
        method: Name of the preset.
        reason: Why it was chosen.
        notes: What the reader must know.
        target: What was explained, as text.
        indices: ``(n,)`` positions of the samples in the user's data.
        chosen: ``(n,)`` class or position explained; -1 where there is none.
        score: ``(n,)`` where relevance started.
        x: Inputs by name.
        maps: Their relevance by name.
        layers: By call, in order of execution.
        books: What was booked.
        faithfulness: Whether the output follows the maps; None where it was not measured.
        faithfulness_reason: Why not.
        seconds: Time of the passes, compiling excluded.
    """

    method: str
    reason: str
    notes: tuple[str, ...]
    target: str
    indices: NDArray[np.int64]
    chosen: NDArray[np.int64]
    score: NDArray[np.float64]
    x: dict[str, NDArray[Any]]
    maps: dict[str, NDArray[Any]]
    layers: tuple[CallRelevance, ...]
    books: Books
    faithfulness: Faithfulness | None
    faithfulness_reason: str | None
    seconds: float | None


@dataclass(frozen=True)
class Relevance:
    """Relevance of inputs and layers for the model's own decisions on a seeded, stratified subset of the samples.

    Explained is the predicted class; for sequences the sum of the predicted tokens' logits, for segmentation the
    predicted mask, for regression the sum of the outputs; of several outputs the first.

    Gathered as `GatheredRelevance`.

    Attributes:
        method: Preset, or ``"auto"``.
        n_samples: Most samples.
    """

    method: str = "auto"
    n_samples: int = 64

    requires_data = True

    def taps(self, view: ModelView) -> tuple[Tap, ...]:
        """Those of the predictions, which say what kind of decision it is; relevance has a pass of its own."""
        if not view.firings:
            raise Unsupported("The model could not be traced, so its layers' outputs are not known.")
        return Predictions().taps(view)

    def finish(self, collected: Sequence[Any], context: Context) -> GatheredRelevance:
        """Explain, and measure whether the output follows."""
        if context.data is None:
            raise Unsupported("No data were given.")
        output = next(iter(Predictions().finish(collected, context).values()))
        data = context.data.sample(self.n_samples, context.seed)
        rows = np.arange(len(context.data)) if data.indices is None else data.indices
        arranged = inputs.take(context.arranged, rows)
        planned = plan(context.view)
        preset, reason = choose(planned) if self.method == "auto" else (preset_of(self.method), "Asked for.")
        calls = [call for call in select_calls(context.view, None) if call.place is not None]
        options = Options(preset=preset, unknown="gradient", maps=frozenset(call.id for call in calls))
        target = own_decision(context.view, len(data), _TASKS.get(output.task.kind))
        try:
            found = _Sums(calls)
            stepping = passes(planned, options, target, arranged, BATCH, context.progress)
            seconds = found.add_all(stepping)
        except DataError as error:
            raise Unsupported(str(error)) from error
        program = found.program
        notes = [f"Without a rule, by their gradient: {', '.join(program.unknown)}."] if program.unknown else []
        names = input_names(context.view.model, arranged)
        x = dict(zip(names, keras.tree.flatten(arranged), strict=True))
        maps = dict(zip(names, found.maps(), strict=True))
        measured, why_not = _faithfulness(context, arranged, x, maps, target)
        return GatheredRelevance(
            method=preset.name,
            reason=reason,
            notes=tuple(notes),
            target=target.text,
            indices=rows if context.data.indices is None else context.data.indices[rows],
            chosen=np.concatenate([one.chosen[0] for one in found.passed]).astype(np.int64),
            score=found.score()[0],
            x=x,
            maps=maps,
            layers=found.layers(),
            books=found.books(),
            faithfulness=measured,
            faithfulness_reason=why_not,
            seconds=seconds,
        )


def own_decision(view: ModelView, n: int, task: str | None = None) -> Target:
    """What a model decides by itself, as a target.

    Args:
        view: The opened model.
        n: Number of samples.
        task: What its first output predicts, in the words of `explain`; None to go by its shape.
    """
    first = view.heads[0].name
    asked: Any = {first: "predicted"} if len(view.heads) > 1 else "predicted"
    try:
        target = resolve(view, asked, n, task=task)
    except ConfigError:
        # A prediction at each position.
        return resolve(view, _predicted_everywhere(view), n, task=task)
    if target.task == "regression" and int(np.prod(target.shape or (1,))) > 1:
        return resolve(view, _sum_of_outputs(view), n, task=task)
    return target


def _predicted_everywhere(view: ModelView) -> Any:
    def sum_of_predicted_logits(outputs: Any) -> Any:
        logits = named_outputs(view.model, outputs)[0][1]
        best = keras.ops.max(logits, axis=-1)
        return keras.ops.sum(keras.ops.reshape(best, (best.shape[0], -1)), axis=-1)

    return sum_of_predicted_logits


def _sum_of_outputs(view: ModelView) -> Any:
    def sum_of_outputs(outputs: Any) -> Any:
        values = named_outputs(view.model, outputs)[0][1]
        return keras.ops.sum(keras.ops.reshape(values, (values.shape[0], -1)), axis=-1)

    return sum_of_outputs


class _Sums:
    """Adds up batches: maps of layers are reduced to units at once, for they do not fit into memory together."""

    def __init__(self, calls: Sequence[LayerCall]) -> None:
        self.calls = {call.id: call for call in calls}
        self.passed: list[Passed] = []
        self._units: dict[int, list[NDArray[np.float64]]] = {}
        self.program: Program

    def add_all(self, stepping: Iterator[tuple[Program, Passed]]) -> float | None:
        """Go through all batches; the time of those after the first, for all samples."""
        times = []
        before = time.perf_counter()
        for program, passed in stepping:
            now = time.perf_counter()
            times.append(now - before)
            self.program = program
            for (number, output), (_, relevance) in passed.maps.items():
                if output == 0:
                    layer = self.calls[program.records[number].id].layer.layer
                    self._units.setdefault(number, []).append(_by_unit(relevance[0], layer))
            self.passed.append(
                Passed(score=passed.score, chosen=passed.chosen, inputs=passed.inputs, maps={}, booked=passed.booked)
            )
            before = time.perf_counter()
        return sum(times[1:]) * len(times) / (len(times) - 1) if len(times) > 1 else None

    def score(self) -> NDArray[np.float64]:
        """Start values, ``(1, n)``."""
        return np.concatenate([one.score for one in self.passed], axis=1).astype(np.float64)

    def maps(self) -> list[NDArray[Any]]:
        """Relevance of each input, ``(n, ...)``."""
        return [np.concatenate(parts, axis=1)[0] for parts in zip(*(one.inputs for one in self.passed), strict=True)]

    def layers(self) -> tuple[CallRelevance, ...]:
        """Sums of every call that was reached."""
        return tuple(
            CallRelevance(
                call=self.calls[self.program.records[number].id],
                number=number,
                rule=", ".join(self.program.records[number].rule) or "its gradient",
                units=np.concatenate(parts),
                total=np.concatenate(parts).sum(axis=1),
            )
            for number, parts in sorted(self._units.items())
        )

    def books(self) -> Books:
        """The books of all samples."""
        wide = [array.astype(np.float64).reshape(1, len(array), -1) for array in self.maps()]
        keys = self.passed[0].booked
        return Books(
            records=self.program.records,
            booked={key: np.concatenate([one.booked[key] for one in self.passed], axis=1) for key in keys},
            score=self.score(),
            inputs=sum((array.sum(-1) for array in wide), np.zeros_like(self.score())),
            magnitude=sum((np.abs(array).sum(-1) for array in wide), np.zeros_like(self.score())),
        )


def _by_unit(relevance: NDArray[Any], layer: Any) -> NDArray[np.float64]:
    """``(n, units)``: |relevance| summed over positions; units are on the last axis unless channels come first."""
    wide = np.abs(relevance.astype(np.float64))
    if wide.ndim == 1:
        return wide[:, None]
    axis = 1 if getattr(layer, "data_format", None) == "channels_first" and wide.ndim > 2 else wide.ndim - 1
    return np.asarray(wide.sum(axis=tuple(i for i in range(1, wide.ndim) if i != axis)))


def _faithfulness(
    context: Context, arranged: Any, x: dict[str, Any], maps: dict[str, Any], target: Target
) -> tuple[Faithfulness | None, str | None]:
    if target.task in ("segmentation", "sequence", "box"):
        return None, f"Perturbation curves are for one value per sample; here it is {target.text}."
    score = ExplainedScore(context.view, target, context.batch_size)
    try:
        removal = removal_of(x)
        score.fixed(arranged)

        def predict(given: Any) -> NDArray[np.float64]:
            by_name = given if isinstance(given, dict) else {next(iter(x)): given}
            return score(keras.tree.pack_sequence_as(arranged, [by_name[name] for name in x]))

        def curves(of: Any) -> Any:
            return morf_lerf(predict, removal, of, steps=STEPS, seed=context.seed, progress=context.progress)

        return faithfulness(curves(maps), curves(random_maps(removal, context.seed)), seed=context.seed), None
    except (DataError, ConfigError) as error:
        return None, str(error)
    finally:
        score.release()
