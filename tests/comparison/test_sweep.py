"""Ten real models of which one is known to be the best and one never learned: the front has the one, not the other."""

from __future__ import annotations

import dataclasses
import json

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from analyzer import AnalysisConfig, AnalysisResults, DataInput, ModelAnalyzer
from analyzer.comparison.pareto import pareto
from analyzer.errors import DataError

pytestmark = [pytest.mark.slow, pytest.mark.once]

EPOCHS = 12
MOST = 600


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return (x[order] / 16).astype("float32"), y[order].astype("int32")


def trained(x, y, *, units=64, seed=0, rate=0.01, samples=MOST, wrong=0.0):
    keras.utils.set_random_seed(seed)
    labels = y[:samples].copy()
    changed = np.random.default_rng(seed).random(samples) < wrong
    labels[changed] = (labels[changed] + 1 + seed) % 10
    model = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(units, activation="relu"), keras.layers.Dense(10, activation="softmax")]
    )
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    held_out = (x[MOST:1000], y[MOST:1000])
    # Passes over fewer samples are shorter: as many steps for all.
    epochs = EPOCHS if samples == MOST else 2 * EPOCHS
    history = model.fit(x[:samples], labels, validation_data=held_out, epochs=epochs, batch_size=64, verbose=0)
    return model, history


@pytest.fixture(scope="module")
def sweep(digits, tmp_path_factory):
    """One model with all data and clean labels; the others are worse by what they are made of.

    Fewer samples overfit, wrong labels mislead, few units cannot tell ten digits apart, and a tiny learning rate
    leaves a model as good as untrained.
    """
    x, y = digits
    made = {"best": trained(x, y)}
    made |= {f"samples_{n}": trained(x, y, samples=n, seed=n) for n in (40, 80, 160)}
    made |= {f"wrong_{share}": trained(x, y, wrong=share, seed=3) for share in (0.3, 0.6)}
    made |= {f"units_{n}": trained(x, y, units=n, seed=n) for n in (1, 2, 4)}
    made["under_trained"] = trained(x, y, rate=1e-5, seed=20)
    models = {name: model for name, (model, _) in made.items()}
    histories = {name: history for name, (_, history) in made.items()}
    off = {"progress": False, "verbose": False, "analyze_information_flow": False, "analyze_cost": False}
    config = AnalysisConfig(n_bootstrap=0, dpi=60, **off)
    folder = tmp_path_factory.mktemp("sweep")
    analyzer = ModelAnalyzer(models, histories, config, folder)
    analyzer.analyze(DataInput(x[1000:], y[1000:]))
    return analyzer


def test_the_front_has_the_best_and_leaves_out_the_under_trained(sweep):
    found = sweep.results.comparison.pareto
    assert len(found.compared) == 10
    assert "best" in found.front
    assert "under_trained" not in found.front
    poor = found.models["under_trained"]
    assert poor.under_fitted
    assert "best" in poor.dominated_by


def test_the_under_trained_model_would_win_by_its_small_gap_alone(sweep):
    """The planted fault is one: by the plain definition of the guide the model that learned nothing is optimal."""
    models = sweep.results.comparison.pareto.models
    gaps = {name: model.values["overfitting_index"].value for name, model in models.items()}
    assert gaps["under_trained"] < gaps["best"]
    counted = {name: model.counted["overfitting_index"].value for name, model in models.items()}
    assert counted["under_trained"] > counted["best"]


def test_it_is_in_the_file_and_the_figure_is_there(sweep):
    document = json.loads((sweep.output_dir / "analysis_results.json").read_text())
    assert "best" in document["comparison"]["pareto"]["front"]
    assert (sweep.output_dir / "pareto_analysis.png").stat().st_size > 1000
    loaded = AnalysisResults.load(sweep.output_dir)
    assert pareto(loaded).front == sweep.results.comparison.pareto.front
    assert loaded.comparison.pareto.front == sweep.results.comparison.pareto.front


def test_asked_for_with_other_objectives_it_draws_and_saves_those(sweep):
    path = sweep.output_dir / "pareto_analysis.png"
    path.unlink()
    figure = sweep.create_pareto_analysis(["accuracy", "ece", "parameters"])
    assert path.stat().st_size > 1000
    assert len(figure.axes) == 2
    found = AnalysisResults.load(sweep.output_dir).comparison.pareto
    assert [o.name for o in found.objectives] == ["accuracy", "ece", "parameters"]
    assert "best" in found.front
    assert "units_1" in found.front, "the smallest model is one of the best trade-offs with its size"


def test_without_saving_nothing_is_written(sweep):
    before = {path: path.stat().st_mtime_ns for path in sweep.output_dir.iterdir()}
    figure = sweep.create_pareto_analysis(save_plot=False)
    assert figure.axes[0].get_xlabel().startswith("Overfitting index")
    assert {path: path.stat().st_mtime_ns for path in sweep.output_dir.iterdir()} == before


def test_results_of_two_earlier_runs_together(sweep, tmp_path):
    """The sweep in two halves, each saved: together they give the front of the whole."""
    halves = []
    for part in (slice(0, 5), slice(5, 10)):
        names = tuple(sweep.results.model_names[part])
        half = AnalysisResults(names)
        half.training_dynamics = {name: sweep.results.training_dynamics[name] for name in names}
        half.performance = {name: sweep.results.performance[name] for name in names}
        halves.append(AnalysisResults.load(half.to_json(tmp_path / f"half_{len(halves)}")))
    whole = pareto(sweep.results)
    assert set(pareto(halves).front) == set(whole.front)
    assert dataclasses.asdict(whole.objectives[0]) == dataclasses.asdict(pareto(halves).objectives[0])


def test_before_there_are_results_it_says_so(digits, tmp_path):
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10, activation="softmax")])
    with pytest.raises(DataError, match=r"run analyze\(\) first"):
        ModelAnalyzer({"a": model}, output_dir=tmp_path).create_pareto_analysis()
    assert not list(tmp_path.iterdir())
