"""Predictions and labels in one matching form, and one clear error for labels that do not fit."""

import numpy as np
import pytest
from scipy.special import expit, softmax

from analyzer.data_types import DataInput, OutputTask
from analyzer.errors import DataError, Unsupported
from analyzer.inspection.model_config import CompiledLoss
from analyzer.inspection.outputs import OutputHints, check_labels, describe_outputs, normalise_labels
from analyzer.inspection.trace import Head

RNG = np.random.default_rng(0)
N = 6
PROBABILITIES = softmax(RNG.normal(size=(N, 3)), axis=1).astype("float32")
CLASSES = np.array([0, 1, 2, 2, 1, 0])


def described(raw, y=None, *, activation=None, logit=None, weight=None, names=(), **said):
    """The only output of a model."""
    raw = np.asarray(raw)
    head = Head(name="out", shape=(None, *raw.shape[1:]), activation=activation)
    data = DataInput(np.zeros((len(raw), 1)), y, weight)
    hints = OutputHints(model_name="m", class_names=names, **said)
    return describe_outputs([head], [raw], [logit], data, hints)["out"]


def refused(raw, y, **said):
    """The message, which is the same before the model runs and after."""
    raw = np.asarray(raw)
    head = Head(name="out", shape=(1, *raw.shape[1:]), activation=said.pop("activation", None))
    data, hints = DataInput(np.zeros((len(raw), 1)), y), OutputHints(model_name="m", **said)
    messages = []
    for check in (
        lambda: check_labels([head], data, hints),
        lambda: describe_outputs([head], [raw], [None], data, hints),
    ):
        with pytest.raises(DataError) as error:
            check()
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert "'out'" in messages[0]
    return messages[0]


def task(kind, width, **more):
    return OutputTask(kind=kind, n_classes=width, **more)


class TestForms:
    def test_binary(self):
        raw, y = np.array([[0.25], [0.75]], dtype="float16"), [[0], [1]]
        output = described(raw, y, activation="sigmoid", logit=np.array([[-1.0], [1.0]]))
        assert output.probabilities.tolist() == [0.25, 0.75]
        assert output.logits.tolist() == [-1.0, 1.0]
        assert output.labels.tolist() == [0, 1]
        assert (output.n, output.groups, output.raw.dtype) == (2, None, np.float16)
        assert (output.probabilities.dtype, output.labels.dtype) == (np.float64, np.int64)

    @pytest.mark.parametrize(
        "y", [CLASSES, CLASSES[:, None], CLASSES * 1.0, np.eye(3)[CLASSES], np.eye(3)[CLASSES] > 0]
    )
    def test_multiclass_labels_become_indices(self, y):
        output = described(PROBABILITIES, y, activation="softmax")
        assert output.labels.tolist() == CLASSES.tolist()
        assert output.labels.dtype == np.int64
        assert output.logits is None
        np.testing.assert_allclose(output.probabilities.sum(axis=1), 1, rtol=1e-15)
        np.testing.assert_allclose(output.probabilities, PROBABILITIES, rtol=1e-6)

    def test_half_precision_rows_are_brought_to_one(self):
        half = PROBABILITIES.astype("float16") * np.float16(1.005)
        output = described(half, activation="softmax")
        np.testing.assert_allclose(output.probabilities.sum(axis=1), 1, rtol=1e-12)

    def test_rounding_beyond_the_ends_is_clipped(self):
        output = described([[1.004], [-0.004]], activation="sigmoid")
        assert output.probabilities.tolist() == [1.0, 0.0]

    def test_multilabel(self):
        raw, y = RNG.random((N, 3)), RNG.integers(0, 2, (N, 3))
        for labels in (y, y.astype(bool), y.astype("float32")):
            output = described(raw, labels, activation="sigmoid")
            np.testing.assert_array_equal(output.labels, y)
            np.testing.assert_array_equal(output.probabilities, raw)
        assert output.task.n_classes == 3

    @pytest.mark.parametrize("word", ["binary", "multilabel", "multiclass"])
    def test_logits_go_through_the_link_of_the_task(self, word):
        raw = RNG.normal(size=(N, 1 if word == "binary" else 3)) * 50
        output = described(raw, task=word, from_logits=True)
        expected = {"binary": expit(raw[:, 0]), "multilabel": expit(raw), "multiclass": softmax(raw, axis=1)}[word]
        np.testing.assert_allclose(output.probabilities, expected, rtol=1e-12)
        np.testing.assert_array_equal(output.logits, raw[:, 0] if word == "binary" else raw)

    def test_positions_are_flattened_sample_by_sample(self):
        raw = softmax(RNG.normal(size=(2, 2, 3, 4)), axis=-1)
        y = np.arange(12).reshape(2, 2, 3) % 4
        for labels in (y, y[..., None], np.eye(4)[y]):
            output = described(raw, labels, activation="softmax", weight=[1.0, 3.0])
            assert output.labels.tolist() == (np.arange(12) % 4).tolist()
        np.testing.assert_allclose(output.probabilities, raw.reshape(12, 4), rtol=1e-12)
        assert output.groups.tolist() == [0] * 6 + [1] * 6
        assert output.sample_weight.tolist() == [1.0] * 6 + [3.0] * 6
        assert output.n == 2

    def test_one_probability_at_every_position(self):
        raw, y = RNG.random((2, 3, 3, 1)), RNG.integers(0, 2, (2, 3, 3))
        for labels in (y, y[..., None]):
            output = described(raw, labels, activation="sigmoid")
            np.testing.assert_array_equal(output.labels, y.reshape(-1, 1))
        assert output.groups.tolist() == [0] * 9 + [1] * 9

    def test_regression(self):
        raw = RNG.normal(size=(N, 2))
        output = described(raw, np.stack([CLASSES, CLASSES], axis=1), task="regression")
        assert output.labels.dtype == np.float64
        assert output.labels.shape == (N, 2)
        assert output.probabilities is None
        assert described(raw[:, :1], CLASSES * 0.5).labels.shape == (N, 1)
        assert described(RNG.normal(size=(N, 2, 2)), np.zeros((N, 4)), task="regression").labels.shape == (N, 4)

    def test_gaussian_and_quantile_heads_have_fewer_targets_than_columns(self):
        raw, y = RNG.random((N, 6)), RNG.normal(size=(N, 3))
        assert described(raw, y, task="gaussian").labels.shape == (N, 3)
        assert described(raw, y[:, :2], task="quantile:0.1,0.5,0.9").labels.shape == (N, 2)

    def test_class_names_are_given_where_they_fit(self):
        assert described(PROBABILITIES, activation="softmax", names=("a", "b", "c")).class_names == ("a", "b", "c")
        assert described(PROBABILITIES, activation="softmax", names=("a", "b")).class_names == ()

    def test_one_class_only_is_legal(self):
        assert described(PROBABILITIES, CLASSES * 0, activation="softmax").labels.tolist() == [0] * N

    def test_no_labels_are_no_labels(self):
        assert described(PROBABILITIES, activation="softmax").labels is None


