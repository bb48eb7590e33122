"""What to do about a model: suggestions that follow from evidence, each with the effect that can be expected."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from analyzer.data_types.history import History, read_history
from analyzer.data_types.inspection_report import Effect, Suggestion
from analyzer.data_types.outputs import OutputData
from analyzer.data_types.values import Estimate
from analyzer.diagnosis.evidence import LABELS, Evidence
from analyzer.diagnosis.suggested_augmentation import suggest_augmentation
from analyzer.diagnosis.suggested_pruning import suggest_pruning
from analyzer.errors import DataError, ModelError, Unsupported
from analyzer.measures.calibration.suggestions import MIN_UNITS, suggest_recalibration
from analyzer.measures.training_events import divergence, first_non_finite, loss_spikes

RATE_DIVISOR = 3.0
"""By how much a learning rate is lowered when the loss diverges (Bengio 2012, arXiv 1206.5533, section 3.1.1)."""


def suggestions_of(evidence: Evidence) -> tuple[tuple[Suggestion, ...], dict[str, str]]:
    """Everything that the evidence speaks for.

    Args:
        evidence: What is known about the model.

    Returns:
        The suggestions; and by kind, why there was nothing to judge by. A kind in neither was judged, and nothing
        speaks for it.

    Raises:
        DataError: If the training history cannot be read.
    """
    makers: dict[str, Callable[[Evidence], Suggestion | None]] = {
        "prune": suggest_pruning,
        "augment": suggest_augmentation,
        "recalibrate": suggest_recalibrating,
    }
    found: list[Suggestion] = []
    skipped: dict[str, str] = {}
    for kind, make in makers.items():
        evidence.told("suggestions", len(found) + len(skipped), len(makers) + 1)
        try:
            made = make(evidence)
        except (Unsupported, ModelError, DataError) as reason:
            skipped[kind] = str(reason)
            continue
        found += [] if made is None else [made]
    if evidence.history is None:
        skipped["lower_learning_rate"] = "It needs the training history: give history."
    else:
        made = suggest_learning_rate(evidence, read_history(evidence.history))
        found += [] if made is None else [made]
    evidence.told("suggestions", len(makers) + 1, len(makers) + 1)
    return tuple(found), skipped


def suggest_recalibrating(evidence: Evidence) -> Suggestion | None:
    """Recalibrate, where that gains log loss beyond doubt on samples that the map was not fitted on.

    Args:
        evidence: What is known.

    Raises:
        Unsupported: If there are no labels, no probabilities or too few samples.
    """
    if evidence.arranged is None or evidence.y is None:
        raise Unsupported(LABELS)
    output = evidence.output(evidence.view, evidence.arranged)
    targets = _targets(output)
    if output is None or output.probabilities is None or targets is None:
        raise Unsupported("It needs one output of probabilities with labels.")
    binary = output.probabilities.ndim == 1
    logits = output.logits
    maps = suggest_recalibration(
        output.probabilities[:, None] if binary else output.probabilities,
        targets,
        activation="sigmoid" if binary or output.task.kind == "multilabel" else "softmax",
        logits=logits[:, None] if binary and logits is not None else logits,
        groups=output.groups,
        n_bootstrap=evidence.n_bootstrap,
        seed=evidence.seed,
    )
    if not maps:
        raise Unsupported(f"It needs {MIN_UNITS} samples of several classes to fit maps and measure their gain.")
    best = maps[0]
    if not best.helps:
        return None
    return Suggestion(
        kind="recalibrate",
        message=f"Recalibrate ({best.map.method}): log loss falls by {float(best.log_loss_gain):.4g} and ECE by "
        f"{float(best.ece_gain):.4g} on samples that the map was not fitted on. "
        "recalibrate(model, results.calibration[name]).",
        evidence={
            "method": best.map.method,
            "temperature": best.map.temperature,
            "folds": best.folds,
            "n": best.log_loss_gain.n,
        },
        effects=(
            Effect(
                quantity="log loss", before=None, after=None, change=_minus(best.log_loss_gain), basis="cross-validated"
            ),
            Effect(quantity="ECE", before=None, after=None, change=_minus(best.ece_gain), basis="cross-validated"),
        ),
    )


def suggest_learning_rate(evidence: Evidence, history: History) -> Suggestion | None:
    """A lower learning rate, where the training loss diverged, jumped or stopped being a number.

    Args:
        evidence: What is known.
        history: The training history.
    """
    loss = history.metrics.get("loss")
    if loss is None or loss.train is None:
        return None
    for run in range(history.n_runs):
        curve = history.series[loss.train][run]
        trouble = _trouble(history, loss.train, run)
        if trouble is None:
            continue
        kind, epoch, final = trouble
        best = float(np.nanmin(np.where(np.isfinite(curve), curve, np.nan)))
        rate = _rate(evidence, history, run)
        lower = "a third of it" if rate is None else f"{rate / RATE_DIVISOR:.3g} instead of {rate:.3g}"
        n = int(np.isfinite(curve).sum())
        reached = Estimate(value=best, n=n)
        change = None if final is None else Estimate(value=best - final, n=n)
        return Suggestion(
            kind="lower_learning_rate",
            message=f"Lower the learning rate ({lower}): the training loss {kind} at epoch {epoch}. It had reached "
            f"{best:.4g} before; a rate that holds that is the least to expect.",
            evidence={
                "event": kind,
                "epoch": epoch,
                "run": run + 1,
                "best_loss": best,
                "learning_rate": rate,
                "suggested": None if rate is None else rate / RATE_DIVISOR,
            },
            effects=(
                Effect(
                    quantity="training loss",
                    before=Estimate(value=final, n=n),
                    after=reached,
                    change=change,
                    basis="rule of thumb",
                ),
            ),
        )
    return None


def _trouble(history: History, series: str, run: int) -> tuple[str, int, float | None] | None:
    """What went wrong, when, and the loss that was left."""
    epochs, curve = history.epochs, history.series[series][run]
    finite = curve[np.isfinite(curve)]
    broken = first_non_finite(epochs, curve, history.recorded[series][run])
    if broken is not None and finite.size:
        return "became NaN or infinite", broken, None
    rise = divergence(epochs, curve)
    if rise is not None:
        return "diverged", rise.epoch, rise.final
    spikes = loss_spikes(series, epochs, curve)
    if spikes:
        worst = max(spikes, key=lambda spike: spike.value - spike.level)
        return "jumped", worst.epoch, worst.value
    return None


def _rate(evidence: Evidence, history: History, run: int) -> float | None:
    """The learning rate that was used: as logged, else as compiled; None where it is not known."""
    if history.learning_rate is not None:
        logged = history.series[history.learning_rate][run]
        known = logged[np.isfinite(logged)]
        return float(known.max()) if known.size else None
    optimizer = getattr(evidence.view.model, "optimizer", None)
    rate = getattr(optimizer, "learning_rate", None)
    try:
        return None if rate is None else float(rate)
    except TypeError:
        # A schedule is no single number.
        return None


def _targets(output: OutputData | None) -> np.ndarray | None:
    """Outcomes 0 or 1 per class or label."""
    if output is None or output.probabilities is None or output.labels is None:
        return None
    if output.probabilities.ndim == 1:
        return np.asarray(output.labels, dtype=np.float64)[:, None]
    if output.labels.ndim == 1:
        return np.asarray(np.eye(output.probabilities.shape[1])[output.labels])
    return np.asarray(output.labels, dtype=np.float64)


def _minus(gain: Estimate) -> Estimate:
    def negative(value: float | None) -> float | None:
        return None if value is None else -value

    return Estimate(
        value=negative(gain.value),
        low=negative(gain.high),
        high=negative(gain.low),
        n=gain.n,
        level=gain.level,
        method=gain.method,
    )
