"""Analyses and figures of others: the guide's own work when pasted, and a broken one is one warning that names it."""

from __future__ import annotations

import functools
import json
import logging
import sys
import types
from dataclasses import dataclass
from importlib.metadata import EntryPoint

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.text import Text

from analyzer import AnalysisConfig, ModelAnalyzer, register_analyzer, register_visualizer
from analyzer.analyzers import registry as analyzer_registry
from analyzer.cli import main
from analyzer.data_types import AnalysisResults, DataInput, Estimate, Failed, Finding, Skipped
from analyzer.errors import ConfigError
from analyzer.inspection.needs import Predictions
from analyzer.visualizers import registry as visualizer_registry
from analyzer.visualizers.isolation import open_figures
from analyzer.visualizers.summary_visualizer import SummaryVisualizer

pytestmark = pytest.mark.slow

# Section 8 of the guide, as it stands there.
ANALYZER = """\
from analyzer.analyzers.base import BaseAnalyzer
from analyzer.data_types import AnalysisResults, DataInput


class MyCustomAnalyzer(BaseAnalyzer):
    def requires_data(self) -> bool:
        return True # This analyzer needs data

    def analyze(self, results: AnalysisResults, data: DataInput, cache: dict) -> None:
        # Your custom logic here
        custom_metrics = {}
        for model_name, model in self.models.items():
            # ... compute your metrics ...
            custom_metrics[model_name] = {'my_score': 0.99}

        # Store results in the main results object
        results.custom_metrics = custom_metrics
"""

VISUALIZER = """\
from analyzer.visualizers.base import BaseVisualizer
import matplotlib.pyplot as plt

class MyCustomVisualizer(BaseVisualizer):
    def create_visualizations(self) -> None:
        if not hasattr(self.results, 'custom_metrics'):
            return

        fig, ax = plt.subplots()
        # ... your custom plotting logic ...
        # You can access self.results, self.config, and self.model_colors

        if self.config.save_plots:
            self._save_figure(fig, 'my_custom_plot')
        plt.close(fig)
"""


def pasted(name, text):
    """A module that has the guide's lines in it."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(text, vars(module))  # noqa: S102
    return module


MyCustomAnalyzer = pasted("guides_analyzer", ANALYZER).MyCustomAnalyzer
MyCustomVisualizer = pasted("guides_visualizer", VISUALIZER).MyCustomVisualizer

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(30, 4)).astype("float32"), RNG.integers(0, 3, 30)
DRAWN = AnalysisConfig(n_bootstrap=0, progress=False, verbose=False, dpi=40, plot_style="draft")
QUIET = AnalysisConfig(n_bootstrap=0, progress=False, verbose=False, save_plots=False)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Every test starts with nothing registered or installed and leaves nothing behind."""
    for registry in (analyzer_registry, visualizer_registry):
        monkeypatch.setattr(registry, "_registered", {})
        monkeypatch.setattr(registry, "entry_points", lambda **_: [])


@pytest.fixture
def install(monkeypatch):
    """Pretend that a package with these entry points is installed."""

    def pretend(registry, *values):
        def entry_points(group):
            assert group in ("analyzer.analyzers", "analyzer.visualizers")
            return [EntryPoint(f"point_{i}", value, group) for i, value in enumerate(values)]

        monkeypatch.setattr(registry, "entry_points", entry_points)

    return pretend


@functools.cache
def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax", name="head")])


def audit(folder, *, names=("a", "b"), data=True, config=QUIET, **options):
    analyzer = ModelAnalyzer({name: model() for name in names}, config=config, output_dir=folder, **options)
    return analyzer.analyze(DataInput(X, Y) if data else None)


def told(caplog):
    """What the package itself warned of."""
    return [record.getMessage() for record in caplog.records if record.name == "analyzer"]


def words(results, config=DRAWN):
    """All that is written on the dashboard."""
    colors = dict.fromkeys(results.model_names, "#000000")
    figure = SummaryVisualizer(results, config, "nowhere", colors).figure()
    figure.canvas.draw()
    return " ".join(text.get_text() for text in figure.findobj(Text) if text.get_visible())


