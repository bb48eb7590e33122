"""Figures as files: their names, formats and bytes, and what drawing leaves behind."""

from __future__ import annotations

import subprocess
import sys
import types
import xml.etree.ElementTree as ET

import matplotlib
import pytest

from analyzer.config import AnalysisConfig
from analyzer.errors import ConfigError, OutputError
from analyzer.visualizers import registry
from analyzer.visualizers.base import BaseVisualizer
from analyzer.visualizers.registry import BUILT_IN, register_visualizer, visualizer_classes
from tests.visualizers import synthetic

pytestmark = [pytest.mark.plain, pytest.mark.slow]

FILES = {
    "summary_dashboard",
    "weight_learning_journey",
    "weight_histograms",
    "confidence_calibration_analysis",
    "information_flow_analysis",
    "relevance_analysis",
    "robustness_analysis",
    "shift_analysis",
    "training_dynamics",
    "pareto_analysis",
    "architecture",
}
MAGIC = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}


def draw_all(visualizer, results, **options):
    for name in BUILT_IN:
        visualizer(name, results, **options).create_visualizations()


@pytest.mark.parametrize("kind", MAGIC)
def test_every_figure_in_every_format_and_no_other_file(visualizer, tmp_path, kind):
    draw_all(visualizer, synthetic.results(), save_format=kind)
    files = list(tmp_path.rglob("*.*"))
    assert {f.name for f in files} == {f"{name}.{kind}" for name in FILES}
    assert all(f.read_bytes().startswith(MAGIC[kind]) for f in files)


def test_save_plots_off_writes_nothing(visualizer, tmp_path):
    draw_all(visualizer, synthetic.results(), save_plots=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", MAGIC)
def test_two_runs_give_the_same_bytes(visualizer, tmp_path, kind):
    runs = []
    for _ in range(2):
        for name in ("calibration", "weights"):
            visualizer(name, synthetic.results(), save_format=kind).create_visualizations()
        runs.append({f.name: f.read_bytes() for f in (tmp_path / "figures").iterdir()})
    assert runs[0] == runs[1]
    assert not any(b"CreationDate" in data or b"<dc:date>" in data for data in runs[0].values())


def test_names_are_text_in_svg_and_never_markup_or_paths(visualizer, tmp_path):
    draw_all(visualizer, synthetic.results(synthetic.NASTY), save_format="svg")
    root = ET.parse(tmp_path / "figures" / "summary_dashboard.svg").getroot()  # noqa: S314 - our own file
    words = {"".join(e.itertext()) for e in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"<b>bold</b> & co", "$x$", "_hidden", "../../etc"} <= words
    assert not list(root.iter("{http://www.w3.org/2000/svg}b"))
    assert {f.parent for f in tmp_path.rglob("*.*")} == {tmp_path / "figures"}


def test_dpi_has_an_effect_and_draft_caps_it(visualizer, tmp_path):
    def width(**options):
        visualizer("training_dynamics", synthetic.results(), **options).create_visualizations()
        data = (tmp_path / "figures" / "training_dynamics.png").read_bytes()
        return int.from_bytes(data[16:20], "big")

    assert width(dpi=100) == 700
    assert width(dpi=50) == 350
    assert width(dpi=300, plot_style="draft") == 720


def test_a_very_tall_figure_gets_fewer_dots_instead_of_none(visualizer, tmp_path):
    from matplotlib.figure import Figure

    path = visualizer("training_dynamics", synthetic.results(), dpi=300)._save_figure(Figure((1.0, 400.0)), "tall")
    height = int.from_bytes(path.read_bytes()[20:24], "big")
    assert 59_000 < height <= 60_000


SCRIPT = """
import matplotlib, sys, warnings
matplotlib.rcParams["font.size"] = 23.5
matplotlib.rcParams["text.usetex"] = True
matplotlib.rcParams["savefig.bbox"] = "tight"
before = repr(sorted(dict.items(matplotlib.rcParams)))
sys.path.insert(0, {root!r})
from analyzer.config import AnalysisConfig
from analyzer.visualizers.plot import plot
from analyzer.visualizers.registry import BUILT_IN
from analyzer.visualizers.style import model_colors
from tests.visualizers import synthetic
results = synthetic.results()
filters = list(warnings.filters)
for one in BUILT_IN.values():
    one(results, AnalysisConfig(dpi=50), {out!r}, model_colors(results.model_names)).create_visualizations()
plot(results.calibration["mlp"])
assert repr(sorted(dict.items(matplotlib.rcParams))) == before
assert list(warnings.filters) == filters
assert "matplotlib.pyplot" not in sys.modules
assert not {{"keras", "tensorflow", "torch", "jax"}} & set(sys.modules)
print("untouched")
"""


def test_settings_backend_and_filters_are_untouched_and_pyplot_and_keras_are_not_imported(tmp_path, pytestconfig):
    script = SCRIPT.format(root=str(pytestconfig.rootpath), out=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "untouched", done.stderr


def test_open_figures_stay_as_they_are(visualizer):
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots()
    ax.plot([1, 2])
    try:
        draw_all(visualizer, synthetic.results())
        assert plt.get_fignums() == [figure.number]
        assert plt.gca() is ax
    finally:
        plt.close(figure)


def test_settings_come_back_when_a_panel_breaks(visualizer):
    results = synthetic.results()
    results.training_dynamics["mlp"].curves.clear()
    before = repr(sorted(dict.items(matplotlib.rcParams)))
    with pytest.raises(KeyError, match="loss"):
        visualizer("training_dynamics", results).create_visualizations()
    assert repr(sorted(dict.items(matplotlib.rcParams))) == before


class MyCustomVisualizer(BaseVisualizer):
    """The example of the guide, as written."""

    def create_visualizations(self) -> None:
        import matplotlib.pyplot as plt

        if not hasattr(self.results, "custom_metrics"):
            return

        fig, ax = plt.subplots()
        ax.bar(list(self.results.custom_metrics), [m["my_score"] for m in self.results.custom_metrics.values()])

        if self.config.save_plots:
            self._save_figure(fig, "my_custom_plot")
        plt.close(fig)


def test_the_guides_own_visualizer_works(tmp_path):
    results = synthetic.results()
    one = MyCustomVisualizer(results, AnalysisConfig(), tmp_path, {})
    one.create_visualizations()
    assert not list(tmp_path.iterdir())
    results.custom_metrics = {"mlp": {"my_score": 0.99}}
    one.create_visualizations()
    assert [f.name for f in tmp_path.iterdir()] == ["my_custom_plot.png"]
    assert one.name == "MyCustomVisualizer"
    assert (one.results, one.output_dir, one.model_colors) == (results, tmp_path, {})


@pytest.mark.parametrize("name", ["../out", "a/b", "a\\b", "", ".", "..", "nul\0", "a\nb"])
def test_names_of_figures_are_plain(tmp_path, name):
    from matplotlib.figure import Figure

    one = MyCustomVisualizer(synthetic.results(), AnalysisConfig(), tmp_path / "out", {})
    with pytest.raises(ConfigError, match="plain file name"):
        one._save_figure(Figure(), name)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path):
    from matplotlib.figure import Figure

    (tmp_path / "file").write_text("")
    one = MyCustomVisualizer(synthetic.results(), AnalysisConfig(), tmp_path / "file" / "out", {})
    with pytest.raises(OutputError, match="cannot be written"):
        one._save_figure(Figure(), "x")


@pytest.fixture
def _clean_registry(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})


