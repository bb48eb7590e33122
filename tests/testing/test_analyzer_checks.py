"""The conformance suite for analyses: ours pass it, and each broken one fails the check that is meant for it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest

from analyzer.analyzers import registry
from analyzer.analyzers.base import BaseAnalyzer, material
from analyzer.analyzers.registry import analyzer_classes
from analyzer.data_types import Estimate, Finding
from analyzer.inspection.needs import Predictions
from analyzer.testing import ANALYZER_CHECKS, analyzer_checks, check_analyzer
from analyzer.testing.specimens import KINDS

pytestmark = pytest.mark.slow


class Good(BaseAnalyzer):
    """As a careful third party writes them."""

    name = "entropy_of_others"

    def requires_data(self):
        return True

    def needs(self):
        return (Predictions(),)

    def analyze(self, results, data, cache):
        def one(model_name):
            outputs = material(cache, model_name, Predictions())
            mean = float(np.mean([np.abs(output.raw).mean() for output in outputs.values()]))
            finding = Finding(kind="seen", layer=None, severity="info", evidence={"mean": mean}, message="Seen.")
            estimate = Estimate(value=mean, n=len(data.y_data))
            return {"mean": estimate, "curve": np.arange(3.0), "findings": (finding,)}

        results.entropy_of_others = self.each_model(one)


class Guides(BaseAnalyzer):
    """The guide's own: no name, no needs."""

    def requires_data(self):
        return True

    def analyze(self, results, data, cache):
        results.custom_metrics = {name: {"my_score": 0.99} for name in self.models}


def analyzed(method):
    """An analysis that does what the function says."""
    return type("Bad", (Guides,), {"analyze": method, "__module__": __name__})


class NameTaken(Guides):
    name = "findings"


class NameOfTwoWords(Guides):
    name = "two words"


class LooksWhenMade(Guides):
    def __init__(self, models, config):
        super().__init__(models, config)
        self.count = [model.count_params() for model in models.values()]


class SaysMaybe(Guides):
    def requires_data(self):
        return "maybe"


class AnyNeed:
    requires_data = False

    def taps(self, view):
        return ()

    def finish(self, collected, context):
        return 1


@dataclass
class ThawedNeed(AnyNeed):
    def __hash__(self):
        return 3


@dataclass(frozen=True)
class NumberedNeed(AnyNeed):
    number: int


class NeedsThawed(Guides):
    def needs(self):
        return (ThawedNeed(),)


class NeedsNonsense(Guides):
    def needs(self):
        return (Predictions, 5)


class NeedsOthersEachTime(Guides):
    number = 0

    def needs(self):
        type(self).number += 1
        return (NumberedNeed(self.number),)


class DeniesThatItRequiresData(Good):
    name = "denies"

    def requires_data(self):
        return False

    def analyze(self, results, data, cache):
        results.denies = {name: len(data.x_data) for name in self.models}


class SkipsNothing(Good):
    """Raises for the broken model, and so loses the good one."""

    name = "skips_nothing"

    def analyze(self, results, data, cache):
        results.skips_nothing = {name: len(material(cache, name, Predictions())) for name in self.models}


def returns_only(self, results, data, cache):
    return {"m": 1}


def raises(self, results, data, cache):
    raise ZeroDivisionError("by nothing")


def takes_weights(self, results, data, cache):
    results.weights = {"model": {"mean": 0.5}}


def takes_findings(self, results, data, cache):
    results.custom_metrics = dict.fromkeys(self.models, 1)
    results.findings["model"] = (Finding(kind="k", layer=None, severity="info", message="Mine."),)


def keeps_models(self, results, data, cache):
    results.custom_metrics = {name: {"deep": [object()]} for name in self.models}


def keeps_a_circle(self, results, data, cache):
    circle = {}
    circle["circle"] = circle
    results.custom_metrics = circle


def keys_alike(self, results, data, cache):
    results.custom_metrics = {name: {1: "a", "1": "b"} for name in self.models}


def keeps_a_set(self, results, data, cache):
    results.custom_metrics = {name: {"b", "a"} for name in self.models}


_random = random.Random(1)  # noqa: S311


def draws_lots(self, results, data, cache):
    results.custom_metrics = {name: _random.random() for name in self.models}


def counts_models(self, results, data, cache):
    results.custom_metrics = {name: place for place, name in enumerate(self.models)}


def moves_weights(self, results, data, cache):
    for model in self.models.values():
        model.weights[0].assign(model.weights[0] + 1.0)
    results.custom_metrics = dict.fromkeys(self.models, 1)


def freezes_a_layer(self, results, data, cache):
    for model in self.models.values():
        model.layers[-1].trainable = False
    results.custom_metrics = dict.fromkeys(self.models, 1)


def sets_a_variable(self, results, data, cache):
    os.environ["KERAS_ANALYZER_SET_BY_A_TEST"] = "1"
    results.custom_metrics = dict.fromkeys(self.models, 1)


def moves_data(self, results, data, cache):
    data.x_data[:] = 0
    results.custom_metrics = dict.fromkeys(self.models, 1)


