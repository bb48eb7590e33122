"""How far the last hidden layer has collapsed onto its class means, and how far any layer separates the classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.values import Estimate
from analyzer.measures.labelled_rows import LabelledRows, explained_share, jackknife, labelled_rows, scatter
from analyzer.measures.similarity import wilson

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class NeuralCollapse:
    """The four signs of neural collapse (Papyan, Han & Donoho, PNAS 2020). All but the last are 0 at full collapse.

    Classes count alike, however many samples they have.

    Attributes:
        n: Samples of the classes that have two at least; others are left out.
        n_classes: These classes.
        nc1: Variability within classes, tr(Σ_W Σ_B⁺)/K, with unbiased covariances within classes. Few samples per class
            blur the class means, which makes it too small where classes overlap. None where the class means coincide.
        nc2_norms: Unequal lengths of the centred class means: their standard deviation over their mean. None for two
            classes, where it is 0 whatever the network.
        nc2_angles: Mean of abs(cos + 1/(K − 1)) over pairs of centred class means. None for two classes.
        nc3: Classifier against class means: ‖W/‖W‖ − M/‖M‖‖² of centred matrices, from 0 to 4. None without weights.
        nc4: Share of samples on which the nearest class mean, taken without the sample itself, says what the model
            says; 1 at full collapse. None without decisions.
    """

    n: int
    n_classes: int
    nc1: float | None
    nc2_norms: float | None
    nc2_angles: float | None
    nc3: float | None
    nc4: Estimate | None


def neural_collapse(
    features: NDArray[np.floating],
    labels: NDArray[np.integer],
    *,
    weights: NDArray[np.floating] | None = None,
    decisions: NDArray[np.integer] | None = None,
) -> NeuralCollapse | None:
    """Measure neural collapse at the layer that feeds the classifier.

    Args:
        features: ``(n, d)`` input of the classifier.
        labels: ``(n,)`` class indices from 0 to K − 1.
        weights: ``(K, d)`` of the classifier: the transposed kernel of a dense layer; ``(1, d)`` of a single sigmoid.
        decisions: ``(n,)`` classes that the model chose.

    Returns:
        The measures; None where fewer than two classes have two samples, or a feature is not finite.

    Raises:
        ValueError: If the shapes do not fit each other.
    """
    data = labelled_rows(features, labels)
    if data is None:
        return None
    means = data.means - data.means.mean(axis=0)
    # Class means that differ by rounding only have no geometry.
    differ = np.abs(means).max(initial=0.0) > 1e-7 * np.abs(data.rows).max(initial=0.0)
    norms, angles = _simplex(means) if differ else (None, None)
    return NeuralCollapse(
        n=len(data.rows),
        n_classes=len(data.classes),
        nc1=_within_over_between(data, means) if differ else None,
        nc2_norms=norms,
        nc2_angles=angles,
        nc3=_self_duality(means, weights, data.classes) if differ and weights is not None else None,
        nc4=None if decisions is None else _nearest_mean_agreement(data, np.asarray(decisions)),
    )


def class_separability(rows: NDArray[np.floating], labels: NDArray[np.integer], *, level: float = 0.95) -> Estimate:
    """Share of a layer's variance that lies between the classes, less what chance alone puts there.

    ε² = 1 − (n − 1)/(n − K) · tr(S_W)/tr(S_T): near 0 for random labels whatever n, K and the width, 1 where a class
    is a point. Invariant to rotation, shift and a common scale. The interval is that of the delete-one jackknife.

    Args:
        rows: ``(n, d)``.
        labels: ``(n,)`` classes; those of one row are left out.
        level: Coverage of the interval.

    Returns:
        The estimate; its value is None where fewer than two classes are left, rows do not vary or are not finite.

    Raises:
        ValueError: If there is not one label per row.
    """
    data = labelled_rows(rows, labels)
    if data is None:
        return Estimate(value=None, n=len(rows), level=level)
    n, classes = len(data.rows), len(data.classes)
    sums = scatter(data, pooled=True)
    if np.sqrt(sums.total[0] / n) <= 1e-7 * np.abs(data.rows).max(initial=0.0) or np.any(sums.total_left <= 0):
        return Estimate(value=None, n=n, level=level)
    value = float(explained_share(sums.within, sums.total, n, classes)[0])
    left = explained_share(sums.within_left, sums.total_left, n - 1, classes)[:, 0]
    return jackknife(value, left, bounds=(-np.inf, 1.0), level=level)


def _within_over_between(data: LabelledRows, means: Floats) -> float:
    """tr(Σ_W Σ_B⁺)/K in the span of the class means, which has K − 1 directions at most."""
    classes = len(means)
    _, singular, directions = np.linalg.svd(means, full_matrices=False)
    real = singular > singular[0] * max(means.shape) * np.finfo(np.float64).eps
    real[classes - 1 :] = False
    projected = data.residuals @ directions[real].T
    per_class = 1.0 / (data.counts * 1.0 - 1.0)
    within = np.sum(projected**2 * per_class[data.codes][:, None], axis=0) / classes
    return float(np.sum(within * classes / singular[real] ** 2) / classes)


def _simplex(means: Floats) -> tuple[float | None, float | None]:
    classes = len(means)
    if classes < 3:
        return None, None
    lengths = np.linalg.norm(means, axis=1)
    spread = float(lengths.std() / lengths.mean())
    if lengths.min() <= 0:
        return spread, None
    cosines = (means / lengths[:, None]) @ (means / lengths[:, None]).T
    pairs = cosines[np.triu_indices(classes, 1)]
    return spread, float(np.mean(np.abs(pairs + 1 / (classes - 1))))


def _self_duality(means: Floats, weights: NDArray[np.floating], classes: NDArray[np.int64]) -> float | None:
    kernel = np.asarray(weights, dtype=np.float64)
    if kernel.ndim == 2 and len(kernel) == 1:
        kernel = np.concatenate([-kernel, kernel])
    if kernel.ndim != 2 or kernel.shape[1] != means.shape[1] or classes.max() >= len(kernel) or classes.min() < 0:
        raise ValueError(
            f"Weights of shape {np.shape(weights)} do not fit features of {means.shape[1]} units and classes up to "
            f"{classes.max()}: (classes, units) is needed."
        )
    # A vector added to every row changes no softmax, so it must not change this either.
    kernel = kernel[classes] - kernel[classes].mean(axis=0)
    length = np.linalg.norm(kernel)
    if not np.isfinite(length) or length == 0:
        return None
    return float(np.sum((kernel / length - means / np.linalg.norm(means)) ** 2))


def _nearest_mean_agreement(data: LabelledRows, decisions: NDArray[np.integer]) -> Estimate:
    if decisions.shape != data.kept.shape:
        raise ValueError(f"{data.kept.size} samples and decisions of shape {decisions.shape}: one each is needed.")
    decisions = decisions[data.kept]
    rows = data.rows - data.rows.mean(axis=0)
    means = data.means - data.rows.mean(axis=0)
    distances = np.sum(rows**2, axis=1)[:, None] + np.sum(means**2, axis=1)[None, :] - 2 * (rows @ means.T)
    # The mean of the own class without the sample is farther away by c/(c − 1).
    own = (np.arange(len(rows)), data.codes)
    sizes = data.counts[data.codes]
    distances[own] = np.sum(data.residuals**2, axis=1) * (sizes / (sizes - 1)) ** 2
    nearest = data.classes[np.argmin(distances, axis=1)]
    comparable = np.isin(decisions, data.classes)
    return wilson(int(np.count_nonzero((nearest == decisions)[comparable])), int(np.count_nonzero(comparable)))
