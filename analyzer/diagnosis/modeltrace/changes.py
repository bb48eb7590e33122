"""Drift, layer sensitivity and ModelTrace's composite: how much pairs of inputs differ inside the model."""

from __future__ import annotations

import keras
import numpy as np

from analyzer.data_types.inspection_report import Definition, Experiment, Reading
from analyzer.diagnosis.modeltrace.activations import Settings, number, raw_means
from analyzer.diagnosis.modeltrace.recording import Recorded, names_of
from analyzer.diagnosis.modeltrace.subject import INPUT, OUTPUT
from analyzer.measures.activation_drift import (
    Bootstrapped,
    Resampling,
    RowSums,
    log_amplification,
    mean_magnitude,
    mean_of_layers,
    modeltrace_composite,
    relative_change_of_magnitude,
    relative_norm,
)

DRIFT = {
    "drift": Definition(
        raw="mean |h(x) − h(x')| over all values; of the model, averaged over layers",
        scale_free="‖h(x) − h(x')‖ / ‖h(x)‖ over all samples; of the model, averaged over layers",
    ),
    "output_drift": Definition(raw="mean |f(x) − f(x')| of the outputs", scale_free="‖f(x) − f(x')‖ / ‖f(x)‖"),
}

SENSITIVITY = {
    "sensitivity": Definition(
        raw="mean |h(x) − h(x')| of the layer: the very terms that drift averages",
        scale_free="relative amplification: (‖Δh‖ / ‖h‖) of the layer over that of what it receives; above 1 it "
        "amplifies; of the model, from input to output: the product along a chain",
    )
}

SCORE = {
    "modeltrace_score": Definition(
        raw="0.4 |Δ mean magnitude| + 0.4 drift + 0.2 mean sensitivity, where sensitivity is drift once more: lower is "
        "less change, 0 for a network of zeros; ModelTrace calls it a robustness score",
        scale_free="0.4 × mean over layers of |relative change of magnitude| + 0.6 × mean relative drift; undefined "
        "for a network of zeros; no measure of robustness (see AURA)",
    )
}


def paired(recorded: Recorded) -> dict[str, RowSums]:
    """Sums of the change of each tensor; the caller has checked that samples are pairs."""
    assert recorded.drift is not None  # noqa: S101
    return recorded.drift


def relative_drifts(recorded: Recorded, drawn: Resampling) -> dict[str, Bootstrapped]:
    """Relative change of each leaf by name.

    Args:
        recorded: What a run brought, with pairs.
        drawn: Bootstrap samples.
    """
    change = paired(recorded)
    return {
        name: relative_norm(change[name], recorded.clean.sums[name], drawn)
        for name in recorded.leaf_names()
        if name in change
    }


def drift(recorded: Recorded, settings: Settings) -> Experiment:
    """How far activations move from the data to the shifted data, sample by sample.

    Args:
        recorded: What a run brought, with pairs.
        settings: Bootstrap and seed.
    """
    change, drawn = paired(recorded), settings.drawn(recorded.clean.n)
    relative = relative_drifts(recorded, drawn)
    model = {"drift": _reading(raw_means(list(relative), change), mean_of_layers(list(relative.values())))}
    for name in names_of(OUTPUT, change)[:1]:
        moved = relative_norm(change[name], recorded.clean.sums[name], drawn)
        model["output_drift"] = _reading(mean_magnitude(change[name]), moved)
    return Experiment(
        name="drift",
        n=recorded.clean.n,
        definitions=DRIFT,
        model=model,
        layers={name: {"drift": _reading(mean_magnitude(change[name]), relative[name])} for name in relative},
        skipped=recorded.skipped,
    )


def layer_sensitivity(recorded: Recorded, settings: Settings) -> Experiment:
    """Which layers amplify a relative change, and which damp it.

    Args:
        recorded: What a run brought, with pairs.
        settings: Bootstrap and seed.
    """
    change, drawn = paired(recorded), settings.drawn(recorded.clean.n)
    everyone = np.arange(recorded.clean.n)
    logs = log_amplifications(recorded, drawn, everyone)
    layers = {name: {"sensitivity": _reading(mean_magnitude(change[name]), _exponential(logs[name]))} for name in logs}
    raw = raw_means([name for name in recorded.leaf_names() if name in change], change)
    total = _exponential(whole_amplification(recorded, drawn, everyone))
    return Experiment(
        name="layer_sensitivity",
        n=recorded.clean.n,
        definitions=SENSITIVITY,
        model={"sensitivity": _reading(raw, total)},
        layers=layers,
        skipped=recorded.skipped,
        notes=_unknown_sources(recorded),
    )


