"""What a model said and what was true: one `OutputData` per model output, in the form that analyses need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

TaskKind = Literal[
    "binary", "multiclass", "multilabel", "regression", "gaussian", "quantile", "sequence", "segmentation", "unknown"
]


@dataclass(frozen=True, kw_only=True)
class OutputTask:
    """What one output of a model predicts, and how we know.

    Attributes:
        kind: ``binary`` (one probability), ``multiclass`` (K exclusive classes), ``multilabel`` (L independent ones),
            ``regression`` (points), ``gaussian`` (first half of the columns means, second half variances),
            ``quantile`` (one column per level), ``sequence`` and ``segmentation`` (classes at every position), or
            ``unknown``.
        from_logits: Whether the model returns logits rather than probabilities.
        source: Where the knowledge comes from: ``"user"``, ``"compiled loss"``, ``"last activation"``, ``"labels"``,
            or ``"output shape"``.
        reason: One sentence for people, also saying how to correct it.
        n_classes: Number of classes or labels; None for regression.
        quantiles: Levels of a quantile head, ascending; empty otherwise.
    """

    kind: TaskKind
    from_logits: bool = False
    source: str = "user"
    reason: str = ""
    n_classes: int | None = None
    quantiles: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class OutputData:
    """One output of one model on the samples looked at, with the labels brought into the matching form.

    With m = n samples, or n · positions for sequences and segmentation (positions flattened, sample-major):

    Attributes:
        name: Name of the output.
        task: What it predicts.
        raw: What the model returned, shape ``(n, ...)``, in the model's dtype.
        probabilities: float64 in [0, 1]: ``(m,)`` P(y=1) for binary, ``(m, K)`` with rows summing to 1 for multiclass,
            sequence and segmentation, ``(m, L)`` for multilabel; None for regression kinds and unknown.
        logits: float64, same shape as ``probabilities``: the input of the model's last softmax or sigmoid, or its
            output if that is what it returns; None where the model has no such place.
        labels: ``(m,)`` int class indices (0/1 for binary), ``(m, L)`` int 0/1 for multilabel, ``(m, d)`` float64 for
            regression kinds; None without labels.
        groups: ``(m,)`` int sample index of each row where rows are not independent (sequence, segmentation), else
            None. Resample whole groups.
        sample_weight: ``(m,)`` float64, or None.
        class_names: One name per class where the user gave them, else empty.
    """

    name: str
    task: OutputTask
    raw: NDArray[Any]
    probabilities: NDArray[np.float64] | None = None
    logits: NDArray[np.float64] | None = None
    labels: NDArray[Any] | None = None
    groups: NDArray[np.int64] | None = None
    sample_weight: NDArray[np.float64] | None = None
    class_names: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Number of samples (not positions)."""
        return int(self.raw.shape[0])
