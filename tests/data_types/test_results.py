"""`AnalysisResults`: saved and loaded whole, whatever names and plugins it holds, and shown as tables."""

import dataclasses
import json
import os
import stat
import zipfile
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.data_types import AnalysisResults, Estimate, Failed, Finding, MultiOutput, Skipped, for_outputs
from analyzer.data_types import results as results_module
from analyzer.data_types.files import ARRAYS_NAME, JSON_NAME
from analyzer.data_types.results import ANALYSIS_TYPES, SCHEMA_VERSION
from analyzer.data_types.weights import TensorStatistics
from analyzer.errors import AnalyzerError, DataError, OutputError
from tests.data_types.strategies import HOSTILE, RESULTS, results, same
from tests.visualizers import synthetic

pytestmark = pytest.mark.plain

TABLES = [*ANALYSIS_TYPES, "comparison", "findings"]


def refuse_constant(word):
    raise AssertionError(f"{word} is not JSON")


def strict(path):
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse_constant)


def filled(name, value, model="model"):
    found = AnalysisResults((model,))
    setattr(found, name, value if name == "comparison" else {model: value})
    return found


def classification(seed=0, n=400):
    """Whole numbers where they belong: the made-up bins are filled with floats."""
    made = synthetic.classification(seed, n=n)
    return dataclasses.replace(made, reliability_equal_mass=made.reliability)


def through_disk(found, folder, **options):
    return AnalysisResults.load(found.to_json(folder, **options))


class TestRoundTrip:
    @pytest.mark.parametrize("cls", RESULTS, ids=lambda cls: cls.__name__)
    def test_every_kind_of_result(self, cls, tmp_path):
        name = RESULTS[cls]

        @settings(max_examples=5)
        @given(result=results(cls), model=st.sampled_from(HOSTILE), inline=st.booleans())
        def check(result, model, inline):
            loaded = through_disk(filled(name, result, model), tmp_path, inline_arrays=inline)
            assert loaded.model_names == (model,)
            assert same(loaded.comparison if name == "comparison" else getattr(loaded, name)[model], result)

        check()

    @pytest.mark.parametrize("name", [*ANALYSIS_TYPES, "comparison"])
    @pytest.mark.parametrize("instead", [Skipped("no labels <b>"), Failed("ValueError: 3", "work, line 5 of a.py")])
    def test_what_could_not_be_had(self, name, instead, tmp_path):
        loaded = through_disk(filled(name, instead), tmp_path)
        assert (loaded.comparison if name == "comparison" else getattr(loaded, name)["model"]) == instead

    def test_several_outputs(self, tmp_path):
        outputs = {"../x": classification(), "b": Skipped("no"), "c": Failed("E: e", "f")}
        loaded = through_disk(filled("calibration", for_outputs(outputs)), tmp_path).calibration["model"]
        assert list(loaded.outputs) == list(outputs)
        assert all(map(same, loaded.outputs.values(), outputs.values()))

    def test_everything_else(self, tmp_path):
        found = synthetic.results()
        finding = Finding(kind="k", layer="l", severity="warning", evidence={"n": 3, "x": 0.5, "s": "a"}, message="m")
        found.findings = {"mlp": (finding,)}
        found.provenance, found.measured = {"seed": 3, "path": None}, {"seconds": {"total": 1.5}}
        loaded = through_disk(found, tmp_path)
        assert same(loaded.findings, found.findings)
        assert (loaded.provenance, loaded.measured) == (found.provenance, found.measured)
        assert loaded.model_names == found.model_names
        assert [a[:2] for a in loaded.all_findings()] == [a[:2] for a in found.all_findings()]
        document, arrays = loaded.to_document()
        again, members = found.to_document()
        assert document == again
        assert all(np.array_equal(arrays[name], members[name], equal_nan=True) for name in members)

    def test_nothing_at_all(self, tmp_path):
        loaded = through_disk(AnalysisResults(), tmp_path)
        assert (loaded.model_names, loaded.analyses(), loaded.comparison) == ((), {}, None)


