"""The conformance suite for visualizers: a careful one passes it, each broken one fails the check meant for it."""

from __future__ import annotations

import itertools
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

from analyzer.data_types import AnalysisResults
from analyzer.testing import VISUALIZER_CHECKS, check_visualizer, visualizer_checks
from analyzer.visualizers.base import BaseVisualizer
from analyzer.visualizers.isolation import open_figures

pytestmark = [pytest.mark.plain, pytest.mark.slow]


def results():
    found = AnalysisResults(("a", "b <b>"))
    found.custom_metrics = {name: {"my_score": 0.99} for name in found.model_names}
    return found


class Guides(BaseVisualizer):
    """As the guide writes them."""

    def create_visualizations(self):
        if not hasattr(self.results, "custom_metrics"):
            return
        fig, ax = plt.subplots()
        self.draw(ax)
        if self.config.save_plots:
            self._save_figure(fig, "my_custom_plot")
        plt.close(fig)

    def draw(self, ax):
        scores = [entry["my_score"] for entry in self.results.custom_metrics.values()]
        ax.bar(range(len(scores)), scores, color=[self.model_colors[name] for name in self.results.custom_metrics])


class Takes(Guides):
    name = "summary"


class Raises(Guides):
    def draw(self, ax):
        raise RuntimeError("not today")


class NeedsLiveObjects(Guides):
    def draw(self, ax):
        assert isinstance(self.results.custom_metrics, Kept), "these were loaded"


class Kept(dict):
    """What a file does not keep."""


class NeedsSomething(Guides):
    def create_visualizations(self):
        self.draw(plt.figure().add_subplot())
        plt.close("all")


class LeavesOpen(Guides):
    def draw(self, ax):
        plt.figure()


class ChangesSettings(Guides):
    def draw(self, ax):
        plt.rcParams["axes.titlesize"] = 44.0


class WritesElsewhere(Guides):
    def draw(self, ax):
        path = Path("/tmp/keras_analyzer_figure_of_a_test.png")  # noqa: S108
        path.write_bytes(b"x")
        path.unlink()


class SavesAlways(Guides):
    def draw(self, ax):
        self._save_figure(ax.figure, "always")


class ChangesResults(Guides):
    def draw(self, ax):
        self.results.custom_metrics["a"]["my_score"] += 1.0


class NeverTheSame(Guides):
    numbers = itertools.count()

    def draw(self, ax):
        ax.set_title(f"figure {next(self.numbers)}")


BROKEN = {
    int: ("check_name_is_legal", "no subclass of BaseVisualizer"),
    Takes: ("check_name_is_legal", "'summary' exists already"),
    Raises: ("check_it_draws", "with fresh results: RuntimeError: not today"),
    NeedsLiveObjects: ("check_it_draws", "with results that were loaded: AssertionError"),
    NeedsSomething: ("check_nothing_to_draw", "AttributeError"),
    LeavesOpen: ("check_figures_are_closed", "1 are open"),
    ChangesSettings: ("check_settings_are_kept", "axes.titlesize"),
    WritesElsewhere: ("check_files_are_its_own", "figure_of_a_test"),
    SavesAlways: ("check_files_are_its_own", "save_plots=False writes nothing"),
    ChangesResults: ("check_results_are_untouched", "my_score"),
    NeverTheSame: ("check_same_bytes", "my_custom_plot.png"),
}


@pytest.fixture(autouse=True)
def _as_it_was():
    with mpl.rc_context():
        yield
    plt.close("all")


@pytest.mark.parametrize("cls", BROKEN, ids=lambda cls: cls.__name__)
def test_a_broken_visualizer_fails_the_check_that_is_meant_for_it(cls):
    check, said = BROKEN[cls]
    given = results()
    if cls is NeedsLiveObjects:
        given.custom_metrics = Kept(given.custom_metrics)
    with pytest.raises(AssertionError, match=said) as caught:
        getattr(visualizer_checks, check)(cls, given)
    assert "breaks the rule" in str(caught.value)


@pytest.mark.parametrize("check", VISUALIZER_CHECKS)
def test_the_guides_own_passes(check):
    before = open_figures()
    assert check(Guides, results()) is None
    assert open_figures() == before


def test_our_own_pass():
    from analyzer.visualizers.registry import BUILT_IN
    from tests.visualizers import synthetic

    for cls in BUILT_IN.values():
        assert check_visualizer(cls, synthetic.results(("a", "b"))) is None


def test_every_check_catches_a_broken_visualizer():
    assert {check.__name__ for check in VISUALIZER_CHECKS} == {check for check, _ in BROKEN.values()}


def test_the_first_broken_rule_is_raised():
    with pytest.raises(AssertionError, match="'it draws fresh and loaded results'"):
        check_visualizer(Raises, results())
