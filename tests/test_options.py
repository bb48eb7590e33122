"""Law 7: every option of `AnalysisConfig` has an effect."""

from __future__ import annotations

import logging
import re

import keras
import matplotlib.image
import numpy as np
import pytest

from analyzer import AnalysisConfig, DataInput, ModelAnalyzer
from analyzer.data_types import Skipped

pytestmark = [pytest.mark.slow, pytest.mark.once]

N = 300


@pytest.fixture(scope="module")
def material():
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 8)).astype("float32")
    y = (x[:, 0] > 0).astype(int) + (x[:, 1] > 1)
    models, histories = {}, {}
    for name in ("a", "b", "c"):
        model = keras.Sequential(
            [
                keras.Input((8,)),
                *(keras.layers.Dense(6, activation="relu") for _ in range(4)),
                keras.layers.LayerNormalization(),
                keras.layers.Dense(3, activation="softmax"),
            ]
        )
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        histories[name] = model.fit(x, y, validation_split=0.3, epochs=6, verbose=0)
        models[name] = model
    return models, histories, DataInput(x, y)


@pytest.fixture
def audit(material, tmp_path):
    models, histories, data = material

    def run(folder="out", data=data, reference=None, **options):
        # What takes longest runs where it is asked for.
        quick = {"analyze_information_flow": False, "analyze_cost": False}
        settings = {"save_plots": False, "n_bootstrap": 0, "progress": False, **quick} | options
        analyzer = ModelAnalyzer(models, histories, AnalysisConfig(**settings), tmp_path / folder)
        return analyzer.analyze(data, reference)

    run.folder = tmp_path
    return run


@pytest.mark.parametrize("name", ["weights", "calibration", "information_flow", "training_dynamics", "cost"])
def test_an_analysis_that_is_switched_off_does_not_run(audit, name):
    results = audit(**({"analyze_information_flow": True, "analyze_cost": True} | {f"analyze_{name}": False}))
    assert getattr(results, name) == {}
    others = {"weights", "calibration", "information_flow", "training_dynamics", "cost"} - {name}
    assert all(set(getattr(results, other)) == {"a", "b", "c"} for other in others)


def test_relevance_is_analysed_on_request(audit):
    assert audit().relevance == {}
    found = audit(analyze_relevance=True, relevance_samples=6, relevance_method="z_plus").relevance
    assert set(found) == {"a", "b", "c"}
    assert found["a"].n == 6
    assert found["a"].method == "z_plus"
    assert audit(analyze_relevance=True, relevance_samples=7).relevance["a"].n == 7


def test_robustness_is_measured_on_request(audit):
    assert audit().robustness == {}
    found = audit(analyze_robustness=True, robustness_samples=20, robustness_epsilon=1.5)
    assert set(found.robustness) == {"a", "b", "c"}
    plain = found.robustness["a"]
    assert plain.n == 20
    assert (plain.threat.norm, plain.threat.tier, plain.threat.epsilon_max) == ("linf", "screen", 1.5)
    other = audit(
        analyze_robustness=True,
        robustness_samples=20,
        robustness_norm="l2",
        robustness_tier="standard",
        robustness_epsilon=1.5,
        robustness_bounds=(-10, 10),
    ).robustness["a"]
    assert (other.threat.norm, other.threat.tier, other.threat.low, other.threat.high) == ("l2", "standard", -10, 10)
    assert not np.array_equal(other.curve.accuracy, plain.curve.accuracy)


def test_n_samples_bounds_what_is_looked_at(audit):
    assert audit(n_samples=50).performance["a"].n == 50
    assert audit(n_samples=None).performance["a"].n == N


def test_weight_layer_types_narrow_rows_and_never_totals(audit):
    everything, dense = audit(analyze_biases=True), audit(analyze_biases=True, weight_layer_types=["Dense"])
    assert {t.layer_type for t in dense.weights["a"].tensors} == {"Dense"}
    assert "LayerNormalization" in {t.layer_type for t in everything.weights["a"].tensors}
    assert dense.weights["a"].totals.total == everything.weights["a"].totals.total


