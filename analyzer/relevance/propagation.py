"""Running relevance over all samples, batch by batch, and putting together the explanation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.data_types.explanation import LEDGER_COLUMNS, Explanation, Statistics, Step
from analyzer.errors import DataError, Unsupported
from analyzer.inspection.batching import in_batches
from analyzer.inspection.inputs import input_names
from analyzer.inspection.selection import Layers, select_calls
from analyzer.inspection.view import ModelView
from analyzer.relevance.alternatives import check_contrast
from analyzer.relevance.auto import choose
from analyzer.relevance.flow import Options
from analyzer.relevance.ledger import Books
from analyzer.relevance.presets import Preset, preset_of
from analyzer.relevance.program import Passed, Program
from analyzer.relevance.program_cache import program_for
from analyzer.relevance.targets import Target
from analyzer.relevance.tracing import Plan, plan

Progress = Callable[[str, int, int], None]

LOST = 1e-3
"""Share of the start value that may be unexplained where no relevance arrives: biases may have it all."""

AMOUNTS = LEDGER_COLUMNS[:-1]


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
    if preset.contrastive:
        check_contrast(target)
    options = Options(preset=preset, unknown=unknown, ledger=layers is not None, maps=chosen_calls(planned, layers))
    batches = list(passes(planned, options, target, arranged, batch_size, progress, values))
    program = batches[-1][0]
    found = _explanation(program, target, [passed for _, passed in batches], input_names(view.model, arranged), why)
    _check_arrived(found, arranged)
    return found


def _check_arrived(found: Explanation, arranged: Any) -> None:
    """Refuse what cannot reach any input, because whole numbers are used as if they were real."""
    numbers = dict(zip(found.inputs, keras.tree.flatten(arranged), strict=True))
    whole = [name for name, array in numbers.items() if not np.issubdtype(np.asarray(array).dtype, np.floating)]
    nowhere = not any(np.any(array) for array in found.inputs.values()) and np.any(found.output)
    booked = found.unexplained_fraction
    if whole and nowhere and (booked is None or booked > LOST):
        raise Unsupported(
            f"No relevance reaches the input {whole[0]!r}: it holds whole numbers that go into no Embedding or other "
            "look-up, and a map like that of a float input was asked for. Build the model with a float input, or take "
            "method='occlusion'."
        )


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
    program: Program | None = None
    own = True

    def run(batch: Any, rows: NDArray[np.int64], real: int) -> tuple[Program, Passed]:
        nonlocal program, own
        if program is None:
            model = planned.view.model
            program, own = program_for(model, options, target, batch, lambda: Program(planned, options, target, batch))
        passed = program.run(batch, target.indices(rows), values)
        return program, _checked(passed.rows(slice(0, real)), int(rows[0]))

    def forget() -> None:
        nonlocal program
        program = None

    yield from in_batches(
        planned.view.model,
        arranged,
        batch_size,
        run,
        forget=forget,
        too_large="with the relevance of its layers. Ask for fewer layers, layers=None for the inputs, or a larger "
        "device.",
        told=None if progress is None else lambda done, n: progress("relevance", done, n),
    )
    if program is not None and own:
        program.release()


def _checked(passed: Passed, start: int) -> Passed:
    bad = np.flatnonzero(~np.isfinite(passed.score).all(axis=0))
    if len(bad):
        raise DataError(
            f"What is explained is not finite for sample {start + int(bad[0])} ({len(bad)} in its batch): the model's "
            "output is NaN or infinite there. Look for such values in x and in the weights."
        )
    return passed


def chosen_calls(planned: Plan, layers: Layers | str) -> frozenset[str]:
    """Ids of the calls that ``layers=`` stands for."""
    if layers is None:
        return frozenset()
    if isinstance(layers, str) and layers == "all":
        return frozenset(planned.ids.values())
    return frozenset(call.id for call in select_calls(planned.view, layers))


def _explanation(program: Program, target: Target, passed: list[Passed], names: list[str], why: str) -> Explanation:
    opposing = [one.against for one in passed if one.against is not None]
    chosen = np.concatenate([one.chosen for one in passed], axis=1)
    score = _scores(passed)
    single = len(score) == 1

    def unwrapped(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return {name: array[0] if single else array for name, array in arrays.items()}

    def of_inputs(passed: list[Passed]) -> dict[str, NDArray[Any]]:
        return unwrapped(dict(zip(names, _inputs(passed), strict=True)))

    def of_layers(passed: list[Passed]) -> dict[str, NDArray[Any]]:
        return unwrapped({_map_name(program, key): one for key, (_, one) in _joined_maps(passed).items()})

    notes = [why] if why else []
    if program.unknown:
        notes.append(f"Without a rule, by their gradient: {', '.join(program.unknown)}.")
    return Explanation(
        method=program.options.preset.name,
        inputs=of_inputs(passed),
        layers=of_layers(passed),
        target=target.text,
        targets=None if (chosen < 0).all() else (chosen[0] if single else chosen).astype(np.int64),
        output=score[0] if single else score,
        ledger=_ledger(program, [*passed, *opposing]),
        trace=_trace(program, passed),
        against=of_inputs(opposing) if opposing else None,
        layers_against=of_layers(opposing) if opposing else None,
        notes=tuple(notes),
    )


def _scores(passed: list[Passed]) -> NDArray[np.float64]:
    return np.concatenate([one.score for one in passed], axis=1).astype(np.float64)


def _inputs(passed: list[Passed]) -> list[NDArray[Any]]:
    return [np.concatenate(parts, axis=1) for parts in zip(*(one.inputs for one in passed), strict=True)]


def _ledger(program: Program, passed: list[Passed]) -> pd.DataFrame:
    """The books; of two maps that travel together, their sum, and the largest fraction in either."""
    if not program.options.ledger:
        return pd.DataFrame(columns=list(LEDGER_COLUMNS))
    score = _scores(passed)
    wide = [array.astype(np.float64).reshape(*array.shape[:2], -1) for array in _inputs(passed)]
    frame = Books(
        records=program.records,
        booked={key: np.concatenate([one.booked[key] for one in passed], axis=1) for key in passed[0].booked},
        score=score,
        inputs=sum((array.sum(-1) for array in wide), np.zeros_like(score)),
        magnitude=sum((np.abs(array).sum(-1) for array in wide), np.zeros_like(score)),
    ).frame()
    # A map is a row of its own, and amounts are means over rows.
    frame[list(AMOUNTS)] *= program.copies
    return frame


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
