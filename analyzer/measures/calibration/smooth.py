"""Smooth calibration error (smECE) and the smoothed reliability curve.

Błasiok & Nakkiran (2024), "Smooth ECE: principled reliability diagrams via kernel smoothing". The Gaussian kernel of
standard deviation s, reflected at 0 and 1, is the heat kernel of [0, 1], hence diagonal in cosines:
K_s(t, f) = 1 + 2 sum_k exp(-(pi k s)^2 / 2) cos(pi k t) cos(pi k f). The residual correct - confidence is smoothed by
damping its cosine coefficients, for one sample or for many at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct

from analyzer.data_types.calibration_parts import SmoothCurve
from analyzer.measures.calibration.tally import Tally

Floats = NDArray[np.float64]

MIN_BANDWIDTH = 1e-3
"""Smallest bandwidth that is resolved; a smaller self-consistent one counts as this (it moves smECE by at most it)."""

_BANDS = (128, 512, 2048)
_TOLERANCE = 1e-6
_CELLS_AT_ONCE = 2048
_MANY_POINTS = 20_000


def smooth_calibration_error(tally: Tally) -> Floats:
    """SmECE: integral of the smoothed absolute residual at the bandwidth that equals its own error.

    smECE_s = integral over t in [0, 1] of |mean_i K_s(t, f_i) (y_i - f_i)| decreases in s; smECE is its value at the
    one s with smECE_s = s.

    Args:
        tally: Counts of B samples.

    Returns:
        ``(B,)`` values in [0, 1].
    """
    return smooth_error_and_bandwidth(tally)[0]


def smooth_error_and_bandwidth(tally: Tally) -> tuple[Floats, Floats]:
    """SmECE and its self-consistent bandwidth, both ``(B,)``; see `smooth_calibration_error`."""
    residual, points = merge_close((tally.correct - tally.confidence) / tally.total[:, None], tally.value)
    error, bandwidth = np.empty(len(residual)), np.zeros(len(residual))
    todo = np.arange(len(residual))
    for n_modes in _BANDS:
        # Cosines up to order k resolve bandwidths above 2 / k: damping at the cut is then exp(-2 pi^2) = 3e-9.
        resolved = max(2.0 / n_modes, MIN_BANDWIDTH)
        coefficients = cosine_coefficients(residual[todo], points, n_modes)
        start = bandwidth_error(coefficients, np.full(todo.size, resolved))
        done = (start >= resolved) | (n_modes == _BANDS[-1])
        error[todo[done]], bandwidth[todo[done]] = _fixed_point(coefficients[done], start[done], resolved)
        todo = todo[~done]
        if todo.size == 0:
            break
    return error, bandwidth


def cosine_coefficients(weights: Floats, points: Floats, n_modes: int) -> Floats:
    """``sum_c weights[b, c] cos(pi k points[c])`` for k below ``n_modes``, shape ``(B, n_modes)``."""
    total = np.zeros((len(weights), n_modes))
    orders = np.pi * np.arange(n_modes)
    for start in range(0, points.size, _CELLS_AT_ONCE):
        part = slice(start, start + _CELLS_AT_ONCE)
        total += weights[:, part] @ np.cos(np.outer(points[part], orders))
    return total


def merge_close(weights: Floats, points: Floats) -> tuple[Floats, Floats]:
    """Fewer points for data with very many: those closer than a sixteenth of `MIN_BANDWIDTH` become one.

    Args:
        weights: ``(B, C)`` weight of each point; those of merged points are added.
        points: ``(C,)`` ascending points in [0, 1].
    """
    if points.size <= _MANY_POINTS:
        return weights, points
    node = np.rint(points * (16 / MIN_BANDWIDTH)).astype(np.int64)
    starts = np.flatnonzero(np.diff(node, prepend=-1))
    size = np.diff(np.append(starts, points.size))
    return np.add.reduceat(weights, starts, axis=1), np.add.reduceat(points, starts) / size


def bandwidth_error(coefficients: Floats, bandwidth: Floats) -> Floats:
    """SmECE at given bandwidths, from the cosine coefficients of the mean residual, both with B rows."""
    return np.asarray(np.abs(smoothed(coefficients, bandwidth)).mean(axis=1))


def smoothed(coefficients: Floats, bandwidth: Floats) -> Floats:
    """Kernel-smoothed measure at the midpoints of twice as many equal cells as there are modes."""
    n_modes = coefficients.shape[1]
    decay = np.exp(-0.5 * (np.pi * bandwidth[:, None] * np.arange(n_modes)) ** 2)
    # DCT-III computes x_0 + 2 sum_k x_k cos(pi k (j + 1/2) / N): exactly the heat kernel's series at the midpoints.
    return np.asarray(dct(coefficients * decay, type=3, n=2 * n_modes, axis=1))


def smooth_curve(tally: Tally, min_density: float = 0.02) -> SmoothCurve:
    """Confidence plus smoothed residual over confidence, at the bandwidth of smECE.

    What is smoothed is what smECE integrates: the residual ``correct - confidence``. Błasiok & Nakkiran (2024) draw the
    smoothed outcomes instead; where miscalibration is large, so is the bandwidth, and that curve is flat whatever
    the data say. The two agree as the bandwidth shrinks.

    Args:
        tally: Counts of one sample.
        min_density: Points whose smoothed density is below this share of the greatest one are left out.
    """
    bandwidth = max(float(smooth_error_and_bandwidth(tally)[1][0]), 2.0 / _BANDS[1])
    residual = tally.correct - tally.count * tally.value
    both = np.concatenate([residual, tally.count]) / tally.total[0]
    values = smoothed(cosine_coefficients(*merge_close(both, tally.value), _BANDS[1]), np.full(2, bandwidth))[:, ::4]
    density = values[1]
    keep = density >= min_density * density.max()
    points = ((4 * np.arange(density.size) + 0.5) / (2 * _BANDS[1]))[keep]
    accuracy = np.clip(points + values[0][keep] / density[keep], 0.0, 1.0)
    return SmoothCurve(confidence=points, accuracy=accuracy, density=density[keep], bandwidth=bandwidth)


def _fixed_point(coefficients: Floats, at_low: Floats, low: float) -> tuple[Floats, Floats]:
    """Solve smECE_s = s by the Illinois method on [low, 1] for every row; rows below ``low`` stay at ``low``."""
    rows = len(coefficients)
    left, right = np.full(rows, low), np.ones(rows)
    f_left, f_right = at_low - low, bandwidth_error(coefficients, right) - 1.0
    solved = np.where(f_left <= 0, low, np.nan)
    error = np.where(f_left <= 0, at_low, np.nan)
    side = np.zeros(rows)
    while (open_rows := np.flatnonzero(np.isnan(solved))).size:
        a, b, fa, fb = left[open_rows], right[open_rows], f_left[open_rows], f_right[open_rows]
        middle = (a * fb - b * fa) / (fb - fa)
        value = bandwidth_error(coefficients[open_rows], middle)
        gap = value - middle
        finished = (np.abs(gap) < _TOLERANCE) | (b - a < _TOLERANCE)
        solved[open_rows[finished]], error[open_rows[finished]] = middle[finished], value[finished]
        above = gap > 0
        # Halving the value kept at an end that did not move is what makes the false position superlinear.
        f_right[open_rows] = np.where(above, np.where(side[open_rows] > 0, fb / 2, fb), gap)
        f_left[open_rows] = np.where(above, gap, np.where(side[open_rows] < 0, fa / 2, fa))
        left[open_rows], right[open_rows] = np.where(above, middle, a), np.where(above, b, middle)
        side[open_rows] = np.where(above, 1.0, -1.0)
    return error, solved
