"""Trade-offs between several objectives: dominance under uncertainty, fronts, knee, hypervolume, under-fitting.

Rows are models, columns objectives; ``maximize`` says per column whether more is better. Every value is finite: a
model without one cannot be compared, and the caller leaves it out by name.

Sorting is a few lines of NumPy here because no library that we know sorts by intervals (moocore's `is_nondominated`
and `pareto_rank` take points, and agree with ours where there are no intervals: tested). The hypervolume is moocore's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from analyzer.errors import DataError, MissingExtraError

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]

MISSING = "The hypervolume needs moocore, which is not installed: pip install 'keras-analyzer[pareto]'."

REFERENCE_MARGIN = 0.1
"""How far the reference point lies beyond the worst value, in ranges of the objective: far enough for the extremes of
the front to count, near enough not to drown the middle (Ishibuchi et al., How to specify a reference point in
hypervolume calculation for fair performance comparison, Evolutionary Computation 2018)."""


def better(values: Floats, maximize: Sequence[bool], low: Floats | None = None, high: Floats | None = None) -> Booleans:
    """Which model is better than which, objective by objective, beyond uncertainty.

    A is better than B where the interval of their difference excludes zero. It is made from the intervals of both:
    ``d - sqrt((a - a_low)^2 + (b_high - b)^2) > 0`` (MOVER: Zou and Donner, Construction of confidence limits about
    effect measures: a general approach, Statistics in Medicine 2008). For models measured on the same samples, whose
    errors go together, it errs on the side of a tie. Without intervals it is plain ``a > b``.

    Args:
        values: Shape ``(models, objectives)``.
        maximize: One per objective.
        low: Lower ends of the intervals, same shape; NaN where a value has none and counts as exact.
        high: Upper ends, likewise.

    Returns:
        Shape ``(models, models, objectives)``: ``[a, b, j]`` is true where a is better than b in j.

    Raises:
        DataError: If a value is not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if not np.all(np.isfinite(values)):
        raise DataError("A value is missing or infinite; leave out models that cannot be compared before comparing.")
    sign = np.where(maximize, 1.0, -1.0)
    below = np.zeros_like(values) if low is None else np.nan_to_num(np.maximum(values - low, 0.0))
    above = np.zeros_like(values) if high is None else np.nan_to_num(np.maximum(high - values, 0.0))
    # Towards worse and towards better: for less-is-better the two ends change places.
    worse, more = np.where(maximize, below, above), np.where(maximize, above, below)
    difference = sign * (values[:, None, :] - values[None, :, :])
    return np.asarray(difference > np.hypot(worse[:, None, :], more[None, :, :]))


def dominance(
    values: Floats, maximize: Sequence[bool], low: Floats | None = None, high: Floats | None = None
) -> Booleans:
    """Which model dominates which.

    A dominates B where it is better beyond uncertainty (see `better`) in at least one objective and B is better beyond
    uncertainty in none: differences within uncertainty are ties. Without intervals this is Pareto dominance. Ties are
    not transitive, so models may dominate each other in a circle; such models are equals, and none of a circle
    dominates another of it (the top cycle of Schwartz, On the possibility of rational policy evaluation, Theory and
    Decision 1970).

    Args:
        values: Shape ``(models, objectives)``.
        maximize: One per objective.
        low: Lower ends of the intervals; NaN for none.
        high: Upper ends.

    Returns:
        Shape ``(models, models)``: ``[a, b]`` is true where a dominates b.

    Raises:
        DataError: If a value is not finite.
    """
    ahead = better(values, maximize, low, high)
    wins = ahead.any(axis=2)
    dominates = wins & ~wins.T
    if not dominates.size:
        return np.asarray(dominates)
    _, circle = connected_components(dominates, directed=True, connection="strong")
    return np.asarray(dominates & (circle[:, None] != circle[None, :]))


def front_of(dominates: Booleans) -> Booleans:
    """The front: no model of it dominates another, and every other model is dominated by one of it.

    Where dominance is transitive, these are the models that nothing dominates. Ties are not transitive: along a chain
    of models that each tie with the next in accuracy, a far worse one would rule out the best. So only models of the
    front rule out others; what is dominated by ruled-out models alone stays. It is the stable set of von Neumann and
    Morgenstern, Theory of Games and Economic Behavior, 1944, which is unique where there are no circles.

    Args:
        dominates: From `dominance`, shape ``(models, models)``.

    Returns:
        Shape ``(models,)``.
    """
    front = np.zeros(len(dominates), dtype=np.bool_)
    open_ = ~front
    while open_.any():
        free = open_ & ~dominates[open_].any(axis=0)
        front |= free
        open_ &= ~(free | dominates[free].any(axis=0))
    return front


def ranks(dominates: Booleans) -> NDArray[np.int64]:
    """Rank of each model by non-dominated sorting: the front is 1, the front of the others 2, and so on.

    Goldberg, Genetic Algorithms in Search, Optimization and Machine Learning, 1989; Deb et al., A fast and elitist
    multiobjective genetic algorithm: NSGA-II, IEEE Transactions on Evolutionary Computation 2002.

    Args:
        dominates: From `dominance`, shape ``(models, models)``.
    """
    rank = np.zeros(len(dominates), dtype=np.int64)
    while not rank.all():
        left = np.flatnonzero(rank == 0)
        rank[left[front_of(dominates[np.ix_(left, left)])]] = rank.max() + 1
    return rank


