"""The robustness analysis on a model whose distances are known exactly, and on those that cannot be attacked."""

import keras
import numpy as np
import pytest

from analyzer import AnalysisConfig, AnalysisResults, DataInput, ModelAnalyzer
from analyzer.measures.robustness import aura
from tests.diagnosis.faulty import residual, samples
from tests.robustness.oracle import digits, exact_distances, linear_weights

pytestmark = pytest.mark.slow

L = keras.layers
ONLY = {
    f"analyze_{name}": False for name in ("weights", "calibration", "information_flow", "training_dynamics", "cost")
}
N, LARGEST = 60, 1.6
"""Samples, and the largest radius in grey levels from 0 to 16."""


def audit(models, data, folder, **options):
    settings = {
        **ONLY,
        "analyze_robustness": True,
        "save_plots": False,
        "progress": False,
        "n_bootstrap": 200,
    } | options
    return ModelAnalyzer(models, config=AnalysisConfig(**settings), output_dir=folder).analyze(data)


def linear(kernel, bias, scale=1.0):
    """Logits of grey levels from 0 to 16, brought to 0 to 1 by the model itself."""
    dense = L.Dense(10, activation="softmax")
    model = keras.Sequential([keras.Input((64,)), L.Rescaling(1 / 16), dense])
    dense.set_weights([(kernel * scale).astype("float32"), (bias * scale).astype("float32")])
    return model


@pytest.fixture(scope="module")
def fitted():
    x, y = digits()
    kernel, bias = linear_weights(x[:1400], y[:1400])
    return x[1400:], y[1400:], kernel, bias


@pytest.fixture(scope="module")
def results(fitted, tmp_path_factory):
    x, y, kernel, bias = fitted
    models = {
        "linear": linear(kernel, bias),
        "louder": linear(kernel, bias, 100.0),
        "silent": linear(0 * kernel, 0 * bias),
    }
    folder = tmp_path_factory.mktemp("robustness")
    found = audit(models, DataInput(x * 16, y), folder, robustness_samples=N)
    return found, folder


@pytest.fixture(scope="module")
def exact(fitted, results):
    """Distances in grey levels of the samples drawn; float64."""
    x, y, kernel, bias = fitted
    rows = results[0].robustness["linear"].indices
    return 16 * exact_distances(x[rows], y[rows], kernel, bias)


def test_the_bounds_are_those_of_the_rescaling_layer(results):
    threat = results[0].robustness["linear"].threat
    assert (threat.low, threat.high) == pytest.approx((0, 16))
    assert threat.bounds_source == "the model's Rescaling layer"
    assert threat.epsilon_max == pytest.approx(LARGEST)


def test_distances_and_score_are_the_exact_ones(results, exact):
    found = results[0].robustness["linear"]
    assert found.n == N
    within = exact <= LARGEST * (1 - 1e-4)
    np.testing.assert_allclose(found.distance[within], exact[within], rtol=0.02, atol=0.01)
    assert (np.nan_to_num(found.distance, nan=np.inf) >= exact * (1 - 1e-4) - 1e-3).all()
    assert found.aura.value == pytest.approx(aura(exact, LARGEST).value, abs=0.005)
    assert found.aura.low < found.aura.value < found.aura.high
    assert found.clean_accuracy.value == pytest.approx((exact > 0).mean())
    assert found.robust_accuracy.value == pytest.approx((exact > LARGEST).mean(), abs=1.5 / N)


def test_the_curve_is_the_exact_one_and_falls(results, exact):
    curve = results[0].robustness["linear"].curve
    assert curve.epsilon[0] == 0
    assert (np.diff(curve.accuracy) <= 0).all()
    assert (curve.low <= curve.accuracy).all()
    assert (curve.accuracy <= curve.high).all()
    truth = (exact[:, None] > curve.epsilon).mean(axis=0)
    np.testing.assert_allclose(curve.accuracy, truth, atol=1.5 / N)


def test_the_scale_of_logits_changes_nothing_but_a_note(results):
    plain, louder = results[0].robustness["linear"], results[0].robustness["louder"]
    assert louder.aura.value == pytest.approx(plain.aura.value, abs=1e-3)
    assert "logit_scale" in {flag.name for flag in louder.flags}
    assert louder.withheld is None


def test_a_constant_network_scores_0(results):
    found = results[0].robustness["silent"]
    assert found.aura.value == 0
    assert found.clean_accuracy.value == 0
    np.testing.assert_array_equal(found.distance, 0)


def test_classes_share_the_samples_out(results):
    found = results[0].robustness["linear"]
    assert sum(one.clean_accuracy.n for one in found.classes) == N
    mean = sum(one.aura.value * one.aura.n for one in found.classes) / N
    assert mean == pytest.approx(found.aura.value, abs=1e-9)


def test_models_are_compared_sample_by_sample(results):
    pairs = {(pair.first, pair.second): pair for pair in results[0].comparison.robustness}
    assert set(pairs) == {("linear", "louder"), ("linear", "silent"), ("louder", "silent")}
    alike, worse = pairs["linear", "louder"], pairs["linear", "silent"]
    assert alike.aura.value == pytest.approx(0, abs=1e-3)
    plain = results[0].robustness["linear"]
    assert worse.aura.value == pytest.approx(-plain.aura.value)
    assert worse.aura.high < 0
    assert (worse.only_first, worse.only_second) == (int(np.isnan(plain.distance).sum()), 0)
    assert worse.mcnemar_p_value == pytest.approx(min(1.0, 2 * 0.5**worse.only_first))


