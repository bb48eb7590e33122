"""What attacks bring: whether a sample falls within ε, or how far it is from falling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What an attack within ε brought.

    Attributes:
        fooled: ``(n,)`` whether a point was found that the model does not decide for the true class.
        points: ``(n, ...)`` that point, in units of the box; the sample itself where there is none.
    """

    fooled: NDArray[np.bool_]
    points: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Distances:
    """How far samples are from a wrong decision; upper bounds, since an attack that fails proves nothing.

    Attributes:
        distance: ``(n,)`` norm of the shortest step found, in units of the box; 0 for samples that are decided wrongly
            as they are, infinity where nothing was found.
        points: ``(n, ...)`` where it leads, in units of the box.
    """

    distance: NDArray[np.float64]
    points: NDArray[np.float32]

    def robust_at(self, epsilon: float) -> NDArray[np.bool_]:
        """Samples for which nothing was found within ε.

        Args:
            epsilon: In units of the box.
        """
        return self.distance > epsilon
