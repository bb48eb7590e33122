"""``keras-analyzer certify``: options into bounds, a file and a table."""

import json

import numpy as np
import pytest

from analyzer.cli import build_parser, main
from analyzer.commands import certify as command
from analyzer.data_types.certificates import METHODS, Certificate, Certificates
from analyzer.data_types.values import Estimate, Skipped
from analyzer.errors import ConfigError

RNG = np.random.default_rng(0)


@pytest.mark.plain
class TestWords:
    def test_methods(self):
        assert command.read_methods("clever, lipschitz,clever") == ("clever", "lipschitz")
        assert command.read_methods("lipschitz,all") == ("all",)
        with pytest.raises(ConfigError, match="Did you mean 'smoothing'"):
            command.read_methods("smothing")
        with pytest.raises(ConfigError, match="names none"):
            command.read_methods(" ,")

    def test_defaults(self):
        args = build_parser().parse_args(["certify", "m.keras", "--data", "d.npz"])
        assert (args.methods, args.norm, args.epsilon, args.samples, args.draws) == ("all", "linf", None, 64, 1000)
        assert (args.bounds, args.sigma, args.task, args.batch_size) == (None, None, None, 128)
        bounds = build_parser().parse_args(["certify", "m.keras", "--data", "d.npz", "--bounds", "-1", "1"]).bounds
        assert bounds == [-1.0, 1.0]


@pytest.mark.plain
class TestTable:
    def certificates(self, **changes):
        bound = Certificate(
            method="lipschitz",
            kind="bound",
            norm="linf",
            own_norm="l2",
            radius=np.array([0.25, 0.5, 0.0]),
            quantity="certified radius",
            certified=Estimate(value=0.5, low=0.25, high=0.75, n=3),
            settings={"lipschitz_constant": 3.0},
            notes=("Proved in l2.",),
            definition="Margin over bound.",
            paper="Someone, 2018",
            seconds=1.25,
        )
        smoothed = Certificate(
            method="smoothing",
            kind="probabilistic bound",
            subject="smoothed classifier",
            norm="linf",
            own_norm="l2",
            confidence=0.999,
            radius=np.array([np.nan, 0.5, np.nan]),
            quantity="certified radius",
            certified=Estimate(value=None, n=3),
            definition="Under noise.",
            paper="Others, 2019",
            seconds=2.0,
        )
        given = {
            "model": "a\x1b[2J",
            "n": 3,
            "indices": np.arange(3),
            "norm": "linf",
            "epsilon": 0.1,
            "low": 0.0,
            "high": 1.0,
            "bounds_source": "given",
            "labelled": True,
            "accuracy": Estimate(value=0.75, low=0.5, high=0.875, n=3),
            "seed": 0,
            "methods": {"interval_bounds": Skipped("No rule."), "lipschitz": bound, "smoothing": smoothed},
        }
        return Certificates(**(given | changes))

    def test_rows_reasons_and_what_is_not_known(self):
        lines = command.lines_of(self.certificates())
        assert lines[0] == "a\\x1b[2J: 3 samples from 0 to 1 (given); linf steps of 0.1"
        assert lines[1].endswith("as they are, 0.75 [0.5, 0.875] (n=3)")
        rows = [line.split() for line in lines]
        assert ["lipschitz", "bound", "model", "linf", "0.5", "[0.25,", "0.75]", "0.25", "–", "1.25"] in rows
        smoothed = ["probabilistic", "bound", "(99.9", "%)", "smoothed", "classifier", "linf", "–", "–", "0.5", "2"]
        assert ["smoothing", *smoothed, "2.00"] in rows
        assert "interval_bounds: skipped. No rule." in lines
        assert "lipschitz: median of the certified radius. Margin over bound." in lines
        assert lines[lines.index("  Proved in l2.") + 1] == "  with lipschitz_constant = 3"

    def test_without_labels_and_without_a_row(self):
        given = {"accuracy": None, "labelled": False, "methods": {"lipschitz": Skipped("It is unknown.")}}
        lines = command.lines_of(self.certificates(**given))
        assert lines[1:] == [
            "certified: share of samples whose decision no such step can change",
            "",
            "lipschitz: skipped. It is unknown.",
        ]

    def test_table_and_json_of_the_types_alone(self):
        made = self.certificates()
        table = made.to_frame().set_index("method")
        assert table.loc["lipschitz", ["certified", "low", "high", "n", "median"]].tolist() == [
            0.5,
            0.25,
            0.75,
            3,
            0.25,
        ]
        assert table.loc["smoothing", "n_abstained"] == 2
        assert table.loc["interval_bounds", "skipped"] == "No rule."
        back = Certificates.from_json(made.to_json())
        np.testing.assert_array_equal(back["smoothing"].radius, made["smoothing"].radius)
        assert back["interval_bounds"] == Skipped("No rule.")
        assert back.to_json() == made.to_json()
        assert back["lipschitz"].seconds == 1.25


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    import keras

    folder, layers = tmp_path_factory.mktemp("certify"), keras.layers
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(6, "relu"), layers.Dense(3, "softmax")])
    model.save(folder / "a.keras")
    layered = [layers.LayerNormalization(name="scale"), layers.Dense(3, "softmax")]
    keras.Sequential([keras.Input((4,)), *layered]).save(folder / "normed.keras")
    keras.Sequential([keras.Input((4,)), layers.Dense(1)]).save(folder / "line.keras")
    x = RNG.uniform(size=(30, 4)).astype("float32")
    decided = model.predict(x, verbose=0).argmax(1)
    np.savez(folder / "data.npz", x=x, y=decided)
    np.savez(folder / "unlabelled.npz", x=x)
    np.savez(folder / "pixels.npz", x=(x * 255).astype("uint8"), y=decided)
    np.savez(folder / "real.npz", x=x, y=x[:, 0])
    return folder


