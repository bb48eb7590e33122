"""The relevance analysis against planted truth: which features carry the decision, which units never do."""

import keras
import numpy as np
import pytest

from analyzer import AnalysisConfig, DataInput, ModelAnalyzer
from analyzer.errors import ConfigError

pytestmark = pytest.mark.slow

L = keras.layers
ONLY = {
    f"analyze_{name}": False for name in ("weights", "calibration", "information_flow", "training_dynamics", "cost")
}


def planted(name="net", seed=0):
    """Class 1 where feature 2 is above feature 5; two of six hidden units have no way out."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((8,), name="table"),
            L.Dense(6, activation="relu", name="hidden"),
            L.Dense(2, activation="softmax", name="head"),
        ],
        name=name,
    )
    kernel, head = np.zeros((8, 6), "float32"), np.zeros((6, 2), "float32")
    kernel[2, :4], kernel[5, :4] = [1, 2, -1, -2], [-1, -2, 1, 2]
    kernel[:, 4:] = np.random.default_rng(seed).normal(size=(8, 2))
    head[:4] = [[-1, 1], [-1, 1], [1, -1], [1, -1]]
    model.set_weights([kernel, np.zeros(6, "float32"), head, np.zeros(2, "float32")])
    return model


@pytest.fixture(scope="module")
def data():
    x = np.random.default_rng(0).normal(size=(120, 8)).astype("float32")
    return DataInput(x, (x[:, 2] > x[:, 5]).astype(int))


def audit(models, data, folder, **options):
    settings = {**ONLY, "analyze_relevance": True, "save_plots": False, "progress": False, "n_bootstrap": 200} | options
    return ModelAnalyzer(models, config=AnalysisConfig(**settings), output_dir=folder).analyze(data)


@pytest.fixture(scope="module")
def results(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("relevance")
    return audit({"a": planted("a"), "b": planted("b", seed=1)}, data, folder, relevance_samples=50)


def test_the_features_that_decide_carry_all_relevance(results):
    (found,) = results.relevance["a"].inputs
    assert found.name == "table"
    assert found.kind == "features"
    assert {feature.index for feature in found.features[:2]} == {(2,), (5,)}
    assert found.magnitude[[2, 5]].sum() == pytest.approx(1.0, abs=1e-6)
    assert found.share.value == pytest.approx(1.0)


def test_units_without_a_way_out_are_silent(results):
    layers = {layer.id: layer for layer in results.relevance["a"].layers}
    hidden = layers["hidden"]
    assert hidden.n_units == 6
    assert hidden.silent_units == 2
    np.testing.assert_array_equal(hidden.unit_largest[4:], 0)
    assert hidden.unit_share.sum() == pytest.approx(1.0)
    # None of 50 samples: 1 - 0.05^(1/50).
    assert hidden.silent_bound == pytest.approx(1 - 0.05 ** (1 / 50))
    kinds = [finding.kind for finding in results.relevance["a"].findings if finding.layer == "hidden"]
    assert kinds == ["units_without_relevance"]


def test_without_biases_everything_arrives(results):
    books = results.relevance["a"].conservation
    assert books.reaches_inputs == pytest.approx(1.0, abs=1e-4)
    assert books.absorbed_by_bias == pytest.approx(0.0, abs=1e-6)
    assert books.first_break is None
    assert books.unexplained_fraction < 1e-4


def test_the_ledger_of_each_layer_adds_up(results):
    for layer in results.relevance["a"].layers:
        absorbed = layer.absorbed_by_bias + layer.absorbed_by_softmax + layer.absorbed_by_stabiliser
        assert layer.relevance_in == pytest.approx(layer.relevance_out + absorbed + layer.unexplained, abs=1e-6)


def test_it_says_what_was_explained_and_how(results):
    found = results.relevance["a"]
    assert found.n == 50
    assert found.method == "epsilon"
    assert "neither convolutions nor attention" in found.method_reason
    assert found.target == "the predicted class"
    assert {example.target for example in found.examples} == {"class 0", "class 1"}


def test_the_output_follows_the_maps_and_not_noise(results):
    measured = results.relevance["a"].faithfulness
    assert measured.abpc.difference.low > 0
    assert measured.n == 50
    assert measured.most_first[0] == pytest.approx(1.0)


def test_models_that_decide_alike_agree(results):
    agreement = results.comparison.relevance
    (pair,) = agreement.spearman.pairs
    assert pair.estimate.value > 0.95
    assert pair.estimate.n == 50
    assert agreement.input == "table"


def test_the_method_is_asked_for(data, tmp_path):
    found = audit({"a": planted()}, data, tmp_path, relevance_method="magnitude", relevance_samples=8)
    assert found.relevance["a"].method == "magnitude"
    assert found.relevance["a"].n == 8


def test_an_unknown_method_is_refused_before_anything_runs(data, tmp_path):
    with pytest.raises(ConfigError, match="epsilon_plus"):
        audit({"a": planted()}, data, tmp_path, relevance_method="epsilonplus")
    assert not (tmp_path / "analysis_results.json").exists()


def test_regression_and_positions_are_explained_too(tmp_path):
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(20, 6, 3)).astype("float32")
    sequence = keras.Sequential([keras.Input((6, 3)), L.Dense(5, activation="relu"), L.Dense(4, activation="softmax")])
    numbers = keras.Sequential([keras.Input((6, 3)), L.Flatten(), L.Dense(3)])
    results = audit({"sequence": sequence}, DataInput(x), tmp_path, relevance_samples=6)
    y = np.random.default_rng(1).normal(size=(20, 3))
    results.relevance |= audit({"numbers": numbers}, DataInput(x, y), tmp_path, relevance_samples=6).relevance
    assert results.relevance["sequence"].target == "sum_of_predicted_logits"
    assert results.relevance["sequence"].faithfulness_reason.startswith("Perturbation curves")
    assert results.relevance["numbers"].target == "sum_of_outputs"
    for found in results.relevance.values():
        assert found.conservation.unexplained_fraction < 1e-4


def test_it_is_off_by_default_and_needs_data(data, tmp_path):
    assert AnalysisConfig().analyze_relevance is False
    settings = AnalysisConfig(**ONLY, analyze_relevance=True, save_plots=False, progress=False)
    results = ModelAnalyzer({"a": planted()}, config=settings, output_dir=tmp_path).analyze()
    assert "data" in results.relevance["a"].reason
