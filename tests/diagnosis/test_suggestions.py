"""Suggestions where the evidence was planted, none where there is none, and effects that hold when followed."""

import keras
import numpy as np
import pytest

from analyzer.data_types.history import read_history
from analyzer.data_types.inspection_report import ModelInspection
from analyzer.diagnosis.evidence import Evidence
from analyzer.diagnosis.modeltrace.inspect import inspect_model
from analyzer.diagnosis.pruning import prune
from analyzer.diagnosis.suggested_augmentation import suggest_augmentation
from analyzer.diagnosis.suggested_pruning import FEWEST_SAMPLES, suggest_pruning
from analyzer.diagnosis.suggestions import suggest_learning_rate, suggest_recalibrating, suggestions_of
from analyzer.errors import DataError, Unsupported
from analyzer.inspection import open_model

pytestmark = pytest.mark.slow

L = keras.layers


def prototypes(width=12, needed=6, scale=4.0):
    """A classifier of three blobs of which only some hidden units say anything, and its data."""
    rng = np.random.default_rng(0)
    layers = [L.Dense(width, activation="relu", name="hidden"), L.Dense(3, activation="softmax", name="head")]
    model = keras.Sequential([keras.Input((4,)), *layers], name="blobs")
    centres = np.array([[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0]], float)
    kernel = np.zeros((4, width))
    kernel[:, :needed] = np.tile(centres.T, needed // 3) / 2
    head = np.zeros((width, 3))
    head[:needed] = np.tile(np.eye(3), (needed // 3, 1)) * scale
    bias = np.where(np.arange(width) < needed, 0.0, -1.0)
    model.layers[0].set_weights([kernel, bias])
    model.layers[1].set_weights([head, np.zeros(3)])
    y = rng.integers(0, 3, 200)
    x = (centres[y] + 0.5 * rng.normal(size=(200, 4))).astype("float32")
    return model, x, y


def evidence(model, x=None, y=None, **more):
    return Evidence(view=open_model(model), arranged=x, y=y, n_bootstrap=100, **more)


def accuracy(model, x, y):
    return float((np.asarray(keras.ops.convert_to_numpy(model(x))).argmax(axis=1) == y).mean())


class TestPruning:
    def test_silent_and_redundant_channels_are_found_and_measured(self):
        model, x, y = prototypes()
        found = suggest_pruning(evidence(model, x, y))
        assert found.kind == "prune"
        assert set(range(6, 12)) <= set(found.channels["hidden"])
        assert found.evidence["silent_channels"] == 6
        effect, parameters = found.effects
        assert (effect.quantity, effect.basis, effect.before.n) == ("accuracy", "measured", 100)
        assert effect.change.low <= effect.after.value - effect.before.value <= effect.change.high
        smaller = prune(model, found.channels)
        assert smaller.count_params() == parameters.after.value < model.count_params() == parameters.before.value
        # Measured on the half that the choice did not see.
        order = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(43,))).permutation(200)
        held_out = order[100:]
        assert effect.before.value == pytest.approx(accuracy(model, x[held_out], y[held_out]))
        assert effect.after.value == pytest.approx(accuracy(smaller, x[held_out], y[held_out]))

    def test_without_labels_decisions_are_compared_and_few_samples_only_lose_silent_channels(self):
        model, x, _ = prototypes()
        found = suggest_pruning(evidence(model, x[: FEWEST_SAMPLES - 1]))
        assert found.channels == {"hidden": tuple(range(6, 12))}
        assert found.effects[0].quantity == "share of equal decisions"
        assert found.effects[0].after.value == 1

    def test_a_model_that_needs_its_channels_keeps_them(self):
        model, x, y = prototypes(width=3, needed=3)
        assert suggest_pruning(evidence(model, x, y)) is None

    def test_what_cannot_be_judged(self):
        model, x, _ = prototypes()
        with pytest.raises(Unsupported, match="give x"):
            suggest_pruning(evidence(model))
        regression = keras.Sequential([keras.Input((4,)), L.Dense(8, activation="relu"), L.Dense(1)])
        with pytest.raises(Unsupported, match="one class per sample"):
            suggest_pruning(evidence(regression, x))


class TestAugmentation:
    def test_the_shift_that_costs_most_is_named_with_the_gap_as_its_bound(self):
        model, x, y = prototypes()
        found = suggest_augmentation(evidence(model, x, y, shifted=np.roll(x, 1, axis=1)))
        assert found.evidence["corruption"] == "the shift of x_shifted"
        (effect,) = found.effects
        assert effect.basis == "bound"
        assert effect.before.value == pytest.approx(accuracy(model, np.roll(x, 1, axis=1), y))
        assert effect.after.value == pytest.approx(accuracy(model, x, y))
        assert effect.change.value == pytest.approx(effect.after.value - effect.before.value)

    def test_a_corruption_of_the_kind_of_input_is_found(self):
        model, x, y = prototypes()
        found = suggest_augmentation(evidence(model, x, y))
        assert found.evidence["corruption"] in ("missing_values", "swap_noise", "permuted_columns")
        assert found.evidence["tried"] == 3
        assert found.evidence["accuracy_corrupted"] < found.evidence["accuracy_clean"] - 0.02

    def test_a_model_that_nothing_harms(self):
        _, x, y = prototypes()
        constant = keras.Sequential([keras.Input((4,)), L.Dense(3, activation="softmax", kernel_initializer="zeros")])
        constant.layers[0].set_weights([np.zeros((4, 3)), np.array([1.0, 0, 0])])
        assert suggest_augmentation(evidence(constant, x, y)) is None

    def test_what_cannot_be_judged(self):
        model, x, y = prototypes()
        with pytest.raises(Unsupported, match="labels"):
            suggest_augmentation(evidence(model, x))
        regression = keras.Sequential([keras.Input((4,)), L.Dense(1)])
        with pytest.raises(Unsupported, match="labels"):
            suggest_augmentation(evidence(regression, x, y.astype("float32")))


class TestRecalibration:
    def test_overconfidence_is_worth_a_temperature(self):
        model, x, y = prototypes(scale=40.0)
        noisy = np.where(np.random.default_rng(1).random(200) < 0.2, (y + 1) % 3, y)
        found = suggest_recalibrating(evidence(model, x, noisy))
        assert found.kind == "recalibrate"
        log_loss, _ = found.effects
        assert log_loss.basis == "cross-validated"
        assert log_loss.change.high < 0

    def test_a_calibrated_model_and_one_without_labels(self):
        rng = np.random.default_rng(0)
        model = keras.Sequential([keras.Input((2,)), L.Softmax()])
        x = rng.normal(size=(400, 2)).astype("float32")
        y = (rng.random(400) < 1 / (1 + np.exp(x[:, 0] - x[:, 1]))).astype(int)
        assert suggest_recalibrating(evidence(model, x, y)) is None
        with pytest.raises(Unsupported, match="labels"):
            suggest_recalibrating(evidence(model, x))
        with pytest.raises(Unsupported, match="50 samples"):
            suggest_recalibrating(evidence(model, x[:20], y[:20]))


class TestLearningRate:
    def history(self, loss, **more):
        return read_history({"loss": list(loss), **more})

    def suggested(self, history, model=None):
        return suggest_learning_rate(evidence(model or prototypes()[0]), history)

    def test_divergence_has_a_third_of_the_logged_rate(self):
        falling, risen = np.linspace(2, 0.5, 8), np.linspace(0.8, 3, 8)
        found = self.suggested(self.history([*falling, *risen], learning_rate=[0.3] * 16))
        assert found.evidence["event"] == "diverged"
        assert found.evidence["suggested"] == pytest.approx(0.1)
        (effect,) = found.effects
        assert effect.after.value == 0.5
        assert effect.change.value == pytest.approx(0.5 - effect.before.value)
        assert effect.basis == "rule of thumb"

    def test_nan_and_spikes_with_the_compiled_rate_or_none(self):
        model = prototypes()[0]
        model.compile(keras.optimizers.SGD(0.06), "sparse_categorical_crossentropy")
        found = self.suggested(self.history([2.0, 1.0, 0.5, float("nan")]), model)
        assert (found.evidence["event"], found.evidence["epoch"]) == ("became NaN or infinite", 4)
        assert found.evidence["suggested"] == pytest.approx(0.02)
        assert found.effects[0].change is None
        loss = np.linspace(2, 1, 20)
        loss[11] = 9
        spiked = self.suggested(self.history(loss))
        assert (spiked.evidence["event"], spiked.evidence["epoch"]) == ("jumped", 12)
        assert "a third of it" in spiked.message

    def test_a_smooth_training_has_none(self):
        assert self.suggested(self.history(np.geomspace(2, 0.1, 20))) is None
        assert self.suggested(read_history({"accuracy": [0.1, 0.5, 0.9]})) is None


class TestTogether:
    def test_each_kind_is_found_or_says_why_not(self):
        model, x, y = prototypes(scale=40.0)
        found, skipped = suggestions_of(evidence(model))
        assert found == ()
        assert set(skipped) == {"prune", "augment", "recalibrate", "lower_learning_rate"}
        broken = {"loss": [2.0, 1.0, float("nan")]}
        noisy = np.where(np.random.default_rng(1).random(200) < 0.2, (y + 1) % 3, y)
        found, skipped = suggestions_of(evidence(model, x, noisy, history=broken))
        assert {one.kind for one in found} >= {"prune", "recalibrate", "lower_learning_rate"}
        assert skipped == {}
        with pytest.raises(DataError, match="expected a Keras History"):
            suggestions_of(evidence(model, x, y, history=3))

    def test_they_come_with_the_inspection_and_survive_json(self):
        model, x, y = prototypes()
        found = inspect_model(model, x=x, y=y, experiments=["sparsity"], n_bootstrap=50)
        assert found.suggestions[0].kind == "prune"
        again = ModelInspection.from_json(found.to_json())
        assert again.suggestions == found.suggestions
        assert again.suggestions_skipped == found.suggestions_skipped
