"""How intervals pass through layers: Gowal et al., 2018 (arXiv 1810.12715), with room for float32 rounding.

An interval travels as one tensor ``(2 n, ...)``: the lower ends of n samples, then their upper ends. So what never
falls with any of its inputs (rectifiers, maxima, sums, moves) is the layer itself, called once. Where arithmetic
rounds, intervals grow by the standard bound of its error (Higham, 2002, section 3.1): ``k`` operations of unit
roundoff ``u`` err by at most ``gamma(k) = k u / (1 - k u)`` of the sum of magnitudes, in any order of summation.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from analyzer.inspection import compat
from analyzer.inspection.kernels import classify
from analyzer.robustness.certificates.coverage import AFFINE, MOVING, UNCHANGING, entry_of, operation_of
from analyzer.robustness.certificates.curves import CURVES, Curve, curve_of, curve_of_operation

Tensor = Any
L = keras.layers

UNIT = 2.0**-24
"""Unit roundoff of float32."""

OF_FUNCTIONS = 2.0**-20
"""Error of tanh, exp and the like in float32, relative to one and what goes in and comes out: eight times that of the
kernels of the three backends."""


class Uncovered(Exception):
    """A layer has no rule, or one of its options; the message says which option."""


@dataclass(frozen=True)
class Step:
    """One call of one place.

    Attributes:
        place: The layer or operation.
        call: What it computes by itself.
        scope: Where the values of variables are looked up.
        rows: Rows of an interval's tensor.
    """

    place: Any
    call: Callable[..., Any]
    scope: keras.StatelessScope
    rows: int

    @contextlib.contextmanager
    def magnitudes(self, bias: float) -> Iterator[None]:
        """A scope in which the layer's kernels are the magnitudes of themselves, its bias too, times a factor.

        Args:
            bias: The factor.
        """
        before = self.scope.state_mapping.copy()
        kernels = {name: keras.ops.abs(value) for name, value in kernels_of(self.place).items()}
        for variable in compat.own_variables(self.place):
            value = keras.ops.convert_to_tensor(variable)
            if variable.name in kernels:
                new = kernels[variable.name]
            elif variable.name == "bias":
                new = bias * keras.ops.abs(value)
            else:
                # Adapters are part of the kernel by now.
                new = keras.ops.zeros_like(value)
            self.scope.state_mapping[id(variable)] = new
        try:
            yield
        finally:
            self.scope.state_mapping.clear()
            self.scope.state_mapping.update(before)


Rule = Callable[..., Tensor]
"""From a step and the arguments of the call to the interval that the place hands on."""


def rule_of(place: Any) -> Rule | None:
    """The rule of a layer or operation; None where there is none."""
    name = operation_of(place)
    if name is None:
        return entry_of(place, _LAYERS)
    curve = curve_of_operation(name, place)
    if curve is not None:
        return lambda step, x, *args, **kwargs: along(curve, lambda z: step.call(z, *args, **kwargs), x)
    return _OPERATIONS.get(name)


def gamma(operations: int) -> float:
    """Largest relative error of a chain of float32 operations.

    Args:
        operations: How many.
    """
    return operations * UNIT / (1 - operations * UNIT)


def ends(x: Tensor) -> tuple[Tensor, Tensor]:
    """Lower and upper ends of an interval."""
    low, high = keras.ops.split(x, 2, axis=0)
    return low, high


def interval(low: Tensor, high: Tensor) -> Tensor:
    """An interval of its ends."""
    return keras.ops.concatenate([low, high], axis=0)


def centre(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The middle of an interval, how far its values are from it at most, and their largest magnitude."""
    ops = keras.ops
    low, high = ends(x)
    middle = low + (high - low) / 2
    far = ops.maximum(high - middle, middle - low) * (1 + 4 * UNIT)
    return middle, far, ops.maximum(ops.abs(low), ops.abs(high))


def kernels_of(layer: Any) -> dict[str, Tensor]:
    """The kernels of a linear layer as tensors, by the name of their variable; adapters are merged in."""
    if isinstance(layer, L.SeparableConv1D | L.SeparableConv2D):
        names = {"depthwise_kernel": layer.depthwise_kernel, "pointwise_kernel": layer.pointwise_kernel}
    else:
        names = {"kernel": layer.kernel}
    return {name: keras.ops.convert_to_tensor(kernel) for name, kernel in names.items()}


def rounding_of(layer: Any) -> float:
    """How much of the sum of magnitudes an output of a linear layer, and a bound of it, may be off by rounding."""
    fan_in = 0
    for name, kernel in kernels_of(layer).items():
        shape = tuple(int(size) for size in kernel.shape)
        axes = classify(layer, name, shape)[1]
        # The fan-in of an unknown kernel is no larger than the kernel.
        fan_in += math.prod(shape) if axes is None else math.prod(shape[axis] for axis in axes.rows)
    # Once for the layer itself, once for the middle of the bound; the rest for the bound's own arithmetic.
    return 2.5 * gamma(fan_in + 4)


