"""`AttackedLayers`: attacks, and which layers are at fault for the wrong decisions that they found."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.config import Norm
from analyzer.data_types.layer_faults import LayersAtFault
from analyzer.diagnosis.cases import find_cases
from analyzer.diagnosis.faults import trace_faults
from analyzer.diagnosis.patchable import Patchable, patchable_calls
from analyzer.errors import AnalyzerError, Unsupported
from analyzer.inspection.guard import untouched_process
from analyzer.inspection.needs import Context
from analyzer.inspection.reducers import Tap
from analyzer.inspection.view import ModelView
from analyzer.measures.fault import decided_rightly
from analyzer.measures.random_streams import stream
from analyzer.robustness.attacks.threat import random_steps
from analyzer.robustness.gathered_attacks import Attacks, GatheredAttacks

logger = logging.getLogger("analyzer")

Array = NDArray[Any]
Bools = NDArray[np.bool_]

N_DRAWS = 2
"""Noises at each layer for each sample."""

N_PERMUTATIONS = 20
"""Orders of patching branches, where there are too many sets of them to try all."""

MOST_BYTES = 2**29
"""What the recorded results of all layers may take: of one batch as it is, and of the same batch moved."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GatheredFaults:
    """What attacks found, and where in the model it arose.

    Attributes:
        found: Of the attacks.
        layers: The layers at fault; None where they cannot be told.
        why: Why they cannot; None where they can.
    """

    found: GatheredAttacks
    layers: LayersAtFault | None = None
    why: str | None = None


@dataclass(frozen=True)
class AttackedLayers:
    """Attacks, and the layers at fault for the wrong decisions that they found.

    Gathered as `GatheredFaults`. Failures are the nearest wrong decisions found within ``epsilon_max``. Controls are
    samples that held, after a random step as long as that; where fewer of them held than are used, some that fell, and
    are not among the failures, stand in: a random step does not break their decisions.

    Attributes:
        attacks: How to attack.
        max_samples: Most failures, and most controls, that layers are judged on.
        n_bootstrap: Draws behind each interval; 0 computes none.
    """

    attacks: Attacks
    max_samples: int = 32
    n_bootstrap: int = 1000

    requires_data = True

    def taps(self, view: ModelView) -> tuple[Tap, ...]:
        """Those of the attacks."""
        return self.attacks.taps(view)

    def finish(self, collected: Sequence[Any], context: Context) -> GatheredFaults:
        """Attack the samples, then trace what was found; what cannot be traced loses no attack."""
        found = self.attacks.finish(collected, context)
        try:
            with untouched_process():
                return GatheredFaults(found=found, layers=self._layers(found, context))
        except AnalyzerError as reason:
            return GatheredFaults(found=found, why=str(reason))
        except Exception as error:
            logger.debug("the full error", exc_info=error)
            return GatheredFaults(found=found, why=f"{type(error).__name__}: {error}")

    def _layers(self, found: GatheredAttacks, context: Context) -> LayersAtFault:
        model = Patchable(view=context.view, batch_size=_batch_size(context, self.max_samples))
        groups = _grouped(found, self.max_samples, context.seed)
        x, moved = _moved(found, groups, self.attacks.norm, context.seed)
        y = found.drawn.y[groups.rows]
        plain, shifted = (_structured(array, context) for array in (x, moved))
        _check_fixed(model, _structured(x[: model.batch_size], context))
        # At the very boundary another program may round to another decision.
        confirmed = decided_rightly(model.logits(shifted), y) != groups.fell
        if not np.any(confirmed & groups.fell):
            raise Unsupported(
                "None of the wrong decisions found is wrong again when layers are read: they lie on the very boundary."
            )
        plain, shifted = (_structured(array[confirmed], context) for array in (x, moved))
        layers = trace_faults(
            model,
            find_cases(model, plain, shifted, y[confirmed], most=self.max_samples, seed=context.seed),
            n_draws=N_DRAWS,
            n_permutations=N_PERMUTATIONS,
            n_bootstrap=self.n_bootstrap,
            seed=context.seed,
            step=functools.partial(context.progress, "layers at fault"),
        )
        words = _who_is_who(groups, found.epsilon_max, self.attacks.norm, int(np.sum(~confirmed)))
        return dataclasses.replace(layers, notes=(words, *layers.notes))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Grouped:
    """Failures and controls.

    Attributes:
        rows: Their positions among the samples attacked.
        fell: Which are failures.
        n_stand_in: How many controls fell to the attack.
    """

    rows: NDArray[np.int64]
    fell: Bools
    n_stand_in: int


def _grouped(found: GatheredAttacks, most: int, seed: int) -> _Grouped:
    distance = found.found.distance * found.box.range
    held = np.flatnonzero(distance > found.epsilon_max)
    fallen = np.flatnonzero((distance > 0) & (distance <= found.epsilon_max))
    if not len(fallen):
        raise Unsupported("No wrong decision was found among the samples decided rightly: there is none to trace.")
    n = max(0, min(most - len(held), len(fallen) - most))
    stand_in = stream(seed, 75).choice(fallen, n, replace=False)
    failures, controls = np.setdiff1d(fallen, stand_in), np.concatenate([held, stand_in])
    return _Grouped(
        rows=np.concatenate([failures, controls]),
        fell=np.arange(len(failures) + len(controls)) < len(failures),
        n_stand_in=n,
    )


def _moved(found: GatheredAttacks, groups: _Grouped, norm: Norm, seed: int) -> tuple[Array, Array]:
    """Samples and moved samples in the model's own units: failures to where they fell, controls anywhere."""
    low, high, dtype = found.box.low, found.box.high, found.drawn.x.dtype
    x = np.clip(found.drawn.x[groups.rows], low, high)
    points = found.found.points[groups.rows] * found.box.range + low
    steps = random_steps(stream(seed, 76), x.shape, norm).astype(np.float64)
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    lengths = np.linalg.norm(steps.reshape(len(steps), -1), ord=order, axis=1)
    steps *= (found.epsilon_max / lengths).reshape(-1, *(1 for _ in x.shape[1:]))
    fell = groups.fell.reshape(-1, *(1 for _ in x.shape[1:]))
    return x, np.clip(np.where(fell, points, x + steps), low, high).astype(dtype)


def _structured(x: Array, context: Context) -> Any:
    """Samples in the structure that the model is called with."""
    return keras.tree.pack_sequence_as(context.arranged, [x])


def _batch_size(context: Context, most: int) -> int:
    values = sum(place.n_units * place.n_positions for place in patchable_calls(context.view))
    return max(1, min(most, context.batch_size, MOST_BYTES // (2 * 4 * max(values, 1))))


def _check_fixed(model: Patchable, x: Any) -> None:
    once, again = model.logits(x), model.logits(x)
    if not np.allclose(once, again, rtol=1e-3, atol=1e-5):
        raise Unsupported("The model answers differently when asked again, so what a layer does cannot be told.")


def _who_is_who(groups: _Grouped, epsilon_max: float, norm: Norm, n_left_out: int) -> str:
    n_held = int(np.sum(~groups.fell)) - groups.n_stand_in
    stand_in = f" and {groups.n_stand_in} that fell" if groups.n_stand_in else ""
    left_out = f" {n_left_out} of these samples are left out: read again, they are decided otherwise."
    return (
        "Failures are at the nearest wrong decisions that the attack found. Controls are drawn from "
        f"{n_held} samples that held{stand_in}, moved by random steps of {epsilon_max:g} ({norm})."
        + (left_out if n_left_out else "")
    )