def writes_a_file(self, results, data, cache):
    with Path("/tmp/keras_analyzer_written_by_a_test.txt").open("w") as file:  # noqa: S108
        file.write("x")
    Path(file.name).unlink()
    results.custom_metrics = dict.fromkeys(self.models, 1)


def leaves_a_figure(self, results, data, cache):
    import matplotlib.pyplot as plt

    plt.figure()
    results.custom_metrics = dict.fromkeys(self.models, 1)


BROKEN = {
    "int": (int, "check_name_is_legal", "no subclass of BaseAnalyzer"),
    "name taken": (NameTaken, "check_name_is_legal", "a name of AnalysisResults"),
    "name of two words": (NameOfTwoWords, "check_name_is_legal", "letters, digits"),
    "looks when made": (LooksWhenMade, "check_it_can_be_made", "asked for 'model'"),
    "says maybe": (SaysMaybe, "check_it_can_be_made", "'maybe'"),
    "needs thawed": (NeedsThawed, "check_needs_are_frozen", "ThawedNeed"),
    "needs nonsense": (NeedsNonsense, "check_needs_are_frozen", "expected frozen dataclasses"),
    "needs others each time": (NeedsOthersEachTime, "check_needs_are_frozen", "equal each time"),
    "takes weights": (analyzed(takes_weights), "check_only_its_own_results", "results.weights is reserved"),
    "takes findings": (
        analyzed(takes_findings),
        "check_only_its_own_results",
        "results.findings, which is not its own",
    ),
    "returns only": (analyzed(returns_only), "check_every_kind_of_model", "returned a dict"),
    "sets nothing": (analyzed(lambda *_: None), "check_every_kind_of_model", "nothing was set"),
    "raises": (analyzed(raises), "check_every_kind_of_model", "ZeroDivisionError"),
    "denies that it requires data": (DeniesThatItRequiresData, "check_without_data", "it says False"),
    "keeps objects": (analyzed(keeps_models), "check_results_survive_a_file", r"\['deep'\]\[0\] is a object"),
    "keeps a circle": (analyzed(keeps_a_circle), "check_results_survive_a_file", "RecursionError"),
    "keys alike": (analyzed(keys_alike), "check_results_survive_a_file", "the same as text"),
    "keeps a set": (analyzed(keeps_a_set), "check_results_survive_a_file", "sorted list"),
    "draws lots": (analyzed(draws_lots), "check_same_seed_same_results", "in two equal runs"),
    "counts models": (analyzed(counts_models), "check_order_of_models", "given in two orders"),
    "moves weights": (analyzed(moves_weights), "check_nothing_is_touched", "weights"),
    "freezes a layer": (analyzed(freezes_a_layer), "check_nothing_is_touched", "trainable"),
    "sets a variable": (analyzed(sets_a_variable), "check_nothing_is_touched", "environment"),
    "moves data": (analyzed(moves_data), "check_nothing_is_touched", "inputs or labels"),
    "writes a file": (analyzed(writes_a_file), "check_no_files_no_figures", "written_by_a_test"),
    "leaves a figure": (analyzed(leaves_a_figure), "check_no_files_no_figures", "left 1 open"),
    "skips nothing": (SkipsNothing, "check_one_broken_model", "This layer is broken on purpose"),
}


@pytest.fixture(autouse=True)
def _as_it_was():
    yield
    os.environ.pop("KERAS_ANALYZER_SET_BY_A_TEST", None)
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_analysis_fails_the_check_that_is_meant_for_it(case):
    cls, check, said = BROKEN[case]
    with pytest.raises(AssertionError, match=said) as caught:
        getattr(analyzer_checks, check)(cls)
    assert "breaks the rule" in str(caught.value)
    assert getattr(cls, "__qualname__", "") in str(caught.value)


@pytest.mark.parametrize("check", ANALYZER_CHECKS)
@pytest.mark.parametrize("cls", [Good, Guides], ids=lambda cls: cls.__name__)
def test_a_careful_analysis_passes(check, cls):
    assert check(cls) is None


@pytest.mark.parametrize("name", sorted(registry._BUILT_IN))
def test_our_own_analyses_pass(name):
    assert check_analyzer(analyzer_classes()[name]) is None


def test_every_check_catches_a_broken_analysis():
    assert {check.__name__ for check in ANALYZER_CHECKS} == {check for _, check, _ in BROKEN.values()}


def test_the_first_broken_rule_is_raised():
    with pytest.raises(AssertionError, match="breaks the rule 'the name is legal'"):
        check_analyzer(NameOfTwoWords)


def test_the_specimens_are_of_the_kinds_they_say():
    from analyzer.testing.specimens import build

    made = {kind: build(kind).model for kind in KINDS}
    assert len(made["two_outputs"].outputs) == 2
    assert not made["uncompiled"].compiled
    assert made["functional"].compiled
    assert isinstance(made["nested"].layers[0], keras.Model)
    assert type(made["subclassed"]) is not keras.Model


@pytest.mark.once
def test_pytest_is_not_needed():
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "from analyzer.testing import ANALYZER_CHECKS, check_analyzer, check_visualizer\n"
        "print(len(ANALYZER_CHECKS))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(len(ANALYZER_CHECKS)), done.stderr
