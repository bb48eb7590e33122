"""The graph of layers: which boxes there are, where they stand, what is written in them."""

from __future__ import annotations

import itertools

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.patches import FancyBboxPatch

from analyzer.data_types import AnalysisResults, Finding, Skipped
from analyzer.visualizers.graph import kinds_in_words, sketch
from analyzer.visualizers.graph_layout import Sizes, arrange, lanes
from analyzer.visualizers.panels.architecture import LOOKS, MOST_BOXES, Drawn, in_units, shape_in_words
from analyzer.visualizers.style import style_context
from tests.visualizers import synthetic
from tests.visualizers.synthetic import cost_of, layer_cost

pytestmark = [pytest.mark.plain, pytest.mark.slow]

SIZES = Sizes(width=7.0, narrowest=1.5, widest=3.0, box_height=0.5)


def residual(blocks, prefix="block"):
    """A stem, then blocks of three layers with a bypass, then a head."""
    layers = [layer_cost("stem", "input")]
    for k in range(blocks):
        a = layer_cost(f"{prefix}{k}/conv", layers[-1].id, kind="Conv2D")
        b = layer_cost(f"{prefix}{k}/norm", a.id, kind="BatchNormalization", flops=32)
        layers += [a, b, layer_cost(f"{prefix}{k}/add", b.id, layers[-1].id, kind="Add", parameters=0, flops=16)]
    return cost_of(*layers, layer_cost("head", layers[-1].id))


def attention_block(inferred=True):
    inner = {"inside": "mha"}
    return cost_of(
        layer_cost("mha/query", "input", **inner),
        layer_cost("mha/out", "mha/query", sources_inferred=inferred, **inner),
        layer_cost("mha", "input", kind="MultiHeadAttention", composite=True, parameters=0, flops=100),
        layer_cost("add", "mha/out", "input", kind="Add", parameters=0),
    )


class TestSketch:
    def test_a_small_graph_is_drawn_whole(self):
        boxes = sketch(residual(2), 40)
        assert [box.id for box in boxes][:5] == ["input", "stem", "block0/conv", "block0/norm", "block0/add"]
        by_id = {box.id: box for box in boxes}
        assert set(by_id["block1/add"].sources) == {"block1/norm", "block0/add"}
        assert not any(guess for box in boxes for guess in box.sources.values())

    def test_attention_is_one_box_with_all_that_is_within(self):
        boxes = {box.id: box for box in sketch(attention_block(), 40)}
        assert list(boxes) == ["input", "mha", "add"]
        assert boxes["mha"].layers == ("mha/query", "mha/out", "mha")
        assert (boxes["mha"].parameters, boxes["mha"].flops) == (2 * 272, 2 * 560 + 100)
        assert boxes["mha"].sources == {"input": False}
        assert boxes["add"].sources == {"mha": False, "input": False}

    def test_containers_that_only_call_others_are_not_drawn_and_those_that_join_are(self):
        within = {"inside": "wrap"}
        plain = [layer_cost("wrap/a", "input", **within), layer_cost("wrap/b", "input", **within)]
        wrap = {"composite": True, "parameters": 0}
        pure = cost_of(*plain, layer_cost("wrap", "input", flops=0, **wrap), layer_cost("head", "wrap/b"))
        assert [box.id for box in sketch(pure, 40)] == ["input", "wrap/a", "wrap/b", "head"]
        joined = layer_cost("wrap", "input", flops=None, closes=("wrap/a", "wrap/b"), why_uncounted="not seen", **wrap)
        boxes = {box.id: box for box in sketch(cost_of(*plain, joined, layer_cost("head", "wrap")), 40)}
        assert boxes["wrap"].sources == {"wrap/a": True, "wrap/b": True}
        assert boxes["head"].sources == {"wrap": False}

    @pytest.mark.parametrize("blocks", [20, 30, 60, 200])
    def test_blocks_with_a_bypass_become_one_box_each_then_repetitions(self, blocks):
        boxes = sketch(residual(blocks), 40)
        assert len(boxes) <= 40
        if blocks <= 30:
            inner = [box for box in boxes if box.title.startswith("block")]
            assert [box.title for box in inner] == [f"block{k}" for k in range(blocks)]
            assert kinds_in_words(inner[0]) == "Conv2D, BatchNormalization, Add"
        else:
            assert [box.times for box in boxes] == [1, 1, blocks, 1]
            assert boxes[2].title == f"block0 … block{blocks - 1}"

    @pytest.mark.parametrize("make", [lambda: residual(14), lambda: residual(60), lambda: synthetic.cost(IDS)])
    def test_nothing_is_lost_whatever_is_merged(self, make):
        whole, cost = sketch(make(), 10_000), make()
        small = sketch(cost, 12)
        assert len(small) <= 13
        assert sorted(itertools.chain(*(box.layers for box in small))) == sorted(layer.id for layer in cost.layers)
        for attribute in ("parameters", "flops"):
            assert sum(getattr(b, attribute) for b in small) == sum(getattr(b, attribute) for b in whole)

    def test_named_containers_go_before_anything_else(self):
        layers, before = [], "input"
        for k in range(8):
            for i in range(6):
                layers.append(layer_cost(f"encoder_{k}/{i}", before, inside=f"encoder_{k}"))
                before = layers[-1].id
            layers.append(layer_cost(f"encoder_{k}", before, composite=True, flops=0, parameters=0))
        boxes = sketch(cost_of(*layers), 40)
        assert [box.title for box in boxes] == ["input", *(f"encoder_{k}" for k in range(8))]

    def test_what_cannot_be_counted_makes_a_lower_bound(self):
        cost = residual(20)
        layers = [
            layer_cost(one.id, *one.sources, kind=one.kind, flops=None if one.id == "block3/conv" else one.flops)
            for one in cost.layers
        ]
        boxes = {box.title: box for box in sketch(cost_of(*layers), 40)}
        assert (boxes["block3"].flops, boxes["block3"].counted) == (32 + 16, False)
        assert boxes["block4"].counted


