"""Law 1: the model and the process are bit-identical before and after, also when an analysis raises half-way."""

import keras
import numpy as np
import pytest

from analyzer import AnalysisConfig, DataInput, ModelAnalyzer
from analyzer.analyzers.base import BaseAnalyzer
from analyzer.inspection import inputs, open_model
from analyzer.inspection.activations import Activations
from analyzer.inspection.gather import gather
from analyzer.inspection.gradients import Gradients
from analyzer.inspection.guard import untouched_process
from analyzer.inspection.needs import Context, Features, Predictions, Weights
from analyzer.inspection.outputs import OutputHints
from analyzer.testing import footprint
from tests import zoo

pytestmark = pytest.mark.slow

L = keras.layers

NEEDS = [Predictions(), Activations(n_samples=4), Gradients(), Features(), Weights()]


@keras.saving.register_keras_serializable("untouched")
class AlwaysNoisy(L.Layer):
    """Draws at inference too, from Keras' global generator on the backends whose compiled programs can."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator(3)

    def call(self, x):
        seed = self.generator if keras.backend.backend() == "jax" else None
        return x + keras.random.normal((4,), seed=seed)


def always_noisy(n):
    model = keras.Sequential([keras.Input((4,)), AlwaysNoisy(), L.Dense(3, activation="softmax")])
    return zoo.Specimen(model, zoo.normal(n, 4))


def specimen(name, n=8):
    """A compiled model that was fitted, evaluated and asked to predict, with everything that this leaves behind."""
    keras.utils.set_random_seed(1)
    made = always_noisy(n) if name == "always_noisy" else zoo.build(name, n)
    classes = made.model.output_shape[-1]
    y = np.arange(n) % classes
    made.model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    if name == "stateful_fixed_batch":
        # Keras cannot train a stateful layer on PyTorch (3.15); its predictions move the state all the same.
        made.model.optimizer.build(made.model.trainable_variables)
    else:
        made.model.fit(made.x, y, batch_size=4, epochs=1, verbose=0)
    made.model.predict(made.x, batch_size=4, verbose=0)
    return made.model, made.x, y


FITTED = ["noisy_while_training", "functional_cnn", "stateful_fixed_batch", "embedding_lstm", "always_noisy"]
NEVER_COMPILED = [
    "attention",
    "quantised_int8",
    "lora",
    "mixed_float16",
    "rematerialised",
    "subclassed_training_branch",
]


def silent(what, done, total):
    pass


def pass_over(model, x, *, progress=silent):
    with untouched_process():
        arranged = inputs.arrange(model, x)
        view = open_model(model, inputs.take(arranged, slice(0, inputs.fixed_batch_size(model) or 1)))
        context = Context(
            view=view,
            data=DataInput(x),
            arranged=arranged,
            hints=OutputHints(model_name="m"),
            seed=0,
            batch_size=3,
            progress=progress,
        )
        return gather(context, NEEDS).material


class Cancelled(BaseException):
    """Not an Exception: nothing may catch it on the way."""


def cancel(what, done, total):
    if done < total:
        raise Cancelled


def assert_same(before, after):
    assert {key for key in before if before[key] != after[key]} == set()


@pytest.mark.parametrize("name", FITTED)
def test_a_gather_pass_over_a_fitted_model_leaves_no_trace(name):
    model, x, _ = specimen(name)
    before = footprint.both(model)
    material = pass_over(model, x)
    assert_same(before, footprint.both(model))
    assert len(next(iter(material[Predictions()].values())).raw) == 8
    predicted = model.predict_function
    model.predict(x, batch_size=4, verbose=0)
    assert model.predict_function is predicted


@pytest.mark.parametrize("name", NEVER_COMPILED)
def test_a_gather_pass_over_other_models_leaves_no_trace(name):
    made = zoo.build(name, 8)
    before = footprint.both(made.model)
    pass_over(made.model, made.x)
    assert_same(before, footprint.both(made.model))


@pytest.mark.parametrize("name", ["noisy_while_training", "stateful_fixed_batch", "always_noisy"])
def test_cancelled_between_batches_everything_is_as_it_was(name):
    model, x, _ = specimen(name)
    before = footprint.both(model)
    with pytest.raises(Cancelled):
        pass_over(model, x, progress=cancel)
    assert_same(before, footprint.both(model))


def test_a_layer_that_raises_inside_the_pass_leaves_no_trace():
    layers = [L.Dropout(0.5), L.Dense(3, name="dense"), zoo.Breaks(2, ZeroDivisionError("broken"))]
    model = keras.Sequential([keras.Input((4,)), *layers])
    before = footprint.both(model)
    with pytest.raises(ZeroDivisionError):
        pass_over(model, zoo.normal(7, 4))
    assert_same(before, footprint.both(model))


def test_the_next_epoch_is_the_one_that_would_have_come():
    """The strongest form: training goes on to the bit as if nobody had looked."""

    def trained(*, looked_at):
        model, x, y = specimen("noisy_while_training")
        if looked_at:
            pass_over(model, x)
        history = model.fit(x, y, batch_size=4, epochs=2, verbose=0).history
        return history, [w.tobytes() for w in model.get_weights()]

    assert trained(looked_at=True) == trained(looked_at=False)


# ----------------------------------------------------------------------------------------- the whole audit on top of it
class BreaksHalfWay(BaseAnalyzer):
    name = "breaks_half_way"

    def requires_data(self):
        return False

    def needs(self):
        return (Activations(),)

    def analyze(self, results, data, cache):
        keras.random.normal((3,))
        np.random.normal()  # noqa: NPY002
        keras.layers.Dense(1)
        raise ZeroDivisionError


def audit(model, x, y, folder, *, save_plots=False, **options):
    config = AnalysisConfig(n_bootstrap=20, progress=False, batch_size=3, save_plots=save_plots, **options)
    analyzer = ModelAnalyzer({"m": model}, config=config, output_dir=folder, analyzers=[BreaksHalfWay])
    return analyzer.analyze(DataInput(x, y))


@pytest.mark.parametrize("name", ["noisy_while_training", "stateful_fixed_batch"])
def test_an_audit_with_a_broken_analysis_leaves_no_trace(name, tmp_path):
    model, x, y = specimen(name)
    before = footprint.both(model)
    results = audit(model, x, y, tmp_path, deterministic=True)
    assert_same(before, footprint.both(model))
    assert "ZeroDivisionError" in results.breaks_half_way["m"].error
    assert results.calibration["m"].ece.n == 8


def test_an_audit_with_figures_leaves_the_settings_of_matplotlib(tmp_path):
    import matplotlib as mpl

    model, x, y = specimen("noisy_while_training")
    mpl.rcParams["axes.titlesize"] = 17.0
    before = footprint.both(model)
    audit(model, x, y, tmp_path, save_plots=True)
    assert_same(before, footprint.both(model))
    assert list(tmp_path.glob("*.png"))


def test_two_deterministic_audits_are_equal_to_the_bit(tmp_path):
    model, x, y = specimen("noisy_while_training")
    for folder in ("a", "b"):
        audit(model, x, y, tmp_path / folder, deterministic=True)

    def saved(folder):
        import json

        document = json.loads((tmp_path / folder / "analysis_results.json").read_text())
        return {key: value for key, value in document.items() if key not in ("measured", "provenance")}

    assert saved("a") == saved("b")
