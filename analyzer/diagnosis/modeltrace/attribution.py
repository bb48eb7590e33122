"""Failure attribution: which layers amplify a shift more on samples that fail than on samples that do not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.inspection_report import Definition, Experiment, Reading
from analyzer.data_types.outputs import OutputData
from analyzer.data_types.values import Estimate
from analyzer.diagnosis.modeltrace.activations import Settings, number
from analyzer.diagnosis.modeltrace.changes import log_amplifications, paired, whole_amplification
from analyzer.diagnosis.modeltrace.outcomes import decisions, verdicts
from analyzer.diagnosis.modeltrace.recording import Recorded, names_of
from analyzer.diagnosis.modeltrace.subject import OUTPUT
from analyzer.measures.activation_drift import difference_of, mean_magnitude

DEFINITIONS = {
    "contribution": Definition(
        raw="mean |h(x) − h(x')| of the layer over the sum of these (+ 1e-8): a list of differences, which does not "
        "know whether anything failed",
        scale_free="ln relative amplification on samples that fail minus that on samples that do not, in nats; along a "
        "chain the layers add up to the model's; above 0: on failures the layer amplifies more",
    ),
    "output_shift": Definition(
        raw="mean |f(x) − f(x')| of the outputs",
        scale_free="ln relative amplification from input to output, on failures minus on the others, in nats",
    ),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Failures:
    """Which samples fail under the shift.

    Attributes:
        failing: ``(n,)`` decided rightly on the data and wrongly on the shifted data; without labels, decided
            otherwise.
        control: ``(n,)`` right on both; without labels, decided alike.
        meaning: The same in words.
    """

    failing: NDArray[np.bool_]
    control: NDArray[np.bool_]
    meaning: str


def failures(clean: OutputData | None, shifted: OutputData | None) -> Failures | str:
    """Samples that fail, and those they are compared with.

    Args:
        clean: Outputs on the data.
        shifted: Outputs on the shifted data, of the same samples.

    Returns:
        The samples; or why there are none.
    """
    before, after = verdicts(clean), verdicts(shifted)
    if before is not None and after is not None:
        return Failures(
            failing=before & ~after, control=before & after, meaning="right on the data, wrong on the shifted data"
        )
    first, second = decisions(clean), decisions(shifted)
    if first is None or second is None:
        return "The model does not choose one class per sample, so it is not known what a failure is."
    return Failures(
        failing=first != second, control=first == second, meaning="decided otherwise on the shifted data (no labels)"
    )


def failure_attribution(recorded: Recorded, settings: Settings, found: Failures | str) -> Experiment:
    """Which layers behave differently where the model fails.

    Args:
        recorded: What a run brought, with pairs.
        settings: Bootstrap and seed.
        found: Samples that fail, or why they are not known.
    """
    change = paired(recorded)
    names = [name for name in recorded.leaf_names() if name in change]
    parts = {name: mean_magnitude(change[name]) for name in names}
    total = sum(parts.values()) + 1e-8
    excess, whole, n, notes = _excess(recorded, settings, found)
    unknown = Estimate(value=None, n=n)
    layers = {
        name: {"contribution": Reading(raw=number(part / total), scale_free=excess.get(name, unknown))}
        for name, part in parts.items()
    }
    output = names_of(OUTPUT, change)
    raw = mean_magnitude(change[output[0]]) if output else float("nan")
    return Experiment(
        name="failure_attribution",
        n=n,
        definitions=DEFINITIONS,
        model={"output_shift": Reading(raw=number(raw), scale_free=whole)},
        layers=layers,
        skipped=recorded.skipped,
        notes=notes,
    )


def _excess(
    recorded: Recorded, settings: Settings, found: Failures | str
) -> tuple[dict[str, Estimate], Estimate, int, tuple[str, ...]]:
    """Differences of amplification by layer and of the model, the number of failures, and what to know."""
    if isinstance(found, str):
        return {}, Estimate(value=None, n=0), 0, (found,)
    failing, control = np.flatnonzero(found.failing), np.flatnonzero(found.control)
    note = f"{len(failing)} samples fail ({found.meaning}); {len(control)} are compared with them."
    if not len(failing) or not len(control):
        return {}, Estimate(value=None, n=len(failing)), len(failing), (f"{note} Nothing can be compared.",)
    groups = [(rows, settings.drawn(len(rows), 2, k)) for k, rows in enumerate((failing, control))]
    on_failures, on_others = (log_amplifications(recorded, drawn, rows) for rows, drawn in groups)
    excess = {name: difference_of(on_failures[name], on_others[name]).estimate() for name in on_failures}
    ends = [whole_amplification(recorded, drawn, rows) for rows, drawn in groups]
    caution = "This tells where failures differ, not what causes them."
    return excess, difference_of(*ends).estimate(), len(failing), (note, caution)
