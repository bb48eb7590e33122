"""Decompositions of proper scores that add up: CORP without bins, and the binned one with its within-bin terms."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.special import xlogy

from analyzer.measures.calibration.classwise import ClassTally

Floats = NDArray[np.float64]


class Reference(NamedTuple):
    """Scores that a decomposition compares with, each ``(B,)``: of isotonic recalibration, and of the base rates."""

    recalibrated: Floats
    base_rates: Floats


def corp_references(tally: ClassTally) -> tuple[Reference, Reference]:
    """Brier score and log loss of the isotonically recalibrated predictions and of the base rates.

    Dimitriadis, Gneiting & Jordan (2021), "Stable reliability diagrams for probabilistic classifiers": with x the
    predictions, r their isotonic (PAV) recalibration and b the base rate, a proper score S is
    S(x) = MCB - DSC + UNC, MCB = S(x) - S(r) >= 0, DSC = S(b) - S(r) >= 0, UNC = S(b).

    For K classes it is done one against the rest and summed. The Brier score is the sum over k of (p_k - y_k)^2, and
    the log loss the sum over k of the consistent score -y_k ln p_k + p_k - y_k (its linear terms cancel over classes
    that sum to 1); isotonic regression is optimal for each of the terms, so that no part is negative.

    Args:
        tally: Counts per class of B samples.

    Returns:
        The references of the Brier score (summed over classes), and those of the log loss in nats.
    """
    count, positives, sample = _isotonic_blocks(tally)
    rate = positives / count
    n_samples, total = len(tally.total), tally.total
    brier = np.bincount(sample, positives * (1 - rate), minlength=n_samples) / total
    log = -np.bincount(sample, xlogy(positives, rate), minlength=n_samples) / total
    base = tally.positives / total[:, None]
    return (
        Reference(brier, (base * (1 - base)).sum(axis=1)),
        Reference(log, -xlogy(base, base).sum(axis=1)),
    )


def _isotonic_blocks(tally: ClassTally) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Rows, positives and sample of each block of constant isotonic fit, over all samples and classes."""
    n_samples = len(tally.run_count)
    n_classes = tally.positives.shape[1]
    count, positives = tally.run_count.ravel(), tally.run_positives.ravel()
    sequence = (tally.run_class + n_classes * np.arange(n_samples)[:, None]).ravel()
    drawn = count > 0
    count, positives, sequence = count[drawn], positives[drawn], sequence[drawn]
    starts = stacked_isotonic_blocks(positives / count, count, sequence)
    return np.add.reduceat(count, starts), np.add.reduceat(positives, starts), sequence[starts] // n_classes


def stacked_isotonic_blocks(outcome: Floats, weight: Floats, sequence: NDArray[np.int64]) -> NDArray[np.int64]:
    """Starts of the blocks of constant isotonic fit, of many sequences in one call.

    Args:
        outcome: ``(r,)`` mean outcomes in [0, 1], the sequences one after the other.
        weight: ``(r,)`` positive weights.
        sequence: ``(r,)`` index of the sequence, not descending. The outcomes of sequence s are lifted by 2 s, so that
            no pool can reach into the next one.
    """
    return np.asarray(isotonic_regression(outcome + 2.0 * sequence, weights=weight).blocks[:-1])


def binned_terms(tally: ClassTally, mean_square: Floats, mean_of_label: Floats) -> dict[str, Floats]:
    """Binned decomposition of the multiclass Brier score, one class against the rest and summed.

    Murphy (1973), with the two within-bin terms without which it does not add up (Stephenson, Coelho & Jolliffe 2008):
    brier = reliability - resolution + uncertainty + within_bin_variance - within_bin_covariance.

    Args:
        tally: Counts per class of B samples.
        mean_square: ``(B,)`` mean over rows of the sum over classes of p_k^2.
        mean_of_label: ``(B,)`` mean over rows of the probability of the true class.

    Returns:
        The five terms by name, each ``(B,)``.
    """
    total = tally.total[:, None, None]
    count = np.where(tally.bin_count > 0, tally.bin_count, 1.0)
    forecast, observed = tally.bin_probability / count, tally.bin_positives / count
    share = tally.bin_count / total
    base = tally.positives / tally.total[:, None]
    return {
        "reliability": _over_bins(share * (forecast - observed) ** 2),
        "resolution": _over_bins(share * (observed - base[:, :, None]) ** 2),
        "uncertainty": (base * (1 - base)).sum(axis=1),
        "within_bin_variance": mean_square - _over_bins(share * forecast**2),
        "within_bin_covariance": 2 * (mean_of_label - _over_bins(share * forecast * observed)),
    }


def _over_bins(values: Floats) -> Floats:
    return np.asarray(values.sum(axis=(1, 2)))
