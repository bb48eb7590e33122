"""How many dimensions a representation uses: measures of its spectrum, and the dimension of the manifold it lies on.

Every spectral measure is biased downwards by few rows, since n centred rows span n − 1 directions at most. Independent
standard normal rows of d = 64 units have an effective rank of about 7 from 8 rows, 29 from 32, 61 from 200 and 63.9
from 5000. Values are comparable at equal n only, each beside its ceiling min(n − 1, d); the participation ratio alone
also comes with that bias taken out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from analyzer.data_types.values import Estimate

Floats = NDArray[np.float64]

RANKME_EPSILON = 1e-7
"""What RankMe adds to each share, for embeddings stored in float32 (Garrido et al. 2023, equation 2)."""

FEWEST_NEIGHBOURHOODS = 10
"""Distinct rows below which nearest neighbours say nothing about a dimension."""

_FLOAT64 = float(np.finfo(np.float64).eps)
_FLOAT32 = float(np.finfo(np.float32).eps)
_CANDIDATES = 4
_VALUES_AT_ONCE = 2**22


@dataclass(frozen=True, kw_only=True, eq=False)
class Dimensionality:
    """Measures of one spectrum; each is None where the representation does not vary or is not finite.

    Attributes:
        n: Rows behind the spectrum.
        d: Units.
        ceiling: min(n − 1, d): no measure of centred rows can exceed it.
        effective_rank: exp of the entropy of the normalised singular values (Roy & Vetterli 2007).
        rankme: The same of rows that are not centred (Garrido et al. 2023), at most min(n, d); None where they were
            not given.
        participation_ratio: (Σ λ)² / Σ λ² of the eigenvalues λ of the covariance.
        participation_ratio_corrected: Its value for infinitely many rows, from estimators of (Σ λ)² and Σ λ² that are
            unbiased for normal rows (Srivastava 2005); at most d. None where Σ λ² is not told from noise.
        stable_rank: Σ λ / λ₁ (Rudelson & Vershynin 2007).
        numerical_rank: Singular values above the tolerance.
    """

    n: int
    d: int
    ceiling: int
    effective_rank: float | None
    rankme: float | None
    participation_ratio: float | None
    participation_ratio_corrected: float | None
    stable_rank: float | None
    numerical_rank: int | None


def dimensionality_of_rows(rows: NDArray[np.floating], *, tolerance: float | None = None) -> Dimensionality:
    """All spectral measures of a representation given by its rows, through the smaller of its two Gram matrices.

    Args:
        rows: ``(n, d)`` one activation vector per row, not centred.
        tolerance: Fraction of the largest singular value from which on one counts; see `numerical_rank`.
    """
    values = np.asarray(rows, dtype=np.float64)
    n, d = values.shape
    if n == 0 or not np.isfinite(values).all():
        return spectrum_measures(np.full(1, np.nan), n, d)
    centred = values - values.mean(axis=0)
    # Where nothing varies, centring leaves rounding that must not be taken for a spectrum.
    varies = np.abs(centred).max(initial=0.0) > _FLOAT32 * np.abs(values).max(initial=0.0)
    spectrum = gram_eigenvalues(centred) if varies else np.zeros(1)
    return spectrum_measures(spectrum, n, d, uncentred=gram_eigenvalues(values), tolerance=tolerance)


def dimensionality_of_covariance(
    covariance: NDArray[np.floating],
    n: int,
    *,
    mean: NDArray[np.floating] | None = None,
    tolerance: float | None = None,
    precision: float = _FLOAT64,
) -> Dimensionality:
    """All spectral measures of a representation given by its covariance.

    Args:
        covariance: ``(d, d)``. Its scale, hence its divisor, matters for RankMe only, which takes n − 1.
        n: Rows behind it.
        mean: ``(d,)`` mean of the rows; RankMe needs it, and a second decomposition.
        tolerance: See `numerical_rank`.
        precision: Relative rounding of the numbers that the covariance was summed in.
    """
    matrix = np.asarray(covariance, dtype=np.float64)
    d = len(matrix)
    if d == 0 or not np.isfinite(matrix).all():
        return spectrum_measures(np.full(1, np.nan), n, d)
    uncentred = None
    if mean is not None and n > 1:
        center = np.asarray(mean, dtype=np.float64)
        uncentred = np.linalg.eigvalsh((n - 1) * matrix + n * np.outer(center, center))
    spectrum = np.linalg.eigvalsh(matrix)
    return spectrum_measures(spectrum, n, d, uncentred=uncentred, tolerance=tolerance, precision=precision)


def spectrum_measures(
    eigenvalues: NDArray[np.floating],
    n: int,
    d: int,
    *,
    uncentred: NDArray[np.floating] | None = None,
    tolerance: float | None = None,
    precision: float = _FLOAT64,
) -> Dimensionality:
    """All spectral measures from eigenvalues.

    Args:
        eigenvalues: Of the covariance, or of either Gram matrix of the centred rows, in any order and at any scale;
            those that are missing are zero.
        n: Rows behind them.
        d: Units.
        uncentred: Of the second-moment matrix or either Gram matrix of the rows as they are; None leaves RankMe out.
        tolerance: See `numerical_rank`.
        precision: Relative rounding of the matrix: eigenvalues below max(n, d) times it, relative to the largest, are
            rounding and count as zero.
    """
    ceiling = max(min(n - 1, d), 0)
    values = _above_rounding(eigenvalues, max(n, d) * precision)[:ceiling]
    limit = max(n, d) * _FLOAT32 if tolerance is None else tolerance
    defined = values.size > 0
    return Dimensionality(
        n=n,
        d=d,
        ceiling=ceiling,
        effective_rank=_entropy_rank(values) if defined else None,
        rankme=None if uncentred is None else _rankme(uncentred, min(n, d)),
        participation_ratio=float(values.sum() ** 2 / np.sum(values**2)) if defined else None,
        participation_ratio_corrected=_corrected_participation(values, n, d) if defined else None,
        stable_rank=float(values.sum() / values[0]) if defined else None,
        numerical_rank=numerical_rank(values, limit) if defined else None,
    )


def effective_rank(rows: NDArray[np.floating]) -> float | None:
    """Exp of the Shannon entropy of the normalised singular values of the centred rows (Roy & Vetterli, EUSIPCO 2007).

    Args:
        rows: ``(n, d)`` one activation vector per row.

    Returns:
        A number from 1 to min(n − 1, d); None below two rows, for constant rows, or where a value is not finite.
    """
    return dimensionality_of_rows(rows).effective_rank


def rankme(rows: NDArray[np.floating]) -> float | None:
    """RankMe (Garrido et al., ICML 2023): effective rank of embeddings as they are, not centred.

    Args:
        rows: ``(n, d)``.

    Returns:
        A number from about 1 to min(n, d); None for no rows, rows of zeros, or values that are not finite.
    """
    values = np.asarray(rows, dtype=np.float64)
    return _rankme(gram_eigenvalues(values), min(values.shape)) if np.isfinite(values).all() else None


def numerical_rank(eigenvalues: Floats, tolerance: float) -> int:
    """Number of singular values above a fraction of the largest.

    Without a tolerance, the measures of this module take max(n, d) · ε of float32, the rule of
    ``numpy.linalg.matrix_rank`` at the precision that activations have.

    Args:
        eigenvalues: ``(k,)`` squares of the singular values.
        tolerance: The fraction.
    """
    largest = eigenvalues.max(initial=0.0)
    return int(np.count_nonzero(eigenvalues > largest * tolerance**2)) if largest > 0 else 0


def gram_eigenvalues(rows: NDArray[np.floating]) -> Floats:
    """Squared singular values of a matrix, from the smaller of its Gram matrices, in rising order.

    Args:
        rows: ``(n, d)``, finite.
    """
    values = np.asarray(rows, dtype=np.float64)
    gram = values @ values.T if values.shape[0] < values.shape[1] else values.T @ values
    return np.asarray(np.clip(np.linalg.eigvalsh(gram), 0.0, None))


def two_nn(
    rows: NDArray[np.floating], *, discard: float = 0.1, max_rows: int = 2000, seed: int = 0, level: float = 0.95
) -> Estimate:
    """Intrinsic dimension from the ratio of the distances to the two nearest neighbours (Facco et al. 2017).

    Where the density is even over three neighbours, ln(r₂/r₁) is exponential with the dimension as its rate. The
    largest ratios, which depart from that first, are discarded as in the paper, here as censored: with r of n kept
    and T = Σ ln μ₍ᵢ₎ + (n − r) ln μ₍ᵣ₎, the estimate is (r − 1)/T, and 2·d·T is χ² with 2r degrees of freedom, which
    gives the interval (Epstein & Sobel 1953). Ratios of neighbouring rows are not quite independent, and dimensions
    above ten are underestimated unless rows are very many.

    Args:
        rows: ``(n, d)``. Rows that repeat an earlier one are left out.
        discard: Share of the largest ratios to discard.
        max_rows: A random subset of this size is taken from more rows.
        seed: Chooses it.
        level: Coverage of the interval.

    Returns:
        The estimate, n the number of distinct rows; its value is None for fewer than `FEWEST_NEIGHBOURHOODS` of them,
        equidistant rows, or values that are not finite.
    """
    values = np.asarray(rows, dtype=np.float64).reshape(len(rows), -1)
    if len(values) > max_rows:
        values = values[np.sort(np.random.default_rng(seed).choice(len(values), max_rows, replace=False))]
    if not np.isfinite(values).all():
        return Estimate(value=None, n=len(values), level=level)
    values = np.unique(values, axis=0)
    n = len(values)
    if n < FEWEST_NEIGHBOURHOODS:
        return Estimate(value=None, n=n, level=level)
    nearest, second = _two_distances(values).T
    logs = np.sort(np.log(second[nearest > 0] / nearest[nearest > 0]))
    kept = int(np.floor(logs.size * (1 - discard)))
    total = float(logs[:kept].sum() + (logs.size - kept) * logs[kept - 1]) if kept > 1 else 0.0
    # Distances that agree to rounding are those of a simplex or a lattice, which has no such dimension.
    if total <= 1e-9 * n:
        return Estimate(value=None, n=n, level=level)
    low, high = chi2.ppf([(1 - level) / 2, (1 + level) / 2], 2 * kept) / (2 * total)
    value = (kept - 1) / total
    return Estimate(value=value, low=float(low), high=float(high), n=n, level=level, method="gamma")


def _above_rounding(eigenvalues: NDArray[np.floating], relative: float) -> Floats:
    """Eigenvalues that are more than rounding, falling; none where they are not finite."""
    values = np.sort(np.asarray(eigenvalues, dtype=np.float64))[::-1]
    if values.size == 0 or not np.isfinite(values).all() or values[0] <= 0:
        return np.zeros(0)
    # At unit scale, so that squares neither overflow nor vanish.
    return np.asarray(values[values > relative * values[0]] / values[0])


def _entropy_rank(values: Floats) -> float:
    share = np.sqrt(values)
    share = share / share.sum()
    # Equal values give their number up to rounding, which must not lift the rank over its ceiling.
    return float(min(np.exp(-np.sum(share * np.log(share))), values.size))


def _rankme(eigenvalues: NDArray[np.floating], most: int) -> float | None:
    values = _above_rounding(eigenvalues, 0.0)
    if values.size == 0:
        return None
    singular = np.zeros(most)
    singular[: values.size] = np.sqrt(values[:most])
    share = singular / singular.sum() + RANKME_EPSILON
    return float(np.exp(-np.sum(share * np.log(share))))


def _corrected_participation(values: Floats, n: int, d: int) -> float | None:
    """Ratio of unbiased estimates of (tr Σ)² and tr Σ² from the eigenvalues of a Wishart matrix of n − 1 degrees."""
    m = n - 1
    if m < 2:
        return None
    square_of_trace, trace_of_square = values.sum() ** 2, np.sum(values**2)
    of_square = m**2 / ((m - 1) * (m + 2)) * (trace_of_square - square_of_trace / m)
    of_trace = square_of_trace - 2 * of_square / m
    # Independent directions in number beyond the rows leave a difference that is rounding.
    if of_square <= 1e-12 * trace_of_square:
        return None
    return float(np.clip(of_trace / of_square, 1.0, d))


def _two_distances(values: Floats) -> Floats:
    """Distances of each row to its two nearest others, ``(n, 2)``.

    Candidates come from the Gram matrix, whose differences cancel for close rows; their distances are then taken anew.
    """
    centred = values - values.mean(axis=0)
    squares = np.einsum("ij,ij->i", centred, centred)
    distances = squares[:, None] + squares[None, :] - 2 * (centred @ centred.T)
    np.fill_diagonal(distances, np.inf)
    candidates = np.argpartition(distances, _CANDIDATES, axis=1)[:, :_CANDIDATES]
    step = max(_VALUES_AT_ONCE // (_CANDIDATES * max(values.shape[1], 1)), 1)
    found = [
        np.linalg.norm(centred[candidates[i : i + step]] - centred[i : i + step, None, :], axis=2)
        for i in range(0, len(values), step)
    ]
    return np.asarray(np.sort(np.concatenate(found), axis=1)[:, :2])
