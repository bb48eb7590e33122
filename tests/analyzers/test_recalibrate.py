"""`recalibrate` on every backend: right numbers, shared weights, and files that come back."""

import dataclasses
import subprocess
import sys

import keras
import numpy as np
import pytest
from scipy.special import expit, logit, softmax

from analyzer.analyzers.calibration_analyzer import CalibrationAnalyzer
from analyzer.analyzers.recalibration import recalibrate
from analyzer.config import AnalysisConfig
from analyzer.data_types import MultiOutput, OutputData, OutputTask, Skipped
from analyzer.errors import DataError, ModelError
from analyzer.inspection.recalibrated_model import RecalibratedModel
from analyzer.inspection.recalibration_layers import calibration_layer
from analyzer.measures.recalibration import METHODS, apply_map, fit_map, scores_of

X = np.random.default_rng(0).normal(size=(300, 6)).astype("float32")
ANALYZER = CalibrationAnalyzer({}, AnalysisConfig(n_bootstrap=20))


def run(model, x=X):
    return keras.tree.map_structure(keras.ops.convert_to_numpy, model(x))


def probabilities_of(raw, kind, from_logits):
    raw = raw.astype(np.float64)
    if kind == "binary":
        raw = raw.reshape(-1)
    if not from_logits:
        return raw / raw.sum(axis=1, keepdims=True) if kind == "multiclass" else raw
    return softmax(raw, axis=1) if kind == "multiclass" else expit(raw)


def calibration(raw, kind, *, from_logits=False):
    """The calibration of an output whose labels are drawn from its probabilities at temperature 2."""
    rng = np.random.default_rng(1)
    p = probabilities_of(raw, kind, from_logits)
    if kind == "multiclass":
        flat = softmax(np.log(p) / 2, axis=1)
        labels = (np.cumsum(flat, axis=1) < rng.random((len(p), 1))).sum(axis=1).clip(0, p.shape[1] - 1)
    else:
        labels = (rng.random(p.shape) < expit(logit(p.clip(1e-6, 1 - 1e-6)) / 2)).astype(int)
    logits = raw.astype(np.float64).reshape(p.shape) if from_logits else None
    task = OutputTask(kind=kind, from_logits=from_logits, n_classes=p.shape[-1])
    return ANALYZER.output(OutputData(name="o", task=task, raw=raw, probabilities=p, logits=logits, labels=labels))


def expected(raw, result, method, kind):
    fitted = next(s.map for s in result.recalibration if s.map.method == method)
    p = probabilities_of(raw, kind, result.from_logits)
    p = p[:, None] if kind == "binary" else p
    scores = raw.astype(np.float64).reshape(p.shape) if result.from_logits else scores_of(p, fitted.activation)
    return apply_map(fitted, scores)


def head(units, activation, seed=1):
    start = keras.initializers.RandomNormal(stddev=1.5, seed=seed)
    return keras.layers.Dense(units, activation=activation, kernel_initializer=start)


def functional(units=4, activation="softmax"):
    inputs = keras.Input((6,), name="features")
    return keras.Model(inputs, head(units, activation)(inputs), name="classifier")


CASES = {
    "multiclass": (4, "softmax", False),
    "multiclass logits": (4, None, True),
    "binary": (1, "sigmoid", False),
    "binary logits": (1, None, True),
    "multilabel": (3, "sigmoid", False),
    "multilabel logits": (3, None, True),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_numbers_are_those_of_the_fitted_map(case, method):
    kind = case.split()[0]
    units, activation, from_logits = CASES[case]
    model = functional(units, activation)
    raw = run(model)
    result = calibration(raw, kind, from_logits=from_logits)
    recalibrated = recalibrate(model, result, method)
    got = run(recalibrated)
    assert got.shape == raw.shape
    assert got == pytest.approx(expected(raw, result, method, kind), abs=2e-4)
    assert np.abs(got - probabilities_of(raw, kind, from_logits).reshape(got.shape)).max() > 0.05


@pytest.mark.parametrize("method", METHODS)
def test_layer_agrees_with_the_map_on_images_and_sequences(method):
    rng = np.random.default_rng(2)
    p = softmax(rng.normal(size=(500, 5)) * 2, axis=1)
    targets = np.eye(5)[rng.integers(0, 5, 500)]
    fitted = fit_map(method, scores_of(p, "softmax"), targets, "softmax")
    layer = calibration_layer(fitted, from_logits=False, name="c")
    got = keras.ops.convert_to_numpy(layer(p.reshape(10, 5, 10, 5).astype("float32")))
    assert got.reshape(500, 5) == pytest.approx(apply_map(fitted, scores_of(p, "softmax")), abs=2e-4)


def test_extreme_probabilities_stay_finite():
    p = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], dtype="float32")
    rng = np.random.default_rng(2)
    said = softmax(rng.normal(size=(200, 2)) * 3, axis=1)
    targets = np.eye(2)[rng.integers(0, 2, 200)]
    for method in METHODS:
        layer = calibration_layer(
            fit_map(method, scores_of(said, "softmax"), targets, "softmax"), from_logits=False, name="c"
        )
        got = keras.ops.convert_to_numpy(layer(p))
        assert np.all((got > 0) & (got < 1))
        assert got.sum(axis=1) == pytest.approx(np.ones(3), abs=1e-6)


def test_the_given_model_stays_as_it_is_and_shares_its_weights():
    model = functional()
    raw = run(model)
    result = calibration(raw, "multiclass")
    config, weights = model.get_config(), [w.copy() for w in model.get_weights()]
    recalibrated = recalibrate(model, result)
    run(recalibrated)
    assert model.get_config() == config
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), weights, strict=True))
    assert np.array_equal(run(model), raw)
    assert [w is v for w, v in zip(recalibrated.weights, model.weights, strict=True)] == [True, True]
    before = run(recalibrated)
    model.layers[-1].kernel.assign(model.layers[-1].kernel * 0)
    assert not np.allclose(run(recalibrated), before)


