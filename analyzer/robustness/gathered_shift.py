"""`PlaceFeatures`: what every place on the way through a model makes of the samples, for a shift analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.shift import PlaceKind
from analyzer.errors import Unsupported
from analyzer.inspection import inputs
from analyzer.inspection.followed import Followed, followed_calls, not_run
from analyzer.inspection.needs import Context, Features, Predictions
from analyzer.inspection.reducers import KeepMeans, Tap, seeded_samples
from analyzer.inspection.view import ModelView
from analyzer.measures.random_streams import stream

MOST_FEATURES = 128
"""Features of one place that are compared; of wider places, as many drawn at random, the same for all data."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """Features of the kept samples at one place.

    Attributes:
        name: Of the input, of the output, or id of the layer's call.
        kind: What of these it is.
        rows: ``(n, d)``.
        drawn: ``(d,)`` numbers of these features at the place.
        of_features: Features there.
        has_kernel: Whether it is a layer with a kernel.
    """

    name: str
    kind: PlaceKind
    rows: NDArray[np.float32]
    drawn: NDArray[np.int64]
    of_features: int
    has_kernel: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class GatheredPlaces:
    """Every place of one model on one set of samples.

    Attributes:
        places: Inputs, layers in order of execution, outputs.
        kept: ``(n,)`` positions of the kept samples among the samples looked at, ascending.
        last_hidden: ``(n, d)`` what the last hidden layer makes of the kept samples; None where there is none.
        predictions: All outputs for all samples, by name.
        skipped: Reason by name.
    """

    places: tuple[Place, ...]
    kept: NDArray[np.int64]
    last_hidden: NDArray[np.float32] | None
    predictions: Mapping[str, Any]
    skipped: dict[str, str]


@dataclass(frozen=True)
class PlaceFeatures:
    """Features of a seeded subset of the samples at the inputs, at every layer and at the outputs.

    Units of layers are averaged over their positions, so that images and sequences of one kind are compared by what
    their channels say, wherever it stands. Gathered as `GatheredPlaces`.

    Attributes:
        n_samples: Most samples kept.
    """

    n_samples: int = 300

    requires_data = True
    accepts_missing = True

    def taps(self, view: ModelView) -> tuple[Tap, ...]:
        """One tap on every call, those of the last hidden layer and those of the predictions."""
        calls = tuple(self._tap(place) for place in followed_calls(view))
        return (*calls, *self._hidden(view), *Predictions().taps(view))

    def finish(self, collected: Sequence[Any], context: Context) -> GatheredPlaces:
        """Rows by place."""
        rest = iter(collected)
        brought = [(place, next(rest)) for place in followed_calls(context.view)]
        hidden = [next(rest) for _ in self._hidden(context.view)]
        outputs = list(rest)
        missing = [one for one in outputs if isinstance(one, Unsupported)]
        if missing:
            raise missing[0]
        predictions = Predictions().finish(outputs, context)
        kept = np.sort(seeded_samples(inputs.count(context.arranged), self.n_samples, context.seed))
        skipped = {place.call.id: str(found) for place, found in brought if isinstance(found, Unsupported)}
        layers = [
            _place(place.call.id, "layer", found, context.seed, has_kernel=place.call.id in _with_kernel(context.view))
            for place, found in brought
            if not isinstance(found, Unsupported) and not place.is_output
        ]
        given, not_compared = _inputs(context, kept)
        last = None if not hidden or isinstance(hidden[0], Unsupported) else Features().finish(hidden, context)
        return GatheredPlaces(
            places=(
                *given,
                *layers,
                *(_place(name, "output", out.raw[kept], context.seed) for name, out in predictions.items()),
            ),
            kept=kept,
            last_hidden=last,
            predictions=predictions,
            skipped=not_compared | skipped | not_run(context.view, [place for place, _ in brought]),
        )

    def _tap(self, place: Followed) -> Tap:
        reducer = KeepMeans(n_samples=self.n_samples, axis=place.axis)
        firing = place.firing
        return Tap(source="output", position=firing.place, call=firing.call, fold=place.fold, reducer=reducer)

    def _hidden(self, view: ModelView) -> tuple[Tap, ...]:
        try:
            return Features(n_samples=self.n_samples).taps(view)
        except Unsupported:
            return ()


def _with_kernel(view: ModelView) -> set[str]:
    kernels = {id(v.owner.layer) for v in view.variables if len(v.variable.shape) > 1}
    return {place.call.id for place in followed_calls(view) if id(place.call.layer.layer) in kernels}


def _place(name: str, kind: PlaceKind, values: Any, seed: int, *, has_kernel: bool = False) -> Place:
    rows = np.asarray(values, dtype=np.float32).reshape(len(values), -1)
    width = rows.shape[1]
    drawn = np.sort(stream(seed, 60, width).permutation(width)[:MOST_FEATURES])
    return Place(name=name, kind=kind, rows=rows[:, drawn], drawn=drawn, of_features=width, has_kernel=has_kernel)


def _inputs(context: Context, kept: NDArray[np.int64]) -> tuple[list[Place], dict[str, str]]:
    """Inputs that hold numbers; numbers of words are names, which no distance orders."""
    names = inputs.input_names(context.view.model, context.arranged)
    places, skipped = [], {}
    for name, values in zip(names, map(np.asarray, keras.tree.flatten(context.arranged)), strict=True):
        if values.dtype.kind == "f":
            places.append(_place(name, "input", values[kept], context.seed))
        else:
            skipped[name] = "It does not hold floats; what the first layer makes of it is compared."
    return places, skipped
