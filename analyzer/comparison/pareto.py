"""`pareto`: which models are the best trade-offs, from the results of one analysis or of several earlier ones."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.comparison.gaps import count_gaps
from analyzer.comparison.objectives import Objectives, Wanted, read_objectives
from analyzer.comparison.readings import Reading, Subject, read
from analyzer.data_types.pareto import Direction, Objective, ParetoModel, ParetoResult
from analyzer.data_types.results import AnalysisResults
from analyzer.data_types.values import Estimate
from analyzer.errors import DataError, MissingExtraError
from analyzer.measures.pareto import dominance, hypervolume, knee, normalized, ranks

Sources = AnalysisResults | Sequence[AnalysisResults] | Mapping[str, AnalysisResults]
Table = dict[str, dict[str, Reading]]


def pareto(results: Sources, objectives: Objectives | None = None) -> ParetoResult:
    """Find the models that no other model beats.

    A model is beaten (dominated) by another that is better beyond uncertainty in one objective and not worse beyond
    uncertainty in any; see `analyzer.measures.pareto.dominance`, and `front_of` there for chains of ties. A model
    without a value for an objective is left out, by name and with the reason: missing is neither zero nor bad.

    Under-fitting is no merit. Where less of a generalisation gap is asked for, a gap below zero counts as zero, and a
    model that does worse on its training data than the best model on validation data (see
    `analyzer.measures.pareto.shortfall`) counts behind every model that fits, by as much as it falls short: as a
    solution that violates a constraint counts behind all that do not (Deb, An efficient constraint handling method for
    genetic algorithms, 2000).

    Args:
        results: Results of one analysis; or of several, in a list or by label. Where two of them have a model of the
            same name, both get the label (or the place in the list, from 1) before their names: ``"1/cnn"``.
        objectives: Names, or ``"max"`` and ``"min"`` by name; see `analyzer.comparison.objectives.read_objectives`. By
            default peak performance against overfitting index.

    Raises:
        ConfigError: If an objective is unknown, given twice, or without a direction.
        DataError: If no model has a value for every objective, with the reasons.
    """
    subjects, plugins = merge(results)
    wanted = read_objectives(objectives, plugins)
    table: Table = {name: {one.name: read(one, subject) for one in wanted} for name, subject in subjects.items()}
    kinds = {one.name: _commonest_kind(one, table) for one in wanted}
    directions = {one.name: _direction(one, table, kinds[one.name]) for one in wanted}
    out = {name: reason for name, row in table.items() if (reason := _left_out(row, wanted, kinds))}
    kept = [name for name in table if name not in out]
    if not kept:
        raise DataError(f"No model can be compared: {'; '.join(f'{name!r}: {why}' for name, why in out.items())}.")
    models = {name: _model(row, out.get(name), wanted) for name, row in table.items()}
    models |= _counted(wanted, directions, models, {name: subjects[name] for name in kept})
    axes = [one for one in wanted if one.compared]
    return _sorted(_objectives(wanted, directions, kinds), models, kept, axes, directions)


def merge(results: Sources) -> tuple[dict[str, Subject], frozenset[str]]:
    """The results of every model by analysis, and the names under which plugins have results.

    Args:
        results: See `pareto`.

    Raises:
        DataError: If there is no model.
    """
    if isinstance(results, AnalysisResults):
        sources = {"": results}
    elif isinstance(results, Mapping):
        sources = {str(label): one for label, one in results.items()}
    else:
        sources = {str(i): one for i, one in enumerate(results, 1)}
    times = Counter(name for one in sources.values() for name in one.model_names)
    subjects: dict[str, Subject] = {}
    for label, one in sources.items():
        sections: dict[str, Any] = one.analyses() | one.plugins
        for name in one.model_names:
            unique = f"{label}/{name}" if times[name] > 1 else name
            while unique in subjects:
                unique = f"{label}/{unique}"
            subjects[unique] = _results_of(name, sections)
    if not any(subjects.values()):
        raise DataError("There are no results of any model: run analyze() first.")
    return subjects, frozenset(key for one in sources.values() for key in one.plugins)


def _results_of(name: str, sections: Mapping[str, Any]) -> Subject:
    return {key: found[name] for key, found in sections.items() if isinstance(found, Mapping) and name in found}


# ---- what can be compared with what


def _commonest_kind(one: Wanted, table: Table) -> str:
    """Of values that are not comparable, the kind that most models have; a kind that is not known fits any."""
    kinds = Counter(row[one.name].kind for row in table.values() if row[one.name].value and row[one.name].kind)
    return kinds.most_common(1)[0][0] if kinds else ""


def _direction(one: Wanted, table: Table, kind: str) -> Direction:
    if one.direction is not None:
        return one.direction
    told = [row[one.name].direction for row in table.values() if row[one.name].kind == kind]
    return next((direction for direction in told if direction is not None), "max")


def _left_out(row: Mapping[str, Reading], wanted: Sequence[Wanted], kinds: Mapping[str, str]) -> str | None:
    lacking: dict[str, list[str]] = {}
    others = []
    for one in wanted:
        reading, kind = row[one.name], kinds[one.name]
        if one.compared and reading.value is None:
            lacking.setdefault(str(reading.reason), []).append(one.name)
        elif one.compared and reading.kind not in ("", kind):
            others.append(f"its {one.name} is about {reading.kind!r}, that of the others about {kind!r}")
    missing = [f"no {' and no '.join(names)}: {reason}" for reason, names in lacking.items()]
    return "; ".join([*missing, *others]) or None


def _model(row: Mapping[str, Reading], reason: str | None, wanted: Sequence[Wanted]) -> ParetoModel:
    shown = [(one.name, row[one.name]) for one in wanted if not one.compared]
    return ParetoModel(
        values={name: reading.value for name, reading in row.items()},
        normalized=dict.fromkeys(row),
        left_out=reason,
        notes=tuple(f"no {name}: {reading.reason}" for name, reading in shown if reading.value is None),
    )


def _objectives(
    wanted: Sequence[Wanted], directions: Mapping[str, Direction], kinds: Mapping[str, str]
) -> tuple[Objective, ...]:
    return tuple(
        Objective(
            name=one.name,
            label=_label(one, kinds[one.name]),
            direction=directions[one.name],
            compared=one.compared,
            measured=one.quantity.measured,
            counted="below 0 as 0; under-fitted models behind those that fit" if _is_gap(one, directions) else "",
        )
        for one in wanted
    )


def _label(one: Wanted, kind: str) -> str:
    label = f"Peak {kind}" if one.quantity.name == "peak_performance" and kind else one.quantity.label
    return f"{label} ({one.output})" if one.output else label


def _is_gap(one: Wanted, directions: Mapping[str, Direction]) -> bool:
    return one.quantity.gap and directions[one.name] == "min"


# ---- comparing


def _counted(
    wanted: Sequence[Wanted],
    directions: Mapping[str, Direction],
    models: Mapping[str, ParetoModel],
    subjects: Mapping[str, Subject],
) -> dict[str, ParetoModel]:
    """The compared models with what is counted, and its place between worst and best."""
    counted = {name: models[name] for name in subjects}
    for one in wanted:
        column = {name: value for name, model in counted.items() if (value := model.values[one.name]) is not None}
        remarks: Mapping[str, str] = {}
        under_fitted: frozenset[str] = frozenset()
        if _is_gap(one, directions):
            column, remarks, under_fitted = count_gaps(one.quantity.name, column, subjects)
        shares = _shares(column, directions[one.name])
        for name, value in column.items():
            model = counted[name]
            counted[name] = dataclasses.replace(
                model,
                counted=model.counted | {one.name: value},
                normalized=model.normalized | {one.name: shares[name]},
                under_fitted=model.under_fitted or name in under_fitted,
                notes=tuple(dict.fromkeys((*model.notes, *([remarks[name]] if name in remarks else ())))),
            )
    return counted


def _shares(column: Mapping[str, Estimate], direction: Direction) -> dict[str, float | None]:
    if not column:
        return {}
    scaled = normalized(np.array([[float(value)] for value in column.values()]), [direction == "max"])[:, 0]
    return {name: None if np.isnan(share) else float(share) for name, share in zip(column, scaled, strict=True)}


def _sorted(
    objectives: tuple[Objective, ...],
    models: Mapping[str, ParetoModel],
    kept: Sequence[str],
    axes: Sequence[Wanted],
    directions: Mapping[str, Direction],
) -> ParetoResult:
    values, low, high = (_matrix(models, kept, axes, end) for end in ("value", "low", "high"))
    maximize = [directions[one.name] == "max" for one in axes]
    dominates = dominance(values, maximize, low, high)
    rank = ranks(dominates)
    in_front = rank == 1
    order = np.argsort(np.where(maximize[0], values[:, 0], -values[:, 0]), kind="stable")
    front = [int(i) for i in order if in_front[i]]
    best = knee(values[front], maximize)
    volume, why = _volume(values, maximize, in_front)
    placed = {
        name: dataclasses.replace(
            models[name],
            rank=int(rank[i]),
            dominated_by=tuple(kept[int(j)] for j in np.flatnonzero(dominates[:, i] & (rank < rank[i]))),
        )
        for i, name in enumerate(kept)
    }
    return ParetoResult(
        objectives=objectives,
        models={name: placed.get(name, model) for name, model in models.items()},
        front=tuple(kept[i] for i in front),
        knee=None if best is None else kept[front[best]],
        knee_reason=_no_knee(len(front)) if best is None else None,
        hypervolume=volume,
        hypervolume_reason=why,
    )


def _matrix(
    models: Mapping[str, ParetoModel], kept: Sequence[str], axes: Sequence[Wanted], end: str
) -> NDArray[np.float64]:
    rows = [[getattr(models[name].counted[one.name], end) for one in axes] for name in kept]
    return np.array(rows, dtype=np.float64)


def _no_knee(models: int) -> str:
    if models == 1:
        return "one model is the whole front"
    if models == 2:
        return "the front consists of its two ends"
    return "the front does not bulge: no trade-off stands out"


def _volume(
    values: NDArray[np.float64], maximize: Sequence[bool], front: NDArray[np.bool_]
) -> tuple[float | None, str | None]:
    try:
        return hypervolume(values, maximize, front), None
    except MissingExtraError as error:
        return None, str(error)
