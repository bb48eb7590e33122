"""Calibration measures with 1,000 bootstrap draws and the verdict, against one evaluation of smECE, at n = 1,000."""

from __future__ import annotations

import numpy as np

from analyzer.measures.calibration.classification import classification_calibration
from analyzer.measures.calibration.smooth import smooth_calibration_error
from analyzer.measures.calibration.tally import tally
from benchmarks.common import Ratio, ratio

N, CLASSES, DRAWS = 1000, 10, 1000
LIMIT = 300.0


def measure(repetitions: int = 20) -> list[Ratio]:
    """One ratio."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(CLASSES), size=N)
    labels = (np.cumsum(probabilities, axis=1) < rng.random((N, 1))).sum(axis=1).clip(0, CLASSES - 1)
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels

    def everything() -> object:
        return classification_calibration(probabilities, labels, n_bootstrap=DRAWS)

    def one_smece() -> object:
        return smooth_calibration_error(tally(confidence, correct))

    what = f"calibration measures with {DRAWS:,} draws / one smECE, n = {N:,}"
    return [ratio(what, everything, one_smece, limit=LIMIT, repetitions=repetitions)]


if __name__ == "__main__":
    for found in measure():
        print(found)
