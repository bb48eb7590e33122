"""Panels of shift draw the numbers of the results, and the figure says what they mean."""

import dataclasses

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import same_color, to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy.stats import norm

from analyzer.data_types import AnalysisResults, Estimate, Skipped
from analyzer.errors import DataError
from analyzer.visualizers.panels.shift_features import mean_and_deviation, strip
from analyzer.visualizers.panels.shift_rows import by_shift_place, place_rows
from analyzer.visualizers.plot import plot
from analyzer.visualizers.series import cast_of
from analyzer.visualizers.style import style_context
from analyzer.visualizers.text import NameBook
from tests.visualizers import synthetic

pytestmark = pytest.mark.plain


def drawn(result, kind):
    return plot(result, Figure(figsize=(5, 4)).add_subplot(), kind)


def words(ax):
    return " ".join(" ".join(text.get_text().split()) for text in ax.texts)


def marks(ax, *, filled):
    """Points of the marks whose faces are white, or are not."""
    found = []
    for line in ax.lines:
        if line.get_linestyle() == "None" and bool(same_color(line.get_markerfacecolor(), "white")) is not filled:
            found += list(zip(map(float, line.get_xdata()), map(float, line.get_ydata()), strict=True))
    return found


def segments(ax):
    return [one for collection in ax.collections for one in collection.get_segments()]


def series_of(results):
    names = list(results)
    return by_shift_place(cast_of(results, names, {}, NameBook(), 200.0, 8.0).series)


def figure_of(visualizer, name, results, **options):
    one = visualizer(name, results, **options)
    with style_context(one.style):
        figure = one._compose()
        FigureCanvasAgg(figure)
        figure.canvas.draw()
    return figure


def all_words(figure):
    return " ".join(" ".join(text.get_text().split()) for text in figure.findobj(Text))


def titles(figure):
    return [ax.get_title(loc="left") for ax in figure.axes]


def with_shift(**found):
    results = AnalysisResults(tuple(found))
    for name, result in found.items():
        results.shift[name] = result
    return results


def test_drift_is_that_of_each_place_with_its_interval_and_the_level_of_chance():
    result = synthetic.shift()
    ax = drawn(result, "drift_by_place")
    expected = {(place.drift.value, float(i)) for i, place in enumerate(result.places)}
    assert expected == set(marks(ax, filled=True)) | set(marks(ax, filled=False))
    ends = {(round(x, 9), y) for segment in segments(ax) for x, y in segment}
    for i, place in enumerate(result.places):
        assert {(round(place.drift.low, 9), i), (round(place.drift.high, 9), i)} <= ends
    assert [bar.get_width() for bar in ax.patches] == [place.chance for place in result.places]
    assert "data: n = 300, reference: n = 500" in words(ax)


def test_marks_are_filled_where_a_test_alarms_hollow_where_none_does_and_dots_where_none_was_made():
    result = synthetic.shift()
    ax = drawn(result, "drift_by_place")
    silent = [i for i, p in enumerate(result.places) if p.adjusted is not None and p.adjusted > result.level]
    untested = [i for i, p in enumerate(result.places) if p.adjusted is None]
    assert silent
    assert untested
    assert sorted(y for _, y in marks(ax, filled=False)) == silent
    full = max(line.get_markersize() for line in ax.lines)
    small = [line for line in ax.lines if line.get_linestyle() == "None" and line.get_markersize() < full]
    assert sorted(y for line in small for y in line.get_ydata()) == untested
    for said in ("filled: shift found (adjusted p ≤ 0.05)", "hollow: tested, none found", "dot: not tested"):
        assert said in words(ax)
    assert "hollow" not in words(drawn(synthetic.shift(bare=True), "drift_by_place"))


def test_an_output_that_is_called_like_its_layer_has_a_row_of_its_own_and_findings_mean_the_layer():
    ax = drawn(synthetic.shift(), "drift_by_place")
    assert [t.get_text() for t in ax.get_yticklabels()] == [
        "input: image",
        "stem/conv",
        "block/relu",
        "! dense",
        "output: dense",
    ]


