"""What panels draw is what results say."""

from __future__ import annotations

import dataclasses

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from analyzer.data_types import Failed, Finding, MultiOutput, Skipped
from analyzer.errors import ConfigError, DataError
from analyzer.measures.curves import band
from analyzer.visualizers.panels import PANELS
from analyzer.visualizers.panels.confidence import density, entropy_bounds
from analyzer.visualizers.plot import plot
from analyzer.visualizers.style import HEALTH_MAP, LINE_STYLES, MARKERS, PALETTE, model_colors
from tests.visualizers import synthetic

pytestmark = pytest.mark.plain

COMPARISON = synthetic.comparison(("a", "b", "c"))
RESULTS = {
    "classification": synthetic.classification(),
    "binary": synthetic.classification(classes=2),
    "multilabel": synthetic.multilabel(),
    "label": synthetic.multilabel().labels[0],
    "regression": synthetic.regression(),
    "gaussian": synthetic.gaussian(),
    "quantile": synthetic.quantile(),
    "weights": synthetic.weights(),
    "training": synthetic.training(),
    "flow": synthetic.flow(),
    "performance": synthetic.performance(),
    "comparison": COMPARISON,
    "pca": COMPARISON.weight_pca,
    "pairs": COMPARISON.cka,
    "pareto": COMPARISON.pareto,
    "relevance": synthetic.relevance(),
    "relevance of tokens": synthetic.relevance(kind="tokens"),
    "relevance of features": synthetic.relevance(kind="features"),
    "relevance of steps": synthetic.relevance(kind="series"),
    "robustness": synthetic.robustness(),
    "score withheld": synthetic.robustness(withheld=True),
    "robustness of a chain": synthetic.robustness(1),
    "corrupted tokens": synthetic.robustness(attacked=False),
    "shift": synthetic.shift(),
    "shift without labels": synthetic.shift(labelled=False, outputs=("$a$", "b")),
    "little known of shift": synthetic.shift(bare=True),
    "plain gradient": synthetic.relevance(full=False),
    "example": synthetic.relevance().examples[0],
    "explanation": synthetic.explanation(),
    "contrastive explanation": synthetic.explanation(against=True),
    "explanation of tokens": synthetic.explanation("tokens"),
}


def numbers(line):
    return np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)


def find_line(ax, x, y):
    return [
        line
        for line in ax.lines
        if len(line.get_xdata()) == len(x) and np.allclose(numbers(line)[0], x) and np.allclose(numbers(line)[1], y)
    ]


@pytest.mark.parametrize(
    ("name", "kind"), [(n, k) for n, r in RESULTS.items() for k, p in PANELS.items() if type(r) in p.types]
)
def test_every_panel_of_every_result_draws_on_given_and_on_new_axes(name, kind):
    ax = Figure().add_subplot()
    assert plot(RESULTS[name], ax, kind) is ax
    assert ax.lines or ax.collections or ax.patches or "Nothing to draw" in " ".join(t.get_text() for t in ax.texts)
    ax.figure.canvas.draw()
    new = plot(RESULTS[name], kind=kind)
    new.figure.canvas.draw()
    assert new.get_title(loc="left")


def test_every_kind_of_panel_is_covered():
    assert {k for k, p in PANELS.items() if any(type(r) in p.types for r in RESULTS.values())} == set(PANELS)


def test_reliability_has_mean_confidence_on_x_and_no_empty_bins():
    result = RESULTS["classification"]
    bins = result.reliability
    ax = plot(result, kind="reliability")
    assert len(find_line(ax, bins.confidence, bins.accuracy)) == 1
    assert len(find_line(ax, result.smooth_curve.confidence, result.smooth_curve.accuracy)) == 1
    bars = [p for p in ax.patches if p.get_height() > 0]
    assert len(bars) == len(ax.patches) == bins.count.size
    heights = np.array([p.get_height() for p in bars])
    assert np.allclose(heights / heights.max(), bins.count / bins.count.max())
    band = ax.collections[0].get_paths()[0].vertices
    assert {tuple(v) for v in np.column_stack([bins.confidence, bins.band_low]).round(9)} <= {
        tuple(v) for v in band.round(9)
    }


def test_a_single_bin_still_has_its_band():
    part = synthetic.make(
        synthetic.LabelCalibration,
        name="rare",
        index=0,
        ece=synthetic.estimate(0.1),
        verdict=synthetic.verdict(),
        reliability=synthetic.bins_of(np.full(9, 0.03), np.arange(9) < 1),
        smooth_curve=synthetic.curve_of(np.full(9, 0.03), np.arange(9) < 1),
    )
    segments = plot(part).collections[0].get_segments()
    assert np.allclose(segments[0][:, 1], [part.reliability.band_low[0], part.reliability.band_high[0]])


