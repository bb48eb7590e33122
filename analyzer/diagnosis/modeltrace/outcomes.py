"""What a model decides, and whether it is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.data_input import DataInput
from analyzer.data_types.outputs import OutputData
from analyzer.data_types.values import Skipped
from analyzer.inspection.gather import gather
from analyzer.inspection.model_config import CompiledLosses
from analyzer.inspection.needs import Context, Predictions
from analyzer.inspection.outputs import OutputHints
from analyzer.inspection.view import ModelView


def predicted(
    view: ModelView,
    arranged: Any,
    y: Any,
    *,
    losses: CompiledLosses,
    batch_size: int,
    task: str | None = None,
    told: Callable[[str, int, int], None] = lambda _what, _done, _total: None,
) -> OutputData | None:
    """The output of a model on some samples, with probabilities and labels where it has them.

    Args:
        view: The opened model.
        arranged: Samples in the structure that it is called with.
        y: Labels, or None.
        losses: The compiled losses, which tell the task.
        batch_size: Most samples per batch.
        task: The user's word for what the output predicts; None to go by losses, last activation and labels.
        told: Told of progress.

    Returns:
        None for a model of several outputs, and where outputs are not finite.

    Raises:
        DataError: If labels do not fit the output.
    """
    hints = OutputHints(model_name=view.model.name, task=task, losses=losses)
    context = Context(
        view=view,
        data=DataInput(arranged if not isinstance(arranged, tuple) else list(arranged), y),
        arranged=arranged,
        hints=hints,
        seed=0,
        batch_size=batch_size,
        progress=told,
    )
    found = gather(context, [Predictions()]).material[Predictions()]
    return None if isinstance(found, Skipped) or len(found) != 1 else next(iter(found.values()))


def decisions(output: OutputData | None) -> NDArray[np.int64] | None:
    """The class that each sample is given; None for outputs that do not choose one class per sample.

    Args:
        output: What `predicted` returned.
    """
    if output is None:
        return None
    if output.task.kind == "binary" and output.probabilities is not None:
        return np.asarray(output.probabilities > 0.5, dtype=np.int64)
    exclusive = output.task.kind in ("multiclass", "unknown")
    if exclusive and output.raw.ndim == 2 and output.raw.shape[1] > 1:
        return np.asarray(output.raw.argmax(axis=1), dtype=np.int64)
    return None


def verdicts(output: OutputData | None) -> NDArray[np.bool_] | None:
    """Whether each sample is given its true class; None without labels or classes.

    Args:
        output: What `predicted` returned.
    """
    chosen = decisions(output)
    if output is None or chosen is None or output.labels is None or output.labels.ndim != 1:
        return None
    return np.asarray(chosen == output.labels)