def widened(x: Tensor, by: Tensor) -> Tensor:
    """An interval that is larger at both ends.

    Args:
        x: The interval.
        by: For each value of a sample ``(n, ...)``.
    """
    low, high = ends(x)
    return interval(low - by, high + by)


def along(curve: Curve, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Through an elementwise activation.

    Args:
        curve: What is known of it.
        function: Computes it.
        x: The interval.
    """
    ops = keras.ops
    y = function(x)
    if curve.lowest is not None:
        low, high = ends(x)
        at_low, at_high = ends(y)
        bottom = function(ops.clip(ops.full_like(low, curve.lowest), low, high))
        y = interval(bottom, ops.maximum(at_low, at_high))
    if curve.exact:
        return y
    return widened(y, OF_FUNCTIONS * (1 + centre(x)[2] + centre(y)[2]))


def _activated(step: Step, x: Tensor) -> Tensor:
    """Through the activation that a layer holds."""
    activation = step.place.activation
    if isinstance(activation, keras.layers.Layer):
        return activation(x)
    curve = curve_of(activation)
    if curve is None:
        name = getattr(activation, "__name__", type(activation).__name__)
        raise Uncovered(f"its activation {name!r} is none of {', '.join(CURVES)} with their default parameters.")
    return x if activation is None else along(curve, activation, x)


def linear(step: Step, x: Tensor, **_: Any) -> Tensor:
    """``W c + b`` and around it ``|W| r``: any layer that is linear but for bias and activation."""
    middle, far, largest = centre(x)
    growth = rounding_of(step.place)
    with compat.replaced(step.place, "activation", keras.activations.linear):
        y = step.call(middle)
        with step.magnitudes(growth):
            reach = step.call(far * (1 + growth) + growth * largest)
    return _activated(step, interval(y - reach, y + reach))


def exact(step: Step, *args: Any, **kwargs: Any) -> Tensor:
    """What never falls and does not round is itself a rule."""
    return step.call(*args, **kwargs)


def _averaging(terms: Callable[[Step, Any], int]) -> Rule:
    """Sums and means of a number of terms: as `exact`, with room for their rounding."""

    def rule(step: Step, x: Any, **kwargs: Any) -> Tensor:
        largest = keras.tree.map_structure(lambda t: interval(*(centre(t)[2],) * 2), x)
        room, _ = ends(step.call(largest, **kwargs))
        return widened(step.call(x, **kwargs), 2 * gamma(terms(step, x) + 2) * room)

    return rule


def scaled(step: Step, x: Tensor, **kwargs: Any) -> Tensor:
    """Rescaling and Normalization: every value rises or falls with its own input."""
    ops = keras.ops
    first, second = ends(step.call(x, **kwargs))
    low, high = ops.minimum(first, second), ops.maximum(first, second)
    offset, _ = ends(ops.abs(step.call(ops.zeros_like(x), **kwargs)))
    return widened(interval(low, high), 8 * gamma(1) * (ops.maximum(ops.abs(low), ops.abs(high)) + 2 * offset))


def normalised(step: Step, x: Tensor, **_: Any) -> Tensor:
    """BatchNormalization at inference: ``s x + (beta - s mean)``."""
    ops, layer = keras.ops, step.place
    shape = [1] * len(x.shape)
    shape[layer.axis] = -1

    def along_channels(values: Any) -> Tensor:
        return ops.reshape(ops.convert_to_tensor(values), shape)

    scale = ops.rsqrt(along_channels(layer.moving_variance) + layer.epsilon)
    if layer.scale:
        scale = scale * along_channels(layer.gamma)
    shift = along_channels(layer.moving_mean) * scale
    beta = along_channels(layer.beta) if layer.center else ops.zeros_like(shift)
    middle, far, largest = centre(x)
    y, steep = middle * scale + (beta - shift), ops.abs(scale)
    room = 16 * gamma(1) * (steep * largest + ops.abs(shift) + ops.abs(beta))
    reach = steep * far + room
    return interval(y - reach, y + reach)


def activation(step: Step, x: Tensor, **_: Any) -> Tensor:
    """The layer Activation."""
    return _activated(step, x)


def rising(step: Step, x: Tensor, **_: Any) -> Tensor:
    """Activation layers whose options make them straight lines or exponentials that never fall."""
    if getattr(step.place, "alpha", 1.0) < 0:
        raise Uncovered(f"with alpha={step.place.alpha} it falls.")
    plain = isinstance(step.place, L.ReLU) and step.place.negative_slope == 0
    return along(CURVES["relu" if plain else "elu"], step.call, x)


def bent(step: Step, x: Tensor, **_: Any) -> Tensor:
    """PReLU, which bends at 0 only: its extremes are at the ends, or at 0 between them."""
    ops = keras.ops
    low, high = ends(x)
    values = [step.call(z) for z in (low, high, ops.clip(ops.zeros_like(low), low, high))]
    lowest = ops.minimum(values[0], ops.minimum(values[1], values[2]))
    highest = ops.maximum(values[0], ops.maximum(values[1], values[2]))
    room = 2 * gamma(1) * ops.maximum(ops.abs(lowest), ops.abs(highest))
    return interval(lowest - room, highest + room)


def side_by_side(step: Step, tensors: Any, *args: Any, **kwargs: Any) -> Tensor:
    """Concatenation along any axis but that of samples."""
    if getattr(step.place, "axis", -1) in (0, -len(keras.tree.flatten(tensors)[0].shape)):
        raise Uncovered("it joins samples.")
    return step.call(tensors, *args, **kwargs)


def difference(step: Step, x1: Any, x2: Any = None, **_: Any) -> Tensor:
    """``[low1 - high2, high1 - low2]``."""
    (low1, high1), (low2, high2) = _all_ends(step, x1 if x2 is None else (x1, x2))
    y = interval(low1 - high2, high1 - low2)
    return widened(y, 4 * gamma(1) * centre(y)[2])


def total(step: Step, x1: Any, x2: Any) -> Tensor:
    """A written ``a + b``, of which one may be a constant."""
    (low1, high1), (low2, high2) = _all_ends(step, (x1, x2))
    y = interval(low1 + low2, high1 + high2)
    return widened(y, 4 * gamma(1) * centre(y)[2])


def product(step: Step, x1: Any, x2: Any = None, **_: Any) -> Tensor:
    """The extremes of a product are among those of the ends."""
    ops = keras.ops
    (low, high), *others = _all_ends(step, x1 if x2 is None else (x1, x2))
    for other in others:
        corners = [a * b for a in (low, high) for b in other]
        low, high = corners[0], corners[0]
        for corner in corners[1:]:
            low, high = ops.minimum(low, corner), ops.maximum(high, corner)
        room = 4 * gamma(1) * ops.maximum(ops.abs(low), ops.abs(high))
        low, high = low - room, high + room
    return interval(low, high)


def _all_ends(step: Step, given: Sequence[Any]) -> list[tuple[Tensor, Tensor]]:
    """The ends of intervals; a constant has two equal ones, and no axis of samples as long as theirs."""
    tensors = [x if keras.ops.is_tensor(x) else keras.ops.convert_to_tensor(x, dtype="float32") for x in given]
    rank = max(len(x.shape) for x in tensors)
    return [ends(x) if len(x.shape) == rank and x.shape[0] == step.rows else (x, x) for x in tensors]


def _window(step: Step, x: Tensor) -> int:
    del x
    return int(math.prod(step.place.pool_size))


def _positions(step: Step, x: Tensor) -> int:
    return math.prod(x.shape[1:-1] if step.place.data_format == "channels_last" else x.shape[2:])


def _terms(step: Step, x: Sequence[Tensor]) -> int:
    del step
    return len(x)


_LINEAR = (
    *(L.Dense, L.EinsumDense, L.Conv1D, L.Conv2D, L.Conv3D, L.DepthwiseConv1D, L.DepthwiseConv2D),
    *(L.SeparableConv1D, L.SeparableConv2D, L.Conv1DTranspose, L.Conv2DTranspose, L.Conv3DTranspose),
)
_MAXIMA = (
    *(L.MaxPooling1D, L.MaxPooling2D, L.MaxPooling3D, L.GlobalMaxPooling1D, L.GlobalMaxPooling2D),
    *(L.GlobalMaxPooling3D, L.Maximum, L.Minimum, L.RepeatVector),
)
_MEANS = (L.AveragePooling1D, L.AveragePooling2D, L.AveragePooling3D)
_GLOBAL_MEANS = (L.GlobalAveragePooling1D, L.GlobalAveragePooling2D, L.GlobalAveragePooling3D)

_LAYERS: dict[type, Rule] = {
    **dict.fromkeys(_LINEAR, linear),
    **dict.fromkeys((*UNCHANGING, *MOVING, *_MAXIMA), exact),
    **dict.fromkeys(_MEANS, _averaging(_window)),
    **dict.fromkeys(_GLOBAL_MEANS, _averaging(_positions)),
    **dict.fromkeys((L.Add, L.Average), _averaging(_terms)),
    **dict.fromkeys(AFFINE, scaled),
    L.BatchNormalization: normalised,
    L.Activation: activation,
    **dict.fromkeys((L.ReLU, L.LeakyReLU, L.ELU), rising),
    L.PReLU: bent,
    L.Concatenate: side_by_side,
    L.Subtract: difference,
    L.Multiply: product,
}
_OPERATIONS: dict[str, Rule] = {
    "add": total,
    "subtract": difference,
    "multiply": product,
    "concatenate": side_by_side,
    "maximum": exact,
    "minimum": exact,
}
