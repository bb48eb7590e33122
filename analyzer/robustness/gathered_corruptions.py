"""`Corruptions`: what a model decides under corruptions, as an analysis needs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.errors import DataError, Unsupported
from analyzer.inspection.needs import Context, Predictions
from analyzer.inspection.reducers import Tap
from analyzer.inspection.view import ModelView
from analyzer.robustness.corruptions.catalogue import Corruption, Kind, Known, corruptions_of, input_kind, known_of
from analyzer.robustness.corruptions.image_levels import levels_for
from analyzer.robustness.corruptions.severities import SEVERITIES
from analyzer.robustness.decisions import Logits, decided
from analyzer.robustness.drawn import Drawn, drawn_samples

Array = NDArray[Any]

SEEDS = 3
"""Runs of a random corruption that a cell is the mean of."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GatheredCorruptions:
    """What a model decides under corruptions.

    Attributes:
        drawn: The samples.
        kind: The kind of their input.
        names: Corruptions, ``c``.
        correct: ``(c, 5, n)`` see `analyzer.measures.corruption.corruption_accuracy`.
        clean_correct: ``(n,)``.
        flips: ``(c, 5)`` share of decisions that are others than without; NaN where rows are drawn.
        source: Where the severities come from.
        skipped: Reason by name.
    """

    drawn: Drawn
    kind: Kind
    names: tuple[str, ...]
    correct: NDArray[np.float64]
    clean_correct: NDArray[np.bool_]
    flips: NDArray[np.float64]
    source: str
    skipped: dict[str, str]


@dataclass(frozen=True)
class Corruptions:
    """Decisions under every corruption of the kind of input, at five severities, on a subset of the samples.

    Gathered as `GatheredCorruptions`.

    Attributes:
        n_samples: Most samples.
    """

    n_samples: int = 256

    requires_data = True

    def taps(self, view: ModelView) -> tuple[Tap, ...]:
        """Those of the predictions."""
        return Predictions().taps(view)

    def finish(self, collected: Sequence[Any], context: Context) -> GatheredCorruptions:
        """Corrupt the samples and decide them again."""
        drawn = drawn_samples(collected, context, self.n_samples)
        logits = Logits(context.view, context.batch_size)
        try:
            return _corrupted(drawn, logits, context)
        finally:
            logits.release()


def _corrupted(drawn: Drawn, logits: Logits, context: Context) -> GatheredCorruptions:
    kind = input_kind(drawn.x)
    everything = keras.tree.flatten(context.arranged)[0]
    try:
        known = known_of(kind, everything)
        listed = corruptions_of(kind, drawn.x.shape)
    except DataError as error:
        raise Unsupported(str(error)) from error
    clean = decided(logits(drawn.x))
    names, cells, flips, skipped = [], [], [], {}
    for number, corruption in enumerate(listed):
        context.progress("corruptions", number, len(listed))
        try:
            correct, changed = zip(
                *(_cell(drawn, logits, clean, corruption, known, (context.seed, number), s) for s in SEVERITIES),
                strict=True,
            )
        except DataError as error:
            skipped[corruption.name] = str(error)
            continue
        names.append(corruption.name)
        cells.append(correct)
        flips.append(changed)
    context.progress("corruptions", len(listed), len(listed))
    if not names:
        raise Unsupported(f"No corruption of the kind {kind!r} applies to these data: {next(iter(skipped.values()))}")
    return GatheredCorruptions(
        drawn=drawn,
        kind=kind,
        names=tuple(names),
        correct=np.asarray(cells, np.float64),
        clean_correct=clean == drawn.y,
        flips=np.asarray(flips, np.float64),
        source=_source(kind, drawn.x.shape),
        skipped=skipped,
    )


def _cell(
    drawn: Drawn, logits: Logits, clean: Array, corruption: Corruption, known: Known, seed: tuple[int, int], level: int
) -> tuple[NDArray[np.float64], float]:
    """Right decisions by sample and the share of changed ones, means over the seeds."""
    rights, changes = [], []
    for k in range(SEEDS if corruption.random else 1):
        # The same seed at all severities, so that they differ in nothing but their strength.
        stream = np.random.SeedSequence(seed[0], spawn_key=(seed[1], k))
        made = corruption(drawn.x, level, stream, known)
        classes = decided(logits(made.x.astype(drawn.x.dtype)))
        rights.append(made.by_sample(classes == drawn.y[made.rows]))
        changes.append(np.nan if corruption.draws_rows else float((classes != clean).mean()))
    return np.mean(rights, axis=0), float(np.mean(changes))


def _source(kind: Kind, shape: tuple[int, ...]) -> str:
    return levels_for(*shape[1:3]).source if kind == "image" else "severities of this package"
