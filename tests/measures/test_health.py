"""Health: independent of size, blind to rescaling, red when a layer is dead."""

import dataclasses
import math

import numpy as np
import pytest

from analyzer.data_types.weights import TensorStatistics
from analyzer.measures.health import GRADINGS, grade, layer_health, model_health, severity, tensor_parts
from analyzer.measures.matrices import dead_channels, duplicate_channels, spectrum
from analyzer.measures.weights import weight_statistics

pytestmark = pytest.mark.plain


def tensor(values, reference, **more):
    """A kernel ``(inputs, outputs)`` described as the inspection does it."""
    blocks = values[None]
    found = spectrum(blocks)
    fields = dataclasses.asdict(weight_statistics([values])) | {
        "channels": values.shape[1],
        "dead_channels": int(dead_channels(blocks).sum()),
        "duplicate_channels": duplicate_channels(blocks),
        "top_energy_share": found.top_energy_share if found else None,
        "rank": found.rank if found else None,
        "full_rank": min(values.shape),
    }
    identity = {"id": "d/kernel", "name": "kernel", "layer": "d", "layer_type": "Dense", "role": "kernel"}
    storage = {"shape": values.shape, "dtype": "float32", "parameters": values.size, "trainable": True}
    return TensorStatistics(**(fields | identity | storage | {"reference_rms": reference} | more))


def glorot(inputs, outputs, seed=0):
    limit = math.sqrt(6.0 / (inputs + outputs))
    return np.random.default_rng(seed).uniform(-limit, limit, size=(inputs, outputs)), limit / math.sqrt(3.0)


def score(values, reference, **more):
    return layer_health([tensor(values, reference, **more)]).score


@pytest.mark.parametrize("width", [16, 64, 256, 1024, pytest.param(4096, marks=pytest.mark.slow)])
def test_fresh_layers_of_any_width_are_fully_healthy(width):
    assert score(*glorot(width, width)) == 1.0


@pytest.mark.parametrize("shape", [(4, 5), (9, 32), (3, 64), (64, 2), (5, 1), (1, 8), (2, 3)])
def test_fresh_layers_of_odd_shapes_raise_nothing(shape):
    for seed in range(40):
        parts = layer_health([tensor(*glorot(*shape, seed))]).parts
        assert [p.kind for p in parts if severity(p) in ("warning", "error")] == []


@pytest.mark.parametrize("width", [16, 256])
def test_broken_layers_of_any_width_are_red(width):
    fresh, reference = glorot(width, width)
    lone = np.zeros((width, width))
    lone[0, 0] = 1.0
    one_nan = fresh.copy()
    one_nan[3, 2] = np.nan
    broken = {
        "zero": np.zeros((width, width)),
        "exploded": fresh * 1e4,
        "vanished": fresh * 1e-4,
        "all but one weight dead": lone,
        "one NaN": one_nan,
        "constant": np.full((width, width), reference),
        "rank one": np.outer(fresh[0], fresh[:, 0]) * width**0.5,
        "all dead but two": np.where(np.arange(width) < 1, fresh, 0.0),
    }
    for name, values in broken.items():
        assert score(values, reference) < 0.05, name


def test_health_falls_with_the_share_of_dead_channels():
    fresh, reference = glorot(64, 64)
    scores = [score(np.where(np.arange(64) < dead, 0.0, fresh), reference) for dead in (0, 4, 16, 32, 60)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == 1.0
    assert scores[1] > 0.8
    assert scores[2] == pytest.approx(0.5)
    assert scores[-1] == 0.0


@pytest.mark.parametrize("factor", [0.1, 10.0])
@pytest.mark.parametrize("trained", [0.4, 1.0, 3.0])
def test_a_rescaling_by_ten_is_at_most_a_note(factor, trained):
    fresh, reference = glorot(32, 48)
    parts = tensor_parts(tensor(fresh * trained * factor, reference))
    assert {severity(part) for part in parts} <= {None, "info"}


def test_only_aspects_of_scale_see_a_rescaling():
    fresh, reference = glorot(32, 48)
    for factor in (1e-6, 1e6):
        before = {p.kind: p for p in tensor_parts(tensor(fresh, reference))}
        after = {p.kind: p for p in tensor_parts(tensor(fresh * factor, reference))}
        changed = {kind for kind in before if not math.isclose(after[kind].score, before[kind].score)}
        assert changed <= {"exploded_scale", "vanished_scale", "divergence"}
        assert changed


def test_single_weights_that_ran_away_are_named():
    fresh, reference = glorot(64, 64)
    fresh[0, 0] = 5e3 * reference
    parts = {p.kind: severity(p) for p in tensor_parts(tensor(fresh, reference))}
    assert parts["divergence"] == "warning"


def test_clipped_and_saturated_weights_are_named():
    fresh, reference = glorot(64, 64)
    clipped = np.clip(fresh, -0.5 * np.abs(fresh).max(), 0.5 * np.abs(fresh).max())
    parts = {p.kind: severity(p) for p in tensor_parts(tensor(clipped, reference, saturated_share=0.3))}
    assert (parts["clustered_at_extremes"], parts["saturation"]) == ("warning", "warning")


@pytest.mark.parametrize("kind", GRADINGS)
def test_score_falls_through_its_published_points(kind):
    rule = GRADINGS[kind]
    points = [rule.healthy_at, rule.warning_at, rule.error_at]
    assert points == sorted(set(points))
    assert [grade(kind, value).score for value in points] == [1.0, 0.5, 0.0]
    found = [severity(grade(kind, value)) for value in (*points, math.inf)]
    assert found == [None, "warning", "error", "error"]
    assert severity(grade(kind, (rule.healthy_at + rule.warning_at) / 2)) == "info"
    assert rule.reason


def test_the_worst_part_and_the_worst_layer_decide():
    fresh, reference = glorot(32, 32)
    bad, good = tensor(fresh * 300, reference), tensor(fresh, reference)
    layer = layer_health([good, bad])
    assert layer.worst == "exploded_scale"
    assert layer.score == min(part.score for part in layer.parts)
    model = model_health({"good": layer_health([good]), "bad": layer})
    assert (model.worst, model.score) == ("bad", layer.score)
    assert model_health({"good": layer_health([good])}).worst is None


def test_what_cannot_be_judged_is_none():
    quantization = dataclasses.replace(tensor(*glorot(4, 4)), role="quantization", channels=None)
    assert layer_health([quantization]).score is None
    assert model_health({}).score is None
    bias = dataclasses.replace(tensor(*glorot(4, 4)), role="bias", channels=None)
    assert [part.kind for part in tensor_parts(bias)] == ["non_finite"]
