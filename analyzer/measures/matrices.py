"""What a weight tensor does as a matrix: spectral norm, rank, dead and repeated channels.

A tensor comes as blocks ``(blocks, rows, columns)``: inputs are rows, output channels are columns, and blocks act on
separate inputs (groups of a convolution, experts, channels of a depthwise kernel).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from scipy.special import betaincinv

FULL_DECOMPOSITION = 512
"""Up to this smaller side all singular values are computed, from the Gram matrix; beyond it only the largest."""

DEAD_CHANNEL = 1e-4
"""A channel is dead when its norm is at most this fraction of the RMS norm of the channels of its tensor: its output
then varies less, relative to its neighbours', than float16 resolves (5e-4)."""

DUPLICATE_COSINE = 0.99
"""Two filters repeat each other from this cosine on: at most 2 % of the energy of one is not in the other."""

CHANCE_OF_A_DUPLICATE = 1e-4
"""In short filters the cosine is raised until random directions would give any pair in a tensor with this probability:
a thousand fresh layers raise none."""

_SMALLEST_GAP = 1e-6
"""1 − cos² that float32 weights can resolve."""

_MOST_CHANNELS = 16384
_PROJECTION = 256
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """Extreme behaviour of the singular values of block matrices.

    Attributes:
        norm: Largest singular value over all blocks.
        top_energy_share: Largest share, over blocks, of the squared norm in the first singular value; None where all
            blocks are zero.
        rank: Smallest numerical rank over the blocks; None beyond `FULL_DECOMPOSITION`.
        full_rank: Largest rank that the shape allows.
        iterations: Products with the matrix and its transpose; 0 for a full decomposition.
    """

    norm: float
    top_energy_share: float | None
    rank: int | None
    full_rank: int
    iterations: int


def spectrum(blocks: NDArray[np.floating], *, seed: int = 0) -> Spectrum | None:
    """Singular values of block matrices, as far as they can be had cheaply.

    The numerical rank counts singular values above σ₁ · max(rows, columns) · ε of float32, the rule of
    ``numpy.linalg.matrix_rank`` at the precision that weights are stored in.

    Args:
        blocks: ``(blocks, rows, columns)``.
        seed: Seed of the start vector of the Lanczos iteration.

    Returns:
        The spectrum; None for empty matrices or values that are not finite.
    """
    if blocks.size == 0 or not np.all(np.isfinite(blocks)):
        return None
    largest = float(np.max(np.abs(blocks)))
    full_rank = min(blocks.shape[1:])
    if largest == 0.0:
        return Spectrum(norm=0.0, top_energy_share=None, rank=0, full_rank=full_rank, iterations=0)
    scaled = np.asarray(blocks, dtype=np.float64) / largest
    energies = np.einsum("brc,brc->b", scaled, scaled)
    if full_rank <= FULL_DECOMPOSITION:
        squares = np.maximum(np.linalg.eigvalsh(_gram(scaled)), 0.0)[:, ::-1]
        tolerance = max(blocks.shape[1:]) * float(np.finfo(np.float32).eps)
        ranks = np.count_nonzero(squares > squares[:, :1] * tolerance**2, axis=1)
        top, rank, iterations = squares[:, 0], int(ranks.min()), 0
    else:
        found = [_largest_square(block, seed) for block in scaled]
        top, rank = np.array([square for square, _ in found]), None
        iterations = sum(count for _, count in found)
    alive = energies > 0
    return Spectrum(
        norm=largest * float(np.sqrt(top.max())),
        top_energy_share=min(float(np.max(top[alive] / energies[alive])), 1.0),
        rank=rank,
        full_rank=full_rank,
        iterations=iterations,
    )


