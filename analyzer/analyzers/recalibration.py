"""`recalibrate`: the same model with calibrated probabilities."""

from __future__ import annotations

from typing import Any

import keras

from analyzer.data_types.calibration import ClassificationCalibration, MultiLabelCalibration
from analyzer.data_types.calibration_parts import RecalibrationSuggestion
from analyzer.data_types.results import MultiOutput
from analyzer.data_types.values import Failed, Skipped
from analyzer.errors import DataError, ModelError
from analyzer.inspection.recalibrated_model import RecalibratedModel, calibrated_outputs
from analyzer.inspection.recalibration_layers import calibration_layer
from analyzer.measures.recalibration import METHODS

Recalibratable = ClassificationCalibration | MultiLabelCalibration


def recalibrate(model: keras.Model, result: Any, method: str | None = None) -> keras.Model:
    """A new model that returns calibrated probabilities; it shares the weights of the given one, which stays as it is.

    Args:
        model: The model that was analysed, built.
        result: Its calibration, ``results.calibration[name]``; with several outputs, those without a suggestion are
            passed through.
        method: ``"temperature"``, ``"vector"`` or ``"isotonic"``; None takes the one with the greatest cross-validated
            gain in log loss.

    Returns:
        A Functional model around ``model``, or a `RecalibratedModel` where that one has no symbolic inputs. It returns
        probabilities also where the model returns logits, and is not compiled. It can be saved as ``.keras``; import
        `analyzer.inspection.recalibrated_model` before loading it with Keras, so that Keras knows its layers.

    Raises:
        DataError: If the result holds no recalibration, or the method is not among them.
        ModelError: If the model is not a built Keras model.
    """
    if not isinstance(model, keras.Model):
        raise ModelError(
            f"recalibrate got {type(model).__name__}; expected the keras.Model that was analysed. Load a file first: "
            "keras.saving.load_model(path)."
        )
    if not model.built:
        raise ModelError(f"Model {model.name!r} was never built. Call it on a batch of inputs first.")
    layers = _layers(result, method)
    inputs = _symbolic_inputs(model)
    if inputs is None:
        return RecalibratedModel(model, layers, name=f"{model.name}_recalibrated")
    return keras.Model(inputs, calibrated_outputs(layers, model, model(inputs)), name=f"{model.name}_recalibrated")


def _layers(result: Any, method: str | None) -> dict[str, keras.layers.Layer]:
    """Recalibration layer by name of the output; the key ``""`` stands for a single output."""
    if method is not None and method not in METHODS:
        raise DataError(f"method={method!r}: expected one of {', '.join(map(repr, METHODS))}, or None for the best.")
    if isinstance(result, MultiOutput):
        usable = {name: one for name, one in result.outputs.items() if isinstance(one, Recalibratable)}
        chosen = {name: (one, _suggestion(one, method)) for name, one in usable.items() if one.recalibration}
        if not chosen:
            raise DataError("No output of this model has a recalibration: none of them predicts classes or labels.")
    else:
        chosen = {"": (_checked(result), _suggestion(_checked(result), method))}
    return {
        name: calibration_layer(suggestion.map, from_logits=one.from_logits, name=_layer_name(name))
        for name, (one, suggestion) in chosen.items()
    }


def _checked(result: Any) -> Recalibratable:
    if isinstance(result, Skipped | Failed):
        raise DataError(f"There is no calibration to recalibrate with: {result.reason}")
    if not isinstance(result, Recalibratable):
        raise DataError(
            f"recalibrate got {type(result).__name__}; expected results.calibration[name] of a model that predicts "
            "classes or labels."
        )
    return result


def _suggestion(result: Recalibratable, method: str | None) -> RecalibrationSuggestion:
    known = {suggestion.map.method: suggestion for suggestion in result.recalibration}
    if not known:
        raise DataError(f"This result suggests no recalibration. {' '.join(result.notes)}".strip())
    if method is None:
        return result.recalibration[0]
    for name, suggestion in known.items():
        if name == method:
            return suggestion
    raise DataError(f"method={method!r} was not fitted; this result has {', '.join(map(repr, known))}.")


def _layer_name(output: str) -> str:
    # Keras refuses "/" in names; the output keeps its own name wherever it can.
    return output.replace("/", "_") if output else "recalibration"


def _symbolic_inputs(model: keras.Model) -> Any:
    """Fresh inputs in the structure that the model is called with; None where it has none (a subclassed model)."""
    flat = getattr(model, "inputs", None)
    if not flat:
        return None
    # A Sequential model has inputs, but no `input` of its own.
    structure = flat[0] if len(flat) == 1 and isinstance(model, keras.Sequential) else model.input
    return keras.tree.map_structure(
        lambda tensor: keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name), structure
    )
