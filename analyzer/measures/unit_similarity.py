"""Similarity of the slices of an activation along any axis (channels, patches, tokens, heads), and repeated units."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import log_softmax, xlogy

from analyzer.data_types.values import Estimate
from analyzer.measures.labelled_rows import varying
from analyzer.measures.similarity import mean_with_interval

Floats = NDArray[np.float64]
Kind = Literal["absolute_cosine", "cosine", "kl", "js"]

FEWEST_DISTINCT = 8
"""A unit must leave its resting value on this many samples before another can be said to repeat it: two rectified
units that fire on the same single sample correlate perfectly by chance."""

_ROWS_AT_ONCE = 512


def axis_similarity(
    x: NDArray[np.floating],
    axis: int,
    kind: Kind = "absolute_cosine",
    *,
    max_units: int = 512,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """Mean similarity over pairs of different slices along an axis, averaged over samples.

    Each sample is cut along the axis into C slices, each flattened over the P positions of all other axes:

    - ``"absolute_cosine"``: mean of abs(cos), 0 to 1 (Gong et al. 2021, arXiv 2104.12753: patch similarity);
      ``"cosine"``: signed. Slices of zeros have no direction and are left out.
    - ``"kl"``: Kullback–Leibler divergence in nats, over ordered pairs, of the softmax of the slices over positions, in
      logarithms; ``"js"``: Jensen–Shannon divergence, 0 to ln 2 (Lin 1991). Both are 0 for equal slices.

    Memory grows with C² and C·P of one sample, never with their product.

    Args:
        x: ``(B, ...)`` activations of B samples.
        axis: Any axis but the first; negative counts from the end.
        kind: Measure.
        max_units: Of longer axes a random subset of this size is compared, whose mean over pairs has no bias.
        seed: Chooses it.
        level: Coverage of the interval, Student's over samples.

    Returns:
        The estimate, n the number of samples for which it is defined; None where there are none, as with fewer than two
        slices or positions: one number has no direction and no distribution.

    Raises:
        ValueError: If the axis is not one of a sample, or the kind is unknown.
    """
    values = np.asarray(x)
    if kind not in _MEASURES:
        raise ValueError(f"Similarity {kind!r} is unknown: use one of {', '.join(_MEASURES)}.")
    if not -values.ndim < axis < values.ndim or axis == 0:
        raise ValueError(f"Axis {axis} of activations of shape {values.shape}: an axis behind the samples is needed.")
    moved = np.moveaxis(values, axis, 1)
    if moved.shape[1] > max_units:
        units = np.random.default_rng(seed).choice(moved.shape[1], max_units, replace=False)
        moved = moved[:, np.sort(units)]
    measure, bounds = _MEASURES[kind]
    found = [measure(np.asarray(sample, dtype=np.float64).reshape(len(sample), -1)) for sample in moved]
    defined = np.array([value for value in found if value is not None], dtype=np.float64)
    return mean_with_interval(defined, bounds=bounds, level=level)


def duplicate_units(rows: NDArray[np.floating], tolerance: float = 1e-6) -> tuple[tuple[int, ...], ...]:
    """Groups of units whose activations are the same up to scale, sign and shift.

    Units are linked where abs(correlation) ≥ 1 − tolerance. Units that do not vary, or leave their median on fewer than
    `FEWEST_DISTINCT` samples, are not compared. Layers of two units say nothing: those of a softmax or a layer
    normalisation always mirror each other.

    Args:
        rows: ``(n, d)`` activations, a unit per column.
        tolerance: Largest departure of the correlation from 1; float32 activations resolve about 1e-7.

    Returns:
        Groups of two units at least, as rising column indices.
    """
    values = np.asarray(rows, dtype=np.float64).reshape(len(rows), -1)
    n, d = values.shape
    if n < FEWEST_DISTINCT or d < 3:
        return ()
    compared = np.flatnonzero(_judgeable(values))
    if compared.size < 2:
        return ()
    standard = values[:, compared] - values[:, compared].mean(axis=0)
    standard /= np.linalg.norm(standard, axis=0)
    pairs = [_linked(standard, start, tolerance) for start in range(0, compared.size, _ROWS_AT_ONCE)]
    first, second = (np.concatenate(side) for side in zip(*pairs, strict=True))
    graph = coo_array((np.ones(first.size), (first, second)), shape=(compared.size, compared.size))
    labels = connected_components(graph, directed=False)[1]
    order = np.argsort(labels, kind="stable")
    groups = np.split(compared[order], np.flatnonzero(np.diff(labels[order])) + 1)
    return tuple(sorted(tuple(int(unit) for unit in group) for group in groups if group.size > 1))


def _judgeable(values: Floats) -> NDArray[np.bool_]:
    finite = np.isfinite(values).all(axis=0)
    safe = np.where(finite, values, 0.0)
    resting = np.sort(safe, axis=0)[len(safe) // 2]
    return np.asarray(finite & varying(safe) & (np.count_nonzero(safe != resting, axis=0) >= FEWEST_DISTINCT))


def _linked(standard: Floats, start: int, tolerance: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs of later and earlier columns in one direction, for a block of the later ones."""
    block = standard[:, start : start + _ROWS_AT_ONCE]
    correlations = np.abs(block.T @ standard[:, : start + block.shape[1]])
    later, earlier = np.nonzero(correlations >= 1.0 - tolerance)
    later = later + start
    return later[earlier < later], earlier[earlier < later]


