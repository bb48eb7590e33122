"""The quantities that results hold: their short names, where they stand, and which of them a path can reach."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from analyzer.data_types.pareto import Direction
from analyzer.data_types.values import Estimate, Failed, Skipped

NO_RESULTS = (Failed, Skipped)


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One number of a model's results.

    Attributes:
        name: Short name.
        path: The analysis and the fields that lead to the number.
        label: What it is called on figures.
        direction: ``"max"`` where more is better; None where only the results (or the user) can tell.
        gap: Whether it is a generalisation gap, which a model can keep small by not fitting its training data.
        measured: Whether it differs between two equal runs, as times do.
        otherwise: Where the same number stands in results without the first analysis.
    """

    name: str
    path: tuple[str, ...]
    label: str
    direction: Direction | None
    gap: bool = False
    measured: bool = False
    otherwise: tuple[str, ...] = ()


def _quantity(name: str, path: str, label: str, direction: Direction | None, **more: Any) -> Quantity:
    return Quantity(name=name, path=tuple(path.split(".")), label=label, direction=direction, **more)


_QUANTITIES = (
    _quantity("accuracy", "performance.accuracy", "Accuracy", "max"),
    _quantity("f1_macro", "performance.metrics.f1_macro", "Macro F1", "max"),
    _quantity("balanced_accuracy", "performance.metrics.balanced_accuracy", "Balanced accuracy", "max"),
    _quantity("loss", "performance.loss", "Loss", "min"),
    _quantity("peak_performance", "training_dynamics.peak_performance.value", "Peak performance", None),
    _quantity("peak_accuracy", "training_dynamics.peak_performance.value", "Peak accuracy", "max"),
    _quantity("overfitting_index", "training_dynamics.overfitting_index", "Overfitting index", "min", gap=True),
    _quantity(
        "normalized_overfitting_index",
        "training_dynamics.normalized_overfitting_index",
        "Overfitting index (normalised)",
        "min",
        gap=True,
    ),
    _quantity("final_gap", "training_dynamics.final_gap", "Final gap", "min", gap=True),
    _quantity(
        "normalized_final_gap", "training_dynamics.normalized_final_gap", "Final gap (normalised)", "min", gap=True
    ),
    _quantity("evaluated_gap", "training_dynamics.evaluated_gap", "Evaluated gap", "min", gap=True),
    _quantity(
        "normalized_evaluated_gap",
        "training_dynamics.normalized_evaluated_gap",
        "Evaluated gap (normalised)",
        "min",
        gap=True,
    ),
    _quantity("epochs_to_convergence", "training_dynamics.epochs_to_convergence", "Epochs to converge", "min"),
    _quantity(
        "corrected_epochs_to_convergence",
        "training_dynamics.corrected_epochs_to_convergence",
        "Epochs to converge (corrected)",
        "min",
    ),
    _quantity("training_stability_score", "training_dynamics.training_stability_score", "Stability (std)", "min"),
    _quantity("ece", "calibration.ece", "ECE", "min"),
    _quantity("smece", "calibration.smece", "smECE", "min"),
    _quantity("classwise_ece", "calibration.classwise_ece", "Classwise ECE", "min"),
    _quantity("brier", "calibration.brier", "Brier score", "min"),
    _quantity("log_loss", "calibration.log_loss", "Log loss", "min"),
    _quantity("crps", "calibration.crps", "CRPS", "min"),
    _quantity("rmse", "calibration.rmse", "RMSE", "min"),
    _quantity("mae", "calibration.mae", "MAE", "min"),
    _quantity("r2", "calibration.r2", "R²", "max"),
    _quantity("health", "weights.health.score", "Health", "max"),
    _quantity("parameters", "cost.parameters", "Parameters", "min", otherwise=("weights", "totals", "total")),
    _quantity("memory", "cost.parameter_bytes", "Bytes of parameters", "min"),
    _quantity("activation_memory", "cost.activation_bytes", "Bytes of activations", "min"),
    _quantity("flops", "cost.flops", "FLOPs", "min"),
    _quantity("latency", "cost.latency.batch_1.seconds", "Latency (s)", "min", measured=True),
)

QUANTITIES: dict[str, Quantity] = {one.name: one for one in _QUANTITIES}
"""The quantities that have a short name."""

ALIASES = {
    "overfitting": "overfitting_index",
    "convergence": "epochs_to_convergence",
    "stability": "training_stability_score",
}
"""Other words for them."""

