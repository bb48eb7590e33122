"""What an output predicts: the user's word, then the compiled loss, the last activation, the labels, in that order."""

import keras
import numpy as np
import pytest

from analyzer.config import TASKS
from analyzer.data_types import DataInput
from analyzer.errors import ConfigError
from analyzer.inspection import open_model
from analyzer.inspection.model_config import CompiledLoss, parse_losses
from analyzer.inspection.outputs import OutputHints, describe_outputs
from analyzer.inspection.sources import ModelSources
from analyzer.inspection.task import Evidence, detect_task, losses_by_output
from analyzer.inspection.trace import Head

L = keras.layers
N = 6
CLASSES = np.array([0, 1, 2, 0, 1, 2])
BINARY = np.array([0, 1, 1, 0, 1, 0])
REAL = np.linspace(-1, 1, N)
MANY = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 1], [1, 0, 0], [1, 1, 1], [0, 0, 1]])


def head(activation, width=3, *body, size=(4,)):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input(size), *body, L.Dense(width, activation=activation, name="head")])


def recognised(model, y=None, task=None, from_logits=None):
    """The task of each output, and what was made of the predictions."""
    x = np.random.default_rng(0).normal(size=(N, *model.input_shape[1:])).astype("float32")
    raws = [keras.ops.convert_to_numpy(tensor) for tensor in keras.tree.flatten(model(x))]
    view = open_model(model, x)
    losses = ModelSources({"model": model}).losses("model")
    hints = OutputHints(model_name="model", task=task, from_logits=from_logits, losses=losses)
    return describe_outputs(view.heads, raws, [None] * len(raws), DataInput(x, y), hints)


def kind_of(model, y=None, loss=None, **said):
    if loss is not None:
        model.compile(loss=loss)
    (output,) = recognised(model, y, **said).values()
    return output


def evidence(outputs, labels=None, *, activation=None, word=None, from_logits=None, loss=None):
    outputs = np.asarray(outputs)
    made_by = Head(name="o", shape=outputs.shape, activation=activation)
    return Evidence(head=made_by, word=word, from_logits=from_logits, loss=loss, outputs=outputs, labels=labels)


BY_LOSS = [
    ("binary_crossentropy", "sigmoid", 1, BINARY, "binary", 2),
    (keras.losses.BinaryFocalCrossentropy(), "sigmoid", 1, BINARY[:, None], "binary", 2),
    ("bce", "sigmoid", 3, MANY, "multilabel", 3),
    # Independent sigmoids stay independent where only one label is set.
    ("binary_crossentropy", "sigmoid", 3, np.eye(3)[CLASSES], "multilabel", 3),
    # A softmax is exclusive, whatever loss it was trained with.
    ("binary_crossentropy", "softmax", 3, np.eye(3)[CLASSES], "multiclass", 3),
    ("categorical_crossentropy", "softmax", 3, np.eye(3)[CLASSES], "multiclass", 3),
    ("sparse_categorical_crossentropy", "softmax", 3, CLASSES, "multiclass", 3),
    (keras.losses.CategoricalFocalCrossentropy(), "softmax", 3, np.eye(3)[CLASSES], "multiclass", 3),
    ("kl_divergence", "softmax", 2, BINARY, "multiclass", 2),
    ("mse", None, 1, REAL, "regression", None),
    ("MeanAbsoluteError", None, 3, np.stack([REAL] * 3, axis=1), "regression", None),
    (keras.losses.Huber(), None, 1, REAL[:, None], "regression", None),
    ("log_cosh", None, 1, REAL, "regression", None),
    ("poisson", "softplus", 1, CLASSES, "regression", None),
    # A sigmoid may bound a regression.
    ("mse", "sigmoid", 1, REAL, "regression", None),
]


@pytest.mark.parametrize(("loss", "activation", "width", "y", "kind", "n_classes"), BY_LOSS)
def test_by_compiled_loss(loss, activation, width, y, kind, n_classes):
    output = kind_of(head(activation, width), y, loss)
    task = output.task
    assert (task.kind, task.n_classes, task.from_logits, task.source) == (kind, n_classes, False, "compiled loss")
    assert "AnalysisConfig" in task.reason


