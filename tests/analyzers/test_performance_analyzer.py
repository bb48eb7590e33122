"""Performance equals what ``model.evaluate`` says, from predictions gathered once; notes say what could not be had."""

import keras
import numpy as np
import pytest

from analyzer import AnalysisConfig, DataInput, ModelAnalyzer
from analyzer.analyzers.compiled_metrics import CompiledMetrics
from analyzer.analyzers.performance_analyzer import PerformanceAnalyzer, measure_performance
from analyzer.data_types import Failed, MultiOutput, OutputData, OutputTask, Skipped

pytestmark = pytest.mark.slow

L = keras.layers
losses, metrics = keras.losses, keras.metrics
N = 40
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 4)).astype("float32")
CLASSES = RNG.integers(0, 3, N)
ONE_HOT = np.eye(3, dtype="float32")[CLASSES]
BINARY = RNG.integers(0, 2, N)
MANY = RNG.integers(0, 2, (N, 3))
TARGETS = RNG.normal(size=(N, 2)).astype("float32")


@keras.saving.register_keras_serializable("performance")
def second_class(y_true, y_pred):
    """Share of rows of class 1: right only if the labels arrive as the model was trained with them."""
    return keras.ops.cast(keras.ops.equal(keras.ops.reshape(y_true, (-1,)), 1), "float32") + 0 * y_pred[:, 0]


@keras.saving.register_keras_serializable("performance")
def broken(y_true, y_pred):
    raise RuntimeError("this metric needs\na GPU")


@keras.saving.register_keras_serializable("performance")
def own_loss(y_true, y_pred):
    return keras.ops.mean(keras.ops.abs(y_true - y_pred) ** 3, axis=-1)


def nobodys_loss(y_true, y_pred):
    return 7.0 + 0 * (y_true - y_pred)[:, 0]


def head(activation, width, size=(4,), **options):
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input(size), L.Dense(width, activation=activation, name="head", **options)])


def analysed(models, data, folder, **options):
    config = AnalysisConfig(save_plots=False, progress=False, n_samples=None, **{"n_bootstrap": 50} | options)
    models = models if isinstance(models, dict) else {"model": models}
    return (
        ModelAnalyzer(models, config=config, output_dir=folder)
        .analyze(data, analysis_types=["performance"])
        .performance
    )


def compare(found, expected, *, loss="loss", prefix=""):
    """Every number of `evaluate` is there."""
    assert found.loss.value == pytest.approx(expected.pop(loss), rel=1e-4, abs=1e-6)
    for key, value in expected.items():
        name = key.removeprefix(prefix)
        ours = found.accuracy if name == "accuracy" else found.metrics[name]
        assert ours.value == pytest.approx(value, rel=1e-4, abs=1e-6), name


COMPILED = {
    "binary": (head, ("sigmoid", 1), BINARY, "binary_crossentropy", ["accuracy", "AUC", metrics.Precision(name="p")]),
    "binary logits": (
        head,
        (None, 1),
        BINARY[:, None],
        losses.BinaryCrossentropy(from_logits=True),
        [metrics.BinaryAccuracy(name="accuracy", threshold=0.0), metrics.AUC(from_logits=True)],
    ),
    "sparse": (
        head,
        ("softmax", 3),
        CLASSES,
        "sparse_categorical_crossentropy",
        ["accuracy", metrics.SparseTopKCategoricalAccuracy(2, name="top"), second_class],
    ),
    "sparse logits": (
        head,
        (None, 3),
        CLASSES,
        losses.SparseCategoricalCrossentropy(from_logits=True),
        ["accuracy", "sparse_categorical_crossentropy"],
    ),
    "one-hot": (
        head,
        ("softmax", 3),
        ONE_HOT,
        losses.CategoricalCrossentropy(label_smoothing=0.1),
        ["accuracy", "AUC", "mse", metrics.F1Score(average="macro"), metrics.TopKCategoricalAccuracy(2)],
    ),
    "focal": (head, ("softmax", 3), ONE_HOT, losses.CategoricalFocalCrossentropy(gamma=1.5), ["accuracy"]),
    "labels": (
        head,
        ("sigmoid", 3),
        MANY,
        "binary_crossentropy",
        [
            metrics.BinaryAccuracy(name="accuracy"),
            metrics.AUC(multi_label=True),
            metrics.BinaryAccuracy("strict", threshold=0.8),
        ],
    ),
    "regression": (
        head,
        (None, 2),
        TARGETS,
        losses.Huber(0.3),
        ["mae", metrics.RootMeanSquaredError(), metrics.R2Score(), metrics.CosineSimilarity()],
    ),
    "own loss": (head, (None, 2), TARGETS, own_loss, ["mse"]),
    "sequence": (
        head,
        ("softmax", 3, (5, 4)),
        RNG.integers(0, 3, (N, 5)),
        "sparse_categorical_crossentropy",
        ["accuracy"],
    ),
    "segmentation": (
        head,
        ("softmax", 3, (3, 2, 4)),
        np.eye(3, dtype="float32")[RNG.integers(0, 3, (N, 3, 2))],
        "categorical_crossentropy",
        ["accuracy", metrics.OneHotMeanIoU(3)],
    ),
    "mask": (
        head,
        ("sigmoid", 1, (3, 2, 4)),
        RNG.integers(0, 2, (N, 3, 2, 1)),
        "binary_crossentropy",
        ["accuracy", metrics.BinaryIoU()],
    ),
}