def test_multilabel_draws_its_worst_label():
    result = RESULTS["multilabel"]
    worst = result.labels[-1]
    ax = plot(result, kind="reliability")
    assert find_line(ax, worst.reliability.confidence, worst.reliability.accuracy)
    assert worst.name in ax.get_title(loc="left")


def test_landscape_is_ece_by_brier_with_intervals():
    result = RESULTS["classification"]
    ax = plot({"a": result, "b": synthetic.classification(3)}, kind="landscape")
    assert find_line(ax, [result.ece.value], [result.brier.value])
    ends = np.concatenate([s for c in ax.collections for s in c.get_segments()])
    for estimate, axis in ((result.ece, 0), (result.brier, 1)):
        assert np.isclose(ends[:, axis], estimate.low).any()
        assert np.isclose(ends[:, axis], estimate.high).any()


def test_gap_and_best_epoch_are_those_of_the_result():
    result = RESULTS["training"]
    gap = result.curves["val_loss"].smoothed[0] - result.curves["loss"].smoothed[0]
    assert find_line(plot(result, kind="gap"), result.epochs, gap)
    peak = result.peak_performance
    assert find_line(plot(result, kind="best_epoch"), [peak.epoch.value], [peak.value.value])
    assert find_line(plot(result, kind="loss"), result.epochs, result.curves["val_loss"].raw[0])


def test_what_is_marked_on_training_curves():
    onset = Finding(
        kind="overfitting", layer=None, severity="warning", evidence={"onset_epoch": 13}, message="it overfits"
    )
    result = dataclasses.replace(RESULTS["training"], findings=(onset,))
    loss = plot(result, kind="loss")
    at = int(np.flatnonzero(result.epochs == 13)[0])
    assert find_line(loss, [13], [result.curves["val_loss"].smoothed[0, at]])
    assert [line.get_xdata()[0] for line in loss.lines if line.get_marker() == 7] == [11]
    words = " ".join(text.get_text().replace("\n", " ") for text in loss.texts)
    assert "cross: overfitting from here on" in words
    assert "caret at the bottom: step of the learning rate" in words
    bare = dataclasses.replace(result, findings=(), learning_rate_steps=(), evaluated_gap=None)
    words = " ".join(text.get_text() for kind in ("loss", "gap") for text in plot(bare, kind=kind).texts)
    assert not any(word in words for word in ("cross", "caret", "diamonds"))
    (diamond,) = [line for line in plot(result, kind="gap").lines if line.get_marker() == "D"]
    assert diamond.get_xdata()[0] > result.epochs[-1]
    assert diamond.get_ydata()[0] == result.evaluated_gap.value


def test_gap_of_several_runs_has_its_own_band():
    result = synthetic.training(runs=3, window=None)
    result = dataclasses.replace(result, gap=dataclasses.replace(result.gap, band=band(result.gap.raw)))
    ax = plot(result, kind="gap")
    assert find_line(ax, result.epochs, result.gap.raw.mean(axis=0))
    (area,) = [c for c in ax.collections if isinstance(c, PolyCollection)]
    assert area.get_paths()[0].vertices[:, 1].max() == pytest.approx(result.gap.band.high.max())


def test_models_judged_by_another_metric_are_named_not_drawn():
    result = RESULTS["training"]
    other = dataclasses.replace(result, performance=result.loss)
    ax = plot({"a": result, "b": result, "odd": other}, kind="performance")
    assert not find_line(ax, result.epochs, result.curves["val_loss"].smoothed[0])
    assert any("another metric or none: odd" in text.get_text() for text in ax.texts)


def test_norms_are_those_of_the_layers_and_zeros_are_left_out():
    result = RESULTS["weights"]
    ax = plot(result, kind="weight_norms")
    living = [layer.l2 for layer in result.layers[:-1]]
    assert find_line(ax, living, range(len(living)))
    assert [t.get_text() for t in ax.get_yticklabels()] == [layer.id for layer in result.layers]


def test_health_is_written_in_the_cells():
    words = [t.get_text() for t in plot(RESULTS["weights"], kind="weight_health").texts]
    assert {"1.00", "! 0.35", "✕ 0.00"} <= set(words)


def test_rank_has_its_ceiling():
    result = RESULTS["flow"]
    ax = plot(result, kind="effective_rank")
    assert find_line(ax, [layer.effective_rank_ceiling for layer in result.layers], range(len(result.layers)))


