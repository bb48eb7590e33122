"""Noise gain: how much a small random step at each layer changes the logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analyzer.diagnosis.cases import Cases
from analyzer.diagnosis.patchable import Patchable
from analyzer.inspection.selection import LayerCall
from analyzer.measures.fault import noise_gain, noise_like
from analyzer.measures.random_streams import stream

Floats = NDArray[np.float64]


def noise_gains(
    model: Patchable, cases: Cases, calls: Sequence[LayerCall], *, size: float = 0.1, n_draws: int = 4, seed: int = 0
) -> dict[str, Floats]:
    """Relative change of the logits per relative size of noise at a layer, for the samples as they are.

    The noise has a random direction and ``size`` times the length of the sample's activations: what leads on from the
    layer is measured, whatever the scale of the layer. An attack that follows the worst direction grows more.

    Args:
        model: The model.
        cases: The samples.
        calls: Where noise is put.
        size: Length of the noise over that of the activations.
        n_draws: Directions for each sample.
        seed: Seed of the directions, which are those of NumPy on every backend.

    Returns:
        ``(n,)`` by id; NaN where it is not defined, as for whole numbers.
    """
    noised: dict[str, Floats] = {}
    for rows, x, _ in cases.batches(model.batch_size):
        _, recorded = model.record(x, calls)
        for number, call in enumerate(calls):
            h = recorded.get(call.id)
            if h is None or h.dtype.kind != "f":
                continue
            z = noised.setdefault(call.id, np.empty((n_draws, *cases.z.shape)))
            for draw in range(n_draws):
                rng = stream(seed, 74, number, rows.start, draw)
                z[draw, rows] = model.logits(x, {call: h + noise_like(h, size, rng)})
    undefined = np.full(len(cases.y), np.nan)
    return {call.id: noise_gain(cases.z, noised[call.id], size) if call.id in noised else undefined for call in calls}
