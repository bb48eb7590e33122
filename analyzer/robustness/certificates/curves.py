"""Elementwise activations: where they fall and rise, and how steep they get."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras


@dataclass(frozen=True, kw_only=True)
class Curve:
    """An activation of one variable.

    Attributes:
        lowest: None for a function that never falls; else it falls up to this value and never after it.
        slope: An upper bound of the magnitude of its slope; None where there is none.
        exact: Whether float32 computes it without rounding.
    """

    lowest: float | None = None
    slope: float | None = 1.0
    exact: bool = False


CURVES = {
    "linear": Curve(exact=True),
    "relu": Curve(exact=True),
    "relu6": Curve(exact=True),
    "hard_tanh": Curve(exact=True),
    "leaky_relu": Curve(),
    "elu": Curve(),
    "celu": Curve(),
    "selu": Curve(slope=1.7581),
    "tanh": Curve(),
    "sigmoid": Curve(slope=0.25),
    "hard_sigmoid": Curve(slope=1 / 6 + 1e-9),
    "log_sigmoid": Curve(),
    "softplus": Curve(),
    "softsign": Curve(),
    "soft_shrink": Curve(),
    "hard_shrink": Curve(slope=None),
    "tanh_shrink": Curve(),
    "squareplus": Curve(),
    "sparse_plus": Curve(),
    "sparse_sigmoid": Curve(slope=0.5),
    "exponential": Curve(slope=None),
    "gelu": Curve(lowest=-0.7521, slope=1.129),
    "silu": Curve(lowest=-1.2784645, slope=1.09984),
    "mish": Curve(lowest=-1.1924312, slope=1.0885),
    "hard_silu": Curve(lowest=-1.5, slope=1.5),
}
"""By name in `keras.activations`, with its default parameters.

The steepest places: GELU at √2 (exact; its tanh form hardly elsewhere), SiLU at 2.3994, Mish at 1.4906, hard SiLU at 3;
SELU below 0."""

_WRITTEN = (
    *("relu", "relu6", "hard_tanh", "selu", "tanh", "sigmoid", "hard_sigmoid", "log_sigmoid", "softplus", "softsign"),
    *("soft_shrink", "hard_shrink", "tanh_shrink", "gelu", "silu", "hard_silu", "sparse_plus", "sparse_sigmoid"),
)
_OPERATIONS = {name.replace("_", ""): CURVES[name] for name in _WRITTEN}


def curve_of(activation: Any) -> Curve | None:
    """The curve of an activation function; None for one that is not known.

    Args:
        activation: What a layer holds as ``activation``; None is the identity.
    """
    if activation is None:
        return CURVES["linear"]
    for room in (keras.activations, keras.ops):
        for name, curve in CURVES.items():
            if getattr(room, name, None) is activation:
                return curve
    return None


def curve_of_operation(name: str, operation: Any) -> Curve | None:
    """The curve of an operation written in a Functional model; None for others.

    Args:
        name: Its lower-case class name.
        operation: The operation.
    """
    other = any(getattr(operation, option, 0.0) for option in ("negative_slope", "threshold"))
    return None if other and name == "relu" else _OPERATIONS.get(name)