LABEL_ERRORS = {
    "above the classes": ((PROBABILITIES, CLASSES + 1, "softmax"), "labels from 1 to 3; the model has 3 classes"),
    "below the classes": ((PROBABILITIES, CLASSES - 1, "softmax"), "must lie in 0..2. Subtract 1 if they start at 1"),
    "not whole": ((PROBABILITIES, CLASSES + 0.5, "softmax"), "whole class numbers, got dtype float64"),
    "missing": ((PROBABILITIES, np.full(N, np.nan), "softmax"), "whole class numbers"),
    "infinite": ((PROBABILITIES, np.full(N, np.inf), "softmax"), "whole class numbers"),
    "words": ((PROBABILITIES, np.array(["cat"] * N), "softmax"), "such as ['cat', 'cat', 'cat']. Encode the labels"),
    "wrong shape": (
        (PROBABILITIES, np.zeros((N, 2)), "softmax"),
        "has shape (6, 2); expected class indices of shape (6,)",
    ),
    "other columns": ((PROBABILITIES, np.eye(4)[CLASSES], "softmax"), "or one-hot rows of shape (6, 3)"),
    "soft rows": ((PROBABILITIES, PROBABILITIES, "softmax"), "each row must hold a single 1 and zeros"),
    "several ones": ((PROBABILITIES, np.ones((N, 3)), "softmax"), "say task='multilabel'"),
    "one-hot for a sigmoid": (
        (PROBABILITIES[:, :1], np.eye(2)[CLASSES % 2], "sigmoid"),
        "One-hot labels belong to a softmax",
    ),
    "third class for a sigmoid": (
        (PROBABILITIES[:, :1], CLASSES, "sigmoid"),
        "labels from 0 to 2; the model has 2 classes",
    ),
    "minus one and one": ((PROBABILITIES[:, :1], CLASSES % 2 * 2 - 1, "sigmoid"), "labels from -1 to 1"),
    "sparse for labels": ((PROBABILITIES, CLASSES, "sigmoid"), "3 independent labels: y should have shape (6, 3)"),
    "counts for labels": (
        (PROBABILITIES, np.full((N, 3), 2), "sigmoid"),
        "labels from 2 to 2; the model has 2 classes",
    ),
}


@pytest.mark.parametrize("case", LABEL_ERRORS)
def test_labels_that_do_not_fit_are_one_clear_error(case):
    (raw, y, activation), message = LABEL_ERRORS[case]
    assert message in refused(raw, y, activation=activation)


