"""Two versions of a model, opened side by side on the same samples."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.backends import engine
from analyzer.data_types.data_input import DataInput
from analyzer.data_types.outputs import OutputData
from analyzer.data_types.values import Skipped
from analyzer.errors import DataError, Unsupported
from analyzer.inspection.features import arranged_for, check_whole, open_on
from analyzer.inspection.gather import gather
from analyzer.inspection.guard import untouched_process
from analyzer.inspection.losses import Loss, loss_of
from analyzer.inspection.needs import Context, Need, Predictions
from analyzer.inspection.outputs import OutputHints, check_labels
from analyzer.inspection.sources import ModelSources
from analyzer.inspection.view import ModelView

Floats = NDArray[np.float64]
Metric = Literal["loss", "accuracy"]

_CLASSES = ("multiclass", "sequence", "segmentation")
_LABELS = ("binary", "multilabel")


@dataclass(frozen=True, kw_only=True, eq=False)
class Version:
    """One version of a model.

    Attributes:
        view: The opened model.
        arranged: The samples in the structure that it is called with.
        material: What was gathered, by need; `Skipped` where it does not exist.
        batch_size: Samples per batch that fit.
    """

    view: ModelView
    arranged: Any
    material: Mapping[Need, Any]
    batch_size: int

    @property
    def outputs(self) -> dict[str, OutputData]:
        """Its outputs with their labels, by name.

        Raises:
            Unsupported: If they are of no use, e.g. not finite.
        """
        found: dict[str, OutputData] | Skipped = self.material[Predictions()]
        if isinstance(found, Skipped):
            raise Unsupported(found.reason)
        return found


@contextlib.contextmanager
def opened_versions(
    old: Any,
    new: Any,
    x: Any,
    y: Any,
    *,
    task: str | Mapping[str, str] | None,
    from_logits: bool | Mapping[str, bool] | None,
    batch_size: int,
    seed: int,
    needs: Sequence[Need] = (),
) -> Iterator[tuple[Version, Version]]:
    """Open both versions and gather their outputs; nothing of models and process is changed.

    Args:
        old: A built model, or the path of a ``.keras`` file.
        new: Likewise.
        x: Samples.
        y: Their labels.
        task: The user's word for the outputs; None to work it out.
        from_logits: The user's word on logits; None to work it out.
        batch_size: Most samples per batch.
        seed: Chooses the samples that needs keep.
        needs: What to gather besides.

    Raises:
        ModelError: If a model cannot be opened.
        DataError: If samples or labels do not fit.
    """
    check_whole("batch_size", batch_size)
    if y is None:
        raise DataError("y=None: versions are compared by what they get right; give one label per sample.")
    data = DataInput(list(x) if isinstance(x, tuple) else x, y)
    sources = ModelSources({"old": old, "new": new})

    def version(name: str, model: keras.Model) -> Version:
        arranged = arranged_for(model, data.x_data)
        view = open_on(model, arranged)
        hints = OutputHints(model_name=name, task=task, from_logits=from_logits, losses=sources.losses(name))
        check_labels(view.heads, data, hints)
        context = Context(view=view, data=data, arranged=arranged, hints=hints, seed=seed, batch_size=batch_size)
        gathered = gather(context, (Predictions(), *needs))
        return Version(
            view=view, arranged=arranged, material=gathered.material, batch_size=gathered.batch_size or batch_size
        )

    with untouched_process(), sources.opened("old") as first, sources.opened("new") as second:
        yield version("old", first), version("new", second)


def paired_outputs(old: Version, new: Version) -> list[tuple[OutputData, OutputData]]:
    """Outputs of both versions that predict the same: by name, or the only ones.

    Args:
        old: The version before.
        new: The version after.

    Raises:
        Unsupported: If they have other outputs, or outputs of another kind.
    """
    first, second = old.outputs, new.outputs
    names = dict(zip(first, first, strict=True))
    if len(first) == len(second) == 1:
        names = {next(iter(first)): next(iter(second))}
    if sorted(names.values()) != sorted(second):
        raise Unsupported(f"The old version has outputs {sorted(first)}, the new one {sorted(second)}.")
    for ours, theirs in names.items():
        kinds = first[ours].task.kind, second[theirs].task.kind
        if kinds[0] != kinds[1]:
            raise Unsupported(f"Output {ours!r} predicts {kinds[0]!r} in the old version and {kinds[1]!r} in the new.")
    return [(first[ours], second[theirs]) for ours, theirs in names.items()]


def per_sample(output: OutputData, metric: Metric) -> Loss:
    """The metric of one output as a function of the backend, one value per sample.

    Args:
        output: The output with its labels.
        metric: ``"loss"`` of its task, or ``"accuracy"``: the share of a sample's decisions that are right.

    Raises:
        Unsupported: If there is no such metric for what the output predicts.
    """
    kind = output.task.kind
    if metric == "loss" and kind in (*_CLASSES, *_LABELS, "regression"):
        return loss_of(output)
    if metric == "accuracy" and kind in (*_CLASSES, *_LABELS):
        loss, threshold = loss_of(output), 0.0 if output.task.from_logits else 0.5

        def right(targets: Any, outputs: Any) -> Any:
            decided = keras.ops.argmax(outputs, axis=-1) if kind in _CLASSES else outputs > threshold
            same = keras.ops.equal(keras.ops.cast(decided, "int32"), keras.ops.cast(targets, "int32"))
            return keras.ops.mean(keras.ops.reshape(keras.ops.cast(same, "float32"), (targets.shape[0], -1)), axis=1)

        return Loss(text="accuracy against labels", targets=loss.targets, values=right)
    raise Unsupported(f"Output {output.name!r} predicts {kind!r}, for which there is no {metric} per sample.")


def values_of(output: OutputData, metric: Metric) -> Floats:
    """``(n,)`` values of the metric on the samples as they were gathered.

    Args:
        output: The output with its labels.
        metric: See `per_sample`.

    Raises:
        Unsupported: See `per_sample`.
    """
    measure = per_sample(output, metric)
    with engine().inference():
        values = measure.values(*(keras.ops.convert_to_tensor(array) for array in (measure.targets, output.raw)))
        return np.asarray(engine().to_numpy(values), np.float64)
