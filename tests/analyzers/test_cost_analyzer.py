"""`results.cost` through a whole audit: what is saved where, and what reads it."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from analyzer import AnalysisConfig, AnalysisResults, ModelAnalyzer
from analyzer.analyzers.registry import analyzer_classes
from analyzer.commands.summary import table
from analyzer.data_types import Skipped
from analyzer.data_types.cost import CostResult
from analyzer.sweeps.gate import Rule, evaluate
from analyzer.sweeps.quantities import check_rules
from tests import zoo


def audit(models, folder, data=None, **options):
    config = AnalysisConfig(**{"save_plots": False, "progress": False, "batch_size": 4} | options)
    return ModelAnalyzer(models, config=config, output_dir=folder).analyze(data, analysis_types=["cost"])


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cost")
    models = {name: zoo.build(name).model for name in ("functional_cnn", "custom_layer")}
    return audit(models, folder), folder


def test_it_is_an_analysis_of_its_own_that_needs_no_data():
    analyzer = analyzer_classes()["cost"]({}, AnalysisConfig())
    assert not analyzer.requires_data()
    assert len(analyzer.needs()) == 1


def test_results_say_what_a_model_costs(found):
    results, _ = found
    cost = results.cost["functional_cnn"]
    assert isinstance(cost, CostResult)
    assert cost.parameters == 143
    assert cost.latency_of(1).value > 0
    assert cost.findings == ()


def test_what_is_not_counted_is_an_information_and_no_warning(found):
    results, _ = found
    (finding,) = results.cost["custom_layer"].findings
    assert (finding.kind, finding.severity) == ("flops_incomplete", "info")
    assert "own" in finding.message
    assert finding.evidence == {"uncounted": 1, "layers": 3 - 1}


def test_times_stand_under_measured_and_nowhere_else(found):
    results, folder = found
    document = json.loads((folder / "analysis_results.json").read_text())
    entry = document["cost"]["functional_cnn"]
    assert "latency" not in json.dumps({key: value for key, value in document.items() if key != "measured"})
    measured = document["measured"]["cost"]["functional_cnn"]
    assert measured["latency"][0]["seconds"]["value"] == results.cost["functional_cnn"].latency[0].seconds.value
    assert entry["flops"] == results.cost["functional_cnn"].flops


def test_two_runs_differ_in_measured_only(tmp_path):
    models = {"m": zoo.build("attention").model}
    documents = []
    for folder in ("first", "second"):
        audit(models, tmp_path / folder)
        document = json.loads((tmp_path / folder / "analysis_results.json").read_text())
        documents.append({key: value for key, value in document.items() if key not in ("measured", "provenance")})
    assert documents[0] == documents[1]
    assert documents[0]["cost"]["m"]["layers"]


def test_loaded_results_have_their_times_back(found):
    results, folder = found
    loaded = AnalysisResults.load(folder)
    for name, cost in results.cost.items():
        again = loaded.cost[name]
        assert [(a.batch_size, a.seconds) for a in again.latency] == [(a.batch_size, a.seconds) for a in cost.latency]
        assert again.rows() == cost.rows()
    assert loaded.measured == results.measured


def test_a_table_has_a_row_per_layer_call(found):
    table = found[0].to_frame("cost")
    assert list(table["id"][table["model"] == "custom_layer"]) == ["own", "head"]


def test_rules_may_name_costs_and_times(found):
    document, _ = found[0].to_document()
    rules = [Rule.parse(text) for text in ("cost.parameters > 100", "cost.latency.batch_1.seconds > 100")]
    check_rules(rules, {"cost": CostResult})
    outcomes = {(o.rule.text, o.model): o.status for o in evaluate(rules, document)}
    assert outcomes["cost.parameters > 100", "functional_cnn"] == "failed"
    assert outcomes["cost.parameters > 100", "custom_layer"] == "passed"
    assert outcomes["cost.latency.batch_1.seconds > 100", "functional_cnn"] == "passed"


def test_with_data_shapes_are_those_of_the_data(tmp_path):
    a = keras.Input((None, 3))
    model = keras.Model(a, keras.layers.Conv1D(2, 1, name="conv")(a))
    results = audit({"m": model}, tmp_path, np.zeros((6, 9, 3), "float32"))
    assert results.cost["m"].layers[0].output_shapes == ((9, 2),)
    assert results.cost["m"].inputs[0].shape == (9, 3)


def test_a_model_that_cannot_be_opened_fails_alone(tmp_path):
    path = tmp_path / "broken.keras"
    path.write_bytes(b"no zip")
    results = audit({"fine": zoo.build("functional_cnn").model, "broken": path}, tmp_path / "out")
    assert isinstance(results.cost["fine"], CostResult)
    assert results.cost["broken"].status == "failed"
    assert not isinstance(results.cost["broken"], Skipped)


def test_the_summary_has_columns_for_parameters_operations_and_time(found):
    document, _ = found[0].to_document()
    head, first, second = table(document)
    assert head.split() == ["model", "parameters", "FLOPs", "latency"]
    assert first.split()[:3] == ["functional_cnn", "143", "1.52e+04"]
    assert first.split()[-1] == "ms"
    assert second.split()[:4] == ["custom_layer", "18", "≥", "18"]
