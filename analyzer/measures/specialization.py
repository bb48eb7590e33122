"""How much the units of a layer specialise: on classes where labels are known, on few samples where they are not.

The class selectivity index (μ_max − μ_rest)/(μ_max + μ_rest) of Morcos et al. (2018) needs activations that are never
negative, changes when a constant is added, and is far from zero for random labels when classes have few samples, the
more so the more classes there are. The share of a unit's variance that the class explains, without the share that
chance explains (ε², Kelley 1935), has none of these faults: it is invariant to scale, sign and shift of the unit, and 0
on average under random labels for any activation function, n and number of classes. As a mean over units it does not
grow with the width of the layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.values import Estimate
from analyzer.measures.labelled_rows import explained_share, jackknife, labelled_rows, scatter, varying

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Specialization:
    """How far the class decides what the units of one layer do.

    Attributes:
        score: Mean of ``unit_scores`` over the units that vary: 0 where the class says nothing about a unit, 1 where it
            says all. Can be slightly negative by chance. Its interval is that of the delete-one jackknife over rows.
        unit_scores: ``(d,)`` ε² of each unit; NaN for one that does not vary.
        preferred_class: ``(d,)`` label whose mean activation is highest; −1 for a unit that does not vary.
        n_units: Units that vary.
        n_classes: Classes with two rows at least; others are left out.
    """

    score: Estimate
    unit_scores: Floats
    preferred_class: NDArray[np.int64]
    n_units: int
    n_classes: int


def class_specialization(
    rows: NDArray[np.floating], labels: NDArray[np.integer], *, level: float = 0.95
) -> Specialization | None:
    """Share of the variance of each unit that the class explains, ε² (Kelley 1935; Okada 2013 on its small bias).

    Args:
        rows: ``(n, d)`` activations, a unit per column.
        labels: ``(n,)`` classes; those of one row are left out.
        level: Coverage of the interval.

    Returns:
        The scores; None where fewer than two classes are left, no unit varies, or a value is not finite.

    Raises:
        ValueError: If there is not one label per row.
    """
    data = labelled_rows(rows, labels)
    if data is None:
        return None
    units = varying(data.rows)
    if not units.any():
        return None
    n, classes = len(data.rows), len(data.classes)
    sums = scatter(data, pooled=False)
    scores = np.full(units.size, np.nan)
    scores[units] = explained_share(sums.within[units], sums.total[units], n, classes)
    # A unit that is silent without one row tells nothing then: it keeps its value.
    total_left = sums.total_left[:, units]
    silent = total_left <= 1e-12 * sums.total[units]
    left = explained_share(sums.within_left[:, units], np.where(silent, 1.0, total_left), n - 1, classes)
    left = np.where(silent, scores[units], left).mean(axis=1)
    return Specialization(
        score=jackknife(float(scores[units].mean()), left, bounds=(-np.inf, 1.0), level=level),
        unit_scores=scores,
        preferred_class=np.where(units, data.classes[np.argmax(data.means, axis=0)], -1),
        n_units=int(units.sum()),
        n_classes=classes,
    )


def sparseness(activations: NDArray[np.floating], axis: int) -> Floats:
    """Sparseness (1 − a)/(1 − 1/n) with a = (mean abs)²/mean square (Treves & Rolls 1991; Vinje & Gallant 2000).

    Lifetime sparseness along samples says on how few of them a unit responds; population sparseness along units says
    how few of them respond to a sample. 0 for equal responses, 1 for a single one; normal activations have
    1 − 2/π = 0.36. It needs no labels, ignores scale and sign, and, unlike specialization, depends on where zero lies.

    Args:
        activations: Any shape, mostly ``(n, d)``.
        axis: Axis along which responses are compared.

    Returns:
        One value for each position of the other axes; NaN where all responses are zero, one is not finite, or there are
        fewer than two.
    """
    values = np.abs(np.asarray(activations, dtype=np.float64))
    n = values.shape[axis]
    largest = values.max(axis=axis, keepdims=True, initial=0.0)
    usable = (largest > 0) & np.isfinite(largest) & (n > 1)
    scaled = np.where(usable, values, 1.0) / np.where(usable, largest, 1.0)
    share = scaled.mean(axis=axis) ** 2 / np.mean(scaled**2, axis=axis) if n else np.ones(usable.squeeze(axis).shape)
    return np.asarray(np.where(usable.squeeze(axis), (1.0 - share) / max(1.0 - 1.0 / max(n, 1), 0.5), np.nan))
