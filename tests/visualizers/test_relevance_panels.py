"""Panels of relevance draw what results and explanations say, mark its sign, and say what is missing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analyzer.data_types import AnalysisResults, Skipped
from analyzer.data_types.explanation import Explanation
from analyzer.errors import ConfigError, DataError
from analyzer.visualizers.heatmaps import coloured, flat_map, symmetric_limit
from analyzer.visualizers.panels import PANELS
from analyzer.visualizers.panels.relevance_examples import examples_of, in_lines, kind_of, without_channels
from analyzer.visualizers.panels.relevance_features import AGAINST, FOR, MOST_FEATURES, unit_cells
from analyzer.visualizers.panels.relevance_rows import start_value
from analyzer.visualizers.plot import plot
from tests.visualizers import synthetic
from tests.visualizers.test_figures import all_words, drawn

pytestmark = [pytest.mark.plain, pytest.mark.slow]

KINDS = [kind for kind, one in PANELS.items() if synthetic.RelevanceResult in one.types]
OF_EXPLANATIONS = [kind for kind, one in PANELS.items() if Explanation in one.types]
DEEP = tuple(f"block/layer_{i}" for i in range(200))
RESULTS = {
    "full": lambda: synthetic.relevance(),
    "bare": lambda: synthetic.relevance(full=False),
    "one layer": lambda: synthetic.relevance(ids=("dense",)),
    "deep": lambda: synthetic.relevance(ids=DEEP),
    "strange names": lambda: synthetic.relevance(ids=synthetic.NASTY),
    "one unit": lambda: synthetic.relevance(units=1),
    "wide": lambda: synthetic.relevance(units=700),
    "tokens": lambda: synthetic.relevance(kind="tokens"),
    "series": lambda: synthetic.relevance(kind="series"),
    "features": lambda: synthetic.relevance(kind="features"),
    "volume": lambda: synthetic.relevance(kind="volume"),
    "nothing": lambda: dataclasses.replace(synthetic.relevance(full=False), layers=()),
}
NAN = {"image": np.full((2, 6, 5, 1), np.nan)}


def words(ax):
    return " ".join(" ".join(t.get_text().split()) for t in ax.texts)


def has_line(ax, values):
    lines = [np.asarray(line.get_xdata(), float) for line in ax.lines]
    return any(len(x) == len(values) and np.allclose(x, values, equal_nan=True) for x in lines)


def bars(ax):
    """Left end, width and colour of the bars."""
    found = [p for p in ax.patches if isinstance(p, Rectangle)]
    return [(p.get_x(), p.get_width(), p.get_facecolor()) for p in found]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", RESULTS)
def test_every_panel_draws_or_says_why_not(case, kind):
    result = RESULTS[case]()
    ax = plot({"a": result, "$b$": RESULTS[case]()}, kind=kind)
    ax.figure.canvas.draw()
    assert ax.get_title(loc="left")
    assert ax.lines or ax.collections or ax.patches or "Nothing to draw" in words(ax)
    plot(result, Figure().add_subplot(), kind).figure.canvas.draw()


@pytest.mark.parametrize("kind", OF_EXPLANATIONS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"against": True},
        {"targets": 2},
        {"n": 1},
        *({"kind": k} for k in ("series", "tokens", "features", "volume")),
    ],
)
def test_every_panel_of_every_explanation(kind, options):
    ax = plot(synthetic.explanation(**options), kind=kind)
    ax.figure.canvas.draw()
    assert ax.lines or ax.collections or ax.patches or "Nothing to draw" in words(ax)


def test_an_explanation_without_books_layers_or_finite_numbers():
    bare = Explanation(method="gradient", inputs=NAN, output=np.zeros(2))
    for kind in OF_EXPLANATIONS:
        plot(bare, kind=kind).figure.canvas.draw()
    assert "Nothing to draw: the method keeps no books" in words(plot(bare, kind="ledger"))
    assert "Nothing to draw: no layer has relevance" in words(plot(bare, kind="layers"))
    empty = Explanation(method="gradient", inputs={}, output=np.zeros(2))
    assert "Nothing to draw" in words(plot(empty))


@pytest.mark.parametrize(
    ("kind", "title"),
    [("image", "input"), ("volume", "input"), ("series", "steps"), ("tokens", "tokens"), ("features", "features")],
)
def test_the_first_panel_suits_the_input(kind, title):
    assert (
        plot(synthetic.explanation(kind)).get_title(loc="left") == f"Relevance of {'the ' * (title == 'input')}{title}"
    )
    assert kind_of(synthetic.explanation(kind), kind) == kind
    result = synthetic.relevance(kind=kind)
    assert plot(result).get_title(loc="left").endswith(title)
    assert plot(result.examples[0]).get_title(loc="left").endswith(title)


def test_pixels_without_channels_are_an_image_and_whoever_asks_knows_better():
    square = Explanation(method="m", inputs={"x": np.ones((2, 8, 8))}, output=np.ones(2))
    assert kind_of(square, "x") == "image"
    wide = Explanation(method="m", inputs={"x": np.ones((2, 8, 9))}, output=np.ones(2))
    assert plot(wide).get_title(loc="left") == "Relevance of steps"
    assert plot(wide, kind="heatmap").patches
    assert "Nothing to draw: no sample of tokens was kept" in words(plot(wide, kind="tokens"))
    with pytest.raises(ConfigError, match="expected one of 'relevance', 'heatmap', 'layers', 'ledger', 'tokens'"):
        plot(wide, kind="gain")


class TestMaps:
    def test_pictures_are_the_maps_on_one_scale(self):
        explanation = synthetic.explanation()
        maps = [flat_map(one) for one in explanation.inputs["image"]]
        limit = symmetric_limit(*maps)
        ax = plot(explanation, kind="heatmap")
        assert len(ax.images) == 3
        for image, one in zip(ax.images, maps, strict=True):
            assert np.allclose(image.get_array(), coloured(one, limit))
        assert f"full colour from ±{limit:.2g} (99.5th percentile)" in words(ax)

    def test_the_image_stands_above_where_it_is_known(self):
        result = synthetic.relevance()
        ax = plot(result, kind="heatmap")
        grey = [image for image in ax.images if np.ptp(np.asarray(image.get_array()), axis=-1).max() == 0]
        assert len(ax.images) == 2 * len(grey) == 8
        assert "in grey: the input" in words(ax)
        assert "4 of 64 samples" in words(ax)
        assert "$t$-shirt" in words(ax)
        assert "true: sandal" in words(plot(result, Figure(figsize=(20, 8)).add_subplot(), "heatmap"))

    def test_what_speaks_against_is_a_row_of_its_own_and_blue(self):
        explanation = synthetic.explanation(against=True)
        ax = plot(explanation, kind="heatmap")
        assert len(ax.images) == 6
        assert {"for", "against"} <= {t.get_text() for t in ax.texts}
        last = np.asarray(ax.images[-1].get_array())
        assert last[..., 2].sum() > last[..., 0].sum()

    def test_several_targets_are_all_there(self):
        ax = plot(synthetic.explanation(targets=2), kind="heatmap")
        assert len(ax.images) == 6
        assert "6 of 6 maps: 2 targets of 3 samples" in words(ax)
        assert {"no. 0", "no. 1"} <= {t.get_text() for t in ax.texts}

    def test_channels_first_are_summed_too(self):
        one = synthetic.relevance().examples[0]
        turned = dataclasses.replace(
            one,
            values=np.moveaxis(one.values, -1, 0),
            relevance=np.moveaxis(one.relevance, -1, 0),
            channels_first=True,
        )
        pictures = [[np.asarray(image.get_array()) for image in plot(e).images] for e in (one, turned)]
        assert all(np.allclose(a, b) for a, b in zip(*pictures, strict=True))
        assert np.allclose(without_channels(one), without_channels(turned))

    def test_pictures_use_their_room(self):
        ax = plot(synthetic.explanation(n=6), Figure(figsize=(3, 8)).add_subplot(), "heatmap")
        tops = {round(image.get_extent()[3]) for image in ax.images}
        # A tall panel breaks six samples into several lines.
        assert len(tops) > 1


class TestTokensAndSteps:
    def test_words_stand_on_the_colour_of_their_relevance_and_are_no_mathematics(self):
        result = synthetic.relevance(kind="tokens")
        ax = plot(result, kind="tokens")
        one = result.examples[0]
        limit = symmetric_limit(*(e.relevance for e in result.examples))
        colors = [p.get_facecolor()[:3] for p in ax.patches if isinstance(p, Rectangle)][: len(one.tokens)]
        assert np.allclose(colors, coloured(one.relevance, limit))
        texts = [t for t in ax.texts if t.get_text() == "$watch$"]
        assert len(texts) == 4
        assert not any(t.get_parse_math() for t in texts)

    def test_long_texts_are_cut_and_the_rest_counted(self):
        one = synthetic.relevance(kind="tokens").examples[0]
        long = dataclasses.replace(one, tokens=one.tokens * 40, relevance=np.tile(one.relevance, 40))
        ax = plot(long)
        shown = sum(isinstance(p, Rectangle) for p in ax.patches)
        assert f"{360 - shown} tokens not shown" in words(ax)

    def test_positions_are_strips_where_words_are_not_known(self):
        ax = plot(synthetic.explanation("tokens"))
        assert ax.get_xlabel() == "Token"
        assert len(ax.collections) == 3

    def test_steps_have_their_series_on_top(self):
        result = synthetic.relevance(kind="series")
        ax = plot(result, kind="steps")
        assert len(ax.collections) == 4
        assert len(ax.lines) == 4 * 2
        limit = symmetric_limit(*(without_channels(e) for e in result.examples))
        colors = ax.collections[0].get_array()
        assert np.allclose(np.asarray(colors)[0], coloured(without_channels(result.examples[0]), limit))


class TestFeatures:
    def test_bars_are_the_means_in_order_of_magnitude_with_what_is_left_out(self):
        result = synthetic.relevance(kind="features")
        ax = plot(result, kind="features")
        kept = result.inputs[0].features[:MOST_FEATURES]
        assert np.allclose([width for _, width, _ in bars(ax)], [f.mean.value for f in kept])
        assert [t.get_text() for t in ax.get_yticklabels()] == [f.name for f in kept]
        assert "8 of 20 features not shown" in words(ax)
        ends = np.concatenate([s for c in ax.collections for s in c.get_segments()])[:, 0]
        assert np.isclose(ends, kept[0].mean.low).any()
        assert np.isclose(ends, kept[0].mean.high).any()

    def test_signs_have_colours_for_one_model_and_models_have_theirs(self):
        maps = np.array([[3.0, -2.0, 1.0]])
        one = Explanation(method="m", inputs={"x": maps}, output=np.ones(1))
        found = [(round(width, 6), color) for _, width, color in bars(plot(one, kind="features"))]
        from matplotlib.colors import to_rgba

        assert found == [(3.0, to_rgba(FOR)), (-2.0, to_rgba(AGAINST)), (1.0, to_rgba(FOR))]
        two = {"a": synthetic.relevance(kind="features"), "b": synthetic.relevance(1, kind="features")}
        assert len({color for _, _, color in bars(plot(two, kind="features"))}) == 2

    def test_pixels_are_named_by_their_place_and_channels_summed(self):
        maps = np.zeros((1, 4, 5, 3))
        maps[0, 2, 3] = [1, 1, -0.5]
        ax = plot(Explanation(method="m", inputs={"x": maps}, output=np.ones(1)), kind="features")
        assert ax.get_yticklabels()[0].get_text() == "(2, 3)"
        assert bars(ax)[0][1] == 1.5
        assert "8 of 20 features not shown" in words(ax)

    def test_models_with_other_features_are_named(self):
        both = {"a": synthetic.relevance(kind="features"), "other": synthetic.relevance(kind="tokens")}
        assert "other features: other" in words(plot(both, kind="features"))


class TestLayers:
    def test_shares_and_net_sums_are_those_of_the_layers(self):
        result = synthetic.relevance()
        ax = plot(result, kind="layers")
        assert has_line(ax, [layer.share.value for layer in result.layers])
        assert has_line(ax, [layer.relevance_in for layer in result.layers])

    def test_exploding_sums_get_a_logarithmic_axis(self):
        result = synthetic.relevance()
        layers = list(result.layers)
        layers[0] = dataclasses.replace(layers[0], share=synthetic.estimate(1e4))
        ax = plot(dataclasses.replace(result, layers=tuple(layers)), kind="layers")
        assert ax.get_xscale() == "log"
        assert plot(result, kind="layers").get_xscale() == "linear"

    def test_layers_of_an_explanation_are_sums_over_the_value_explained(self):
        explanation = synthetic.explanation()
        expected = [
            np.abs(array.astype(float)).sum() / explanation.n / explanation.output.mean()
            for array in explanation.layers.values()
        ]
        assert has_line(plot(explanation, kind="layers"), expected)

    def test_accounts_add_up_to_what_came(self):
        result = synthetic.relevance()
        ax = plot(result, kind="ledger")
        assert len(bars(ax)) > 2 * len(result.layers)
        for layer in result.layers:
            assert has_line(ax, [layer.relevance_in] * 2)
            ends = [x + width for x, width, _ in bars(ax)]
            assert np.isclose(ends, layer.relevance_in).any()
        assert "dark red: unexplained" in words(ax)
        assert "light blue: softmax" in words(ax)
        assert "beyond it: what was added" in words(ax)

    def test_the_ledger_of_an_explanation_is_relative_and_in_order_of_execution(self):
        explanation = synthetic.explanation()
        ax = plot(explanation, kind="ledger")
        assert [t.get_text() for t in ax.get_yticklabels()] == list(explanation.ledger.index)[::-1]
        first = explanation.ledger["relevance_in"].iloc[0] / 5.0
        assert start_value(explanation) == 5.0
        assert has_line(ax, [first, first])

    def test_a_negative_value_is_explained_by_negative_relevance(self):
        explanation = synthetic.explanation()
        turned = dataclasses.replace(explanation, output=-explanation.output, ledger=-explanation.ledger)
        assert start_value(turned) == -5.0
        assert has_line(plot(turned, kind="ledger"), [explanation.ledger["relevance_in"].iloc[0] / 5.0] * 2)
        mixed = dataclasses.replace(explanation, output=np.array([2.0, -4.0, 0.0]))
        assert start_value(mixed) == 2.0
        assert start_value(dataclasses.replace(explanation, output=np.zeros(3))) == 1.0

    def test_missing_amounts_are_not_drawn_as_zero(self):
        ledger = pd.DataFrame({"relevance_in": [1.0, np.nan], "relevance_out": [0.5, np.nan]}, index=["b", "a"])
        one = Explanation(method="m", inputs={}, output=np.ones(1), ledger=ledger)
        ax = plot(one, kind="ledger")
        assert len([x for x in ax.lines if len(set(x.get_xdata())) == 1 and x.get_xdata()[0] == 1.0]) == 1
        assert not any("unexplained" in t.get_text() for t in ax.texts)

    def test_models_without_books_are_named(self):
        both = {"a": synthetic.relevance(), "bare": synthetic.relevance(full=False)}
        assert "none for bare" in words(plot(both, kind="ledger"))
        assert "none for bare" in words(plot(both, kind="concentration"))
        assert "no books: bare" in words(plot(both, kind="balance"))
        assert "not measured: bare" in words(plot(both, kind="faithfulness"))
        assert "Nothing to draw: no data were kept" in words(plot(synthetic.relevance(full=False), kind="faithfulness"))

    @pytest.mark.parametrize("kind", ["layers", "ledger", "concentration", "relevance_units"])
    def test_models_of_different_layers_do_not_share_rows(self, kind):
        with pytest.raises(DataError, match="same layers"):
            plot({"a": synthetic.relevance(), "b": synthetic.relevance(ids=("x", "y"))}, kind=kind)

    @pytest.mark.parametrize("kind", ["layers", "ledger"])
    def test_explanations_of_different_layers_neither(self, kind):
        one = synthetic.explanation()
        other = dataclasses.replace(one, layers={"x": np.ones((3, 2))}, ledger=one.ledger.iloc[:2])
        with pytest.raises(DataError, match="same layers"):
            plot({"a": one, "b": other}, kind=kind)
        assert plot({"a": one, "b": one}, kind=kind).lines

    def test_limits_keep_what_leaves_most_unexplained(self, visualizer):
        found = AnalysisResults(("a",))
        found.relevance["a"] = synthetic.relevance(ids=DEEP)
        assert "196 of 200 layers not shown" in all_words(drawn(visualizer, "relevance", found, max_layers_info_flow=4))


class TestUnits:
    def test_concentration_is_the_share_of_units_behind_90_percent(self):
        result = synthetic.relevance()
        ax = plot(result, kind="concentration")
        assert has_line(ax, [layer.units_for_90 / layer.n_units for layer in result.layers])
        assert has_line(ax, [layer.silent_units / layer.n_units for layer in result.layers])

    def test_cells_are_relative_to_the_largest_and_silent_ones_are_marked(self):
        layer = dataclasses.replace(
            synthetic.relevance().layers[0],
            unit_share=np.array([0.64, 0.16, 0.2, 0.0]),
            unit_largest=np.array([0.9, 0.5, 0.5, 5e-5]),
        )
        assert np.allclose(unit_cells(layer, 1e-4), [1, 0.5, np.sqrt(0.2 / 0.64), np.nan], equal_nan=True)
        assert np.isfinite(unit_cells(layer, 1e-6)).all()
        wide = dataclasses.replace(layer, unit_share=np.full(960, 1 / 960), unit_largest=None)
        assert np.allclose(unit_cells(wide, 1e-4), np.ones(96))

    def test_silent_units_are_counted_beside_their_layer(self):
        ax = plot(synthetic.relevance(), kind="relevance_units")
        assert "24, 4 silent" in words(ax)
        assert "grey: silent" in words(ax)


class TestScores:
    def test_measures_stand_beside_those_of_a_random_order(self):
        result = synthetic.relevance()
        ax = plot(result, kind="faithfulness")
        for name in ("abpc", "comprehensiveness", "sufficiency"):
            score = getattr(result.faithfulness, name)
            assert has_line(ax, [score.value.value])
            assert has_line(ax, [score.random.value])
        assert "replaced by the mean of the data" in words(ax)

    def test_curves_are_those_of_the_result(self):
        found = synthetic.relevance().faithfulness
        ax = plot(synthetic.relevance(), kind="perturbation")
        drawn_lines = [np.asarray(line.get_ydata(), float) for line in ax.lines]
        for curve in (found.most_first, found.least_first, found.random_first):
            assert any(np.array_equal(curve, y) for y in drawn_lines)

    def test_books_of_models_end_at_their_sum(self):
        books = synthetic.relevance().conservation
        ax = plot({"a": synthetic.relevance(), "b": synthetic.relevance(1)}, kind="balance")
        amounts = (books.reaches_inputs, books.absorbed_by_bias, books.absorbed_by_softmax)
        total = sum((*amounts, books.absorbed_by_stabiliser, books.unexplained))
        assert total == pytest.approx(1.0)
        assert has_line(ax, [total, total])
        assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]


class TestFigure:
    def test_it_has_its_panels_and_says_what_results_say(self, visualizer):
        figure = drawn(visualizer, "relevance", synthetic.results())
        titles = [ax.get_title(loc="left") for ax in figure.axes]
        assert titles == [
            "Relevance of the input: mlp",
            "Relevance of the input: cnn",
            "Faithfulness",
            "Replacing features",
            "Where relevance goes",
            "Agreement of relevance (Spearman)",
            "Relevance by layer",
            "Ledger",
            "Units behind 90 % of relevance",
            "Relevance of units",
        ]
        said = all_words(figure)
        assert "Not shown: overfit – relevance skipped: no data were given" in said
        assert "Method epsilon_plus: auto: convolutions and ReLUs only" in said
        assert "mlp: on the way from the output, the sum first breaks at block/layer_2" in said
        assert "mlp: layer lambda has no rule: its gradient was used" in said

    def test_tables_have_bars_and_no_pictures(self, visualizer):
        found = AnalysisResults(("a", "b"))
        found.relevance = {name: synthetic.relevance(i, kind="features") for i, name in enumerate("ab")}
        titles = [ax.get_title(loc="left") for ax in drawn(visualizer, "relevance", found).axes]
        assert titles[0] == "Relevance of features"
        assert not any("input" in title for title in titles)

    def test_only_some_models_have_pictures_and_that_is_said(self, visualizer):
        names = tuple("abcde")
        found = AnalysisResults(names)
        found.relevance = {name: synthetic.relevance(i) for i, name in enumerate(names)}
        assert "drawn of 3 of 5 models, those given first" in all_words(drawn(visualizer, "relevance", found))

    def test_a_plain_gradient_is_enough(self, visualizer):
        found = AnalysisResults(("a",))
        found.relevance["a"] = synthetic.relevance(full=False)
        figure = drawn(visualizer, "relevance", found)
        assert [ax.get_title(loc="left") for ax in figure.axes] == ["Relevance by layer"]

    def test_the_dashboard_has_one_panel_of_it(self, visualizer):
        titles = [ax.get_title(loc="left") for ax in drawn(visualizer, "summary", synthetic.results()).axes]
        assert titles.count("Faithfulness") == 1
        found = synthetic.results()
        for name, result in found.relevance.items():
            if not isinstance(result, Skipped):
                found.relevance[name] = dataclasses.replace(result, faithfulness=None)
        titles = [ax.get_title(loc="left") for ax in drawn(visualizer, "summary", found).axes]
        assert titles.count("Where relevance goes") == 1
        found.relevance = {}
        titles = [ax.get_title(loc="left") for ax in drawn(visualizer, "summary", found).axes]
        assert not {"Faithfulness", "Where relevance goes"} & set(titles)


def test_samples_say_what_was_explained():
    found = examples_of(synthetic.explanation())
    assert [in_lines(one) for one in found] == [("target 0", "4"), ("target 1", "5"), ("target 2", "6")]
    plain = Explanation(method="m", target="token 3", inputs={"x": np.ones((1, 2))}, output=np.array([1.5]))
    assert in_lines(examples_of(plain)[0]) == ("token 3", "1.5")