def test_examples_are_the_nearest_wrong_decisions(results, fitted):
    x, y, kernel, bias = fitted
    for one in results[0].robustness["linear"].examples:
        label = int(one.label.removeprefix("class "))
        assert label == y[one.index]
        np.testing.assert_allclose(one.values, x[one.index] * 16, rtol=1e-5)
        assert np.abs(one.moved - one.values).max() == pytest.approx(one.distance, rel=1e-3, abs=1e-4)
        z = one.moved.astype(float) / 16 @ kernel + bias
        others = np.delete(z, label)
        assert others.max() >= z[label] - 1e-4
        if one.decided != "a tie":
            # On the boundary two logits differ by float32's rounding alone.
            assert z[int(one.decided.removeprefix("class "))] >= z.max() - 1e-4


def test_layers_of_a_chain_are_told_apart_by_amplification_alone(results, fitted):
    found = results[0].robustness["linear"]
    assert found.layers.is_chain
    assert any("patching whole layers says nothing" in note for note in found.layers.notes)
    assert "layer_at_fault" not in {finding.kind for finding in found.findings}
    # Scaling every value changes no relative shift: only the dense layer amplifies, and an attack more than chance.
    scaling, dense = found.layers.layers
    for group in ("failures", "controls"):
        assert getattr(scaling.log_amplification, group).value == pytest.approx(0, abs=1e-5)
        assert getattr(dense.noise_gain, group).value == pytest.approx(1, abs=1e-4)
    assert dense.log_amplification.excess.low > 0
    # At the boundary a failure has lost its lead, no more and no less.
    x, _, kernel, bias = fitted
    z = np.sort(x[found.indices] @ kernel + bias, axis=1)
    leads = (z[:, -1] - z[:, -2])[(found.distance > 0) & (found.distance <= LARGEST)]
    assert leads.min() - 1e-3 <= found.layers.lost.failures.value <= leads.max() + 1e-3
    assert found.layers.n_failures + found.layers.n_controls <= N


def test_where_nothing_is_decided_rightly_there_is_no_layer_to_blame(results):
    found = results[0].robustness["silent"]
    assert found.layers is None
    assert any(note.startswith("layers not traced: No wrong decision was found") for note in found.notes)


def test_a_planted_branch_is_a_finding(tmp_path):
    model = residual(planted=1, blocks=2)
    x, _, y = samples(model, n=120)
    options = {"robustness_samples": 80, "robustness_epsilon": 1.0}
    found = audit({"net": model}, DataInput(x, y), tmp_path, **options).robustness["net"]
    (finding,) = [finding for finding in found.findings if finding.kind == "layer_at_fault"]
    assert (finding.layer, finding.severity) == ("down_1", "info")
    assert finding.evidence["share"] == found.layers.branches[0].share.failures.value > 0.5
    assert "'down_1'" in finding.message
    assert f"from {found.layers.n_used_failures} samples" in finding.message


def test_corruptions_of_a_table(results):
    found = results[0].robustness["linear"].corruptions
    assert found.kind == "table"
    assert found.accuracy.shape == (len(found.corruptions), 5)
    name, severity = found.worst_corruption, found.worst_severity
    assert found.accuracy[found.corruptions.index(name), severity - 1] == found.worst_accuracy == found.accuracy.min()
    assert found.mean_accuracy.value == pytest.approx(found.accuracy.mean())
    assert np.isnan(found.flip_rate[found.corruptions.index("covariate_shift")]).all()
    permuted = found.accuracy[found.corruptions.index("permuted_columns")]
    assert permuted[-1] < found.accuracy[found.corruptions.index("permuted_columns"), 0]


def test_saved_results_are_the_same(results):
    found, folder = results
    loaded = AnalysisResults.load(folder / "analysis_results.json").robustness["linear"]
    assert loaded.aura == found.robustness["linear"].aura
    np.testing.assert_array_equal(loaded.distance, found.robustness["linear"].distance)
    assert loaded.threat == found.robustness["linear"].threat
    assert loaded.layers == found.robustness["linear"].layers


def test_what_cannot_be_attacked_is_skipped_by_name_or_only_corrupted(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)).astype("float32"), rng.normal(size=20).astype("float32")
    skipped = audit({"line": keras.Sequential([keras.Input((3,)), L.Dense(1)])}, DataInput(x, y), tmp_path / "a")
    assert skipped.robustness["line"].status == "skipped"
    assert "the task is regression" in skipped.robustness["line"].reason
    tokens, labels = rng.integers(1, 9, (20, 6)).astype("int32"), rng.integers(0, 2, 20)
    words = keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            L.Embedding(9, 4),
            L.GlobalAveragePooling1D(),
            L.Dense(2, activation="softmax"),
        ]
    )
    found = audit({"words": words}, DataInput(tokens, labels), tmp_path / "b").robustness["words"]
    assert found.aura is None
    assert found.corruptions.kind == "tokens"
    assert any(note.startswith("not attacked: Attacks move inputs of float values") for note in found.notes)


def test_what_takes_long_is_told(fitted, tmp_path):
    x, y, kernel, bias = fitted
    told = []
    data = DataInput(x[:8] * 16, y[:8])
    audit({"linear": linear(kernel, bias)}, data, tmp_path, progress=lambda *step: told.append(step))
    labels = " ".join(label for label, _, _ in told)
    assert all(word in labels for word in ("attacks", "signs of masking", "layers at fault", "corruptions"))
    assert all(done <= total for _, done, total in told)