class TestDocument:
    def test_statuses_stand_beside_the_results(self):
        document, _ = synthetic.results().to_document()
        entry = document["weights"]["mlp"]
        assert (entry["status"], entry["reason"], entry["type"]) == ("ok", None, "WeightResult")
        assert document["training_dynamics"]["overfit"] == {
            "status": "skipped",
            "reason": "no training history was given for this model",
            "findings": [],
        }
        broken = document["information_flow"]["overfit"]
        assert broken["status"] == "failed"
        assert broken["reason"] == "ValueError: a layer returned a dict (in information_flow.analyze)"
        assert document["comparison"]["status"] == "ok"
        assert document["schema_version"] == SCHEMA_VERSION
        assert document["calibration"]["mlp"]["ece"].keys() == {"value", "low", "high", "n", "level", "method"}

    def test_several_outputs_and_their_findings(self):
        trouble = Finding(kind="k", layer=None, severity="error", message="m")
        one = synthetic.make(ANALYSIS_TYPES["performance"], findings=(trouble,))
        document, _ = filled("performance", MultiOutput(outputs={"a": one, "b": Skipped("no")})).to_document()
        entry = document["performance"]["model"]
        assert [finding["kind"] for finding in entry["findings"]] == ["k"]
        assert [output["status"] for output in entry["outputs"].values()] == ["ok", "skipped"]

    def test_large_arrays_are_named_or_inline(self, tmp_path):
        found = filled("calibration", synthetic.classification(n=400))
        entry = strict(found.to_json(tmp_path))["calibration"]["model"]
        with np.load(tmp_path / ARRAYS_NAME, allow_pickle=False) as members:
            np.testing.assert_array_equal(members[entry["confidence"]["array"]], found.calibration["model"].confidence)
        inline = tmp_path / "inline"
        entry = strict(found.to_json(inline, inline_arrays=True))["calibration"]["model"]
        assert len(entry["confidence"]) == 400
        assert [path.name for path in inline.iterdir()] == [JSON_NAME]

    def test_names_of_users_stay_in_the_json(self, tmp_path):
        inside = tmp_path / "in" / "side"
        found = AnalysisResults(HOSTILE)
        found.calibration = {name: synthetic.classification(names=HOSTILE[:10], n=300) for name in HOSTILE}
        found.findings = {HOSTILE[0]: (Finding(kind="k", layer=HOSTILE[1], severity="info", message=HOSTILE[2]),)}
        found.custom = {name: {name: 1} for name in HOSTILE}
        loaded = through_disk(found, inside)
        assert loaded.model_names == HOSTILE
        assert list(loaded.calibration) == list(HOSTILE)
        assert list(loaded.custom) == list(HOSTILE)
        written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
        assert written == {f"in/side/{JSON_NAME}", f"in/side/{ARRAYS_NAME}"}
        with zipfile.ZipFile(inside / ARRAYS_NAME) as archive:
            words = {name.split("_", 1)[1] for name in archive.namelist()}
        assert words == {"confidence.npy", "entropy.npy", "correct.npy", "predicted.npy"}


class TestFiles:
    def test_a_folder_or_a_file_can_be_named(self, tmp_path):
        found = AnalysisResults(("a",))
        assert found.to_json(tmp_path / "new" / "folder") == tmp_path / "new" / "folder" / JSON_NAME
        assert found.to_json(str(tmp_path)) == tmp_path / JSON_NAME
        path = found.to_json(tmp_path / "audit.json")
        assert path == tmp_path / "audit.json"
        for given_path in (tmp_path, str(tmp_path), tmp_path / JSON_NAME, path):
            assert AnalysisResults.load(given_path).model_names == ("a",)

    def test_two_files_in_one_folder_keep_their_own_arrays(self, tmp_path):
        one, other = (filled("calibration", classification(seed)) for seed in (1, 2))
        paths = [one.to_json(tmp_path / "one.json"), other.to_json(tmp_path / "other.json")]
        for path, found in zip(paths, (one, other), strict=True):
            assert same(AnalysisResults.load(path).calibration["model"], found.calibration["model"])

    @pytest.mark.parametrize("broken", ["savez_compressed", "dumps"])
    def test_a_write_that_breaks_off_leaves_the_old_files_whole(self, tmp_path, monkeypatch, broken):
        old = filled("calibration", synthetic.classification(1, n=400))
        old.to_json(tmp_path)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

        def break_off(*args, **options):
            if broken == "savez_compressed":
                args[0].write(b"half a file")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(np if broken == "savez_compressed" else results_module.json, broken, break_off)
        with pytest.raises(OutputError, match=r"cannot be written to .*: No space left on device"):
            filled("calibration", synthetic.classification(1, n=400)).to_json(tmp_path)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_who_is_reading_the_old_files_reads_them_whole(self, tmp_path):
        filled("calibration", classification(1)).to_json(tmp_path)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        with (tmp_path / JSON_NAME).open("rb") as document, (tmp_path / ARRAYS_NAME).open("rb") as arrays:
            filled("calibration", classification(2, n=500)).to_json(tmp_path)
            assert (document.read(), arrays.read()) == (before[JSON_NAME], before[ARRAYS_NAME])
        assert len(AnalysisResults.load(tmp_path).calibration["model"].confidence) == 500

    def test_files_are_as_readable_as_any_of_the_user(self, tmp_path):
        plain_file = tmp_path / "other.txt"
        plain_file.touch()
        found = filled("calibration", synthetic.classification(n=400))
        found.to_json(tmp_path)
        modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
        assert modes == {stat.S_IMODE(plain_file.stat().st_mode)}
        umask = os.umask(0)
        os.umask(umask)
        assert modes == {0o666 & ~umask}

    def test_a_folder_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(OutputError, match="cannot be written to"):
            AnalysisResults().to_json(tmp_path / "file" / "below.json")


