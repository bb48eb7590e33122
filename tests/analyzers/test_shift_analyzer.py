"""The shift analysis: shifted and harmful are separate answers, and what cannot be compared is named."""

import json

import keras
import numpy as np
import pytest

from analyzer import AnalysisConfig, AnalysisResults, ModelAnalyzer
from analyzer.data_types import Skipped
from analyzer.inspection.reducers import KeepMeans, KeepSamples
from analyzer.robustness.gathered_shift import PlaceFeatures
from tests.robustness.oracle import digits, linear_weights

pytestmark = pytest.mark.slow

L = keras.layers
OTHERS = ("weights", "calibration", "information_flow", "training_dynamics", "cost")
N = 648
# In the order of the file, digits shift: they come writer by writer.
ORDER = np.random.default_rng(0).permutation(1797)
X, Y = (array[ORDER] for array in digits())
REFERENCE, NEW = (X[500:1148], Y[500:1148]), (X[1148:1796], Y[1148:1796])


def audit(models, data, reference, folder, **options):
    settings = {f"analyze_{name}": False for name in OTHERS}
    settings |= {"save_plots": False, "progress": False, "verbose": False, "n_bootstrap": 40, "n_samples": N}
    analyzer = ModelAnalyzer(models, config=AnalysisConfig(**settings | options), output_dir=folder)
    return analyzer.analyze(data, reference)


@pytest.fixture(scope="module")
def model():
    """A linear classifier without biases, which decides alike at any contrast, behind a layer that changes nothing."""
    kernel, _ = linear_weights(X[:500], Y[:500])
    first, second = L.Dense(64, name="first"), L.Dense(10, activation="softmax", name="second")
    model = keras.Sequential([keras.Input((64,), name="pixels"), first, second])
    first.set_weights([np.eye(64), np.zeros(64)])
    second.set_weights([kernel, np.zeros(10)])
    return model


def permuted(x):
    """Each column as it was, and nothing between columns."""
    return np.stack([np.random.default_rng(j).permutation(column) for j, column in enumerate(x.T)], axis=1)


@pytest.fixture(scope="module")
def found(model, tmp_path_factory):
    data = {
        "the same": NEW,
        "half the contrast": (0.5 * NEW[0], NEW[1]),
        "permuted": (permuted(NEW[0]), NEW[1]),
        "without labels": (permuted(NEW[0]),),
    }
    folder = tmp_path_factory.mktemp("shift")
    return {name: audit({"net": model}, one, REFERENCE, folder / name).shift["net"] for name, one in data.items()}


@pytest.mark.parametrize(
    ("name", "shifted", "harm"),
    [
        ("the same", False, "not harmful"),
        ("half the contrast", True, "not harmful"),
        ("permuted", True, "harmful"),
        ("without labels", True, "suspected"),
    ],
)
def test_shifted_and_harmful_are_two_answers(found, name, shifted, harm):
    result = found[name]
    assert result.shifted == shifted
    assert (result.p_value <= result.level) == shifted
    assert result.outputs["output"].harm == harm
    kinds = {finding.kind: finding.severity for finding in result.findings}
    assert kinds == ({} if not shifted else {"data_shifted": "info" if harm == "not harmful" else "warning"})


def test_every_place_is_compared_and_only_some_are_tested(found):
    places = {place.place: place for place in found["half the contrast"].places}
    assert list(places) == ["pixels", "first", "output"]
    assert [place.kind for place in places.values()] == ["input", "layer", "output"]
    assert [place.n_features for place in places.values()] == [64, 64, 10]
    # The first layer hands on what it gets.
    assert places["first"].drift.value == pytest.approx(places["pixels"].drift.value, rel=1e-4)
    assert places["first"].ks == pytest.approx(places["pixels"].ks, rel=1e-6)
    assert places["pixels"].drift.value > places["pixels"].chance
    assert found["half the contrast"].n == found["half the contrast"].n_reference == PlaceFeatures().n_samples


def test_few_layers_are_tested_and_progress_is_told(tmp_path):
    hidden = [L.Dense(4, name=f"layer{i}") for i in range(9)]
    net = keras.Sequential([keras.Input((64,)), *hidden, L.Dense(10, activation="softmax")])
    told = []
    data = NEW[0][:60], NEW[1][:60]
    result = audit({"net": net}, data, REFERENCE, tmp_path, progress=lambda *step: told.append(step)).shift["net"]
    layers = [place for place in result.places if place.kind == "layer"]
    assert [place.place for place in layers] == [layer.name for layer in hidden]
    assert [place.place for place in layers if place.ks is not None] == [f"layer{i}" for i in (0, 2, 4, 6, 8)]
    assert all((place.adjusted is None) == (place.ks is None) for place in layers)
    assert [step for step in told if step[0] == "net: shift"] == [("net: shift", i, 11) for i in range(12)]


def test_a_feature_that_is_moved_is_named(model, tmp_path):
    moved = NEW[0].copy()
    moved[:, 27] += 1.5
    result = audit({"net": model}, (moved, NEW[1]), REFERENCE, tmp_path).shift["net"]
    assert (result.features[0].place, result.features[0].feature) == ("pixels", 27)
    at = result.features[0]
    assert np.median(at.new) - np.median(at.reference) == pytest.approx(1.5, abs=0.3)
    assert (np.diff(at.reference) >= 0).all()


