"""A model followed by recalibration layers; importing this file lets Keras load such models from files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from analyzer.errors import DataError
from analyzer.inspection import recalibration_layers
from analyzer.inspection.trace import named_outputs


@keras.saving.register_keras_serializable(package=recalibration_layers.PACKAGE)
class RecalibratedModel(keras.Model):  # type: ignore[misc]
    """A model without symbolic inputs (a subclassed one), followed by recalibration layers.

    Args:
        model: The model.
        calibrators: Recalibration layer by name of the output; the key ``""`` serves a single output.
        **kwargs: Arguments of `keras.Model`.
    """

    def __init__(self, model: keras.Model, calibrators: Mapping[str, keras.layers.Layer], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.calibrators = dict(calibrators)
        self.built = model.built

    def call(self, inputs: Any) -> Any:
        """Calibrated probabilities."""
        return calibrated_outputs(self.calibrators, self.model, self.model(inputs))

    def get_config(self) -> dict[str, Any]:
        """Configuration from which the model is made again."""
        serialize = keras.saving.serialize_keras_object
        calibrators = {name: serialize(layer) for name, layer in self.calibrators.items()}
        return {**super().get_config(), "model": serialize(self.model), "calibrators": calibrators}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> RecalibratedModel:
        """Make the model from its configuration."""
        config = dict(config)
        make = keras.saving.deserialize_keras_object
        model = make(config.pop("model"), custom_objects=custom_objects)
        calibrators = {name: make(layer) for name, layer in config.pop("calibrators").items()}
        return cls(model, calibrators, **config)


def calibrated_outputs(layers: Mapping[str, keras.layers.Layer], model: keras.Model, outputs: Any) -> Any:
    """Pass the outputs that have a layer through it; the others stay.

    Args:
        layers: Recalibration layer by name of the output; the key ``""`` serves a single output.
        model: The model.
        outputs: What it returned.

    Raises:
        DataError: If a layer belongs to no output.
    """
    named = named_outputs(model, outputs)
    if "" in layers and len(named) == 1:
        return keras.tree.map_structure(layers[""], outputs)
    known = [name for name, _ in named]
    unknown = sorted(set(layers) - set(known))
    if unknown:
        said = f"outputs {unknown}" if "" not in layers else "a single output"
        raise DataError(f"The result has {said}; the model has {known}. Was another model analysed?")
    names = {id(tensor): name for name, tensor in named}

    def calibrated(tensor: Any) -> Any:
        layer = layers.get(names.get(id(tensor), ""))
        return tensor if layer is None else layer(tensor)

    return keras.tree.map_structure(calibrated, outputs)