# Keras' own IoU metrics ask JAX for int64.
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype int64:UserWarning")
@pytest.mark.parametrize("case", COMPILED)
def test_equals_evaluate(case, tmp_path):
    build, arguments, y, loss, asked = COMPILED[case]
    model = build(*arguments)
    model.compile(loss=loss, metrics=asked)
    x = RNG.normal(size=(N, *model.input_shape[1:])).astype("float32")
    expected = model.evaluate(x, y, verbose=0, return_dict=True, batch_size=16)
    task = {"task": "regression"} if case == "own loss" else {}
    found = analysed(model, (x, y), tmp_path, **task)["model"]
    assert found.notes == ()
    assert ">" not in found.loss_name
    assert len(expected) == 1 + len(asked)
    compare(found, expected)
    assert (found.n, found.findings) == (N, ())
    assert found.loss.low <= found.loss.value <= found.loss.high


def test_a_file_gives_the_numbers_of_its_model(tmp_path):
    model = head("softmax", 3)
    asked = {"metrics": ["accuracy", second_class], "weighted_metrics": ["sparse_categorical_crossentropy"]}
    model.compile(loss="sparse_categorical_crossentropy", **asked)
    model.save(tmp_path / "model.keras")
    found = analysed({"live": model, "file": tmp_path / "model.keras"}, (X, CLASSES), tmp_path)
    assert found["file"].loss_name == "sparse_categorical_crossentropy"
    for name in ("loss", "accuracy"):
        one, other = (getattr(found[key], name).value for key in ("live", "file"))
        assert one == pytest.approx(other, rel=1e-6)
    assert found["file"].metrics.keys() == found["live"].metrics.keys()
    assert found["file"].metrics["second_class"].value == pytest.approx(np.mean(CLASSES == 1))


def test_the_loss_is_without_regularisation(tmp_path):
    model = head("softmax", 3, kernel_regularizer=keras.regularizers.L2(0.7))
    model.compile(loss="sparse_categorical_crossentropy")
    penalty = float(keras.ops.convert_to_numpy(sum(model.losses)))
    expected = model.evaluate(X, CLASSES, verbose=0)
    found = analysed(model, (X, CLASSES), tmp_path)["model"]
    assert penalty > 0.1
    assert found.loss.value == pytest.approx(expected - penalty, rel=1e-4)


def test_weights_count_as_in_keras(tmp_path):
    model = head(None, 2)
    model.compile(loss="mse", metrics=["mae"], weighted_metrics=["mae", "msle"])
    weight = RNG.uniform(0, 3, N)
    # Keras divides the weighted loss by the number of samples, we by the sum of the weights.
    weight *= N / weight.sum()
    expected = model.evaluate(X, TARGETS, sample_weight=weight, verbose=0, return_dict=True)
    found = analysed(model, DataInput(X, TARGETS, weight), tmp_path)["model"]
    assert expected["mae"] != pytest.approx(expected["weighted_mae"], rel=1e-3)
    compare(
        found,
        {key: value for key, value in expected.items() if key != "mae"} | {"weighted_mae": expected["weighted_mae"]},
    )
    plain = [metrics.MeanAbsoluteError()(TARGETS, model.predict(X, verbose=0))]
    assert expected["mae"] == pytest.approx(float(plain[0]), rel=1e-5)
    doubled = analysed(model, DataInput(X, TARGETS, weight * 2), tmp_path)["model"]
    assert doubled.loss.value == pytest.approx(found.loss.value, rel=1e-9)


