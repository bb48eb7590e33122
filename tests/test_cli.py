"""The command line: options into a configuration, outcomes into exit codes, saved results without Keras."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from analyzer.cli import build_parser, main
from analyzer.commands import backend, exits, options, summary
from analyzer.config import AnalysisConfig
from analyzer.data_types import AnalysisResults, Estimate, Finding, OutputTask, Skipped
from analyzer.data_types.performance import PerformanceResult
from analyzer.data_types.weights import Health, ParameterTotals, WeightResult
from analyzer.errors import ConfigError, DataError, DeviceMemoryError, MissingExtraError, ModelError, OutputError

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parent.parent


def parsed(*words: str) -> argparse.Namespace:
    return build_parser().parse_args(["audit", "a.keras", *words])


def config(*words: str) -> AnalysisConfig:
    return options.read_config(parsed(*words))


@pytest.mark.plain
class TestOptions:
    def test_nothing_given_is_the_default_configuration(self):
        assert config() == AnalysisConfig()

    @pytest.mark.parametrize(
        ("words", "field", "value"),
        [
            (["--seed", "7"], "seed", 7),
            (["--batch-size", "32"], "batch_size", 32),
            (["--n-samples", "50"], "n_samples", 50),
            (["--n-samples", "all"], "n_samples", None),
            (["--n-bootstrap", "0"], "n_bootstrap", 0),
            (["--deterministic"], "deterministic", True),
            (["--from-logits"], "from_logits", True),
            (["--no-from-logits"], "from_logits", False),
            (["--no-plots"], "save_plots", False),
            (["--save-format", "svg"], "save_format", "svg"),
            (["--plot-style", "draft"], "plot_style", "draft"),
            (["--dpi", "72"], "dpi", 72),
            (["--task", "regression"], "task", "regression"),
            (
                ["--task", "a=binary", "--task", "b=c=quantile:0.1,0.9"],
                "task",
                {"a": "binary", "b=c": "quantile:0.1,0.9"},
            ),
            (["--quiet"], "progress", False),
            (["--quiet"], "verbose", False),
            (["--analyses", "weights"], "analyze_weights", True),
            (["--analyses", "weights"], "analyze_calibration", False),
            (["--analyses", "weights, training_dynamics"], "analyze_training_dynamics", True),
        ],
    )
    def test_option_becomes_field(self, words, field, value):
        assert getattr(config(*words), field) == value

    def test_file_then_command_line(self, tmp_path):
        file = tmp_path / "options.toml"
        file.write_text("seed = 3\ncalibration_bins = 10\nanalyze_weights = false\n[task]\na = 'binary'\n")
        read = config("--config", str(file), "--seed", "4")
        assert (read.seed, read.calibration_bins, read.task) == (4, 10, {"a": "binary"})
        assert not read.analyze_weights
        assert config("--config", str(file), "--analyses", "all").analyze_weights

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--analyses", "weights,callibration"], "Did you mean 'calibration'"),
            (["--analyses", ","], "names none"),
            (["--task", "binry"], "Did you mean 'binary'"),
            (["--task", "binary", "--task", "a=binary"], "one word for all"),
            (["--task", "a=binary", "--task", "a=regression"], "already given"),
            (["--batch-size", "0"], "batch_size=0"),
            (["--config", "nowhere.toml"], "nowhere.toml"),
        ],
    )
    def test_wrong_words_are_refused(self, words, said):
        with pytest.raises(ConfigError, match=said):
            config(*words)

    def test_histories(self, tmp_path):
        log, odd = tmp_path / "log.csv", tmp_path / "lr=0.1.csv"
        log.write_text("epoch,loss\n0,1\n")
        odd.write_text("epoch,loss\n0,1\n")
        read = options.read_histories
        assert read([f"a={log}"], ["a", "b"]) == {"a": log}
        assert read([f"a=b={log}", f"a={odd}"], ["a", "a=b"]) == {"a=b": log, "a": odd}
        assert read([str(odd)], ["a"]) == {"a": odd}

    @pytest.mark.parametrize(
        ("specs", "models", "said"),
        [
            (["mpl={log}"], ["mlp", "cnn"], "Did you mean 'mlp'"),
            (["{log}"], ["mlp", "cnn"], "MODEL=FILE"),
            (["mlp={log}", "mlp={log}"], ["mlp"], "already given"),
            (["mlp=nowhere.csv"], ["mlp"], "no file nowhere.csv"),
        ],
    )
    def test_wrong_histories_are_refused(self, tmp_path, specs, models, said):
        log = tmp_path / "log.csv"
        log.touch()
        with pytest.raises(ConfigError, match=said):
            options.read_histories([spec.format(log=log) for spec in specs], models)


@pytest.mark.plain
class TestBackendChoice:
    @pytest.fixture
    def installed(self, monkeypatch, tmp_path):
        """A machine where Keras was not imported yet; the list says which backends it has."""
        there = ["keras", "torch", "tensorflow"]
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in there else None)
        monkeypatch.setitem(sys.modules, "keras", None)
        monkeypatch.setenv("KERAS_HOME", str(tmp_path))
        monkeypatch.setenv("KERAS_BACKEND", "jax")
        monkeypatch.delenv("KERAS_BACKEND")
        return there

    @staticmethod
    def write_keras_json(backend_name):
        (Path(os.environ["KERAS_HOME"]) / "keras.json").write_text(json.dumps({"backend": backend_name}))

    def test_option_before_environment_before_file(self, installed, monkeypatch):
        self.write_keras_json("tensorflow")
        assert backend.choose_backend(None) is None
        assert "KERAS_BACKEND" not in os.environ
        monkeypatch.setenv("KERAS_BACKEND", "torch")
        assert backend.choose_backend(None) is None
        assert os.environ["KERAS_BACKEND"] == "torch"
        assert backend.choose_backend("tensorflow") is None
        assert os.environ["KERAS_BACKEND"] == "tensorflow"

    def test_first_installed_where_nobody_chose_and_it_is_said(self, installed):
        assert "running on tensorflow: none was chosen" in backend.choose_backend(None)
        assert os.environ["KERAS_BACKEND"] == "tensorflow"

    def test_what_keras_wrote_itself_does_not_stop_a_machine_without_tensorflow(self, installed):
        self.write_keras_json("tensorflow")
        installed.remove("tensorflow")
        assert "keras.json names tensorflow" in backend.choose_backend(None)
        assert os.environ["KERAS_BACKEND"] == "torch"

    @pytest.mark.parametrize("text", ["{", "[]", '{"backend": 3}'])
    def test_broken_keras_json_chooses_nothing(self, installed, text):
        (Path(os.environ["KERAS_HOME"]) / "keras.json").write_text(text)
        assert "none was chosen" in backend.choose_backend(None)

    def test_what_is_missing_is_named_with_the_extra(self, installed):
        with pytest.raises(MissingExtraError, match=r"--backend asks for jax.*keras-analyzer\[jax\]"):
            backend.choose_backend("jax")
        os.environ["KERAS_BACKEND"] = "jxa"
        with pytest.raises(ConfigError, match="expected one of jax, tensorflow, torch"):
            backend.choose_backend(None)
        del os.environ["KERAS_BACKEND"]
        installed[:] = ["keras"]
        with pytest.raises(MissingExtraError, match="None of Keras' backends"):
            backend.choose_backend(None)
        installed.clear()
        with pytest.raises(MissingExtraError, match="Keras is not installed"):
            backend.choose_backend(None)

    def test_a_running_keras_is_not_moved(self, installed, monkeypatch):
        running = argparse.Namespace(backend=argparse.Namespace(backend=lambda: "torch"))
        monkeypatch.setitem(sys.modules, "keras", running)
        with pytest.raises(ConfigError, match="already runs on torch"):
            backend.choose_backend("tensorflow")

    def test_modules_of_the_current_folder_are_imported_and_broken_ones_named(self, tmp_path, monkeypatch):
        (tmp_path / "my_layers_of_this_test.py").write_text("registered = True\n")
        (tmp_path / "broken_in_this_test.py").write_text("1 / 0\n")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", list(sys.path))
        backend.import_modules(["my_layers_of_this_test"])
        assert sys.modules.pop("my_layers_of_this_test").registered
        with pytest.raises(ConfigError, match="broken_in_this_test: ZeroDivisionError"):
            backend.import_modules(["broken_in_this_test"])
        with pytest.raises(ConfigError, match="No module named 'no_such_module_here'"):
            backend.import_modules(["no_such_module_here"])


# ------------------------------------------------------------------------------------------- saved results, no Keras


def estimate(value, spread=0.02, n=300):
    return Estimate(value=value, low=value - spread, high=value + spread, n=n, method="test")


def weight_result(score, *findings):
    totals = ParameterTotals(total=10, trainable=10, non_trainable=0)
    return WeightResult(tensors=(), layers=(), totals=totals, health=Health(score=score), findings=findings)


@pytest.fixture
def saved(tmp_path):
    """A folder with saved results of two models; the second one's calibration was skipped."""
    results = AnalysisResults(("plain", "odd\x1b[31m\nname"))
    task = OutputTask(kind="multiclass", n_classes=10)
    for name, accuracy in zip(results.model_names, (0.95, 0.5), strict=True):
        results.performance[name] = PerformanceResult(
            task=task, n=300, accuracy=estimate(accuracy), loss=estimate(0.3), loss_name="log loss"
        )
        results.calibration[name] = Skipped("there are no labels")
    dead = Finding(kind="dead_channels", layer="conv", severity="error", evidence={"n": 3}, message="3 of 8 are dead")
    fine = Finding(kind="small", layer=None, severity="info", evidence={}, message="nothing to see")
    results.weights = {"plain": weight_result(1.0, fine), "odd\x1b[31m\nname": weight_result(0.0, dead)}
    results.to_json(tmp_path / "results.json")
    return tmp_path / "results.json"


