"""Calibration of heads that predict quantiles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from analyzer.data_types.calibration_parts import CalibrationVerdict
from analyzer.data_types.regression_calibration import Coverage, QuantileCalibration
from analyzer.measures.calibration.gaussian import holm
from analyzer.measures.calibration.means import MeanBootstrap
from analyzer.measures.calibration.null_test import LEVEL, independent_rows, make_verdict

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TEST_NAME = "exact binomial tests of the share below each quantile, Holm over levels"


def pinball_loss(prediction: Floats, truth: Floats, levels: Sequence[float]) -> Floats:
    """Pinball loss of each row and level (Koenker & Bassett 1978): max(t (y - q), (t - 1) (y - q)).

    Args:
        prediction: ``(m, q)`` predicted quantiles.
        truth: ``(m,)``.
        levels: q levels in (0, 1).
    """
    away = truth[:, None] - prediction
    tau = np.asarray(levels)
    return np.maximum(tau * away, (tau - 1) * away)


def quantile_calibration(
    prediction: Floats,
    truth: Floats,
    levels: Sequence[float],
    *,
    n_bootstrap: int = 1000,
    seed: int = 0,
    groups: Ints | None = None,
    level: float = LEVEL,
) -> QuantileCalibration:
    """Coverage of every quantile and central interval, pinball loss, crossings and verdict.

    Args:
        prediction: ``(m, q)`` predicted quantiles.
        truth: ``(m,)``.
        levels: The q levels, ascending, in (0, 1).
        n_bootstrap: Bootstrap samples behind the intervals; 0 computes none.
        seed: Seed of the bootstrap.
        groups: ``(m,)`` sample of each row where rows are not independent; the test then looks at one row per group.
        level: Level of the verdict's test.
    """
    bootstrap = MeanBootstrap(len(truth), groups, n_bootstrap, seed)
    below = truth[:, None] <= prediction
    losses = pinball_loss(prediction, truth, levels)
    tau = np.asarray(levels)
    pairs = _central_pairs(levels)
    return QuantileCalibration(
        task="quantile",
        n=len(truth),
        n_samples=bootstrap.units.n_independent,
        levels=tuple(map(float, levels)),
        coverage=tuple(Coverage(nominal=t, observed=bootstrap.share(below[:, j])) for j, t in enumerate(levels)),
        intervals=tuple(_interval(prediction, truth, low, high, nominal, bootstrap) for low, high, nominal in pairs),
        pinball=tuple(bootstrap.mean(losses[:, j], bounds=(0.0, np.inf)) for j in range(tau.size)),
        mean_pinball=bootstrap.mean(losses, bounds=(0.0, np.inf)),
        crossing=bootstrap.share(np.any(np.diff(prediction, axis=1) < 0, axis=1)),
        miscalibration=bootstrap.estimate(
            below.astype(np.float64),
            lambda means: np.abs(means - tau).mean(axis=1),
            method="noise-corrected bootstrap",
            bounds=(0.0, 1.0),
        ),
        verdict=_verdict(prediction, truth, tau, pairs, groups, level, np.random.default_rng([seed, 2])),
        prediction=prediction,
        residual=truth[:, None] - prediction,
    )


def _central_pairs(levels: Sequence[float]) -> list[tuple[int, int, float]]:
    """Columns of the quantiles t and 1 - t, and the nominal coverage 1 - 2 t between them."""
    pairs = []
    for low, t in enumerate(levels):
        match = np.flatnonzero(np.isclose(levels, 1 - t, atol=1e-9))
        if t < 0.5 and match.size:
            pairs.append((low, int(match[0]), round(1 - 2 * t, 9)))
    return pairs


def _interval(
    prediction: Floats, truth: Floats, low: int, high: int, nominal: float, bootstrap: MeanBootstrap
) -> Coverage:
    inside = (prediction[:, low] <= truth) & (truth <= prediction[:, high])
    width = bootstrap.mean(prediction[:, high] - prediction[:, low])
    return Coverage(nominal=nominal, observed=bootstrap.share(inside), width=width)


def _verdict(
    prediction: Floats,
    truth: Floats,
    tau: Floats,
    pairs: list[tuple[int, int, float]],
    groups: Ints | None,
    level: float,
    rng: np.random.Generator,
) -> CalibrationVerdict:
    rows = independent_rows(len(truth), groups, rng)
    below = truth[rows, None] <= prediction[rows]
    hits = below.sum(axis=0)
    p_values = [float(binomtest(int(k), rows.size, t).pvalue) for k, t in zip(hits, tau, strict=True)]
    z = 0.0
    if pairs:
        # The widest central interval tells the direction: too few rows inside is over-confident.
        low, high, nominal = pairs[0]
        inside = float(np.mean(below[:, high] & ~below[:, low]))
        z = (nominal - inside) / np.sqrt(nominal * (1 - nominal) / rows.size)
    return make_verdict(holm(p_values), z, n=rows.size, level=level, test=TEST_NAME)