class TestTheGuide:
    @pytest.mark.parametrize("way", ["decorators", "arguments", "entry points"])
    def test_pasted_classes_work_in_each_way(self, way, tmp_path, capsys, install, caplog):
        options = {}
        if way == "decorators":
            assert register_analyzer(MyCustomAnalyzer) is MyCustomAnalyzer
            assert register_visualizer(MyCustomVisualizer) is MyCustomVisualizer
        elif way == "arguments":
            options = {"analyzers": [MyCustomAnalyzer], "visualizers": [MyCustomVisualizer]}
        else:
            install(analyzer_registry, "guides_analyzer:MyCustomAnalyzer")
            install(visualizer_registry, "guides_visualizer:MyCustomVisualizer")
        results = audit(tmp_path, config=DRAWN, **options)
        expected = {"a": {"my_score": 0.99}, "b": {"my_score": 0.99}}
        document = json.loads((tmp_path / "analysis_results.json").read_text())
        assert results.custom_metrics == document["custom_metrics"] == document["plugins"]["custom_metrics"] == expected
        assert (tmp_path / "my_custom_plot.png").exists()
        assert told(caplog) == []
        for held in (results, AnalysisResults.load(tmp_path)):
            assert held.to_frame("custom_metrics").to_dict("list") == {"model": ["a", "b"], "my_score": [0.99, 0.99]}
            assert {"custom_metrics", "my_score", "0.990"} <= set(words(held).split())
        assert main(["show", str(tmp_path)]) == 0
        assert "custom_metrics  my_score\na                   0.99" in capsys.readouterr().out

    def test_without_data_it_is_skipped(self, tmp_path, caplog):
        results = audit(tmp_path, data=False, analyzers=[MyCustomAnalyzer])
        assert results.MyCustomAnalyzer == dict.fromkeys(("a", "b"), Skipped("No data were given."))
        assert AnalysisResults.load(tmp_path).MyCustomAnalyzer == results.MyCustomAnalyzer
        assert not hasattr(results, "custom_metrics")
        assert told(caplog) == []


class Reports(MyCustomAnalyzer):
    """Says something of one model in findings, and skips the other."""

    def analyze(self, results, data, cache):
        found = Finding(kind="odd", layer="head", severity="error", evidence={"n": 3}, message="This is odd.")
        score = Estimate(value=0.5, low=0.4, high=0.6, n=30)
        results.reports = {"a": {"score": score, "findings": (found,)}, "b": Skipped("it has no heart")}


class TestFindings:
    def test_those_of_plugins_are_among_all(self, tmp_path, capsys):
        results = audit(tmp_path, analyzers=[Reports])
        for held in (results, AnalysisResults.load(tmp_path)):
            (found,) = [f for analysis, _, f in held.all_findings() if analysis == "reports"]
            assert (found.kind, found.layer, found.severity, found.evidence) == ("odd", "head", "error", {"n": 3})
            table = held.to_frame("findings")
            assert list(table[table["kind"] == "odd"]["model"]) == ["a"]
            assert held.reports["b"] == Skipped("it has no heart")
            row = held.to_frame("reports").iloc[0]
            assert (row["score"], row["score_low"], row["score_high"]) == (0.5, 0.4, 0.6)
            assert "[0.400, 0.600]" in words(held)
            assert "Not shown: b – reports skipped: it has no heart" in words(held)
        assert main(["show", str(tmp_path)]) == 0
        shown = capsys.readouterr().out
        assert "error: a, head: This is odd." in shown
        assert "0.5 [0.4, 0.6]" in shown
        assert "skipped: reports (b): it has no heart" in shown

    @pytest.mark.parametrize("rule", ["findings.error > 0", "reports.findings.error > 0"])
    def test_rules_count_them(self, rule, tmp_path, capsys):
        audit(tmp_path, names=("a",), analyzers=[Reports])
        assert main(["show", str(tmp_path), "--fail-on", rule]) == 1
        assert main(["show", str(tmp_path), "--fail-on", "reports.findings.warning > 0"]) == 0
        assert "passed: 'reports.findings.warning > 0'" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------- broken in every way
class RaisesWhenMade(MyCustomAnalyzer):
    def __init__(self, models, config):
        raise RuntimeError("not today")


class RaisesInNeeds(MyCustomAnalyzer):
    def needs(self):
        raise RuntimeError("not today")


class NeedsNonsense(MyCustomAnalyzer):
    def needs(self):
        return (5,)


class NeedsAClass(MyCustomAnalyzer):
    def needs(self):
        return (Predictions,)


class NeedsWhatHasNoHash(MyCustomAnalyzer):
    def needs(self):
        class Thawed(BrokenNeed):
            __hash__ = None

        return (Thawed(),)


class RaisesInRequiresData(MyCustomAnalyzer):
    def requires_data(self):
        raise RuntimeError("not today")


class RaisesInAnalyze(MyCustomAnalyzer):
    def analyze(self, results, data, cache):
        results.half = {"a": 1}
        raise RuntimeError("not today")


class Exits(MyCustomAnalyzer):
    def analyze(self, results, data, cache):
        raise SystemExit(3)


class ReturnsItsResults(MyCustomAnalyzer):
    def analyze(self, results, data, cache):
        return {"a": 1}


class SetsReservedNames(MyCustomAnalyzer):
    def analyze(self, results, data, cache):
        results.weights = {"a": {"mean": 0.5}}