@pytest.mark.usefixtures("_clean_registry")
def test_registered_visualizers_are_listed_after_the_built_in_ones():
    assert list(visualizer_classes())[: len(BUILT_IN)] == list(BUILT_IN)
    assert register_visualizer(MyCustomVisualizer) is MyCustomVisualizer
    assert visualizer_classes()["MyCustomVisualizer"] is MyCustomVisualizer


@pytest.mark.usefixtures("_clean_registry")
def test_what_is_no_visualizer_or_takes_a_name_is_refused():
    with pytest.raises(ConfigError, match="expected a subclass"):
        register_visualizer(int)
    with pytest.raises(ConfigError, match="taken"):
        register_visualizer(type("Mine", (MyCustomVisualizer,), {"name": "summary"}))


@pytest.mark.usefixtures("_clean_registry")
def test_a_broken_plugin_is_a_warning_with_its_name(monkeypatch, caplog):
    def broken():
        raise ImportError("no such wheel")

    entries = [
        types.SimpleNamespace(name="broken", value="other:Broken", load=broken),
        types.SimpleNamespace(name="wrong", value="other:thing", load=lambda: 3),
        types.SimpleNamespace(name="fine", value="other:Fine", load=lambda: MyCustomVisualizer),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries if group == "analyzer.visualizers" else [])
    for _ in range(2):
        found = visualizer_classes()
    assert [message.split("'")[1] for message in caplog.messages] == ["broken", "wrong"]
    assert caplog.messages[0].endswith("cannot be loaded: ImportError: no such wheel (other:Broken)")
    assert found["MyCustomVisualizer"] is MyCustomVisualizer
