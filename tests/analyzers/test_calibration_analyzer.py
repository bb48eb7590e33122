"""The analyzer: every kind of output is recognised, and what cannot be measured is said."""

import dataclasses
import logging

import numpy as np
import pytest

from analyzer.analyzers.calibration_analyzer import NO_LABELS, CalibrationAnalyzer
from analyzer.config import AnalysisConfig
from analyzer.data_types import AnalysisResults, MultiOutput, OutputData, OutputTask, Skipped
from analyzer.data_types.calibration import ClassificationCalibration, MultiLabelCalibration
from analyzer.data_types.regression_calibration import GaussianCalibration, QuantileCalibration, RegressionCalibration
from analyzer.inspection.needs import Predictions

RNG = np.random.default_rng(0)


def analyzer(**options):
    return CalibrationAnalyzer({}, AnalysisConfig(**{"n_bootstrap": 50, **options}))


def multiclass(n=300, k=4, temperature=1.0, **more):
    rng = np.random.default_rng(n)
    p = rng.dirichlet(np.ones(k), size=n)
    labels = (np.cumsum(p, axis=1) < rng.random((n, 1))).sum(axis=1).clip(0, k - 1)
    said = p ** (1 / temperature)
    said /= said.sum(axis=1, keepdims=True)
    task = OutputTask(kind="multiclass", n_classes=k)
    return OutputData(**{"name": "out", "task": task, "raw": said, "probabilities": said, "labels": labels, **more})


def of_kind(kind, raw, labels, **more):
    options = {key: more.pop(key) for key in ("from_logits", "quantiles", "reason") if key in more}
    return OutputData(name="out", task=OutputTask(kind=kind, **options), raw=raw, labels=labels, **more)


def kinds(findings):
    return {finding.kind for finding in findings}


def test_multiclass():
    result = analyzer().output(multiclass(class_names=("a", "b", "c", "d")))
    assert isinstance(result, ClassificationCalibration)
    assert result.verdict.text == "not distinguishable from calibrated at n = 300"
    assert [entry.name for entry in result.per_class] == ["a", "b", "c", "d"]
    assert len(result.recalibration) == 3
    assert result.findings == ()
    assert result.notes == ()


def test_over_confidence_is_a_finding_with_its_remedy():
    result = analyzer().output(multiclass(n=1000, temperature=0.5))
    finding = result.findings[0]
    assert (finding.kind, finding.severity) == ("over_confident", "warning")
    assert finding.evidence["p_value"] == 0.001
    assert finding.evidence["n"] == 1000
    assert f"recalibrate(model, result) with method '{finding.evidence['method']}'" in finding.message
    found = {s.map.method: s.map for s in result.recalibration}
    assert found["temperature"].temperature == pytest.approx(2, rel=0.2)


def test_a_proven_but_tiny_error_is_only_a_remark():
    result = analyzer().output(multiclass(n=20_000, temperature=0.97))
    assert result.verdict.direction == "over-confident"
    assert [finding.severity for finding in result.findings] == ["info"]


def test_binary():
    p = RNG.uniform(size=200)
    y = (RNG.random(200) < p).astype(int)
    result = analyzer().output(of_kind("binary", p[:, None], y, probabilities=p))
    assert (result.task, result.n_classes) == ("binary", 2)
    assert result.brier.value == pytest.approx(((p - y) ** 2).mean())
    assert {s.map.activation for s in result.recalibration} == {"sigmoid"}
    assert len(result.per_class) == 2


def test_multi_label_is_never_soft_maxed():
    p = RNG.uniform(size=(200, 3))
    y = (RNG.random((200, 3)) < p).astype(int)
    result = analyzer().output(of_kind("multilabel", p, y, probabilities=p))
    assert isinstance(result, MultiLabelCalibration)
    assert result.brier.value == pytest.approx(((p - y) ** 2).mean())
    assert len(result.recalibration) == 3


def test_logits_are_what_maps_scale_only_where_the_model_returns_them():
    z = RNG.normal(size=(300, 1)) * 4
    p = 1 / (1 + np.exp(-z[:, 0]))
    y = (RNG.random(300) < 1 / (1 + np.exp(-z[:, 0] / 2))).astype(int)
    result = analyzer().output(of_kind("binary", z, y, probabilities=p, logits=z[:, 0], from_logits=True))
    assert result.from_logits
    found = {s.map.method: s.map for s in result.recalibration}
    assert found["temperature"].temperature == pytest.approx(2, rel=0.35)


def test_regression_kinds():
    mean, std = RNG.normal(size=(300, 1)), np.exp(RNG.normal(size=(300, 1)) / 2)
    truth = mean + std * RNG.normal(size=(300, 1))
    points = analyzer().output(of_kind("regression", mean.astype(np.float32), truth))
    assert isinstance(points, RegressionCalibration)
    assert points.bias.low < 0 < points.bias.high
    gaussian = analyzer().output(of_kind("gaussian", np.concatenate([mean, std**2], axis=1), truth))
    assert isinstance(gaussian, GaussianCalibration)
    assert gaussian.verdict.calibrated
    levels = (0.1, 0.5, 0.9)
    quantiles = mean + std * np.array([-1.2816, 0, 1.2816])
    result = analyzer().output(of_kind("quantile", quantiles, truth, quantiles=levels))
    assert isinstance(result, QuantileCalibration)
    assert result.verdict.calibrated
    assert not kinds(result.findings)