def test_an_output_called_output_says_so_once_unless_a_layer_is_called_so():
    for ids, last in ((("a", "b"), "output"), (("a", "output"), "output: output")):
        ax = drawn(synthetic.shift(ids=ids, outputs=("output",)), "drift_by_place")
        assert ax.get_yticklabels()[-1].get_text() == last


def test_places_that_are_kept_are_the_ends_the_largest_drift_findings_and_alarms():
    result = synthetic.shift(ids=tuple(f"layer_{k}" for k in range(60)))
    rows = place_rows(series_of({"a": result}), 7)
    sizes = [place.drift.value for place in result.places]
    assert len(rows.places) == 7
    assert {0, 61, int(np.argmax(sizes)), 60} <= set(rows.places)
    alarming = [i for i, place in enumerate(result.places) if place.adjusted is not None and place.adjusted <= 0.05]
    largest = sorted(alarming, key=lambda i: -sizes[i])[:3]
    assert set(largest) <= set(rows.places)
    assert list(rows.places) == sorted(rows.places)
    calm = dataclasses.replace(
        result, findings=(), places=tuple(dataclasses.replace(p, adjusted=None) for p in result.places)
    )
    spread = place_rows(series_of({"a": calm}), 7).places
    assert max(np.diff(spread)) <= 2 * 62 / 6


def test_a_drift_far_beyond_the_others_is_drawn_on_a_logarithmic_axis():
    assert drawn(synthetic.shift(), "drift_by_place").get_xscale() == "linear"
    far = synthetic.shift(far=1000.0)
    assert drawn(far, "drift_by_place").get_xscale() == "log"
    assert drawn(far, "drift_by_depth").get_yscale() == "log"


def test_a_place_without_a_drift_has_no_mark():
    result = synthetic.shift()
    gone = dataclasses.replace(result.places[1], drift=Estimate(value=None, n=300))
    result = dataclasses.replace(result, places=(result.places[0], gone, *result.places[2:]))
    ax = drawn(result, "drift_by_place")
    at = [y for x, y in marks(ax, filled=True) + marks(ax, filled=False) if np.isfinite(x)]
    assert sorted(at) == [0, 2, 3, 4]


def test_models_of_other_layers_share_no_rows_but_the_depth():
    both = {"a": synthetic.shift(0), "b": synthetic.shift(1, ids=("x", "y", "z", "w"))}
    with pytest.raises(DataError, match="same layers"):
        plot(both, kind="drift_by_place")
    ax = plot(both, kind="drift_by_depth")
    lines = [line for line in ax.lines if line.get_linestyle() != "None"]
    for line, result, layers in zip(lines, both.values(), (3, 4), strict=True):
        np.testing.assert_allclose(line.get_xdata(), [k / (layers + 1) for k in range(layers + 2)])
        np.testing.assert_array_equal(line.get_ydata(), [place.drift.value for place in result.places])
    assert "harmful: a" in words(ax)


def test_harm_has_both_accuracies_the_estimates_with_their_error_and_the_verdict():
    result = synthetic.shift()
    found = result.outputs["dense"]
    ax = drawn(result, "harm")
    known = [x for x, _ in marks(ax, filled=True)]
    assert known == [found.reference_accuracy.value, found.accuracy.value]
    assert [x for x, _ in marks(ax, filled=False)] == [estimate.value for estimate in found.estimates.values()]
    ends = np.array([segment[:, 0] for segment in segments(ax)])
    for estimate in found.estimates.values():
        expected = [estimate.value - found.estimates_error, min(estimate.value + found.estimates_error, 1.0)]
        assert (np.abs(ends - expected).max(axis=1) < 1e-12).any()
    for estimate in (found.reference_accuracy, found.accuracy):
        assert (np.abs(ends - [estimate.low, estimate.high]).max(axis=1) < 1e-12).any()
    (verdict,) = [text for text in ax.texts if text.get_text().startswith("harmful")]
    assert verdict.get_text() == f"harmful\n{found.change.value:+.3f}".replace("-", "−")
    assert "△ ATC max confidence" in words(ax)
    assert "± 0.1" in words(ax)


