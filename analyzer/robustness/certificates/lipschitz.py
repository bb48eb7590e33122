"""A Lipschitz constant of a whole model: the product of bounds of its layers, along its graph.

The logits move by at most this constant times the step of the input (Szegedy et al., 2014, arXiv 1312.6199, section
4.3), so a margin is a distance (Tsuzuku, Sato & Sugiyama, 2018, arXiv 1802.04034). It is a bound, and a loose one: it
supposes that every layer stretches most in the direction that the layer before it stretched to, and the gap grows with
depth. Every factor is itself an upper bound; a power iteration, which comes from below, is not among them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.errors import Unsupported
from analyzer.inspection.logits import last_activations
from analyzer.inspection.selection import every_call
from analyzer.inspection.trace import Firing
from analyzer.inspection.view import ModelView
from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.certificates import coverage, layer_norms
from analyzer.robustness.certificates.curves import curve_of, curve_of_operation

Array = NDArray[Any]
Floats = NDArray[np.float64]
L = keras.layers

WHAT = "Lipschitz bounds"


@dataclass(frozen=True, kw_only=True)
class LayerBound:
    """What one call of a layer adds to the product.

    Attributes:
        layer: Id of the layer or operation.
        kind: Name of its class.
        constant: Upper bound of the factor by which it stretches a difference of one of its inputs.
        so_far: Upper bound from the input of the model to what the call returns.
    """

    layer: str
    kind: str
    constant: float
    so_far: float


@dataclass(frozen=True, kw_only=True)
class LipschitzBound:
    """An upper bound of the Lipschitz constant of the logits.

    Attributes:
        value: Most that the logits move (L2) per unit of step (L2) of the input, in units of the data.
        layers: What each call adds, in order of execution.
        last: Position in ``layers`` of the Dense layer whose sums are the logits; None where there is none.
        definition: What was computed.
    """

    value: float
    layers: tuple[LayerBound, ...]
    last: int | None
    definition: str = (
        "Product of upper bounds of the layers' Euclidean operator norms and of the slopes of their activations, sums "
        "over branches: an upper bound everywhere."
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class LipschitzRadii:
    """Distances that a Lipschitz bound proves.

    Attributes:
        radius: ``(n,)`` L2, in units of the data: nothing nearer is decided otherwise; 0 where the sample itself is
            decided wrongly.
        bound: The bound.
        n: Number of samples.
        definition: What was computed.
    """

    radius: Floats
    bound: LipschitzBound
    n: int
    definition: str = (
        "Margin over a Lipschitz bound of the margin: a lower bound of the distance to a wrong decision, up to the "
        "float32 rounding of the logits."
    )


def lipschitz_bound(view: ModelView) -> LipschitzBound:
    """Bound how far the logits can move for a step of the input.

    Args:
        view: The opened model, Sequential or Functional.

    Raises:
        Unsupported: If a layer has no Lipschitz constant or none that is known; the message names it.
    """
    coverage.check_graph(view, WHAT)
    names, rows = every_call(view), list[LayerBound]()
    row_of: dict[int, int] = {}
    so_far: dict[int, float] = {-1 - i: 1.0 for i in range(len(view.model.inputs))}
    for position, firing in enumerate(view.firings):
        place = view.places[firing.place]
        if coverage.is_container(place) or _is_part(view, firing):
            continue
        constant, join = (1.0, _largest) if _is_left_out(view, firing) else _constant(view, firing)
        so_far[position] = constant * join(_of_arguments(view, firing, so_far))
        # What an activation layer inside returned is what the layer returns.
        so_far |= {at: so_far[position] for at, inner in enumerate(view.firings) if inner.inside == position}
        row_of[position] = len(rows)
        call = names[firing.place, firing.call]
        rows.append(LayerBound(layer=call.id, kind=type(place).__name__, constant=constant, so_far=so_far[position]))
    ends = [position for position, firing in enumerate(view.firings) if firing.place == view.heads[0].place]
    if not ends:
        raise Unsupported(f"{WHAT} follow layers; no layer returned the output of {view.model.name!r}.")
    last = coverage.last_dense(view)
    calls = [position for position, firing in enumerate(view.firings) if firing.place == last]
    return LipschitzBound(
        value=max(so_far[position] for position in ends),
        layers=tuple(rows),
        last=None if last is None else row_of[calls[0]],
    )


def lipschitz_radii(attacked: Attacked, x: Array, y: Array) -> LipschitzRadii:
    """Within which L2 distance of each sample no input is decided otherwise.

    Where the logits are sums of a Dense layer, the difference of two of its rows bounds the difference of two logits;
    elsewhere the root of 2 times the bound of all logits does.

    Args:
        attacked: The model.
        x: Samples in units of the data, ``(n, ...)``.
        y: True classes, ``(n,)``.

    Raises:
        Unsupported: As `lipschitz_bound`.
        DataError: If samples are outside the bounds of the inputs, or classes not among those of the model.
    """
    u, index = attacked.to_unit(x), np.asarray(y)
    attacked.check(u, index)
    bound = lipschitz_bound(attacked.view)
    z = attacked.all_logits(u).astype(np.float64)
    margins = z[np.arange(len(index)), index][:, None] - z
    slopes = _of_differences(attacked, bound)[index]
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.where(margins > 0, margins / slopes, 0.0)
    reach[np.arange(len(index)), index] = np.inf
    return LipschitzRadii(radius=reach.min(axis=1), bound=bound, n=len(x))


def _of_differences(attacked: Attacked, bound: LipschitzBound) -> Floats:
    """Bounds of the slope of the difference of every two logits, ``(classes, classes)``."""
    classes, last = attacked.n_classes, coverage.last_dense(attacked.view)
    if bound.last is None or last is None:
        both = 1.0 if attacked.view.heads[0].shape[-1] == 1 else math.sqrt(2)
        return np.full((classes, classes), both * bound.value)
    kernel = layer_norms.values_of(attacked.view.places[last].kernel)
    kernel = np.concatenate([np.zeros_like(kernel), kernel], axis=1) if kernel.shape[1] == 1 else kernel
    row = bound.layers[bound.last]
    before = row.so_far / row.constant if row.constant > 0 else 0.0
    products = kernel.T @ kernel
    squares = np.diag(products)[:, None] + np.diag(products)[None] - 2 * products
    return before * np.sqrt(np.maximum(squares, 0.0))


def _is_part(view: ModelView, firing: Firing) -> bool:
    """Whether a layer made the call that bounds what its parts do too."""
    return firing.inside is not None and not coverage.is_container(view.places[view.firings[firing.inside].place])


def _is_left_out(view: ModelView, firing: Firing) -> bool:
    """Whether a call is of the last softmax or sigmoid layer, which is cut."""
    return firing.place in last_activations(view) and view.heads[0].via == "input"


def _of_arguments(view: ModelView, firing: Firing, so_far: dict[int, float]) -> list[float]:
    """The bounds of what a call was given, one for each argument."""
    if firing.inferred or any(source not in so_far for source in firing.sources):
        raise coverage.refusal(view, firing.place, WHAT, "what it is called with cannot be followed.")
    bounds = [so_far[source] for source in firing.sources]
    if bounds and len(bounds) < len(firing.input_shapes):
        # One tensor came several times, or a constant beside it: none can be more than the largest.
        bounds += [max(bounds)] * (len(firing.input_shapes) - len(bounds))
    return bounds


Join = Callable[[Sequence[float]], float]
"""From the bounds of the arguments to one of them together, as the layer joins them."""


def _largest(bounds: Sequence[float]) -> float:
    return max(bounds, default=0.0)


def _length(bounds: Sequence[float]) -> float:
    return math.hypot(*bounds)


def _mean(bounds: Sequence[float]) -> float:
    return sum(bounds) / max(1, len(bounds))


def _constant(view: ModelView, firing: Firing) -> tuple[float, Join]:
    """The factor of one call, and how its arguments are joined."""
    place = view.places[firing.place]
    name = coverage.operation_of(place)
    if name is not None:
        curve = curve_of_operation(name, place)
        join = _OPERATION_JOINS.get(name)
        if join is not None:
            return 1.0, join
        if curve is not None and curve.slope is not None:
            return curve.slope, _largest
        raise coverage.refusal(view, firing.place, WHAT)
    join = coverage.entry_of(place, _JOINS)
    if join is not None:
        return 1.0, join
    bound = coverage.entry_of(place, _BOUNDS)
    if bound is None:
        raise coverage.refusal(view, firing.place, WHAT)
    constant = bound(place, firing.input_shapes) * _steepness(view, firing)
    if not math.isfinite(constant):
        raise coverage.refusal(view, firing.place, WHAT, "its weights are not finite.")
    return constant, _largest


def _steepness(view: ModelView, firing: Firing) -> float:
    """Upper bound of the slope of the activation that a layer holds, or is."""
    place = view.places[firing.place]
    if isinstance(place, L.ReLU | L.LeakyReLU | L.ELU | L.PReLU):
        return _slope_of(view, firing.place, place)
    activation = getattr(place, "activation", None)
    if isinstance(activation, L.Layer):
        return _slope_of(view, firing.place, activation)
    head = view.heads[0]
    if firing.place in last_activations(view) and head.place == firing.place and head.via == "activation":
        return 1.0
    curve = curve_of(activation)
    if curve is None or curve.slope is None:
        name = getattr(activation, "__name__", type(activation).__name__)
        raise coverage.refusal(view, firing.place, WHAT, f"no largest slope is known of its activation {name!r}.")
    return curve.slope


def _slope_of(view: ModelView, index: int, layer: keras.layers.Layer) -> float:
    """Upper bound of the slope of an activation layer."""
    if coverage.entry_of(layer, dict.fromkeys((L.ReLU, L.LeakyReLU, L.ELU, L.PReLU), True)) is None:
        raise coverage.refusal(view, index, WHAT, f"no largest slope is known of its activation {layer.name!r}.")
    if getattr(layer, "threshold", 0.0):
        raise coverage.refusal(view, index, WHAT, "at its threshold it jumps.")
    options = [getattr(layer, option, 0.0) for option in ("negative_slope", "alpha")]
    below = [float(np.abs(layer_norms.values_of(each)).max()) for each in options if each is not None]
    return max(1.0, *below)


_CONVOLUTIONS = (L.Conv1D, L.Conv2D, L.Conv3D)
_BOUNDS: dict[type, layer_norms.Bound] = {
    L.Dense: layer_norms.dense,
    **dict.fromkeys(_CONVOLUTIONS, layer_norms.convolution),
    **dict.fromkeys((L.Conv1DTranspose, L.Conv2DTranspose, L.Conv3DTranspose), layer_norms.transposed),
    **dict.fromkeys((L.DepthwiseConv1D, L.DepthwiseConv2D), layer_norms.depthwise),
    **dict.fromkeys((L.SeparableConv1D, L.SeparableConv2D), layer_norms.separable),
    L.BatchNormalization: layer_norms.batch_normalization,
    L.Normalization: layer_norms.normalization,
    L.Rescaling: layer_norms.rescaling,
    **dict.fromkeys((L.MaxPooling1D, L.MaxPooling2D, L.MaxPooling3D), layer_norms.max_pooling),
    **dict.fromkeys((L.AveragePooling1D, L.AveragePooling2D, L.AveragePooling3D), layer_norms.average_pooling),
    **dict.fromkeys(
        (L.GlobalAveragePooling1D, L.GlobalAveragePooling2D, L.GlobalAveragePooling3D), layer_norms.global_average
    ),
    **dict.fromkeys(
        (L.GlobalMaxPooling1D, L.GlobalMaxPooling2D, L.GlobalMaxPooling3D, *coverage.UNCHANGING, *coverage.MOVING),
        layer_norms.unchanged,
    ),
    **dict.fromkeys((L.Activation, L.ReLU, L.LeakyReLU, L.ELU, L.PReLU), layer_norms.unchanged),
    L.RepeatVector: layer_norms.repeated,
}
_JOINS: dict[type, Join] = {
    **dict.fromkeys((L.Add, L.Subtract), sum),
    L.Average: _mean,
    **dict.fromkeys((L.Concatenate, L.Maximum, L.Minimum), _length),
}
_OPERATION_JOINS: dict[str, Join] = {"add": sum, "subtract": sum, "concatenate": _length}