def test_analyze_biases_adds_rows_and_never_totals(audit):
    without, with_biases = audit(), audit(analyze_biases=True)
    assert "bias" not in {t.name for t in without.weights["a"].tensors}
    assert "bias" in {t.name for t in with_biases.weights["a"].tensors}
    assert without.weights["a"].totals.total == with_biases.weights["a"].totals.total


def test_compute_weight_pca(audit):
    assert audit().comparison.weight_pca is not None
    assert audit(compute_weight_pca=False).comparison.weight_pca is None


def test_calibration_bins(audit):
    counts = [len(audit(calibration_bins=bins).calibration["a"].reliability.count) for bins in (2, 15)]
    assert counts[0] <= 2 < counts[1]


def test_smoothing(audit):
    def smoothed(**options):
        curve = audit(**options).training_dynamics["a"].curves["val_loss"]
        return curve.smoothed

    assert smoothed(smooth_training_curves=False) is None
    narrow, wide = smoothed(smoothing_window=1), smoothed(smoothing_window=4)
    assert narrow.shape == wide.shape
    assert not np.allclose(narrow, wide)


def test_pareto_analysis_threshold(audit):
    found = audit(pareto_analysis_threshold=3).comparison.pareto
    assert set(found.models) == {"a", "b", "c"}
    assert audit(pareto_analysis_threshold=4).comparison.pareto is None


def test_shift_is_measured_where_there_is_a_reference(audit, material):
    reference = material[2]
    assert audit().shift == {}
    assert audit(reference=reference, analyze_shift=False).shift == {}
    found = audit(reference=reference, n_samples=20).shift["a"]
    assert not found.shifted
    assert found.places[0].drift.value == 0


def test_evaluate_train(audit, material):
    assert audit().training_dynamics["a"].evaluated == {}
    found = audit(reference=material[2], evaluate_train=True, analyze_shift=False).training_dynamics["a"]
    assert found.evaluated_gap.value == 0
    assert found.evaluated_gap.n == N


def test_metric_directions(material, tmp_path, caplog):
    histories = {"a": {"val_my_score": [0.1, 0.9, 0.4]}}

    def peak(folder, **options):
        config = AnalysisConfig(save_plots=False, progress=False, **options)
        analyzer = ModelAnalyzer({"a": material[0]["a"]}, histories, config, tmp_path / folder)
        return analyzer.analyze(analysis_types=["training_dynamics"]).training_dynamics["a"]

    assert isinstance(peak("unknown"), Skipped)
    assert float(peak("up", metric_directions={"my_score": "up"}).peak_performance.value) == 0.9
    assert float(peak("down", metric_directions={"my_score": "down"}).peak_performance.value) == 0.1
    assert "metric_directions names" not in caplog.text
    peak("misspelt", metric_directions={"my_scor": "up"})
    assert "metric_directions names 'my_scor', which no training history has: ignored" in caplog.text


def test_save_plots(audit):
    audit("without")
    audit("with", save_plots=True, analyze_information_flow=True, analyze_cost=True)
    assert not list((audit.folder / "without").glob("*.png"))
    assert {p.stem for p in (audit.folder / "with").glob("*.png")} == {
        "summary_dashboard",
        "weight_learning_journey",
        "weight_histograms",
        "confidence_calibration_analysis",
        "information_flow_analysis",
        "training_dynamics",
        "pareto_analysis",
        "architecture",
    }


@pytest.mark.parametrize("save_format", ["pdf", "svg"])
def test_save_format(audit, save_format):
    audit(save_plots=True, save_format=save_format)
    assert (audit.folder / "out" / f"summary_dashboard.{save_format}").stat().st_size > 1000


