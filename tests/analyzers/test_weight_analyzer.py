"""The weight analysis of whole models: totals, rows, verdicts and what they are blind to."""

import json
from typing import get_type_hints

import keras
import numpy as np
import pytest

from analyzer.analyzers.weight_analyzer import WeightAnalyzer, weight_result
from analyzer.backends import engine
from analyzer.config import AnalysisConfig
from analyzer.data_types.results import AnalysisResults
from analyzer.data_types.serialization import ArrayStore, decode, encode
from analyzer.data_types.values import Failed, Skipped
from analyzer.data_types.weights import WeightResult
from analyzer.inspection import open_model
from analyzer.inspection.needs import Weights
from analyzer.inspection.weights import describe_weights

L = keras.layers


def conv_net(seed=0, scale=1.0):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            L.Input((8, 8, 2)),
            L.Conv2D(8, 3, name="conv1", activation="relu"),
            L.Conv2D(6, 3, name="conv2"),
            L.BatchNormalization(name="norm"),
            L.Flatten(),
            L.Dense(4, name="head"),
        ]
    )
    model.get_layer("conv1").kernel.assign(model.get_layer("conv1").kernel * scale)
    model.get_layer("conv2").kernel.assign(model.get_layer("conv2").kernel / scale)
    return model


def analysed(model, **options):
    described = describe_weights(open_model(model), engine())
    return weight_result(described, AnalysisConfig(**options))


def change(model, name, values):
    layer = model.get_layer(name)
    layer.set_weights([values(layer.get_weights()[0]), *layer.get_weights()[1:]])
    return model


def verdicts(result):
    return {(f.kind, f.layer, f.severity) for f in result.findings if f.severity != "info"}


def test_fresh_model_is_healthy_and_totals_are_those_of_keras():
    model = conv_net()
    result = analysed(model)
    assert verdicts(result) == set()
    assert result.health.score == 1.0
    trainable = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    assert result.totals.total == model.count_params()
    assert (result.totals.trainable, result.totals.non_trainable) == (trainable, model.count_params() - trainable)
    assert [layer.id for layer in result.layers] == ["conv1", "conv2", "head"]
    assert [layer.health.score for layer in result.layers] == [1.0, 1.0, 1.0]


def test_filters_narrow_rows_and_never_totals():
    model = conv_net()
    everything = analysed(model, analyze_biases=True)
    assert len(everything.tensors) == len(model.weights)
    assert everything.omitted_tensors == 0
    dense = analysed(model, weight_layer_types=["Dense"])
    assert [tensor.id for tensor in dense.tensors] == ["head/kernel"]
    assert dense.omitted_tensors == len(model.weights) - 1
    assert vars(dense.totals) == vars(everything.totals)


def test_filter_hides_no_nan_and_reaches_parts_of_composite_layers():
    model = change(conv_net(), "conv1", lambda w: np.full_like(w, np.nan))
    assert ("non_finite", "conv1", "error") in verdicts(analysed(model, weight_layer_types=["Dense"]))
    x = keras.Input((4, 6))
    attention = keras.Model(x, L.MultiHeadAttention(2, 3, name="mha")(x, x))
    rows = analysed(attention, weight_layer_types=["MultiHeadAttention"]).tensors
    assert len(rows) == 4


def test_filter_without_match_says_so():
    (finding,) = analysed(conv_net(), weight_layer_types=["Conv2d"]).findings
    assert finding.kind == "unknown_layer_type"
    assert "'Conv2D'" in finding.message


