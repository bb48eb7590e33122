"""The Pareto figure shows what the analysis found."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.colors import same_color
from matplotlib.text import Text

from analyzer.comparison.stored import as_results
from analyzer.errors import DataError
from analyzer.visualizers.panels.pareto import FRONT
from analyzer.visualizers.style import model_colors
from tests.visualizers import synthetic

pytestmark = [pytest.mark.plain, pytest.mark.slow]

TEN = tuple(f"lr_0.{i}_batch_32" for i in range(10))
MANY = ["peak_performance", "overfitting_index", "ece", "parameters"]


def figure_of(visualizer, found):
    figure = visualizer("pareto", as_results(found)).figure()
    FigureCanvasAgg(figure)
    figure.canvas.draw()
    return figure


def words(figure):
    return " ".join(" ".join(t.get_text().split()) for t in figure.findobj(Text))


def front_line(ax):
    (line,) = [line for line in ax.lines if same_color(line.get_color(), FRONT)]
    return line


def values(found, name, kind="values"):
    return tuple(getattr(found.models[name], kind)[o.name].value for o in (found.axes[1], found.axes[0]))


def marks(ax, color):
    """Places of the marks of a model: of its error bar, and of the sign for under-fitting."""
    return [tuple(line.get_xydata()[0]) for line in ax.lines if same_color(line.get_color(), color)]


def test_the_front_is_dashed_red_and_sorted_along_x(visualizer):
    found = synthetic.pareto(TEN)
    assert len(found.front) > 2
    ax = figure_of(visualizer, found).axes[0]
    line = front_line(ax)
    assert line.is_dashed()
    assert np.all(np.diff(line.get_xdata()) > 0)
    assert {tuple(row) for row in line.get_xydata()} == {values(found, name) for name in found.front}


def test_every_model_with_values_is_drawn_where_it_was_measured(visualizer):
    found = synthetic.pareto(TEN)
    ax = figure_of(visualizer, found).axes[0]
    colors = model_colors(TEN)
    for name in found.compared:
        assert values(found, name) in marks(ax, colors[name])
    assert ax.get_xlabel() == "Overfitting index (less is better)"
    assert ax.get_ylabel() == "Peak val_accuracy (more is better)"
    assert len(ax.containers) == len(found.compared)


def test_dominated_models_are_hollow_and_the_knee_has_a_ring(visualizer):
    found = synthetic.pareto(TEN)
    ax = figure_of(visualizer, found).axes[0]
    for name, bars in zip((n for n in found.models if n in found.compared), ax.containers, strict=True):
        assert same_color(bars.lines[0].get_markerfacecolor(), "white") == (name not in found.front)
    rings = [line for line in ax.lines if line.get_markerfacecolor() == "none" and line.get_marker() == "o"]
    assert [tuple(ring.get_xydata()[0]) for ring in rings] == [values(found, found.knee)]


def test_the_table_has_convergence_as_a_column_and_the_front_first(visualizer):
    found = synthetic.pareto(TEN)
    figure = figure_of(visualizer, found)
    ax = figure.axes[1]
    heads = [" ".join(t.get_text().split()) for t in ax.get_xticklabels()]
    assert heads == ["Peak val_accuracy", "Overfitting index", "Epochs to converge", "Rank"]
    rows = [t.get_text() for t in ax.get_yticklabels()]
    assert set(rows[: len(found.front)]) == set(found.front)
    (mesh,) = [c for c in ax.collections if isinstance(c, QuadMesh)]
    shown = np.ma.filled(mesh.get_array().astype(float), np.nan).reshape(len(rows), 3)
    for row, name in zip(shown, rows, strict=True):
        shares = [found.models[name].normalized[o.name] for o in found.objectives]
        assert np.allclose(row, [np.nan if s is None else s for s in shares], equal_nan=True)


def test_who_is_left_out_or_under_fitted_is_named(visualizer):
    found = synthetic.pareto(TEN)
    said = words(figure_of(visualizer, found))
    assert "Not compared: lr_0.3_batch_32 – no peak_performance and no overfitting_index" in said
    assert "no training history was given" in said
    assert "Under-fitted: lr_0.9_batch_32" in said


def test_more_than_two_objectives_stand_side_by_side(visualizer):
    found = synthetic.pareto(TEN, MANY)
    lines, table = figure_of(visualizer, found).axes
    assert [t.get_text().split("\n")[0] for t in lines.get_xticklabels()] == [
        "Peak val_accuracy",
        "Overfitting index",
        "ECE",
        "Parameters",
    ]
    drawn = [line.get_ydata() for line in lines.lines if len(line.get_xdata()) == 4]
    expected = [[found.models[n].normalized[o.name] for o in found.axes] for n in found.compared]
    assert np.allclose(sorted(map(tuple, drawn)), sorted(map(tuple, expected)))
    assert len(table.get_yticklabels()) == 10


@pytest.mark.parametrize("names", [("one",), TEN, synthetic.NASTY, (synthetic.LONG, synthetic.LONG + "2", "short")])
@pytest.mark.parametrize("style", ["publication", "presentation", "draft"])
@pytest.mark.parametrize("objectives", [None, MANY])
def test_no_cell_or_tick_label_overlaps_another(visualizer, names, style, objectives):
    one = visualizer("pareto", as_results(synthetic.pareto(names, objectives)), plot_style=style)
    figure = one.figure()
    FigureCanvasAgg(figure)
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    for ax in figure.axes:
        labels = [*ax.get_xticklabels(), *ax.texts] if ax.collections and not ax.containers else ax.get_xticklabels()
        boxes = [t.get_window_extent(renderer).shrunk(0.9, 0.7) for t in labels if t.get_text().strip()]
        clashes = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
        assert not clashes, [t.get_text() for t in labels]


def test_without_an_analysis_there_is_no_figure(visualizer, tmp_path):
    results = synthetic.results()
    results.comparison = None
    visualizer("pareto", results).create_visualizations()
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataError, match="no Pareto analysis"):
        visualizer("pareto", results).figure()