def test_regression_findings():
    x = RNG.uniform(1, 3, size=(1000, 1))
    noise = RNG.normal(size=(1000, 1))
    result = analyzer().output(of_kind("regression", x + 1, x + noise * x))
    assert kinds(result.findings) == {"biased_predictions", "heteroscedastic_residuals"}
    narrow = analyzer().output(of_kind("gaussian", np.concatenate([x, 0.1 * np.ones_like(x)], axis=1), x + noise))
    assert "over_confident" in kinds(narrow.findings)
    crossing = np.concatenate([x + 1, x, x - 1], axis=1)
    result = analyzer().output(of_kind("quantile", crossing, x + noise, quantiles=(0.1, 0.5, 0.9)))
    assert "crossing_quantiles" in kinds(result.findings)


def test_several_targets_of_a_quantile_head_are_grouped_by_sample():
    truth = RNG.normal(size=(100, 2))
    raw = np.tile(np.array([-1.2816, 0, 1.2816]), (100, 2))
    result = analyzer().output(of_kind("quantile", raw, truth, quantiles=(0.1, 0.5, 0.9)))
    assert (result.n, result.n_samples, result.verdict.n) == (200, 100, 100)


def test_positions_are_resampled_by_sample():
    data = multiclass(n=600)
    task = dataclasses.replace(data.task, kind="segmentation")
    groups = np.repeat(np.arange(60), 10)
    result = analyzer().output(dataclasses.replace(data, task=task, groups=groups, raw=np.zeros((60, 10, 4))))
    assert (result.task, result.n, result.n_samples, result.verdict.n) == ("segmentation", 600, 60, 60)
    assert any("not independent" in note for note in result.notes)


def test_what_cannot_be_measured_is_skipped_with_what_to_do():
    tool = analyzer()
    cases = {
        NO_LABELS: multiclass(labels=None),
        "Say task=x": of_kind("unknown", np.zeros((3, 2)), None, reason="Say task=x"),
        "single softmax column": of_kind(
            "multiclass", np.ones((5, 1)), np.zeros(5, int), probabilities=np.ones((5, 1))
        ),
        "not positive": of_kind("gaussian", np.array([[0.0, 1.0], [0.0, -1.0]]), np.zeros((2, 1))),
    }
    for i, (reason, output) in enumerate(cases.items()):
        tool.models = {"m": None}
        results = AnalysisResults(("m",))
        tool.analyze(results, None, {"m": {Predictions(): {"out": output}}})
        assert isinstance(results.calibration["m"], Skipped), i
        assert reason in results.calibration["m"].reason


def test_one_class_and_absent_classes_are_said():
    data = multiclass()
    only = analyzer().output(dataclasses.replace(data, labels=np.zeros(300, dtype=int)))
    assert "one_class_only" in kinds(only.findings)
    assert only.recalibration == ()
    assert any("No recalibration" in note for note in only.notes)
    absent = analyzer().output(dataclasses.replace(data, labels=np.where(data.labels == 3, 2, data.labels)))
    assert "absent_classes" in kinds(absent.findings)
    assert absent.per_class[3].ece.value is None


def test_few_samples_and_unused_weights_are_said():
    result = analyzer().output(multiclass(n=30, sample_weight=np.ones(30)))
    assert "few_samples" in kinds(result.findings)
    assert any("Sample weights" in note for note in result.notes)


def test_options_have_their_effect():
    data = multiclass()
    assert analyzer(calibration_bins=5).output(data).reliability.count.size <= 5
    assert analyzer(calibration_bins=5).output(data).ece.value != analyzer().output(data).ece.value
    assert analyzer(n_bootstrap=0).output(data).ece.low is None
    assert analyzer(seed=1).output(data).smece.high != analyzer().output(data).smece.high


def test_several_models_and_outputs(caplog):
    tool = analyzer(n_bootstrap=0)
    tool.models = {"one": None, "two": None}
    results = AnalysisResults(("one", "two"))
    good, bad = multiclass(n=60), multiclass(n=60, labels=None)
    with caplog.at_level(logging.INFO, "analyzer"):
        tool.analyze(
            results, None, {"one": {Predictions(): {"out": good}}, "two": {Predictions(): {"a": good, "b": bad}}}
        )
    assert isinstance(results.calibration["one"], ClassificationCalibration)
    two = results.calibration["two"]
    assert isinstance(two, MultiOutput)
    assert isinstance(two.outputs["a"], ClassificationCalibration)
    assert isinstance(two.outputs["b"], Skipped)
    assert "calibration of one: ok" in caplog.text
