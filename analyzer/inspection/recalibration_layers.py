"""Keras layers that apply a fitted recalibration map, on any backend, and that `.keras` files can hold.

Their parameters are part of their configuration, not weights: training the model on does not move them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from analyzer.data_types.calibration_parts import CalibrationMap
from analyzer.measures.recalibration import PROBABILITY_FLOOR

PACKAGE = "keras_analyzer"
"""Under which Keras registers the classes."""


def calibration_layer(fitted: CalibrationMap, *, from_logits: bool, name: str) -> keras.layers.Layer:
    """The layer of a fitted map.

    Args:
        fitted: The map.
        from_logits: Whether the layer receives logits rather than probabilities.
        name: Name of the layer.
    """
    if fitted.method == "isotonic":
        return IsotonicCalibration(
            fitted.thresholds, fitted.values, activation=fitted.activation, from_logits=from_logits, name=name
        )
    weights, biases = fitted.weights, fitted.biases
    if fitted.temperature is not None:
        weights, biases = (1.0 / fitted.temperature,), (0.0,)
    return ScoreScaling(weights, biases, activation=fitted.activation, from_logits=from_logits, name=name)


class _Calibration(keras.layers.Layer):  # type: ignore[misc]
    """What both layers share: float32 whatever the model's precision, and the way from inputs to scores."""

    def __init__(self, *, activation: str, from_logits: bool, **kwargs: Any) -> None:
        kwargs.setdefault("dtype", "float32")
        kwargs.setdefault("trainable", False)
        super().__init__(**kwargs)
        self.activation = activation
        self.from_logits = from_logits
        self.supports_masking = True

    def activate(self, scores: Any) -> Any:
        """Probabilities of scores."""
        return ops.softmax(scores, axis=-1) if self.activation == "softmax" else ops.sigmoid(scores)

    def scores(self, inputs: Any) -> Any:
        """Logits as they are; of probabilities the logarithm, or the log-odds under a sigmoid."""
        if self.from_logits:
            return inputs
        if self.activation == "softmax":
            return ops.log(ops.maximum(inputs, PROBABILITY_FLOOR))
        p = ops.clip(inputs, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
        return ops.log(p) - ops.log1p(-p)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape stays."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Configuration from which the layer is made again."""
        return {**super().get_config(), "activation": self.activation, "from_logits": self.from_logits}


@keras.saving.register_keras_serializable(package=PACKAGE)
class ScoreScaling(_Calibration):
    """Temperature, Platt and vector scaling: activation(weights * scores + biases).

    Args:
        weights: Factors of the scores: one for all, or one per class.
        biases: Offsets of the scores, likewise.
        activation: ``"softmax"`` or ``"sigmoid"``.
        from_logits: Whether inputs are logits rather than probabilities.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(
        self,
        weights: Sequence[float],
        biases: Sequence[float],
        *,
        activation: str = "softmax",
        from_logits: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(activation=activation, from_logits=from_logits, **kwargs)
        self.scale_factors = [float(weight) for weight in weights]
        self.offsets = [float(bias) for bias in biases]

    def call(self, inputs: Any) -> Any:
        """Recalibrated probabilities, same shape as the inputs."""
        factors = ops.convert_to_tensor(np.asarray(self.scale_factors, dtype=np.float32))
        offsets = ops.convert_to_tensor(np.asarray(self.offsets, dtype=np.float32))
        return self.activate(self.scores(inputs) * factors + offsets)

    def get_config(self) -> dict[str, Any]:
        """Configuration from which the layer is made again."""
        return {**super().get_config(), "weights": self.scale_factors, "biases": self.offsets}


@keras.saving.register_keras_serializable(package=PACKAGE)
class IsotonicCalibration(_Calibration):
    """Isotonic recalibration: a monotone, piecewise linear map per class; rows are normalised under a softmax.

    Args:
        thresholds: Per class, ascending probabilities at the knots; one sequence serves all columns.
        values: Per class, recalibrated probabilities at the knots.
        activation: ``"softmax"`` or ``"sigmoid"``.
        from_logits: Whether inputs are logits rather than probabilities.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(
        self,
        thresholds: Sequence[Sequence[float]],
        values: Sequence[Sequence[float]],
        *,
        activation: str = "softmax",
        from_logits: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(activation=activation, from_logits=from_logits, **kwargs)
        self.thresholds = [[float(x) for x in knots] for knots in thresholds]
        self.knot_values = [[float(y) for y in knots] for knots in values]
        # A power of two above the number of knots, so that halving steps reach every count from 0 on.
        self._width = 2 ** (max(len(knots) for knots in self.thresholds)).bit_length()
        self._x = _padded(self.thresholds, self._width, [2.0] * len(self.thresholds))
        self._y = _padded(self.knot_values, self._width, [knots[-1] for knots in self.knot_values])

    def call(self, inputs: Any) -> Any:
        """Recalibrated probabilities, same shape as the inputs."""
        p = self.activate(inputs) if self.from_logits else inputs
        mapped = self._interpolate(p)
        if self.activation == "sigmoid":
            return mapped
        return mapped / ops.sum(mapped, axis=-1, keepdims=True)

    def _interpolate(self, p: Any) -> Any:
        """Linear interpolation between knots, which a binary search finds for all columns at once."""
        knots = ops.convert_to_tensor(self._x.ravel())
        values = ops.convert_to_tensor(self._y.ravel())
        first = ops.convert_to_tensor(self._width * np.arange(len(self.thresholds), dtype=np.int32))
        below = ops.zeros_like(p, dtype="int32") + first
        for halving in range(int(math.log2(self._width)) - 1, -1, -1):
            step = 2**halving
            reached = ops.take(knots, below + (step - 1)) <= p
            below = below + step * ops.cast(reached, "int32")
        left, right = ops.maximum(below - 1, first), below
        x_left, x_right = ops.take(knots, left), ops.take(knots, right)
        y_left, y_right = ops.take(values, left), ops.take(values, right)
        width = x_right - x_left
        share = ops.where(width > 0, (p - x_left) / ops.where(width > 0, width, 1.0), 0.0)
        return y_left + ops.clip(share, 0.0, 1.0) * (y_right - y_left)

    def get_config(self) -> dict[str, Any]:
        """Configuration from which the layer is made again."""
        return {**super().get_config(), "thresholds": self.thresholds, "values": self.knot_values}


def _padded(rows: Sequence[Sequence[float]], width: int, fill: Sequence[float]) -> np.ndarray:
    table = np.array(fill, dtype=np.float32)[:, None].repeat(width, axis=1)
    for row, knots in zip(table, rows, strict=True):
        row[: len(knots)] = knots
    return table
