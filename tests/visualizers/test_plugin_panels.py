"""Results of plugins on the dashboard and as text: small tables, and nothing broken by odd shapes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from analyzer.commands import plugin_tables, summary
from analyzer.commands.plugin_tables import plugin_tables as as_text
from analyzer.data_types import AnalysisResults, Estimate, Failed, Finding, MultiOutput, Skipped
from analyzer.data_types.plugins import flat, plugin_findings, plugin_rows

pytestmark = pytest.mark.plain


@dataclasses.dataclass(frozen=True)
class Own:
    """A result of somebody's own."""

    score: Estimate
    curve: np.ndarray


def nested(depth):
    return 1.5 if depth == 0 else {"level": nested(depth - 1)}


ODD = {
    "nested": nested(30),
    "wide": {f"a rather long name of a number {i}": i / 3 for i in range(500)},
    "array": np.zeros((50, 40)),
    "empty": {},
    "none": None,
    "text": {"words": "<script>$x^2$</script>\n\u202e" * 100},
    "huge": {"number": 10**3000, "large": 1e300, "small": -1e-300, "nan": float("nan"), "inf": float("inf")},
    "bool": {"yes": True, "no": False},
    "frame": pd.DataFrame({"a": [1, 2]}),
    "own": Own(Estimate(value=0.5, low=0.4, high=0.6, n=9), np.arange(4)),
    "several": MultiOutput(outputs={"left": {"score": 1}, "right": Skipped("nothing there")}),
    "mixed": [1, {"a": 2}, "b"],
    "object": object,
    "findings": {"findings": "none of the kind"},
    "keys": {1: 2, None: 3, ("a", "b"): 4, "$\\frac{": 5},
}


def found(value, models=("a", "b")):
    results = AnalysisResults(models)
    results.odd = dict.fromkeys(models, value)
    return results


def words(visualizer, results):
    """What is written on the dashboard, and what sticks out of it."""
    figure = visualizer("summary", results).figure()
    FigureCanvasAgg(figure).draw()
    whole = figure.bbox
    # Tables stand on axes that are off, whose ticks are there all the same.
    ticks = {id(t) for ax in figure.axes if not ax.axison for axis in (ax.xaxis, ax.yaxis) for t in axis.findobj(Text)}
    texts = [text for text in figure.findobj(Text) if id(text) not in ticks and text.get_visible() and text.get_text()]
    boxes = {text.get_text(): text.get_window_extent() for text in texts}
    out = [word for word, box in boxes.items() if box.x0 < whole.x0 - 1 or box.x1 > whole.x1 + 1]
    return " ".join(boxes), out


@pytest.mark.parametrize("kind", ODD)
def test_odd_shapes_break_nothing(kind, visualizer):
    shown, out = words(visualizer, found(ODD[kind]))
    assert "odd" in shown
    assert out == []
    document, _ = found(ODD[kind]).to_document()
    lines = as_text(document)
    assert any(line.startswith("odd") for line in lines)
    assert max(map(len, lines)) < 300
    assert not any(character in "".join(lines) for character in "\n\u202e")
    assert len(found(ODD[kind]).to_frame("odd")) >= 1
    assert summary.missing(document, "failed") == {}


@pytest.mark.parametrize("value", [7, "word", [1, 2, 3], None, {}, {"other": {"x": 1}}, np.eye(3)])
def test_what_is_not_by_model_is_named(value, visualizer):
    results = AnalysisResults(("a",))
    results.single = value
    results.custom = {"a": {"x": 1}}
    shown, _ = words(visualizer, results)
    assert "Not shown: single – it is not by model" in shown
    assert any(line.startswith("single:") and "not by model" in line for line in as_text(results.to_document()[0]))


def test_numbers_come_first_and_estimates_have_their_interval(visualizer):
    results = AnalysisResults(("a", "b"))
    score = Estimate(value=0.5, low=0.4, high=0.6, n=9)
    results.custom = {"a": {"word": "fine", "score": score, "deep": {"x": 3}}, "b": {"word": "bad", "score": None}}
    shown, _ = words(visualizer, results)
    assert {"custom", "word", "score", "deep.x", "fine", "0.500", "3"} <= set(shown.split())
    assert "0.500\n[0.400, 0.600]" in shown
    head, first, second = as_text(results.to_document()[0])[1:]
    assert head.split() == ["custom", "score", "deep.x", "word"]
    assert first.split() == ["a", "0.5", "[0.4,", "0.6]", "3", "fine"]
    assert second.split() == ["b", "–", "–", "bad"]


def test_many_plugins_are_counted(visualizer):
    results = AnalysisResults(("a",))
    for i in range(30):
        setattr(results, f"plugin_{i:02d}", {"a": {"x": i}})
    shown, out = words(visualizer, results)
    assert out == []
    assert "plugin_05" in shown
    assert "Not shown: plugin_06 – there is no more room" in shown
    lines = as_text(results.to_document()[0])
    assert sum(line.startswith("plugin_") for line in lines) == plugin_tables.MOST_TABLES
    assert lines[-1].startswith("20 more in the results: plugin_10")


def test_what_could_not_be_had_is_said(visualizer):
    results = AnalysisResults(("a", "b"))
    results.custom = {"a": Failed("ValueError: <b>", "f, line 3"), "b": Skipped("no heart")}
    assert visualizer("summary", results).figure() is None
    document, _ = results.to_document()
    assert as_text(document) == ["", "custom: without a result"]
    assert summary.missing(document, "failed") == {"custom": ["failed: custom (a): ValueError: <b> (in f, line 3)"]}
    assert summary.missing(document, "skipped") == {"custom": ["skipped: custom (b): no heart"]}
    results.other = {"a": 1.0}
    shown, _ = words(visualizer, results)
    assert "Not shown: a – custom failed: ValueError: <b> (in f, line 3)" in shown


class TestReading:
    def test_nothing_is_lost_in_rows(self):
        rows = plugin_rows({"a": {"x": {"y": 1}, "model": "mine", "e": Estimate(value=1.0, n=2)}}, ("a",))
        assert rows == [{"model": "a", "x.y": 1, "model_": "mine", "e": 1.0, "e_low": None, "e_high": None}]
        assert plugin_rows(pd.DataFrame({"u": [1, 2], "v": [3, 4]}), ("a",)) == [
            {"model": None, "u": 1, "v": 3},
            {"model": None, "u": 2, "v": 4},
        ]

    def test_deep_mappings_are_counted(self):
        assert flat(nested(6)) == {"level.level.level.level": "mapping of 1"}

    @pytest.mark.parametrize(
        "held",
        [
            3,
            "text",
            [1],
            [{"kind": "k"}],
            [{"kind": "k", "layer": None, "severity": "grave", "message": "m", "evidence": {}}],
            [{"kind": "k", "layer": 3, "severity": "info", "message": "m", "evidence": {}}],
            [{"kind": "k", "layer": None, "severity": ["info"], "message": "m", "evidence": {}}],
        ],
    )
    def test_what_is_no_finding_is_an_ordinary_value(self, held):
        value = {"a": {"findings": held}}
        assert list(plugin_findings(value, ("a",))) == []
        assert flat(value["a"]) == {"findings": held}

    def test_findings_of_dataclasses_count_too(self):
        @dataclasses.dataclass(frozen=True)
        class Result:
            findings: tuple[Finding, ...]

        finding = Finding(kind="k", layer="l", severity="warning", message="m")
        assert list(plugin_findings({"a": Result((finding,)), "no model": Result(())}, ("a",))) == [("a", finding)]
        assert flat(Result((finding,))) == {}
