"""`compare_versions`: what changed between two versions of a model, for which samples, and where it came from."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from analyzer.data_types.comparison import LayerCka
from analyzer.data_types.outputs import OutputData
from analyzer.data_types.values import Skipped
from analyzer.diagnosis.layer_pairs import aligned, stable_name
from analyzer.diagnosis.opened_version import Floats, Metric, Version, opened_versions, paired_outputs, values_of
from analyzer.diagnosis.version_results import LayerPair, OutputChange, VersionComparison
from analyzer.diagnosis.weight_swap import WeightSwap, check_options, split
from analyzer.errors import Unsupported
from analyzer.inspection import inputs
from analyzer.inspection.activations import MOST_VALUES_PER_SAMPLE
from analyzer.inspection.followed import followed_calls
from analyzer.inspection.needs import Context
from analyzer.inspection.reducers import KeepSamples, Tap
from analyzer.inspection.view import ModelView
from analyzer.measures.cka import centred_gram
from analyzer.measures.versions import Flips, PairedMeans, flips, paired_means


def compare_versions(
    old: keras.Model | str | Path,
    new: keras.Model | str | Path,
    x: Any,
    y: Any,
    *,
    metric: Metric = "loss",
    task: str | Mapping[str, str] | None = None,
    from_logits: bool | Mapping[str, bool] | None = None,
    swap_weights: bool = True,
    n_samples: int | None = 512,
    n_permutations: int = 200,
    n_bootstrap: int = 1000,
    batch_size: int = 128,
    seed: int = 0,
) -> VersionComparison:
    """Compare two versions of a model: decisions, losses, representations, and the layer that brought the change.

    The versions may differ in anything but what goes in and what comes out. What cannot be compared is `Skipped` with
    the reason; the rest is there. Neither model is changed.

    Args:
        old: The version before: a built model, or the path of a ``.keras`` file.
        new: The version after.
        x: Samples, as for the models.
        y: Their labels; for several outputs, by name.
        metric: What weight swaps split, ``"loss"`` or ``"accuracy"``; see `weight_swap`.
        task: What the outputs predict, as in `AnalysisConfig`; None to work it out.
        from_logits: Whether the models return logits; None to work it out.
        swap_weights: Whether to swap weights: the costly part, up to ``n_permutations`` forward passes over
            ``n_samples`` samples for every layer.
        n_samples: Most samples for CKA and weight swaps, drawn at random; None for all.
        n_permutations: Orders of layers, where there are too many to try every coalition; see `weight_swap`.
        n_bootstrap: Draws behind intervals of losses.
        batch_size: Most samples per batch.
        seed: Seed of samples, draws and orders.

    Raises:
        ConfigError: If an option has no such value.
        DataError: If samples or labels do not fit the models.
        ModelError: If a model cannot be opened.
    """
    check_options(metric, n_samples, n_permutations)
    grams = LayerGrams(n_samples=n_samples)
    opened = opened_versions(
        old, new, x, y, task=task, from_logits=from_logits, batch_size=batch_size, seed=seed, needs=(grams,)
    )
    with opened as (first, second):
        cka, layers = _by_layer(first, second, grams)
        return VersionComparison(
            n=inputs.count(first.arranged),
            outputs=_outputs(first, second, n_bootstrap, seed),
            cka=cka,
            layers=layers,
            weight_swap=_swapped(first, second, metric, n_samples, n_permutations, seed)
            if swap_weights
            else Skipped("Not asked for: swap_weights is off."),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerGram:
    """What is kept of one call of one layer.

    Attributes:
        id: Id of the call.
        kind: Class of the layer.
        gram: See `centred_gram`.
    """

    id: str
    kind: str
    gram: Floats


@dataclass(frozen=True, kw_only=True)
class LayerGrams:
    """Centred Gram matrix of what every call returns for the same seeded samples; large layers keep some positions.

    Gathered as a list of `LayerGram`, in order of execution.

    Attributes:
        n_samples: Most samples; None for all.
    """

    n_samples: int | None

    requires_data = True
    accepts_missing = True

    def taps(self, view: ModelView) -> tuple[Tap, ...]:
        """One tap on every call."""
        taps = []
        for place in followed_calls(view):
            positions = max(1, MOST_VALUES_PER_SAMPLE // max(place.n_units, 1))
            keep = KeepSamples(n_samples=self.n_samples or sys.maxsize, n_positions=positions, axis=place.axis)
            at: dict[str, Any] = {"position": place.firing.place, "call": place.firing.call, "fold": place.fold}
            taps.append(Tap(source="output", reducer=keep, **at))
        if not taps:
            raise Unsupported("No layer could be followed: the model could not be traced, or it has none.")
        return tuple(taps)

    def finish(self, collected: Sequence[Any], context: Context) -> list[LayerGram]:
        """Gram matrices of the calls that ran; the rows are let go."""
        return [
            LayerGram(id=place.call.id, kind=place.call.layer.kind, gram=centred_gram(rows))
            for place, rows in zip(followed_calls(context.view), collected, strict=True)
            if not isinstance(rows, Unsupported)
        ]


def _by_layer(old: Version, new: Version, need: LayerGrams) -> tuple[LayerCka | Skipped, tuple[LayerPair, ...]]:
    ours, theirs = old.material[need], new.material[need]
    for found in (ours, theirs):
        if isinstance(found, Skipped):
            return found, ()
    n = min(inputs.count(old.arranged), need.n_samples or inputs.count(old.arranged))
    values = np.clip(np.stack([a.gram for a in ours]) @ np.stack([b.gram for b in theirs]).T, -1.0, 1.0)
    cka = LayerCka(
        first="old",
        second="new",
        n=n,
        first_layers=tuple(call.id for call in ours),
        second_layers=tuple(call.id for call in theirs),
        values=values,
    )
    pairs = aligned(
        [[stable_name(old.view, call.id), call.kind] for call in ours],
        [[stable_name(new.view, call.id), call.kind] for call in theirs],
    )
    return cka, tuple(
        LayerPair(old=ours[i].id, new=theirs[j].id, cka=float(values[i, j]) if np.isfinite(values[i, j]) else None)
        for i, j in pairs
    )


def _outputs(old: Version, new: Version, n_bootstrap: int, seed: int) -> dict[str, OutputChange] | Skipped:
    try:
        pairs = paired_outputs(old, new)
    except Unsupported as reason:
        return Skipped(str(reason))
    return {
        first.name: OutputChange(flips=_flips(first, second, seed), loss=_loss(first, second, n_bootstrap, seed))
        for first, second in pairs
    }


def _flips(old: OutputData, new: OutputData, seed: int) -> Flips | Skipped:
    if old.task.kind not in ("binary", "multiclass") or old.labels is None:
        return Skipped(f"Output {old.name!r} predicts {old.task.kind!r}: flips are of one decision per sample.")
    n_classes = max(output.task.n_classes or 2 for output in (old, new))
    return flips(old.labels, _decisions(old), _decisions(new), n_classes, seed=seed)


def _decisions(output: OutputData) -> Any:
    probabilities = np.asarray(output.probabilities)
    return (probabilities > 0.5).astype(np.int64) if probabilities.ndim == 1 else probabilities.argmax(axis=1)


def _loss(old: OutputData, new: OutputData, n_bootstrap: int, seed: int) -> PairedMeans | Skipped:
    try:
        first, second = values_of(old, "loss"), values_of(new, "loss")
    except Unsupported as reason:
        return Skipped(str(reason))
    if not np.isfinite(first + second).all():
        return Skipped(f"The loss of output {old.name!r} is not finite for all samples.")
    return paired_means(first, second, n_bootstrap=n_bootstrap, seed=seed)


def _swapped(
    old: Version, new: Version, metric: Metric, n_samples: int | None, n_permutations: int, seed: int
) -> WeightSwap | Skipped:
    try:
        return split(old, new, metric=metric, n_samples=n_samples, n_permutations=n_permutations, seed=seed)
    except Unsupported as reason:
        return Skipped(str(reason))
