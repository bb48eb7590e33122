"""Scores of robustness, from how far each sample is from being decided wrongly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.values import Estimate
from analyzer.errors import ConfigError
from analyzer.measures.bootstrap import wilson
from analyzer.measures.performance import mean_estimate

Floats = NDArray[np.float64]


def aura(distances: Floats, epsilon_max: float, *, n_bootstrap: int = 1000, seed: int = 0) -> Estimate:
    """Area under the robust-accuracy curve up to ``epsilon_max``, over that radius: from 0 to 1.

    With ``d(x)`` the distance to a wrong decision, the area is the mean of ``min(d(x), epsilon_max) / epsilon_max``:
    a mean over samples, so that intervals and paired comparisons are those of a mean.

    Args:
        distances: ``(n,)``; 0 for samples that are decided wrongly as they are, infinity where no attack succeeded.
        epsilon_max: The largest radius that counts, in the units of the distances.
        n_bootstrap: Draws; 0 computes no interval.
        seed: Seed of the draws.

    Raises:
        ConfigError: If the radius is not above 0.
    """
    shares = aura_shares(distances, epsilon_max)
    return mean_estimate(shares, None, None, n_bootstrap=n_bootstrap, seed=seed)


def aura_shares(distances: Floats, epsilon_max: float) -> Floats:
    """What each sample adds to `aura`: ``(n,)`` from 0 to 1.

    Args:
        distances: See `aura`.
        epsilon_max: See `aura`.

    Raises:
        ConfigError: If the radius is not above 0.
    """
    if not epsilon_max > 0:
        raise ConfigError(f"epsilon_max={epsilon_max}: expected a radius above 0, in the units of the data.")
    return np.asarray(np.minimum(distances, epsilon_max) / epsilon_max, np.float64)


def robust_accuracy(distances: Floats, epsilon: float) -> Estimate:
    """Share of samples that no attack within ε changed, with Wilson's interval.

    Args:
        distances: See `aura`.
        epsilon: A radius, in the units of the distances; 0 gives the clean accuracy.
    """
    return wilson(int(np.count_nonzero(distances > epsilon)), len(distances))