REAL_ERRORS = {
    "several targets for one": ("regression", (N, 1), np.zeros((N, 2)), "expected 1 real number(s) per sample"),
    "one target for several": ("regression", (N, 2), np.zeros(N), "has shape (6,) and dtype float64; expected 2 real"),
    "words": ("regression", (N, 1), np.array(["a"] * N), "If y holds classes, say task='binary'"),
    "missing": ("regression", (N, 1), np.array([0, 1, np.nan, 0, 0, 0]), "contains NaN or infinite values"),
    "infinite": ("regression", (N, 1), np.array([0, 1, np.inf, 0, 0, 0]), "Drop or impute those samples"),
    "odd columns": ("gaussian", (N, 3), np.zeros(N), "gaussian needs a mean and a variance per target"),
    "levels and columns": ("quantile:0.1,0.9", (N, 3), np.zeros(N), "quantile one column per level and target"),
    "targets of a gaussian": ("gaussian", (N, 4), np.zeros(N), "expected 2 real number(s) per sample, shape (6, 2)"),
}


@pytest.mark.parametrize("case", REAL_ERRORS)
def test_targets_that_do_not_fit_are_one_clear_error(case):
    word, shape, y, message = REAL_ERRORS[case]
    assert message in refused(np.zeros(shape), y, task=word)


def test_classes_for_a_regression_loss_are_refused_with_the_remedy():
    loss = CompiledLoss(name="mean_squared_error")
    assert "say task='binary' or task='multiclass'" in refused(
        PROBABILITIES, CLASSES, losses=loss, activation="softmax"
    )


class TestSeveralOutputs:
    HEADS = tuple(Head(name=name, shape=(1, 3), activation="softmax") for name in ("a", "b"))

    def described(self, y):
        data = DataInput(np.zeros((N, 1)), y)
        hints = OutputHints(model_name="m")
        check_labels(self.HEADS, data, hints)
        return describe_outputs(self.HEADS, [PROBABILITIES] * 2, [None] * 2, data, hints)

    def test_labels_by_name(self):
        outputs = self.described({"b": CLASSES, "a": np.eye(3)[CLASSES]})
        assert [output.labels.tolist() for output in outputs.values()] == [CLASSES.tolist()] * 2

    def test_an_output_without_labels_has_none(self):
        outputs = self.described({"b": CLASSES})
        assert (list(outputs), outputs["a"].labels) == (["a", "b"], None)
        assert outputs["b"].labels is not None

    def test_labels_of_no_output_are_refused(self):
        with pytest.raises(DataError, match=r"y names outputs \['c'\], the model has \['a', 'b'\]"):
            self.described({"a": CLASSES, "c": CLASSES})

    def test_one_array_cannot_be_for_two_outputs(self):
        with pytest.raises(DataError, match=r"2 outputs \(a, b\) and y is one array of shape \(6,\).*y_<output name>"):
            self.described(CLASSES)

    def test_a_single_output_takes_labels_under_any_name(self):
        data = DataInput(np.zeros((N, 1)), {"labels": CLASSES})
        outputs = describe_outputs(self.HEADS[:1], [PROBABILITIES], [None], data, OutputHints(model_name="m"))
        assert outputs["a"].labels.tolist() == CLASSES.tolist()


class TestPredictions:
    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_not_finite_predictions_are_counted_and_the_first_is_named(self, bad):
        raw = PROBABILITIES.copy()
        raw[2:4, 1] = bad
        with pytest.raises(Unsupported, match=r"NaN or infinite for 2 of 6 samples \(first: sample 2\)"):
            described(raw, activation="softmax")

    def test_logits_that_were_called_probabilities(self):
        with pytest.raises(Unsupported, match=r"ranges from -4 to 5. If it returns logits, say from_logits=True"):
            described([[5.0, -4.0]], losses=CompiledLoss(name="categorical_crossentropy"), activation="linear")

    def test_independent_columns_that_were_called_classes(self):
        with pytest.raises(
            Unsupported, match=r"off by up to 0.8. If its columns are independent, say task='multilabel'"
        ):
            described([[0.9, 0.9]], task="multiclass", from_logits=False)

    def test_two_columns_that_were_called_binary(self):
        with pytest.raises(Unsupported, match="Say task='multiclass' for two softmax columns"):
            described([[0.1, 0.9]], task="binary", from_logits=False)


def test_labels_of_the_right_size_and_wrong_form_are_not_reshaped_silently():
    for y in (np.zeros((3, N)), np.zeros((N, 1, 1))):
        with pytest.raises(DataError):
            normalise_labels("out", y, (N, 3), task("multiclass", 3))
    with pytest.raises(DataError):
        normalise_labels("out", np.zeros((3, N)), (N, 3), task("multilabel", 3))