class TestLoad:
    @pytest.fixture
    def saved(self, tmp_path):
        filled("calibration", synthetic.classification(n=400)).to_json(tmp_path)
        return tmp_path

    def change(self, folder, **changes):
        document = strict(folder / JSON_NAME)
        document.update(changes)
        (folder / JSON_NAME).write_text(json.dumps(document), encoding="utf-8")

    def test_a_later_version_is_refused_and_a_minor_one_is_read(self, saved):
        self.change(saved, schema_version="2.0")
        with pytest.raises(DataError, match=r"has schema version 2.0; this release reads 1.0. Update it."):
            AnalysisResults.load(saved)
        self.change(saved, schema_version="1.7", added_later={"a": 1})
        assert AnalysisResults.load(saved).model_names == ("model",)

    @pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"models": []}', "\x00\xff"])
    def test_what_is_no_document_of_ours(self, tmp_path, text):
        (tmp_path / JSON_NAME).write_bytes(text.encode("latin-1"))
        with pytest.raises(DataError, match=r"No results can be read|holds no results"):
            AnalysisResults.load(tmp_path)

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(DataError, match=r"No results can be read from .*nothing.json"):
            AnalysisResults.load(tmp_path / "nothing.json")

    @pytest.mark.parametrize("changes", [{"models": None}, {"calibration": {"model": {}}}, {"weights": []}])
    def test_a_damaged_document(self, saved, changes):
        self.change(saved, **changes)
        with pytest.raises(DataError, match=r"is damaged: .*Run the analysis again"):
            AnalysisResults.load(saved)

    @pytest.mark.parametrize("size", [0, 10, -30])
    def test_a_truncated_array_file(self, saved, size):
        content = (saved / ARRAYS_NAME).read_bytes()
        (saved / ARRAYS_NAME).write_bytes(content[:size])
        with pytest.raises(DataError, match="No results can be read"):
            AnalysisResults.load(saved)

    def test_an_array_file_that_is_missing_or_of_another_analysis(self, saved, tmp_path):
        (saved / ARRAYS_NAME).unlink()
        with pytest.raises(DataError, match="Keep both files of one analysis together"):
            AnalysisResults.load(saved)
        filled("calibration", synthetic.classification(n=500)).to_json(tmp_path / "other")
        (tmp_path / "other" / ARRAYS_NAME).rename(saved / ARRAYS_NAME)
        with pytest.raises(DataError, match="Keep both files of one analysis together"):
            AnalysisResults.load(saved)

    def test_pickles_are_not_opened(self, saved):
        np.savez(saved / ARRAYS_NAME, **{"00000_confidence": np.array([{}], dtype=object)})
        with pytest.raises(DataError, match="allow_pickle=False"):
            AnalysisResults.load(saved)


class TestPlugins:
    def test_attributes_reach_the_json_under_their_names(self, tmp_path):
        found = AnalysisResults(("a",))
        found.custom_metrics = {"a": {"auc": np.float32(0.5), "curve": np.array([1.0, np.nan]), "missing": np.nan}}
        found.margin = np.arange(3)
        found._private = 1
        expected = {"auc": 0.5, "curve": [1.0, None], "missing": None}
        document = strict(found.to_json(tmp_path))
        assert document["custom_metrics"] == {"a": expected}
        assert document["plugins"] == {"custom_metrics": {"a": expected}, "margin": [0, 1, 2]}
        assert "_private" not in document
        loaded = AnalysisResults.load(tmp_path)
        assert loaded.plugins == document["plugins"]
        assert loaded.custom_metrics["a"] == expected

    @pytest.mark.parametrize(
        "name", ["to_json", "load", "plugins", "analyses", "models", "schema_version", "_repr_html_"]
    )
    def test_reserved_names_are_refused(self, name):
        with pytest.raises(AnalyzerError, match=f"results.{name} is reserved: give a plugin's results another name"):
            setattr(AnalysisResults(), name, {"a": 1})

    @pytest.mark.parametrize("name", [*ANALYSIS_TYPES, "comparison"])
    def test_places_of_our_analyses_take_only_their_results(self, name):
        for wrong in ({"a": 0.5}, {"a": {"value": 1}}, {"a": Estimate(value=1.0, n=1)}, 0.5):
            with pytest.raises(AnalyzerError, match=f"results.{name} is reserved"):
                setattr(AnalysisResults(), name, wrong)
        assert name in results_module.RESERVED