@pytest.mark.slow
class TestCommand:
    def certify(self, files, *words, model="a", data="data", out="out"):
        given = ["--data", str(files / f"{data}.npz"), "--output-dir", str(files / out)]
        return main(["certify", str(files / f"{model}.keras"), *given, *words])

    def test_everything_in_a_table_and_a_file(self, files, capsys):
        assert self.certify(files, "--epsilon", "0.01", "--samples", "10", "--draws", "30", "--bounds", "0", "1") == 0
        printed = capsys.readouterr().out
        assert printed.startswith("a: 10 samples from 0 to 1 (given); linf steps of 0.01\n")
        assert [line.split()[0] for line in printed.splitlines()[4:9]] == list(METHODS)
        assert printed.splitlines()[-1] == f"results: {files / 'out' / 'certificates.json'}"
        found = Certificates.load(files / "out" / "certificates.json")
        assert (found.n, found.epsilon, found.low, found.high, found.accuracy.value) == (10, 0.01, 0.0, 1.0, 1.0)
        assert found["interval_bounds"].median > 0
        assert found["smoothing"].confidence == 0.999

    def test_some_methods_quietly_without_labels(self, files, capsys):
        words = ["--methods", "lipschitz", "--norm", "l2", "--epsilon", "0.05", "--quiet", "--seed", "4"]
        assert self.certify(files, *words, data="unlabelled", out="some") == 0
        assert tuple(capsys.readouterr()) == ("", "")
        document = json.loads((files / "some" / "certificates.json").read_text())
        assert list(document["methods"]) == ["lipschitz"]
        assert (document["norm"], document["seed"], document["labelled"]) == ("l2", 4, False)

    def test_what_was_named_and_does_not_cover_the_model_is_not_evaluated(self, files, capsys):
        words = ["--draws", "20", "--samples", "4"]
        assert self.certify(files, "--methods", "lipschitz,local_jacobian", *words, model="normed", out="part") == 3
        assert "lipschitz: skipped. Lipschitz bounds do not cover the layer 'scale'" in capsys.readouterr().out
        assert self.certify(files, *words, model="normed", out="part") == 0

    @pytest.mark.parametrize(
        ("words", "given", "said"),
        [
            (["--methods", "lipschits"], {}, "Did you mean 'lipschitz'"),
            (["--epsilon", "0"], {}, "epsilon=0.0"),
            (["--norm", "l2"], {}, "give epsilon"),
            (["--bounds", "0", "0.5"], {}, "outside bounds"),
            (["--samples", "0"], {}, "n_samples=0"),
            ([], {"data": "pixels"}, "uint8"),
            ([], {"data": "nowhere"}, "nowhere.npz"),
            ([], {"model": "line", "data": "real"}, "the task is regression"),
        ],
    )
    def test_wrong_words_are_one_line(self, files, capsys, words, given, said):
        assert self.certify(files, *words, **given, out="wrong") == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("keras-analyzer: error: ")
        assert said in printed.err
        assert printed.err.count("\n") == 1
        assert not (files / "wrong" / "certificates.json").exists()
