"""The loss and metrics that a model was compiled with, computed from gathered predictions without running it again."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.data_types import Estimate, OutputData
from analyzer.inspection.model_config import parse_losses, references, refuse_code
from analyzer.inspection.task import losses_by_output

_ACCURACY = ("accuracy", "acc", "sparse_categorical_accuracy", "categorical_accuracy", "binary_accuracy")
_ACCURACY_CLASSES = ("SparseCategoricalAccuracy", "CategoricalAccuracy", "BinaryAccuracy")
"""What `PerformanceResult.accuracy` already says, with an interval."""


class CompiledMetrics:
    """Loss and metrics by output.

    Args:
        compile_config: What ``model.get_compile_config()`` returns, or the entry of a ``.keras`` file; None for a model
            that was not compiled. A ``live_loss`` in it goes before its plain values, which may lack parameters.
        names: Names of the outputs, in order.
    """

    def __init__(self, compile_config: Mapping[str, Any] | None, names: list[str]) -> None:
        config = compile_config or {}
        self._loss = _by_output(config.get("live_loss", config.get("loss")), names)
        self._metrics = _by_output(config.get("metrics"), names)
        self._weighted_metrics = _by_output(config.get("weighted_metrics"), names)
        self._losses = losses_by_output(parse_losses(config.get("loss")), names)

    def loss(self, output: OutputData, notes: list[str]) -> tuple[str, NDArray[np.float64]] | None:
        """Name of the compiled loss and its value for every row, or None where there is none.

        Args:
            output: Predictions and labels.
            notes: Receives the reason where the loss cannot be computed.
        """
        hint, config = self._losses.get(output.name), self._loss.get(output.name)
        if hint is None:
            return None

        def compute() -> NDArray[np.float64]:
            _refuse_code(config)
            function = keras.losses.get(config)
            function = getattr(function, "call", function)
            values = keras.ops.convert_to_numpy(function(*_tensors(output, sparse=hint.name.startswith("sparse"))))
            rows = np.asarray(values, dtype=np.float64).reshape(len(np.asarray(output.labels)), -1)
            return np.asarray(rows.mean(axis=1))

        # Registered functions carry their package, lambdas no name.
        name = hint.name.rpartition(">")[2].strip("_")
        values = _noted(compute, f"The compiled loss {name} could not be computed", notes)
        return None if values is None else (name, values)

    def metrics(self, output: OutputData, notes: list[str]) -> dict[str, Estimate]:
        """Compiled metrics by name, without intervals: they need not be means over samples.

        As in Keras, sample weights count for ``weighted_metrics`` only.

        Args:
            output: Predictions and labels.
            notes: Receives the reasons where metrics cannot be computed.
        """
        found: dict[str, Estimate] = {}
        weight = output.sample_weight
        if weight is not None and output.groups is not None:
            weight = weight.reshape(output.raw.shape[:-1])
        plain, weighted = (_flat(metrics.get(output.name)) for metrics in (self._metrics, self._weighted_metrics))
        for entry, weights in [*((entry, None) for entry in plain), *((entry, weight) for entry in weighted)]:
            name = _metric_name(entry)
            if name is None or _is_accuracy(entry):
                continue
            sparse = self._takes_indices(entry, output.name)
            compute = functools.partial(_metric_value, entry, name, output, sparse=sparse, weight=weights)
            value = _noted(compute, f"The compiled metric {name} could not be computed", notes)
            if value is not None:
                key = name if name not in found else f"weighted_{name}"
                found[key] = Estimate(value=value if np.isfinite(value) else None, n=output.n)
        return found

    def _takes_indices(self, entry: Any, output_name: str) -> bool:
        """Whether a metric gets class indices rather than one-hot rows: by its name, else as the loss does."""
        words = f"{_metric_name(entry)} {entry.get('class_name') if isinstance(entry, Mapping) else ''}".lower()
        if "sparse" in words or "categorical" in words:
            return "sparse" in words
        loss = self._losses.get(output_name)
        return loss is not None and loss.name.startswith("sparse")


def _metric_value(
    entry: Any, name: str, output: OutputData, *, sparse: bool, weight: NDArray[np.float64] | None
) -> float:
    _refuse_code(entry)
    made = keras.metrics.get(entry)
    metric = made if isinstance(made, keras.metrics.Metric) else keras.metrics.MeanMetricWrapper(made, name)
    metric.update_state(*_tensors(output, sparse=sparse), sample_weight=weight)
    return float(np.mean(keras.ops.convert_to_numpy(metric.result())))


def _refuse_code(entry: Any) -> None:
    """Refuse what a model file names that is neither Keras' own nor registered by the user: it is not looked up."""
    found = list(references({"compiled": entry}))
    refuse_code(found, lambda name: keras.saving.get_registered_object(name) is not None, "compile_config")


def _is_accuracy(entry: Any) -> bool:
    if isinstance(entry, Mapping) and entry.get("class_name") != "function":
        config = entry.get("config")
        threshold = config.get("threshold", 0.5) if isinstance(config, Mapping) else 0.5
        return entry.get("class_name") in _ACCURACY_CLASSES and threshold == 0.5
    return _metric_name(entry) in _ACCURACY


def _tensors(output: OutputData, *, sparse: bool) -> tuple[Any, Any]:
    """Labels and raw predictions as tensors of the backend: a user's own function need not understand arrays."""
    labels, raw = _as_keras(output, sparse=sparse)
    return keras.ops.convert_to_tensor(labels), keras.ops.convert_to_tensor(raw)


def _as_keras(output: OutputData, *, sparse: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    """Labels and raw predictions in the form that a Keras loss expects."""
    labels, raw = output.labels, np.asarray(output.raw, dtype=np.float32)
    if labels is None:
        raise ValueError("no labels")
    if output.task.kind in ("binary", "regression", "gaussian", "quantile"):
        raw = raw if raw.ndim > 1 else raw[:, None]
        same = labels.size == raw.size
        return labels.reshape(raw.shape if same else (len(raw), -1)).astype(np.float32), raw
    if output.task.kind == "multilabel":
        return labels.reshape(raw.shape).astype(np.float32), raw
    if sparse:
        return labels.reshape(raw.shape[:-1]), raw
    return np.eye(raw.shape[-1], dtype=np.float32)[labels].reshape(raw.shape), raw


def _by_output(entry: Any, names: list[str]) -> dict[str, Any]:
    if isinstance(entry, Mapping) and "class_name" not in entry:
        return {name: entry.get(name) for name in names}
    if isinstance(entry, list | tuple) and len(names) > 1 and len(entry) == len(names):
        return dict(zip(names, entry, strict=True))
    return dict.fromkeys(names, entry)


def _flat(entry: Any) -> list[Any]:
    if entry is None:
        return []
    return [item for part in entry for item in _flat(part)] if isinstance(entry, list | tuple) else [entry]


def _metric_name(entry: Any) -> str | None:
    if isinstance(entry, str):
        return entry
    config = entry.get("config") if isinstance(entry, Mapping) else None
    if isinstance(config, Mapping):
        return str(config.get("name") or entry["class_name"]).rpartition(">")[2]
    return config.rpartition(">")[2] if isinstance(config, str) else None


def _noted(compute: Callable[[], Any], what: str, notes: list[str]) -> Any:
    try:
        return compute()
    except Exception as error:  # noqa: BLE001 - a user's own metric may raise anything; the rest goes on
        notes.append(f"{what}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        return None
