"""What each method says about the samples, as a row of `Certificates`.

Each method proves in a norm of its own; radii in another one follow from what balls hold others: a ball of the maximum
norm holds the L2 and L1 balls of its radius, one of L2 the L1 ball of its radius, and the ball of the maximum norm of
its radius over the root of the number of values. A radius so converted is a bound still, if no tight one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from analyzer.config import Norm
from analyzer.data_types.certificates import Certificate
from analyzer.data_types.values import Estimate
from analyzer.measures.bootstrap import wilson
from analyzer.robustness.certificates import smoothing
from analyzer.robustness.certificates.certified_samples import CertifiedSamples
from analyzer.robustness.certificates.clever import clever_scores
from analyzer.robustness.certificates.interval_bounds import certified_margins, certified_radii
from analyzer.robustness.certificates.lipschitz import lipschitz_radii
from analyzer.robustness.certificates.local_jacobian import local_jacobian_norms

Floats = NDArray[np.float64]
Told = Callable[[int, int], None]

HALVINGS = 20
"""Of the range of inputs: interval bounds are then known to a millionth of it."""

AT_ONCE = 8
"""Samples between two steps of progress, where a method takes many passes for each."""

CLEVER_REACH = 2.0
"""Slopes are looked up within so many ε, so that an estimate can say more than "at least ε"."""

CLEVER_BLOCKS, CLEVER_BLOCK_SIZE = 20, 32
"""Few against the paper's 500 and 1024: `clever_scores` takes more."""

REJECTED = 0.05
"""Below this p-value maxima of slopes are not distributed as CLEVER supposes."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every method is given.

    Attributes:
        of: The samples and the model.
        norm: Of the steps asked about.
        epsilon: Their length, in units of the data.
        sigma: Standard deviation of the noise of smoothing; None for `_noise`.
        n_draws: Draws of it per sample.
        alpha: Probability that a radius of smoothing is wrong.
        seed: Of every random choice.
    """

    of: CertifiedSamples
    norm: Norm
    epsilon: float
    sigma: float | None
    n_draws: int
    alpha: float
    seed: int

    @property
    def n_values(self) -> int:
        """Values of one sample."""
        return math.prod(self.of.x.shape[1:])

    def converted(self, radius: Floats, own: Norm) -> Floats:
        """Radii of balls in the norm asked about that balls of another norm hold."""
        return radius / math.sqrt(self.n_values) if (own, self.norm) == ("l2", "linf") else radius

    def as_asked(self, own: Norm) -> tuple[str, ...]:
        """What the reader must know of a conversion."""
        if own == self.norm:
            return ()
        ratio = f"radius over the root of {self.n_values} values" if (own, self.norm) == ("l2", "linf") else "radius"
        return (f"Proved in {own}; in {self.norm} by the ball of that {ratio} which lies inside.",)

    def share(self, certified: NDArray[np.bool_]) -> Estimate:
        """Of the samples."""
        return wilson(int(np.count_nonzero(certified)), len(certified))


def _interval_bounds(job: Job, told: Told) -> Certificate:
    del told
    attacked, x, y = job.of.attacked, job.of.x, job.of.y
    at_epsilon = certified_margins(attacked, x, y, job.epsilon)
    found = certified_radii(attacked, x, y, max(attacked.box.range, job.epsilon), halvings=HALVINGS)
    radius = np.maximum(found.radius, np.where(at_epsilon.certified, job.epsilon, 0.0))
    return Certificate(
        method="interval_bounds",
        kind="bound",
        norm=job.norm,
        own_norm="linf",
        radius=radius,
        quantity="certified radius",
        certified=job.share(radius >= job.epsilon),
        notes=job.as_asked("linf"),
        definition=found.definition,
        paper="Gowal et al., 2018, arXiv 1810.12715",
    )


def _lipschitz(job: Job, told: Told) -> Certificate:
    del told
    found = lipschitz_radii(job.of.attacked, job.of.x, job.of.y)
    radius = job.converted(found.radius, "l2")
    return Certificate(
        method="lipschitz",
        kind="bound",
        norm=job.norm,
        own_norm="l2",
        # A model that nothing moves has no smallest distance; that of all inputs says as much.
        radius=np.minimum(radius, max(_diameter(job), job.epsilon)),
        quantity="certified radius",
        certified=job.share(radius > job.epsilon),
        settings={"lipschitz_constant": found.bound.value},
        notes=job.as_asked("l2"),
        definition=f"{found.definition} {found.bound.definition}",
        paper="Szegedy et al., 2014, arXiv 1312.6199; Tsuzuku et al., 2018, arXiv 1802.04034",
    )


