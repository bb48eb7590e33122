"""Shift of all features together, seen by one kernel: the MMD and the classifier two-sample test.

Both p-values come from permutations of the rows, so they are exact for any distribution and any number of rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from analyzer.errors import ConfigError
from analyzer.measures.random_streams import stream
from analyzer.measures.shift.samples import Floats, Samples, drawn_at_most

MAX_ROWS = 1000
"""Rows of each side that a kernel test uses at most: the matrix has the square of their number."""

FOLDS = 10

RIDGE = 0.05
"""Penalty of the kernel classifier, where the kernel of a row with itself is 1."""

_ROUNDING = 1e-12
"""Permutations that give the same sums in another order of addition must count as ties."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PooledKernel:
    """Similarity of all rows of two samples.

    Attributes:
        matrix: ``(n + m, n + m)`` Gaussian kernel, 1 on the diagonal; the n reference rows come first.
        bandwidth: Its standard deviation, in the space of standardised features.
        n_reference: Rows of the reference in the matrix, n.
        n_new: Rows of the new data in the matrix, m.
        of_reference: Rows of the reference before rows were drawn.
        of_new: Rows of the new data before rows were drawn.
    """

    matrix: Floats
    bandwidth: float
    n_reference: int
    n_new: int
    of_reference: int
    of_new: int


@dataclass(frozen=True, kw_only=True)
class KernelTest:
    """A permutation test of two samples.

    Attributes:
        statistic: Unbiased squared MMD, 0 on average without shift and then negative as often as not; or the AUC of
            the classifier on rows that it has not seen, 0.5 on average without shift.
        p_value: (1 + permutations with at least this statistic) / (1 + permutations).
        n_permutations: Permutations P; no p-value is below 1 / (1 + P).
        n_reference: Rows of the reference that were used.
        n_new: Rows of the new data that were used.
        of_reference: Rows of the reference that there were; more than were used means a random draw by seed.
        of_new: Rows of the new data that there were.
    """

    statistic: float
    p_value: float
    n_permutations: int
    n_reference: int
    n_new: int
    of_reference: int
    of_new: int


def pooled_kernel(two: Samples, *, max_rows: int = MAX_ROWS, seed: int = 0) -> PooledKernel:
    """Gaussian kernel exp(−‖x − y‖² / 2σ²) between standardised rows.

    σ is the median distance of two rows (Gretton et al. 2012, section 8), of those that differ where most are equal.

    Args:
        two: The samples.
        max_rows: Most rows of each side; more are drawn at random.
        seed: Seed of the draw.

    Raises:
        ConfigError: If ``max_rows`` is below 10.
    """
    if max_rows < FOLDS:
        raise ConfigError(f"max_rows={max_rows}: expected {FOLDS} at least, one row of each side per fold.")
    rng = stream(seed, 0)
    drawn = drawn_at_most(two, max_rows, rng)
    rows = drawn.standardised
    lengths = np.einsum("ij,ij->i", rows, rows)
    squares = np.maximum(lengths[:, None] + lengths[None, :] - 2.0 * rows @ rows.T, 0.0)
    np.fill_diagonal(squares, 0.0)
    distances = np.sqrt(squares[np.triu_indices(len(rows), k=1)])
    apart = distances[distances > 1e-7 * distances.max(initial=0.0)]
    median = float(np.median(distances)) or (float(np.median(apart)) if apart.size else 1.0)
    return PooledKernel(
        matrix=np.exp(-squares / (2.0 * median**2)),
        bandwidth=median,
        n_reference=len(drawn.reference),
        n_new=len(drawn.new),
        of_reference=len(two.reference),
        of_new=len(two.new),
    )


def mmd_test(kernel: PooledKernel, *, n_permutations: int = 999, seed: int = 0) -> KernelTest:
    """Unbiased squared maximum mean discrepancy (Gretton et al. 2012, equation 3) with a permutation test.

    The mean kernel within the reference plus that within the new data, no row with itself, minus twice that between.

    Args:
        kernel: Kernel of the pooled rows.
        n_permutations: Random permutations P.
        seed: Seed of the permutations.

    Raises:
        ConfigError: If ``n_permutations`` is below 1.
    """
    rng = stream(seed, 1)
    strata = np.zeros(len(kernel.matrix), dtype=np.int64)
    is_new = _permuted(_sides(kernel), strata, _at_least_one(n_permutations), rng)
    hollow = kernel.matrix - np.diag(np.diag(kernel.matrix))
    row_sums = hollow.sum(axis=1)
    within_new = np.einsum("ip,ip->p", is_new, hollow @ is_new)
    between = row_sums @ is_new - within_new
    within_reference = row_sums.sum() - 2.0 * between - within_new
    n, m = kernel.n_reference, kernel.n_new
    values = within_reference / (n * (n - 1)) + within_new / (m * (m - 1)) - 2.0 * between / (n * m)
    return _kernel_test(values, kernel)