IDS = tuple(f"layer_{k}" for k in range(100))


class TestLayout:
    def places(self, cost, **changes):
        boxes = sketch(cost, 40)
        return boxes, arrange(boxes, Sizes(**{**vars(SIZES), **changes}))

    @pytest.mark.parametrize("cost", [residual(2), residual(14), synthetic.cost(IDS[:30]), attention_block()])
    def test_boxes_lie_inside_and_never_overlap(self, cost):
        boxes, layout = self.places(cost)
        assert layout.width <= SIZES.width + 1e-9
        for box in boxes:
            x, y = layout.centres[box.id]
            assert layout.box_width / 2 <= x <= layout.width - layout.box_width / 2
            assert layout.box_height / 2 <= y <= layout.height - layout.box_height / 2
        for (ax, ay), (bx, by) in itertools.combinations(layout.centres.values(), 2):
            assert abs(ax - bx) > layout.box_width or abs(ay - by) > layout.box_height

    def test_edges_lead_from_box_to_box_and_cross_none(self):
        boxes, layout = self.places(residual(6))
        assert len(layout.edges) == sum(len(box.sources) for box in boxes)
        for edge in layout.edges:
            for (x0, y0), (x1, y1) in itertools.pairwise(edge.points):
                for x, y in layout.centres.values():
                    inside_x = min(x0, x1) < x + 0.49 * layout.box_width and max(x0, x1) > x - 0.49 * layout.box_width
                    inside_y = min(y0, y1) < y + 0.49 * layout.box_height and max(y0, y1) > y - 0.49 * layout.box_height
                    assert not (inside_x and inside_y)

    def test_bypasses_of_one_column_do_not_lie_on_each_other(self):
        layers = [
            layer_cost("a", "input"),
            layer_cost("b", "a"),
            layer_cost("c", "b", "a"),
            layer_cost("d", "c", "input"),
        ]
        _, layout = self.places(cost_of(*layers))
        bypasses = [edge for edge in layout.edges if len(edge.points) > 2]
        assert len({edge.points[2][0] for edge in bypasses}) == len(bypasses) == 2

    def test_branches_stand_side_by_side(self):
        cost = cost_of(layer_cost("a", "input"), layer_cost("b", "input"), layer_cost("c", "a", "b"))
        boxes, layout = self.places(cost)
        assert lanes(boxes) == 2
        assert layout.centres["a"][1] == layout.centres["b"][1]

    def test_long_graphs_are_broken_into_columns(self):
        _, layout = self.places(synthetic.cost(IDS[:25]))
        assert len({round(x, 3) for x, _ in layout.centres.values()}) > 1
        assert layout.height < 12 * (SIZES.box_height + 0.5)


def figure_of(visualizer, results):
    one = visualizer("architecture", results, dpi=60)
    with style_context(one.style):
        figure = one._compose()
    if figure is not None:
        FigureCanvasAgg(figure)
        figure.canvas.draw()
    return figure


