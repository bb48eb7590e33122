"""All that the kept rows of one layer say about its representation, so that the rows can be let go."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.values import Estimate
from analyzer.measures.cka import centred_gram
from analyzer.measures.dimensionality import Dimensionality, dimensionality_of_rows, two_nn
from analyzer.measures.neural_collapse import class_separability
from analyzer.measures.probes import Probe, classification_probe, regression_probe
from analyzer.measures.quantile_sketch import PERCENTS, percentiles_with_interval
from analyzer.measures.specialization import Specialization, class_specialization
from analyzer.measures.unit_similarity import axis_similarity, duplicate_units

DORMANT = 0.025
"""Mean magnitude of a unit, relative to its layer's, at or below which it is dormant (Sokar et al. 2023)."""

SATURATED_MARGIN = 0.01
"""Distance from a bound, as a share of the range between the bounds, within which a value is saturated."""

SATURATED_SHARE = 0.95
"""Share of saturated values from which a unit is saturated."""

RANK_TOLERANCE = 1e-5
"""Singular values of float32 activations below this share of the largest are rounding."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Targets:
    """What the kept samples should be told apart by.

    Attributes:
        classes: ``(n,)`` class of each sample, or None.
        values: ``(n, d)`` regression targets, or None.
    """

    classes: NDArray[np.int64] | None = None
    values: Floats | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Representation:
    """Measures of one layer's kept rows; each is None where it is undefined, or was not asked for.

    Attributes:
        n_samples: Kept samples.
        n_positions: Kept positions of each.
        dimensionality: Ranks of the rows.
        intrinsic_dimension: TwoNN over samples, the positions of one sample taken as one vector.
        linear_rank: Numerical rank before the activation function; None where there is none.
        percentiles: By their number.
        saturation: Share of values near a bound.
        saturated_units: Units that are near a bound almost always.
        dormant_ratio: Share of dormant units.
        input_cosine: Mean cosine between samples.
        separability: Share of variance between classes.
        probe: Held-out prediction of the target.
        unit_similarity: Mean absolute cosine between units.
        position_similarity: Mean absolute cosine between positions of one sample.
        unit_percentiles: ``(7, d)`` percentiles of each unit.
        duplicates: Groups of units that repeat each other.
        specialization: How far the class decides what units do.
        gram: Centred Gram matrix, whose inner products are CKA.
    """

    n_samples: int
    n_positions: int
    dimensionality: Dimensionality
    intrinsic_dimension: Estimate
    linear_rank: int | None
    percentiles: dict[str, Estimate]
    saturation: Estimate | None
    saturated_units: int | None
    dormant_ratio: Estimate | None
    input_cosine: Estimate
    separability: Estimate | None
    probe: Probe | None
    unit_similarity: Estimate | None
    position_similarity: Estimate | None
    unit_percentiles: Floats | None
    duplicates: tuple[tuple[int, ...], ...]
    specialization: Specialization | None
    gram: NDArray[np.float32]


def describe_rows(
    rows: NDArray[np.floating],
    before: NDArray[np.floating] | None = None,
    *,
    bounds: tuple[float, float] | None = None,
    activated: bool = False,
    targets: Targets | None = None,
    seed: int = 0,
) -> Representation:
    """Measure one layer.

    Args:
        rows: ``(n, k, d)``: n samples, k positions of each, d units.
        before: Likewise before the layer's activation function.
        bounds: Lower and upper bound of its activation function, where it has two.
        activated: Whether rows come from an activation function, so that magnitudes of units compare.
        targets: Classes or values of the n samples.
        seed: Chooses subsets and folds.
    """
    values = np.asarray(rows, dtype=np.float64)
    n, k, d = values.shape
    flat = values.reshape(n * k, d)
    whole = bool(np.isfinite(values).all())
    classes = targets.classes if targets is not None and whole else None
    pooled = values.mean(axis=1) if whole else values[:, 0]
    return Representation(
        n_samples=n,
        n_positions=k,
        dimensionality=dimensionality_of_rows(flat, tolerance=RANK_TOLERANCE),
        intrinsic_dimension=two_nn(values.reshape(n, k * d), seed=seed),
        linear_rank=None if before is None else linear_rank(before),
        percentiles=_percentiles(flat, n) if whole else {},
        saturation=None if bounds is None or not whole else _saturation(flat, bounds, n),
        saturated_units=None if bounds is None or not whole else int(_saturated_units(flat, bounds).sum()),
        dormant_ratio=_dormant_ratio(flat) if activated and whole else None,
        input_cosine=input_cosine(values),
        separability=None if classes is None else class_separability(pooled, classes),
        probe=_probe(pooled, targets, seed) if whole else None,
        unit_similarity=_unit_similarity(flat, seed) if whole else None,
        position_similarity=axis_similarity(values, 1, seed=seed) if whole and k > 1 and d > 1 else None,
        unit_percentiles=np.percentile(flat, PERCENTS, axis=0) if whole else None,
        duplicates=duplicate_units(flat) if whole else (),
        specialization=None if classes is None else class_specialization(pooled, classes),
        gram=centred_gram(values.reshape(n, k * d)).astype(np.float32),
    )


def linear_rank(rows: NDArray[np.floating]) -> int | None:
    """Directions in which rows vary: singular values of the centred rows above `RANK_TOLERANCE` of the largest.

    Args:
        rows: ``(..., d)``.

    Returns:
        The rank; None where values are not finite or do not vary.
    """
    flat = np.asarray(rows, dtype=np.float64).reshape(-1, rows.shape[-1])
    return dimensionality_of_rows(flat, tolerance=RANK_TOLERANCE).numerical_rank


def input_cosine(rows: NDArray[np.floating]) -> Estimate:
    """Mean cosine between the activations of two different samples, not centred (Poole et al. 2016).

    Args:
        rows: ``(n, ...)``; what follows the first axis is flattened. Samples without any activation are left out.
    """
    flat = np.asarray(rows, dtype=np.float64).reshape(len(rows), -1)
    norms = np.linalg.norm(flat, axis=1)
    used = norms > 0
    n = int(used.sum())
    if n < 2 or not np.isfinite(flat).all():
        return Estimate(value=None, n=n)
    total = (flat[used] / norms[used, None]).sum(axis=0)
    return Estimate(value=float((total @ total - n) / (n * (n - 1))), n=n)


def _percentiles(flat: Floats, n_samples: int) -> dict[str, Estimate]:
    found = percentiles_with_interval(flat.reshape(-1), n_independent=n_samples)
    return {
        f"{percent:g}": Estimate(
            value=float(value),
            low=None if np.isnan(low) else float(low),
            high=None if np.isnan(high) else float(high),
            n=found.n,
            level=found.level,
            method="order statistics",
        )
        for percent, value, low, high in zip(found.percents, found.values, found.lows, found.highs, strict=True)
    }


def _near_bound(flat: Floats, bounds: tuple[float, float]) -> NDArray[np.bool_]:
    low, high = bounds
    margin = SATURATED_MARGIN * (high - low)
    return np.asarray((flat <= low + margin) | (flat >= high - margin))


def _saturation(flat: Floats, bounds: tuple[float, float], n_samples: int) -> Estimate:
    return Estimate(value=float(_near_bound(flat, bounds).mean()), n=n_samples)


def _saturated_units(flat: Floats, bounds: tuple[float, float]) -> NDArray[np.bool_]:
    return np.asarray(_near_bound(flat, bounds).mean(axis=0) >= SATURATED_SHARE)


def _dormant_ratio(flat: Floats) -> Estimate | None:
    magnitude = np.abs(flat).mean(axis=0)
    if magnitude.mean() <= 0:
        # A layer of zeros has no scale of its own; all its units are dead.
        return Estimate(value=1.0, n=len(magnitude))
    dormant = magnitude <= DORMANT * magnitude.mean()
    return Estimate(value=float(dormant.mean()), n=len(magnitude))


def _probe(pooled: Floats, targets: Targets | None, seed: int) -> Probe | None:
    if targets is None:
        return None
    if targets.classes is not None:
        return classification_probe(pooled, targets.classes, seed=seed)
    return None if targets.values is None else regression_probe(pooled, targets.values, seed=seed, n_bootstrap=200)


def _unit_similarity(flat: Floats, seed: int) -> Estimate | None:
    if flat.shape[1] < 2 or len(flat) < 2:
        return None
    found = axis_similarity(flat[None], 2, seed=seed)
    return Estimate(value=found.value, n=len(flat))
