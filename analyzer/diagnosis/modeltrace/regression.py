"""Cross-model regression: how far the activations of two models differ on the same data."""

from __future__ import annotations

import numpy as np

from analyzer.data_types.inspection_report import Definition, Experiment, Reading
from analyzer.data_types.values import Estimate
from analyzer.diagnosis.modeltrace.activations import Settings, number, raw_means
from analyzer.diagnosis.modeltrace.recording import Recorded, names_of
from analyzer.diagnosis.modeltrace.subject import OUTPUT, Subject
from analyzer.measures.activation_drift import mean_magnitude, relative_norm
from analyzer.measures.random_streams import stream
from analyzer.measures.similarity import linear_cka

MOST_SAMPLES = 512
"""Samples that representations are compared on: their Gram matrices have the square of that."""

DEFINITIONS = {
    "difference": Definition(
        raw="mean |h_A(x) − h_B(x)| of layers of one name and shape; of the model, averaged over these layers",
        scale_free="1 − unbiased linear CKA of unit means over positions: 0 for equal representations up to rotation "
        "and scale, about 1 for unrelated ones, whatever their widths; of the model, averaged over layers",
    ),
    "output_difference": Definition(
        raw="mean |f_A(x) − f_B(x)| of the outputs", scale_free="‖f_A(x) − f_B(x)‖ / ‖f_A(x)‖"
    ),
}


def matched_calls(model: Subject, other: Subject) -> tuple[dict[str, str], str]:
    """Which calls of two models belong together.

    By id where any agrees. Keras numbers the names it gives itself through the whole process, so two builds of one
    model share none: those are matched in order of execution, where the sequences of classes are equal.

    Args:
        model: One model.
        other: The other.

    Returns:
        Id of the other's call by that of the model's, and one sentence that says how they were matched.
    """
    own, others = [call.id for call in model.leaves], [call.id for call in other.leaves]
    kinds = [[call.layer.kind for call in one.leaves] for one in (model, other)]
    same = {name: name for name in own if name in others}
    if kinds[0] == kinds[1] and len(same) < len(own):
        return dict(zip(own, others, strict=True)), "Layers are matched in order of execution: their names differ."
    return same, f"Layers are matched by name: {len(same)} of {len(own)}."


def cross_model_regression(recorded: Recorded, settings: Settings, how: str) -> Experiment:
    """How far two models differ inside, layer by layer.

    Args:
        recorded: What a run brought, with another model.
        settings: Bootstrap and seed.
        how: How layers were matched, for people.
    """
    clean, other, difference = recorded.clean, recorded.other, recorded.regression
    assert other is not None  # noqa: S101 - the caller has checked what every experiment needs
    assert difference is not None  # noqa: S101
    matches = {name: match for name in recorded.leaf_names() if (match := recorded.matches.get(name)) is not None}
    rows = _rows(clean.n, settings.seed)
    layers = {}
    for name, match in matches.items():
        alike = linear_cka(clean.units[name][rows], other.units[match][rows])
        raw = mean_magnitude(difference[name]) if name in difference else float("nan")
        layers[name] = {"difference": Reading(raw=number(raw), scale_free=one_minus(alike))}
    known = [one["difference"].scale_free.value for one in layers.values()]
    defined = [value for value in known if value is not None]
    mean = Estimate(value=float(np.mean(defined)) if defined else None, n=len(rows))
    raw = raw_means([name for name in matches if name in difference], difference)
    model = {"difference": Reading(raw=number(raw), scale_free=mean)}
    for name in [name for name in names_of(OUTPUT, clean.sums) if name in difference][:1]:
        moved = relative_norm(difference[name], clean.sums[name], settings.drawn(clean.n))
        model["output_difference"] = Reading(
            raw=number(mean_magnitude(difference[name])), scale_free=moved.estimate(low=0.0)
        )
    unmatched = {name: "The other model has no such layer." for name in recorded.leaf_names() if name not in matches}
    return Experiment(
        name="cross_model_regression",
        n=clean.n,
        definitions=DEFINITIONS,
        model=model,
        layers=layers,
        skipped=recorded.skipped | unmatched,
        notes=(how,),
    )


def one_minus(estimate: Estimate) -> Estimate:
    """1 − an estimate, its interval turned round.

    Args:
        estimate: A similarity.
    """

    def flipped(value: float | None) -> float | None:
        return None if value is None else 1 - value

    return Estimate(
        value=flipped(estimate.value),
        low=flipped(estimate.high),
        high=flipped(estimate.low),
        n=estimate.n,
        level=estimate.level,
        method=estimate.method,
    )


def _rows(n: int, seed: int) -> np.ndarray:
    if n <= MOST_SAMPLES:
        return np.arange(n)
    return np.sort(stream(seed, 42).choice(n, MOST_SAMPLES, replace=False))