def dead_channels(blocks: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which output channels receive no signal, ``(blocks, columns)``; see `DEAD_CHANNEL`. NaN counts as alive."""
    values = np.asarray(blocks, dtype=np.float64)
    norms = np.sqrt(np.einsum("brc,brc->bc", values, values))
    finite = norms[np.isfinite(norms)]
    typical = float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0
    return np.asarray(norms <= DEAD_CHANNEL * typical)


def duplicate_channels(blocks: NDArray[np.floating], *, seed: int = 0) -> int | None:
    """Number of living output channels that point in the direction of an earlier one of their block.

    Norms are ignored: filters that differ by a positive factor carry the same information. Opposite filters do not
    repeat each other, since a rectifier keeps their halves apart. The threshold is `DUPLICATE_COSINE`, raised where
    random directions in so few dimensions would reach it: P(cos > c) = ½ I_{1−c²}((rows − 1)/2, ½).

    Args:
        blocks: ``(blocks, rows, columns)``, finite.
        seed: Seed of the projection that long filters are screened by.

    Returns:
        The count; None where filters are too short to be told apart from chance, or too many to compare.
    """
    n_blocks, rows, columns = blocks.shape
    threshold = _duplicate_threshold(rows, n_blocks * columns * (columns - 1) // 2)
    if threshold is None or columns > _MOST_CHANNELS or not np.all(np.isfinite(blocks)):
        return None
    alive = ~dead_channels(blocks)
    return sum(
        _repeats(np.ascontiguousarray(block[:, keep].T), threshold, seed)
        for block, keep in zip(blocks, alive, strict=True)
    )


def largest_eigenvalue(
    operator: LinearOperator, *, seed: int, tolerance: float, most_iterations: int = 300
) -> float | None:
    """Largest eigenvalue of a symmetric positive operator by implicitly restarted Lanczos (Lehoucq et al. 1998).

    Args:
        operator: The operator, of order at least 2.
        seed: Seed of the start vector.
        tolerance: Relative accuracy of the residual; the eigenvalue is far more accurate than that.
        most_iterations: Restarts before giving up.

    Returns:
        The eigenvalue; None where the iteration did not converge.
    """
    start = np.random.default_rng(seed).standard_normal(operator.shape[0]).astype(operator.dtype)
    order = operator.shape[0]
    try:
        values = eigsh(
            operator,
            k=1,
            which="LA",
            v0=start,
            tol=tolerance,
            ncv=min(order, 10),
            maxiter=most_iterations,
            return_eigenvectors=False,
        )
    except ArpackNoConvergence:
        return None
    return max(float(values[0]), 0.0)


def _gram(blocks: NDArray[np.float64]) -> NDArray[np.float64]:
    transposed = np.swapaxes(blocks, 1, 2)
    return blocks @ transposed if blocks.shape[1] < blocks.shape[2] else transposed @ blocks


def _largest_square(block: NDArray[np.float64], seed: int) -> tuple[float, int]:
    """Square of the largest singular value, and the number of products it took."""
    tall = block if block.shape[0] >= block.shape[1] else block.T
    count = 0

    def product(vector: NDArray[np.float64]) -> NDArray[np.float64]:
        nonlocal count
        count += 1
        return np.asarray(tall.T @ (tall @ vector))

    if not tall.any():
        return 0.0, 0
    operator = LinearOperator((tall.shape[1],) * 2, matvec=product, dtype=np.float64)
    square = largest_eigenvalue(operator, seed=seed, tolerance=1e-6)
    if square is None:
        square = float(np.linalg.eigvalsh(_gram(tall[None])[0])[-1])
    return square, count


def _duplicate_threshold(rows: int, pairs: int) -> float | None:
    if pairs == 0 or rows < 2:
        return None
    gap = float(betaincinv((rows - 1) / 2, 0.5, min(2 * CHANCE_OF_A_DUPLICATE / pairs, 1.0)))
    gap = min(gap, 1.0 - DUPLICATE_COSINE**2)
    return float(np.sqrt(1.0 - gap)) if gap >= _SMALLEST_GAP else None


def _repeats(filters: NDArray[np.floating], threshold: float, seed: int) -> int:
    """How many rows have an earlier row in their direction. Long rows are screened by a random projection.

    A projection onto k directions estimates a cosine near 1 with error (1 − cos²)/√k, here 0.001, so the best match in
    it is one of the true ones, and only that pair is compared in full.
    """
    unit = np.asarray(filters, dtype=np.float64)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    screen = unit
    if unit.shape[1] > 2 * _PROJECTION:
        directions = np.random.default_rng(seed).standard_normal((unit.shape[1], _PROJECTION))
        screen = unit @ directions
        screen /= np.linalg.norm(screen, axis=1, keepdims=True)
    screen = screen.astype(np.float32)
    best = np.zeros(len(unit), dtype=np.int64)
    for start in range(0, len(unit), _ROWS_AT_ONCE):
        rows = screen[start : start + _ROWS_AT_ONCE]
        cosines = rows @ screen[: start + len(rows)].T
        cosines[np.arange(len(rows))[:, None] + start <= np.arange(start + len(rows))[None, :]] = -2.0
        best[start : start + len(rows)] = cosines.argmax(axis=1)
    cosine = np.einsum("ij,ij->i", unit[1:], unit[best[1:]])
    return int(np.count_nonzero(cosine >= threshold))
