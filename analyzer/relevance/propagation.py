"""Running relevance over all samples, batch by batch, and putting together the explanation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.backends import engine
from analyzer.data_types.explanation import LEDGER_COLUMNS, Explanation, Statistics, Step
from analyzer.errors import DataError, DeviceMemoryError
from analyzer.inspection import inputs
from analyzer.inspection.selection import Layers, select_calls
from analyzer.inspection.view import ModelView
from analyzer.relevance.auto import choose
from analyzer.relevance.flow import Options
from analyzer.relevance.ledger import Books
from analyzer.relevance.presets import Preset, preset_of
from analyzer.relevance.program import Passed, Program
from analyzer.relevance.targets import Target
from analyzer.relevance.tracing import Plan, plan

Progress = Callable[[str, int, int], None]


def propagate(
    view: ModelView,
    arranged: Any,
    target: Target,
    method: str | Preset,
    layers: Layers | str,
    *,
    unknown: str = "raise",
    batch_size: int = 32,
    progress: Progress | None = None,
    values: Mapping[int, Any] | None = None,
) -> Explanation:
    """Relevance by a preset; see `analyzer.relevance.explain.explain`.

    Args:
        view: The opened model.
        arranged: Samples in the structure that the model is called with.
        target: What is explained.
        method: A preset, its name, or ``"auto"``.
        layers: Whose relevance is returned.
        unknown: What happens at layers without a rule.
        batch_size: Most samples per batch.
        progress: Told after every batch.
        values: Values that stand for those of variables.
    """
    planned = plan(view)
    preset, why = choose(planned) if method == "auto" else (preset_of(method), "")
    options = Options(preset=preset, unknown=unknown, ledger=layers is not None, maps=_maps(planned, layers))
    batches = list(passes(planned, options, target, arranged, batch_size, progress, values))
    program = batches[-1][0]
    return _explanation(program, [passed for _, passed in batches], _input_names(view, arranged), why)


def passes(
    planned: Plan,
    options: Options,
    target: Target,
    arranged: Any,
    batch_size: int,
    progress: Progress | None = None,
    values: Mapping[int, Any] | None = None,
) -> Iterator[tuple[Program, Passed]]:
    """All samples, in order, in batches of equal size; lack of memory halves them.

    Args:
        planned: The opened model.
        options: What is asked for.
        target: What is explained.
        arranged: Samples.
        batch_size: Most samples per batch.
        progress: Told after every batch.
        values: Values that stand for those of variables.

    Raises:
        DataError: If what is explained is not finite.
        DeviceMemoryError: If a single sample does not fit.
    """
    n, fixed = inputs.count(arranged), inputs.fixed_batch_size(planned.view.model)
    size = fixed or math.ceil(n / math.ceil(n / batch_size))
    start, program = 0, None
    while start < n:
        real = np.arange(start, min(start + size, n))
        rows = np.concatenate([real, np.full(size - len(real), real[0])])
        batch = inputs.take(arranged, rows)
        try:
            program = program or Program(planned, options, target, batch)
            passed = program.run(batch, rows, values)
        except Exception as error:
            if not engine().is_out_of_memory(error):
                raise
            if fixed or size == 1:
                raise DeviceMemoryError(
                    f"The model {planned.view.model.name!r} with the relevance of its layers does not fit into memory "
                    f"for {size} sample(s). Ask for fewer layers, layers=None for the inputs alone, or a larger device."
                ) from error
            size, program = max(1, size // 2), None
            continue
        yield program, _checked(_cut(passed, len(real)), start)
        start += len(real)
        if progress is not None:
            progress("relevance", start, n)
    if program is not None:
        program.release()


def _cut(passed: Passed, n: int) -> Passed:
    return Passed(
        score=passed.score[:, :n],
        chosen=passed.chosen[:, :n],
        inputs=[t[:, :n] for t in passed.inputs],
        maps={key: (value[:n], relevance[:, :n]) for key, (value, relevance) in passed.maps.items()},
        booked={key: amount[:, :n] for key, amount in passed.booked.items()},
    )


def _checked(passed: Passed, start: int) -> Passed:
    bad = np.flatnonzero(~np.isfinite(passed.score).all(axis=0))
    if len(bad):
        raise DataError(
            f"What is explained is not finite for sample {start + int(bad[0])} ({len(bad)} in its batch): the model's "
            "output is NaN or infinite there. Look for such values in x and in the weights."
        )
    return passed


def _maps(planned: Plan, layers: Layers | str) -> frozenset[str]:
    if layers is None:
        return frozenset()
    if isinstance(layers, str) and layers == "all":
        return frozenset(planned.ids.values())
    return frozenset(call.id for call in select_calls(planned.view, layers))


def _input_names(view: ModelView, arranged: Any) -> list[str]:
    declared = [tensor.name for tensor in getattr(view.model, "inputs", None) or ()]
    flat = keras.tree.flatten_with_path(arranged)
    if len(declared) == len(flat):
        structure = getattr(view.model, "input", view.model.inputs)
        return [tensor.name for tensor in keras.tree.flatten(structure)]
    return ["/".join(map(str, path)) or "input" for path, _ in flat]


def _explanation(program: Program, passed: list[Passed], names: list[str], why: str) -> Explanation:
    score = np.concatenate([one.score for one in passed], axis=1).astype(np.float64)
    chosen = np.concatenate([one.chosen for one in passed], axis=1)
    of_inputs = [np.concatenate(parts, axis=1) for parts in zip(*(one.inputs for one in passed), strict=True)]
    single = len(score) == 1

    def unwrapped(array: NDArray[Any]) -> NDArray[Any]:
        return array[0] if single else array

    layers = {_map_name(program, key): unwrapped(relevance) for key, (_, relevance) in _joined_maps(passed).items()}
    notes = [why] if why else []
    if program.unknown:
        notes.append(f"Without a rule, by their gradient: {', '.join(program.unknown)}.")
    return Explanation(
        method=program.options.preset.name,
        inputs=dict(zip(names, map(unwrapped, of_inputs), strict=True)),
        layers=layers,
        target=program.target.text,
        targets=None if (chosen < 0).all() else unwrapped(chosen.astype(np.int64)),
        output=unwrapped(score),
        ledger=_ledger(program, passed, score, of_inputs),
        trace=_trace(program, passed),
        notes=tuple(notes),
    )


def _ledger(program: Program, passed: list[Passed], score: NDArray[Any], of_inputs: list[NDArray[Any]]) -> pd.DataFrame:
    if not program.options.ledger:
        return pd.DataFrame(columns=list(LEDGER_COLUMNS))
    wide = [array.astype(np.float64).reshape(*array.shape[:2], -1) for array in of_inputs]
    return Books(
        records=program.records,
        booked={key: np.concatenate([one.booked[key] for one in passed], axis=1) for key in passed[0].booked},
        score=score,
        inputs=sum((array.sum(-1) for array in wide), np.zeros_like(score)),
        magnitude=sum((np.abs(array).sum(-1) for array in wide), np.zeros_like(score)),
    ).frame()


def _joined_maps(passed: list[Passed]) -> dict[tuple[int, int], tuple[NDArray[Any], NDArray[Any]]]:
    return {
        key: (
            np.concatenate([one.maps[key][0] for one in passed]),
            np.concatenate([one.maps[key][1] for one in passed], axis=1),
        )
        for key in passed[0].maps
    }


def _map_name(program: Program, key: tuple[int, int]) -> str:
    number, output = key
    record = program.records[number]
    return f"{record.id}[{output}]" if len(record.output_shapes) > 1 else record.id


def _trace(program: Program, passed: list[Passed]) -> tuple[Step, ...]:
    joined = _joined_maps(passed)
    steps = []
    for record in program.records:
        value, relevance = joined.get((record.number, 0), (None, None))
        steps.append(
            Step(
                id=record.id,
                kind=record.kind,
                rule=", ".join(record.rule) or "its gradient",
                input_shapes=tuple(shape[1:] for shape in record.input_shapes),
                output_shapes=tuple(shape[1:] for shape in record.output_shapes),
                activation=_statistics(value),
                relevance=_statistics(relevance),
            )
        )
    return tuple(steps)


def _statistics(values: NDArray[Any] | None) -> Statistics | None:
    if values is None or not values.size:
        return None
    wide = values.astype(np.float64)
    found = (wide.mean(), wide.std(), wide.min(), wide.max())
    mean, std, low, high = (float(one) if np.isfinite(one) else None for one in found)
    return Statistics(mean=mean, std=std, minimum=low, maximum=high)