def classifier_test(kernel: PooledKernel, *, n_permutations: int = 999, seed: int = 0) -> KernelTest:
    """Classifier two-sample test (Lopez-Paz & Oquab 2017): can held-out rows of the two sides be told apart?

    The classifier is kernel ridge regression onto the side of a row. Its held-out predictions are linear in the sides,
    so every permutation is cross-validated anew by one product of matrices. The statistic is the mean AUC within folds.

    Why permutations: held-out scores of different folds share training rows, which makes a Mann-Whitney or DeLong test
    of all scores alarm too often, and a single split of the rows, which would be exact, tests with half of them only.

    Args:
        kernel: Kernel of the pooled rows.
        n_permutations: Random permutations P, within folds.
        seed: Deals rows to folds and draws the permutations.

    Raises:
        ConfigError: If ``n_permutations`` is below 1.
    """
    rng = stream(seed, 2)
    sides = _sides(kernel)
    fold = _dealt(sides, rng)
    is_new = _permuted(sides, fold, _at_least_one(n_permutations), rng)
    scores = held_out_operator(kernel.matrix, fold) @ is_new
    aucs = [_auc(scores[fold == k], is_new[fold == k]) for k in range(FOLDS)]
    return _kernel_test(np.mean(aucs, axis=0), kernel)


def held_out_operator(matrix: Floats, fold: NDArray[np.int64], ridge: float = RIDGE) -> Floats:
    """The matrix that turns targets of all rows into predictions for each fold from all other folds.

    With the hat matrix H of the fit to all rows, the predictions for fold F are (I − H_FF)⁻¹ H_FR y_R, where R are the
    rows outside of F.

    Args:
        matrix: ``(n, n)`` kernel.
        fold: ``(n,)`` fold of each row, 0 to folds − 1.
        ridge: λ of ‖y − Kα − b‖² + λ α'Kα.

    Returns:
        ``(n, n)``, zero for pairs of rows of one fold.
    """
    n = len(matrix)
    # An intercept without a penalty is the limit of a large constant in the kernel; in closed form, by centring.
    means = matrix.mean(axis=0)
    centred = matrix - means[:, None] - means[None, :] + means.mean()
    hat = np.linalg.solve(centred + ridge * np.eye(n), centred) + 1.0 / n
    operator = np.zeros_like(hat)
    for k in range(int(fold.max()) + 1):
        inside, outside = np.flatnonzero(fold == k), np.flatnonzero(fold != k)
        own = np.eye(len(inside)) - hat[np.ix_(inside, inside)]
        operator[np.ix_(inside, outside)] = np.linalg.solve(own, hat[np.ix_(inside, outside)])
    return operator


def _sides(kernel: PooledKernel) -> Floats:
    return np.repeat([0.0, 1.0], [kernel.n_reference, kernel.n_new])


def _at_least_one(n_permutations: int) -> int:
    if n_permutations < 1:
        raise ConfigError(f"n_permutations={n_permutations}: expected 1 at least; 999 resolves p-values to 0.001.")
    return n_permutations


def _dealt(sides: Floats, rng: np.random.Generator) -> NDArray[np.int64]:
    """Folds with equal shares of both sides."""
    fold = np.empty(len(sides), dtype=np.int64)
    for side in (0.0, 1.0):
        rows = rng.permutation(np.flatnonzero(sides == side))
        fold[rows] = np.arange(len(rows)) % FOLDS
    return fold


def _permuted(sides: Floats, strata: NDArray[np.int64], count: int, rng: np.random.Generator) -> Floats:
    """The sides as they are, and ``count`` times shuffled within strata: ``(n, 1 + count)``."""
    columns = np.repeat(sides[:, None], 1 + count, axis=1)
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        columns[rows, 1:] = rng.permuted(columns[rows, 1:], axis=0)
    return columns


def _auc(scores: Floats, is_new: Floats) -> Floats:
    """Area under the ROC curve of each column; ties count half."""
    n_new = is_new.sum(axis=0)
    # Rounding must not order rows that are equal.
    ranks = rankdata(np.round(scores, 10), axis=0)
    above = (ranks * is_new).sum(axis=0) - n_new * (n_new + 1) / 2
    return np.asarray(above / (n_new * (len(scores) - n_new)))


def _kernel_test(values: Floats, kernel: PooledKernel) -> KernelTest:
    """Of the statistics of the sides as they are, first, and permuted."""
    as_large = int(np.count_nonzero(values[1:] >= values[0] - _ROUNDING))
    return KernelTest(
        statistic=float(values[0]),
        p_value=(1 + as_large) / len(values),
        n_permutations=len(values) - 1,
        n_reference=kernel.n_reference,
        n_new=kernel.n_new,
        of_reference=kernel.of_reference,
        of_new=kernel.of_new,
    )