def words(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def results_of(**costs):
    found = AnalysisResults(tuple(costs))
    found.cost = dict(costs)
    return found


def finding(layer, severity, kind="dead_units"):
    return Finding(kind=kind, layer=layer, severity=severity, message="made up")


class TestFigure:
    def test_boxes_say_what_a_layer_is_and_costs(self, visualizer):
        said = words(figure_of(visualizer, results_of(m=residual(1))))
        assert {"stem", "block0/conv", "Conv2D", "16 · 272 P · 560 FLOP"} <= set(said)

    def test_findings_of_all_analyses_have_the_colour_of_the_worst(self, visualizer):
        found = results_of(m=residual(1))
        found.findings["m"] = (finding("stem", "info"), finding("block0/conv", "warning"))
        found.weights["m"] = synthetic.make(
            synthetic.WeightResult, findings=(finding("block0/conv@2", "error", "exploding"), finding("gone", "error"))
        )
        figure = figure_of(visualizer, found)
        fills = [to_hex(patch.get_facecolor()).upper() for patch in figure.axes[0].patches]
        assert sorted(fills) == sorted(_fills())
        assert "dead_units, exploding" in words(figure)
        assert any("error: red" in text for text in words(figure))

    def test_models_of_one_architecture_share_a_graph_and_others_do_not(self, visualizer):
        shared = figure_of(visualizer, results_of(a=residual(1), b=residual(1)))
        assert [ax.get_title(loc="left") for ax in shared.axes] == ["a, b"]
        apart = figure_of(visualizer, results_of(a=residual(1), b=residual(2)))
        assert [ax.get_title(loc="left") for ax in apart.axes] == ["a", "b"]

    def test_the_number_of_layers_in_boxes_of_several_is_written(self, visualizer):
        figure = figure_of(visualizer, results_of(m=residual(30)))
        said = " ".join(" ".join(words(figure)).split())
        assert "90 of 92 layers not shown one by one but in boxes of several (30)" in said
        assert len(figure.axes[0].patches) == 33 + 30
        whole = " ".join(" ".join(words(figure_of(visualizer, results_of(m=residual(1))))).split())
        assert "5 layers drawn" in whole

    def test_guesses_are_dashed_and_said_to_be(self, visualizer):
        def dashed(cost):
            figure = figure_of(visualizer, results_of(m=cost))
            return sum(line.get_linestyle() == "--" for line in figure.axes[0].lines), " ".join(words(figure))

        sure = cost_of(layer_cost("a", "input"), layer_cost("b", "a"))
        guess = cost_of(layer_cost("a", "input"), layer_cost("b", "a", sources_inferred=True))
        assert (dashed(sure)[0], "Dashed" in dashed(sure)[1]) == (0, False)
        assert (dashed(guess)[0], "Dashed" in dashed(guess)[1]) == (1, True)

    def test_who_has_no_graph_is_named(self, visualizer):
        found = results_of(a=residual(1), b=Skipped("it was not asked for"), c=cost_of())
        notes = " ".join(text.get_text() for text in figure_of(visualizer, found).texts)
        assert "Not shown: b – cost skipped: it was not asked for" in notes
        assert "Not shown: c – it could not be traced" in notes

    def test_text_stays_in_its_box(self, visualizer):
        names = "a/very/long/path/" * 6
        long = cost_of(
            layer_cost(names + "x", "input", kind="VeryLongNameOfALayer" * 4), layer_cost("$x$_b", names + "x")
        )
        wide = cost_of(*(layer_cost(f"branch_{k}", "input", output_shapes=((224, 224, 64),)) for k in range(3)))
        for cost in (long, wide, residual(30), synthetic.cost(IDS[:35])):
            figure = figure_of(visualizer, results_of(m=cost))
            renderer = figure.canvas.get_renderer()
            (ax,) = figure.axes
            boxes = [p.get_window_extent(renderer) for p in ax.patches if isinstance(p, FancyBboxPatch)]
            inside = [text for text in ax.texts if text.get_ha() == "center"]
            assert inside
            for text in inside:
                extent = text.get_window_extent(renderer).shrunk(1.0, 0.8)
                assert any(
                    box.x0 <= extent.x0 and extent.x1 <= box.x1 and box.y0 <= extent.y0 and extent.y1 <= box.y1
                    for box in boxes
                ), text.get_text()


def _fills():
    """One box with information, one with an error, and input, norm, add and head without findings."""
    return [LOOKS[0][0], LOOKS[2][0], *4 * [LOOKS[None][0]]]


def test_the_limit_is_what_the_figure_uses():
    assert len(Drawn(cost=residual(200)).boxes) <= MOST_BOXES


def test_numbers_in_words():
    assert [in_units(n, "FLOP") for n in (0, 999, 7.76e9, 25_636_712, None)] == [
        "0 FLOP",
        "999 FLOP",
        "7.76 GFLOP",
        "25.6 MFLOP",
        "–",
    ]
    assert (shape_in_words((8, None, 3)), shape_in_words(())) == ("8×?×3", "scalar")
