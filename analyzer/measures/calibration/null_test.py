"""One test of "perfectly calibrated": labels are drawn again from the predicted probabilities.

If predictions are perfectly calibrated, the labels are a draw from them. The test draws B further sets of labels,
computes three statistics on each and on the data, and asks how extreme the data are among these 1 + B exchangeable
sets. Its level is therefore exact at every n, and no asymptotic argument enters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.calibration_parts import CalibrationVerdict, Direction
from analyzer.measures.calibration.proper_scores import LOG_LOSS_CLIP

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TEST_NAME = "Monte-Carlo maximum test of log score, top-label KS and class frequencies (labels resampled)"
LEVEL = 0.05
N_RESAMPLES = 999
MAX_TEST_ROWS = 20_000
"""Most rows that the test looks at; beyond, a random subset of this size is tested, and its size is the stated n."""

_LABELS_AT_ONCE = 2_000_000
_FEW_CLASSES = 32


def calibration_test(
    probabilities: Floats,
    labels: Ints,
    rng: np.random.Generator,
    *,
    level: float = LEVEL,
    n_resamples: int = N_RESAMPLES,
    groups: Ints | None = None,
) -> CalibrationVerdict:
    """Test the hypothesis that labels are drawn from the predicted probabilities.

    The statistics are the standardised difference of log loss and entropy (the score test for a temperature, after
    Spiegelhalter 1986), the KS distance of top-label confidence and correctness (Gupta et al. 2021), and the sum over
    classes of squared standardised differences between predicted and observed frequency. Each is centred and scaled by
    its mean and deviation over all 1 + B sets, the greatest of the three is taken, and
    p = (1 + number of resampled sets at least as extreme) / (1 + B).

    Args:
        probabilities: ``(m, K)`` rows summing to 1, or ``(m,)`` P(y=1).
        labels: ``(m,)`` class indices.
        rng: Source of the resampled labels.
        level: Level of the test.
        n_resamples: Number B of resampled sets.
        groups: ``(m,)`` group of each row where rows of a group are not independent given the predictions; one random
            row per group is then tested.

    Returns:
        The verdict, with the number of rows tested.
    """
    if probabilities.ndim == 1:
        probabilities = np.stack([1 - probabilities, probabilities], axis=1)
    rows = independent_rows(len(labels), groups, rng)
    probabilities, labels = probabilities[rows], labels[rows]
    order = np.argsort(probabilities.max(axis=1), kind="stable")
    null = _Null(probabilities[order])
    statistics = [null.statistics(labels[order][:, None])]
    per_batch = max(1, _LABELS_AT_ONCE // max(1, len(rows)))
    for done in range(0, n_resamples, per_batch):
        statistics.append(null.statistics(null.sample(rng, min(per_batch, n_resamples - done))))
    scores = np.concatenate(statistics, axis=1)
    z_log = float(scores[0, 0])
    p_value = _maximum_test(np.stack([np.abs(scores[0]), scores[1], np.cbrt(scores[2])]))
    return make_verdict(p_value, z_log, n=len(rows), level=level, test=TEST_NAME)


def make_verdict(p_value: float, z: float, *, n: int, level: float, test: str) -> CalibrationVerdict:
    """Put the outcome of a test into words.

    Args:
        p_value: Its p-value.
        z: Standardised over-confidence: where the test rejects, above 1.96 it is called over-confident, below -1.96
            under-confident, and otherwise miscalibrated without a direction.
        n: Number of independent rows.
        level: Level of the test.
        test: Name of the test.
    """
    direction: Direction = "calibrated"
    if p_value <= level:
        direction = "over-confident" if z > 1.96 else "under-confident" if z < -1.96 else "miscalibrated"
    text = f"{direction} (p = {p_value:.3g}, n = {n})"
    if direction == "calibrated":
        text = f"not distinguishable from calibrated at n = {n}"
    return CalibrationVerdict(text=text, direction=direction, p_value=p_value, level=level, test=test, n=n)


def resample_labels(cumulative: Floats, rng: np.random.Generator, n_sets: int) -> NDArray[np.integer]:
    """Labels drawn from predicted probabilities.

    Args:
        cumulative: ``(m, K)`` cumulative sums of the probabilities of each row.
        rng: Source of the labels.
        n_sets: Number of sets.

    Returns:
        ``(m, n_sets)`` class indices.
    """
    n_rows, n_classes = cumulative.shape
    cumulative = cumulative / cumulative[:, -1:]
    uniform = rng.random((n_rows, n_sets))
    if n_classes <= _FEW_CLASSES:
        labels = np.zeros(uniform.shape, dtype=np.int8)
        for k in range(n_classes - 1):
            labels += uniform >= cumulative[:, k : k + 1]
        return labels
    # All rows in one search: row i's cumulative probabilities lie in (i, i + 1].
    ladder = cumulative + np.arange(n_rows)[:, None]
    uniform += np.arange(n_rows)[:, None]
    found = np.searchsorted(ladder.ravel(), uniform.ravel(), side="right").reshape(uniform.shape)
    found -= n_classes * np.arange(n_rows)[:, None]
    return np.clip(found, 0, n_classes - 1)


class _Null:
    """Resampling and statistics for fixed probabilities, rows ascending in confidence."""

    def __init__(self, probabilities: Floats) -> None:
        self.n_rows, self.n_classes = probabilities.shape
        self.cumulative = np.cumsum(probabilities, axis=1)
        self.log = np.log(np.maximum(probabilities, LOG_LOSS_CLIP))
        mean_log = (probabilities * self.log).sum(axis=1)
        self.mean_log = float(mean_log.sum())
        self.log_variance = float((probabilities * (self.log - mean_log[:, None]) ** 2).sum())
        self.predicted = probabilities.argmax(axis=1)
        confidence = probabilities.max(axis=1)
        self.expected_walk = np.cumsum(confidence)
        self.last_of_tie = np.flatnonzero(np.append(np.diff(confidence) > 0, True))
        self.frequency = probabilities.sum(axis=0)
        self.frequency_variance = (probabilities * (1 - probabilities)).sum(axis=0)

    def sample(self, rng: np.random.Generator, n_sets: int) -> NDArray[np.integer]:
        """Labels drawn from the probabilities, ``(n_rows, n_sets)``."""
        return resample_labels(self.cumulative, rng, n_sets)

    def statistics(self, labels: NDArray[np.integer]) -> Floats:
        """The three statistics of each set of labels, ``(3, n_sets)``; the first one keeps its sign."""
        n_sets = labels.shape[1]
        flat = labels + self.n_classes * np.arange(self.n_rows, dtype=np.int64)[:, None]
        log_score = self.log.ravel()[flat].sum(axis=0)
        z_log = (self.mean_log - log_score) / np.sqrt(max(self.log_variance, 1e-12))
        walk = np.cumsum(labels == self.predicted[:, None], axis=0, dtype=np.int64)[self.last_of_tie]
        ks = np.abs(walk - self.expected_walk[self.last_of_tie, None]).max(axis=0)
        pairs = labels + self.n_classes * np.arange(n_sets, dtype=np.int64)
        observed = np.bincount(pairs.ravel(), minlength=n_sets * self.n_classes).reshape(n_sets, self.n_classes)
        deviation = (observed - self.frequency) ** 2 / np.maximum(self.frequency_variance, 1e-12)
        return np.stack([z_log, ks, deviation.sum(axis=1)])


def _maximum_test(statistics: Floats) -> float:
    """p-value of column 0 among all columns: the greatest of the statistics, each in units of its own spread."""
    spread = statistics.std(axis=1, keepdims=True)
    scaled = (statistics - statistics.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1.0)
    greatest = scaled.max(axis=0)
    # The column itself counts among those at least as extreme: that is the 1 in (1 + #) / (1 + B).
    return float(np.mean(greatest >= greatest[0] - 1e-12))


def independent_rows(n_rows: int, groups: Ints | None, rng: np.random.Generator) -> Ints:
    """Row indices that are independent: one random row per group, and at most `MAX_TEST_ROWS` of them."""
    rows = np.arange(n_rows)
    if groups is not None:
        shuffled = rng.permutation(n_rows)
        rows = np.sort(shuffled[np.unique(groups[shuffled], return_index=True)[1]])
    if rows.size > MAX_TEST_ROWS:
        rows = np.sort(rng.choice(rows, MAX_TEST_ROWS, replace=False))
    return rows
