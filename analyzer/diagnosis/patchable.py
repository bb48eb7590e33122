"""`Patchable`: a classifier whose activations are read and replaced while it runs, down to its logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ConfigError, DataError, Unsupported
from analyzer.inspection.edits import Change
from analyzer.inspection.followed import Followed, followed_calls
from analyzer.inspection.instrumented import MODEL, Arrays, Edit, Instrumented, joined
from analyzer.inspection.logits import last_activations, logits_out
from analyzer.inspection.selection import LayerCall, Layers, select_calls
from analyzer.inspection.view import ModelView

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Patchable:
    """A classifier whose activations are read and replaced, as by `analyzer.intervene`, but down to its logits.

    Attributes:
        view: The opened model, traced on data.
        batch_size: Most samples per batch.
    """

    view: ModelView
    batch_size: int = 32

    def __post_init__(self) -> None:
        if len(self.view.heads) != 1 or len(self.view.heads[0].shape) != 2:
            shapes = ", ".join(str(head.shape) for head in self.view.heads)
            raise Unsupported(
                f"Failures are those of one decision per sample: one output of shape (samples, classes), not {shapes}."
            )

    def logits(self, x: Any, patches: Mapping[LayerCall, NDArray[Any]] | None = None) -> Floats:
        """Logits ``(n, classes)``, with what some calls return replaced; a single logit becomes two, the first 0.

        Args:
            x: Samples in the structure that the model is called with.
            patches: What each call returns instead, one row per sample of x.
        """
        return self._run(x, (), patches or {})[0]

    def record(self, x: Any, calls: Sequence[LayerCall]) -> tuple[Floats, Arrays]:
        """Logits, and by id what some calls return.

        Args:
            x: Samples in the structure that the model is called with.
            calls: The calls; those without a row per sample are left out.
        """
        return self._run(x, calls, {})

    def activations(self, x: Any, calls: Sequence[LayerCall]) -> Arrays:
        """By id, what some calls return.

        Args:
            x: Samples in the structure that the model is called with.
            calls: The calls.

        Raises:
            ConfigError: If one does not return one tensor with a row per sample.
        """
        recorded = self.record(x, calls)[1]
        for call in calls:
            if call.id not in recorded:
                raise ConfigError(
                    f"Layer {call.id!r} does not return one tensor with a row per sample, so it cannot be patched. "
                    "Take a layer before or after it."
                )
        return recorded

    def _run(
        self, x: Any, calls: Sequence[LayerCall], patches: Mapping[LayerCall, NDArray[Any]]
    ) -> tuple[Floats, Arrays]:
        edits = {_key(call): [_putting(call.id, array)] for call, array in patches.items()}
        with logits_out(self.view):
            run = Instrumented(view=self.view, read=calls, edits=edits)
            brought = joined(run.batches(x, self.batch_size))
        z = np.asarray(keras.tree.flatten(brought.outputs)[0], np.float64)
        if not np.isfinite(z).all():
            raise DataError("The model's output is NaN or infinite for some samples. Look for such values in x.")
        return (np.concatenate([np.zeros_like(z), z], axis=1) if z.shape[1] == 1 else z), brought.results


def patchable_calls(view: ModelView, layers: Layers = None) -> tuple[Followed, ...]:
    """Calls that compute something and return one tensor with a row per sample, in order of execution.

    Args:
        view: The opened model.
        layers: Which layers; None for all, written operations and blocks that add something of their own included.

    Raises:
        ConfigError: If there is no such layer.
    """
    wanted = None if layers is None else {call.id for call in select_calls(view, layers)}
    left_out = {head.place for head in view.heads if head.via == "input"} & last_activations(view)
    return tuple(
        place
        for place in followed_calls(view)
        if place.fold == 1
        and len(place.firing.output_shapes) == 1
        and place.firing.place not in left_out
        and (wanted is None or place.call.id in wanted)
    )


def _key(call: LayerCall) -> tuple[int, int]:
    return (MODEL if call.place is None else call.place, call.call)


def _putting(name: str, array: NDArray[Any]) -> Edit:
    change = Change(verb="replace", value=array)
    return lambda result, rows: change.apply(result, rows, len(array), (), name)