class WipesEverything(MyCustomAnalyzer):
    def analyze(self, results, data, cache):
        results.performance.clear()
        results.weights["a"] = 5
        results.findings = 7
        results.measured = None
        del results.provenance
        for found in cache.values():
            found.clear()


class CannotBeJson(MyCustomAnalyzer):
    def analyze(self, results, data, cache):
        circle = {}
        circle["circle"] = circle
        results.circle = circle


class TooLargeForJson(MyCustomAnalyzer):
    def analyze(self, results, data, cache):
        results.large = 10**5000


@dataclass(frozen=True)
class BrokenNeed:
    """Stands for a need that breaks where its field says."""

    where: str = "nowhere"

    requires_data = True

    def taps(self, view):
        if self.where == "taps":
            raise RuntimeError("not today")
        return Predictions().taps(view)

    def finish(self, collected, context):
        raise RuntimeError("not today")


class NeedBreaksInTaps(MyCustomAnalyzer):
    def needs(self):
        return (BrokenNeed("taps"),)


class NeedBreaksInFinish(MyCustomAnalyzer):
    def needs(self):
        return (BrokenNeed("finish"),)


WITH_DATA = [
    RaisesWhenMade,
    RaisesInNeeds,
    NeedsNonsense,
    NeedsAClass,
    NeedsWhatHasNoHash,
    RaisesInAnalyze,
    Exits,
    ReturnsItsResults,
    SetsReservedNames,
    WipesEverything,
    CannotBeJson,
    TooLargeForJson,
]