def test_harm_without_labels_shows_no_accuracy_on_the_data_and_each_output_has_a_row():
    result = synthetic.shift(labelled=False, outputs=("first", "$second$"))
    ax = drawn({"model": result}, "harm")
    reference = result.outputs["first"].reference_accuracy.value
    assert [x for x, _ in marks(ax, filled=True)] == [reference, reference]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["model · first", "model · $second$"]
    assert words(ax).count("suspected") == 2
    assert "colour: data" not in words(ax)


def test_scores_are_drawn_with_their_intervals_beside_one_half():
    result = synthetic.shift()
    ax = drawn(result, "out_of_distribution")
    found = list(result.outputs["dense"].ood.values())
    assert marks(ax, filled=True) == [(one.auroc.value, float(i)) for i, one in enumerate(found)]
    assert marks(ax, filled=False) == [(one.fpr95.value, float(i)) for i, one in enumerate(found)]
    ends = {tuple(segment[:, 0].round(9)) for segment in segments(ax)}
    assert {(round(one.auroc.low, 9), round(one.auroc.high, 9)) for one in found} <= ends
    assert [t.get_text() for t in ax.get_yticklabels()] == list(result.outputs["dense"].ood)
    assert any(list(line.get_xdata()) == [0.5, 0.5] for line in ax.lines)
    assert "data: n = 300, reference: n = 250" in words(ax)


def test_features_are_boxes_of_their_quantiles_reference_above_data():
    result = synthetic.shift()
    ax = drawn(result, "moved_features")
    first = result.features[0]
    center, scale = mean_and_deviation(first.reference)
    lines = {round(float(s[0, 1]), 2): [] for s in segments(ax)}
    for segment in segments(ax):
        if segment[0, 1] == segment[1, 1]:
            lines[round(float(segment[0, 1]), 2)].append(segment[:, 0])
    for y, quantiles in ((-0.17, first.reference), (0.17, first.new)):
        low, left, _, right, high = (strip(quantiles) - center) / scale
        np.testing.assert_allclose(sorted(map(tuple, lines[y])), [(low, high), (left, right)])
    assert [t.get_text() for t in ax.get_yticklabels()][:2] == ["stem/conv [0]", "block/relu [17]"]
    assert "8 of 10 kept features" in words(ax)


def test_mean_and_deviation_are_those_of_the_distribution_behind_the_quantiles():
    mean, deviation = mean_and_deviation(np.linspace(2.0, 5.0, 7))
    np.testing.assert_allclose([mean, deviation], [3.5, 3 / np.sqrt(12)])
    np.testing.assert_allclose(
        mean_and_deviation(norm(3, 2).ppf(np.linspace(1e-9, 1 - 1e-9, 20001))), [3, 2], rtol=1e-2
    )
    assert mean_and_deviation(np.full(9, 4.0)) == (4.0, 1.0)


def test_the_data_have_the_colour_of_their_model_and_the_reference_is_grey():
    ax = drawn({"a": synthetic.shift(0), "b": synthetic.shift(1)}, "moved_features")
    colors = [to_hex(color) for collection in ax.collections for color in collection.get_colors()]
    assert {"#8c8c8c", "#0072b2", "#d55e00"} <= set(colors)
    assert len(ax.get_yticklabels()) == 8
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a", "b"]


def test_what_is_not_there_is_said():
    bare = synthetic.shift(bare=True)
    for kind in ("harm", "out_of_distribution", "moved_features"):
        assert "Nothing to draw" in words(drawn(bare, kind))
    assert "Nothing to draw" in words(drawn(dataclasses.replace(bare, places=()), "drift_by_place"))


