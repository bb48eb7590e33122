"""Which layer's new weights brought the change of a metric between two versions of a model: Shapley values of swaps.

The players are layers whose weights have equal shapes in both versions; a coalition plays by running the old version
with the weights of its members taken from the new one. What normalisation layers have learnt of their inputs belongs to
the layer, as its kernel does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from scipy.stats import t as student

from analyzer.data_types.values import Estimate
from analyzer.diagnosis.opened_version import (
    Metric,
    Version,
    opened_versions,
    paired_outputs,
    per_sample,
    values_of,
)
from analyzer.diagnosis.swaps import Swap, SwapGame, swaps_between
from analyzer.errors import ConfigError, Unsupported
from analyzer.inspection import inputs
from analyzer.inspection.features import check_whole
from analyzer.inspection.reducers import seeded_samples
from analyzer.measures.shapley import LEVEL, ShapleyValues, shapley_values
from analyzer.measures.similarity import mean_with_interval

METRICS: tuple[Metric, ...] = ("loss", "accuracy")

OF_SWAPS: Mapping[str, str] = {
    "change": "Shapley value of the layer: the part of the metric's change (new less old) that its new weights bring. "
    "Layers and the remainder add up to the whole change; the intervals of all layers hold together.",
    "share": "The layer's part of the whole change; missing where there is none.",
}
"""What the numbers of a `LayerSwap` mean."""

FEWEST_PERMUTATIONS = 4
"""An interval needs two pairs of an order and its reverse."""


@dataclass(frozen=True, kw_only=True)
class LayerSwap:
    """What the new weights of one layer did; see `OF_SWAPS`.

    Attributes:
        layer: Id of the layer in the old version.
        new_layer: Its id in the new version.
        change: With Student's interval, over samples and over orders where they were drawn, of Bonferroni's level.
        share: None where the versions do not differ.
    """

    layer: str
    new_layer: str
    change: Estimate
    share: float | None


@dataclass(frozen=True, kw_only=True)
class WeightSwap:
    """The change of a metric between two versions, split among their layers.

    Attributes:
        metric: What is split: ``"loss"`` (lower is better) or ``"accuracy"``, the mean over samples.
        n: Samples.
        old: The metric of the old version.
        new: That of the new version.
        layers: By layer, in order of execution; those that hold equal weights in both are not among them.
        unchanged: Ids of layers whose weights are equal in both: they brought nothing.
        skipped: Why a layer could not be swapped, by its id.
        remainder: ``new`` less the metric of the old version with all swaps: what skipped layers, and settings other
            than weights, bring.
        exact: Whether all coalitions were tried, or orders were drawn.
        n_evaluations: How many coalitions were tried.
    """

    metric: Metric
    n: int
    old: float
    new: float
    layers: tuple[LayerSwap, ...]
    unchanged: tuple[str, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)
    remainder: float
    exact: bool
    n_evaluations: int

    @property
    def culprit(self) -> str | None:
        """Id of the layer that brought the regression.

        The one that did most harm. None where the new version is not worse, where the interval of that layer holds 0,
        or where the remainder does more harm.
        """
        worse = 1.0 if self.metric == "loss" else -1.0
        most = max(self.layers, key=lambda layer: worse * float(layer.change), default=None)
        if most is None or most.change.low is None or most.change.high is None or worse * (self.new - self.old) <= 0:
            return None
        proven = most.change.low > 0 if worse > 0 else most.change.high < 0
        return most.layer if proven and worse * float(most.change) > worse * self.remainder else None


def weight_swap(
    old: keras.Model | str | Path,
    new: keras.Model | str | Path,
    x: Any,
    y: Any,
    *,
    metric: Metric = "loss",
    task: str | Mapping[str, str] | None = None,
    from_logits: bool | Mapping[str, bool] | None = None,
    n_samples: int | None = 512,
    n_permutations: int = 200,
    batch_size: int = 128,
    seed: int = 0,
) -> WeightSwap:
    """Split the change of a metric between two versions among their layers.

    Neither model is changed: weights are replaced in a scope of their own while one compiled program runs.

    Args:
        old: As for `compare_versions`, like all options that are not explained here.
        new: See there.
        x: See there.
        y: See there.
        metric: ``"loss"`` of the task, summed over outputs, or ``"accuracy"`` of the only output.
        task: See there.
        from_logits: See there.
        n_samples: Most samples, drawn at random; None for all.
        n_permutations: Orders of layers, where there are too many layers to try every coalition (more than ten at 200).
        batch_size: See there.
        seed: Seed of samples and orders.

    Raises:
        ConfigError: If an option has no such value.
        DataError: If samples or labels do not fit the models.
        ModelError: If a model cannot be opened.
        Unsupported: If no layer can be swapped, or the metric does not exist for these models or is not finite.
    """
    opened = opened_versions(old, new, x, y, task=task, from_logits=from_logits, batch_size=batch_size, seed=seed)
    check_options(metric, n_samples, n_permutations)
    with opened as (first, second):
        return split(first, second, metric=metric, n_samples=n_samples, n_permutations=n_permutations, seed=seed)


def check_options(metric: str, n_samples: int | None, n_permutations: int) -> None:
    """Refuse options of weight swaps before anything runs.

    Args:
        metric: See `weight_swap`.
        n_samples: See `weight_swap`.
        n_permutations: See `weight_swap`.

    Raises:
        ConfigError: With what came and what was expected.
    """
    if metric not in METRICS:
        raise ConfigError(f"metric={metric!r}: expected one of {', '.join(METRICS)}.")
    if n_samples is not None:
        check_whole("n_samples", n_samples)
    check_whole("n_permutations", n_permutations)
    if n_permutations < FEWEST_PERMUTATIONS:
        raise ConfigError(f"n_permutations={n_permutations}: expected {FEWEST_PERMUTATIONS} or more, for an interval.")


def split(
    old: Version, new: Version, *, metric: Metric, n_samples: int | None, n_permutations: int, seed: int
) -> WeightSwap:
    """Split the change of a metric between two opened versions; see `weight_swap`.

    Args:
        old: The version before.
        new: The version after.
        metric: See `weight_swap`.
        n_samples: See `weight_swap`.
        n_permutations: See `weight_swap`.
        seed: See `weight_swap`.

    Raises:
        Unsupported: If no layer can be swapped, or the metric does not exist for these models or is not finite.
    """
    outputs = paired_outputs(old, new)
    if metric == "accuracy" and len(outputs) > 1:
        raise Unsupported(f"Accuracies of {len(outputs)} outputs do not add up; take metric='loss'.")
    swaps, unchanged, skipped = swaps_between(old.view, new.view)
    if not swaps and not unchanged:
        raise Unsupported(f"No layer's weights have equal shapes in both versions: {'; '.join(skipped.values())}")
    n = inputs.count(old.arranged)
    chosen = np.sort(seeded_samples(n, n if n_samples is None else n_samples, seed))
    target = float(sum(values_of(output, metric)[chosen].mean() for _, output in outputs))
    game = SwapGame(old, swaps, [per_sample(output, metric) for output, _ in outputs], chosen)
    try:
        before, after = (game(np.full(len(swaps), joined)) for joined in (False, True))
        found = shapley_values(game, len(swaps), n_permutations=n_permutations, seed=seed) if swaps else None
    finally:
        game.release()
    whole = target - float(before[-1])
    return WeightSwap(
        metric=metric,
        n=len(chosen),
        old=float(before[-1]),
        new=target,
        layers=() if found is None else _layers(swaps, found, whole, n_permutations // 2),
        unchanged=unchanged,
        skipped=skipped,
        remainder=target - float(after[-1]),
        exact=found is None or found.exact,
        n_evaluations=1 if found is None else found.n_evaluations,
    )


def _layers(swaps: Sequence[Swap], found: ShapleyValues, whole: float, n_pairs: int) -> tuple[LayerSwap, ...]:
    """Values of the mean, with the errors of samples and of orders joined in squares."""
    level = 1 - (1 - LEVEL) / len(swaps)
    wider = (
        1.0 if found.exact else student.ppf((1 + level) / 2, n_pairs - 1) / student.ppf((1 + LEVEL) / 2, n_pairs - 1)
    )
    layers = []
    for swap, rows, (low, high) in zip(swaps, found.values, found.interval[:, -1], strict=True):
        value, of_samples = float(rows[-1]), mean_with_interval(rows[:-1], bounds=(-np.inf, np.inf), level=level)
        change = Estimate(value=value, n=of_samples.n, level=level)
        if of_samples.value is not None and of_samples.high is not None:
            half = float(np.hypot(of_samples.high - of_samples.value, wider * (high - low) / 2))
            method = "Student's t" if found.exact else "Student's t over samples and orders"
            change = Estimate(
                value=value, low=value - half, high=value + half, n=of_samples.n, level=level, method=method
            )
        share = value / whole if whole else None
        layers.append(LayerSwap(layer=swap.layer, new_layer=swap.new_layer, change=change, share=share))
    return tuple(layers)
