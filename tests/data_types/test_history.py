"""Training histories of every kind become one form, and what cannot be used is named."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from analyzer.data_types.history import History, read_history
from analyzer.data_types.metric_names import METRIC_TABLE, choose_performance, loss_of, recognise, split_name
from analyzer.data_types.results import AnalysisResults
from analyzer.data_types.serialization import ArrayStore, decode, encode
from analyzer.errors import DataError

pytestmark = pytest.mark.plain

LOGGED = {
    "loss": [1.0, 0.5, 0.25],
    "accuracy": [0.3, 0.6, 0.9],
    "val_loss": [1.1, 0.7, 0.6],
    "val_accuracy": [0.2, 0.5, 0.7],
}


class KerasHistory:
    """What Keras hands back from fit(): a callback with these two attributes."""

    def __init__(self, history, epoch):
        self.history, self.epoch = history, epoch


CSV = "epoch,accuracy,loss,val_accuracy,val_loss\n0,0.3,1.0,0.2,1.1\n1,0.6,0.5,0.5,0.7\n2,0.9,0.25,0.7,0.6\n"


def sources(tmp_path):
    csv_path, tabbed, js = tmp_path / "log.csv", tmp_path / "log.tsv", tmp_path / "log.json"
    csv_path.write_text(CSV)
    tabbed.write_text(CSV.replace(",", "\t"))
    js.write_text(json.dumps(LOGGED))
    return {
        "callback": KerasHistory(LOGGED, [0, 1, 2]),
        "dict": LOGGED,
        "arrays": {name: np.array(values, dtype=np.float32) for name, values in LOGGED.items()},
        "csv": csv_path,
        "csv as text": str(csv_path),
        "tsv": tabbed,
        "json": js,
        "frame": pd.DataFrame(LOGGED),
        "frame from csv": pd.read_csv(csv_path),
        "frame with its index saved": pd.DataFrame(LOGGED).reset_index(names=""),
    }


def test_every_kind_of_source_reads_the_same(tmp_path):
    for kind, source in sources(tmp_path).items():
        history = read_history(source)
        assert history.epochs.tolist() == [1, 2, 3], kind
        assert sorted(history.series) == sorted(LOGGED), kind
        for name, values in LOGGED.items():
            np.testing.assert_allclose(history.series[name], [values], rtol=1e-6, err_msg=f"{kind} {name}")
            assert history.series[name].dtype == np.float64
        assert history.unused == {}, kind
        assert history.notes == (), kind


def test_a_history_already_read_is_returned():
    history = read_history(LOGGED)
    assert read_history(history) is history
    with pytest.raises(DataError, match="already read"):
        read_history(history, directions={"x": "up"})


def test_epochs_of_a_resumed_training_keep_their_numbers():
    assert read_history(KerasHistory({"loss": [1.0, 0.5]}, [10, 11])).epochs.tolist() == [11, 12]
    one_based = read_history({"epoch": [1, 2], "loss": [1.0, 0.5]})
    assert one_based.epochs.tolist() == [1, 2]
    assert "count epochs from 1" in one_based.notes[0]


def test_restarted_epoch_numbers_are_counted_in_order_and_said():
    history = read_history({"epoch": [0, 1, 2, 1, 2], "loss": [5, 4, 3, 2, 1]})
    assert history.epochs.tolist() == [1, 2, 3, 4, 5]
    assert "restart" in history.notes[0]


def test_nan_and_missing_are_told_apart_in_a_csv_file(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("epoch,loss,val_loss\n0,1.0,NA\n1,nan,0.5\n2,inf,\n")
    history = read_history(path)
    assert history.recorded["loss"].tolist() == [[True, True, True]]
    assert history.recorded["val_loss"].tolist() == [[False, True, False]]
    assert np.isnan(history.series["loss"][0, 1])
    assert np.isinf(history.series["loss"][0, 2])


def test_nan_in_a_frame_is_missing_only_where_validation_did_not_run():
    frame = pd.DataFrame({"loss": [1.0, 0.5, np.nan], "val_loss": [np.nan, 0.6, np.nan]})
    history = read_history(frame)
    assert history.recorded["loss"].tolist() == [[True, True, True]]
    assert history.recorded["val_loss"].tolist() == [[False, True, True]]


def test_validation_every_second_epoch_is_placed_as_keras_does():
    history = read_history({"loss": [6, 5, 4, 3, 2, 1], "val_loss": [50, 30, 10]})
    np.testing.assert_array_equal(history.series["val_loss"], [[np.nan, 50, np.nan, 30, np.nan, 10]])
    assert "validation_freq=2" in history.notes[0]


def test_a_short_series_that_fits_nowhere_is_named_and_not_used():
    # 2 of 10 could be every 4th or every 5th epoch; 9 of 10 is no frequency at all.
    for short in (2, 9):
        history = read_history({"loss": list(range(10)), "val_loss": list(range(short))})
        assert "val_loss" not in history.series
        assert f"{short} values for 10 epochs" in history.unused["val_loss"]


def test_metrics_are_paired_with_their_direction():
    metrics = read_history(LOGGED).metrics
    assert [(m.name, m.direction, m.train, m.validation) for m in metrics.values()] == [
        ("loss", "down", "loss", "val_loss"),
        ("accuracy", "up", "accuracy", "val_accuracy"),
    ]
    assert "more is better" in metrics["accuracy"].reason


@pytest.mark.parametrize(
    ("name", "direction", "prefix"),
    [
        ("accuracy", "up", None),
        ("sparse_categorical_accuracy", "up", None),
        ("auc_3", "up", None),
        ("top5_accuracy", "up", None),
        ("sparse_top_k_categorical_accuracy", "up", "sparse"),
        ("top_k_categorical_accuracy", "up", None),
        ("head_top_5_acc", "up", "head"),
        ("mean_io_u", "up", None),
        ("f1_score", "up", None),
        ("Recall", "up", None),
        ("r2_score", "up", None),
        ("mean_absolute_error", "down", None),
        ("head_a_mean_squared_error", "down", "head_a"),
        ("head_loss", "down", "head"),
        ("binary_crossentropy", "down", None),
        ("negative_log_likelihood", "down", None),
        ("head_negative_log_likelihood", "down", "head"),
    ],
)
def test_known_names(name, direction, prefix):
    known = recognise(name)
    assert known is not None
    assert (known[0].direction, known[1]) == (direction, prefix)


def test_top_k_is_not_the_accuracy():
    assert recognise("top5_accuracy")[0].name == "top-k accuracy"
    history = read_history({"val_top5_accuracy": [0.9, 0.95], "val_loss": [1.0, 0.9]})
    assert choose_performance(history.metrics)[0].name == "loss"


@pytest.mark.parametrize("name", ["neg_mean_squared_error", "my_score", "cosine_similarity", "log_likelihood", "time"])
def test_an_unknown_direction_is_named_and_not_used(name):
    history = read_history({"loss": [1.0, 0.5], f"val_{name}": [1.0, 2.0]})
    assert name not in history.metrics
    assert "metric_directions=" in history.unused[f"val_{name}"]
    assert f"val_{name}" in history.series


def test_a_direction_that_the_user_gives_beats_the_table_and_goes_first():
    history = read_history(LOGGED | {"val_my_score": [1, 2, 3]}, directions={"my_score": "up"})
    chosen, why = choose_performance(history.metrics)
    assert (chosen.name, chosen.direction) == ("my_score", "up")
    assert "user" in why
    with pytest.raises(DataError, match="'up'"):
        read_history(LOGGED, directions={"loss": "lower"})


def test_no_name_is_in_two_families():
    names = [name for family in METRIC_TABLE for name in family.names]
    assert len(names) == len(set(names)) > 80
    assert split_name("val_val_loss") == ("val_loss", "validation")


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["val_loss", "val_auc", "val_acc"], "acc"),
        (["val_loss", "val_mae"], "loss"),
        (["val_loss", "val_recall"], "loss"),
        (["val_mae"], "mae"),
        (["val_loss", "val_head_accuracy"], "head_accuracy"),
        (["val_loss", "val_a_accuracy", "val_b_accuracy"], "loss"),
        (["loss", "accuracy"], None),
        (["val_recall"], None),
    ],
)
def test_which_metric_stands_for_performance(names, chosen):
    metric, why = choose_performance(read_history({name: [1.0, 0.5] for name in names}).metrics)
    assert (metric.name if metric else None) == chosen
    assert why


def test_two_names_for_one_place():
    history = read_history({"train_loss": [2.0, 1.0], "loss": [4.0, 3.0], "valid_loss": [5.0, 4.0]})
    assert history.metrics["loss"].train == "loss"
    assert history.metrics["loss"].validation == "valid_loss"
    assert "already is" in history.unused["train_loss"]


def test_learning_rate_and_vectors():
    history = read_history({"loss": [1.0, 0.5], "lr": [0.1, 0.01], "f1_score": [np.ones(3), np.ones(3)]})
    assert history.learning_rate == "lr"
    assert "lr" not in history.unused
    assert "(3,)" in history.unused["f1_score"]


def test_several_seeds_of_different_length(tmp_path):
    path = tmp_path / "b.csv"
    path.write_text("epoch,loss,val_loss\n0,1.0,1.5\n1,0.5,1.25\n")
    history = read_history([{"loss": [3.0, 2.0, 1.0]}, path])
    assert history.n_runs == 2
    np.testing.assert_array_equal(history.series["loss"], [[3, 2, 1], [1, 0.5, np.nan]])
    np.testing.assert_array_equal(history.series["val_loss"], [[np.nan] * 3, [1.5, 1.25, np.nan]])
    assert history.recorded["loss"].tolist() == [[True] * 3, [True, True, False]]
    assert history.notes == ("Run 1: no series 'val_loss'.",)


def bad_files(tmp_path):
    contents = {
        "empty.csv": "",
        "header.csv": "epoch,loss\n",
        "ragged.csv": "epoch,loss\n0,1,2\n",
        "twice.csv": "loss,loss\n1,2\n",
        "words.csv": "loss,val_loss\ngood,bad\n",
        "broken.json": "{",
        "list.json": "[1, 2]",
        "model.pkl": "x",
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x81")
    return [tmp_path / name for name in [*contents, "binary.csv", "absent.csv"]]


def test_bad_files_are_one_clear_error(tmp_path):
    for path in bad_files(tmp_path):
        with pytest.raises(DataError, match=r"training history .*") as caught:
            read_history(path)
        assert path.name in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (3, "of type int; expected a Keras History"),
        (None, "of type NoneType"),
        ([], "empty list"),
        ([1.0, 2.0], "of type float"),
        ({}, "no epochs"),
        ({"loss": []}, "no epochs"),
        ({"loss": 1.0}, "one number per epoch"),
        ({"loss": ["low", "lower"]}, "'low'"),
        ({1: [1.0]}, "names of metrics"),
        (np.ones(3), "of type ndarray"),
    ],
)
def test_bad_sources_are_one_clear_error(source, message):
    with pytest.raises(DataError, match=message):
        read_history(source)


@pytest.mark.parametrize("make", [dict, list, tuple])
def test_several_seeds_come_as_list_tuple_or_dict(make, tmp_path):
    named = {"seed 0": LOGGED, "seed 1": KerasHistory(LOGGED, [0, 1, 2]), "seed 2": pd.DataFrame(LOGGED)}
    history = read_history(named if make is dict else make(named.values()))
    assert history.n_runs == 3
    np.testing.assert_array_equal(history.series["val_loss"], [LOGGED["val_loss"]] * 3)


@pytest.mark.parametrize(
    ("series", "name", "split"),
    [
        ("val_accuracy", "accuracy", "validation"),
        ("Validation Loss", "Loss", "validation"),
        ("valid/acc", "acc", "validation"),
        ("Train Loss", "Loss", "training"),
        ("train.loss", "loss", "training"),
        ("Loss", "Loss", "training"),
        ("val_", "val_", "training"),
    ],
)
def test_split_of_a_series_by_its_name(series, name, split):
    assert split_name(series) == (name, split)


def test_loss_is_found_however_it_is_written():
    history = read_history({"Loss": [1.0, 0.5], "Val Loss": [1.2, 0.9], "head_loss": [0.5, 0.2]})
    loss = loss_of(history.metrics)
    assert (loss.train, loss.validation) == ("Loss", "Val Loss")
    assert loss_of(read_history({"head_loss": [0.5, 0.2]}).metrics) is None


def test_histories_are_saved_with_the_results(tmp_path):
    results = AnalysisResults(("small", "long"))
    long = {"loss": np.linspace(2, 1, 400), "val_loss": np.linspace(2, 1.5, 400)}
    results.training_history = {
        "small": read_history({"loss": [1.0, None, float("nan")], "lr": [0.1, 0.1, 0.01]}),
        "long": read_history([long, long]),
    }
    text = results.to_json(tmp_path).read_text()
    assert "NaN" not in text
    assert json.loads(text)["training_history"]["small"]["series"]["loss"] == [[1.0, None, None]]
    back = AnalysisResults.load(tmp_path).training_history
    for name, history in results.training_history.items():
        assert (back[name].n_runs, back[name].learning_rate) == (history.n_runs, history.learning_rate)
        assert (back[name].metrics, back[name].notes) == (history.metrics, history.notes)
        np.testing.assert_array_equal(back[name].epochs, history.epochs)
        for series, values in history.series.items():
            np.testing.assert_array_equal(back[name].series[series], values)
            np.testing.assert_array_equal(back[name].recorded[series], history.recorded[series])
    # A NaN that training produced is still told from what was not recorded.
    assert back["small"].recorded["loss"].tolist() == [[True, False, True]]
    assert AnalysisResults(("a",)).to_document()[0].get("training_history") is None


def test_a_history_survives_json():
    history = read_history({"loss": [1.0, None, 0.5], "val_accuracy": [0.1, 0.2, 0.3], "odd": [1, 2, 3]})
    store = ArrayStore()
    back = decode(History, json.loads(json.dumps(encode(history, store))), store.arrays)
    for field in dataclasses.fields(History):
        if field.name not in ("epochs", "series", "recorded"):
            assert getattr(back, field.name) == getattr(history, field.name)
    assert back.epochs.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(back.series["loss"], history.series["loss"])
    assert back.recorded["loss"].tolist() == [[True, False, True]]