@functools.cache
def undisturbed(*, data=True):
    """What the audit says where no plugin is about."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        results = audit(folder, names=("a",), data=data, analyzers=[MyCustomAnalyzer])
    return _document(results)


def _document(results):
    document, _ = results.to_document(inline_arrays=True)
    return {key: document[key] for key in document if key not in ("provenance", "measured", "plugins")}


def lost(results, *, data=True):
    """What is there without a broken plugin, and is gone or changed with it."""
    found = _document(results)
    return [key for key, value in undisturbed(data=data).items() if found.get(key) != value]


class TestBrokenAnalyses:
    @pytest.mark.parametrize("cls", WITH_DATA, ids=lambda cls: cls.__name__)
    def test_one_warning_names_it_and_nothing_else_is_lost(self, cls, tmp_path, caplog):
        results = audit(tmp_path, names=("a",), analyzers=[cls, MyCustomAnalyzer])
        (message,) = told(caplog)
        assert message.startswith(f"analysis '{cls.__name__}' ({__name__}.{cls.__name__}) failed: ")
        assert lost(results) == []
        assert results.measured["seconds"]["total"] > 0
        assert results.provenance
        assert AnalysisResults.load(tmp_path).custom_metrics == {"a": {"my_score": 0.99}}

    def test_requires_data_that_raises(self, tmp_path, caplog):
        results = audit(tmp_path, names=("a",), data=False, analyzers=[RaisesInRequiresData, MyCustomAnalyzer])
        (message,) = told(caplog)
        assert "'RaisesInRequiresData'" in message
        assert lost(results, data=False) == []

    @pytest.mark.parametrize("cls", [NeedBreaksInTaps, NeedBreaksInFinish], ids=lambda cls: cls.__name__)
    def test_a_need_that_breaks_the_pass_fails_alone(self, cls, tmp_path, caplog):
        class Reads(cls):
            name = "reads"

            def analyze(self, results, data, cache):
                results.reads = {name: str(cache[name][self.needs()[0]]) for name in self.models}

        results = audit(tmp_path, names=("a",), analyzers=[Reads, MyCustomAnalyzer])
        (message,) = told(caplog)
        assert message == f"model 'a': nothing for the need {__name__}.BrokenNeed: not today"
        assert results.reads == {"a": "not today"}
        assert lost(results) == []

    def test_what_went_wrong_stands_in_the_results(self, tmp_path, capsys):
        results = audit(tmp_path, names=("a",), analyzers=[RaisesInAnalyze, CannotBeJson])
        assert results.half == {"a": 1}
        for held in (results, AnalysisResults.load(tmp_path)):
            assert held.RaisesInAnalyze["a"].error == "RuntimeError: not today"
            assert isinstance(held.circle["a"], Failed)
        # What was asked for and could not be evaluated is exit code 3, as for analyses of our own.
        assert main(["show", str(tmp_path)]) == 3
        assert "failed: RaisesInAnalyze (a): RuntimeError: not today" in capsys.readouterr().err

    def test_what_was_overwritten_is_named(self, tmp_path, caplog):
        audit(tmp_path, names=("a",), analyzers=[WipesEverything])
        for name in ("performance", "weights", "findings", "measured", "provenance"):
            assert f"results.{name}, which is not its own" in caplog.text

    @pytest.mark.parametrize("name", ["weights", "findings", "two words", "", 5])
    def test_names_that_cannot_be_are_refused_at_once(self, name, tmp_path):
        cls = type("Misnamed", (MyCustomAnalyzer,), {"name": name})
        if name == "":
            cls.name = ""
        with pytest.raises(ConfigError, match="Misnamed"):
            audit(tmp_path, analyzers=[cls])
        with pytest.raises(ConfigError, match="Misnamed"):
            register_analyzer(cls)

    def test_two_classes_of_one_name_are_refused(self, tmp_path):
        twin = type("MyCustomAnalyzer", (MyCustomAnalyzer,), {})
        with pytest.raises(ConfigError, match="Two classes are named 'MyCustomAnalyzer'"):
            audit(tmp_path, analyzers=[MyCustomAnalyzer, twin])

    def test_broken_entry_points_are_told_once(self, tmp_path, install, caplog):
        install(
            analyzer_registry,
            "no_such_package_of_plugins:Thing",
            f"{__name__}:exits_when_loaded.thing",
            "guides_analyzer:MyCustomAnalyzer",
        )
        for _ in range(2):
            results = audit(tmp_path, names=("a",))
        assert [message.split(":")[0] for message in told(caplog)] == [
            "the analyzer plugin 'point_0' cannot be loaded",
            "the analyzer plugin 'point_1' cannot be loaded",
        ]
        assert "(no_such_package_of_plugins:Thing)" in told(caplog)[0]
        assert lost(results) == []


class _ExitsWhenLoaded:
    def __getattr__(self, name):
        raise SystemExit(1) if name == "thing" else AttributeError(name)


exits_when_loaded = _ExitsWhenLoaded()


class RaisesWhenDrawn(MyCustomVisualizer):
    def create_visualizations(self):
        plt.rcParams["axes.titlesize"] = 33.0
        plt.figure()
        raise RuntimeError("not today")


class RaisesWhenMadeToDraw(MyCustomVisualizer):
    def __init__(self, results, config, output_dir, model_colors):
        raise RuntimeError("not today")


class LeavesFiguresOpen(MyCustomVisualizer):
    def create_visualizations(self):
        for _ in range(2):
            self._save_figure(plt.figure(), "left_open")


class ExitsWhenDrawn(MyCustomVisualizer):
    def create_visualizations(self):
        raise SystemExit(2)


class TestBrokenFigures:
    @pytest.mark.parametrize(
        ("cls", "said"),
        [
            (RaisesWhenDrawn, "RuntimeError: not today; it left 1 figure open"),
            (RaisesWhenMadeToDraw, "RuntimeError: not today"),
            (LeavesFiguresOpen, "it left 2 figures open, now closed"),
            (ExitsWhenDrawn, "SystemExit: 2"),
        ],
        ids=lambda case: getattr(case, "__name__", ""),
    )
    def test_one_warning_names_it_and_nothing_else_is_lost(self, cls, said, tmp_path, caplog):
        before, size = open_figures(), plt.rcParams["axes.titlesize"]
        visualizers = [cls, MyCustomVisualizer]
        audit(tmp_path, names=("a",), config=DRAWN, analyzers=[MyCustomAnalyzer], visualizers=visualizers)
        (message,) = told(caplog)
        assert message.startswith(f"figure '{cls.__name__}' ({__name__}.{cls.__name__}) failed: {said}")
        assert open_figures() == before
        assert plt.rcParams["axes.titlesize"] == size
        assert {"my_custom_plot.png", "summary_dashboard.png"} <= {path.name for path in tmp_path.iterdir()}

    def test_a_broken_entry_point_costs_no_figure(self, tmp_path, install, caplog):
        install(visualizer_registry, "no_such_package_of_figures:Thing", "guides_visualizer:MyCustomVisualizer")
        audit(tmp_path, names=("a",), config=DRAWN, analyzers=[MyCustomAnalyzer])
        (message,) = told(caplog)
        assert message.startswith("the visualizer plugin 'point_0' cannot be loaded: ModuleNotFoundError")
        assert (tmp_path / "my_custom_plot.png").exists()

    def test_names_that_are_taken_are_refused_at_once(self, tmp_path):
        with pytest.raises(ConfigError, match="'summary' exists already"):
            audit(tmp_path, visualizers=[type("Mine", (MyCustomVisualizer,), {"name": "summary"})])


def test_messages_go_to_the_packages_own_logger(tmp_path):
    heard = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.name)
    logging.getLogger("analyzer").addHandler(handler)
    audit(tmp_path, names=("a",), analyzers=[RaisesInAnalyze])
    logging.getLogger("analyzer").removeHandler(handler)
    assert heard == ["analyzer"]