BROKEN = {
    "non_finite": (lambda w: np.where(np.arange(w.size).reshape(w.shape) == 3, np.inf, w), "error"),
    "dead_channels": (lambda w: w * (np.arange(w.shape[-1]) >= w.shape[-1] // 2), "warning"),
    "exploded_scale": (lambda w: w * 300, "warning"),
    "vanished_scale": (lambda w: w * 1e-4, "error"),
    "divergence": (lambda w: np.where(np.arange(w.size).reshape(w.shape) == 3, 400.0, 0.1 * w), "warning"),
    "duplicate_filters": (lambda w: w[..., :2].repeat(3, axis=-1) * (1 + np.arange(6)), "warning"),
    "rank_one": (lambda w: w[..., :1] * np.linspace(-1, 1, 6), "error"),
    "clustered_at_extremes": (lambda w: np.clip(w, -0.1, 0.1), "warning"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_fault_is_found_with_evidence_threshold_and_reason(kind):
    make, severity = BROKEN[kind]
    result = analysed(change(conv_net(), "conv2", make))
    found = {f.kind: f for f in result.findings}
    assert kind in found
    finding = found[kind]
    assert (finding.layer, finding.severity) == ("conv2", severity)
    assert finding.evidence["value"] >= finding.evidence["threshold"]
    assert finding.evidence["tensor"] == "conv2/kernel"
    assert finding.evidence["reason"]
    assert finding.message.startswith("conv2/kernel ")
    assert "None" not in finding.message
    layer = next(layer for layer in result.layers if layer.id == "conv2")
    assert layer.health.score <= 0.5
    assert result.health.worst == "conv2"


def test_dead_layer_is_red_and_sparse_one_remarked():
    dead = analysed(change(conv_net(), "head", np.zeros_like))
    assert dead.health.score == 0.0
    assert ("dead_channels", "head", "error") in verdicts(dead)
    sparse = analysed(change(conv_net(), "head", lambda w: w * (np.random.default_rng(0).random(w.shape) < 0.3)))
    assert {(f.kind, f.severity) for f in sparse.findings} == {("sparse", "info")}


def test_zero_initialised_layer_that_was_never_trained_says_so():
    model = keras.Sequential([L.Input((8,)), L.Dense(6, kernel_initializer="zeros", name="gate")])
    (finding,) = analysed(model).findings
    assert (finding.kind, finding.severity) == ("dead_channels", "warning")
    assert "initialiser left it" in finding.message


@pytest.mark.parametrize("scale", [10.0, 0.1])
def test_function_preserving_rescaling_changes_no_verdict(scale):
    plain, rescaled = conv_net(), conv_net(scale=scale)
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 2)).astype("float32")
    np.testing.assert_allclose(plain.predict(x, verbose=0), rescaled.predict(x, verbose=0), rtol=1e-3, atol=1e-4)
    assert verdicts(analysed(rescaled)) == verdicts(analysed(plain)) == set()


def test_unit_permutation_changes_neither_verdict_nor_norm():
    broken = change(conv_net(), "conv1", lambda w: np.where(np.arange(8) < 3, 0.0, w))
    order = np.random.default_rng(0).permutation(8)
    permuted = change(conv_net(), "conv1", lambda w: np.where(np.arange(8) < 3, 0.0, w)[..., order])
    change(permuted, "conv2", lambda w: w[:, :, order])
    one, other = analysed(broken), analysed(permuted)
    assert verdicts(one) == verdicts(other) != set()
    norms = [[layer.operator_norm.value for layer in result.layers] for result in (one, other)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)


def test_rows_are_flat_and_result_survives_json():
    result = analysed(conv_net(), analyze_biases=True)
    rows = result.rows()
    assert [row["id"] for row in rows] == [tensor.id for tensor in result.tensors]
    assert {"layer", "role", "l2", "spectral_norm", "zero_share", "layer_health"} <= set(rows[0])
    assert all(not isinstance(value, dict | np.ndarray) for row in rows for value in row.values())
    store = ArrayStore()
    text = json.dumps(encode(result, store), allow_nan=False)
    back = decode(WeightResult, json.loads(text), store.arrays)
    assert back.rows() == rows
    assert np.array_equal(back.tensors[0].histogram.counts, result.tensors[0].histogram.counts)
    assert back.layers[0].operator_norm == result.layers[0].operator_norm
    assert set(get_type_hints(WeightResult)) == set(vars(result))


def test_every_model_gets_its_own_outcome():
    models = {"good": conv_net(), "skipped": None, "broken": None}
    described = describe_weights(open_model(models["good"]), engine())
    cache = {
        "good": {Weights(): described},
        "skipped": {Weights(): Skipped("not for this model")},
        "broken": {Weights(): "no material"},
    }
    results = AnalysisResults(tuple(models))
    analyzer = WeightAnalyzer(models, AnalysisConfig(verbose=False))
    assert (analyzer.requires_data(), analyzer.needs()) == (False, (Weights(),))
    analyzer.analyze(results, None, cache)
    assert isinstance(results.weights["good"], WeightResult)
    assert results.weights["skipped"] == Skipped("not for this model")
    assert isinstance(results.weights["broken"], Failed)
