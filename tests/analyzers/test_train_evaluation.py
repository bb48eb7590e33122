"""The gap of the finished model, evaluated on training and held-out data alike."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from analyzer import AnalysisConfig, AnalysisResults, DataInput, ModelAnalyzer
from analyzer.data_types import Skipped
from analyzer.errors import DataError

pytestmark = pytest.mark.slow

OPTIONS = {
    "save_plots": False,
    "progress": False,
    "verbose": False,
    "n_bootstrap": 100,
    "analyze_shift": False,
    "evaluate_train": True,
}
HISTORY = {"loss": [1.4, 1.3, 1.2], "val_loss": [1.3, 1.2, 1.1], "val_accuracy": [0.3, 0.4, 0.5]}


def data(n, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6)).astype("float32")
    return x, (x[:, 0] + x[:, 1] > 0).astype("int64") + (x[:, 2] > 1)


TRAIN, TEST = data(160, 0), data(120, 1)


def classifier(*, dropout=0.5, compiled=True):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.Dropout(dropout),
            keras.layers.Dense(3, activation="softmax", kernel_regularizer=keras.regularizers.L2(0.1)),
        ]
    )
    if compiled:
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def run(tmp_path, models, histories=None, *, held_out=TEST, reference=TRAIN, **options):
    analyzer = ModelAnalyzer(models, histories, AnalysisConfig(**OPTIONS | options), tmp_path)
    return analyzer.analyze(held_out, reference, analysis_types=["training_dynamics"])


def cross_entropy(model, x, y):
    probabilities = keras.ops.convert_to_numpy(model(x, training=False)).astype(np.float64)
    return -np.log(probabilities[np.arange(len(y)), y])


def test_gap_is_that_of_the_losses_without_dropout_and_regularisation(tmp_path):
    model = classifier()
    found = run(tmp_path, {"net": model}, {"net": HISTORY}).training_dynamics["net"]
    (evaluated,) = found.evaluated.values()
    train, held_out = cross_entropy(model, *TRAIN), cross_entropy(model, *TEST)
    assert float(evaluated.loss.train) == pytest.approx(train.mean(), rel=1e-5)
    assert float(evaluated.loss.held_out) == pytest.approx(held_out.mean(), rel=1e-5)
    assert (evaluated.loss.train.n, evaluated.loss.held_out.n) == (160, 120)
    assert found.evaluated_gap == evaluated.loss.gap
    gap = held_out.mean() - train.mean()
    assert float(found.evaluated_gap) == pytest.approx(gap, abs=1e-5)
    spread = np.sqrt(train.var() / 160 + held_out.var() / 120)
    assert found.evaluated_gap.high - found.evaluated_gap.low == pytest.approx(2 * 1.96 * spread, rel=0.25)
    assert float(found.normalized_evaluated_gap) == pytest.approx(gap / max(held_out.mean(), train.mean()), abs=1e-5)
    right = [keras.ops.convert_to_numpy(model(x, training=False)).argmax(1) == y for x, y in (TRAIN, TEST)]
    assert float(evaluated.metrics["accuracy"].gap) == pytest.approx(right[1].mean() - right[0].mean())
    # What the history says stands beside it, untouched.
    assert float(found.final_gap) == pytest.approx(-0.1)
    assert found.n_runs == 1


def test_dropout_hides_a_gap_that_the_evaluation_shows(tmp_path):
    keras.utils.set_random_seed(1)
    x, _ = data(60, 2)
    labels = np.random.default_rng(3).integers(0, 3, 60)
    model = classifier(dropout=0.0)
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    model.fit(x, labels, epochs=80, verbose=0)
    found = run(tmp_path, {"net": model}, {"net": HISTORY}, reference=(x, labels)).training_dynamics["net"]
    (finding,) = [f for f in found.findings if f.kind == "hidden_gap"]
    assert finding.severity == "info"
    assert finding.evidence["logged_final_gap"] < 0 < finding.evidence["low"] < finding.evidence["evaluated_gap"]
    same = run(tmp_path, {"net": model}, {"net": HISTORY}, reference=TEST).training_dynamics["net"]
    assert float(same.evaluated_gap) == 0
    assert not [f for f in same.findings if "gap" in f.kind]


def test_a_gap_needs_no_history(tmp_path):
    results = run(tmp_path, {"with": classifier(), "without": classifier()}, {"with": HISTORY}, save_plots=True)
    without = results.training_dynamics["without"]
    assert (without.n_runs, without.peak_performance) == (0, None)
    assert without.evaluated_gap == results.training_dynamics["with"].evaluated_gap
    assert "no training history was given" in without.notes[0]
    loaded = AnalysisResults.load(tmp_path).training_dynamics
    assert loaded["without"].evaluated == without.evaluated
    assert (tmp_path / "training_dynamics.png").stat().st_size > 1000


def test_every_output_has_its_own_gap(tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    outputs = {"a": keras.layers.Dense(3, activation="softmax", name="a")(inputs)}
    outputs["b"] = keras.layers.Dense(1, name="b")(inputs)
    model = keras.Model(inputs, outputs)
    model.compile("sgd", {"a": "sparse_categorical_crossentropy", "b": "mean_squared_error"})
    both = [DataInput(x, {"a": y, "b": x[:, :1]}) for x, y in (TEST, TRAIN)]
    found = run(tmp_path, {"net": model}, held_out=both[0], reference=both[1]).training_dynamics["net"]
    assert set(found.evaluated) == {"a", "b"}
    assert found.evaluated["b"].loss_name == "mean_squared_error"
    assert found.evaluated["b"].loss.gap.value is not None
    assert found.evaluated_gap is None


def test_reference_data_are_drawn_like_the_data(tmp_path):
    results = run(tmp_path, {"net": classifier()}, {"net": HISTORY}, n_samples=50)
    (evaluated,) = results.training_dynamics["net"].evaluated.values()
    assert (evaluated.loss.train.n, evaluated.loss.held_out.n) == (50, 50)
    drawn = DataInput(*TRAIN).sample(50, 0)
    assert results.provenance["reference_data"]["n"] == 50
    assert float(evaluated.loss.train) == pytest.approx(
        cross_entropy(classifier(), drawn.x_data, drawn.y_data).mean(), rel=1e-5
    )


@pytest.mark.parametrize(
    ("held_out", "reference", "message"),
    [
        (TEST, None, "reference_data were not given"),
        (TEST, (TRAIN[0],), "reference_data have no labels"),
        (None, TRAIN, "but data were not given"),
        ((TEST[0],), TRAIN, "but data have no labels"),
    ],
)
def test_missing_data_are_one_error_before_computing(tmp_path, held_out, reference, message):
    folder = tmp_path / "out"
    with pytest.raises(DataError, match=message):
        run(folder, {"net": classifier()}, {"net": HISTORY}, held_out=held_out, reference=reference)
    assert not folder.exists()


def test_reference_data_that_do_not_fit_cost_nothing_else(tmp_path, caplog):
    wrong = TRAIN[0][:, :4], TRAIN[1]
    results = run(tmp_path, {"net": classifier(), "bare": classifier()}, {"net": HISTORY}, reference=wrong)
    found = results.training_dynamics["net"]
    assert found.evaluated_gap is None
    assert float(found.final_gap) == pytest.approx(-0.1)
    assert found.notes[-1].startswith("The training data were not evaluated")
    assert "reference_data cannot be used" in caplog.text
    assert results.performance["net"].n == 120
    assert isinstance(results.training_dynamics["bare"], Skipped)


def test_reference_data_without_the_option_are_not_evaluated(tmp_path, caplog):
    results = run(tmp_path, {"net": classifier()}, {"net": HISTORY}, evaluate_train=False, analyze_shift=False)
    assert results.training_dynamics["net"].evaluated == {}
    assert "reference_data are not used" in caplog.text
