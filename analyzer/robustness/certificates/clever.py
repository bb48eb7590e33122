"""CLEVER (Weng et al., 2018, arXiv 1801.10578): a distance estimated from the largest slopes that were met.

The margin to another class, divided by the largest slope of that margin near the sample, is a lower bound of the
distance. CLEVER estimates that slope from a sample of slopes by extreme value theory. An estimate of a bound is no
bound: where slopes are hidden it is too large (Goodfellow, 2018, arXiv 1804.07870).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import kstest, weibull_max

from analyzer.backends import engine
from analyzer.errors import ConfigError
from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.minimum_norm import likeliest, towards
from analyzer.robustness.attacks.survivors import own_generators
from analyzer.robustness.attacks.threat import Norm, check_norm, length, random_steps

Tensor = Any
Array = NDArray[Any]
Floats = NDArray[np.float64]

PURPOSE = 0xC1E0
"""Of the random numbers."""

SAME = 1e-5
"""Slopes that differ by less than this share are one slope, up to rounding: of a linear model."""

FURTHEST = 10.0
"""Where maxima look unbounded (their distribution is then nearly Gumbel's) the likelihood rises without end: the end is
looked for no further beyond the largest than this many times their range."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CleverScores:
    """Estimated distances to a wrong decision.

    Attributes:
        score: ``(n,)`` in units of the data; 0 for samples that are decided wrongly, ``radius`` at most.
        slope: ``(n, targets)`` estimated largest dual norm of the gradient of the margin to each target; NaN for
            samples that are decided wrongly.
        p_value: ``(n, targets)`` of a Kolmogorov-Smirnov test of the fit: small where the maxima are not what extreme
            value theory says. NaN where there was nothing to fit.
        targets: ``(n, targets)`` the classes looked at, the likeliest first.
        radius: Of the ball that slopes were looked up in, in units of the data.
        norm: Of the ball.
        n_gradients: Per sample and target.
        n: Number of samples.
        definition: What was computed.
    """

    score: Floats
    slope: Floats
    p_value: Floats
    targets: NDArray[np.int64]
    radius: float
    norm: Norm
    n_gradients: int
    n: int
    definition: str = (
        "CLEVER (Weng et al., 2018): margin over the largest slope nearby, as a reverse Weibull distribution of maxima "
        "estimates it. An estimate of a lower bound, not a bound."
    )


def clever_scores(
    attacked: Attacked,
    x: Array,
    y: Array,
    *,
    radius: float,
    norm: Norm = "l2",
    blocks: int = 50,
    block_size: int = 64,
    most_targets: int = 9,
    seed: int = 0,
) -> CleverScores:
    """Estimate how far each sample is from a wrong decision.

    Args:
        attacked: The model.
        x: Samples in units of the data, ``(n, ...)``.
        y: True classes, ``(n,)``.
        radius: Of the ball in which slopes are looked up, in units of the data; no score is larger.
        norm: ``"l2"``, ``"linf"`` or ``"l1"``: of the ball and of the distance.
        blocks: Maxima that the distribution is fitted to (the paper takes 500).
        block_size: Points that each is the maximum of (the paper takes 1024).
        most_targets: Most classes looked at, the likeliest first.
        seed: Of the points; they depend neither on the batch size nor on other samples.

    Raises:
        ConfigError: If an option is out of its range.
        DataError: If samples are outside the bounds of the inputs, or classes not among those of the model.
    """
    check_norm(norm)
    _check(radius, blocks, block_size, most_targets)
    u, y = attacked.to_unit(x), np.asarray(y)
    attacked.check(u, y)
    targets = likeliest(attacked, u, y, most_targets)
    z = attacked.all_logits(u).astype(np.float64)
    margins = z[np.arange(len(y)), y][:, None] - np.take_along_axis(z, targets, axis=1)
    slope, p_value = np.full(targets.shape, np.nan), np.full(targets.shape, np.nan)
    search = _Search(attacked, norm, radius / attacked.box.range, blocks, block_size)
    generators = own_generators(u, seed, PURPOSE)
    for i in np.flatnonzero((margins > 0).all(axis=1)):
        maxima = search.maxima(u[i], int(y[i]), targets[i], generators[i]) / attacked.box.range
        for rank, each in enumerate(maxima.T):
            slope[i, rank], p_value[i, rank] = largest_slope(each)
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.where(slope > 0, margins / slope, np.inf)
    score = np.where((margins > 0).all(axis=1), np.minimum(reach.min(axis=1), radius), 0.0)
    return CleverScores(
        score=score,
        slope=slope,
        p_value=p_value,
        targets=targets,
        radius=float(radius),
        norm=norm,
        n_gradients=blocks * block_size,
        n=len(x),
    )


def largest_slope(maxima: Floats) -> tuple[float, float]:
    """The end of the reverse Weibull distribution that maxima come from, by maximum likelihood.

    Args:
        maxima: ``(blocks,)`` each the largest of many slopes.

    Returns:
        The estimate, at least the largest of them; and the p-value of a Kolmogorov-Smirnov test of the fit, NaN where
        the maxima do not differ.
    """
    largest, spread = float(maxima.max()), float(np.ptp(maxima))
    if spread <= SAME * largest:
        return largest, float("nan")
    below = (largest - maxima) / spread
    found = minimize_scalar(lambda gap: -_fitted(below + gap)[0], bounds=(1e-6, FURTHEST), method="bounded")
    gap = float(found.x)
    _, shape, scale = _fitted(below + gap)
    fit = weibull_max(shape, loc=0.0, scale=scale)
    return largest + spread * gap, float(kstest(-(below + gap), fit.cdf).pvalue)


def _fitted(t: Floats) -> tuple[float, float, float]:
    """Largest mean log likelihood of a Weibull distribution that begins at 0, its shape and its scale.

    The shape is 1 at least: below, the density is infinite at the end, and no likelihood is the largest (Smith, 1985).
    """
    log = np.log(t)

    def excess(shape: float) -> float:
        weight = np.exp(shape * (log - log.max()))
        return float(weight @ log / weight.sum() - log.mean() - 1 / shape)

    shape = 1.0
    if excess(1.0) < 0:
        high = 2.0
        while excess(high) < 0:
            high *= 2
        shape = float(brentq(excess, 1.0, high))
    scale = float(np.exp(log.max() + np.log(np.mean(np.exp(shape * (log - log.max())))) / shape))
    likelihood = np.log(shape / scale) + (shape - 1) * (log - np.log(scale)).mean() - ((t / scale) ** shape).mean()
    return float(likelihood), shape, scale


class _Search:
    """Slopes at random points around a sample."""

    def __init__(self, attacked: Attacked, norm: Norm, radius: float, blocks: int, block_size: int) -> None:
        self.attacked, self.norm, self.radius = attacked, norm, radius
        self.blocks, self.block_size = blocks, block_size
        self.program = attacked.program(("clever", norm), _slopes(attacked, norm))

    def maxima(self, row: Array, y: int, targets: Array, rng: np.random.Generator) -> Floats:
        """The largest slope in each block, ``(blocks, targets)``, per unit of the box."""
        size = self.block_size
        # Several blocks share a batch; each is drawn by itself, so that results do not depend on how many.
        at_once = max(1, self.attacked.batch_size // size)
        found = []
        for start in range(0, self.blocks, at_once):
            n = min(at_once, self.blocks - start)
            steps = np.concatenate([random_steps(rng, (size, *row.shape), self.norm) for _ in range(n)])
            points = np.asarray(row + self.radius * steps, np.float32)
            classes = [np.full(len(points), y), np.repeat(targets[None], len(points), axis=0)]
            slopes = self.attacked.by_batch([points, *classes], lambda batch, _: [self.program(*batch)])[0]
            found.append(slopes.reshape(n, size, -1).max(axis=1))
        return np.concatenate(found).astype(np.float64)


def _slopes(attacked: Attacked, norm: Norm) -> Any:
    """The dual norm of the gradient of the margin to each target."""
    ops = keras.ops

    def slopes(values: list[Tensor], u: Tensor, y: Tensor, targets: Tensor) -> Tensor:
        _, pullback = engine().vjp(lambda u: attacked.logits(values, u), u)
        gradients = [pullback(towards(y, targets[:, rank], attacked.n_classes)) for rank in range(targets.shape[1])]
        return ops.stack([_dual(gradient, norm) for gradient in gradients], axis=-1)

    return slopes


def _dual(gradient: Tensor, norm: Norm) -> Tensor:
    """How fast a linear function can rise per length of a step."""
    if norm == "linf":
        return keras.ops.sum(keras.ops.abs(gradient), axis=tuple(range(1, len(gradient.shape))))
    return length(gradient, "l2" if norm == "l2" else "linf")


def _check(radius: float, blocks: int, block_size: int, most_targets: int) -> None:
    if not (radius > 0 and np.isfinite(radius)):
        raise ConfigError(f"radius={radius}: expected a radius above 0, in the units of the data.")
    if blocks < 10:
        raise ConfigError(f"blocks={blocks}: a distribution of three parameters needs 10 maxima or more.")
    if block_size < 1 or most_targets < 1:
        raise ConfigError(f"block_size={block_size}, most_targets={most_targets}: expected 1 or more.")
