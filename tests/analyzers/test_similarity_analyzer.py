"""What is said between models: maps of weights, agreement and alignment, each with n or with a reason."""

import json

import keras
import numpy as np
import pytest

from analyzer.analyzers.similarity_analyzer import SimilarityAnalyzer
from analyzer.backends import engine
from analyzer.config import AnalysisConfig
from analyzer.data_types.comparison import Comparison
from analyzer.data_types.outputs import OutputData, OutputTask
from analyzer.data_types.results import AnalysisResults
from analyzer.data_types.serialization import ArrayStore, decode, encode
from analyzer.data_types.values import Skipped
from analyzer.inspection import open_model
from analyzer.inspection.needs import Features, Predictions, Weights
from analyzer.inspection.weights import describe_weights
from analyzer.measures.similarity import linear_cka

L = keras.layers
NO_DATA = Skipped("No data were given.")


def mlp(seed, width=5):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([L.Input((4,)), L.Dense(width, name="a"), L.Dense(3, name="b")])


def output(probabilities, kind="multiclass", name="output", groups=None):
    probabilities = np.asarray(probabilities, dtype=np.float64)
    return OutputData(
        name=name, task=OutputTask(kind=kind), raw=probabilities, probabilities=probabilities, groups=groups
    )


def described(model):
    return describe_weights(open_model(model), engine())


def compared(models, predictions=None, features=None, **options):
    names = list(models)
    cache = {
        name: {
            Weights(): models[name],
            Predictions(): (predictions or {}).get(name, NO_DATA),
            Features(): (features or {}).get(name, NO_DATA),
        }
        for name in names
    }
    results = AnalysisResults(tuple(names))
    analyzer = SimilarityAnalyzer(dict.fromkeys(names), AnalysisConfig(verbose=False, **options))
    analyzer.analyze(results, None, cache)
    return results.comparison


@pytest.fixture(scope="module")
def four():
    return {f"m{seed}": described(mlp(seed)) for seed in range(3)} | {"wide": described(mlp(0, width=9))}


def dirichlet(seed, n=200):
    return np.random.default_rng(seed).dirichlet(np.ones(3), size=n)


class TestWeightMap:
    def test_models_of_one_architecture_are_placed_and_others_named(self, four):
        pca = compared(four).weight_pca
        assert pca.names == ("m0", "m1", "m2")
        assert pca.left_out == ("wide",)
        assert pca.coordinates.shape == (3, 2)
        assert pca.explained_variance.sum() == pytest.approx(1.0)

    def test_order_of_models_changes_nothing(self, four):
        backwards = compared(dict(reversed(four.items()))).weight_pca
        forwards = compared(four).weight_pca
        assert backwards.names == forwards.names
        assert np.array_equal(backwards.coordinates, forwards.coordinates)

    def test_too_few_identical_or_unwanted_have_a_reason(self, four):
        two = compared({name: four[name] for name in ("m0", "m1")})
        assert two.weight_pca is None
        assert "at least 3" in two.weight_pca_reason
        assert "identical" in compared(dict.fromkeys("abc", four["m0"])).weight_pca_reason
        assert "compute_weight_pca" in compared(four, compute_weight_pca=False).weight_pca_reason
        analyzer = SimilarityAnalyzer({}, AnalysisConfig(compute_weight_pca=False))
        assert analyzer.needs() == (Predictions(), Features())

    def test_one_model_is_skipped(self, four):
        assert isinstance(compared({"m0": four["m0"]}), Skipped)


