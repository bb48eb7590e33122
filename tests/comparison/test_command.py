"""``keras-analyzer pareto``: saved results of one or several analyses, without Keras."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from analyzer.cli import build_parser, main
from analyzer.commands import exits
from analyzer.commands.pareto import read_objectives
from analyzer.data_types import AnalysisResults, Skipped
from analyzer.errors import ConfigError
from tests.comparison.made import estimate, measured, results, trained

pytestmark = pytest.mark.plain


@pytest.fixture
def saved(tmp_path):
    first = measured(a=(estimate(0.9), estimate(0.05), 10), b=(estimate(0.8), estimate(0.06), 10))
    second = measured(b=(estimate(0.95), estimate(0.09), 10))
    return [one.to_json(tmp_path / name).parent for one, name in ((first, "monday"), (second, "tuesday"))]


def command(*words):
    return main(["pareto", *map(str, words)])


def test_one_result(saved, tmp_path, capsys):
    out = tmp_path / "out"
    code = command(saved[0], "--objective", "accuracy", "--objective", "ece:min", "--output-dir", out, "--dpi", "50")
    assert code == exits.PASSED
    said = capsys.readouterr().out
    assert "Pareto front (1 of 2 models)" in said
    assert "  a: Accuracy 0.9, ECE 0.05" in said
    assert "  b: rank 2, dominated by a" in said
    assert {path.name for path in out.iterdir()} == {"analysis_results.json", "pareto_analysis.png"}
    loaded = AnalysisResults.load(out)
    assert loaded.comparison.pareto.front == ("a",)


def test_several_results_with_equal_names(saved, tmp_path, capsys):
    code = command(*saved, "--objective", "accuracy", "--objective", "ece", "--output-dir", tmp_path / "out")
    assert code == exits.PASSED
    found = AnalysisResults.load(tmp_path / "out")
    assert list(found.comparison.pareto.models) == ["a", "monday/b", "tuesday/b"]
    assert found.comparison.pareto.front == ("a", "tuesday/b")
    assert found.provenance["results"]["monday"] == str(saved[0])
    assert "tuesday/b" in capsys.readouterr().out


def test_the_default_needs_histories_and_says_so(saved, tmp_path, capsys):
    assert command(saved[0], "--output-dir", tmp_path / "out") == exits.WRONG_USE
    assert "no peak_performance" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_who_cannot_be_compared_is_named_and_changes_the_exit_code(tmp_path, capsys):
    found = results(a=trained(0.9, 0.1, 0.2), b=Skipped("no training history was given"))
    folder = found.to_json(tmp_path / "in").parent
    assert command(folder, "--output-dir", tmp_path / "out", "--save-format", "svg") == exits.NOT_EVALUATED
    assert "b: not compared: no peak_performance and no overfitting_index" in capsys.readouterr().out
    assert (tmp_path / "out" / "pareto_analysis.svg").exists()


def test_quiet(saved, tmp_path, capsys):
    words = ["--objective", "accuracy", "--objective", "ece", "--quiet"]
    assert command(saved[0], *words, "--output-dir", tmp_path / "out") == exits.PASSED
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--objective", "acuracy", "--objective", "ece"], "Did you mean 'accuracy'"),
        (["--objective", "accuracy"], "at least two"),
        (["--objective", "accuracy:up", "--objective", "ece"], "':max' or ':min'"),
    ],
)
def test_wrong_objectives(saved, tmp_path, capsys, words, said):
    assert command(saved[0], *words, "--output-dir", tmp_path / "out") == exits.WRONG_USE
    assert said in capsys.readouterr().err


def test_results_are_neither_overwritten_nor_counted_twice(saved, capsys):
    before = (saved[0] / "analysis_results.json").read_bytes()
    words = ["--objective", "accuracy", "--objective", "ece"]
    assert command(saved[0], *words, "--output-dir", saved[0]) == exits.WRONG_USE
    assert "overwritten" in capsys.readouterr().err
    assert (saved[0] / "analysis_results.json").read_bytes() == before
    assert command(saved[0], saved[0], *words) == exits.WRONG_USE
    assert "twice" in capsys.readouterr().err


def test_objectives_of_the_command_line():
    assert read_objectives([]) is None
    assert read_objectives(["ece", "a.b:max", "c.d@x:y:min"]) == ["ece", "+a.b", "-c.d@x:y"]
    with pytest.raises(ConfigError, match="got 'both'"):
        read_objectives(["ece:both"])


def test_it_is_in_the_help_and_loads_no_keras(saved, tmp_path):
    assert isinstance(build_parser().parse_args(["pareto", "x"]), argparse.Namespace)
    program = (
        "import sys; from analyzer.cli import main\n"
        f"main(['pareto', {str(saved[0])!r}, '--objective', 'accuracy', '--objective', 'ece', "
        f"'--output-dir', {str(tmp_path / 'out')!r}])\n"
        "print(sorted({'keras', 'jax', 'torch', 'tensorflow', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