def test_dpi_and_plot_style(audit):
    def width(folder, **options):
        audit(folder, save_plots=True, **options)
        return matplotlib.image.imread(audit.folder / folder / "weight_histograms.png").shape[1]

    coarse, fine = width("coarse", dpi=50), width("fine", dpi=100)
    assert fine == pytest.approx(2 * coarse, abs=2)
    assert width("large", dpi=100, plot_style="presentation") != fine


@pytest.mark.parametrize(
    ("option", "figure"),
    [("max_layers_heatmap", "weight_learning_journey"), ("max_layers_info_flow", "information_flow_analysis")],
)
def test_limits_on_layers_say_what_is_left_out(audit, option, figure):
    def text(folder, limit):
        options = {option: limit, "analyze_information_flow": figure == "information_flow_analysis"}
        audit(folder, save_plots=True, save_format="svg", **options)
        return (audit.folder / folder / f"{figure}.svg").read_text()

    assert re.search(r"not (shown|drawn)", text("few", 2))
    assert not re.search(r"layers not (shown|drawn)", text("all", 50))


def test_verbose_logs_each_analysis_of_each_model(audit, caplog):
    def told(verbose):
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="analyzer"):
            audit(verbose=verbose)
        return [record.message for record in caplog.records]

    assert "weights of b: ok" in told(True)
    assert told(False) == []


def test_task(audit):
    results = audit(task={"a": "multilabel"}, data=DataInput(np.zeros((6, 8), "float32"), np.eye(3)[[0, 1, 2] * 2]))
    assert (results.performance["a"].task.kind, results.performance["b"].task.kind) == ("multilabel", "multiclass")


def test_from_logits(audit):
    plain, logits = audit(), audit(from_logits={"a": True})
    assert logits.calibration["a"].log_loss.value != plain.calibration["a"].log_loss.value
    assert logits.calibration["b"].log_loss.value == plain.calibration["b"].log_loss.value


def test_class_names(audit):
    results = audit(class_names=["low", "middle", "high"])
    assert [c.name for c in results.calibration["a"].per_class] == ["low", "middle", "high"]


def test_n_bootstrap(audit):
    assert audit(n_bootstrap=0).calibration["a"].ece.low is None
    assert audit(n_bootstrap=50).calibration["a"].ece.low is not None


def test_seed(audit):
    first, again, other = (audit(seed=seed, n_samples=60) for seed in (1, 1, 2))
    assert first.provenance["data"]["indices_sha256"] == again.provenance["data"]["indices_sha256"]
    assert first.provenance["data"]["indices_sha256"] != other.provenance["data"]["indices_sha256"]
    assert first.calibration["a"].ece == again.calibration["a"].ece


def test_batch_size_and_progress(audit):
    steps = []
    results = audit(batch_size=100, progress=lambda label, done, total: steps.append((label, done, total)))
    assert [step[1:] for step in steps if step[0] == "a: predictions"] == [(100, N), (200, N), (300, N)]
    assert results.performance["a"].loss.value == pytest.approx(audit(batch_size=7).performance["a"].loss.value)


def test_deterministic_runs_are_bit_equal(audit):
    documents = []
    for folder in ("first", "second"):
        document, arrays = audit(folder, deterministic=True, n_bootstrap=20).to_document()
        document.pop("measured")
        documents.append((document, {name: array.tobytes() for name, array in arrays.items()}))
    assert documents[0] == documents[1]


def test_json_include_per_sample_data(audit):
    audit("apart")
    audit("inline", json_include_per_sample_data=True)
    assert (audit.folder / "apart" / "analysis_arrays.npz").exists()
    assert not (audit.folder / "inline" / "analysis_arrays.npz").exists()


def test_without_data_what_needs_data_is_skipped_with_its_reason(material, tmp_path):
    models, histories, _ = material
    config = AnalysisConfig(save_plots=False, progress=False)
    results = ModelAnalyzer(models, histories, config, tmp_path).analyze()
    assert isinstance(results.calibration["a"], Skipped)
    assert "DataInput" in results.calibration["a"].reason
    assert results.weights["a"].totals.total == models["a"].count_params()
