"""`Attacks`: how far samples are from a wrong decision, as an analysis needs it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.config import Norm, Tier
from analyzer.errors import DataError, Unsupported
from analyzer.inspection.needs import Context, Predictions
from analyzer.inspection.reducers import Tap
from analyzer.inspection.view import ModelView
from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.outcomes import Distances
from analyzer.robustness.attacks.threat import Box
from analyzer.robustness.attacks.tiers import attack_in_tier
from analyzer.robustness.bounds_of_model import input_box
from analyzer.robustness.decisions import decided
from analyzer.robustness.drawn import Drawn, drawn_samples
from analyzer.robustness.masking.flags import Flag
from analyzer.robustness.masking.judge import masking_flags

Array = NDArray[Any]

RADII = 20
"""Radii that a run of attacks tells apart before what it found is moved nearer."""

DEFAULT_SHARE = 0.1
"""ε_max as a share of the range of inputs, unless the user says another."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GatheredAttacks:
    """What attacks found.

    Attributes:
        drawn: The samples.
        found: Distances and points, in units of the box.
        decided: ``(n,)`` the class decided at each point.
        box: Bounds of the inputs.
        epsilon_max: The largest radius looked at, in the units of the data.
        flags: Signs that the attacks may have failed for other reasons than robustness.
        seconds: Time of the attacks.
    """

    drawn: Drawn
    found: Distances
    decided: NDArray[np.int64]
    box: Box
    epsilon_max: float
    flags: tuple[Flag, ...]
    seconds: float


@dataclass(frozen=True)
class Attacks:
    """Distances to the nearest wrong decision on a seeded, stratified subset of the samples.

    Gathered as `GatheredAttacks`.

    Attributes:
        tier: How hard to attack.
        norm: Of the steps.
        epsilon_max: In the units of the data; None for a tenth of the range of inputs (Linf only).
        bounds: Of the inputs; None for what the model or the data tell.
        n_samples: Most samples.
    """

    tier: Tier = "screen"
    norm: Norm = "linf"
    epsilon_max: float | None = None
    bounds: tuple[float, float] | None = None
    n_samples: int = 256

    requires_data = True

    def taps(self, view: ModelView) -> tuple[Tap, ...]:
        """Those of the predictions, which say what kind of decision it is; attacks have passes of their own."""
        return Predictions().taps(view)

    def finish(self, collected: Sequence[Any], context: Context) -> GatheredAttacks:
        """Attack the samples."""
        drawn = drawn_samples(collected, context, self.n_samples)
        before = time.perf_counter()
        try:
            box = input_box(context.view, drawn.x, self.bounds)
            attacked = Attacked(view=context.view, box=box, batch_size=context.batch_size, task=drawn.output.task)
            u = attacked.to_unit(np.clip(drawn.x, box.low, box.high))
        except DataError as error:
            raise Unsupported(str(error)) from error
        epsilon_max = DEFAULT_SHARE * box.range if self.epsilon_max is None else self.epsilon_max
        radii = np.linspace(0, epsilon_max / box.range, RADII + 1)[1:]
        try:
            options: dict[str, Any] = {"norm": self.norm, "seed": context.seed}
            found = attack_in_tier(attacked, u, drawn.y, radii, tier=self.tier, progress=context.progress, **options)
            context.progress("signs of masking", 0, 1)
            flags = masking_flags(attacked, u, drawn.y, radii, found.distance, **options)
            context.progress("signs of masking", 1, 1)
            at_points = decided(attacked.all_logits(found.points))
        finally:
            attacked.release()
        return GatheredAttacks(
            drawn=drawn,
            found=found,
            decided=at_points,
            box=box,
            epsilon_max=float(epsilon_max),
            flags=tuple(flags),
            seconds=time.perf_counter() - before,
        )