def test_accuracy_is_that_of_the_decisions(found, model):
    output = found["permuted"].outputs["output"]
    assert output.accuracy.n == output.reference_accuracy.n == N
    assert output.change.value == pytest.approx(output.accuracy.value - output.reference_accuracy.value)
    assert output.change.high < 0
    assert set(output.estimates) == {"AC", "DoC", "ATC max confidence", "ATC negative entropy"}
    assert found["without labels"].outputs["output"].accuracy is None
    unlabelled = found["without labels"].outputs["output"].estimates
    assert {name: estimate.value for name, estimate in unlabelled.items()} == pytest.approx(
        {name: estimate.value for name, estimate in output.estimates.items()}, abs=0.1
    )


def test_scores_tell_permuted_samples_and_not_the_same(found):
    scores = {name: result.outputs["output"].ood for name, result in found.items()}
    assert set(scores["permuted"]) == {"MSP", "energy", "Mahalanobis", "kNN"}
    assert scores["permuted"]["Mahalanobis"].auroc.low > 0.5
    assert scores["permuted"]["kNN"].auroc.value > scores["the same"]["kNN"].auroc.value
    assert scores["the same"]["Mahalanobis"].auroc.low < 0.6


def test_results_are_read_back(model, tmp_path):
    results = audit({"net": model}, NEW, REFERENCE, tmp_path)
    again = AnalysisResults.load(tmp_path).shift["net"]
    assert again.places == results.shift["net"].places
    assert again.outputs == results.shift["net"].outputs
    assert again.verdict == results.shift["net"].verdict
    document = json.loads((tmp_path / "analysis_results.json").read_text())
    assert document["shift"]["net"]["shifted"] is False
    assert len(results.to_frame("shift")) == 3


def test_without_reference_nothing_is_compared(model, tmp_path):
    assert audit({"net": model}, NEW, None, tmp_path).shift == {}
    analyzer = ModelAnalyzer({"net": model}, config=AnalysisConfig(save_plots=False), output_dir=tmp_path)
    skipped = analyzer.analyze(NEW, analysis_types=["shift"]).shift["net"]
    assert isinstance(skipped, Skipped)
    assert "reference_data" in skipped.reason


def test_reference_that_does_not_fit_costs_nothing_else(model, tmp_path):
    results = audit({"net": model}, NEW, (REFERENCE[0][:, :5], REFERENCE[1]), tmp_path)
    assert "(648, 5)" in results.shift["net"].reason
    assert results.performance["net"].n == N


def test_too_few_samples_are_named(model, tmp_path):
    skipped = audit({"net": model}, (NEW[0][:7], NEW[1][:7]), REFERENCE, tmp_path).shift["net"]
    assert isinstance(skipped, Skipped)
    assert "7 rows of new data" in skipped.reason


def test_words_and_regressions_are_compared_where_they_can_be(tmp_path):
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    embedding = L.Embedding(50, 4, name="embedding")
    output = L.Dense(1, name="price")(L.GlobalAveragePooling1D()(embedding(tokens)))
    embedding.set_weights([np.repeat(np.linspace(-1, 1, 50)[:, None], 4, axis=1)])
    x = np.random.default_rng(0).integers(0, 25, (80, 6))
    reference, new = (x[:40], x[:40, :1].astype(float)), (x[40:] + 25, x[40:, :1].astype(float))
    result = audit({"net": keras.Model(tokens, output)}, new, reference, tmp_path).shift["net"]
    assert "floats" in result.skipped["tokens"]
    assert result.outputs == {}
    assert {place.place for place in result.places} >= {"embedding"}
    assert result.shifted
    assert result.verdict.startswith("The data have shifted")


def test_means_over_positions_are_those_of_the_kept_samples():
    """Beside the reducer that keeps whole samples."""
    from analyzer.inspection.reducers import Batch

    tensor = keras.ops.convert_to_tensor(np.random.default_rng(0).normal(2, 1, (5, 3, 4, 6)).astype("float32"))
    keep = keras.ops.convert_to_tensor(np.array([3, 1], "int32"))
    batch = Batch(valid=keras.ops.ones(5, dtype="bool"), keep=keep)
    for axis, others in ((-1, (1, 2)), (1, (2, 3))):
        (whole,) = KeepSamples(n_samples=2, axis=axis).partial(tensor, batch)
        (means,) = KeepMeans(n_samples=2, axis=axis).partial(tensor, batch)
        expected = keras.ops.convert_to_numpy(whole).astype(float).mean(axis=others)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(means), expected, rtol=1e-5)


def test_the_need_is_met_alike_on_equal_data(model, tmp_path):
    """Wide places are drawn from by the same numbers on both sides."""
    result = audit({"net": model}, REFERENCE, REFERENCE, tmp_path).shift["net"]
    assert all(place.drift.value == 0 for place in result.places)
    assert result.p_value == 1
    assert PlaceFeatures() == PlaceFeatures()
