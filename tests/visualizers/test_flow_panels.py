"""Panels of information flow draw what results say, mark what is wrong, and say what is missing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from matplotlib.figure import Figure

from analyzer.data_types import Estimate, Finding
from analyzer.errors import DataError
from analyzer.visualizers.panels import PANELS
from analyzer.visualizers.panels.flow_health import COLUMNS, percent
from analyzer.visualizers.panels.flow_maps import MOST_BINS, unit_cells
from analyzer.visualizers.panels.flow_rows import kept_layers
from analyzer.visualizers.plot import plot
from analyzer.visualizers.series import cast_of
from analyzer.visualizers.text import NameBook
from tests.visualizers import synthetic

pytestmark = [pytest.mark.plain, pytest.mark.slow]

KINDS = [kind for kind, one in PANELS.items() if synthetic.InformationFlowResult in one.types]
DEEP = tuple(f"block/layer_{i}" + ("_relu" if i % 2 else "") for i in range(200))
RESULTS = {
    "full": lambda: synthetic.flow(),
    "bare": lambda: synthetic.flow(full=False),
    "broken": lambda: synthetic.flow(broken=True, units=300),
    "one layer": lambda: synthetic.flow(ids=("dense",)),
    "deep": lambda: synthetic.flow(ids=DEEP),
    "strange names": lambda: synthetic.flow(ids=synthetic.NASTY),
    "one unit": lambda: synthetic.flow(units=1),
}


def words(ax):
    return " ".join(" ".join(t.get_text().split()) for t in ax.texts)


def changed(result, place, **fields):
    layers = list(result.layers)
    layers[place] = dataclasses.replace(layers[place], **fields)
    return dataclasses.replace(result, layers=tuple(layers))


def drawn_values(ax):
    return [np.asarray(line.get_xdata(), float) for line in ax.lines]


def has_line(ax, values):
    return any(len(x) == len(values) and np.allclose(x, values, equal_nan=True) for x in drawn_values(ax))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", RESULTS)
def test_every_panel_draws_or_says_why_not(case, kind):
    result = RESULTS[case]()
    ax = plot({"a": result, "b": RESULTS[case]()}, kind=kind)
    ax.figure.canvas.draw()
    assert ax.get_title(loc="left")
    assert ax.lines or ax.collections or "Nothing to draw" in words(ax)
    plot(result, Figure().add_subplot(), kind).figure.canvas.draw()


@pytest.mark.parametrize(
    ("kind", "read"),
    [
        ("activations", lambda layer: layer.mean),
        ("gradients", lambda layer: layer.gradient_norm),
        ("gradients", lambda layer: layer.gradient_scale),
        ("gain", lambda layer: layer.gain),
        ("input_cosine", lambda layer: layer.input_cosine),
        ("effective_rank", lambda layer: layer.effective_rank),
        ("effective_rank", lambda layer: layer.participation_ratio),
        ("effective_rank", lambda layer: layer.intrinsic_dimension),
        ("effective_rank", lambda layer: layer.linear_rank),
        ("knowledge", lambda layer: layer.probe),
        ("knowledge", lambda layer: layer.separability),
        ("specialization", lambda layer: layer.specialization),
    ],
)
def test_lines_are_the_numbers_of_the_layers_and_stop_where_there_is_none(kind, read):
    result = synthetic.flow()
    values = [np.nan if read(layer) is None else float(read(layer)) for layer in result.layers]
    assert has_line(plot(result, kind=kind), values)


def test_intervals_reach_to_the_ends_of_the_estimates():
    result = synthetic.flow()
    ax = plot(result, kind="knowledge")
    ends = np.concatenate([segment for c in ax.collections for segment in c.get_segments()])[:, 0]
    for layer in result.layers:
        assert np.isclose(ends, layer.probe.low).any()
        assert np.isclose(ends, layer.probe.high).any()


def test_chance_is_a_line_for_classes_and_none_for_numbers():
    result = synthetic.flow()
    assert has_line(plot(result, kind="knowledge"), [0.13, 0.13])
    for i in range(len(result.layers)):
        result = changed(result, i, probe_chance=0.0)
    ax = plot(result, kind="knowledge")
    assert not has_line(ax, [0.0, 0.0])
    assert ax.get_xlabel() == "R² of the probe"


def test_a_gradient_of_zero_is_marked_and_not_drawn_as_a_small_one():
    zero = Estimate(value=0.0, n=64)
    ax = plot(changed(synthetic.flow(), 1, gradient_norm=zero), kind="gradients")
    assert "◂ zero" in words(ax)
    assert has_line(ax, [0.02])
    (line,) = [x for x in drawn_values(ax) if len(x) == 5 and np.isnan(x[1]) and np.nanmax(x) > 0.5]
    assert np.nanmin(line) > 0


def test_the_reason_for_missing_gradients_stands_on_the_panel():
    ax = plot(synthetic.flow(full=False), kind="gradients")
    assert "Nothing to draw: no labels were given" in words(ax)
    assert not ax.lines
    assert "none for b: no labels were given" in words(
        plot({"a": synthetic.flow(), "b": synthetic.flow(full=False)}, kind="gradients")
    )


def health_words(result):
    """Words of the table by layer and column."""
    ax = plot(result, Figure(figsize=(16, 6)).add_subplot(), kind="flow_health")
    places = {tuple(float(v) for v in t.get_position()): t.get_text() for t in ax.texts}
    return {
        (layer.id, column.heading): places.get((j + 0.5, i + 0.5))
        for i, layer in enumerate(result.layers)
        for j, column in enumerate(COLUMNS)
    }


def test_health_is_percentages_with_counts_and_marks_and_missing_is_never_zero():
    found = health_words(synthetic.flow(broken=True))
    assert found["relu_1", "Dead"] == "! 12%  4 of 32"
    assert found["relu", "Not finite"] == "✕ 3%  1 of 32"
    assert found["relu", "Dead"] == "0%"
    assert found["dense", "Dead"] is None
    assert found["conv2d", "Saturated"] == "6%  2 of 32"
    assert found["relu", "Saturated"] is None
    assert found["relu_1", "Duplicate"] == "3%  1 of 32"
    bare = health_words(synthetic.flow(full=False))
    assert {bare[key, "Duplicate"] for key in synthetic.FLOW_IDS} == {None}


def test_missing_cells_are_hatched():
    ax = plot(synthetic.flow(), kind="flow_health")
    (hatched,) = [c for c in ax.collections if c.get_hatch()]
    missing = sum(column.share(layer) is None for layer in synthetic.flow().layers for column in COLUMNS)
    assert len(hatched.get_paths()) == missing > 0


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0%"), (1e-6, "<1%"), (0.0051, "1%"), (0.5, "50%"), (0.9999, ">99%"), (1, "100%")]
)
def test_percentages_are_rounded_to_nothing_and_all_only_where_they_are(share, text):
    assert percent(share) == text


def test_findings_color_names_and_shade_the_panel_that_shows_them():
    result = synthetic.flow(broken=True)
    ax = plot(result, kind="activations")
    names = {t.get_text(): t.get_color() for t in ax.get_yticklabels()}
    assert set(names) == {"conv2d", "✕ relu", "dense", "! relu_1", "logits"}
    assert len({names["conv2d"], names["✕ relu"], names["! relu_1"]}) == 3
    (shade,) = ax.patches
    assert (shade.get_y(), shade.get_height()) == (0.5, 1.0)
    assert not plot(result, kind="gradients").patches


def test_units_are_relative_to_the_layer_with_silent_and_broken_ones_apart():
    layer = synthetic.flow(broken=True).layers[1]
    cells = unit_cells(layer)
    assert np.isnan(cells).tolist() == np.isnan(layer.unit_mean).tolist()
    order = np.argsort(layer.unit_mean[[0, *range(2, 20)]])
    assert (np.diff(cells[[0, *range(2, 20)]][order]) >= 0).all()
    assert np.nanmax(cells) == 1
    silent = synthetic.flow().layers[3]
    assert np.isinf(unit_cells(silent)).tolist() == (silent.unit_zero_share == 1).tolist()
    flat = dataclasses.replace(silent, unit_mean=np.zeros(32), unit_zero_share=np.zeros(32))
    assert (unit_cells(flat) == 0).all()


def test_wide_layers_are_averaged_over_neighbours_and_say_so():
    result = synthetic.flow(units=4 * MOST_BINS)
    layer = result.layers[0]
    cells, means = unit_cells(layer), layer.unit_mean.reshape(-1, 4).mean(1)
    full = np.percentile(np.abs(means), 95)
    assert np.allclose(cells, np.clip(means / full, -1, 1))
    assert f"wider layers in {MOST_BINS} cells" in words(plot(result, kind="units"))
    assert "cells" not in words(plot(synthetic.flow(), kind="units"))
    one_broken = layer.unit_mean.copy()
    one_broken[5] = np.inf
    cells = unit_cells(dataclasses.replace(layer, unit_mean=one_broken))
    assert np.isnan(cells).nonzero()[0].tolist() == [1]


def test_cka_is_written_in_the_cells_and_undefined_is_a_dash():
    result = synthetic.flow(broken=True)
    ax = plot(result, kind="layer_cka")
    places = {tuple(float(v) for v in t.get_position()): t.get_text() for t in ax.texts}
    assert places[(2.0, 0.0)] == f"{result.cka[0, 2]:.2f}"
    assert places[(1.0, 3.0)] == "–"
    assert [t.get_text() for t in ax.get_yticklabels()][:2] == ["conv2d (1)", "relu (2)"]


def test_cka_of_several_models_is_their_mean_and_says_so():
    first = synthetic.flow()
    second = dataclasses.replace(first, cka=np.eye(5))
    ax = plot({"a": first, "b": second}, kind="layer_cka")
    assert "mean of 2 models" in words(ax)
    places = {tuple(float(v) for v in t.get_position()): t.get_text() for t in ax.texts}
    assert places[(1.0, 0.0)] == f"{first.cka[0, 1] / 2:.2f}"


@pytest.mark.parametrize("kind", ["units", "flow_health"])
def test_strips_of_several_models_are_named_in_their_order(kind):
    ax = plot({"first": synthetic.flow(), "second": synthetic.flow(1)}, kind=kind)
    assert ": first, second" in words(ax)
    assert ax.get_legend() is None


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("model_")])
def test_models_of_different_layers_do_not_share_rows(kind):
    with pytest.raises(DataError, match="same layers"):
        plot({"a": synthetic.flow(), "b": synthetic.flow(ids=("x", "y"))}, kind=kind)


def test_models_of_different_layers_share_an_axis_of_depth():
    both = {"a": synthetic.flow(), "b": synthetic.flow(ids=("x", "y"))}
    ax = plot(both, kind="model_knowledge")
    assert has_line(ax, [0.5, 1.0])
    assert has_line(ax, [0.2, 0.4, 0.6, 0.8, 1.0])
    assert "no probe for 1 of 2 models" in words(
        plot({"a": synthetic.flow(), "b": synthetic.flow(full=False)}, kind="model_knowledge")
    )


def series_of(*results):
    named = {f"m{i}": result for i, result in enumerate(results)}
    return cast_of(named, list(named), {}, NameBook(), 100, 7).series


def test_layers_with_findings_are_kept_and_the_others_spread_along_the_depth():
    finding = Finding(kind="bottleneck", layer=DEEP[120], severity="error", message="made up")
    sick = dataclasses.replace(synthetic.flow(1, ids=DEEP), findings=(finding,))
    kept = kept_layers(series_of(synthetic.flow(ids=DEEP), sick), 8)
    assert len(kept) == 8
    assert {DEEP[120], DEEP[199], DEEP[0]} <= set(kept)
    places = [DEEP.index(key) for key in kept]
    assert places == sorted(places)
    assert max(np.diff(places)) < 60
    assert kept_layers(series_of(sick), 1) == [DEEP[120]]
    assert kept_layers(series_of(sick), None) == list(DEEP)
    assert len(kept_layers(series_of(synthetic.flow(full=False)), 2)) == 2