LOGITS = [
    (keras.losses.BinaryCrossentropy(from_logits=True), 1, BINARY, "binary"),
    (keras.losses.BinaryCrossentropy(from_logits=True), 3, MANY, "multilabel"),
    (keras.losses.CategoricalCrossentropy(from_logits=True), 3, np.eye(3)[CLASSES], "multiclass"),
    (keras.losses.SparseCategoricalCrossentropy(from_logits=True), 3, CLASSES, "multiclass"),
]


@pytest.mark.parametrize(("loss", "width", "y", "kind"), LOGITS)
def test_logits_by_compiled_loss(loss, width, y, kind):
    output = kind_of(head(None, width), y, loss)
    assert (output.task.kind, output.task.from_logits) == (kind, True)
    raw = output.raw.astype(np.float64)
    sigmoid = 1 / (1 + np.exp(-raw))
    softmax = np.exp(raw) / np.exp(raw).sum(axis=-1, keepdims=True)
    expected = {"binary": sigmoid[:, 0], "multilabel": sigmoid, "multiclass": softmax}[kind]
    np.testing.assert_allclose(output.probabilities, expected, rtol=1e-12)
    np.testing.assert_array_equal(output.logits, raw.reshape(output.logits.shape))


BY_ACTIVATION = [
    ("sigmoid", 1, "binary", 2),
    ("sigmoid", 2, "multilabel", 2),
    ("sigmoid", 3, "multilabel", 3),
    ("softmax", 2, "multiclass", 2),
    ("softmax", 3, "multiclass", 3),
]


@pytest.mark.parametrize(("activation", "width", "kind", "n_classes"), BY_ACTIVATION)
@pytest.mark.parametrize("loss", [None, "cosine_similarity"])
def test_by_last_activation(activation, width, kind, n_classes, loss):
    output = kind_of(head(activation, width), None, loss)
    assert (output.task.kind, output.task.n_classes, output.task.from_logits) == (kind, n_classes, False)
    assert output.task.source == "last activation"
    # Never soft-maxed by accident: what the model said is what is analysed.
    np.testing.assert_allclose(output.probabilities, output.raw.reshape(output.probabilities.shape), atol=1e-6)


POSITIONS = [
    ("softmax", 3, (5, 4), [], "sequence", 5),
    ("softmax", 3, (6, 6, 2), [L.Conv2D(2, 3)], "segmentation", 16),
    ("sigmoid", 3, (5, 4), [], "multilabel", 5),
    # One sigmoid at every position: one label, many rows.
    ("sigmoid", 1, (6, 6, 2), [], "multilabel", 36),
]


@pytest.mark.parametrize(("activation", "width", "size", "body", "kind", "positions"), POSITIONS)
@pytest.mark.parametrize("compiled", [False, True])
def test_classes_at_every_position(activation, width, size, body, kind, positions, compiled):
    loss = {"softmax": "categorical_crossentropy", "sigmoid": "binary_crossentropy"}[activation]
    output = kind_of(head(activation, width, *body, size=size), None, loss if compiled else None)
    assert output.task.kind == kind
    assert output.probabilities.shape == (N * positions, width)
    np.testing.assert_array_equal(output.groups, np.repeat(np.arange(N), positions))


