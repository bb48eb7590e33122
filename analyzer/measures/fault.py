"""Which part of a model a failure comes from: the arithmetic of shifts, gains and shares, and the control group.

A sample is a failure if it is decided rightly as it is and wrongly once moved, and a control if it is decided rightly
both times. ``z`` are logits ``(n, classes)``, ``y`` the true classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.layer_faults import ByGroup
from analyzer.measures.bootstrap import interval_estimate, multiplicities
from analyzer.measures.random_streams import stream

Floats = NDArray[np.float64]

FEWEST = 5
"""Below this many samples a group gets no interval: a bootstrap would pretend to know more than it does."""


class Groups:
    """Failures and controls, resampled separately, with the same draws for every measure."""

    def __init__(self, failed: NDArray[np.bool_], *, n_bootstrap: int = 1000, seed: int = 0) -> None:
        """Draw the bootstrap samples.

        Args:
            failed: ``(n,)``: which samples are failures; the others are controls.
            n_bootstrap: Draws behind each interval; 0 computes none.
            seed: Seed of the draws.
        """
        self._rows = (np.flatnonzero(failed), np.flatnonzero(~failed))
        self._draws = tuple(
            multiplicities(len(rows), n_bootstrap if len(rows) >= FEWEST else 0, stream(seed, 72, number))
            for number, rows in enumerate(self._rows)
        )

    def mean(self, values: Floats) -> ByGroup:
        """Mean over the samples of each group.

        Args:
            values: ``(n,)``; samples that have none are NaN, and left out.
        """
        return self._by_group(self._means(values))

    def share(self, effects: Floats, lost: Floats) -> ByGroup:
        """Mean effect over what failures lose on average: one unit for both groups, so that they can be compared.

        Args:
            effects: ``(n,)``.
            lost: ``(n,)`` what each sample loses; only that of the failures counts.
        """
        rows, draws = self._rows[0], self._draws[0]
        unit, units = lost[rows].mean(), draws @ lost[rows] / len(rows)
        found = []
        for value, drawn, n in self._means(effects):
            both = min(len(drawn), len(units))
            found.append((value / unit, drawn[:both] / units[:both], n))
        return self._by_group(found)

    def _means(self, values: Floats) -> list[tuple[float, Floats, int]]:
        """Of each group: the mean of what is known, its draws, and how many samples it rests on."""
        known = np.isfinite(values)
        found = []
        for rows, draws in zip(self._rows, self._draws, strict=True):
            kept = known[rows]
            if not kept.any():
                found.append((float("nan"), np.empty(0), 0))
                continue
            with np.errstate(divide="ignore", invalid="ignore"):
                drawn = (draws[:, kept] @ values[rows[kept]]) / draws[:, kept].sum(axis=1)
            found.append((float(values[rows[kept]].mean()), drawn, int(kept.sum())))
        return found

    def _by_group(self, found: list[tuple[float, Floats, int]]) -> ByGroup:
        estimates = [interval_estimate(value, draws, n=n) for value, draws, n in found]
        (failures, failures_draws, n_failures), (controls, controls_draws, n_controls) = found
        both = min(len(failures_draws), len(controls_draws))
        difference = failures_draws[:both] - controls_draws[:both]
        excess = interval_estimate(failures - controls, difference, n=n_failures + n_controls)
        return ByGroup(failures=estimates[0], controls=estimates[1], excess=excess)


def decided_rightly(z: Floats, y: NDArray[np.int64]) -> NDArray[np.bool_]:
    """``(n,)``: whether the true class has strictly the largest logit; a tie is no decision for it."""
    return lead(z, y, strongest_other(z, y)) > 0


def strongest_other(z: Floats, y: NDArray[np.int64]) -> NDArray[np.int64]:
    """``(n,)``: the class with the largest logit but for the true one."""
    others = np.array(z, np.float64)
    others[np.arange(len(y)), y] = -np.inf
    return np.asarray(others.argmax(axis=1), np.int64)


def lead(z: Floats, y: NDArray[np.int64], other: NDArray[np.int64]) -> Floats:
    """``z_y - z_other``, ``(n,)``: linear in the logits, so that what parts do to it adds up (Zhang & Nanda 2024).

    Args:
        z: Logits.
        y: True classes.
        other: The class that each is compared with, arXiv 2309.16042.
    """
    rows = np.arange(len(y))
    return np.asarray(z[rows, y] - z[rows, other], np.float64)


def relative_shift(h: NDArray[np.floating], h_moved: NDArray[np.floating]) -> Floats:
    """``‖h' - h‖ / ‖h‖`` of each sample; NaN where h is 0 or something is not finite.

    Args:
        h: ``(n, …)``.
        h_moved: Likewise.
    """
    plain, moved = (np.asarray(array, np.float64).reshape(len(array), -1) for array in (h, h_moved))
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.linalg.norm(moved - plain, axis=1) / np.linalg.norm(plain, axis=1)
    return np.where(np.isfinite(shift), shift, np.nan)


def log_amplifications(shifts: Floats) -> Floats:
    """How the relative shift grows from one point of a chain to the next, as logarithms.

    ``log A_l = log s_l - log s_{l-1}``: they add up to ``log(s_L / s_0)`` in every sample, and neither scaling a layer
    up and the next one down nor units of measurement matter.

    Args:
        shifts: ``(points, n)`` relative shifts along the chain, those of the input first.

    Returns:
        ``(points - 1, n)``; NaN throughout a sample whose shift vanishes or is unknown somewhere, since what follows
        such a point amplifies nothing.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(shifts)
    logs[:, ~np.isfinite(logs).all(axis=0)] = np.nan
    return np.diff(logs, axis=0)


def noise_gain(z: Floats, z_noised: Floats, size: float) -> Floats:
    """Relative change of the logits over the relative size of the noise that made it, ``(n,)``.

    Args:
        z: Logits.
        z_noised: ``(draws, n, classes)`` logits with noise at one layer.
        size: Length of the noise over that of what it was added to.

    Returns:
        Root mean square over the draws; 1 where nothing grows or shrinks on the way to the logits. NaN where all
        logits are 0.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = np.sqrt(np.square(z_noised - z).sum(axis=2).mean(axis=0)) / np.linalg.norm(z, axis=1)
    return np.where(np.isfinite(moved), moved / size, np.nan)


def noise_like(h: NDArray[np.floating], size: float, rng: np.random.Generator) -> Floats:
    """A step of each sample in a random direction, ``size`` times as long as the sample: ``(n, …)``.

    Args:
        h: ``(n, …)``.
        size: Length relative to that of h.
        rng: Draws the directions, uniformly.
    """
    flat = np.asarray(h, np.float64).reshape(len(h), -1)
    drawn = rng.standard_normal(flat.shape)
    drawn *= size * np.linalg.norm(flat, axis=1, keepdims=True) / np.linalg.norm(drawn, axis=1, keepdims=True)
    return drawn.reshape(np.shape(h))


def carries_all(z_patched: Floats, z_moved: Floats, z: Floats, tolerance: float = 1e-4) -> bool:
    """Whether putting a layer's moved result into the clean run gives the moved run: the model goes through that layer.

    Args:
        z_patched: Logits of the clean run with the layer's result taken from the moved one.
        z_moved: Logits of the moved run.
        z: Logits of the clean run.
        tolerance: What rounding may leave, as a share of each sample's change.
    """
    # Rounding is relative to the logits, too, where these hardly changed.
    room = tolerance * np.abs(z_moved - z).max(axis=1) + 1e-5 * np.abs(z_moved).max(axis=1)
    return bool(np.all(np.abs(z_patched - z_moved).max(axis=1) <= room))