class TestPredictions:
    def test_agreement_and_divergence_of_different_architectures(self, four):
        p, q = dirichlet(0), dirichlet(1)
        found = compared(four, {"m0": {"output": output(p)}, "wide": {"probs": output(q, name="probs")}})
        (agreement,), (divergence,) = found.agreement, found.js_divergence
        pair = agreement.pair("wide", "m0")
        assert pair.estimate.value == np.mean(p.argmax(1) == q.argmax(1))
        assert (pair.estimate.n, pair.estimate.method) == (200, "Wilson")
        middle = (p + q) / 2
        expected = np.mean(np.sum(p * np.log(p / middle) + q * np.log(q / middle), axis=1) / 2)
        assert divergence.pair("m0", "wide").estimate.value == pytest.approx(expected)
        assert "No data" in agreement.pair("m0", "m1").reason
        matrix = agreement.matrix()
        assert np.array_equal(np.isnan(matrix), np.isnan(matrix.T))
        assert matrix[0, 3] == matrix[3, 0] == pair.estimate.value
        assert np.array_equal(np.diag(matrix), np.ones(4))
        assert np.array_equal(np.diag(divergence.matrix()), np.zeros(4))

    def test_without_data_everything_has_one_reason(self, four):
        found = compared(four)
        assert "No data" in found.cka.pairs[0].reason
        assert all(pair.estimate is None for pair in found.agreement[0].pairs)

    def test_unlike_outputs_and_regression_have_a_reason(self, four):
        names = {
            "m0": output(dirichlet(0)),
            "m1": output(np.zeros((200, 4))),
            "m2": output(np.zeros(200), "regression"),
        }
        found = compared(four, {name: {"output": out} for name, out in names.items()})
        (agreement,) = found.agreement
        assert "differ in form" in agreement.pair("m0", "m1").reason
        assert "regression" in agreement.pair("m0", "m2").reason

    def test_nan_is_named(self, four):
        broken = dirichlet(0)
        broken[:7, 0] = np.nan
        found = compared(four, {"m0": {"output": output(broken)}, "m1": {"output": output(dirichlet(1))}})
        assert "7 of 200" in found.agreement[0].pair("m0", "m1").reason

    def test_several_outputs_are_compared_by_name(self, four):
        def outputs(seed):
            p = np.random.default_rng(seed).random(50)
            return {"sex": output(p, "binary", "sex"), "age": output(dirichlet(seed, 50), name="age")}

        found = compared(four, {"m0": outputs(0), "m1": outputs(1)})
        assert [entry.output for entry in found.agreement] == ["sex", "age"]
        p, q = outputs(0)["sex"].probabilities, outputs(1)["sex"].probabilities
        assert found.agreement[0].pair("m0", "m1").estimate.value == np.mean((p >= 0.5) == (q >= 0.5))

    def test_positions_of_a_sample_are_one_unit(self, four):
        groups = np.repeat(np.arange(20), 10)
        pairs = {
            name: {"output": output(dirichlet(seed), "sequence", groups=groups)}
            for seed, name in enumerate(("m0", "m1"))
        }
        assert compared(four, pairs).agreement[0].pair("m0", "m1").estimate.n == 20


class TestRepresentations:
    def test_alignment_of_a_shared_batch(self, four):
        x = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
        y = (x[:, :3] @ np.random.default_rng(1).normal(size=(3, 9))).astype(np.float32)
        pair = compared(four, features={"m0": x, "wide": y}).cka.pair("m0", "wide")
        assert pair.estimate == linear_cka(x, y)
        assert pair.estimate.n == 60
        assert pair.estimate.low < pair.estimate.value < pair.estimate.high

    def test_constant_representation_is_undefined_with_its_n(self, four):
        features = {"m0": np.ones((10, 3)), "m1": np.random.default_rng(0).normal(size=(10, 3))}
        pair = compared(four, features=features).cka.pair("m0", "m1")
        assert pair.estimate is None
        assert "10 samples" in pair.reason


def test_comparison_survives_json(four):
    found = compared(four, {"m0": {"output": output(dirichlet(0))}, "m1": {"output": output(dirichlet(1))}})
    store = ArrayStore()
    text = json.dumps(encode(found, store), allow_nan=False)
    back = decode(Comparison, json.loads(text), store.arrays)
    assert back.agreement == found.agreement
    assert np.array_equal(back.weight_pca.coordinates, found.weight_pca.coordinates)
    assert back.weight_pca.names == found.weight_pca.names