@pytest.mark.plain
class TestShow:
    def test_table_and_findings_without_control_characters(self, saved, capsys):
        assert main(["show", str(saved)]) == 0
        out = capsys.readouterr().out
        head, *rows = out.splitlines()
        assert head.split() == ["model", "n", "accuracy", "loss", "health"]
        assert rows[0].split() == ["plain", "300", "0.950", "[0.930,", "0.970]", "0.300", "1.00"]
        assert "error: odd\\x1b[31m\\nname, conv: 3 of 8 are dead" in out
        assert "skipped: calibration (plain, odd\\x1b[31m\\nname): there are no labels" in out
        assert "nothing to see" not in out
        assert "\x1b" not in out

    def test_columns_align_also_with_wide_characters(self, saved, capsys):
        wide = 12 * "模型" + "👩"
        document = json.loads(saved.read_text())
        text = json.dumps(document, ensure_ascii=False).replace("plain", wide)
        saved.write_text(text)
        main(["show", str(saved)])
        from rich.cells import cell_len

        lines = capsys.readouterr().out.splitlines()[:3]
        assert wide in lines[1]
        assert len({cell_len(line) for line in lines}) == 1

    @pytest.mark.parametrize(
        ("rules", "code"),
        [
            (["performance.accuracy < 0.4"], 0),
            (["performance.accuracy < 0.6"], 1),
            (["performance.accuracy:low < 0.49"], 1),
            (["findings.error > 0"], 1),
            (["findings.error > 1", "performance.loss > 1"], 0),
            (["calibration.ece > 0.5"], 3),
            (["calibration.ece > 0.5", "performance.accuracy < 0.6"], 1),
        ],
    )
    def test_rules_decide_the_exit_code(self, saved, rules, code):
        assert main(["show", str(saved), *(word for rule in rules for word in ("--fail-on", rule))]) == code

    def test_quiet_prints_failed_rules_and_nothing_else(self, saved, capsys):
        rules = ["--fail-on", "performance.accuracy < 0.6", "--fail-on", "performance.loss > 9"]
        assert main(["show", "--quiet", str(saved), *rules]) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err == "odd\\x1b[31m\\nname: failed: 'performance.accuracy < 0.6' at 0.5\n"

    def test_failed_analysis_is_code_3(self, saved):
        document = json.loads(saved.read_text())
        document["weights"]["plain"] = {"status": "failed", "reason": "x", "error": "x", "where": "y", "findings": []}
        saved.write_text(json.dumps(document))
        assert main(["show", str(saved)]) == 3

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["show", "{saved}", "--fail-on", "performance.acuracy < 1"], "Did you mean 'accuracy'"),
            (["show", "{saved}", "--fail-on", "nonsense"], "cannot be read"),
            (["show", "/nowhere/at/all"], "No results can be read"),
            (["plot", "/nowhere/at/all"], "No results can be read"),
        ],
    )
    def test_wrong_use_is_one_line_and_code_2(self, saved, capsys, words, said):
        assert main([word.format(saved=saved) for word in words]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("keras-analyzer: error: ")
        assert said in printed.err
        assert printed.err.count("\n") == 1

    @pytest.mark.parametrize(("command", "unneeded"), [("show", {"keras", "matplotlib"}), ("plot", {"keras"})])
    def test_saved_results_need_no_keras(self, saved, command, unneeded):
        script = (
            "import sys; from analyzer.cli import main; code = main(sys.argv[1:])\n"
            f"print('loaded:', [name for name in {sorted(unneeded)} if name in sys.modules]); sys.exit(code)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, command, str(saved)],
            env=os.environ | {"MPLBACKEND": "Agg"},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "loaded: []"
        assert (saved.parent / "summary_dashboard.png").exists() == (command == "plot")

    def test_a_broken_figure_is_code_3_and_costs_no_other(self, saved, capsys, monkeypatch):
        from analyzer.visualizers.registry import BUILT_IN

        def broken(_):
            raise ValueError("boom")

        first = next(iter(BUILT_IN.values()))
        monkeypatch.setattr(first, "create_visualizations", broken)
        assert main(["plot", str(saved), "--dpi", "40"]) == 3
        assert f"figure {first.name!r} failed: ValueError: boom" in capsys.readouterr().err
        assert (saved.parent / "summary_dashboard.png").exists()

    def test_many_findings_are_counted_not_listed(self, saved):
        document = json.loads(saved.read_text())
        document["weights"]["plain"]["findings"] = 30 * [
            {"kind": "k", "layer": None, "severity": "warning", "evidence": {}, "message": "m"}
        ]
        lines = summary.findings(document)
        assert sum(line.startswith("warning: plain") for line in lines) == summary.MOST_FINDINGS
        assert "plain: and 10 more warnings and errors in the results" in lines


@pytest.mark.plain
class TestExits:
    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (ConfigError, 2),
            (DataError, 2),
            (OutputError, 2),
            (MissingExtraError, 2),
            (ModelError, 3),
            (DeviceMemoryError, 3),
        ],
    )
    def test_each_error_has_a_code(self, error, code):
        assert exits.code_of(error("x")) == code

    @pytest.mark.parametrize(
        "words", [[], ["audit"], ["nonsense"], ["audit", "a", "--no-such"], ["audit", "a", "--dpi", "x"]]
    )
    def test_unreadable_options_are_code_2(self, words, capsys):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 2
        assert capsys.readouterr().err.startswith("keras-analyzer: error: ")

    @pytest.mark.parametrize("words", [["--help"], ["--version"], ["audit", "--help"], ["demo", "--help"]])
    def test_help_and_version_are_code_0(self, words, capsys):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 0
        assert capsys.readouterr().out.strip()

    @pytest.mark.parametrize(
        ("error", "code", "said"),
        [(ModelError("no\nsuch \x1b"), 3, "error: no such"), (KeyboardInterrupt(), 130, "interrupted"),
         (ZeroDivisionError("boom"), 3, "ZeroDivisionError: boom")],
    )  # fmt: skip
    def test_what_a_command_raises(self, monkeypatch, capsys, error, code, said):
        def broken(_):
            raise error

        monkeypatch.setattr("analyzer.commands.show.run", broken)
        assert main(["show", "x"]) == code
        assert said in capsys.readouterr().err

    def test_a_reader_that_leaves_is_no_traceback(self, saved):
        script = f"import sys; from analyzer.cli import main; sys.exit(main(['show', {str(saved)!r}]))"
        buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        with subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=buffered,
            cwd=REPOSITORY,
        ) as process:
            process.stdout.close()
            stderr = process.stderr.read()
        assert stderr == b""
        assert process.returncode == exits.NOT_EVALUATED

    def test_a_terminal_without_unicode_gets_escapes(self, saved):
        saved.write_text(saved.read_text().replace("plain", "模型"))
        done = subprocess.run(
            [sys.executable, "-m", "analyzer", "show", str(saved)],
            env=os.environ | {"PYTHONIOENCODING": "ascii"},
            cwd=REPOSITORY,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert b"\\u6a21\\u578b" in done.stdout


# ------------------------------------------------------------------------------------------- audits, on each backend


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two small classifiers, a truncated file, data and a training log."""
    import keras

    folder = tmp_path_factory.mktemp("audit")
    generator = np.random.default_rng(0)
    x = generator.normal(size=(60, 4)).astype("float32")
    np.savez(folder / "test.npz", x=x, y=(x[:, 0] > 0).astype("int64"))
    for name, units in {"small": 3, "large": 5}.items():
        keras.utils.set_random_seed(1)
        model = keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(units, "relu"), keras.layers.Dense(2, "softmax")], name=name
        )
        model.save(folder / f"{name}.keras")
    whole = (folder / "small.keras").read_bytes()
    (folder / "broken.keras").write_bytes(whole[: len(whole) // 2])
    (folder / "log.csv").write_text("epoch,loss,val_loss\n0,1.0,1.1\n1,0.5,0.7\n")
    return folder


class TestAudit:
    FAST = ("--no-plots", "--n-bootstrap", "0")

    def audit(self, files, *words, models=("small.keras", "large.keras"), data="test.npz", out=None):
        given = () if data is None else ("--data", str(files / data))
        out = out or files / "out"
        return main(["audit", *(str(files / m) for m in models), *given, "--output-dir", str(out), *self.FAST, *words])

    def document(self, files):
        return json.loads((files / "out" / "analysis_results.json").read_text())

    def test_table_results_and_passing_rule(self, files, capsys):
        history = f"small={files / 'log.csv'}"
        assert self.audit(files, "--history", history, "--fail-on", "performance.accuracy < 0", "--seed", "5") == 0
        out = capsys.readouterr().out
        assert [line.split()[0] for line in out.splitlines()[:3]] == ["model", "small", "large"]
        assert "small: passed: 'performance.accuracy < 0'" in out
        assert str(files / "out" / "analysis_results.json") in out
        document = self.document(files)
        assert document["models"] == ["small", "large"]
        assert document["provenance"]["seed"] == 5
        assert {name: document["training_dynamics"][name]["status"] for name in document["models"]} == {
            "small": "ok",
            "large": "skipped",
        }

    def test_data_are_compared_with_a_reference(self, files):
        models, words = ("small.keras",), ("--analyses", "shift")
        assert self.audit(files, *words, models=models, out=files / "alone") == 3
        assert self.audit(files, *words, "--reference", str(files / "test.npz"), models=models) == 0
        found = self.document(files)["shift"]["small"]
        assert found["shifted"] is False
        assert [place["drift"]["value"] for place in found["places"]] == [0] * len(found["places"])

    def test_training_data_are_evaluated_beside_the_data(self, files, capsys):
        words = ("--evaluate-train", "--analyses", "training_dynamics", "--history", f"small={files / 'log.csv'}")
        models = ("small.keras",)
        assert self.audit(files, *words, "--reference-data", str(files / "test.npz"), models=models) == 0
        found = self.document(files)["training_dynamics"]["small"]
        assert found["evaluated_gap"]["value"] == 0
        assert found["final_gap"]["value"] == pytest.approx(0.2)
        assert self.audit(files, *words, models=models, out=files / "none") == 2
        assert "reference_data were not given" in capsys.readouterr().err
        assert not (files / "none").exists()

    def test_failing_rule_is_code_1_and_saved_results_judge_the_same(self, files, capsys):
        rule = ("--fail-on", "performance.accuracy <= 1")
        assert self.audit(files, *rule, "--quiet") == 1
        audited = capsys.readouterr()
        assert main(["show", str(files / "out"), *rule, "--quiet"]) == 1
        shown = capsys.readouterr()
        assert audited.err == shown.err
        assert shown.err.count("failed: 'performance.accuracy <= 1'") == 2
        assert audited.out == shown.out == ""

    def test_quiet_and_passing_prints_nothing(self, files, capsys):
        assert self.audit(files, "--quiet") == 0
        assert tuple(capsys.readouterr()) == ("", "")

    def test_one_bad_model_does_not_lose_the_others(self, files, capsys):
        assert self.audit(files, models=("small.keras", "broken.keras", "large.keras")) == 3
        assert "broken" in capsys.readouterr().err
        document = self.document(files)
        statuses = {name: document["performance"][name]["status"] for name in document["models"]}
        assert statuses == {"small": "ok", "broken": "failed", "large": "ok"}
        assert document["weights"]["large"]["status"] == "ok"

    @pytest.mark.parametrize(
        ("arguments", "code", "said"),
        [
            ({"models": ["broken.keras"]}, 3, "broken.keras"),
            ({"models": ["nowhere.keras"]}, 3, "nowhere.keras"),
            ({"models": ["small.keras", "small.keras"]}, 2, "small_2="),
            ({"data": "nowhere.npz"}, 2, "nowhere.npz"),
            ({"data": "log.csv"}, 2, "npz"),
        ],
    )
    def test_wrong_files_are_one_line(self, files, capsys, arguments, code, said):
        assert self.audit(files, "--quiet", **arguments) == code
        *_, last = capsys.readouterr().err.splitlines()
        assert last.startswith("keras-analyzer: error: ")
        assert said in last

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--analyses", "wieghts"], "Did you mean 'weights'"),
            (["--analyses", "weights", "--fail-on", "calibration.ece > 1"], "switched off"),
            (["--fail-on", "calibration.eec > 1"], "Did you mean"),
            (["--import", "no_such_module_here"], "no_such_module_here"),
            (["--history", "smal=log.csv"], "Did you mean 'small'"),
            (["--batch-size", "0"], "batch_size"),
        ],
    )
    def test_wrong_words_compute_nothing(self, files, capsys, monkeypatch, words, said):
        monkeypatch.setattr("analyzer.model_analyzer.ModelAnalyzer.analyze", lambda *_, **__: pytest.fail("computed"))
        assert self.audit(files, *words) == 2
        assert said in capsys.readouterr().err

    def test_output_folder_that_cannot_be_written(self, files, capsys):
        assert self.audit(files, out=files / "log.csv") == 2
        assert "log.csv" in capsys.readouterr().err

    def test_what_was_named_and_is_skipped_is_code_3_and_what_was_not_is_no_fault(self, files, capsys):
        assert self.audit(files, data=None) == 0
        assert "skipped: calibration" in capsys.readouterr().out
        assert self.audit(files, "--analyses", "weights,calibration", data=None) == 3
        assert "skipped: calibration" in capsys.readouterr().err
        assert self.audit(files, "--analyses", "weights", data=None) == 0
        assert "calibration" not in self.document(files)

    def test_names_are_any_words_and_stay_inside(self, files, capsys):
        before = set(files.parent.iterdir())
        path = files / "small.keras"
        assert main(["audit", f"../x={path}", f"<b>={path}", "--output-dir", str(files / "out"), *self.FAST]) == 0
        assert "../x" in capsys.readouterr().out
        assert self.document(files)["models"] == ["../x", "<b>"]
        assert set(files.parent.iterdir()) == before

    def test_own_layers_come_by_import(self, files, tmp_path, monkeypatch, capsys):
        import keras

        (tmp_path / "layers_of_this_test.py").write_text(
            "import keras\n"
            "@keras.saving.register_keras_serializable('tests_of_cli')\n"
            "class Twice(keras.layers.Layer):\n"
            "    def call(self, x):\n        return 2 * x\n"
        )
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
        own = importlib.import_module("layers_of_this_test")
        keras.Sequential([keras.Input((4,)), own.Twice(), keras.layers.Dense(2, "softmax")]).save("own.keras")
        # As in a new process, to which the class is unknown.
        del sys.modules["layers_of_this_test"], keras.saving.get_custom_objects()["tests_of_cli>Twice"]
        monkeypatch.setattr(sys, "path", sys.path[1:])
        words = ["audit", "own.keras", "--data", str(files / "test.npz"), "--output-dir", str(tmp_path), *self.FAST]
        assert main(words) == 3
        assert "Twice" in capsys.readouterr().err
        assert main([*words, "--import", "layers_of_this_test"]) == 0

    def test_program_on_its_own_runs_on_the_backend_that_is_asked_for(self, files, tmp_path):
        asked = os.environ["KERAS_BACKEND"]
        environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
        done = subprocess.run(
            [sys.executable, "-m", "analyzer", "audit", str(files / "small.keras"), "--data", str(files / "test.npz"),
             "--output-dir", str(tmp_path), "--backend", asked, *self.FAST],
            env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        document = json.loads((tmp_path / "analysis_results.json").read_text())
        assert document["provenance"]["backend"] == asked


class TestPlot:
    def test_figures_of_saved_results_in_another_style(self, files, tmp_path, capsys):
        out = tmp_path / "figures"
        words = ["audit", str(files / "small.keras"), "--data", str(files / "test.npz"), "--output-dir", str(tmp_path)]
        assert main([*words, "--no-plots", "--n-bootstrap", "0"]) == 0
        assert main(["plot", str(tmp_path), "--output-dir", str(out), "--save-format", "svg", "--dpi", "50"]) == 0
        assert "summary_dashboard.svg" in {path.name for path in out.iterdir()}
        assert str(out) in capsys.readouterr().out
