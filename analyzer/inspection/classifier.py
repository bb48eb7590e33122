"""`Classifier`: the last layer with a kernel, what it receives, and what the model decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import Unsupported
from analyzer.inspection import compat, inputs, logical_weights
from analyzer.inspection.needs import Context, Features, Predictions
from analyzer.inspection.reducers import Tap, seeded_samples
from analyzer.inspection.view import ModelView


@dataclass(frozen=True, kw_only=True, eq=False)
class LastLayer:
    """The last layer with a kernel, on the kept samples.

    Attributes:
        layer: Its id.
        features: ``(n, d)`` what it receives, averaged over positions.
        labels: ``(n,)`` classes.
        decisions: ``(n,)`` classes that the model chose.
        kernel: ``(K, d)`` its weights, a class per row; None where it is no matrix of that form.
    """

    layer: str
    features: NDArray[np.floating]
    labels: NDArray[np.int64]
    decisions: NDArray[np.int64]
    kernel: NDArray[np.float64] | None


@dataclass(frozen=True)
class Classifier:
    """What neural collapse is measured on, for models with one output of exclusive classes.

    Gathered as `LastLayer`.

    Attributes:
        n_samples: Most samples to keep.
    """

    n_samples: int = 512

    requires_data = True

    def taps(self, view: ModelView) -> tuple[Tap, ...]:
        """Those of the last hidden layer and of the predictions."""
        return (*Features(self.n_samples).taps(view), *Predictions().taps(view))

    def finish(self, collected: Sequence[Any], context: Context) -> LastLayer:
        """Features, labels and decisions of the kept samples."""
        taps = Features(self.n_samples).taps(context.view)
        outputs = list(Predictions().finish(collected[len(taps) :], context).values())
        output = outputs[0]
        if len(outputs) > 1 or output.task.kind not in ("binary", "multiclass") or output.probabilities is None:
            raise Unsupported("Neural collapse is defined for one output of exclusive classes.")
        if output.labels is None:
            raise Unsupported("Neural collapse is measured against labels, and none were given.")
        kept = np.sort(seeded_samples(inputs.count(context.arranged), self.n_samples, context.seed))
        features = Features(self.n_samples).finish(collected[: len(taps)], context)
        probabilities = output.probabilities[kept]
        decisions = probabilities >= 0.5 if output.task.kind == "binary" else probabilities.argmax(axis=-1)
        layer = context.view.places[taps[0].position]
        info = next((info for info in context.view.layers if info.layer is layer), None)
        return LastLayer(
            layer=layer.name if info is None else info.id,
            features=features,
            labels=output.labels[kept].astype(np.int64),
            decisions=decisions.astype(np.int64),
            kernel=_kernel(layer, features.shape[1]),
        )


def _kernel(layer: Any, width: int) -> NDArray[np.float64] | None:
    kernel = next((v for v in compat.own_variables(layer) if v.name == "kernel" and len(v.shape) == 2), None)
    if kernel is None:
        return None
    values = np.asarray(logical_weights.read(layer, "kernel", kernel).values, dtype=np.float64)
    return values.T if values.ndim == 2 and values.shape[0] == width else None