def modeltrace_score(recorded: Recorded, settings: Settings) -> Experiment:
    """ModelTrace's composite.

    Args:
        recorded: What a run brought, with pairs.
        settings: Bootstrap and seed.
    """
    change, drawn = paired(recorded), settings.drawn(recorded.clean.n)
    relative = relative_drifts(recorded, drawn)
    names, shifted = list(relative), recorded.shifted
    assert shifted is not None  # noqa: S101 - pairs have a second side
    mean_drift = raw_means(names, change)
    raw = modeltrace_composite(
        raw_means(names, recorded.clean.sums), raw_means(names, shifted.sums), mean_drift, mean_drift
    )
    magnitudes = [
        relative_change_of_magnitude(recorded.clean.sums[name], shifted.sums[name], drawn, drawn) for name in names
    ]
    moved = mean_of_layers([Bootstrapped(abs(one.value), np.abs(one.draws), one.n) for one in magnitudes])
    drifted = mean_of_layers(list(relative.values()))
    scale_free = Bootstrapped(0.4 * moved.value + 0.6 * drifted.value, 0.4 * moved.draws + 0.6 * drifted.draws, drawn.n)
    return Experiment(
        name="modeltrace_score",
        n=recorded.clean.n,
        definitions=SCORE,
        model={"modeltrace_score": _reading(raw, scale_free)},
        skipped=recorded.skipped,
        notes=("Lower means that activations change less, not that decisions are robust.",),
    )


def log_amplifications(recorded: Recorded, drawn: Resampling, rows: np.ndarray) -> dict[str, Bootstrapped]:
    """Ln of the relative amplification of each call that is followed, by the name of its first tensor.

    Args:
        recorded: What a run brought, with pairs.
        drawn: Bootstrap samples of the rows.
        rows: Samples that count.
    """
    change = paired(recorded)
    found = {}
    for call in recorded.subject.order:
        names = [name for name in names_of(call.id, recorded.clean.sums) if name in change]
        if not names:
            continue
        fed = _fed(recorded, call.id)
        if isinstance(call.layer.layer, keras.layers.Embedding):
            # Ids have no size that a change could be relative to.
            fed = []
        found[names[0]] = log_amplification(
            [change[name].take(rows) for name in fed],
            [recorded.clean.sums[name].take(rows) for name in fed],
            [change[name].take(rows) for name in names],
            [recorded.clean.sums[name].take(rows) for name in names],
            drawn,
        )
    return found


def whole_amplification(recorded: Recorded, drawn: Resampling, rows: np.ndarray) -> Bootstrapped:
    """Ln of the relative amplification from the inputs of the model to its outputs.

    Args:
        recorded: What a run brought, with pairs.
        drawn: Bootstrap samples of the rows.
        rows: Samples that count.
    """
    change = paired(recorded)
    embeds = any(isinstance(call.layer.layer, keras.layers.Embedding) for call in recorded.subject.leaves)
    fed = [] if embeds else names_of(INPUT, change)
    left = names_of(OUTPUT, change)
    return log_amplification(
        [change[name].take(rows) for name in fed],
        [recorded.clean.sums[name].take(rows) for name in fed],
        [change[name].take(rows) for name in left],
        [recorded.clean.sums[name].take(rows) for name in left],
        drawn,
    )


def _fed(recorded: Recorded, call: str) -> list[str]:
    """Names of the tensors that feed a call; none where that is not known of all."""
    change = paired(recorded)
    sources = recorded.subject.sources.get(call) or ()
    found = [names_of(source, change) for source in sources]
    return [name for names in found for name in names] if all(found) else []


def _unknown_sources(recorded: Recorded) -> tuple[str, ...]:
    unknown = [call.id for call in recorded.subject.leaves if recorded.subject.sources.get(call.id) is None]
    if not unknown:
        return ()
    shown = ", ".join(unknown[:5]) + (", …" if len(unknown) > 5 else "")
    return (f"What feeds {shown} could not be followed, so there is no amplification of it.",)


def _exponential(log: Bootstrapped) -> Bootstrapped:
    return Bootstrapped(float(np.exp(log.value)), np.exp(log.draws), log.n)


def _reading(raw: float, scale_free: Bootstrapped) -> Reading:
    return Reading(raw=number(raw), scale_free=scale_free.estimate(low=0.0))