class TestTables:
    @pytest.mark.parametrize("what", TABLES)
    def test_every_table_of_an_audit(self, what, tmp_path):
        found = synthetic.results()
        tensor = synthetic.make(TensorStatistics, id="conv2d/kernel", layer="conv2d", shape=(3, 3), mean=0.5)
        found.weights["mlp"] = dataclasses.replace(found.weights["mlp"], tensors=(tensor,))
        table = found.to_frame(what)
        assert isinstance(table, pd.DataFrame)
        assert len(table)
        pd.testing.assert_frame_equal(through_disk(found, tmp_path).to_frame(what), table)

    @pytest.mark.parametrize("what", TABLES)
    def test_every_table_of_nothing_is_empty(self, what):
        assert len(AnalysisResults().to_frame(what)) == 0

    @pytest.mark.parametrize("cls", [cls for cls, name in RESULTS.items() if name != "comparison"], ids=str)
    def test_every_kind_of_result_has_rows(self, cls):
        @settings(max_examples=5)
        @given(result=results(cls))
        def check(result):
            table = filled(RESULTS[cls], result, "../x").to_frame(RESULTS[cls])
            assert set(table.get("model", ())) <= {"../x"}
            assert set(table.get("status", ())) <= {"ok"}

        check()

    def test_calibration_has_one_row_per_model_and_output(self):
        table = synthetic.every_task().to_frame("calibration").set_index("model")
        one = synthetic.classification(2)
        row = table.loc["multiclass"]
        assert (row["ece"], row["ece_low"], row["ece_high"]) == (one.ece.value, one.ece.low, one.ece.high)
        assert row["verdict"] == one.verdict.text
        assert row["verdict_p_value"] == one.verdict.p_value
        assert list(table.loc["two heads"]["output"]) == ["class", "value"]
        assert (table.loc["skipped"]["status"], table.loc["skipped"]["reason"]) == ("skipped", "no labels were given")
        assert table.loc["failed"]["reason"] == "ZeroDivisionError: division by zero (in measures)"
        assert not any(isinstance(cell, np.ndarray | tuple) for cell in table.to_numpy().ravel())

    def test_comparison_has_one_row_per_pair(self):
        table = synthetic.results(names=("a", "b", "c", "d")).to_frame("comparison")
        cka = table[table["measure"] == "linear_cka"].set_index(["first", "second"])
        assert len(cka) == 6
        assert cka.loc[("d", "b"), "reason"] == "made up"
        assert np.isnan(cka.loc[("d", "b"), "value"])
        assert cka.loc[("b", "a"), "value"] == pytest.approx(1 / 1.15)
        assert len(filled("comparison", Skipped("one model")).to_frame("comparison")) == 0

    def test_findings_name_analysis_and_model(self):
        found = synthetic.results()
        table = found.to_frame("findings")
        assert list(table.columns) == ["analysis", "model", "kind", "layer", "severity", "evidence", "message"]
        assert len(table) == len(list(found.all_findings()))
        assert set(table["analysis"]) == {"weights", "information_flow", "robustness", "shift"}

    def test_plugins(self):
        found = AnalysisResults(("a", "b"))
        found.custom = {"a": {"x": 1}, "b": {"x": 2}}
        found.score = {"a": 0.5}
        found.single = 7
        assert found.to_frame("custom").to_dict("list") == {"model": ["a", "b"], "x": [1, 2]}
        assert found.to_frame("score").to_dict("list") == {"model": ["a"], "value": [0.5]}
        assert list(found.to_frame("single")["value"]) == [7]

    def test_an_unknown_table_is_refused_with_those_there_are(self):
        with pytest.raises(DataError, match=r"no table 'weigths'. Known: performance, .*comparison, findings"):
            AnalysisResults().to_frame("weigths")


class TestShown:
    def test_every_name_is_escaped(self):
        tags = set()

        class Reader(HTMLParser):
            def handle_starttag(self, tag, attrs):
                tags.add((tag, tuple(value for _, value in attrs)))

        evil = "<script>alert(1)</script><img src=x onerror=y>"
        found = synthetic.results(names=(evil,), layer_name=evil + "{}")
        found.findings = {evil: (Finding(kind=evil, layer=evil, severity="error", message=evil),)}
        html = found._repr_html_()
        Reader().feed(html)
        assert {tag for tag, _ in tags} == {"table", "thead", "tbody", "tr", "th", "td", "ul", "li", "b"}
        assert "&lt;script&gt;" in html
        assert html.count("<li>") == sum(f.severity != "info" for _, _, f in found.all_findings())

    def test_a_name_is_shown_whole(self):
        name = "long" * 75
        assert name in filled("performance", synthetic.performance(), name)._repr_html_()
        assert repr(filled("performance", synthetic.performance(), name)) == (
            f"AnalysisResults(models=['{name}'], analyses: performance (1))"
        )
        assert repr(AnalysisResults()).endswith("analyses: none)")
