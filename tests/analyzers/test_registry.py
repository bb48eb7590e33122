"""Which analyses run: ours, those that are registered, and those of installed plugins; a broken one is a warning."""

import logging
from importlib.metadata import EntryPoint

import keras
import numpy as np
import pytest

from analyzer import AnalysisConfig, ModelAnalyzer, register_analyzer
from analyzer.analyzers import registry
from analyzer.analyzers.base import BaseAnalyzer, failed, material, outcome
from analyzer.data_types import Failed, Skipped
from analyzer.errors import AnalyzerError, ConfigError, Unsupported
from analyzer.inspection.needs import Predictions

BUILT_IN = [
    "performance",
    "weights",
    "calibration",
    "information_flow",
    "training_dynamics",
    "cost",
    "relevance",
    "robustness",
    "shift",
    "similarity",
]


class Minimal(BaseAnalyzer):
    """As the guide writes them: no name, no needs."""

    def requires_data(self):
        return False

    def analyze(self, results, data, cache):
        results.custom_metrics = {name: {"seen": True} for name in self.models}


class Installed(Minimal):
    name = "installed"

    def analyze(self, results, data, cache):
        results.installed = {name: np.float32(0.5) for name in self.models}


class Thief(Minimal):
    name = "weights"


NOT_AN_ANALYZER = {"name": "mapping"}


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Every test starts with nothing registered and leaves nothing behind."""
    fresh = {}
    monkeypatch.setattr(registry, "_registered", fresh)
    return fresh


@pytest.fixture
def installed(monkeypatch):
    """Pretend that packages with these entry points are installed."""

    def pretend(**points):
        def entry_points(group):
            assert group == "analyzer.analyzers"
            return [EntryPoint(name, value, group) for name, value in points.items()]

        monkeypatch.setattr(registry, "entry_points", entry_points)

    return pretend


def made(name, base=Minimal):
    return type("Made", (base,), {"name": name})


class TestRegister:
    def test_our_own_are_there_in_order(self, installed):
        installed()
        classes = registry.analyzer_classes()
        assert list(classes) == BUILT_IN
        assert all(issubclass(cls, BaseAnalyzer) and cls.name == name for name, cls in classes.items())

    def test_a_class_without_a_name_has_that_of_its_class(self):
        assert register_analyzer(Minimal) is Minimal
        assert list(registry.analyzer_classes()) == [*BUILT_IN, "Minimal"]

    @pytest.mark.parametrize("name", BUILT_IN)
    def test_names_of_our_own_are_taken(self, name):
        with pytest.raises(ConfigError, match=f"An analyzer named '{name}' exists already. Give Made another `name`"):
            register_analyzer(made(name))

    @pytest.mark.parametrize("name", ["comparison", "provenance", "findings", "models", "to_json", "plugins"])
    def test_names_of_the_results_are_taken(self, name):
        with pytest.raises(ConfigError, match=f"'{name}' is a name of AnalysisResults itself"):
            register_analyzer(made(name))

    def test_two_classes_cannot_share_a_name(self):
        register_analyzer(Installed)
        other = type("Other", (Minimal,), {"name": "installed"})
        with pytest.raises(ConfigError, match=r"'installed' exists already\. Give Other another `name`"):
            register_analyzer(other)
        assert registry.analyzer_classes()["installed"] is Installed

    def test_a_notebook_cell_can_be_run_again(self):
        first, again = made("mine"), made("mine")
        assert first is not again
        register_analyzer(first)
        assert register_analyzer(again) is again
        assert registry.analyzer_classes()["mine"] is again

    @pytest.mark.parametrize("wrong", [int, 3, None, Minimal({}, AnalysisConfig()), "Minimal"])
    def test_only_subclasses_can_be_registered(self, wrong):
        with pytest.raises(ConfigError, match="expected a subclass of BaseAnalyzer"):
            register_analyzer(wrong)


class TestEntryPoints:
    def test_an_installed_analysis_is_found(self, installed):
        installed(anything=f"{__name__}:Installed")
        assert registry.analyzer_classes()["installed"].__name__ == "Installed"

    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            ("no_such_package_here:Plugin", "ModuleNotFoundError"),
            (f"{__name__}:NoSuchClass", "AttributeError"),
            (f"{__name__}:NOT_AN_ANALYZER", "is no subclass of BaseAnalyzer"),
            ("logging", "is no subclass of BaseAnalyzer"),
            (f"{__name__}:Thief", "An analyzer named 'weights' exists already"),
        ],
    )
    def test_a_broken_one_is_a_warning_that_names_it(self, installed, caplog, value, reason):
        installed(broken=value, fine=f"{__name__}:Installed")
        with caplog.at_level(logging.WARNING, "analyzer"):
            classes = registry.analyzer_classes()
        assert list(classes) == [*BUILT_IN, "installed"]
        assert classes["weights"].__name__ == "WeightAnalyzer"
        (message,) = caplog.messages
        assert message.startswith("the analyzer plugin 'broken' cannot be loaded: ")
        assert reason in message

    def test_what_is_registered_goes_before_what_is_installed(self, installed):
        installed(anything=f"{__name__}:Installed")
        mine = made("installed")
        register_analyzer(mine)
        assert registry.analyzer_classes()["installed"] is mine


class TestRun:
    @pytest.fixture
    def model(self):
        return keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, activation="softmax")])

    def analyse(self, model, folder, **options):
        config = AnalysisConfig(save_plots=False, progress=False, n_bootstrap=0, analyze_weights=False)
        return ModelAnalyzer({"m": model}, config=config, output_dir=folder, **options).analyze()

    def test_registered_installed_and_passed_analyses_run(self, model, tmp_path, installed):
        installed(anything=f"{__name__}:Installed")
        register_analyzer(Minimal)

        class Passed(Minimal):
            def analyze(self, results, data, cache):
                results.passed = {"m": 1}

        results = self.analyse(model, tmp_path, analyzers=[Passed])
        assert results.custom_metrics == {"m": {"seen": True}}
        assert results.installed == {"m": np.float32(0.5)}
        assert results.passed == {"m": 1}

    def test_a_plugin_that_takes_a_reserved_name_fails_alone(self, model, tmp_path):
        class Greedy(Minimal):
            def analyze(self, results, data, cache):
                results.weights = {"m": {"mean": 0.5}}

        register_analyzer(Greedy)
        register_analyzer(Minimal)
        results = self.analyse(model, tmp_path)
        assert results.custom_metrics == {"m": {"seen": True}}
        assert results.weights == {}
        assert "results.weights is reserved" in results.Greedy["m"].error


class TestBase:
    class Asks(Minimal):
        name = "asks"

    def test_models_that_do_not_apply_or_break_lose_nothing_else(self, caplog):
        def work(name):
            if name == "skip":
                raise Unsupported("it has no layers")
            if name == "break":
                raise ValueError("3 is not 4")
            return name.upper()

        analyzer = self.Asks(dict.fromkeys(("a", "skip", "break", "b")), AnalysisConfig(verbose=True))
        with caplog.at_level(logging.INFO, "analyzer"):
            found = analyzer.each_model(work)
        assert list(found) == ["a", "skip", "break", "b"]
        assert (found["a"], found["b"], found["skip"]) == ("A", "B", Skipped("it has no layers"))
        assert isinstance(found["break"], Failed)
        assert found["break"].error == "ValueError: 3 is not 4"
        assert found["break"].where.startswith("work, line ")
        assert found["break"].where.endswith("of test_registry.py")
        assert caplog.messages[0] == "asks of a: ok"
        assert caplog.messages[1] == "asks of skip: skipped: it has no layers"
        assert caplog.messages[2].startswith("asks of break: failed: ValueError: 3 is not 4 (in work")

    def test_verbose_decides_the_level(self, caplog):
        with caplog.at_level(logging.INFO, "analyzer"):
            self.Asks({"a": None}, AnalysisConfig(verbose=False)).each_model(str)
        assert caplog.messages == []

    def test_an_analysis_asks_for_nothing_unless_it_says_so(self):
        assert Minimal({}, AnalysisConfig()).needs() == ()
        with pytest.raises(TypeError, match="abstract"):
            BaseAnalyzer({}, AnalysisConfig())

    def test_a_name_that_was_given_is_inherited_and_one_from_the_class_is_not(self):
        assert type("Heir", (Installed,), {}).name == "installed"
        assert type("Heir", (Minimal,), {}).name == "Heir"
        assert type("Heir", (Minimal,), {"name": "other"}).name == "other"

    def test_interrupts_are_not_results(self):
        def interrupt():
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            outcome(interrupt)
        assert outcome(lambda: 3) == 3

    def test_an_error_without_a_trace_has_no_place(self):
        assert failed(ValueError("x")) == Failed("ValueError: x", "?")

    def test_material_is_what_was_gathered_or_the_reason_why_not(self):
        need = Predictions()
        assert material({"m": {need: 5}}, "m", need) == 5
        with pytest.raises(Unsupported, match="no data"):
            material({"m": {need: Skipped("no data")}}, "m", need)
        with pytest.raises(AnalyzerError, match="cannot be opened"):
            material({"m": {need: AnalyzerError("cannot be opened")}}, "m", need)
