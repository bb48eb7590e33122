"""How the numbers came about: the same for equal runs, different for different data, options and files."""

import json

import keras
import numpy as np
import pytest

from analyzer import AnalysisConfig, DataInput, provenance
from analyzer.inspection.sources import ModelSources

X = np.arange(40, dtype="float32").reshape(10, 4)
Y = np.arange(10) % 2


def described(data=None, files=None, **options):
    config = AnalysisConfig(**options)
    sample = None if data is None else data.sample(config.n_samples, config.seed)
    return provenance.describe(config, files or {}, sample, ["performance", "weights"])


def test_versions_backend_seed_and_options():
    found = described(seed=7, task={"m": "binary"}, progress=print)
    assert found["backend"] == keras.backend.backend()
    assert found["versions"]["keras"] == keras.__version__
    assert found["versions"]["numpy"] == np.__version__
    assert found["versions"]["keras-analyzer"]
    assert keras.backend.backend() in found["versions"]
    assert (found["seed"], found["analyses"], found["data"]) == (7, ["performance", "weights"], None)
    assert found["config"] == AnalysisConfig(seed=7, task={"m": "binary"}).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False))["config"]["task"] == {"m": "binary"}


def test_equal_runs_are_described_equally():
    assert described(DataInput(X, Y), n_samples=5) == described(DataInput(X.copy(), Y.copy()), n_samples=5)


@pytest.mark.parametrize(
    "other", [DataInput(X + 1, Y), DataInput(X, 1 - Y), DataInput(X), DataInput(X, Y, np.linspace(1, 2, 10))]
)
def test_other_data_have_another_digest(other):
    assert described(DataInput(X, Y))["data"]["sha256"] != described(other)["data"]["sha256"]


def test_the_drawn_samples_are_named():
    found = described(DataInput(X, Y), n_samples=4, seed=1)["data"]
    drawn = DataInput(X, Y).sample(4, 1).indices
    assert (found["n"], found["first_index"], found["last_index"]) == (4, drawn[0], drawn[-1])
    assert found["indices_sha256"] != described(DataInput(X, Y), n_samples=4, seed=2)["data"]["indices_sha256"]
    assert described(DataInput(X, Y))["data"]["n"] == 10


@pytest.mark.parametrize(
    "data",
    [
        DataInput({"b": X, "a": X[:, 0]}, {"o": Y}),
        DataInput([X, X.T.copy().T], np.array(["cat", "dog"] * 5)),
        DataInput(np.asfortranarray(X), Y > 0),
        DataInput(np.array([["a"], ["b"]])),
    ],
    ids=["by name", "words", "fortran", "texts"],
)
def test_any_data_can_be_described(data):
    found = described(data)["data"]
    assert len(found["sha256"]) == len(found["indices_sha256"]) == 64
    assert json.dumps(found)


def test_the_same_numbers_in_another_form_are_other_data():
    digests = {described(DataInput(x))["data"]["sha256"] for x in (X, X.reshape(10, 2, 2), X.view("int32"))}
    assert len(digests) == 3


def test_files_are_named_by_content_and_without_what_they_were_compiled_with(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(loss="mse", metrics=["mae"])
    model.save(tmp_path / "a.keras")
    sources = ModelSources({"m": tmp_path / "a.keras"})
    with sources.opened("m"):
        found = described(files=sources.facts)["files"]["m"]
    assert (found["name"], found["class_name"], found["keras_version"]) == ("a.keras", "Sequential", keras.__version__)
    assert not {"loss", "metrics", "weighted_metrics"} & set(found)
    assert str(tmp_path) not in json.dumps(found)


def test_now_is_utc():
    assert provenance.now().endswith("+00:00")
