"""How strongly a model stretches small steps at a sample: the spectral norm of its Jacobian there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.backends import engine
from analyzer.errors import ConfigError, Unsupported
from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.survivors import own_generators
from analyzer.robustness.attacks.threat import length, wide

Tensor = Any
Array = NDArray[Any]
Floats = NDArray[np.float64]

PURPOSE = 0x7AC0
"""Of the random numbers."""

AGREEMENT = 1e-2
"""How far two derivatives that belong together may differ by rounding, as a share."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LocalJacobianNorms:
    """Spectral norms at single points: what happens a step further is not in them.

    Attributes:
        norm: ``(n,)`` largest singular value of the Jacobian of the logits, per unit of the data.
        change: ``(n,)`` by what share the last step of the iteration raised it: what is still missing is of that order.
        steps: How many were taken at most.
        n: Number of samples.
        definition: What was computed.
    """

    norm: Floats
    change: Floats
    steps: int
    n: int
    definition: str = (
        "Power iteration on J^T J of the logits at the sample: a local estimate, from below. It bounds neither the "
        "slope elsewhere nor the distance to another decision."
    )


def local_jacobian_norms(
    attacked: Attacked, x: Array, *, steps: int = 100, tolerance: float = 1e-6, seed: int = 0
) -> LocalJacobianNorms:
    """Estimate the spectral norm of the Jacobian of the logits at each sample.

    A step is one product with the Jacobian and one with its transpose, of all samples of a batch at once.

    Args:
        attacked: The model.
        x: Samples in units of the data, ``(n, ...)``.
        steps: Most steps.
        tolerance: A batch is done when no norm rises by a larger share.
        seed: Of the directions that it starts from.

    Raises:
        ConfigError: If there is no step.
        DataError: If samples are outside the bounds of the inputs.
        Unsupported: If the model's derivatives contradict each other, as a layer with a gradient of its own may have.
    """
    if steps < 1:
        raise ConfigError(f"steps={steps}: expected 1 or more.")
    u = attacked.to_unit(x)
    generators = own_generators(u, seed, PURPOSE)
    start = np.stack([rng.standard_normal(u.shape[1:], dtype=np.float32) for rng in generators])
    probe = np.stack([rng.standard_normal(attacked.n_classes, dtype=np.float32) for rng in generators])

    def work(batch: list[Tensor], rows: Array) -> list[Tensor]:
        del rows
        point, direction, cotangent = batch
        step = _checked_step(attacked, point, cotangent)
        norm = keras.ops.zeros_like(cotangent[:, 0])
        change = norm
        for _ in range(steps):
            before = norm
            norm, direction = step(point, direction)
            change = (norm - before) / keras.ops.maximum(norm, 1e-30)
            if float(engine().to_numpy(change).max()) <= tolerance:
                break
        return [norm, change]

    norm, change = attacked.by_batch([u, start, probe], work)
    return LocalJacobianNorms(
        norm=norm.astype(np.float64) / attacked.box.range,
        change=np.maximum(change.astype(np.float64), 0.0),
        steps=steps,
        n=len(x),
    )


def _checked_step(attacked: Attacked, point: Tensor, cotangent: Tensor) -> Callable[..., Any]:
    """A step whose two derivatives belong together: ``w . J (J^T w) = |J^T w|^2`` at every sample.

    TensorFlow's compiled forward derivative of a max pooling that keeps its input's shape is 0; uncompiled it is right.
    """
    step, probe = _stepper(attacked), _prober(attacked)
    values = [engine().stop_gradient(keras.ops.convert_to_tensor(v.value)) for v in attacked.view.state]
    compiled = attacked.program("local jacobian", step), attacked.program("local jacobian checked", probe)
    for stepping, probing in (compiled, (partial(step, values), partial(probe, values))):
        forth, back = (engine().to_numpy(each) for each in probing(point, cotangent))
        if (np.abs(forth - back) <= AGREEMENT * np.abs(back)).all():
            return stepping
    raise Unsupported(
        f"The forward derivative of the model {attacked.view.model.name!r} does not belong to its backward one, so a "
        "layer has a gradient of its own making, or none that the backend can compute."
    )


def _prober(attacked: Attacked) -> Callable[..., Any]:
    """Both sides of the equation that `_checked_step` looks at."""

    def probe(values: list[Tensor], point: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
        def logits(u: Tensor) -> Tensor:
            return attacked.logits(values, u)

        _, pullback = engine().vjp(logits, point)
        back = pullback(cotangent)
        scale = length(back, "linf")
        direction = back / wide(keras.ops.where(scale > 0, scale, 1.0), back)
        _, forth = engine().jvp(logits, point, direction)
        return keras.ops.sum(cotangent * forth, axis=-1), scale * length(direction, "l2") ** 2

    return probe


def _stepper(attacked: Attacked) -> Callable[..., Any]:
    """From directions to the length of ``J^T`` of their unit images, and where these point."""

    def step(values: list[Tensor], point: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        def logits(u: Tensor) -> Tensor:
            return attacked.logits(values, u)

        _, image = engine().jvp(logits, point, _unit(direction))
        _, pullback = engine().vjp(logits, point)
        back = pullback(_unit(image))
        return length(back, "l2"), back

    return step


def _unit(t: Tensor) -> Tensor:
    """Rows of length 1; of zeros, zeros. Scaled first, since squares of small values vanish in float32."""
    ops = keras.ops
    largest = wide(length(t, "linf"), t)
    scaled = t / ops.where(largest > 0, largest, 1.0)
    norm = wide(length(scaled, "l2"), t)
    return scaled / ops.where(norm > 0, norm, 1.0)
