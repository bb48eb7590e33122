"""Every figure, from one model to ten, with names of every kind: complete, legible, nothing over the edge."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from analyzer.data_types.training import TrainingResult
from analyzer.visualizers.layout import CAPTION
from analyzer.visualizers.registry import BUILT_IN
from analyzer.visualizers.style import STYLES, style_context
from analyzer.visualizers.weight_visualizer import HistogramVisualizer
from tests.visualizers import synthetic

pytestmark = [pytest.mark.plain, pytest.mark.slow]

CASES = {
    "one": lambda: synthetic.results(("mlp",)),
    "three": synthetic.results,
    "ten": lambda: synthetic.results(tuple(f"model_{i}" for i in range(10))),
    "long names": lambda: synthetic.results(
        (synthetic.LONG, synthetic.LONG + "2", "short"),
        layer_name="very/long/path/of_a/layer/in/a_model/block_{}/conv2d",
    ),
    "strange names": lambda: synthetic.results(synthetic.NASTY),
    "deep": lambda: synthetic.results(("a", "b"), layers=200),
    "every task": synthetic.every_task,
    "two architectures": lambda: synthetic.results(("a", "b"), same=False),
    "little known": lambda: flows(synthetic.flow(full=False, broken=True), synthetic.flow(1, units=300, broken=True)),
    "one layer": lambda: flows(synthetic.flow(ids=("dense",))),
}


def flows(*found):
    """Results of information flow alone."""
    results = synthetic.AnalysisResults(tuple(f"model_{i}" for i in range(len(found))))
    for name, result in zip(results.model_names, found, strict=True):
        results.information_flow[name] = result
    return results


def drawn(visualizer, name, results, **options):
    """The figure of a visualizer after a draw, or None."""
    one = visualizer(name, results, **options)
    with style_context(one.style):
        figure = one._compose()
        if figure is not None:
            FigureCanvasAgg(figure)
            figure.canvas.draw()
    return figure


def visible_texts(figure: Figure) -> list[Text]:
    texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    return [t for t in texts if not t.axes or t.axes.axison or t not in _axis_texts(t.axes)]


def _axis_texts(ax) -> list[Text]:
    return [*ax.xaxis.findobj(Text), *ax.yaxis.findobj(Text)]


def all_words(figure: Figure) -> str:
    return " ".join(" ".join(t.get_text().split()) for t in visible_texts(figure))


def shown_tick_labels(axis):
    low, high = sorted(axis.get_view_interval())
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    return [t.label1 for t in ticks if low <= t.get_loc() <= high and t.label1.get_visible() and t.label1.get_text()]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", BUILT_IN)
def test_no_text_leaves_the_figure_and_no_tick_labels_overlap(visualizer, name, case):
    figure = drawn(visualizer, name, CASES[case]())
    if figure is None:
        assert case in ("every task", "little known", "one layer")
        return
    renderer = figure.canvas.get_renderer()
    width, height = figure.canvas.get_width_height()
    ticks = {id(t) for ax in figure.axes for axis in (ax.xaxis, ax.yaxis) for t in axis.findobj(Text)}
    shown = [t for ax in figure.axes if ax.axison for axis in (ax.xaxis, ax.yaxis) for t in shown_tick_labels(axis)]
    words = [t for t in visible_texts(figure) if id(t) not in ticks] + shown
    slack = 2
    for text in words:
        box = text.get_window_extent(renderer)
        inside = box.x0 > -slack and box.y0 > -slack and box.x1 < width + slack and box.y1 < height + slack
        assert inside, (text.get_text(), box, width, height)
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis) if ax.axison else ():
            boxes = [t.get_window_extent(renderer).shrunk(0.9, 0.7) for t in shown_tick_labels(axis)]
            pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
            assert not any(a.overlaps(b) for a, b in pairs), [t.get_text() for t in shown_tick_labels(axis)]


@pytest.mark.parametrize("case", ["three", "long names"])
@pytest.mark.parametrize("style", STYLES)
def test_captions_stay_in_their_panel(visualizer, style, case):
    for name in BUILT_IN:
        figure = drawn(visualizer, name, CASES[case](), plot_style=style)
        renderer = figure.canvas.get_renderer()
        boxes = []
        for ax in figure.axes:
            boxes += [t.get_window_extent(renderer) for t in ax.findobj(Text) if t.get_gid() == CAPTION]
            boxes.append(ax.get_window_extent(renderer))
        pairs = [(a.shrunk(0.97, 0.9), b.shrunk(0.97, 0.9)) for i, a in enumerate(boxes) for b in boxes[:i]]
        clashes = sum(a.overlaps(b) for a, b in pairs)
        assert clashes == 0, (name, style)


@pytest.mark.parametrize("name", BUILT_IN)
def test_no_panel_is_empty_and_each_has_a_title(visualizer, name):
    figure = drawn(visualizer, name, synthetic.results())
    assert figure.axes
    for ax in figure.axes:
        assert ax.get_title(loc="left")
        assert ax.lines or ax.collections or ax.patches


def test_whoever_is_missing_is_named_with_the_reason(visualizer):
    words = all_words(drawn(visualizer, "training_dynamics", synthetic.results()))
    assert "Not shown: overfit – training dynamics skipped: no training history was given for this model" in words
    words = all_words(drawn(visualizer, "information_flow", synthetic.results()))
    assert "Not shown: overfit – information flow failed: ValueError: a layer returned a dict" in words


def test_a_model_without_a_history_has_no_curves_and_is_named(visualizer):
    results = synthetic.results()
    name = next(iter(results.training_dynamics))
    results.training_dynamics[name] = TrainingResult(
        n_runs=0, epochs=np.empty(0, dtype=np.int64), performance=None, performance_reason="no history", loss=None
    )
    assert f"Not shown: {name} – no history" in all_words(drawn(visualizer, "training_dynamics", results))


def test_long_names_are_shown_whole_somewhere(visualizer):
    results = synthetic.results((synthetic.LONG, synthetic.LONG + "2", "short"))
    for name in ("summary", "calibration", "weights"):
        words = all_words(drawn(visualizer, name, results)).replace(" ", "")
        assert synthetic.LONG in words
        assert synthetic.LONG + "2" in words


def test_strange_names_are_shown_as_they_are(visualizer):
    words = all_words(drawn(visualizer, "summary", synthetic.results(synthetic.NASTY)))
    for name in ("$x$", "<b>bold</b> & co", "_hidden", "../../etc", "a\\nb\\tc", "100 % \\alpha^2", "[U+202E]gnp.exe"):
        assert name in words
    assert "U+1F680" in words


def test_heatmap_keeps_what_matters_in_order_and_says_what_it_leaves_out(visualizer):
    figure = drawn(visualizer, "weights", synthetic.results(("a", "b"), layers=30), max_layers_heatmap=5)
    (health,) = [ax for ax in figure.axes if ax.get_title(loc="left") == "Health by layer"]
    rows = [t.get_text() for t in health.get_yticklabels()]
    # The sick layer 2 and the dead layer 29 stay, in order of execution.
    assert len(rows) == 5
    assert rows[0] == "block/layer_2"
    assert rows[-1] == "block/layer_29"
    assert rows == sorted(rows, key=lambda r: int(r.rpartition("_")[2]))
    assert "25 of 30 layers not shown" in " ".join(" ".join(t.get_text().split()) for t in health.texts)


def test_flow_limit_is_written_on_the_figure(visualizer):
    words = all_words(drawn(visualizer, "information_flow", synthetic.results(layers=20), max_layers_info_flow=4))
    assert "16 of 20 layers not shown" in words


def test_flow_figure_has_its_panels_and_names_what_it_lacks(visualizer):
    figure = drawn(visualizer, "information_flow", synthetic.results(("mlp",)))
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == [
        "Activations",
        "Gradients",
        "Gain",
        "Cosine of inputs",
        "Effective rank",
        "What layers know",
        "Specialization",
        "Activation health",
        "Units",
        "Similarity of layers (linear CKA)",
    ]
    bare = drawn(visualizer, "information_flow", flows(synthetic.flow(full=False)))
    assert [ax.get_title(loc="left") for ax in bare.axes] == ["Activations", "Activation health", "Units"]
    words = all_words(bare)
    assert "Not shown: gradients – no labels were given" in words
    assert "Not shown: gain, cosine of inputs, effective rank, what layers know, specialization, similarity" in words
    assert "! 4 of 32 units of relu_1 were zero for all 300 samples." in words


def test_flow_maps_are_those_of_the_most_troubled_models_and_say_so(visualizer):
    found = [synthetic.flow(i, broken=i == 8) for i in range(10)]
    figure = drawn(visualizer, "information_flow", flows(*found))
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert [title for title in titles if title.startswith("Units")] == [f"Units: model_{i}" for i in (0, 1, 8)]
    words = all_words(figure)
    assert "drawn of 3 of 10 models" in words
    assert "✕ model_8: NaN or infinity first appears in the output of relu." in words
    assert "5 further warnings and errors are in the results file" in words


def test_a_layer_has_one_label_in_all_panels_of_the_flow_figure(visualizer):
    results = synthetic.results(("a",), layer_name="very/long/path/of_a/layer/in/a_model/block_{}/conv2d")
    figure = drawn(visualizer, "information_flow", results)
    named = [[t.get_text() for t in ax.get_yticklabels()] for ax in figure.axes]
    rows = [names for names in named if any(names) and "(1)" not in names[0]]
    assert len(rows) == 4
    assert all(names == rows[0] for names in rows)


def test_layers_that_could_not_be_followed_are_named_up_to_a_limit(visualizer):
    lost = dataclasses.replace(synthetic.flow(), skipped={f"layer_{i}": "it returned a dict" for i in range(20)})
    words = all_words(drawn(visualizer, "information_flow", flows(lost)))
    assert "Not followed: layer_0 – it returned a dict" in words
    assert "Not followed: 14 further layers" in words


def test_histogram_limit_is_written_on_the_figure(visualizer):
    results = synthetic.results(layers=20)
    plain = visualizer("weights", results, max_layers_heatmap=6)
    figure = HistogramVisualizer(results, plain.config, plain.output_dir, plain.model_colors).figure()
    assert "14 of 20 layers not shown" in all_words(figure)


def test_every_panel_of_the_calibration_figure_tells_its_sample_size(visualizer):
    figure = drawn(visualizer, "calibration", synthetic.every_task())
    for ax in figure.axes:
        texts = [t.get_text() for t in [*ax.texts, *ax.get_yticklabels()]]
        assert any("n = 300" in " ".join(t.split()) for t in texts), ax.get_title(loc="left")


def test_styles_differ(visualizer):
    figures = {style: drawn(visualizer, "calibration", synthetic.results(), plot_style=style) for style in STYLES}

    def seen(figure):
        ax = figure.axes[0]
        return (
            figure.get_figwidth(),
            ax.xaxis.label.get_fontsize(),
            round(max(line.get_linewidth() for line in ax.lines), 2),
            len(ax.collections),
        )

    publication, presentation, draft = (seen(figures[s]) for s in ("publication", "presentation", "draft"))
    assert publication[0] == 7.0
    assert presentation[1] >= 2 * publication[1]
    assert presentation[2] >= 2 * publication[2]
    assert publication[3] > 0 == draft[3]  # bands
    assert figures["draft"].axes[0].lines[0].get_antialiased() is False


def test_type_is_legible_in_print(visualizer):
    for name in BUILT_IN:
        figure = drawn(visualizer, name, synthetic.results())
        assert min(t.get_fontsize() for t in visible_texts(figure)) >= 5.0
        captions = [t for t in figure.findobj(Text) if t.get_gid() == CAPTION]
        assert captions
        assert all(t.get_fontsize() >= 6.5 for t in captions)


def test_one_model_has_no_empty_similarity_panel_but_a_note(visualizer):
    figure = drawn(visualizer, "summary", synthetic.results(("mlp",)))
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert "Reliability" in titles
    assert not any("imilarity" in title for title in titles)
    assert "there is one model only" in all_words(figure)


def test_matrix_of_similarity_stands_in_for_different_architectures(visualizer):
    figure = drawn(visualizer, "summary", synthetic.results(("a", "b", "c"), same=False))
    assert "Linear CKA of the last hidden layers" in [ax.get_title(loc="left") for ax in figure.axes]


def test_no_results_no_figure(visualizer, tmp_path):
    for name in BUILT_IN:
        visualizer(name, synthetic.AnalysisResults(("a",))).create_visualizations()
    assert not (tmp_path / "figures").exists() or not list((tmp_path / "figures").iterdir())


def test_loaded_results_draw_the_same_figure(visualizer, tmp_path):
    found = synthetic.results()
    found.to_json(tmp_path)
    again = synthetic.AnalysisResults.load(tmp_path)
    for name in ("calibration", "weights"):
        pictures = [np.asarray(drawn(visualizer, name, r).canvas.buffer_rgba()) for r in (found, again)]
        assert np.array_equal(*pictures), name