def normalized(values: Floats, maximize: Sequence[bool]) -> Floats:
    """Values between the worst (0) and the best (1) of their column; NaN where all are equal and there is neither.

    Args:
        values: Shape ``(models, objectives)``.
        maximize: One per objective.
    """
    values = np.asarray(values, dtype=np.float64)
    spread = values.max(axis=0) - values.min(axis=0)
    worst = np.where(maximize, values.min(axis=0), values.max(axis=0))
    share = np.full_like(values, np.nan)
    np.divide(np.abs(values - worst), spread, out=share, where=spread > 0)
    return share


def knee(front: Floats, maximize: Sequence[bool]) -> int | None:
    """The model of a front with the best trade-off: it bulges most beyond the plane through the extremes.

    Das, On characterizing the "knee" of the Pareto curve based on Normal-Boundary Intersection, Structural
    Optimization 1999. Objectives are scaled to the range of the front, so that the plane is Σ = 1 and the distance from
    it is proportional to the sum of the scaled values less 1; objectives on which the front does not differ are left
    out. With three objectives or more the extremes need not span that plane; it then is the usual approximation.

    Args:
        front: Values of the models of the front, shape ``(models, objectives)``.
        maximize: One per objective.

    Returns:
        Row of the knee (of several, the first); None where no model lies beyond the plane: with one or two models, or
        on a straight or hollow front, no trade-off is better than another.
    """
    scaled = normalized(front, maximize)
    scaled = scaled[:, ~np.isnan(scaled).any(axis=0)]
    if scaled.shape[1] < 2:
        return None
    bulge = scaled.sum(axis=1) - 1
    return int(np.argmax(bulge)) if bulge.max() > 1e-9 else None


def hypervolume(values: Floats, maximize: Sequence[bool], front: Booleans | None = None) -> float:
    """Share of the box of all trade-offs that a front dominates (Zitzler and Thiele, PPSN 1998).

    The box reaches from the best value of every objective to a reference point beyond the worst one
    (`REFERENCE_MARGIN`); objectives on which the models do not differ are left out. 1 where one model is best in
    everything. It depends on the models: compare it only between choices from the same ones.

    Args:
        values: All models, shape ``(models, objectives)``; point values, uncertainty has no part in it.
        maximize: One per objective.
        front: The models whose volume is asked for; None for all.

    Raises:
        MissingExtraError: If moocore is not installed.
    """
    try:
        import moocore
    except ImportError as error:
        raise MissingExtraError(MISSING) from error
    scaled = normalized(values, maximize)
    scaled = scaled[:, ~np.isnan(scaled).any(axis=0)]
    sides = scaled.shape[1]
    if sides == 0:
        return 1.0
    points = scaled if front is None else scaled[front]
    volume: Any = moocore.hypervolume(points, ref=np.full(sides, -REFERENCE_MARGIN), maximise=True)
    return float(volume / (1 + REFERENCE_MARGIN) ** sides)


def shortfall(
    train: Floats,
    validation: Floats,
    train_margin: Floats | None = None,
    validation_margin: Floats | None = None,
    ahead: Booleans | None = None,
) -> Floats:
    """How far a model is under-fitted: its training loss less the validation loss of the best model.

    A model is under-fitted where it does worse on the data it was trained on than the best model does on data that it
    never saw, and is worse than that model on validation data, too. Its generalisation gap then says nothing about how
    it generalises: there is little to generalise. Excess error is approximation and optimisation error plus estimation
    error (Bottou and Bousquet, The tradeoffs of large scale learning, NIPS 2007); the gap sees the last part alone.
    Dropout and augmentation raise a training loss: it counts as no higher than the validation loss.

    Args:
        train: Training losses, shape ``(models,)``, all of the same loss; NaN where not known.
        validation: Validation losses; the smallest is that of the best model.
        train_margin: Half widths of their intervals; None for exact values.
        validation_margin: Likewise.
        ahead: ``[a, b]`` is true where a performs better than b beyond uncertainty, or it is not known, shape
            ``(models, models)``: who performs no worse than the best model is not under-fitted.

    Returns:
        The shortfall in units of the loss; 0 where a model is not under-fitted beyond uncertainty or not known.
    """
    short = np.zeros(len(train))
    known = np.isfinite(train) & np.isfinite(validation)
    if not known.any():
        return short
    best = int(np.argmin(np.where(known, validation, np.inf)))
    seen = np.zeros(len(train)) if train_margin is None else np.nan_to_num(train_margin)
    unseen = np.zeros(len(train)) if validation_margin is None else np.nan_to_num(validation_margin)
    excess = np.minimum(train, validation) - validation[best]
    behind = validation - validation[best]
    under = known & (excess > np.hypot(seen, unseen[best])) & (behind > np.hypot(unseen, unseen[best]))
    if ahead is not None:
        under &= ahead[best]
    short[under] = excess[under]
    return short
