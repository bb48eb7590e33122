"""Does confidence tell right from wrong: AUROC of errors, and the areas under risk-coverage curves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

from analyzer.measures.calibration.tally import Tally

Floats = NDArray[np.float64]


def auroc_of_errors(tally: Tally) -> Floats:
    """Probability that a correct row is more confident than a wrong one, ties counting half; NaN without both.

    Hendrycks & Gimpel (2017); the Mann-Whitney statistic divided by the number of pairs.
    """
    wrong = tally.count - tally.correct
    below = np.cumsum(wrong, axis=1) - wrong / 2
    pairs = tally.correct.sum(axis=1) * wrong.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        area: Floats = np.einsum("bc,bc->b", tally.correct, below) / pairs
    return area


def area_under_risk_coverage(tally: Tally) -> Floats:
    """AURC: mean over k of the error rate among the k most confident rows.

    Geifman, Uziel & El-Yaniv (2019). Rows of equal confidence count as their mean over all orders.
    """
    count, wrong = _descending(tally)
    n_after = np.cumsum(count, axis=1)
    n_before = n_after - count
    wrong_before = np.cumsum(wrong, axis=1) - wrong
    rate = wrong / np.where(count > 0, count, 1.0)
    # Within a cell the expected errors grow linearly: sum_k (E + (k - N) r) / k = r n + (E - N r)(H_{N+n} - H_N).
    step = np.diff(_harmonic(int(tally.total.max()))[n_after.astype(np.int64)], axis=1, prepend=0.0)
    area: Floats = (rate * count + (wrong_before - n_before * rate) * step).sum(axis=1) / tally.total
    return area


def area_under_generalized_risk_coverage(tally: Tally) -> Floats:
    """AUGRC: area under the joint risk of being wrong and accepted, over coverage.

    Traub et al. (2024), "Overcoming common flaws in the evaluation of selective classification systems". Equals
    (1 - AUROC) a (1 - a) + (1 - a)^2 / 2 at accuracy a.
    """
    count, wrong = _descending(tally)
    wrong_before = np.cumsum(wrong, axis=1) - wrong
    area: Floats = (count * (wrong_before + wrong / 2)).sum(axis=1) / tally.total**2
    return area


def _descending(tally: Tally) -> tuple[Floats, Floats]:
    return tally.count[:, ::-1], (tally.count - tally.correct)[:, ::-1]


def _harmonic(n: int) -> Floats:
    return np.asarray(digamma(np.arange(1.0, n + 2)) + np.euler_gamma)