def test_the_best_map_is_taken_by_default():
    model = functional()
    result = calibration(run(model), "multiclass")
    best = result.recalibration[0].map.method
    assert np.array_equal(run(recalibrate(model, result)), run(recalibrate(model, result, best)))


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_model_comes_back(tmp_path, method):
    model = functional()
    recalibrated = recalibrate(model, calibration(run(model), "multiclass"), method)
    recalibrated.save(tmp_path / "m.keras")
    assert np.array_equal(run(keras.saving.load_model(tmp_path / "m.keras")), run(recalibrated))


def test_sequential_and_mixed_precision():
    sequential = keras.Sequential([keras.Input((6,)), head(4, "softmax")])
    result = calibration(run(sequential), "multiclass")
    assert run(recalibrate(sequential, result, "vector")) == pytest.approx(
        expected(run(sequential), result, "vector", "multiclass"), abs=1e-5
    )
    inputs = keras.Input((6,))
    half = keras.Model(inputs, keras.layers.Dense(4, activation="softmax", dtype="mixed_float16")(inputs))
    got = run(recalibrate(half, calibration(run(half), "multiclass"), "isotonic"))
    assert got.dtype == np.float32
    assert got.sum(axis=1) == pytest.approx(np.ones(len(got)), abs=1e-5)


@keras.saving.register_keras_serializable(package="test_recalibrate")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.head = head(4, "softmax")

    def call(self, inputs):
        return self.head(inputs)


def test_a_subclassed_model(tmp_path):
    model = Subclassed()
    raw = run(model)
    result = calibration(raw, "multiclass")
    recalibrated = recalibrate(model, result, "temperature")
    assert isinstance(recalibrated, RecalibratedModel)
    assert run(recalibrated) == pytest.approx(expected(raw, result, "temperature", "multiclass"), abs=1e-5)
    assert recalibrated.predict(X, verbose=0) == pytest.approx(run(recalibrated), abs=1e-6)
    recalibrated.save(tmp_path / "m.keras")
    assert np.array_equal(run(keras.saving.load_model(tmp_path / "m.keras")), run(recalibrated))


@pytest.mark.parametrize("structure", ["list", "dict"])
def test_several_outputs(structure):
    inputs = {"left": keras.Input((6,), name="left"), "right": keras.Input((6,), name="right")}
    both = keras.layers.Add()([inputs["left"], inputs["right"]])
    classes = head(4, "softmax")
    classes.name = "classes"
    points = head(1, None, seed=2)
    points.name = "points"
    heads = {"classes": classes(both), "points": points(both)}
    model = keras.Model(inputs, heads if structure == "dict" else list(heads.values()))
    data = {"left": X, "right": X[::-1].copy()}
    raw = run(model, data)
    by_name = raw if structure == "dict" else dict(zip(("classes", "points"), raw, strict=True))
    result = calibration(by_name["classes"], "multiclass")
    several = MultiOutput(outputs={"classes": result, "points": Skipped("a regression")})
    recalibrated = recalibrate(model, several, "temperature")
    got = run(recalibrated, data)
    got = got if structure == "dict" else dict(zip(("classes", "points"), got, strict=True))
    assert got["classes"] == pytest.approx(expected(by_name["classes"], result, "temperature", "multiclass"), abs=1e-5)
    assert np.array_equal(got["points"], by_name["points"])
    with pytest.raises(DataError, match="single output"):
        recalibrate(model, result)
    with pytest.raises(DataError, match=r"\['other'\]"):
        recalibrate(model, MultiOutput(outputs={"other": result}))


def test_wrong_use_is_one_clear_error():
    model = functional()
    result = calibration(run(model), "multiclass")
    with pytest.raises(ModelError, match="expected the keras"):
        recalibrate("model.keras", result)
    with pytest.raises(ModelError, match="never built"):
        recalibrate(Subclassed(), result)
    with pytest.raises(DataError, match="'temperature', 'vector', 'isotonic'"):
        recalibrate(model, result, "platt")
    with pytest.raises(DataError, match="no labels"):
        recalibrate(model, Skipped("no labels"))
    with pytest.raises(DataError, match="NoneType"):
        recalibrate(model, None)
    with pytest.raises(DataError, match="suggests no recalibration"):
        recalibrate(model, dataclasses.replace(result, recalibration=(), notes=("Too few.",)))
    with pytest.raises(DataError, match="No output"):
        recalibrate(model, MultiOutput(outputs={"a": Skipped("a regression")}))


@pytest.mark.slow
def test_the_audit_opens_a_saved_one_by_itself(tmp_path):
    model = keras.Sequential([keras.Input((6,)), head(4, "softmax")])
    recalibrated = recalibrate(model, calibration(run(model), "multiclass"))
    recalibrated.save(tmp_path / "m.keras")
    np.save(tmp_path / "x.npy", X)
    program = (
        "import sys, numpy, keras; from analyzer.inspection.model_file import load; "
        "numpy.save(sys.argv[3], keras.ops.convert_to_numpy(load(sys.argv[1])(numpy.load(sys.argv[2]))))"
    )
    files = [str(tmp_path / name) for name in ("m.keras", "x.npy", "out.npy")]
    done = subprocess.run([sys.executable, "-c", program, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert np.load(tmp_path / "out.npy") == pytest.approx(run(recalibrated), abs=1e-6)
