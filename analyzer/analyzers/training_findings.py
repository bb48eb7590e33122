"""What the dynamics of a model's runs mean, as findings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from analyzer.data_types.evaluated_gap import EvaluatedOutput
from analyzer.data_types.history import History
from analyzer.data_types.metric_names import Metric
from analyzer.data_types.training import LossSpike, RunDynamics, TrainingResult
from analyzer.data_types.values import Finding, Severity
from analyzer.measures.training_events import (
    DIVERGENCE_RISE,
    OVERFITTING_RISE,
    divergence,
    first_non_finite,
    late_improvement,
    overfitting,
)

LATE_IMPROVEMENT = 0.1
"""Share of the whole improvement in the final third of the epochs from which more epochs are likely to help."""

CHANCE_MARGIN = 0.02
"""A peak within this distance of a known chance level is not better than chance."""

LARGE_GAP = 0.5
"""Normalised overfitting index from which the training loss says little about new data."""

Evidence = dict[str, float | int | str | bool | None]
Outcome = tuple[Evidence, str] | None


def findings_of(
    history: History, loss: Metric | None, performance: Metric | None, runs: Sequence[RunDynamics], chance: float | None
) -> tuple[Finding, ...]:
    """What is wrong with a training, or worth knowing about it.

    Args:
        history: What was logged.
        loss: The loss that was used; None without one.
        performance: The performance metric that was used; None without one.
        runs: The numbers of each run.
        chance: Known chance level of the performance metric; None where it is not known.
    """
    checks: list[tuple[str, Severity, Callable[[int], Outcome]]] = []
    if loss is not None:
        checks.append(("non_finite_loss", "error", lambda run: _non_finite(history, loss, run)))
    if loss is not None and loss.train is not None:
        checks.append(("divergence", "error", lambda run: _divergence(history, loss, run)))
        checks.append(("loss_spike", "warning", lambda run: _spikes(loss.train, runs[run])))
    if loss is not None and loss.validation is not None:
        checks.append(("validation_loss_spike", "info", lambda run: _spikes(loss.validation, runs[run])))
    if loss is not None and loss.train is not None and loss.validation is not None:
        checks.append(("overfitting", "warning", lambda run: _overfitting(history, loss, run)))
        checks.append(("generalization_gap", "info", lambda run: _gap(runs[run])))
        checks.append(("double_descent", "info", lambda run: _double_descent(runs[run])))
    if performance is not None:
        checks.append(("not_above_chance", "warning", lambda run: _chance(performance, runs[run], chance)))
        checks.append(("plateau", "info", lambda run: _plateau(history, performance, runs[run])))
        checks.append(("still_improving", "info", lambda run: _improving(history, performance, run)))
    found = (_over_runs(kind, severity, check, len(runs)) for kind, severity, check in checks)
    return tuple(finding for finding in found if finding is not None)


def _over_runs(kind: str, severity: Severity, check: Callable[[int], Outcome], n_runs: int) -> Finding | None:
    """One finding for all runs, with the evidence of the first run that shows it."""
    outcomes = {run + 1: outcome for run in range(n_runs) if (outcome := check(run)) is not None}
    if not outcomes:
        return None
    first, (evidence, message) = next(iter(outcomes.items()))
    if n_runs > 1:
        evidence = {"runs_affected": len(outcomes), "n_runs": n_runs, "run": first} | evidence
        message = f"In {len(outcomes)} of {n_runs} runs (numbers of run {first}): {message}"
    return Finding(kind=kind, layer=None, severity=severity, evidence=evidence, message=message)


def _non_finite(history: History, loss: Metric, run: int) -> Outcome:
    for series in (loss.train, loss.validation):
        if series is None:
            continue
        epoch = first_non_finite(history.epochs, history.series[series][run], history.recorded[series][run])
        if epoch is not None:
            return {"series": series, "epoch": epoch}, (
                f"{series!r} is NaN or infinite from epoch {epoch} on or in it. Lower the learning rate, clip "
                "gradients, or look for a division by zero, a logarithm of zero or NaN in the data."
            )
    return None


def _divergence(history: History, loss: Metric, run: int) -> Outcome:
    rise = divergence(history.epochs, history.series[str(loss.train)][run])
    if rise is None:
        return None
    evidence: Evidence = {
        "epoch": rise.epoch,
        "best": rise.best,
        "final": rise.final,
        "rise": rise.rise,
        "threshold": rise.threshold,
        "share_of_gain": DIVERGENCE_RISE,
    }
    return evidence, (
        f"The training loss rose from {rise.best:.4g} to {rise.final:.4g} and stayed there from epoch {rise.epoch} on. "
        "The final weights are not the best ones: lower the learning rate or clip gradients."
    )


def _spikes(series: str | None, run: RunDynamics) -> Outcome:
    spikes = [spike for spike in run.loss_spikes if spike.series == series]
    if not spikes:
        return None
    worst: LossSpike = max(spikes, key=lambda spike: spike.value - spike.level)
    evidence: Evidence = {
        "epoch": worst.epoch,
        "value": worst.value,
        "level": worst.level,
        "threshold": worst.threshold,
        "n_spikes": len(spikes),
    }
    more = f" ({len(spikes)} such spikes in all)" if len(spikes) > 1 else ""
    return evidence, (
        f"{series!r} jumped to {worst.value:.4g} at epoch {worst.epoch} from a level of {worst.level:.4g} and came "
        f"back{more}. Look for broken batches, clip gradients, or lower the learning rate."
    )


def _overfitting(history: History, loss: Metric, run: int) -> Outcome:
    train, held_out = history.series[str(loss.train)][run], history.series[str(loss.validation)][run]
    rise = overfitting(history.epochs, train, held_out)
    if rise is None:
        return None
    evidence: Evidence = {
        "onset_epoch": rise.epoch,
        "best_validation_loss": rise.best,
        "final_validation_loss": rise.final,
        "rise": rise.rise,
        "threshold": rise.threshold,
        "relative_rise": OVERFITTING_RISE,
    }
    return evidence, (
        f"The validation loss was best at epoch {rise.epoch} ({rise.best:.4g}) and rose to {rise.final:.4g} while the "
        "training loss kept falling. Stop earlier (EarlyStopping with restore_best_weights), regularise, or add data."
    )


def _gap(run: RunDynamics) -> Outcome:
    index = run.normalized_overfitting_index
    if index is None or index < LARGE_GAP:
        return None
    return {"normalized_overfitting_index": index, "threshold": LARGE_GAP}, (
        f"In the final third the training loss lies {index:.0%} below the validation loss: it says little about new "
        "data. Judge this model by validation values."
    )


def _double_descent(run: RunDynamics) -> Outcome:
    shape = run.double_descent
    if shape is None:
        return None
    evidence: Evidence = {
        "first_minimum": shape.first_minimum,
        "hump": shape.hump,
        "second_minimum": shape.second_minimum,
        "height": shape.height,
    }
    return evidence, (
        f"The validation loss fell until epoch {shape.first_minimum}, rose until {shape.hump} and fell again until "
        f"{shape.second_minimum} (double descent, or a change of the learning rate): stopping at the first rise would "
        "have been early."
    )


def _chance(performance: Metric, run: RunDynamics, chance: float | None) -> Outcome:
    if chance is None or run.corrected_peak is None:
        return None
    better = run.corrected_peak - chance if performance.direction == "up" else chance - run.corrected_peak
    if better > CHANCE_MARGIN:
        return None
    return {"corrected_peak": run.corrected_peak, "chance": chance, "margin": CHANCE_MARGIN}, (
        f"The best {performance.validation!r} is {run.corrected_peak:.4g}, and a model without any skill reaches "
        f"{chance:.4g}: nothing was learned that carries over. Check labels, learning rate and input scaling."
    )


def _plateau(history: History, performance: Metric, run: RunDynamics) -> Outcome:
    if run.plateau_epoch is None:
        return None
    last = int(history.epochs[-1])
    return {"epoch": run.plateau_epoch, "last_epoch": last, "series": performance.validation}, (
        f"{performance.validation!r} did not get better from epoch {run.plateau_epoch} on; training ended at epoch "
        f"{last}. A lower learning rate may help from there; else stop earlier."
    )


def _improving(history: History, performance: Metric, run: int) -> Outcome:
    values = history.series[str(performance.validation)][run]
    share = late_improvement(history.epochs, values, performance.direction)
    if share is None or share < LATE_IMPROVEMENT:
        return None
    best = values if performance.direction == "up" else -values
    last = np.flatnonzero(np.isfinite(values))[-1]
    if np.nanargmax(best) < 0.9 * last:
        return None
    return {"share_in_final_third": share, "threshold": LATE_IMPROVEMENT, "series": performance.validation}, (
        f"{share:.0%} of the improvement of {performance.validation!r} came in the final third and the best epoch is "
        "among the last: more epochs are likely to help."
    )


def evaluation_findings(evaluated: Mapping[str, EvaluatedOutput], dynamics: TrainingResult) -> tuple[Finding, ...]:
    """What the evaluated losses say that the logged ones do not, or say better.

    Args:
        evaluated: Loss on training and held-out data, by output.
        dynamics: What the history says.
    """
    found = (_evaluated_gap(name, output, len(evaluated)) for name, output in evaluated.items())
    return tuple(finding for finding in (*found, _hidden_gap(dynamics, evaluated)) if finding is not None)


def _evaluated_gap(name: str, output: EvaluatedOutput, n_outputs: int) -> Finding | None:
    share, loss = output.normalized_gap, output.loss
    if share is None or loss is None or share.value is None:
        return None
    # Sure of it: the whole interval is above the threshold.
    if (share.value if share.low is None else share.low) < LARGE_GAP:
        return None
    where = f" of output {name!r}" if n_outputs > 1 else ""
    evidence: Evidence = {
        "normalized_evaluated_gap": share.value,
        "low": share.low,
        "threshold": LARGE_GAP,
        "train_loss": loss.train.value,
        "held_out_loss": loss.held_out.value,
        "n_train": loss.train.n,
        "n_held_out": loss.held_out.n,
    }
    message = (
        f"Evaluated without dropout, the training loss{where} is {loss.train} and lies {share.value:.0%} below that on "
        f"held-out data, {loss.held_out}: it says little about new data. Judge this model by held-out values."
    )
    return Finding(kind="evaluated_gap", layer=None, severity="info", evidence=evidence, message=message)


def _hidden_gap(dynamics: TrainingResult, evaluated: Mapping[str, EvaluatedOutput]) -> Finding | None:
    """A gap that the logged losses do not show, as the training loss was logged under dropout."""
    logged = dynamics.final_gap
    only = next(iter(evaluated.values())) if len(evaluated) == 1 else None
    if only is None or only.loss is None or logged is None or logged.value is None:
        return None
    gap = only.loss.gap
    if logged.value > 0 or gap.value is None or gap.low is None or gap.low <= 0:
        return None
    evidence: Evidence = {"logged_final_gap": logged.value, "evaluated_gap": gap.value, "low": gap.low}
    return Finding(
        kind="hidden_gap",
        layer=None,
        severity="info",
        evidence=evidence,
        message=(
            f"As logged, the validation loss ends {-logged.value:.3g} below the training loss; evaluated alike, it "
            f"lies {gap} above. What was logged for training is a mean over the epoch, under dropout: judge by the "
            "evaluated losses."
        ),
    )
