"""What can be attacked: models that tell classes apart, one decision per sample, by inputs of float values."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.outputs import OutputTask
from analyzer.errors import DataError, Unsupported
from analyzer.inspection.model_config import CompiledLosses, parse_losses
from analyzer.inspection.task import Evidence, detect_task, losses_by_output
from analyzer.inspection.trace import Head
from analyzer.inspection.view import ModelView
from analyzer.robustness.bounds import check_finite

EXCLUSIVE = ("binary", "multiclass", "unknown")
"""Tasks whose decision is one class per sample; an output of unknown task is taken for one."""


def check_attackable(view: ModelView, task: OutputTask | None = None) -> None:
    """Refuse a model that attacks cannot say anything about.

    Args:
        view: The opened model.
        task: What the output predicts; None for what loss and last activation tell.

    Raises:
        Unsupported: If it has several inputs or outputs, inputs of whole numbers, another shape of output than a row of
            classes, fewer than two classes, or a task without classes.
    """
    declared = getattr(view.model, "inputs", None) or []
    if len(declared) > 1 or len(view.heads) > 1:
        raise Unsupported("Attacks need a model with one input and one output.")
    if not view.heads:
        raise Unsupported("The model could not be traced. Open it with a few samples: open_model(model, x[:1]).")
    _check_inputs(view)
    head = view.heads[0]
    if len(head.shape) != 2:
        raise Unsupported(
            f"Attacks need one decision per sample: an output of shape (samples, classes), not {tuple(head.shape)}."
        )
    if head.shape[-1] == 1 and head.activation == "softmax":
        raise Unsupported("A softmax of one value is always 1: attacks need two classes. Use a sigmoid.")
    task = _told(view, head) if task is None else task
    if task.kind not in EXCLUSIVE:
        raise Unsupported(
            f"Attacks change decisions for one of several classes; the task is {task.kind}. {task.reason}"
        )


def check_samples(u: NDArray[Any], y: NDArray[Any], n_classes: int) -> None:
    """Refuse samples and classes that no attack can start from.

    Args:
        u: Inputs from 0 to 1, ``(n, ...)``.
        y: True classes, ``(n,)``.
        n_classes: How many there are.

    Raises:
        DataError: If inputs are no float values, not finite or outside of 0 to 1, or classes are not among those of the
            model.
    """
    if not np.issubdtype(u.dtype, np.floating):
        raise DataError(
            f"Attacks see inputs of float values from 0 to 1; these are of {u.dtype}. Pixels can be made so by "
            'to_unit(x.astype("float32")); token ids cannot be moved.'
        )
    check_finite(u, "attacking")
    if u.min() < 0 or u.max() > 1:
        raise DataError(
            f"Attacks see inputs from 0 to 1; these reach from {float(u.min()):g} to {float(u.max()):g}. Bring them "
            "there by to_unit."
        )
    fits = y.shape == (len(u),) and np.issubdtype(y.dtype, np.integer)
    if not fits or y.min() < 0 or y.max() >= n_classes:
        raise DataError(
            f"Expected one class per sample, whole numbers from 0 to {n_classes - 1} in shape ({len(u)},); got "
            f"{y.dtype} of shape {y.shape}" + (f" from {y.min()} to {y.max()}." if fits else ".")
        )


def _check_inputs(view: ModelView) -> None:
    for tensor in getattr(view.model, "inputs", None) or []:
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        if not keras.backend.is_float_dtype(dtype):
            raise Unsupported(
                f"Attacks move inputs of float values by small amounts; input {tensor.name!r} takes {dtype}. Pixels "
                "can be declared as float32; token ids cannot be moved."
            )
    for firing in view.firings:
        place = view.places[firing.place]
        if isinstance(place, keras.layers.Embedding) and any(source < 0 for source in firing.sources):
            raise Unsupported(
                f"The inputs are token ids, which layer {place.name!r} looks up: they cannot be moved by small amounts."
            )


def _told(view: ModelView, head: Head) -> OutputTask:
    """What loss and last activation tell."""
    losses = losses_by_output(_compiled_losses(view.model), [head.name])
    none_seen = np.zeros((0, *(size or 1 for size in head.shape[1:])))
    return detect_task(
        Evidence(head=head, word=None, from_logits=None, loss=losses.get(head.name), outputs=none_seen, labels=None)
    )


def _compiled_losses(model: keras.Model) -> CompiledLosses:
    if not getattr(model, "compiled", False):
        return None
    try:
        with warnings.catch_warnings():
            # Keras warns that a lambda is unsafe to save; nothing is saved here.
            warnings.simplefilter("ignore")
            return parse_losses((model.get_compile_config() or {}).get("loss"))
    except (TypeError, ValueError, AttributeError, NotImplementedError):
        # A loss of the user's own that cannot be serialised says nothing about the task.
        return None
