"""The published JSON Schema: in step with the code, satisfied by real documents, violated by others."""

import copy
import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from analyzer.data_types import AnalysisResults, Failed, Finding, MultiOutput, Skipped
from analyzer.data_types.results import ANALYSIS_TYPES, SCHEMA_VERSION
from analyzer.data_types.schema import SCHEMA_PATH, build_schema, field_descriptions, schema_text
from tests.data_types.strategies import RESULTS, results
from tests.visualizers import synthetic

pytestmark = pytest.mark.plain

PUBLISHED = json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(PUBLISHED)


def problems(document):
    """Where and why a document, as it is read from a file, does not satisfy the schema."""
    read = json.loads(json.dumps(document, allow_nan=False))
    return [f"{error.json_path}: {error.message[:200]}" for error in VALIDATOR.iter_errors(read)]


def document_of(name, value, model="model", *, inline=False):
    found = AnalysisResults((model,))
    setattr(found, name, value if name == "comparison" else {model: value})
    return found.to_document(inline_arrays=inline)[0]


@pytest.fixture
def document():
    return synthetic.results().to_document()[0]


def test_the_committed_file_is_the_generated_one():
    assert SCHEMA_PATH.read_text(encoding="utf-8") == schema_text(), "run: python -m analyzer.data_types.schema"


def test_the_module_writes_the_file_and_needs_no_keras(tmp_path):
    program = (
        "import pathlib, runpy, sys\n"
        "pathlib.Path.with_name = lambda self, name: pathlib.Path(sys.argv[1]) / name\n"
        "runpy.run_module('analyzer.data_types.schema', run_name='__main__')\n"
        "assert not {'keras', 'matplotlib', 'scipy', 'jsonschema'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    assert (tmp_path / SCHEMA_PATH.name).read_bytes() == SCHEMA_PATH.read_bytes()


def test_it_is_a_schema_of_this_version():
    Draft202012Validator.check_schema(PUBLISHED)
    assert PUBLISHED["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    assert PUBLISHED["$id"].endswith(f":{SCHEMA_VERSION}")
    assert PUBLISHED["properties"]["schema_version"]["const"] == SCHEMA_VERSION
    assert {*ANALYSIS_TYPES, "comparison"} <= set(PUBLISHED["properties"])
    assert build_schema() == PUBLISHED


def test_every_result_and_every_field_of_one_is_described():
    for cls in RESULTS:
        definition = PUBLISHED["$defs"][cls.__name__]
        assert definition["description"]
        described = {name for name, entry in definition["properties"].items() if "description" in entry}
        assert described == set(definition["properties"]) - {"status", "reason", "type"}, cls


def test_descriptions_come_from_docstrings_over_several_lines_and_bases():
    class Base:
        """A base.

        Attributes:
            first: One
                and more.
            second: Two: ``2``.
        """

    class Derived(Base):
        """Derived.

        Attributes:
            second: Other.

        Raises:
            third: Nothing.
        """

    assert field_descriptions(Derived) == {"first": "One and more.", "second": "Other."}
    assert field_descriptions(Base)["second"] == "Two: `2`."


@pytest.mark.parametrize("cls", RESULTS, ids=lambda cls: cls.__name__)
def test_every_kind_of_result_is_valid(cls):
    @settings(max_examples=8)
    @given(result=results(cls), inline=st.booleans())
    def check(result, inline):
        name = RESULTS[cls]
        assert problems(document_of(name, result, inline=inline)) == []
        if name != "comparison":
            assert problems(document_of(name, MultiOutput(outputs={"<b>": result}), inline=inline)) == []

    check()


@pytest.mark.parametrize("name", [*ANALYSIS_TYPES, "comparison"])
def test_what_could_not_be_had_is_valid(name):
    for instead in (Skipped("why"), Failed("E: e", "where")):
        assert problems(document_of(name, instead)) == []
        if name != "comparison":
            assert problems(document_of(name, MultiOutput(outputs={"a": instead}))) == []


@pytest.mark.parametrize("made", [synthetic.results, synthetic.every_task, AnalysisResults])
def test_whole_audits_are_valid(made):
    found = made()
    found.findings = {"mlp": (Finding(kind="k", layer=None, severity="info", evidence={"x": None}, message=""),)}
    found.custom_metrics = {"mlp": {"auc": 0.5}}
    found.anything = [1, None, "a"]
    found.provenance, found.measured = {"versions": {"keras": "3"}}, {"seconds": {"total": 1.0}}
    for inline in (False, True):
        assert problems(found.to_document(inline_arrays=inline)[0]) == []


def _without(*path):
    def change(document):
        for key in path[:-1]:
            document = document[key]
        del document[path[-1]]

    return change


def _with(value, *path):
    def change(document):
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _without("schema_version"),
        _with("2.0", "schema_version"),
        _without("models"),
        _with([1], "models"),
        _without("provenance"),
        _without("findings"),
        _with([], "plugins"),
        _without("calibration", "mlp", "status"),
        _without("calibration", "mlp", "type"),
        _with("WeightResult", "calibration", "mlp", "type"),
        _with("maybe", "calibration", "mlp", "status"),
        _with("because", "calibration", "mlp", "reason"),
        _without("calibration", "mlp", "ece", "n"),
        _with("0.1", "calibration", "mlp", "ece", "value"),
        _with(None, "calibration", "mlp", "ece", "n"),
        _with(1.5, "calibration", "mlp", "ece", "n"),
        _with(0.1, "calibration", "mlp", "ece"),
        _with("fine", "calibration", "mlp", "verdict", "direction"),
        _with("text", "calibration", "mlp", "reliability", "lower", 0),
        _with(0.5, "calibration", "mlp", "reliability", "count", 0),
        _with({"array": "x"}, "calibration", "mlp", "confidence"),
        _with(1, "calibration", "mlp", "unheard_of"),
        _with("grave", "weights", "mlp", "findings", 0, "severity"),
        _without("weights", "mlp", "findings", 0, "message"),
        _with([1], "weights", "mlp", "findings", 0, "evidence", "list"),
        _without("training_dynamics", "overfit", "reason"),
        _without("information_flow", "overfit", "where"),
        _with(None, "comparison"),
        _with("3", "comparison", "cka", "pairs", 0, "estimate", "n"),
    ],
)
def test_what_is_wrong_is_found(document, change):
    assert problems(document) == []
    changed = copy.deepcopy(document)
    change(changed)
    assert problems(changed) != []
