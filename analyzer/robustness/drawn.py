"""The samples that robustness is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.outputs import OutputData
from analyzer.errors import Unsupported
from analyzer.inspection import inputs
from analyzer.inspection.needs import Context, Predictions

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """The samples that robustness is measured on.

    Attributes:
        rows: Their positions among the samples looked at.
        indices: Their positions in the user's data.
        x: The one input, ``(n, ...)``.
        y: ``(n,)`` their classes.
        output: The model's output, with what it predicts.
    """

    rows: NDArray[np.int64]
    indices: NDArray[np.int64]
    x: Array
    y: NDArray[np.int64]
    output: OutputData


def drawn_samples(collected: Sequence[Any], context: Context, n_samples: int) -> Drawn:
    """A seeded, stratified subset of the samples of a classifier with one input, with their classes.

    Args:
        collected: What the taps of the predictions brought.
        context: What is known of model and data.
        n_samples: Most samples.

    Raises:
        Unsupported: If the model does not decide for one class per sample, or there are no labels.
    """
    if context.data is None:
        raise Unsupported("No data were given.")
    outputs = Predictions().finish(collected, context)
    flat = keras.tree.flatten(context.arranged)
    if len(outputs) > 1 or len(flat) > 1:
        raise Unsupported("Robustness is measured for models with one input and one output.")
    output = next(iter(outputs.values()))
    if output.task.kind not in ("binary", "multiclass"):
        raise Unsupported(
            f"Robustness is about decisions for one of several classes; the task is {output.task.kind}. "
            f"{output.task.reason}"
        )
    if output.labels is None:
        raise Unsupported("No labels were given: pass y_data (key y in an .npz file) to measure robustness.")
    data = context.data.sample(n_samples, context.seed)
    rows = np.arange(len(context.data)) if data.indices is None else data.indices
    indices = rows if context.data.indices is None else context.data.indices[rows]
    x = keras.tree.flatten(inputs.take(context.arranged, rows))[0]
    return Drawn(rows=rows, indices=indices, x=x, y=np.asarray(output.labels, np.int64)[rows], output=output)
