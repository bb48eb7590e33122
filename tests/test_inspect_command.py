"""``keras-analyzer inspect``: options into measures, a file and tables."""

import json

import numpy as np
import pytest

from analyzer.cli import build_parser, main
from analyzer.commands import inspect as command
from analyzer.commands.inspection_text import lines_of
from analyzer.data_types.inspection_report import (
    EXPERIMENTS,
    Definition,
    Effect,
    Experiment,
    ModelInspection,
    Reading,
    Suggestion,
)
from analyzer.data_types.values import Estimate, Skipped
from analyzer.errors import ConfigError

RNG = np.random.default_rng(0)


@pytest.mark.plain
class TestWords:
    def test_experiments(self):
        assert command.read_experiments("sparsity, drift,sparsity") == ("sparsity", "drift")
        assert command.read_experiments("all") is None
        with pytest.raises(ConfigError, match="Did you mean 'drift'"):
            command.read_experiments("drifft")
        with pytest.raises(ConfigError, match="names none"):
            command.read_experiments(" ,")

    def test_noise_moves_floats_by_their_deviation_and_nothing_else(self):
        x = {"a": RNG.normal(size=(4000, 2)).astype("float32") * 3, "ids": np.arange(4000)}
        noisy = command.with_noise(x, 0.5, 1)
        np.testing.assert_array_equal(noisy["ids"], x["ids"])
        assert noisy["a"].dtype == np.float32
        assert (noisy["a"] - x["a"]).std() == pytest.approx(1.5, rel=0.03)
        np.testing.assert_array_equal(command.with_noise(x, 0.5, 1)["a"], noisy["a"])
        assert not np.array_equal(command.with_noise(x, 0.5, 2)["a"], noisy["a"])
        assert command.with_noise(np.arange(4), 0.5, 1) is None

    def test_defaults(self):
        args = build_parser().parse_args(["inspect", "m.keras"])
        assert (args.experiments, args.noise, args.batch_size, args.n_bootstrap) == ("all", 0.1, 128, 1000)
        assert command.shifted_data(args, None, 0) == (None, None)


@pytest.mark.plain
class TestTable:
    def inspection(self, **changes):
        reading = Reading(raw=0.25, scale_free=Estimate(value=0.5, low=0.4, high=0.625, n=9))
        drift = Experiment(
            name="drift",
            n=9,
            definitions={"drift": Definition(raw="r", scale_free="s")},
            model={"drift": Reading(raw=None, scale_free=Estimate(value=None, n=9))},
            layers={f"dense_{i}": {"drift": reading} for i in range(23)},
            skipped={"lost": "It is lost."},
            notes=("Be careful.",),
        )
        effect = Effect(
            quantity="accuracy",
            before=Estimate(value=0.75, n=8),
            after=Estimate(value=0.5, n=8),
            change=Estimate(value=-0.25, low=-0.5, high=0.0, n=8),
            basis="measured",
        )
        given = {
            "model": "a\x1b[2J",
            "other": "b",
            "n": 9,
            "n_shifted": 9,
            "shifted_by": "rain",
            "seed": 0,
            "experiments": {"sparsity": Skipped("No kernels."), "drift": drift},
            "suggestions": (Suggestion(kind="prune", message="Prune it.", evidence={}, effects=(effect,)),),
            "suggestions_skipped": {"augment": "No labels."},
        }
        return ModelInspection(**(given | changes))

    def test_numbers_in_both_forms_notes_and_suggestions(self):
        lines = lines_of(self.inspection())
        assert lines[0] == "a\\x1b[2J: 9 samples, 9 shifted (rain), compared with b"
        assert "sparsity: skipped. No kernels." in lines
        assert "drift (n = 9)" in lines
        rows = [line.split() for line in lines]
        assert ["dense_0", "drift", "0.25", "0.5", "[0.4,", "0.625]", "9"] in rows
        assert ["(model)", "drift", "–", "–", "–", "9"] in rows
        assert "  and 3 more layers in the results" in lines
        assert lines.index("  Be careful.") < lines.index("  lost: left out. It is lost.")
        assert "suggestion: Prune it." in lines
        assert "  accuracy: 0.75 to 0.5, change -0.25 [-0.5, 0] (measured)" in lines
        assert lines[-1] == "not judged: augment. No labels."

    def test_nothing_to_suggest_and_no_data(self):
        lines = lines_of(self.inspection(suggestions=(), n=0, n_shifted=0, other=None, shifted_by=None))
        assert lines[0].endswith(": no samples")
        assert "suggestions: none" in lines

    def test_whole_numbers_keep_their_digits(self):
        big = Effect(
            quantity="parameters", before=Estimate(value=123456.0, n=1), after=None, change=None, basis="measured"
        )
        one = Suggestion(kind="prune", message="m", evidence={}, effects=(big,))
        assert "  parameters: 123456 to – (measured)" in lines_of(self.inspection(suggestions=(one,)))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    import keras

    folder = tmp_path_factory.mktemp("inspect")
    layers = keras.layers
    for seed, name in enumerate(("a", "b")):
        keras.utils.set_random_seed(seed)
        model = keras.Sequential(
            [keras.Input((4,)), layers.Dense(6, "relu", name="hidden"), layers.Dense(3, "softmax", name="head")]
        )
        model.save(folder / f"{name}.keras")
    x = RNG.normal(size=(30, 4)).astype("float32")
    np.savez(folder / "data.npz", x=x, y=np.arange(30) % 3)
    np.savez(folder / "new.npz", x=RNG.normal(size=(25, 4)).astype("float32") + 3)
    (folder / "log.csv").write_text("epoch,loss,learning_rate\n0,2.0,0.3\n1,1.0,0.3\n2,nan,0.3\n")
    return folder


@pytest.mark.slow
class TestCommand:
    def inspect(self, files, *words, data="data", out="out"):
        given = ["--data", str(files / f"{data}.npz")] if data else []
        return main(["inspect", str(files / "a.keras"), *given, "--output-dir", str(files / out), *words])

    def test_the_call_of_the_issue(self, files, capsys):
        assert self.inspect(files, "--experiments", "sparsity,drift", "--no-suggestions") == 0
        printed = capsys.readouterr().out
        assert printed.startswith("a: 30 samples, 30 shifted (noise of 0.1 standard deviations, seed 0)")
        assert "sparsity (n = 42)" in printed
        assert "drift (n = 30)" in printed
        assert "failure_attribution" not in printed
        found = ModelInspection.load(files / "out" / "inspection.json")
        assert list(found.experiments) == ["sparsity", "drift"]
        assert found["drift"].layers["hidden"]["drift"].raw > 0

    def test_everything_with_another_model_new_data_and_a_history(self, files, capsys):
        words = ["--other", str(files / "b.keras"), "--shifted", str(files / "new.npz"), "--seed", "5"]
        words += ["--history", str(files / "log.csv"), "--n-bootstrap", "50", "--quiet", "--samples", "20"]
        assert self.inspect(files, *words, out="all") == 0
        assert tuple(capsys.readouterr()) == ("", "")
        document = json.loads((files / "all" / "inspection.json").read_text())
        assert list(document["experiments"]) == list(EXPERIMENTS)
        assert {one["status"] for one in document["experiments"].values()} == {"ok"}
        assert (document["n"], document["n_shifted"], document["seed"], document["other"]) == (20, 20, 5, "b")
        assert "lower_learning_rate" in {one["kind"] for one in document["suggestions"]}
        p = document["experiments"]["shift_test"]["model"]["p_value"]["scale_free"]["value"]
        assert p < 0.05

    def test_what_needs_no_data_and_what_does(self, files, capsys):
        assert self.inspect(files, "--no-suggestions", data=None, out="none") == 0
        assert "drift: skipped. It needs samples: give x." in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--experiments", "drifft"], "Did you mean 'drift'"),
            (["--experiments", "drift", "--noise", "0"], "give x_shifted"),
            (["--experiments", "cross_model_regression"], "give other"),
            (["--noise", "-1"], "--noise -1"),
            (["--batch-size", "0"], "batch_size=0"),
            (["--task", "regresion"], "regression"),
            (["--n-bootstrap", "-1"], "n_bootstrap=-1"),
            (["--samples", "0"], "--samples 0"),
            (["--shifted", "nowhere.npz"], "nowhere.npz"),
        ],
    )
    def test_wrong_words_are_one_line(self, files, capsys, words, said):
        assert self.inspect(files, *words, out="wrong") == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("keras-analyzer: error: ")
        assert said in printed.err
        assert printed.err.count("\n") == 1
        assert not (files / "wrong" / "inspection.json").exists()