def _unit_cosines(slices: Floats) -> Floats | None:
    """Cosines of all pairs, each unordered pair once."""
    largest = np.abs(slices).max(axis=1, keepdims=True, initial=0.0)
    if slices.shape[1] < 2 or not np.isfinite(largest).all():
        return None
    alive = largest[:, 0] > 0
    # At unit scale first, so that squares neither overflow nor vanish.
    directions = slices[alive] / largest[alive]
    if len(directions) < 2:
        return None
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return np.asarray((directions @ directions.T)[np.triu_indices(len(directions), 1)])


def _cosine(slices: Floats) -> float | None:
    cosines = _unit_cosines(slices)
    return None if cosines is None else float(cosines.mean())


def _absolute_cosine(slices: Floats) -> float | None:
    cosines = _unit_cosines(slices)
    return None if cosines is None else float(np.abs(cosines).mean())


def _distributions(slices: Floats) -> Floats | None:
    """Logarithms of the softmax of each slice over its positions."""
    if min(slices.shape) < 2 or not np.isfinite(slices).all():
        return None
    return np.asarray(log_softmax(slices, axis=1))


def _kl(slices: Floats) -> float | None:
    logs = _distributions(slices)
    if logs is None:
        return None
    p = np.exp(logs)
    # Σ p log p − Σ p log q for every pair by one matrix product; the diagonal is zero.
    divergences = np.sum(p * logs, axis=1)[:, None] - p @ logs.T
    np.fill_diagonal(divergences, 0.0)
    count = len(logs)
    return max(float(divergences.sum() / (count * (count - 1))), 0.0)


def _js(slices: Floats) -> float | None:
    logs = _distributions(slices)
    if logs is None:
        return None
    p = np.exp(logs)
    count = len(p)
    entropies = -np.sum(p * logs, axis=1)
    total = 0.0
    # Entropy of the mixture less the mean entropy, one slice against all later ones at a time.
    for i in range(count - 1):
        mixtures = (p[i] + p[i + 1 :]) / 2
        total += float(np.sum(-xlogy(mixtures, mixtures).sum(axis=1) - (entropies[i] + entropies[i + 1 :]) / 2))
    return max(total / (count * (count - 1) / 2), 0.0)


_MEASURES: dict[str, tuple[Callable[[Floats], float | None], tuple[float, float]]] = {
    "absolute_cosine": (_absolute_cosine, (0.0, 1.0)),
    "cosine": (_cosine, (-1.0, 1.0)),
    "kl": (_kl, (0.0, np.inf)),
    "js": (_js, (0.0, float(np.log(2.0)))),
}