class TestByLabels:
    def test_whole_numbers_below_the_columns_are_classes(self):
        for y in (CLASSES, CLASSES[:, None], CLASSES.astype("uint8")):
            task = kind_of(head(None), y).task
            assert (task.kind, task.source, task.n_classes, task.from_logits) == ("multiclass", "labels", 3, True)

    def test_one_one_per_row_is_a_class_and_several_are_labels(self):
        assert kind_of(head(None), np.eye(3)[CLASSES]).task.kind == "multiclass"
        output = kind_of(head(None), MANY)
        assert (output.task.kind, output.task.from_logits) == ("multilabel", True)
        np.testing.assert_allclose(output.probabilities, 1 / (1 + np.exp(-output.raw.astype(float))))

    def test_real_numbers_in_the_form_of_the_output_are_a_regression(self):
        for y in (REAL, REAL[:, None]):
            task = kind_of(head(None, 1), y).task
            assert (task.kind, task.source, task.from_logits, task.n_classes) == ("regression", "labels", False, None)
        assert kind_of(head("tanh", 2), np.stack([REAL, REAL], axis=1)).task.kind == "regression"

    def test_classes_at_every_position(self):
        y = np.zeros((N, 5), dtype=int)
        assert kind_of(head(None, 3, size=(5, 4)), y).task.kind == "sequence"
        assert kind_of(head(None, 3, size=(5, 5, 4)), np.zeros((N, 5, 5, 1), dtype=int)).task.kind == "segmentation"

    @pytest.mark.parametrize("y", [None, BINARY, CLASSES + 1, CLASSES * 0.5])
    def test_what_nothing_tells_stays_unknown(self, y):
        width = 1 if y is BINARY or y is None else 3
        output = kind_of(head(None, width), y)
        assert (output.task.kind, output.task.source) == ("unknown", "output shape")
        assert "Say task=... (and from_logits=...) in AnalysisConfig" in output.task.reason
        assert (output.probabilities, output.labels, output.logits) == (None, None, None)

    def test_whole_numbers_for_one_linear_column_may_be_counts_or_logits(self):
        assert kind_of(head(None, 1), CLASSES).task.kind == "unknown"
        assert kind_of(head(None, 1), CLASSES, task="regression").task.kind == "regression"
        assert kind_of(head(None, 1), BINARY, task="binary").task.from_logits is True


WORDS = {
    "binary": (1, (), BINARY),
    "multiclass": (3, (), CLASSES),
    "multilabel": (3, (), MANY),
    "regression": (3, (), np.stack([REAL] * 3, axis=1)),
    "gaussian": (2, (), REAL),
    "quantile:0.1,0.5,0.9": (3, (), REAL),
    "sequence": (3, (5,), np.zeros((N, 5), dtype=int)),
    "segmentation": (3, (5, 5), np.zeros((N, 5, 5), dtype=int)),
}


@pytest.mark.parametrize("word", WORDS)
def test_the_word_of_the_user_beats_everything(word):
    assert {key.partition(":")[0] for key in WORDS} == set(TASKS)
    width, positions, y = WORDS[word]
    model = head(None, width, size=(*positions, 4))
    for loss in (None, "mse", keras.losses.BinaryCrossentropy(from_logits=True)):
        task = kind_of(model, y, loss, task=word).task
        assert (task.kind, task.source, task.reason) == (word.partition(":")[0], "user", "The user said so.")
        assert task.quantiles == ((0.1, 0.5, 0.9) if ":" in word else ())


def test_the_word_may_be_for_one_model_or_one_output():
    model = head("sigmoid", 1)
    assert kind_of(model, task={"model": "regression"}).task.kind == "regression"
    assert kind_of(model, task={"other": "regression"}).task.kind == "binary"
    name = open_model(model).heads[0].name
    assert kind_of(model, task={"model": "regression", name: "binary"}).task.source == "user"
    with pytest.raises(ConfigError, match="expected one of"):
        kind_of(model, task="binar")