def test_weights_of_samples_hold_for_their_positions(tmp_path):
    model = head("softmax", 3, (5, 4))
    model.compile(loss="sparse_categorical_crossentropy", weighted_metrics=["sparse_categorical_crossentropy"])
    x, y = RNG.normal(size=(N, 5, 4)).astype("float32"), RNG.integers(0, 3, (N, 5))
    weight = RNG.uniform(0, 3, N)
    found = analysed(model, DataInput(x, y, weight), tmp_path)["model"]
    p = np.take_along_axis(model.predict(x, verbose=0).astype(float), y[..., None], axis=-1)
    expected = np.average(-np.log(p).mean(axis=(1, 2)), weights=weight)
    assert found.loss.value == pytest.approx(expected, rel=1e-5)
    assert found.metrics["sparse_categorical_crossentropy"].value == pytest.approx(expected, rel=1e-5)
    assert (found.notes, found.loss.n) == ((), N)


def two_outputs():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    outputs = {"size": L.Dense(2, name="size")(inputs), "kind": L.Dense(3, activation="softmax", name="kind")(inputs)}
    return keras.Model(inputs, outputs)


def test_each_output_has_its_own_loss_and_metrics(tmp_path):
    model = two_outputs()
    model.compile(
        loss={"size": "mse", "kind": "sparse_categorical_crossentropy"},
        loss_weights={"size": 3.0, "kind": 0.5},
        metrics={"size": ["mae"], "kind": ["accuracy"]},
    )
    y = {"size": TARGETS, "kind": CLASSES}
    expected = model.evaluate(X, y, verbose=0, return_dict=True, batch_size=N)
    found = analysed(model, (X, y), tmp_path)["model"]
    assert isinstance(found, MultiOutput)
    for name, output in found.outputs.items():
        own = {key: value for key, value in expected.items() if key.startswith(f"{name}_")}
        assert len(own) == 2
        compare(output, own, loss=f"{name}_loss", prefix=f"{name}_")


def test_an_output_without_labels_is_skipped_alone(tmp_path):
    found = analysed(two_outputs(), (X, {"kind": CLASSES}), tmp_path)["model"]
    assert found.outputs["size"] == Skipped(
        "Neither loss, last activation nor labels tell what this output predicts. Say "
        "task=... (and from_logits=...) in AnalysisConfig, or --task on the command "
        "line, to correct it."
    )
    assert found.outputs["kind"].accuracy is not None
    said = analysed(two_outputs(), (X, {"kind": CLASSES}), tmp_path, task={"size": "regression"})["model"]
    assert said.outputs["size"].reason.startswith("No labels were given: pass y_data")


class TestUncompiled:
    def test_classes_have_log_loss_in_nats(self, tmp_path):
        model = head("softmax", 3)
        found = analysed(model, (X, CLASSES), tmp_path)["model"]
        p = model.predict(X, verbose=0).astype(float)
        assert found.loss_name == "log loss"
        assert found.loss.value == pytest.approx(-np.log(p[np.arange(N), CLASSES]).mean(), rel=1e-5)
        assert found.accuracy.value == np.mean(p.argmax(axis=1) == CLASSES)
        assert found.accuracy.method == "Wilson"
        assert set(found.metrics) == {"f1_macro", "balanced_accuracy"}

    def test_logits_of_labels(self, tmp_path):
        model = head(None, 3)
        found = analysed(model, (X, MANY), tmp_path)["model"]
        z = model.predict(X, verbose=0).astype(float)
        assert (found.task.kind, found.task.from_logits) == ("multilabel", True)
        assert found.loss.value == pytest.approx(np.mean(np.logaddexp(0, z) - MANY * z), rel=1e-5)

    @pytest.mark.parametrize("task", ["regression", "gaussian", "quantile:0.5,0.9"])
    def test_real_numbers_have_the_mean_squared_error(self, task, tmp_path):
        model = head(None, 2)
        width = 2 if task == "regression" else 1
        found = analysed(model, (X, TARGETS[:, :width]), tmp_path, task=task)["model"]
        points = model.predict(X, verbose=0)[:, :width]
        assert found.loss_name == "mean squared error"
        assert found.loss.value == pytest.approx(np.mean((points - TARGETS[:, :width]) ** 2), rel=1e-5)
        assert found.metrics["mae"].value == pytest.approx(np.mean(np.abs(points - TARGETS[:, :width])), rel=1e-5)
        assert found.accuracy is None


