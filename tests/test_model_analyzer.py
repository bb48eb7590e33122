"""`ModelAnalyzer`: what it refuses, and that nothing broken loses anything else."""

from __future__ import annotations

import logging

import keras
import numpy as np
import pytest

from analyzer import AnalysisConfig, AnalysisResults, DataInput, ModelAnalyzer
from analyzer.analyzers.base import BaseAnalyzer
from analyzer.data_types import Failed, Skipped
from analyzer.errors import ConfigError, DataError, ModelError, OutputError
from analyzer.visualizers.base import BaseVisualizer

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(60, 4)).astype("float32"), RNG.integers(0, 3, 60)
QUIET = AnalysisConfig(save_plots=False, n_bootstrap=0, progress=False, verbose=False)
STRANGE = ("../x", "<b>", "n" * 300, "🚀", "a/b\\c")


def model(width=4, classes=3):
    return keras.Sequential([keras.Input((width,)), keras.layers.Dense(classes, activation="softmax")])


def audit(models, folder, data=None, config=QUIET, **options):
    return ModelAnalyzer(models, config=config, output_dir=folder, **options).analyze(data or DataInput(X, Y))


class Custom(BaseAnalyzer):
    def requires_data(self):
        return True

    def analyze(self, results, data, cache):
        results.custom_metrics = {name: {"my_score": 0.99, "bad": float("nan")} for name in self.models}


class BreaksWhenMade(Custom):
    def needs(self):
        raise RuntimeError("no needs today")


class BreaksWhenRun(Custom):
    def analyze(self, results, data, cache):
        raise RuntimeError("no results today")


class Picture(BaseVisualizer):
    def create_visualizations(self):
        import matplotlib.pyplot as plt

        figure, _ = plt.subplots()
        self._save_figure(figure, "my_custom_plot")
        plt.close(figure)


class BrokenPicture(BaseVisualizer):
    def create_visualizations(self):
        raise RuntimeError("no picture today")


@pytest.mark.parametrize("given", [{}, None, {"": model}, {"a": "nowhere.keras"}, {"a": object()}])
def test_what_is_no_model_is_refused_at_once(given, tmp_path):
    given = {name: made() if made is model else made for name, made in given.items()} if given else given
    with pytest.raises(ModelError, match=r"expected|Expected|no file"):
        ModelAnalyzer(given, output_dir=tmp_path)


def test_a_history_of_no_model_is_refused(tmp_path):
    with pytest.raises(DataError, match="'b'"):
        ModelAnalyzer({"a": model()}, {"b": {"loss": [1.0]}}, output_dir=tmp_path)


def test_an_unknown_analysis_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'weights'"):
        ModelAnalyzer({"a": model()}, output_dir=tmp_path).analyze(analysis_types=["weight"])


def test_a_folder_that_cannot_be_written_is_found_before_computing(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Choose another output_dir"):
        audit({"a": model()}, tmp_path / "file" / "out")


def test_analysis_types_replace_the_switches(tmp_path):
    results = ModelAnalyzer({"a": model()}, config=QUIET, output_dir=tmp_path).analyze(
        DataInput(X, Y), analysis_types=["weights"]
    )
    assert set(results.analyses()) == {"performance", "weights"}


def test_one_model_that_cannot_run_does_not_lose_the_other(tmp_path):
    results = audit({"good": model(), "wrong input": model(width=5)}, tmp_path)
    assert isinstance(results.performance["wrong input"], Failed)
    assert "expects (n, 5)" in results.performance["wrong input"].error
    assert results.performance["good"].n == 60


def test_the_error_of_a_single_model_is_raised(tmp_path):
    with pytest.raises(DataError, match=r"expects \(n, 5\)"):
        audit({"a": model(width=5)}, tmp_path)


def test_labels_outside_the_classes_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"0\.\.2"):
        audit({"a": model()}, tmp_path, DataInput(X, Y + 1))


def test_nan_from_the_model_is_a_named_skip(tmp_path):
    broken = model()
    broken.layers[0].kernel.assign(np.full((4, 3), np.nan))
    results = audit({"a": broken}, tmp_path)
    assert isinstance(results.calibration["a"], Skipped)
    assert "NaN" in results.calibration["a"].reason
    assert any(f.severity == "error" for f in results.weights["a"].findings)


def test_one_class_only_is_analysed_or_named(tmp_path):
    results = audit({"a": model()}, tmp_path, DataInput(X, np.zeros(60, int)))
    assert results.performance["a"].accuracy.n == 60
    assert getattr(results.calibration["a"], "status", "ok") != "failed"


@pytest.mark.parametrize("plugin", [BreaksWhenMade, BreaksWhenRun])
def test_a_broken_plugin_loses_nothing_else(plugin, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="analyzer"):
        results = audit({"a": model()}, tmp_path, analyzers=[plugin, Custom])
    assert plugin.name in caplog.text
    assert results.custom_metrics["a"]["my_score"] == 0.99
    assert results.performance["a"].n == 60


def test_what_a_plugin_sets_reaches_the_file(tmp_path):
    audit({"a": model()}, tmp_path, analyzers=[Custom])
    assert AnalysisResults.load(tmp_path).custom_metrics == {"a": {"my_score": 0.99, "bad": None}}


def test_visualizers_of_others_are_called_and_a_broken_one_costs_nothing(tmp_path, caplog):
    config = AnalysisConfig(n_bootstrap=0, progress=False, dpi=50)
    audit({"a": model()}, tmp_path, config=config, visualizers=[BrokenPicture, Picture])
    assert "BrokenPicture" in caplog.text
    assert (tmp_path / "my_custom_plot.png").exists()
    assert (tmp_path / "summary_dashboard.png").exists()


def test_strange_names_are_whole_and_write_nothing_elsewhere(tmp_path):
    folder = tmp_path / "inner" / "out"
    config = AnalysisConfig(n_bootstrap=0, progress=False, dpi=50)
    audit({name: model() for name in STRANGE}, folder, config=config)
    assert AnalysisResults.load(folder).model_names == STRANGE
    assert [p for p in tmp_path.rglob("*") if p.is_file() and p.parent != folder] == []


def test_the_dashboard_can_be_drawn_again(tmp_path):
    analyzer = ModelAnalyzer({"a": model()}, config=QUIET, output_dir=tmp_path)
    analyzer.analyze(DataInput(X, Y))
    assert analyzer.create_summary_dashboard().stat().st_size > 1000


def test_summary_statistics_hold_the_headline_numbers(tmp_path):
    analyzer = ModelAnalyzer({"a": model()}, config=QUIET, output_dir=tmp_path)
    results = analyzer.analyze(DataInput(X, Y))
    row = analyzer.get_summary_statistics()["model_performance"]["a"]
    assert row["accuracy"] == results.performance["a"].accuracy.value
    assert row["ece"] == results.calibration["a"].ece.value
    assert row["parameters"] == 15


def test_a_task_for_an_unknown_name_is_told(tmp_path, caplog):
    config = AnalysisConfig(save_plots=False, n_bootstrap=0, progress=False, task={"b": "binary"})
    audit({"a": model()}, tmp_path, config=config)
    assert "task names 'b'" in caplog.text


def test_files_are_analysed_and_let_go(tmp_path):
    path = tmp_path / "m.keras"
    kept = model()
    kept.save(path)
    analyzer = ModelAnalyzer({"file": path, "live": kept}, config=QUIET, output_dir=tmp_path / "out")
    results = analyzer.analyze(DataInput(X, Y))
    assert results.performance["file"].loss == results.performance["live"].loss
    assert results.provenance["files"]["file"]["sha256"]
    assert analyzer.models._open == {}
