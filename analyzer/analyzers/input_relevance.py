"""Relevance of a model's inputs: which features carry decisions, and samples to look at."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types import DataInput
from analyzer.data_types.relevance import FeatureRelevance, InputKind, InputRelevance, RelevanceExample
from analyzer.measures.map_complexity import gini
from analyzer.relevance.evaluation.scoring import mean_of
from analyzer.relevance.gathered import GatheredRelevance

MOST_FEATURES = 20
"""Features that are listed with intervals."""

EXAMPLES = 6
"""Samples kept for pictures."""

Floats = NDArray[np.float64]


def kind_of(x: NDArray[Any]) -> InputKind:
    """What an input is to people, by its dtype and axes."""
    if not np.issubdtype(x.dtype, np.floating):
        return "tokens" if x.ndim == 2 else "features"
    if x.ndim >= 5:
        return "volume"
    if x.ndim == 4 or (x.ndim == 3 and min(x.shape[1:]) >= 8 and x.shape[1] == x.shape[2]):
        return "image"
    return "series" if x.ndim == 3 else "features"


def describe_inputs(found: GatheredRelevance, draws: dict[str, Any]) -> tuple[InputRelevance, ...]:
    """Every input of the model.

    Args:
        found: Explanations.
        draws: Seed and number of draws of intervals.
    """
    magnitudes = {name: np.abs(_wide(array)).sum(axis=1) for name, array in found.maps.items()}
    whole = sum(magnitudes.values(), np.zeros(len(found.score)))
    return tuple(_input(found, name, magnitudes[name], whole, draws) for name in found.maps)


def _wide(array: NDArray[Any]) -> Floats:
    return np.asarray(array, dtype=np.float64).reshape(len(array), -1)


def _over(numerator: Floats, denominator: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator > 0, numerator / denominator, np.nan)


def _summed(array: NDArray[Any], kind: InputKind) -> Floats:
    """Relevance of places: channels of images, volumes and series are summed."""
    wide = np.asarray(array, dtype=np.float64)
    has_channels = (kind == "image" and wide.ndim == 4) or (kind == "volume") or (kind == "series" and wide.ndim == 3)
    return np.asarray(wide.sum(axis=-1)) if has_channels else wide


def _input(
    found: GatheredRelevance, name: str, magnitude: Floats, whole: Floats, draws: dict[str, Any]
) -> InputRelevance:
    x, kind = found.x[name], kind_of(found.x[name])
    relevance = _summed(found.maps[name], kind)
    flat = relevance.reshape(len(relevance), -1)
    start = np.abs(found.score)
    signed = _over(flat * np.sign(found.score)[:, None], start[:, None])
    size = np.abs(flat).sum(axis=1)
    shares = _over(np.abs(flat), size[:, None])
    known = np.isfinite(shares).all(axis=1)
    mean_share = shares[known].mean(axis=0) if known.any() else np.zeros(flat.shape[1])
    first = np.argsort(-mean_share, kind="stable")[: MOST_FEATURES if known.any() else 0]
    positive = _over(np.maximum(_wide(found.maps[name]), 0).sum(axis=1), magnitude)
    shape = relevance.shape[1:]
    return InputRelevance(
        name=name,
        kind=kind,
        shape=tuple(x.shape[1:]),
        n_features=flat.shape[1],
        share=mean_of(_over(magnitude, whole), **draws),
        positive=mean_of(positive, **draws),
        gini=mean_of(gini(flat), **draws) if flat.shape[1] > 1 else None,
        features=tuple(
            FeatureRelevance(
                index=tuple(int(i) for i in np.unravel_index(one, shape)) if shape else (0,),
                mean=mean_of(signed[:, one], **draws),
                magnitude=mean_of(shares[:, one], **draws),
            )
            for one in first
        ),
        mean=signed[np.isfinite(signed).all(axis=1)].mean(axis=0).reshape(shape) if known.any() else None,
        magnitude=mean_share.reshape(shape) if known.any() else None,
    )


def examples(found: GatheredRelevance, data: DataInput | None, config: Any) -> tuple[RelevanceExample, ...]:
    """A few samples with their maps, of different classes where there are any.

    Args:
        found: Explanations.
        data: The samples looked at.
        config: The options of the run.
    """
    kept: list[RelevanceExample] = []
    for i in _spread(found.chosen):
        for name, relevance in found.maps.items():
            x = found.x[name]
            numbers = np.issubdtype(x.dtype, np.number)
            kept.append(
                RelevanceExample(
                    index=int(found.indices[i]),
                    input=name,
                    kind=kind_of(x),
                    target=config.class_name(int(found.chosen[i])) if found.chosen[i] >= 0 else found.target,
                    label=_label(data, int(found.indices[i]), config, is_class=bool(found.chosen[i] >= 0)),
                    output=float(found.score[i]),
                    values=np.asarray(x[i], dtype=np.float32) if numbers else None,
                    relevance=np.asarray(relevance[i], dtype=np.float32),
                )
            )
    return tuple(kept)


def _spread(chosen: NDArray[np.int64]) -> list[int]:
    """The first sample of each class explained, then the second of each, until there are enough."""
    rank = np.zeros(len(chosen), int)
    for one in np.unique(chosen):
        rank[chosen == one] = np.arange(np.count_nonzero(chosen == one))
    order = np.lexsort((chosen, rank))
    return sorted(int(i) for i in order[:EXAMPLES])


def _label(data: DataInput | None, index: int, config: Any, *, is_class: bool) -> str | None:
    y = None if data is None else data.y_data
    if data is None or not isinstance(y, np.ndarray):
        return None
    position = index if data.indices is None else int(np.flatnonzero(data.indices == index)[0])
    value = y[position]
    if np.ndim(value) == 1 and len(value) > 1 and np.isclose(np.sum(value), 1):
        value = int(np.argmax(value))
    if np.ndim(value) and np.size(value) != 1:
        return None
    number, names = np.asarray(value).reshape(-1)[0], config.class_names or ()
    if float(number).is_integer() and 0 <= number < len(names):
        return str(names[int(number)])
    return f"class {int(number)}" if is_class and float(number).is_integer() else f"{number:g}"
