"""Which augmentation would help: the corruption, or the shift, that costs the model most."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.inspection_report import Effect, Suggestion
from analyzer.data_types.values import Estimate
from analyzer.diagnosis.evidence import LABELS, Evidence
from analyzer.diagnosis.modeltrace.outcomes import verdicts
from analyzer.errors import DataError, Unsupported
from analyzer.measures.bootstrap import wilson
from analyzer.measures.paired_proportions import McNemar, mcnemar
from analyzer.measures.random_streams import stream
from analyzer.robustness.corruptions.catalogue import corruptions_of, input_kind, known_of

SEVERITY = 3
"""Of five: strong enough to show, and nothing that people would not recognise."""

MOST_SAMPLES = 256
MOST_VALUES = 1 << 26
"""Numbers in all corrupted copies together: of large inputs, fewer samples are tried."""

HARM = 0.02
"""Loss of accuracy that is worth a suggestion; the interval of the loss must lie beyond it."""


def suggest_augmentation(evidence: Evidence) -> Suggestion | None:
    """Retrain with what costs most: a corruption of the kind of input, or the user's own shift.

    Args:
        evidence: What is known.

    Returns:
        None where nothing costs more than `HARM` beyond doubt.

    Raises:
        Unsupported: If there is nothing to judge by.
        DataError: If the data are none that corruptions exist for.
    """
    if evidence.arranged is None or evidence.y is None:
        raise Unsupported(LABELS)
    clean = verdicts(evidence.output(evidence.view, evidence.arranged))
    if clean is None:
        raise Unsupported(LABELS)
    found: dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]] = {}
    if evidence.shifted is not None:
        after = verdicts(evidence.output(evidence.view, evidence.shifted))
        if after is not None:
            found["the shift of x_shifted"] = clean, after
    rows, after_corruption = _corrupted_verdicts(evidence)
    found |= {name: (clean[rows], after) for name, after in after_corruption.items()}
    # The worst of many is chosen: intervals hold for all of them together (Bonferroni).
    level = 1 - 0.05 / max(1, len(found))
    tests = {name: mcnemar(before, after, level) for name, (before, after) in found.items()}
    worst = min(tests, key=lambda name: _upper(tests[name]), default=None)
    if worst is None or _upper(tests[worst]) > -HARM:
        return None
    return _suggestion(worst, *found[worst], tests[worst], n_tried=len(tests))


def _corrupted_verdicts(evidence: Evidence) -> tuple[NDArray[np.int64], dict[str, NDArray[np.bool_]]]:
    """Which samples were tried, and whether they are right under each corruption, from one run."""
    x = _only_input(evidence.arranged)
    kind = input_kind(x)
    corruptions = [one for one in corruptions_of(kind, x.shape) if not one.draws_rows]
    most = min(MOST_SAMPLES, max(1, MOST_VALUES // max(1, len(corruptions) * int(np.prod(x.shape[1:])))))
    rng = stream(evidence.seed, 44)
    rows = np.sort(rng.choice(len(x), min(most, len(x)), replace=False))
    known = known_of(kind, x)
    copies, names = [], []
    for number, corruption in enumerate(corruptions):
        evidence.told("corruptions", number, len(corruptions))
        seed = np.random.SeedSequence(evidence.seed, spawn_key=(45, number))
        try:
            copies.append(np.asarray(corruption(x[rows], SEVERITY, seed, known).x, dtype=x.dtype))
        except DataError:
            # This one does not apply: images too small for it, no colours.
            continue
        names.append(corruption.name)
    if not copies:
        return rows, {}
    together = keras.tree.pack_sequence_as(evidence.arranged, [np.concatenate(copies)])
    right = verdicts(evidence.output(evidence.view, together, np.tile(rows, len(copies))))
    if right is None:
        return rows, {}
    return rows, dict(zip(names, right.reshape(len(names), len(rows)), strict=True))


def _only_input(arranged: Any) -> NDArray[Any]:
    flat = keras.tree.flatten(arranged)
    if len(flat) != 1:
        raise Unsupported("Corruptions are tried on models of one input.")
    return np.asarray(flat[0])


def _upper(test: McNemar) -> float:
    """Upper end of the change of accuracy; what is not known does not count as harm."""
    return float("inf") if test.change.high is None else test.change.high


def _suggestion(
    name: str, before: NDArray[np.bool_], after: NDArray[np.bool_], test: McNemar, *, n_tried: int
) -> Suggestion:
    n = len(before)
    clean, now = wilson(int(before.sum()), n), wilson(int(after.sum()), n)
    gap = test.change
    bound = Estimate(value=None if gap.value is None else -gap.value, n=n)
    return Suggestion(
        kind="augment",
        message=f"Retrain with {name} as augmentation: it takes accuracy from {float(clean):.4g} to {float(now):.4g} "
        f"(n = {n}), the most of {n_tried} that were tried. At most this gap can be closed; accuracy on clean data may "
        "change either way.",
        evidence={
            "corruption": name,
            "severity": None if name.startswith("the shift") else SEVERITY,
            "accuracy_clean": clean.value,
            "accuracy_corrupted": now.value,
            "p_value": test.p_value,
            "n": n,
            "tried": n_tried,
        },
        effects=(Effect(quantity=f"accuracy under {name}", before=now, after=clean, change=bound, basis="bound"),),
    )
