"""`Activations`: what passes through every call of every layer, reduced in the program of the gather pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.errors import Unsupported
from analyzer.inspection import inputs
from analyzer.inspection.followed import Followed, fan_in, followed_calls, is_activation, not_run
from analyzer.inspection.needs import Context, Predictions
from analyzer.inspection.reducers import KeepSamples, Moments, Tap, seeded_samples
from analyzer.inspection.selection import LayerCall
from analyzer.inspection.view import ModelView
from analyzer.measures.representation import Representation, Targets, describe_rows, linear_rank

MOST_VALUES_PER_SAMPLE = 1024
"""Values kept of one sample at one layer: wide layers keep fewer positions, so that memory stays bounded."""


BOUNDS = {
    "tanh": (-1.0, 1.0),
    "hard_tanh": (-1.0, 1.0),
    "soft_sign": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "hard_sigmoid": (0.0, 1.0),
}
"""Activation functions with two bounds. A rectifier rests at its lower one, so relu6 is not among them."""

RECTIFIERS = ("relu", "relu6")


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerActivations:
    """What was gathered at one call of one layer.

    Attributes:
        call: The call and its layer.
        key: Place and number of the call.
        sources: Calls that its arguments came from, as positions in `GatheredActivations.calls`; -1 stands for an
            input of the model, and None for a call that was not followed.
        n_positions: Positions per sample.
        moments: See `Moments.finish`.
        representation: Measures of the kept rows.
        activation: Name of the activation function that the layer applies; None where it applies none.
        fan_in: Inputs of one unit of the layer's kernel; None for layers without.
        is_output: Whether the model returns it.
    """

    call: LayerCall
    key: tuple[int, int]
    sources: tuple[int | None, ...]
    n_positions: int
    moments: dict[str, NDArray[np.float64]]
    representation: Representation
    activation: str | None
    fan_in: int | None
    is_output: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class GatheredActivations:
    """Every call that was followed.

    Attributes:
        calls: In order of execution.
        skipped: Reason by id of the call, for those that could not be followed.
        n_kept: Kept samples.
        input_moments: Mean square and variance per feature of the model's first input; None unless it holds floats.
        input_rank: Directions in which the kept samples of that input vary; None likewise.
    """

    calls: tuple[LayerActivations, ...]
    skipped: dict[str, str]
    n_kept: int
    input_moments: tuple[float, float] | None
    input_rank: int | None


@dataclass(frozen=True)
class Activations:
    """Statistics of the output of every call of every layer.

    Loops (RNN, Bidirectional, TimeDistributed) are one layer. A container is followed where it computes something of
    its own with what its layers return, such as the sum of a residual block.

    Gathered as `GatheredActivations`.

    Attributes:
        n_samples: Most samples whose rows are kept.
        n_positions: Most positions kept of each, the same ones for all; fewer in layers of more than 256 units.
    """

    n_samples: int = 256
    n_positions: int = 4

    requires_data = True
    accepts_missing = True

    def taps(self, view: ModelView) -> tuple[Tap, ...]:
        """Two or three taps on every call, and those of the predictions, for the labels."""
        return (*(tap for place in followed_calls(view) for tap in self._taps_of(place)), *Predictions().taps(view))

    def finish(self, collected: Sequence[Any], context: Context) -> GatheredActivations:
        """Moments of every call, and measures of its kept rows, which are let go."""
        rest = iter(collected)
        brought = [(place, [next(rest) for _ in self._taps_of(place)]) for place in followed_calls(context.view)]
        # Without what came before an activation the rest is still whole.
        lost = [(place, reason) for place, found in brought if (reason := _first_missing(found[:2])) is not None]
        whole = [(place, found) for place, found in brought if _first_missing(found[:2]) is None]
        if not whole:
            raise Unsupported("No layer could be followed: the model could not be traced, or it has none.")
        kept = np.sort(seeded_samples(inputs.count(context.arranged), self.n_samples, context.seed))
        targets = _targets(list(rest), context, kept)
        listed = {place.position: i for i, (place, _) in enumerate(whole)}
        calls = []
        for done, (place, found) in enumerate(whole, start=1):
            calls.append(_material(place, found, listed, targets, context.seed))
            found.clear()
            context.progress("layers", done, len(whole))
        skipped = {place.call.id: str(reason) for place, reason in lost}
        moments, rank = _first_input(context.arranged, kept)
        return GatheredActivations(
            calls=tuple(calls),
            skipped=skipped | not_run(context.view, [place for place, _ in brought]),
            n_kept=len(kept),
            input_moments=moments,
            input_rank=rank,
        )

    def _taps_of(self, place: Followed) -> tuple[Tap, ...]:
        positions = max(1, min(self.n_positions, MOST_VALUES_PER_SAMPLE // max(place.n_units, 1)))
        keep = KeepSamples(n_samples=self.n_samples, n_positions=positions, axis=place.axis)
        firing = place.firing
        at: dict[str, Any] = {"position": firing.place, "call": firing.call, "fold": place.fold}
        taps = [
            Tap(source="output", reducer=Moments(axis=place.axis), **at),
            Tap(source="output", reducer=keep, **at),
        ]
        if place.activation is not None:
            taps.append(Tap(source="activation", reducer=keep, **at))
        return tuple(taps)


def _first_missing(found: Sequence[Any]) -> Unsupported | None:
    return next((each for each in found if isinstance(each, Unsupported)), None)


def _material(
    place: Followed, found: Sequence[Any], listed: dict[int, int], targets: Targets, seed: int
) -> LayerActivations:
    moments, rows, *before = found
    name = getattr(place.activation, "__name__", None)
    return LayerActivations(
        call=place.call,
        key=(place.firing.place, place.firing.call),
        sources=tuple(-1 if source < 0 else listed.get(source) for source in place.firing.sources),
        n_positions=place.n_positions,
        moments=moments,
        representation=describe_rows(
            rows,
            None if not before or isinstance(before[0], Unsupported) else before[0],
            bounds=None if place.is_output else BOUNDS.get(name or ""),
            activated=is_activation(place) and not place.is_output,
            targets=targets,
            seed=seed,
        ),
        activation=name or ("relu" if place.call.layer.kind == "ReLU" else None),
        fan_in=fan_in(place.call.layer.layer),
        is_output=place.is_output,
    )


def _targets(collected: Sequence[Any], context: Context, kept: NDArray[np.int64]) -> Targets:
    """Labels of the kept samples: of the first output that has one label per sample."""
    if context.data is None or context.data.y_data is None or _first_missing(collected) is not None:
        return Targets()
    try:
        outputs = Predictions().finish(collected, context)
    except Unsupported:
        # Outputs that are not finite have no task; the layers are measured all the more.
        return Targets()
    for output in outputs.values():
        if output.labels is None or output.groups is not None:
            continue
        labels = output.labels[kept]
        if output.task.kind in ("binary", "multiclass"):
            return Targets(classes=labels.astype(np.int64))
        if output.task.kind in ("multilabel", "regression", "gaussian", "quantile"):
            return Targets(values=labels.astype(np.float64).reshape(len(kept), -1))
    return Targets()


def _first_input(arranged: Any, kept: NDArray[np.int64]) -> tuple[tuple[float, float] | None, int | None]:
    """Mean square and variance of the first input, and the rank of its kept samples; None where it holds no floats."""
    arrays = [np.asarray(leaf) for leaf in keras.tree.flatten(arranged)]
    if not arrays or arrays[0].dtype.kind != "f" or arrays[0].ndim < 2:
        return None, None
    x = arrays[0].astype(np.float64)
    units = x.reshape(-1, x.shape[-1])
    moments = float(np.square(units).mean()), float(units.var(axis=0).mean())
    return moments, linear_rank(x[kept].reshape(len(kept), -1))
