"""Paired comparisons: the sign-flip test of a mean difference, and Holm's correction over a list of tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EXHAUSTIVE = 12
"""Up to this many pairs, all sign flips are tried."""

_ROWS_AT_ONCE = 4096


def sign_flip_p_value(differences: Floats, *, n_draws: int = 20_000, seed: int = 0) -> float | None:
    """Two-sided p-value of the mean of paired differences under random signs (Fisher 1935, section 21).

    Exact where differences are symmetric about 0 under the null hypothesis, whatever their distribution: with few pairs
    all flips are counted, else random ones, of which the data themselves count as one (Phipson & Smyth 2010).

    Args:
        differences: ``(n,)``, all finite.
        n_draws: Random flips.
        seed: Seed of the flips.

    Returns:
        The p-value; None without pairs.
    """
    n = len(differences)
    if n == 0:
        return None
    scale = np.abs(differences).max()
    if scale == 0:
        return 1.0
    scaled = differences / scale
    # Flips that give the same sum in another order of addition must count as ties.
    observed = abs(scaled.sum()) - 1e-9 * n
    if n <= EXHAUSTIVE:
        bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        return float(np.mean(np.abs((1.0 - 2.0 * bits) @ scaled) >= observed))
    rng = np.random.default_rng(seed)
    as_extreme = 0
    for start in range(0, n_draws, _ROWS_AT_ONCE):
        signs = rng.integers(0, 2, size=(min(_ROWS_AT_ONCE, n_draws - start), n), dtype=np.int8) * 2 - 1
        as_extreme += int(np.sum(np.abs(signs @ scaled) >= observed))
    return (1 + as_extreme) / (1 + n_draws)


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted by Holm (1979): a test rejects at a level when its adjusted value is at most that.

    Args:
        p_values: One per test, in any order.

    Returns:
        The adjusted values in the same order.
    """
    m = len(p_values)
    adjusted = [1.0] * m
    largest = 0.0
    for rank, i in enumerate(sorted(range(m), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (m - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted
