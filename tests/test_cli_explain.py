"""``keras-analyzer explain``: options into an explanation, files and a short table."""

import json

import numpy as np
import pytest

from analyzer.cli import build_parser, main
from analyzer.commands import explain as command
from analyzer.commands.explanation_text import lines_of
from analyzer.data_types.explanation import LEDGER_COLUMNS, Explanation
from analyzer.errors import ConfigError

RNG = np.random.default_rng(0)


@pytest.mark.plain
class TestWords:
    @pytest.mark.parametrize(
        ("text", "target"),
        [
            ("predicted", "predicted"),
            ("3", 3),
            ("-1", -1),
            ("0, 2", [0, 2]),
            ("1:4", (1, 4)),
            ("1:4,2:0", [(1, 4), (2, 0)]),
            ("box=2", {"box": 2}),
            ("a=b=predicted", {"a=b": "predicted"}),
        ],
    )
    def test_targets(self, text, target):
        assert command.read_target(text) == target

    @pytest.mark.parametrize("text", ["best", "1.5", "", "1:x", "box="])
    def test_targets_that_are_none(self, text):
        with pytest.raises(ConfigError, match="expected 'predicted'"):
            command.read_target(text)

    def test_starts_layers_and_samples(self):
        assert command.read_start("output") == "output"
        assert command.read_start("100") == 100.0
        with pytest.raises(ConfigError, match="--start x"):
            command.read_start("x")
        assert command.read_layers("none") is None
        assert command.read_layers("all") == "all"
        assert command.read_layers("a, b") == ["a", "b"]
        assert command.first_samples({"a": np.arange(5)}, 2)["a"].tolist() == [0, 1]
        with pytest.raises(ConfigError, match="--samples 0"):
            command.first_samples(np.arange(3), 0)

    def test_defaults_are_those_of_explain(self):
        args = build_parser().parse_args(["explain", "m.keras", "--data", "x.npz"])
        assert (args.method, args.target, args.start, args.multiplier) == ("auto", "predicted", "output", 1.0)
        assert (args.threshold, args.unknown, args.layers, args.batch_size) == (0.5, "raise", "all", 32)


@pytest.mark.plain
class TestTable:
    def explanation(self, **changes):
        import pandas as pd

        rows = [["Dense", 2.0, 1.5, 0.5, 0.0, 0.0, 0.0, 0.0], ["Model", 2.0, 1.5, 0.0, 0.0, 0.0, 0.0, 0.1]]
        ledger = pd.DataFrame(rows, columns=["kind", *LEDGER_COLUMNS], index=["dense", "model"])
        given = {
            "method": "epsilon",
            "inputs": {"x": np.array([[0.0, 1.5, -0.5], [1.0, 0.0, 0.0]])},
            "target": "the predicted class",
            "targets": np.array([4, 7]),
            "output": np.array([2.0, 2.0]),
            "ledger": ledger,
            "notes": ("chosen because",),
        }
        return Explanation(**(given | changes))

    def test_shares_of_the_largest_and_the_books(self):
        head, columns, first, second, books, note = lines_of(self.explanation())
        assert head == "epsilon: the predicted class"
        assert columns.split() == ["sample", "target", "output", "at", "inputs", "most", "relevant"]
        assert first.split() == ["0", "4", "2", "1", "[1]", "+75%,", "[2]", "-25%"]
        assert second.split() == ["1", "7", "2", "1", "[0]", "+50%"]
        assert books.startswith("ledger: inputs 75.00%, biases 25.00%; unexplained at most 0.1: the sum first breaks")
        assert books.endswith("'model'")
        assert note == "chosen because"

    def test_channels_are_summed_targets_counted_and_books_may_be_missing(self):
        empty = self.explanation().ledger.iloc[:0]
        image = np.zeros((2, 6, 2, 2, 3))
        image[1, 5, 1, 0] = [1, 2, 3]
        found = self.explanation(
            inputs={"a": image, "b": np.zeros((2, 6, 4))},
            output=np.full((2, 6), 12.0),
            targets=np.tile([[1], [2]], 6),
            ledger=empty,
        )
        lines = lines_of(found)
        assert "and 2 more rows in the results" in lines
        assert "ledger: epsilon keeps no books" in lines
        assert len(lines) == 2 + 10 + 1 + 1 + 1
        whole = self.explanation(inputs={"a": image[:, 5:]}, output=np.full((2, 1), 12.0), targets=np.array([[1], [2]]))
        assert lines_of(whole)[3].split()[-3:] == ["[1,", "0]", "+50%"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    import keras

    folder = tmp_path_factory.mktemp("explain")
    layers = keras.layers
    keras.utils.set_random_seed(0)
    table = keras.Sequential([keras.Input((4,)), layers.Dense(3, "relu"), layers.Dense(3, "softmax", name="head")])
    table.save(folder / "table.keras")
    image = keras.Sequential(
        [keras.Input((8, 8, 1), name="picture"), layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(2, "softmax")]
    )
    image.save(folder / "image.keras")
    np.savez(folder / "table.npz", x=RNG.normal(size=(7, 4)).astype("float32"), y=np.zeros(7, int))
    np.savez(folder / "image.npz", x=RNG.normal(size=(3, 8, 8, 1)).astype("float32"))
    return folder


@pytest.mark.slow
class TestCommand:
    def explain(self, files, name, *words, out="out"):
        data = str(files / f"{name}.npz")
        return main(["explain", str(files / f"{name}.keras"), "--data", data, "--output-dir", str(files / out), *words])

    def test_a_table_is_explained_saved_and_said(self, files, capsys):
        words = ["--method", "epsilon", "--target", "0,2", "--samples", "2", "--start", "1", "--multiplier", "2"]
        assert self.explain(files, "table", *words, "--layers", "head") == 0
        out = capsys.readouterr().out
        assert out.startswith("epsilon: ")
        assert "ledger: inputs " in out
        assert str(files / "out" / "explanation.json") in out
        found = Explanation.load(files / "out" / "explanation.json")
        assert found.n == 2
        assert list(found.layers) == ["head"]
        assert found.inputs[next(iter(found.inputs))].shape == (2, 2, 4)
        np.testing.assert_allclose(found.output, 2.0, rtol=1e-3)
        assert not (files / "out" / "heatmaps").exists()

    def test_images_have_pictures_of_both_maps(self, files, capsys):
        assert self.explain(files, "image", "--method", "contrastive", "--quiet", out="pictures") == 0
        assert tuple(capsys.readouterr()) == ("", "")
        for folder in ("heatmaps", "heatmaps_against"):
            assert len(list((files / "pictures" / folder).glob("*.png"))) == 3
        document = json.loads((files / "pictures" / "explanation.json").read_text())
        assert document["method"] == "contrastive"

    def test_a_broken_picture_costs_nothing_else(self, files, capsys, monkeypatch):
        def broken(*_, **__):
            raise ValueError("boom")

        monkeypatch.setattr("analyzer.visualizers.heatmaps.save_heatmaps", broken)
        words = ["--method", "epsilon", "--layers", "none", "--samples", "1"]
        assert self.explain(files, "image", *words, out="broken") == 3
        printed = capsys.readouterr()
        assert "pictures failed: ValueError: boom" in printed.err
        assert (files / "broken" / "explanation.json").is_file()
        assert self.explain(files, "image", *words, "--no-plots", out="broken") == 0

    @pytest.mark.parametrize(
        ("words", "code", "said"),
        [
            (["--method", "epsilonn"], 2, "Did you mean 'epsilon'"),
            (["--target", "9"], 2, "out of range"),
            (["--target", "best"], 2, "--target best"),
            (["--task", "regresion"], 2, "Did you mean 'regression'"),
            (["--batch-size", "0"], 2, "batch_size=0"),
            (["--samples", "0"], 2, "--samples 0"),
            (["--layers", "hed"], 2, "hed"),
            (["--threshold", "2"], 2, "threshold"),
            (["--import", "no_such_module_here"], 2, "no_such_module_here"),
        ],
    )
    def test_wrong_words_are_one_line(self, files, capsys, words, code, said):
        assert self.explain(files, "table", *words, out="wrong") == code
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("keras-analyzer: error: ")
        assert said in printed.err
        assert printed.err.count("\n") == 1
        assert not (files / "wrong" / "explanation.json").exists()

    def test_wrong_files(self, files, capsys):
        assert main(["explain", str(files / "no.keras"), "--data", str(files / "table.npz")]) == 3
        assert main(["explain", str(files / "table.keras"), "--data", str(files / "no.npz")]) == 2
        assert self.explain(files, "table", out="table.npz") == 2
        assert capsys.readouterr().err.count("error: ") == 3
