"""Interval bound propagation: what the logits can be within a ball, proved layer by layer.

Gowal et al., 2018 (arXiv 1810.12715), with the last layer folded into the differences of its rows. A proof, but a
coarse one: it certifies little of a net that was not trained for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from analyzer.errors import ConfigError, Unsupported
from analyzer.inspection import compat, inputs
from analyzer.inspection.logits import last_activations, logits_out
from analyzer.inspection.view import ModelView
from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.threat import box_of
from analyzer.robustness.certificates import coverage
from analyzer.robustness.certificates.interval_rules import (
    Step,
    Uncovered,
    centre,
    ends,
    interval,
    rounding_of,
    rule_of,
)

Tensor = Any
Array = NDArray[Any]
Floats = NDArray[np.float64]

WHAT = "Interval bounds"

DEFINITION = (
    "Interval bound propagation (Gowal et al., 2018): a proof for every input within epsilon of the sample in each "
    "value and within the bounds of the inputs; float32 rounding is provided for."
)


@dataclass(frozen=True, kw_only=True, eq=False)
class LogitBounds:
    """Bounds of logits within a ball of the maximum norm.

    Attributes:
        low: ``(n, classes)`` no logit is smaller.
        high: ``(n, classes)`` none is larger.
        epsilon: ``(n,)`` radius of each ball, in units of the data.
        n: Number of samples.
        definition: What was computed.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    epsilon: Floats
    n: int
    definition: str = DEFINITION


@dataclass(frozen=True, kw_only=True, eq=False)
class CertifiedMargins:
    """How far the true class stays ahead of every other within a ball of the maximum norm.

    Attributes:
        margin: ``(n,)`` lower bound of the logit of the true class less the largest other.
        certified: ``(n,)`` whether it is above 0: no input in the ball is decided otherwise.
        epsilon: ``(n,)`` radius of each ball, in units of the data.
        n: Number of samples.
        definition: What was computed.
    """

    margin: NDArray[np.float32]
    certified: NDArray[np.bool_]
    epsilon: Floats
    n: int
    definition: str = DEFINITION


@dataclass(frozen=True, kw_only=True, eq=False)
class CertifiedRadii:
    """The largest balls of the maximum norm that were certified.

    Attributes:
        radius: ``(n,)`` in units of the data, a lower bound of the distance to a wrong decision; 0 where not even the
            sample itself is certified.
        epsilon_max: The largest radius that was tried.
        n: Number of samples.
        definition: What was computed.
    """

    radius: Floats
    epsilon_max: float
    n: int
    definition: str = DEFINITION