BY_PATH = {one.path: one for one in reversed(_QUANTITIES)}


class NoValueError(Exception):
    """A model has no number where one was looked for; the message says why."""


def value_at(result: Any, path: tuple[str, ...], *, output: str | None = None) -> Estimate:
    """The number that a path leads to.

    Args:
        result: Result of one model: a dataclass, `MultiOutput`, `Skipped`, `Failed`, or None where there is none.
        path: The analysis, then the fields and keys; a key may contain dots, an item of a tuple goes by its id, name or
            place.
        output: The output, for a model with several.

    Returns:
        The estimate; a plain number as an estimate of n = 1 without an interval.

    Raises:
        NoValueError: If there is no number, with the reason.
    """
    words = ".".join(path)
    result = result_of(result, path[0], output)
    found = list(_followed(result, path[1:]))
    if not found:
        raise NoValueError(f"there is no {words!r}")
    value = found[0]
    if isinstance(value, bool | int | float):
        value = Estimate(value=float(value), n=1)
    if value is None or (isinstance(value, Estimate) and value.value is None):
        raise NoValueError(f"{words!r} is undefined")
    if not isinstance(value, Estimate):
        raise NoValueError(f"{words!r} is no number")
    return value


def result_of(result: Any, analysis: str, output: str | None = None) -> Any:
    """The result of one model, of the named output where there are several.

    Args:
        result: What stands under the analysis.
        analysis: Its name, for the message.
        output: Name of the output.

    Raises:
        NoValueError: If there is no result, with the reason.
    """
    if result is None:
        raise NoValueError(f"the analysis {analysis!r} has no result")
    if isinstance(result, NO_RESULTS):
        raise NoValueError(f"the analysis {analysis!r} {_was(result)}")
    outputs = getattr(result, "outputs", None)
    if not isinstance(outputs, Mapping):
        return result
    if output is None:
        names = ", ".join(map(repr, outputs))
        raise NoValueError(f"it has several outputs ({names}): add @ and the name of one to the objective")
    if output not in outputs:
        raise NoValueError(f"it has no output {output!r}")
    return result_of(outputs[output], analysis)


def _was(result: Any) -> str:
    return f"was skipped: {result.reason}" if isinstance(result, Skipped) else f"failed: {result.reason}"


def _followed(node: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """Everything that a path can mean."""
    if not path:
        yield node
    elif isinstance(node, Mapping):
        for length in range(1, len(path) + 1):
            key = ".".join(path[:length])
            if key in node:
                yield from _followed(node[key], path[length:])
    elif isinstance(node, list | tuple):
        for length in range(1, len(path) + 1):
            for place, item in enumerate(node):
                if ".".join(path[:length]) in (str(place), getattr(item, "id", None), getattr(item, "name", None)):
                    yield from _followed(item, path[length:])
    elif dataclasses.is_dataclass(node) and path[0] in {field.name for field in dataclasses.fields(node)}:
        yield from _followed(getattr(node, path[0]), path[1:])


# ---- what there can be, from type hints


def leaves(hint: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """The types of number that a path can lead to.

    Args:
        hint: Type hint of a result.
        path: Fields and keys.
    """
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        for option in get_args(hint):
            yield from leaves(option, path)
    elif not path:
        if hint in (Estimate, int, float, bool, Any):
            yield hint
    elif hint is Any:
        yield hint
    elif dataclasses.is_dataclass(hint) and isinstance(hint, type):
        fields = get_type_hints(hint)
        if path[0] in fields:
            yield from leaves(fields[path[0]], path[1:])
    elif origin is tuple or (isinstance(origin, type) and issubclass(origin, Mapping)):
        item = get_args(hint)[0 if origin is tuple else 1]
        # A key or the id of an item is any text, also one with dots.
        for length in range(1, len(path) + 1):
            yield from leaves(item, path[length:])


def first_words(hint: Any) -> Iterator[str]:
    """The first words of the paths that lead somewhere.

    Args:
        hint: Type hint of a result.
    """
    if get_origin(hint) in (Union, types.UnionType):
        for option in get_args(hint):
            yield from first_words(option)
    elif dataclasses.is_dataclass(hint) and hint not in NO_RESULTS:
        yield from (field.name for field in dataclasses.fields(hint) if field.name != "findings")
