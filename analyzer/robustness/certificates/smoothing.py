"""Randomised smoothing (Cohen, Rosenfeld & Kolter, 2019, arXiv 1902.02918): a proof about the model under noise.

The smoothed classifier decides for the class that the model decides for most often when normal noise is added to its
input. What is certified is the smoothed classifier, not the model itself, and with a confidence, since the shares of
classes are estimated. Noise is drawn per sample from the seed and the sample's values, so neither the batch size nor
the other samples change a result; it is not clipped to the bounds of the inputs, or it would not be normal. Noise and
model are of float32; that rounding can be attacked (Voráček & Hein, 2022, arXiv 2207.07209) is not accounted for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm

from analyzer.data_types.values import Estimate
from analyzer.errors import ConfigError
from analyzer.measures.bootstrap import wilson
from analyzer.measures.paired_proportions import lower_share
from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.survivors import own_generators
from analyzer.robustness.attacks.threat import box_of

Tensor = Any
Array = NDArray[Any]
Floats = NDArray[np.float64]

ABSTAIN = -1
"""In place of a class: nothing can be said at the confidence that was asked for."""

PURPOSE = 0x5300
"""Of the random numbers, which are then no attack's; its successors are those of selection and of estimation."""

VALUES_AT_ONCE = 1 << 22
"""Input values drawn at a time: 16 megabytes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SmoothedCertificates:
    """Certificates of the smoothed classifier, each of which holds with probability ``1 - alpha``.

    Attributes:
        prediction: ``(n,)`` its class; `ABSTAIN` where no class has more than half of the noise for sure.
        radius: ``(n,)`` L2, in units of the data: within it the prediction does not change. NaN where it abstains.
        share: ``(n,)`` lower confidence bound (Clopper & Pearson, 1934) of the share of noise decided as the class
            that was selected.
        sigma: Standard deviation of the noise, in units of the data.
        alpha: Probability that a certificate is wrong.
        n_selection: Draws that selected the class.
        n_estimation: Further draws that its share was estimated from.
        n: Number of samples.
        definition: What was computed.
    """

    prediction: NDArray[np.int64]
    radius: Floats
    share: Floats
    sigma: float
    alpha: float
    n_selection: int
    n_estimation: int
    n: int
    definition: str = (
        "Randomised smoothing (Cohen et al., 2019): sigma * Phi^-1(share), a bound for the smoothed classifier and not "
        "for the model itself, with confidence 1 - alpha for each sample."
    )

    def certified_accuracy(self, y: Array, radius: float) -> Estimate:
        """Share of samples that are predicted rightly and certified beyond a radius, with Wilson's interval.

        Args:
            y: True classes, ``(n,)``.
            radius: In units of the data; 0 counts all right predictions that were not abstained from.
        """
        right = (self.prediction == np.asarray(y)) & (np.nan_to_num(self.radius, nan=-1.0) >= radius)
        return wilson(int(np.count_nonzero(right)), self.n)


@dataclass(frozen=True, kw_only=True, eq=False)
class SmoothedPredictions:
    """Decisions of the smoothed classifier, each wrong about it with probability ``alpha`` at most.

    Attributes:
        prediction: ``(n,)`` its class; `ABSTAIN` where the two most frequent ones cannot be told apart.
        p_value: ``(n,)`` of the two-sided binomial test that they are equally frequent.
        sigma: Standard deviation of the noise, in units of the data.
        alpha: Level of the test.
        n_draws: Draws per sample.
        n: Number of samples.
        definition: What was computed.
    """

    prediction: NDArray[np.int64]
    p_value: Floats
    sigma: float
    alpha: float
    n_draws: int
    n: int
    definition: str = "Most frequent class under normal noise (Cohen et al., 2019, algorithm Predict)."


def certify(
    attacked: Attacked,
    x: Array,
    *,
    sigma: float,
    n_selection: int = 100,
    n_estimation: int = 10_000,
    alpha: float = 0.001,
    seed: int = 0,
) -> SmoothedCertificates:
    """Within which L2 radius the smoothed classifier provably keeps its decision (algorithm Certify).

    Args:
        attacked: The model.
        x: Samples in units of the data, ``(n, ...)``.
        sigma: Standard deviation of the noise, in units of the data.
        n_selection: Draws that select a class.
        n_estimation: Other draws that its share is estimated from; radii cannot exceed
            ``sigma * Phi^-1(alpha ** (1 / n_estimation))``.
        alpha: Probability that a certificate is wrong.
        seed: Of the noise.

    Raises:
        ConfigError: If an option is out of its range.
        DataError: If samples are outside the bounds of the inputs.
    """
    _check(sigma, alpha, n_selection=n_selection, n_estimation=n_estimation)
    selection = class_counts(attacked, x, sigma=sigma, draws=n_selection, seed=seed, purpose=PURPOSE + 1)
    estimation = class_counts(attacked, x, sigma=sigma, draws=n_estimation, seed=seed, purpose=PURPOSE + 2)
    selected = selection.argmax(axis=1)
    hits = estimation[np.arange(len(x)), selected]
    share = lower_share(hits, n_estimation, alpha)
    # What is no class at all, a tie, may be most frequent too; that is nothing to certify.
    sure = (share > 0.5) & (selected < attacked.n_classes)
    radius = np.full(len(x), np.nan)
    radius[sure] = sigma * norm.ppf(share[sure])
    return SmoothedCertificates(
        prediction=np.where(sure, selected, ABSTAIN),
        radius=radius,
        share=share,
        sigma=float(sigma),
        alpha=alpha,
        n_selection=n_selection,
        n_estimation=n_estimation,
        n=len(x),
    )


def predict(
    attacked: Attacked, x: Array, *, sigma: float, draws: int = 1000, alpha: float = 0.001, seed: int = 0
) -> SmoothedPredictions:
    """What the smoothed classifier decides (algorithm Predict).

    Args:
        attacked: The model.
        x: Samples in units of the data, ``(n, ...)``.
        sigma: Standard deviation of the noise, in units of the data.
        draws: Draws of noise per sample.
        alpha: Level of the test between the two most frequent classes.
        seed: Of the noise.

    Raises:
        ConfigError: If an option is out of its range.
        DataError: If samples are outside the bounds of the inputs.
    """
    _check(sigma, alpha, draws=draws)
    counts = class_counts(attacked, x, sigma=sigma, draws=draws, seed=seed, purpose=PURPOSE)
    order = np.argsort(-counts, axis=1, kind="stable")
    first, second = (np.take_along_axis(counts, order[:, i : i + 1], axis=1)[:, 0] for i in (0, 1))
    p_value = np.array([binomtest(int(a), int(a + b), 0.5).pvalue for a, b in zip(first, second, strict=True)])
    sure = (p_value <= alpha) & (order[:, 0] < attacked.n_classes)
    return SmoothedPredictions(
        prediction=np.where(sure, order[:, 0], ABSTAIN),
        p_value=p_value,
        sigma=float(sigma),
        alpha=alpha,
        n_draws=draws,
        n=len(x),
    )


def class_counts(
    attacked: Attacked, x: Array, *, sigma: float, draws: int, seed: int, purpose: int
) -> NDArray[np.int64]:
    """How often the model decides for each class under noise, ``(n, classes + 1)``.

    The last column counts decisions for no class: several logits share the largest value, or none is a number.

    Args:
        attacked: The model.
        x: Samples in units of the data.
        sigma: Standard deviation of the noise, in units of the data.
        draws: Draws per sample.
        seed: Of the noise.
        purpose: Keeps draws for different ends apart.

    Raises:
        DataError: If samples are outside the bounds of the inputs.
    """
    ops = keras.ops
    box_of(x, (attacked.box.low, attacked.box.high))

    def decide(values: list[Tensor], u: Tensor) -> Tensor:
        z = attacked.logits(values, u)
        alone = ops.sum(ops.cast(z == ops.max(z, axis=-1, keepdims=True), "int32"), axis=-1) == 1
        return ops.where(alone, ops.cast(ops.argmax(z, axis=-1), "int32"), attacked.n_classes)

    program = attacked.program("smoothed decisions", decide)
    counts = np.zeros((len(x), attacked.n_classes + 1), np.int64)
    for i, rng in enumerate(own_generators(x, seed, purpose)):
        for noisy in _noisy(attacked, x[i], sigma, draws, rng):
            decided = attacked.by_batch([noisy], lambda batch, _: [program(*batch)])[0]
            counts[i] += np.bincount(decided, minlength=counts.shape[1])
    return counts


def _noisy(attacked: Attacked, row: Array, sigma: float, draws: int, rng: np.random.Generator) -> Iterator[Array]:
    """A sample under noise, as the model is attacked: in units of the box, but not within it."""
    batch = attacked.batch_size
    at_once = max(1, VALUES_AT_ONCE // (row.size * batch)) * batch
    origin = (np.asarray(row, np.float64) - attacked.box.low) / attacked.box.range
    for start in range(0, draws, at_once):
        noise = rng.standard_normal((min(at_once, draws - start), *row.shape), dtype=np.float32)
        yield np.asarray(origin + sigma / attacked.box.range * noise, np.float32)


def _check(sigma: float, alpha: float, **counts: int) -> None:
    if not (sigma > 0 and np.isfinite(sigma)):
        raise ConfigError(f"sigma={sigma}: expected a standard deviation above 0, in the units of the data.")
    if not 0 < alpha < 1:
        raise ConfigError(f"alpha={alpha}: expected a probability between 0 and 1.")
    for name, count in counts.items():
        if count < 1:
            raise ConfigError(f"{name}={count}: expected a number of draws of 1 or more.")
