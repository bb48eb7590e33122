"""What a model's output predicts, and whether it returns logits.

The user's word goes first, then the compiled loss, then the last activation, then the labels; never row sums alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.config import parse_task
from analyzer.data_types.outputs import OutputTask, TaskKind
from analyzer.inspection.model_config import CompiledLoss, CompiledLosses
from analyzer.inspection.trace import Head

_HOW_TO_CORRECT = "Say task=... (and from_logits=...) in AnalysisConfig, or --task on the command line, to correct it."

PROBABILITY_TOLERANCE = 1e-2
"""How far probabilities may lie outside [0, 1], and their rows from summing to 1 (half precision needs the room)."""

_EXCLUSIVE = ("multiclass", "sequence", "segmentation")

_LOSS_KINDS: dict[str, TaskKind] = {
    "binary_crossentropy": "binary",
    "binary_focal_crossentropy": "binary",
    "categorical_crossentropy": "multiclass",
    "categorical_focal_crossentropy": "multiclass",
    "sparse_categorical_crossentropy": "multiclass",
    "kl_divergence": "multiclass",
    "mean_squared_error": "regression",
    "mean_absolute_error": "regression",
    "mean_absolute_percentage_error": "regression",
    "mean_squared_logarithmic_error": "regression",
    "huber": "regression",
    "log_cosh": "regression",
    "poisson": "regression",
}
"""Keras' losses by full name."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that is known about one output.

    Attributes:
        head: Where the output comes from.
        word: The user's word for the task, or None.
        from_logits: The user's word on logits, or None.
        loss: The compiled loss, or None.
        outputs: What the model returned, shape ``(n, ...)``.
        labels: The user's labels, or None.
    """

    head: Head
    word: str | None
    from_logits: bool | None
    loss: CompiledLoss | None
    outputs: NDArray[Any]
    labels: NDArray[Any] | None


def detect_task(evidence: Evidence) -> OutputTask:
    """Decide what an output predicts from the best evidence there is."""
    sources: tuple[Callable[[Evidence], OutputTask | None], ...] = (_by_user, _by_loss, _by_activation, _by_labels)
    for source in sources:
        task = source(evidence)
        if task is not None:
            return task
    return OutputTask(
        kind="unknown",
        source="output shape",
        reason=f"Neither loss, last activation nor labels tell what this output predicts. {_HOW_TO_CORRECT}",
    )


def _by_user(evidence: Evidence) -> OutputTask | None:
    if evidence.word is None:
        return None
    kind, levels = parse_task(evidence.word)
    return _task(evidence, kind, _returns_logits(evidence, kind), "user", "The user said so.", levels)


def _by_loss(evidence: Evidence) -> OutputTask | None:
    if evidence.loss is None:
        return None
    kind = _LOSS_KINDS.get(evidence.loss.name)
    if kind is None:
        return None
    logits = evidence.loss.from_logits if evidence.from_logits is None else evidence.from_logits
    return _task(evidence, kind, logits, "compiled loss", f"The model was compiled with {evidence.loss.name}.")


def _by_activation(evidence: Evidence) -> OutputTask | None:
    if evidence.head.activation not in ("softmax", "sigmoid"):
        return None
    kind: TaskKind = "multiclass" if evidence.head.activation == "softmax" else "binary"
    if kind == "multiclass" and evidence.outputs.shape[-1] < 2:
        return None
    return _task(
        evidence, kind, bool(evidence.from_logits), "last activation", f"The output ends in {evidence.head.activation}."
    )


def _by_labels(evidence: Evidence) -> OutputTask | None:
    labels, outputs = evidence.labels, evidence.outputs
    if labels is None or outputs.ndim < 1:
        return None
    width = outputs.shape[-1] if outputs.ndim > 1 else 1
    whole = np.issubdtype(labels.dtype, np.integer) or labels.dtype == bool
    classes = width > 1 and whole and _positions(labels, outputs) and int(labels.max(initial=0)) < width
    one_hot = width > 1 and labels.shape == outputs.shape and bool(np.isin(labels, (0, 1)).all())
    if one_hot or classes:
        exclusive = classes or bool((labels.sum(axis=-1) == 1).all())
        kind: TaskKind = "multiclass" if exclusive else "binary"
        why = f"Labels are whole numbers below {width}." if classes else "Labels are rows of zeros and ones."
        return _task(evidence, kind, _returns_logits(evidence, kind), "labels", why)
    if not whole and labels.size and (labels.shape == outputs.shape or labels.size == outputs.size):
        return _task(evidence, "regression", False, "labels", "Labels are real numbers, one per output column.")
    return None


def _positions(labels: NDArray[Any], outputs: NDArray[Any]) -> bool:
    """Whether there is one label per sample (and position)."""
    return labels.shape == outputs.shape[:-1] or labels.shape == (*outputs.shape[:-1], 1)


def _returns_logits(evidence: Evidence, kind: str) -> bool:
    """The user's word, then the last activation; where that is hidden, whether the values can be probabilities."""
    if evidence.from_logits is not None:
        return evidence.from_logits
    if evidence.head.activation in ("softmax", "sigmoid", "linear"):
        return evidence.head.activation == "linear"
    values = np.asarray(evidence.outputs, dtype=np.float64)
    outside = np.abs(values - 0.5).max(initial=0.0) > 0.5 + PROBABILITY_TOLERANCE
    off = np.abs(values.sum(axis=-1) - 1).max(initial=0.0) if kind in _EXCLUSIVE else 0.0
    return bool(outside or off > PROBABILITY_TOLERANCE)


def _task(
    evidence: Evidence, kind: str, from_logits: bool, source: str, why: str, levels: tuple[float, ...] = ()
) -> OutputTask:
    outputs = evidence.outputs
    width = int(outputs.shape[-1]) if outputs.ndim > 1 else 1
    refined: Any = kind
    if kind == "binary" and width > 1 and source != "user":
        # Two columns of independent sigmoids are two labels, not two classes; a softmax makes its columns exclusive.
        refined = "multiclass" if evidence.head.activation == "softmax" else "multilabel"
    elif kind == "binary" and width == 1 and outputs.ndim > 2:
        # One probability at every position: one label, many rows.
        refined = "multilabel"
    if refined == "multiclass" and outputs.ndim > 2:
        refined = "sequence" if outputs.ndim == 3 else "segmentation"
    is_class = refined in ("binary", "multiclass", "multilabel", "sequence", "segmentation")
    return OutputTask(
        kind=refined,
        from_logits=from_logits and is_class,
        source=source,
        reason=f"{why} {_HOW_TO_CORRECT}" if source != "user" else why,
        n_classes=(2 if refined == "binary" else width) if is_class else None,
        quantiles=levels,
    )


def losses_by_output(losses: CompiledLosses, names: Sequence[str]) -> dict[str, CompiledLoss]:
    """The compiled loss of each output that has one.

    Args:
        losses: As `parse_losses` gives them.
        names: Names of the outputs, in order.
    """
    if isinstance(losses, Mapping):
        found = {name: losses.get(name) for name in names}
    elif isinstance(losses, tuple):
        found = dict(zip(names, losses, strict=False))
    else:
        found = dict.fromkeys(names, losses)
    return {name: loss for name, loss in found.items() if isinstance(loss, CompiledLoss)}