def test_confidence_violins_have_no_mass_where_none_can_be():
    grid, mass = density(np.array([0.1, 0.12, 1.0, 1.0, 0.99]), 0.1, 1.0)
    assert grid.min() > 0.1
    assert grid.max() < 1.0
    assert mass.sum() == pytest.approx(1.0)


def test_density_is_a_kernel_density():
    from scipy.stats import gaussian_kde

    values = np.random.default_rng(0).normal(0.5, 0.08, 4000)
    grid, mass = density(values, 0.0, 1.0)
    width = 0.9 * min(values.std(), np.subtract(*np.percentile(values, [75, 25])) / 1.349) * 4000**-0.2
    reference = gaussian_kde(values, bw_method=width / values.std(ddof=1))(grid)
    assert np.abs(mass / (grid[1] - grid[0]) - reference).max() < 0.03 * reference.max()


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_entropy_lies_within_its_bounds_and_reaches_them(classes):
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(classes, 0.4), 3000)
    entropy = -(p * np.log(np.clip(p, 1e-300, None))).sum(1)
    low, high = entropy_bounds(p.max(1), classes)
    assert (entropy >= low - 1e-9).all()
    assert (entropy <= high + 1e-9).all()
    low, high = entropy_bounds(np.array([1 / classes, 1.0]), classes)
    assert np.allclose(high, [np.log(classes), 0])
    assert np.allclose(low, [np.log(classes), 0])


def test_possible_region_is_drawn_and_holds_every_row():
    result = RESULTS["classification"]
    ax = plot(result, kind="uncertainty")
    (region,) = ax.patches
    inside = region.get_path().contains_points(np.column_stack([result.confidence, result.entropy]), radius=1e-3)
    assert inside.mean() > 0.99


def test_nothing_to_draw_is_one_clear_error():
    with pytest.raises(DataError, match="skipped: no labels"):
        plot(Skipped("no labels"))
    with pytest.raises(DataError, match="failed: boom"):
        plot({"a": Failed("boom", "here")})
    with pytest.raises(DataError, match="no results"):
        plot({})
    with pytest.raises(DataError, match="No panel draws int"):
        plot(3)


def test_unknown_kind_names_the_possible_ones():
    with pytest.raises(ConfigError, match=r"'reliability', 'confidence', 'uncertainty', 'per_class_ece', 'landscape'"):
        plot(RESULTS["classification"], kind="loss")


def test_layers_of_different_models_do_not_share_a_panel():
    with pytest.raises(DataError, match="same layers"):
        plot({"a": synthetic.weights(), "b": synthetic.weights(ids=("x",))}, kind="weight_norms")


def test_outputs_are_drawn_together_and_named():
    both = MultiOutput(outputs={"_first": synthetic.classification(1), "$second$": synthetic.classification(2)})
    ax = plot({"model": both}, kind="reliability")
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["model · _first", "model · $second$"]


def test_users_settings_hold_on_users_axes():
    with matplotlib.rc_context({"font.size": 21.0, "axes.labelsize": 21.0}):
        before = dict(matplotlib.rcParams.copy())
        ax = plot(RESULTS["classification"], Figure(figsize=(12, 9)).add_subplot())
        assert ax.xaxis.label.get_fontsize() == 21.0
        assert dict(matplotlib.rcParams.copy()) == before


def luminance(color):
    """CIE L* of an sRGB colour."""
    rgb = np.asarray(matplotlib.colors.to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    y = float(linear @ [0.2126, 0.7152, 0.0722])
    return 116 * y ** (1 / 3) - 16 if y > 0.008856 else 903.3 * y


def test_health_map_rises_in_lightness_all_the_way():
    lightness = [luminance(HEALTH_MAP(v)[:3]) for v in np.linspace(0, 1, 64)]
    assert (np.diff(lightness) > 0).all()
    assert lightness[-1] - lightness[0] > 55


def test_twenty_models_are_told_apart():
    names = [f"m{i}" for i in range(20)]
    looks = {(color, MARKERS[i % len(MARKERS)]) for i, color in enumerate(model_colors(names).values())}
    assert len(looks) == 20
    assert len(set(PALETTE)) == 14
    assert len(LINE_STYLES) == 5


def test_colors_are_those_of_the_place_in_the_order_given():
    assert model_colors(["b", "a"]) == {"b": PALETTE[0], "a": PALETTE[1]}


@pytest.mark.parametrize("color", PALETTE)
def test_every_colour_stands_out_from_white(color):
    assert luminance(color) < 75