def interval_bounds(attacked: Attacked, x: Array, epsilon: ArrayLike) -> LogitBounds:
    """Bounds of the logits within a ball around each sample.

    Args:
        attacked: The model.
        x: Samples in units of the data, ``(n, ...)``.
        epsilon: Radius in the maximum norm, one for all or one each, 0 or larger.

    Raises:
        Unsupported: If the model has a layer that is not covered; the message names it.
        DataError: If samples are outside the bounds of the inputs.
        ConfigError: If a radius is negative.
    """
    check_model(attacked.view)
    radii = _radii(epsilon, len(x))

    def bound(values: list[Tensor], low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        return ends(_Propagation(attacked, low.shape[0]).run(values, low, high))

    program = attacked.program("interval bounds", bound)
    low, high = attacked.by_batch([*_ball(attacked, x, radii)], lambda batch, _: list(program(*batch)))
    return LogitBounds(low=low, high=high, epsilon=radii, n=len(x))


def certified_margins(attacked: Attacked, x: Array, y: Array, epsilon: ArrayLike) -> CertifiedMargins:
    """Whether the decision for the true class is proved within a ball around each sample.

    Args:
        attacked: The model.
        x: Samples in units of the data, ``(n, ...)``.
        y: True classes, ``(n,)``.
        epsilon: Radius in the maximum norm, one for all or one each, 0 or larger.

    Raises:
        Unsupported: If the model has a layer that is not covered; the message names it.
        DataError: If samples are outside the bounds of the inputs, or classes not among those of the model.
        ConfigError: If a radius is negative.
    """
    check_model(attacked.view)
    radii, y = _radii(epsilon, len(x)), np.asarray(y)
    attacked.check(attacked.to_unit(x), y)

    def bound(values: list[Tensor], low: Tensor, high: Tensor, y: Tensor) -> Tensor:
        propagation = _Propagation(attacked, low.shape[0], y)
        logits = propagation.run(values, low, high)
        return _margin_of(logits, y) if propagation.margin is None else propagation.margin

    program = attacked.program("certified margins", bound)
    low, high = _ball(attacked, x, radii)
    margin = attacked.by_batch([low, high, y.astype(np.int32)], lambda batch, _: [program(*batch)])[0]
    return CertifiedMargins(margin=margin, certified=margin > 0, epsilon=radii, n=len(x))


def certified_radii(
    attacked: Attacked, x: Array, y: Array, epsilon_max: float, *, halvings: int = 12
) -> CertifiedRadii:
    """The largest ball that is certified around each sample, by bisection.

    Args:
        attacked: The model.
        x: Samples in units of the data, ``(n, ...)``.
        y: True classes, ``(n,)``.
        epsilon_max: Largest radius in the maximum norm that is of interest.
        halvings: Of the interval from 0 to it; each costs two forward passes.

    Raises:
        Unsupported: If the model has a layer that is not covered; the message names it.
        DataError: If samples are outside the bounds of the inputs, or classes not among those of the model.
        ConfigError: If the largest radius is not above 0.
    """
    if not epsilon_max > 0:
        raise ConfigError(f"epsilon_max={epsilon_max}: expected a radius above 0, in the units of the data.")

    def holds(radii: Floats) -> NDArray[np.bool_]:
        return certified_margins(attacked, x, y, radii).certified

    known = np.where(holds(np.full(len(x), epsilon_max)), epsilon_max, 0.0)
    open_to = np.full(len(x), float(epsilon_max))
    for _ in range(halvings):
        middle = np.where(known == epsilon_max, epsilon_max, (known + open_to) / 2)
        proved = holds(middle)
        known, open_to = np.where(proved, middle, known), np.where(proved, open_to, middle)
    return CertifiedRadii(radius=known, epsilon_max=float(epsilon_max), n=len(x))


def check_model(view: ModelView) -> None:
    """Refuse models that intervals cannot pass through.

    Args:
        view: The opened model.

    Raises:
        Unsupported: With the name of the layer that is not covered, or what else is in the way.
    """
    coverage.check_graph(view, WHAT)
    if inputs.fixed_batch_size(view.model):
        raise Unsupported(
            f"{WHAT} run both ends of each interval as samples of one batch, but the model fixes its batch size. Build "
            "it with an open batch size."
        )
    cut = _left_out(view)
    for index in dict.fromkeys(firing.place for firing in view.firings):
        place = view.places[index]
        if index in cut or coverage.is_container(place):
            continue
        if rule_of(place) is None:
            raise coverage.refusal(view, index, WHAT)
        if getattr(place, "compute_dtype", "float32") not in ("float32", "float64"):
            raise coverage.refusal(view, index, WHAT, f"it computes in {place.compute_dtype}, float32 is needed.")


def _left_out(view: ModelView) -> frozenset[int]:
    """Softmax and sigmoid layers that are cut."""
    return frozenset(head.place for head in view.heads if head.place in last_activations(view) and head.via == "input")


def _radii(epsilon: ArrayLike, n: int) -> Floats:
    radii = np.broadcast_to(np.asarray(epsilon, np.float64), (n,))
    if not (np.isfinite(radii).all() and (radii >= 0).all()):
        raise ConfigError(f"epsilon={epsilon!r}: expected radii of 0 or more, in the units of the data.")
    return radii


def _ball(attacked: Attacked, x: Array, radii: Floats) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The ends of the inputs' intervals, rounded outwards."""
    box, wide = attacked.box, x.astype(np.float64)
    box_of(x, (box.low, box.high))
    radius = radii.reshape(-1, *(1 for _ in wide.shape[1:]))
    low, high = np.maximum(wide - radius, box.low), np.minimum(wide + radius, box.high)
    near_low, near_high = low.astype(np.float32), high.astype(np.float32)
    return (
        np.where(near_low > low, np.nextafter(near_low, np.float32(-np.inf)), near_low),
        np.where(near_high < high, np.nextafter(near_high, np.float32(np.inf)), near_high),
    )


class _Propagation:
    """One traced pass of intervals through the model."""

    def __init__(self, attacked: Attacked, n: int, y: Tensor | None = None) -> None:
        self.view = attacked.view
        self.rows = 2 * n
        self.y = y
        self.last = None if y is None else coverage.last_dense(self.view)
        self.margin: Tensor | None = None
        self.scope = keras.StatelessScope()

    def run(self, values: list[Tensor], low: Tensor, high: Tensor) -> Tensor:
        """The interval of the logits; a single logit becomes two, the first of them 0."""
        ops, view = keras.ops, self.view
        left_out = _left_out(view)
        passed = {
            index: place
            for index, place in view.places.items()
            if index not in left_out and not coverage.is_container(place)
        }
        self.scope = keras.StatelessScope(state_mapping=list(zip(view.state, values, strict=True)))
        with (
            self.scope,
            compat.plain_calls(view.model, view.places.values()),
            logits_out(view),
            compat.wrapped_calls(passed, self._through),
        ):
            z = keras.tree.flatten(view.model(interval(low, high), training=False))[0]
        return ops.concatenate([ops.zeros_like(z), z], axis=-1) if z.shape[-1] == 1 else z

    def _through(self, index: int, call: Callable[..., Any]) -> Callable[..., Any]:
        place = self.view.places[index]
        rule = rule_of(place)

        def through(*args: Any, **kwargs: Any) -> Any:
            if rule is None:
                raise coverage.refusal(self.view, index, WHAT)
            step = Step(place=place, call=call, scope=self.scope, rows=self.rows)
            if index == self.last:
                self.margin = _last_margin(place, args[0], self.y)
            try:
                return rule(step, *args, **kwargs)
            except Uncovered as error:
                raise coverage.refusal(self.view, index, WHAT, str(error)) from error

        return through


def _last_margin(layer: Any, x: Tensor, y: Tensor) -> Tensor:
    """The least that the true class is ahead: rows of the last layer are subtracted before, not after, bounding."""
    ops = keras.ops
    kernel = ops.convert_to_tensor(layer.kernel)
    bias = ops.convert_to_tensor(layer.bias) if layer.use_bias else ops.zeros_like(kernel[0])
    if kernel.shape[-1] == 1:
        kernel = ops.concatenate([ops.zeros_like(kernel), kernel], axis=-1)
        bias = ops.concatenate([ops.zeros_like(bias), bias])
    middle, far, largest = centre(x)
    growth = rounding_of(layer)
    z = ops.matmul(middle, kernel) + bias
    off = growth * (ops.matmul(largest, ops.abs(kernel)) + ops.abs(bias))
    own = ops.take(ops.transpose(kernel), y, axis=0)
    reach = ops.einsum("nd,ndc->nc", far * (1 + growth), ops.abs(own[:, :, None] - kernel[None]))
    index = y[:, None]
    ahead = ops.take_along_axis(z - off, index, axis=-1) - z - off - reach
    return _least_of_others(ahead, y)


def _margin_of(logits: Tensor, y: Tensor) -> Tensor:
    """The same of the bounds of logits alone."""
    low, high = ends(logits)
    return _least_of_others(keras.ops.take_along_axis(low, y[:, None], axis=-1) - high, y)


def _least_of_others(ahead: Tensor, y: Tensor) -> Tensor:
    ops = keras.ops
    own = ops.arange(ahead.shape[-1], dtype="int32")[None, :] == ops.cast(y, "int32")[:, None]
    return ops.min(ops.where(own, float("inf"), ahead), axis=-1)
