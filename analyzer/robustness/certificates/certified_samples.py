"""The samples that certificates speak of, checked before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.data_input import DataInput
from analyzer.data_types.outputs import OutputTask
from analyzer.errors import DataError, Unsupported
from analyzer.inspection import inputs
from analyzer.inspection.features import arranged_for, open_on
from analyzer.inspection.model_config import CompiledLosses
from analyzer.inspection.outputs import normalise_labels
from analyzer.inspection.task import Evidence, detect_task, losses_by_output
from analyzer.inspection.view import ModelView
from analyzer.robustness.attacks.attackable import check_attackable
from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.bounds_of_model import input_box
from analyzer.robustness.decisions import decided

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class CertifiedSamples:
    """A model and the samples that certificates speak of.

    Attributes:
        attacked: The model.
        x: ``(n, ...)`` the samples, in units of the data and within the bounds of the inputs.
        y: ``(n,)`` the class that each is to be decided for: its label, or else what it is decided for.
        right: ``(n,)`` whether it is decided for that class, strictly before all others.
        indices: ``(n,)`` positions of the samples in the data that were given.
        labelled: Whether there were labels.
    """

    attacked: Attacked
    x: Array
    y: NDArray[np.int64]
    right: NDArray[np.bool_]
    indices: NDArray[np.int64]
    labelled: bool


@dataclass(frozen=True, kw_only=True)
class Told:
    """What is known besides model and data.

    Attributes:
        losses: What the model was compiled with.
        task: The user's word for what it predicts, or None.
        bounds: Of the inputs, where the user says so.
    """

    losses: CompiledLosses
    task: str | None
    bounds: tuple[float, float] | None


def samples_to_certify(
    model: keras.Model, x: Any, y: Any, told: Told, *, n_samples: int | None, batch_size: int, seed: int
) -> CertifiedSamples:
    """Draw samples, and refuse models and data that no certificate can speak of.

    Args:
        model: A built model.
        x: Samples as they were given.
        y: Classes, one-hot rows, or None.
        told: What is known besides.
        n_samples: Most samples, drawn by class; None for all.
        batch_size: Most samples per batch.
        seed: Seed of the draw.

    Raises:
        ConfigError: If the bounds are none.
        DataError: If samples are no floats, outside the bounds or do not fit the model, if labels do not fit, or if the
            model makes no decision for one of several classes by one input.
    """
    given = DataInput(list(x) if isinstance(x, tuple) else x, y)
    _check_floats(given.x_data)
    arranged = arranged_for(model, given.x_data)
    view = open_on(model, arranged)
    try:
        check_attackable(view, _task_of(view, told, given))
    except Unsupported as error:
        raise DataError(f"The model {model.name!r} has nothing to certify. {error}") from error
    rows = keras.tree.flatten(arranged)
    if len(rows) > 1:
        raise DataError(f"x holds {len(rows)} inputs: certificates speak of models with one.")
    box = input_box(view, rows[0], told.bounds)
    labels = None if y is None else _classes(view, given)
    attacked = Attacked(view=view, box=box, batch_size=batch_size, task=_exclusive(view))
    indices = np.asarray(given.sample(n_samples, seed).indices, np.int64)
    drawn = np.clip(keras.tree.flatten(inputs.take(arranged, indices))[0], box.low, box.high)
    z = attacked.all_logits(attacked.to_unit(drawn))
    classes = z.argmax(axis=1).astype(np.int64) if labels is None else labels[indices]
    return CertifiedSamples(
        attacked=attacked,
        x=drawn,
        y=classes,
        right=decided(z) == classes,
        indices=indices,
        labelled=labels is not None,
    )


def _check_floats(x: Any) -> None:
    for array in keras.tree.flatten(x):
        if not np.issubdtype(array.dtype, np.floating):
            raise DataError(
                f"Certificates speak of small steps of float values; x is of {array.dtype}. Give the values as the "
                "model was trained on them, as float32; token ids cannot be moved."
            )


def _task_of(view: ModelView, told: Told, data: DataInput) -> OutputTask | None:
    """What loss, last activation and labels tell of the only output; None for a model of none or several."""
    if len(view.heads) != 1:
        return None
    head = view.heads[0]
    seen = np.broadcast_to(np.float32(0), (len(data), *(size or 1 for size in head.shape[1:])))
    labels = None if isinstance(data.y_data, dict) or data.y_data is None else _whole(data.y_data)
    loss = losses_by_output(told.losses, [head.name]).get(head.name)
    return detect_task(Evidence(head=head, word=told.task, from_logits=None, loss=loss, outputs=seen, labels=labels))


def _whole(y: Array) -> Array:
    """Classes that came as floats as the whole numbers they are."""
    same = y.dtype.kind == "f" and np.isfinite(y).all() and np.array_equal(y, np.round(y))
    return y.astype(np.int64) if same else y


def _exclusive(view: ModelView) -> OutputTask:
    """The task of deciding for one class, by one logit or several."""
    kind: Any = "binary" if view.heads[0].shape[-1] == 1 else "multiclass"
    return OutputTask(kind=kind, source="user", reason="Certificates are about one of several classes.")


def _classes(view: ModelView, data: DataInput) -> NDArray[np.int64]:
    if isinstance(data.y_data, dict):
        raise DataError(f"y holds {sorted(data.y_data)}: expected one array with the class of each sample.")
    head, n = view.heads[0], len(data)
    shape = (n, int(head.shape[-1] or 1))
    return np.asarray(normalise_labels(head.name, data.y_data, shape, _exclusive(view)), np.int64)
