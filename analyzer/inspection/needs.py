"""What an analyzer can ask the gather pass for.

A need is a frozen dataclass: equal needs of several analyzers are served once. It names the `taps` that it sets on an
opened model, and `finish` turns what the taps brought into material.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from analyzer.backends import engine
from analyzer.data_types.data_input import DataInput
from analyzer.data_types.outputs import OutputData
from analyzer.errors import Unsupported
from analyzer.inspection.outputs import OutputHints, describe_outputs
from analyzer.inspection.reducers import Collect, KeepSamples, Tap
from analyzer.inspection.trace import Head
from analyzer.inspection.view import ModelView
from analyzer.inspection.weights import DescribedWeights, describe_weights


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a need may know besides the taps' results.

    Attributes:
        view: The opened model.
        data: The samples looked at, or None.
        arranged: Their inputs in the structure that the model is called with, or None.
        batch_size: Samples per batch.
        hints: What the user and the file say about the outputs.
        seed: Seed of the run.
        progress: Called with what is being done, steps done and steps in all.
    """

    view: ModelView
    data: DataInput | None
    arranged: Any | None
    hints: OutputHints
    seed: int
    batch_size: int
    progress: Callable[[str, int, int], None] = lambda _what, _done, _total: None


@runtime_checkable
class Need(Protocol):
    """A frozen, hashable request for material.

    A need with ``accepts_missing = True`` is finished also where some of its taps brought nothing; `finish` then
    receives an `Unsupported` in their place.
    """

    @property
    def requires_data(self) -> bool:
        """Whether it can only be met by running the model over data."""

    def taps(self, view: ModelView) -> tuple[Tap, ...]:
        """Where to tap the model, and how each tap is reduced.

        Raises:
            Unsupported: If the model has no such place.
        """

    def finish(self, collected: Sequence[Any], context: Context) -> Any:
        """The material, from what each tap brought, in the order of `taps`.

        Raises:
            Unsupported: If the material does not exist for this model and these data.
        """


@dataclass(frozen=True)
class Predictions:
    """Outputs of the model for every sample.

    Gathered as ``dict[str, OutputData]`` by output name, with task, probabilities, logits and labels worked out.
    """

    requires_data = True

    def taps(self, view: ModelView) -> tuple[Tap, ...]:
        """One tap per output, and one where its logits can be read."""
        outputs = [Tap(source="model", position=i, reducer=Collect()) for i in range(len(view.heads))]
        return (*outputs, *(tap for head in view.heads if (tap := _logit_tap(head)) is not None))

    def finish(self, collected: Sequence[Any], context: Context) -> dict[str, OutputData]:
        """Outputs with the labels brought into the matching form."""
        heads = context.view.heads
        rest = iter(collected[len(heads) :])
        logits = [next(rest) if _logit_tap(head) is not None else None for head in heads]
        if context.data is None:
            raise Unsupported("No data were given.")
        return describe_outputs(heads, collected[: len(heads)], logits, context.data, context.hints)


@dataclass(frozen=True)
class Features:
    """What the last hidden layer says about a shared, seeded subset of the samples.

    Gathered as float32 array ``(min(n, n_samples), d)``: the input of the last layer that has a kernel, averaged over
    positions where it has any; rows in sample order, the same samples for all models.

    Attributes:
        n_samples: Most samples to keep.
    """

    n_samples: int = 512

    requires_data = True

    def taps(self, view: ModelView) -> tuple[Tap, ...]:
        """One tap, on the input of the last layer with a kernel."""
        kernels = {id(v.owner.layer) for v in view.variables if v.trainable and len(v.variable.shape) > 1}
        for firing in reversed(view.firings):
            if id(view.places[firing.place]) in kernels:
                reducer = KeepSamples(n_samples=self.n_samples)
                return (Tap(source="input", position=firing.place, call=firing.call, reducer=reducer),)
        raise Unsupported("The model has no layer with a kernel that fires by itself, so it has no last hidden layer.")

    def finish(self, collected: Sequence[Any], context: Context) -> np.ndarray:
        """One row per kept sample."""
        del context
        (kept,) = collected
        features = np.asarray(kept, dtype=np.float32)
        flat: np.ndarray = features.reshape(len(features), -1, features.shape[-1] if features.ndim > 1 else 1)
        return np.asarray(flat.mean(axis=1))


@dataclass(frozen=True)
class Weights:
    """Statistics of every variable of the model; needs no data.

    Gathered as `DescribedWeights`.
    """

    requires_data = False

    def taps(self, view: ModelView) -> tuple[Tap, ...]:
        """None: variables are read, not run."""
        del view
        return ()

    def finish(self, collected: Sequence[Any], context: Context) -> DescribedWeights:
        """Statistics of each variable, once."""
        del collected
        step = functools.partial(context.progress, "weights")
        return describe_weights(context.view, engine(), seed=context.seed, step=step)


def _logit_tap(head: Head) -> Tap | None:
    if head.place is None or head.via is None or head.via == "output":
        return None
    return Tap(source=head.via, position=head.place, call=-1, reducer=Collect())