def _diameter(job: Job) -> float:
    """The largest distance of two inputs."""
    exponent = {"linf": 0.0, "l2": 0.5, "l1": 1.0}[job.norm]
    return float(job.of.attacked.box.range * job.n_values**exponent)


def _smoothing(job: Job, told: Told) -> Certificate:
    sigma, n_selection = _noise(job), max(1, job.n_draws // 10)
    parts = [
        smoothing.certify(
            job.of.attacked,
            job.of.x[rows],
            sigma=sigma,
            n_selection=n_selection,
            n_estimation=job.n_draws,
            alpha=job.alpha,
            seed=job.seed,
        )
        for rows in _by_few(len(job.of.x), told)
    ]
    decided, proved = (np.concatenate([getattr(part, each) for part in parts]) for each in ("prediction", "radius"))
    wrong = (decided != job.of.y) & ~np.isnan(proved) & job.of.labelled
    radius = np.where(wrong, 0.0, job.converted(proved, "l2"))
    furthest = sigma * norm.ppf(job.alpha ** (1 / job.n_draws))
    reach = float(job.converted(np.array([furthest]), "l2")[0])
    notes = job.as_asked("l2")
    if reach <= job.epsilon:
        notes += (
            f"With sigma={sigma:g} and {job.n_draws} draws no radius exceeds {reach:.4g}, so nothing can be "
            f"certified at epsilon={job.epsilon:g}: raise sigma or n_draws.",
        )
    return Certificate(
        method="smoothing",
        kind="probabilistic bound",
        subject="smoothed classifier",
        norm=job.norm,
        own_norm="l2",
        confidence=1 - job.alpha,
        radius=radius,
        quantity="certified radius",
        certified=Estimate(value=None, n=len(radius)) if reach <= job.epsilon else job.share(radius > job.epsilon),
        settings={"sigma": sigma, "n_draws": job.n_draws, "n_selection": n_selection},
        notes=notes,
        definition=parts[0].definition,
        paper="Cohen et al., 2019, arXiv 1902.02918; Clopper & Pearson, 1934",
    )


def _noise(job: Job) -> float:
    if job.sigma is not None:
        return float(job.sigma)
    longest = job.epsilon * (math.sqrt(job.n_values) if job.norm == "linf" else 1.0)
    return 0.5 * float(min(longest, job.of.attacked.box.range))


def _local_jacobian(job: Job, told: Told) -> Certificate:
    del told
    found = local_jacobian_norms(job.of.attacked, job.of.x, seed=job.seed)
    return Certificate(
        method="local_jacobian",
        kind="estimate",
        norm="l2",
        own_norm="l2",
        estimates=found.norm,
        quantity="local slope of the logits",
        settings={"steps": found.steps, "largest_change": float(found.change.max())},
        definition=found.definition,
        paper="Golub & Van Loan, 2013, section 7.3.1",
    )


def _clever(job: Job, told: Told) -> Certificate:
    radius = CLEVER_REACH * job.epsilon
    parts = [
        clever_scores(
            job.of.attacked,
            job.of.x[rows],
            job.of.y[rows],
            radius=radius,
            norm=job.norm,
            blocks=CLEVER_BLOCKS,
            block_size=CLEVER_BLOCK_SIZE,
            seed=job.seed,
        )
        for rows in _by_few(len(job.of.x), told)
    ]
    p_values = np.concatenate([part.p_value.ravel() for part in parts])
    fitted = p_values[~np.isnan(p_values)]
    settings: dict[str, float] = {"radius": radius, "gradients": CLEVER_BLOCKS * CLEVER_BLOCK_SIZE}
    if fitted.size:
        settings["rejected_fits"] = float(np.mean(fitted < REJECTED))
    return Certificate(
        method="clever",
        kind="estimate",
        norm=job.norm,
        own_norm=job.norm,
        estimates=np.concatenate([part.score for part in parts]),
        quantity="estimated distance",
        settings=settings,
        notes=(f"No estimate exceeds {radius:.4g}, the radius within which slopes were looked up.",),
        definition=parts[0].definition,
        paper="Weng et al., 2018, arXiv 1801.10578; Goodfellow, 2018, arXiv 1804.07870",
    )


def _by_few(n: int, told: Told) -> Iterator[slice]:
    """Slices of a few samples each; no method's results depend on which samples share one."""
    for start in range(0, n, AT_ONCE):
        told(start, n)
        yield slice(start, min(start + AT_ONCE, n))


ROWS: dict[str, Callable[[Job, Told], Certificate]] = {
    "interval_bounds": _interval_bounds,
    "lipschitz": _lipschitz,
    "smoothing": _smoothing,
    "local_jacobian": _local_jacobian,
    "clever": _clever,
}
"""By name. Each raises `Unsupported` where it does not cover the model."""
