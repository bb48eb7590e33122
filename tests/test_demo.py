"""The demo: its data, its three models, and that what it prints can be run again."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest

from analyzer import demo
from analyzer.cli import main
from analyzer.config import ANALYSES, AnalysisConfig

DEFAULT = [name for name in ANALYSES if getattr(AnalysisConfig(), f"analyze_{name}") and name != "shift"]
"""Analyses that run on one set of data unless they are switched off."""


@pytest.mark.plain
class TestDigits:
    def test_split_is_seeded_stratified_and_loses_nothing(self):
        digits = demo.load_digits(0)
        parts = [digits.y_train, digits.y_validation, digits.y_test]
        assert [len(part) for part in parts] == [898, 299, 600]
        assert all(np.ptp(np.bincount(part) / len(part)) < 0.02 for part in parts)
        images = np.concatenate([digits.x_train, digits.x_validation, digits.x_test])
        assert images.shape == (1797, 8, 8, 1)
        assert images.dtype == np.float32
        assert (images.min(), images.max()) == (0, 1)
        # The same images as scikit-learn's, each once.
        from sklearn.datasets import load_digits

        original = load_digits().data / 16
        assert sorted(map(bytes, images.reshape(-1, 64))) == sorted(map(bytes, original.astype("float32")))

    def test_equal_seeds_give_equal_parts(self):
        first, same, other = (demo.load_digits(seed).x_test for seed in (0, 0, 1))
        assert np.array_equal(first, same)
        assert not np.array_equal(first, other)


class TestOptions:
    @pytest.fixture
    def asked(self, monkeypatch):
        """The audit that the demo asks for, without training and without running it."""
        calls = {}

        def audit(*arguments, **options):
            calls.update(options, config=arguments[3], data=arguments[2])
            return 0

        monkeypatch.setattr("analyzer.commands.demo.train_models", lambda *_, **__: ({}, {}))
        monkeypatch.setattr("analyzer.commands.demo.audit", audit)
        return calls

    def test_default_is_the_default_configuration_but_for_the_seed(self, asked, tmp_path):
        assert main(["demo", "--output-dir", str(tmp_path), "--seed", "3"]) == 0
        assert asked["analyses"] is None
        assert (asked["config"].seed, asked["config"].analyze_biases) == (3, False)
        assert np.array_equal(asked["data"].x_data, demo.load_digits(3).x_test)

    def test_full_turns_everything_on(self, asked, tmp_path):
        assert main(["demo", "--output-dir", str(tmp_path), "--full"]) == 0
        assert set(asked["analyses"]) >= set(ANALYSES)
        assert (asked["config"].n_samples, asked["config"].analyze_biases) == (None, True)

    def test_folder_that_cannot_be_written_is_told_before_training(self, asked, tmp_path, capsys, monkeypatch):
        (tmp_path / "file").touch()
        monkeypatch.setattr("analyzer.commands.demo.train_models", lambda *_, **__: pytest.fail("trained"))
        assert main(["demo", "--output-dir", str(tmp_path / "file")]) == 2
        assert "cannot be written" in capsys.readouterr().err


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """One run of the whole demo: folder and exit code."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, main(["demo", "--output-dir", str(folder)])


@pytest.mark.slow
class TestDemo:
    @pytest.fixture
    def document(self, ran):
        return json.loads((ran[0] / "analysis_results.json").read_text())

    def test_everything_is_evaluated_and_drawn(self, ran, document):
        folder, code = ran
        assert code == 0
        assert (folder / "summary_dashboard.png").stat().st_size > 10_000
        statuses = {
            document[name][model]["status"] for name in ("performance", *DEFAULT) for model in document["models"]
        }
        assert statuses == {"ok"}

    def test_models_differ_as_promised(self, document):
        accuracy = {model: document["performance"][model]["accuracy"]["value"] for model in document["models"]}
        assert list(accuracy) == ["mlp", "cnn", "cnn_overfit"]
        assert min(accuracy["mlp"], accuracy["cnn"]) > 0.93
        assert 0.7 < accuracy["cnn_overfit"] < min(accuracy["mlp"], accuracy["cnn"])
        assert document["calibration"]["cnn_overfit"]["verdict"]["direction"] == "over-confident"

    def test_histories_show_the_overfitting(self, ran):
        columns = np.genfromtxt(ran[0] / "models" / "cnn_overfit.csv", delimiter=",", names=True)
        assert {"epoch", "loss", "accuracy", "val_loss", "val_accuracy"} == set(columns.dtype.names)
        assert columns["loss"][-1] < 0.05 < columns["val_loss"][-1]

    def test_printed_command_gives_the_same_numbers(self, ran, document, tmp_path, capsys):
        from analyzer.commands.demo import repeat_command

        files = demo.DemoFiles(
            models={name: ran[0] / "models" / f"{name}.keras" for name in document["models"]},
            histories={name: ran[0] / "models" / f"{name}.csv" for name in document["models"]},
            data=ran[0] / "models" / "test.npz",
        )
        program, *words = shlex.split(repeat_command(files, tmp_path))
        assert program == "keras-analyzer"
        assert main([*words, "--analyses", "weights,training_dynamics", "--no-plots", "--quiet"]) == 0
        again = json.loads((tmp_path / "analysis_results.json").read_text())
        for section in ("weights", "training_dynamics"):
            assert again[section] == document[section]
        for model in document["models"]:
            first, second = document["performance"][model], again["performance"][model]
            assert first["accuracy"] == second["accuracy"]
            # Other analyses are gathered for, hence another compiled program: equal but for float32's rounding.
            assert first["loss"]["value"] == pytest.approx(second["loss"]["value"], rel=1e-5)