class TestLogits:
    def test_the_word_of_the_user_beats_loss_and_activation(self):
        assert kind_of(head("softmax"), CLASSES, from_logits=True).task.from_logits is True
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        assert kind_of(head("softmax"), CLASSES, loss, from_logits=False).task.from_logits is False
        assert kind_of(head("softmax"), CLASSES, from_logits={"model": True}).task.from_logits is True
        assert kind_of(head("softmax"), CLASSES, from_logits={"other": True}).task.from_logits is False

    def test_a_linear_head_returns_logits_and_an_activated_one_does_not(self):
        for activation, expected in ((None, True), ("softmax", False)):
            assert kind_of(head(activation), CLASSES, task="multiclass").task.from_logits is expected
        for activation, expected in ((None, True), ("sigmoid", False)):
            assert kind_of(head(activation, 1), BINARY, task="binary").task.from_logits is expected

    @pytest.mark.parametrize("source", ["word", "labels"])
    def test_a_hidden_softmax_is_not_applied_again(self, source):
        """A subclassed model may end in anything: then the values say whether they can be probabilities."""

        class Hidden(keras.Model):
            def __init__(self):
                super().__init__()
                self.dense = L.Dense(3)

            def call(self, x):
                return keras.ops.softmax(self.dense(x)) * 1.0

        model = Hidden()
        x = np.random.default_rng(0).normal(size=(N, 4)).astype("float32")
        model(x)
        raw = keras.ops.convert_to_numpy(model(x))
        heads = open_model(model, x).heads
        assert heads[0].activation is None
        hints = OutputHints(model_name="m", task="multiclass" if source == "word" else None)
        (output,) = describe_outputs(heads, [raw], [None], DataInput(x, CLASSES), hints).values()
        assert (output.task.kind, output.task.from_logits) == ("multiclass", False)
        np.testing.assert_allclose(output.probabilities, raw, atol=1e-6)

    def test_values_decide_only_where_the_activation_is_hidden(self):
        rows, logits = np.full((4, 2), 0.5), np.array([[0.5, 0.4], [2.0, -1.0]])
        for activation in (None, "custom"):
            assert detect_task(evidence(rows, activation=activation, word="multiclass")).from_logits is False
            assert detect_task(evidence(logits, activation=activation, word="multiclass")).from_logits is True
            assert detect_task(evidence(rows * 0.5, activation=activation, word="multilabel")).from_logits is False
            assert detect_task(evidence(rows * 0.5, activation=activation, word="multiclass")).from_logits is True
            assert detect_task(evidence(rows[:, :1] - 1, activation=activation, word="binary")).from_logits is True
        assert detect_task(evidence(rows, activation="linear", word="multiclass")).from_logits is True

    def test_row_sums_alone_never_tell_the_task(self):
        assert detect_task(evidence(np.full((4, 2), 0.5))).kind == "unknown"


def test_a_softmax_of_one_column_says_nothing():
    assert detect_task(evidence(np.ones((4, 1)), activation="softmax")).kind == "unknown"


def test_every_output_has_its_own_task():
    inputs = keras.Input((4,))
    outputs = {
        "size": L.Dense(1, name="size")(inputs),
        "kind": L.Dense(3, activation="softmax", name="kind")(inputs),
        "tags": L.Dense(2, activation="sigmoid", name="tags")(inputs),
    }
    model = keras.Model(inputs, outputs)
    y = {"size": REAL, "kind": CLASSES, "tags": np.stack([BINARY, 1 - BINARY], axis=1)}

    def kinds(**said):
        return {name: (output.task.kind, output.task.source) for name, output in recognised(model, y, **said).items()}

    by_activation = {"kind": ("multiclass", "last activation"), "tags": ("multilabel", "last activation")}
    assert kinds() == {**by_activation, "size": ("regression", "labels")}
    model.compile(loss={"size": "mae", "kind": "sparse_categorical_crossentropy"})
    expected = {"kind": ("multiclass", "compiled loss"), "size": ("regression", "compiled loss")}
    assert kinds() == {**by_activation, **expected}
    assert kinds(task={"size": "regression"})["size"] == ("regression", "user")


def test_losses_find_their_outputs():
    a, b = CompiledLoss(name="mean_squared_error"), CompiledLoss(name="binary_crossentropy", from_logits=True)
    config = {"class_name": "BinaryCrossentropy", "config": {"from_logits": True}}
    assert losses_by_output(parse_losses("mse"), ["x", "y"]) == {"x": a, "y": a}
    assert losses_by_output(parse_losses(["mse", config]), ["x", "y"]) == {"x": a, "y": b}
    assert losses_by_output(parse_losses({"y": config}), ["x", "y"]) == {"y": b}
    assert losses_by_output(parse_losses(["mse", None]), ["x", "y"]) == {"x": a}
    assert losses_by_output(None, ["x"]) == {}