def test_the_figure_tells_the_verdicts_what_is_missing_and_why(visualizer):
    found = with_shift(mlp=synthetic.shift(0), cnn=synthetic.shift(1), overfit=synthetic.shift(2))
    figure = figure_of(visualizer, "shift", found)
    assert titles(figure) == [
        "Drift by place",
        "Accuracy and harm",
        "Out of distribution",
        "Moved features: mlp",
        "Moved features: cnn",
        "Moved features: overfit",
    ]
    said = all_words(figure)
    for name, result in found.shift.items():
        assert f"{name}: {result.verdict}" in said
    assert "Not compared: mlp: embedding – it gives a dict" in said
    assert "! cnn: dense moved most of all." in said


def test_a_verdict_that_a_finding_tells_with_advice_is_told_once(visualizer):
    result = synthetic.shift()
    advised = dataclasses.replace(result.findings[0], message=f"{result.verdict} Label some of these data.")
    said = all_words(figure_of(visualizer, "shift", with_shift(a=dataclasses.replace(result, findings=(advised,)))))
    assert said.count(result.verdict) == 1
    assert "Label some of these data." in said


def test_panels_with_nothing_to_show_are_left_out_with_a_note(visualizer):
    found = with_shift(a=synthetic.shift(bare=True), b=Skipped("no reference data were given"))
    figure = figure_of(visualizer, "shift", found)
    assert titles(figure) == ["Drift by place"]
    said = all_words(figure)
    assert "Not shown: accuracy and harm, out-of-distribution scores – no output decides among classes" in said
    assert "Not shown: features that moved – none were kept" in said
    assert "Not shown: b – shift skipped: no reference data were given" in said


def test_models_of_other_layers_have_panels_of_their_own_and_one_together(visualizer):
    found = with_shift(a=synthetic.shift(0), b=synthetic.shift(1), c=synthetic.shift(2, ids=("x", "y")))
    assert titles(figure_of(visualizer, "shift", found))[:3] == ["Drift along the depth", "Drift: a, b", "Drift: c"]


@pytest.mark.parametrize("style", ["publication", "presentation"])
def test_eight_models_of_sixty_layers_with_strange_names_fit(visualizer, style):
    ids = tuple(f"block/layer_{k}" for k in range(60))
    found = with_shift(**{name: synthetic.shift(i, ids) for i, name in enumerate(synthetic.NASTY)})
    figure = figure_of(visualizer, "shift", found, plot_style=style)
    said = all_words(figure)
    for name in ("$x$", "<b>bold</b> & co", "../../etc", "a\\nb\\tc", "100 % \\alpha^2", "[U+202E]gnp.exe"):
        assert name in said
    assert "54 of 62 places not shown (dotted: where)" in said
    assert "Features are drawn of 4 of 8 models" in said
    renderer = figure.canvas.get_renderer()
    width, height = figure.canvas.get_width_height()
    for ax in figure.axes:
        boxes = [text.get_window_extent(renderer) for text in [*ax.texts, *ax.get_yticklabels()] if text.get_text()]
        assert all(box.x0 > -2 and box.x1 < width + 2 and box.y0 > -2 and box.y1 < height + 2 for box in boxes)
    (drift,) = [ax for ax in figure.axes if ax.get_title(loc="left") == "Drift by place"]
    assert len(drift.get_yticklabels()) == 8


def test_the_dashboard_shows_drift_where_there_is_any_and_is_as_it_was_without(visualizer):
    results = with_shift(a=synthetic.shift(0), b=synthetic.shift(1))
    for name in results.model_names:
        results.performance[name], results.robustness[name] = synthetic.performance(), synthetic.robustness()
    shown = titles(figure_of(visualizer, "summary", results))
    results.shift = dict.fromkeys(results.model_names, Skipped("no reference data were given"))
    figure = figure_of(visualizer, "summary", results)
    assert [title for title in shown if title != "Drift along the depth"] == titles(figure)
    assert len(shown) == len(titles(figure)) + 1
    assert "reference" not in all_words(figure)
