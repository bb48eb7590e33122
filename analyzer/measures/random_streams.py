"""Random numbers by purpose: one seed of the user, streams that do not depend on each other."""

from __future__ import annotations

import numpy as np


def stream(seed: int, *purpose: int) -> np.random.Generator:
    """Random numbers for one purpose, unlike those of ``default_rng(seed)``, which may have made the user's data.

    Args:
        seed: The user's seed.
        purpose: Tells streams apart; the same numbers give the same stream.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=purpose or (0,)))
