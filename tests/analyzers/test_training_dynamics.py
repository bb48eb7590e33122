"""From histories to results: what is said about a model, which series it rests on, and what is not said."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from analyzer.analyzers.training_dynamics_analyzer import TrainingDynamicsAnalyzer, training_dynamics
from analyzer.config import AnalysisConfig
from analyzer.data_types.history import read_history
from analyzer.data_types.serialization import ArrayStore, decode, encode
from analyzer.data_types.training import TrainingResult
from analyzer.data_types.values import Skipped

pytestmark = pytest.mark.plain

T = np.arange(1, 41)


def healthy(n=40):
    """Loss and accuracy that settle; 95 % of the accuracy of 0.9 at 3 τ = 15 epochs."""
    t = np.arange(1, n + 1)
    fall = np.exp(-t / 5)
    return {
        "loss": 0.20 + 2.0 * fall,
        "accuracy": 0.95 * (1 - fall),
        "val_loss": 0.25 + 2.0 * fall,
        "val_accuracy": 0.90 * (1 - fall),
    }


def dynamics(source, *, majority=None, **options):
    return training_dynamics(read_history(source), AnalysisConfig(**options), majority=majority)


def kinds(result, *severities):
    return {finding.kind for finding in result.findings if not severities or finding.severity in severities}


def run_analyzer(histories, models=("a", "b"), data=None, config=None):
    results = SimpleNamespace(training_history={name: read_history(h) for name, h in histories.items()})
    analyzer = TrainingDynamicsAnalyzer(dict.fromkeys(models), config or AnalysisConfig())
    assert analyzer.analyze(results, data, {}) is None
    return results.training_dynamics


def test_analyzer_reads_histories_and_skips_models_without_one():
    outcome = run_analyzer({"a": healthy()})
    assert TrainingDynamicsAnalyzer.name == "training_dynamics"
    assert isinstance(outcome["a"], TrainingResult)
    assert outcome["b"] == Skipped(
        "no training history was given: pass training_history={name: history} or --history name=log.csv"
    )


def test_analyzer_needs_neither_data_nor_a_pass():
    analyzer = TrainingDynamicsAnalyzer({}, AnalysisConfig())
    assert analyzer.requires_data() is False
    assert analyzer.needs() == ()
    assert [type(outcome) for outcome in run_analyzer({}).values()] == [Skipped, Skipped]


def test_planted_numbers_of_a_healthy_training():
    result = dynamics(healthy())
    assert float(result.epochs_to_convergence) == 15
    assert float(result.overfitting_index) == pytest.approx(0.05)
    assert float(result.final_gap) == pytest.approx(0.05)
    assert float(result.normalized_final_gap) == pytest.approx(0.05 / 0.25, rel=0.01)
    peak = result.peak_performance
    assert (peak.series, peak.direction, float(peak.epoch)) == ("val_accuracy", "up", 40)
    assert float(peak.value) == pytest.approx(0.9 * (1 - np.exp(-8)))
    assert float(peak.loss) == pytest.approx(healthy()["val_loss"][-1])
    assert float(result.training_stability_score) == pytest.approx(np.std(healthy()["val_loss"][-10:]))
    assert result.performance.name == "accuracy"
    assert "val_accuracy" in result.performance_reason
    assert result.epochs_to_convergence.n == 1
    assert result.epochs_to_convergence.low is None


def test_a_healthy_training_has_no_warnings():
    assert kinds(dynamics(healthy()), "warning", "error") == set()
    assert kinds(dynamics(healthy()), "info") == {"plateau"}


def test_every_series_has_its_peak():
    peaks = dynamics(healthy()).peaks
    assert set(peaks) == set(healthy())
    assert float(peaks["loss"].value) == pytest.approx(healthy()["loss"].min())


def test_regression_history_is_judged_by_its_loss():
    source = {name: values for name, values in healthy().items() if "loss" in name}
    result = dynamics(source | {"val_mae": healthy()["val_loss"] / 2})
    assert result.performance.name == "loss"
    assert result.peak_performance.direction == "down"
    assert float(result.peak_performance.value) == pytest.approx(0.25 + 2 * np.exp(-8))
    # From the first epoch, 95 % of the way down to the limit: exp(-(t - 1) / 5) < 0.05 at t > 15.98.
    assert float(result.epochs_to_convergence) == 16


def test_without_validation_nothing_is_made_up():
    result = dynamics({"loss": healthy()["loss"], "accuracy": healthy()["accuracy"]})
    for name in ("epochs_to_convergence", "peak_performance", "overfitting_index", "final_gap"):
        assert getattr(result, name) is None
    assert result.training_stability_score is None
    assert any("val_loss" in note for note in result.notes)
    assert set(result.peaks) == {"loss", "accuracy"}
    assert result.findings == ()


def test_only_validation_is_not_read_as_training():
    result = dynamics({"val_loss": healthy()["val_loss"]})
    assert result.overfitting_index is None
    assert result.training_stability_score is not None
    assert result.loss.train is None


def test_a_history_of_unknown_metrics_is_skipped_with_their_names():
    outcomes = run_analyzer({"a": {"my_score": [1, 2, 3]}, "b": healthy()})
    assert isinstance(outcomes["a"], Skipped)
    assert "my_score" in outcomes["a"].reason
    assert isinstance(outcomes["b"], TrainingResult)


def test_chance_level_of_an_accuracy_comes_from_labels():
    data = SimpleNamespace(y_data=np.array([0] * 9 + [1]))
    curve = 0.9 + 0.08 * (1 - np.exp(-T / 5))
    result = run_analyzer({"a": {"val_accuracy": curve}}, data=data)["a"]
    assert result.chance == 0.9
    assert "labels" in result.chance_source
    assert float(result.corrected_epochs_to_convergence) == 15
    assert float(result.epochs_to_convergence) < 5
    blind = run_analyzer({"a": {"val_accuracy": curve}})["a"]
    assert blind.chance is None
    assert "first epoch" in blind.chance_source


def test_chance_level_that_is_known_by_definition_or_not_at_all():
    assert dynamics({"val_auroc": [0.6, 0.8]}, majority=0.9).chance == 0.5
    assert dynamics({"val_auc": [0.6, 0.8]}, majority=0.9).chance is None
    assert dynamics({"val_loss": [0.6, 0.4]}, majority=0.9).chance is None


def test_a_model_that_names_the_majority_is_found():
    result = dynamics({"val_accuracy": np.full(20, 0.9)}, majority=0.9)
    finding = next(f for f in result.findings if f.kind == "not_above_chance")
    assert finding.severity == "warning"
    assert finding.evidence["chance"] == 0.9
    assert "not_above_chance" not in kinds(dynamics({"val_accuracy": np.full(20, 0.9)}, majority=0.5))


def test_planted_overfitting_is_found_at_its_onset():
    source = healthy() | {"val_loss": 0.25 + np.abs(T - 12) / 30}
    finding = next(f for f in dynamics(source).findings if f.kind == "overfitting")
    assert (finding.severity, finding.evidence["onset_epoch"]) == ("warning", 12)
    assert "epoch 12" in finding.message


def test_planted_divergence_and_nan_are_errors():
    source = healthy()
    source["loss"] = np.where(T > 30, 3.0, source["loss"])
    finding = next(f for f in dynamics(source).findings if f.kind == "divergence")
    assert (finding.severity, finding.evidence["epoch"]) == ("error", 31)
    source["loss"] = np.where(T > 30, np.nan, source["loss"])
    result = dynamics(source)
    finding = next(f for f in result.findings if f.kind == "non_finite_loss")
    assert (finding.severity, finding.evidence) == ("error", {"series": "loss", "epoch": 31})
    assert result.runs[0].non_finite_epoch == 31
    assert result.overfitting_index is not None


def test_a_loss_that_is_nan_throughout_gives_none():
    result = dynamics({"loss": [np.nan] * 3, "val_loss": [np.nan] * 3})
    assert result.peak_performance is None
    assert result.overfitting_index is None
    assert kinds(result) == {"non_finite_loss"}


def test_a_training_cut_short_is_told():
    source = {name: values[:8] for name, values in healthy().items()}
    assert "still_improving" in kinds(dynamics(source), "info")
    assert "plateau" not in kinds(dynamics(source))
    best_before_the_end = np.interp(T, [1, 33, 40], [0.1, 0.9, 0.5])
    assert "still_improving" not in kinds(dynamics({"val_accuracy": best_before_the_end}))
    assert "still_improving" in kinds(dynamics({"val_accuracy": best_before_the_end[:33]}))


def test_double_descent_and_a_large_gap_are_told():
    hump = np.interp(T, [1, 11, 21, 40], [1.6, 1.0, 1.6, 0.4])
    result = dynamics({"loss": np.exp(-T / 10), "val_loss": hump})
    assert {"double_descent", "generalization_gap"} <= kinds(result, "info")
    assert result.runs[0].double_descent.hump == 21


def test_learning_rate_steps_and_their_effect():
    source = healthy() | {"learning_rate": np.where(T > 20, 1e-4, 1e-3)}
    (step,) = dynamics(source).learning_rate_steps
    assert (step.epoch, step.before, step.after) == (21, 1e-3, 1e-4)
    assert (step.loss_before, step.loss_after) == pytest.approx((healthy()["val_loss"][19], healthy()["val_loss"][-1]))


def test_smoothing_options_have_an_effect():
    source = healthy() | {"lr": np.full(40, 0.1)}
    smooth, wide, off = (
        dynamics(source, **options)
        for options in ({}, {"smoothing_window": 12}, {"smooth_training_curves": False, "smoothing_window": 12})
    )
    curves = [result.curves["val_loss"] for result in (smooth, wide, off)]
    assert [result.smoothing_window for result in (smooth, wide, off)] == [5, 12, None]
    assert curves[0].smoothed.shape == curves[1].smoothed.shape == curves[0].raw.shape == (1, 40)
    assert curves[0].smoothed[0, 10] == pytest.approx(healthy()["val_loss"][8:13].mean())
    assert curves[1].smoothed[0, 10] > curves[0].smoothed[0, 10]
    assert curves[2].smoothed is None
    assert smooth.curves["lr"].smoothed is None
    assert smooth.epochs_to_convergence == off.epochs_to_convergence


def test_several_seeds_give_intervals_and_bands():
    rng = np.random.default_rng(0)
    seeds = [{k: v + rng.normal(0, 0.005, 40) for k, v in healthy().items()} for _ in range(5)]
    result = dynamics(seeds)
    assert result.n_runs == 5
    assert len(result.runs) == 5
    values = [run.overfitting_index for run in result.runs]
    assert result.overfitting_index.value == pytest.approx(np.mean(values))
    assert result.overfitting_index.low < 0.05 < result.overfitting_index.high
    assert result.overfitting_index.n == 5
    band = result.curves["val_loss"].band
    assert band.mean.shape == (40,)
    assert np.all(band.minimum <= band.low + 1)
    assert np.all((band.low <= band.mean) & (band.mean <= band.high))
    assert kinds(result, "warning", "error") == set()


def test_a_finding_of_one_seed_among_three_says_so():
    broken = healthy() | {"loss": np.where(T > 5, np.nan, healthy()["loss"])}
    finding = next(f for f in dynamics([healthy(), broken, healthy()]).findings if f.kind == "non_finite_loss")
    assert (finding.evidence["runs_affected"], finding.evidence["n_runs"], finding.evidence["run"]) == (1, 3, 2)
    assert finding.message.startswith("In 1 of 3 runs")


def test_one_epoch_is_enough_to_answer_and_not_to_judge():
    result = dynamics({"loss": [1.0], "val_loss": [1.2], "val_accuracy": [0.5]})
    assert float(result.final_gap) == pytest.approx(0.2)
    assert float(result.peak_performance.epoch) == 1
    assert result.overfitting_index is None
    assert result.training_stability_score is None
    assert result.area_under_learning_curve is None
    assert result.findings == ()


def test_a_result_survives_strict_json():
    source = healthy() | {"learning_rate": np.where(T > 20, 1e-4, 1e-3), "val_odd": T}
    source["val_loss"] = np.interp(T, [1, 11, 21, 40], [1.6, 1.0, 1.6, 0.4])
    result = dynamics([source, healthy()])
    store = ArrayStore()
    text = json.dumps(encode(result, store), allow_nan=False)
    back = decode(TrainingResult, json.loads(text), store.arrays)
    assert back.runs == result.runs
    assert back.findings == result.findings
    for field in dataclasses.fields(TrainingResult):
        if field.name not in ("epochs", "curves", "runs", "gap"):
            assert getattr(back, field.name) == getattr(result, field.name), field.name
    np.testing.assert_array_equal(back.curves["val_loss"].raw, result.curves["val_loss"].raw)
    np.testing.assert_array_equal(back.curves["val_loss"].band.mean, result.curves["val_loss"].band.mean)
    assert back.curves["accuracy"].band is not None
    np.testing.assert_array_equal(back.gap.raw, result.gap.raw)


def test_planted_spikes_are_findings_and_a_healthy_training_has_none():
    source = healthy()
    source["loss"] = np.where(T == 21, 1.9, source["loss"])
    result = dynamics(source)
    (finding,) = [f for f in result.findings if f.severity == "warning"]
    assert (finding.kind, finding.evidence["epoch"], finding.evidence["n_spikes"]) == ("loss_spike", 21, 1)
    assert "epoch 21" in finding.message
    assert [spike.epoch for spike in result.runs[0].loss_spikes] == [21]
    assert dynamics(healthy()).runs[0].loss_spikes == ()
    source = healthy() | {"val_loss": np.where(T == 11, 1.9, healthy()["val_loss"])}
    finding = next(f for f in dynamics(source).findings if f.kind == "validation_loss_spike")
    assert (finding.severity, finding.evidence["epoch"]) == ("info", 11)


def test_gap_by_epoch_and_its_band():
    rng = np.random.default_rng(1)
    seeds = [{k: v + rng.normal(0, 0.01, 40) for k, v in healthy().items()} for _ in range(4)]
    gap = dynamics(seeds, smooth_training_curves=False).gap
    raw = np.array([seed["val_loss"] - seed["loss"] for seed in seeds])
    np.testing.assert_allclose(gap.raw, raw)
    np.testing.assert_allclose(gap.band.mean, raw.mean(axis=0))
    assert gap.smoothed is None
    assert dynamics(healthy()).gap.band is None
    assert dynamics(healthy()).gap.smoothed.shape == (1, 40)
    assert dynamics({"val_loss": healthy()["val_loss"]}).gap is None


def test_names_of_other_loggers():
    words = {"loss": "Train Loss", "val_loss": "Validation Loss", "accuracy": "train/acc", "val_accuracy": "val/acc"}
    result = dynamics({words[name]: values for name, values in healthy().items()})
    plain = dynamics(healthy())
    assert result.overfitting_index == plain.overfitting_index
    assert result.peak_performance.value == plain.peak_performance.value
    assert result.unused == {}


def test_intervals_of_epochs_stay_within_the_training():
    seeds = [healthy(), healthy(20), healthy(12)]
    result = dynamics(seeds)
    for estimate in (result.peak_performance.epoch, result.epochs_to_convergence):
        assert 1 <= estimate.low <= estimate.value <= estimate.high <= 40