class TestSkipped:
    def test_no_labels(self, tmp_path):
        assert analysed(head("softmax", 3), X, tmp_path)["model"].reason.startswith("No labels were given")

    def test_unknown_task(self, tmp_path):
        found = analysed(head(None, 1), (X, BINARY), tmp_path)["model"]
        assert found.reason.startswith("Neither loss, last activation nor labels")

    def test_predictions_that_are_not_finite(self, tmp_path):
        model = head("softmax", 3)
        model.layers[-1].kernel.assign(np.full((4, 3), np.nan))
        found = analysed({"bad": model, "good": head("softmax", 3)}, (X, CLASSES), tmp_path)
        assert isinstance(found["bad"], Skipped)
        assert "NaN or infinite for 40 of 40 samples" in found["bad"].reason
        assert found["good"].accuracy is not None

    def test_one_class_only_is_measured(self, tmp_path):
        found = analysed(head("softmax", 3), (X, CLASSES * 0), tmp_path)["model"]
        assert set(found.metrics) == {"f1_macro"}
        assert found.accuracy.n == N


class TestNotes:
    def test_a_broken_metric_loses_nothing_else(self, tmp_path):
        model = head("softmax", 3)
        model.compile(loss="sparse_categorical_crossentropy", metrics=[broken, "accuracy", second_class])
        found = analysed(model, (X, CLASSES), tmp_path)["model"]
        assert found.notes == ("The compiled metric broken could not be computed: RuntimeError: this metric needs",)
        assert "second_class" in found.metrics
        assert found.accuracy is not None

    def test_a_live_loss_needs_no_registration(self, tmp_path):
        model = head(None, 2)
        for loss, name in ((lambda y, p: 7.0 + 0 * (y - p)[:, 0], "lambda"), (nobodys_loss, "nobodys_loss")):
            model.compile(loss=loss)
            found = analysed(model, (X, TARGETS), tmp_path, task="regression")["model"]
            assert (found.loss.value, found.loss_name, found.notes) == (7.0, name, ())

    @pytest.mark.parametrize(
        ("named", "reason"),
        [
            (("os", "getcwd"), "belongs to Python, not to models"),
            (("own_package.losses", "own"), "neither part of Keras nor registered"),
            (("keras.utils", "get_file"), "not among the modules of which Keras makes models"),
        ],
    )
    def test_what_a_file_names_is_looked_up_only_where_it_belongs_to_models(self, named, reason):
        function = {"module": named[0], "class_name": "function", "config": named[1], "registered_name": "function"}
        wrapped = {
            "module": "keras.metrics",
            "class_name": "MeanMetricWrapper",
            "config": {"fn": function, "name": "m"},
        }
        p = np.full((4, 3), 1 / 3)
        task = OutputTask(kind="multiclass", n_classes=3)
        output = OutputData(name="o", task=task, raw=p, probabilities=p, labels=CLASSES[:4])
        compiled = CompiledMetrics({"loss": function, "metrics": [function, wrapped]}, ["o"])
        found = measure_performance(output, compiled, AnalysisConfig(n_bootstrap=0))
        assert len(found.notes) == 3
        assert all("UnsafeModelError" in note and reason in note for note in found.notes)
        assert (found.loss_name, set(found.metrics)) == ("log loss", {"f1_macro", "balanced_accuracy"})


def test_a_model_that_breaks_is_failed_alone(tmp_path):
    """Labels that do not fit one model are its own trouble."""
    found = analysed({"three": head("softmax", 3), "two": head("softmax", 2)}, (X, CLASSES), tmp_path)
    assert isinstance(found["two"], Failed)
    assert "the model has 2 classes" in found["two"].error
    assert found["three"].accuracy is not None


def test_without_data_there_is_a_reason(tmp_path):
    assert PerformanceAnalyzer({}, AnalysisConfig()).requires_data() is True
    found = analysed(head("softmax", 3), None, tmp_path)["model"]
    assert found.reason == "No data were given: pass data=DataInput(x_data=..., y_data=...)."
