"""`AnalysisResults`: everything that an analysis found, saved and loaded."""

from __future__ import annotations

import dataclasses
import html
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from analyzer.data_types.calibration import ClassificationCalibration, MultiLabelCalibration
from analyzer.data_types.comparison import Comparison
from analyzer.data_types.cost import CostResult
from analyzer.data_types.files import JSON_NAME, arrays_path, load_arrays, write_document
from analyzer.data_types.history import History
from analyzer.data_types.information_flow import InformationFlowResult
from analyzer.data_types.performance import PerformanceResult
from analyzer.data_types.plugins import decode_plugin, encode_absent, encode_plugin, plugin_findings, plugin_rows
from analyzer.data_types.regression_calibration import GaussianCalibration, QuantileCalibration, RegressionCalibration
from analyzer.data_types.relevance import RelevanceResult
from analyzer.data_types.robustness import RobustnessResult
from analyzer.data_types.serialization import ArrayStore, decode, encode, encode_measured, plain
from analyzer.data_types.shift import ShiftResult
from analyzer.data_types.training import TrainingResult
from analyzer.data_types.values import Failed, Finding, Skipped, flat_row
from analyzer.data_types.weights import WeightResult
from analyzer.errors import AnalyzerError, DataError, OutputError

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = "1.0"

Calibration = (
    ClassificationCalibration
    | MultiLabelCalibration
    | RegressionCalibration
    | GaussianCalibration
    | QuantileCalibration
)
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True, eq=False)
class MultiOutput(Generic[R]):
    """Results of a model with several outputs.

    Attributes:
        outputs: Result by output name.
    """

    outputs: Mapping[str, R | Skipped]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Findings of all outputs."""
        return tuple(f for result in self.outputs.values() for f in getattr(result, "findings", ()))


ANALYSIS_TYPES: dict[str, Any] = {
    "performance": PerformanceResult,
    "weights": WeightResult,
    "calibration": Calibration,
    "information_flow": InformationFlowResult,
    "training_dynamics": TrainingResult,
    "cost": CostResult,
    "relevance": RelevanceResult,
    "robustness": RobustnessResult,
    "shift": ShiftResult,
}
"""The analyses of this package and the type of their results."""


_DOCUMENT_KEYS = ("schema_version", "models")


class AnalysisResults:
    """Results of one analysis, by analysis and model.

    Attributes:
        model_names: Names of the models, in the order given.
        performance: Model name to `PerformanceResult`, `MultiOutput`, `Skipped` or `Failed`.
        weights: Model name to `WeightResult`, `Skipped` or `Failed`.
        calibration: Model name to a calibration result, `MultiOutput`, `Skipped` or `Failed`.
        information_flow: Model name to `InformationFlowResult`, `Skipped` or `Failed`.
        training_dynamics: Model name to `TrainingResult`, `Skipped` or `Failed`.
        cost: Model name to `CostResult`, `Skipped` or `Failed`.
        relevance: Model name to `RelevanceResult`, `MultiOutput`, `Skipped` or `Failed`.
        robustness: Model name to `RobustnessResult`, `Skipped` or `Failed`.
        shift: Model name to `ShiftResult`, `Skipped` or `Failed`.
        training_history: Model name to the training history that was given.
        comparison: What is between models: `Comparison`, `Skipped`, `Failed`, or None where it was not asked for.
        findings: What was noticed while gathering, by model name.
        provenance: Versions, backend, seed, configuration, files: how the numbers came about.
        measured: Times and memory: what may differ between two equal runs.

    A plugin adds its own results as further attributes; they are saved under their names. Where such an attribute maps
    model names to results, a list of `Finding`s under ``findings`` of a result counts among the findings of that model.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse what would hide a method or a part of the document, or break it: a plugin chooses another name."""
        expected = {**ANALYSIS_TYPES, "comparison": Comparison | None}.get(name)
        values = value.values() if isinstance(value, Mapping) else [value]
        misfit = expected and not all(isinstance(v, expected | MultiOutput | Skipped | Failed) for v in values)
        if misfit or hasattr(AnalysisResults, name) or name in _DOCUMENT_KEYS:
            raise AnalyzerError(f"results.{name} is reserved: give a plugin's results another name.")
        super().__setattr__(name, value)

    def __init__(self, model_names: tuple[str, ...] = ()) -> None:
        self.model_names = tuple(model_names)
        self.performance: dict[str, Any] = {}
        self.weights: dict[str, Any] = {}
        self.calibration: dict[str, Any] = {}
        self.information_flow: dict[str, Any] = {}
        self.training_dynamics: dict[str, Any] = {}
        self.cost: dict[str, Any] = {}
        self.relevance: dict[str, Any] = {}
        self.robustness: dict[str, Any] = {}
        self.shift: dict[str, Any] = {}
        self.training_history: dict[str, History] = {}
        self.comparison: Comparison | Skipped | Failed | None = None
        self.findings: dict[str, tuple[Finding, ...]] = {}
        self.provenance: dict[str, Any] = {}
        self.measured: dict[str, Any] = {}

    @property
    def plugins(self) -> dict[str, Any]:
        """Attributes that plugins added, by name."""
        return {name: value for name, value in vars(self).items() if name not in RESERVED and not name.startswith("_")}

    def analyses(self) -> dict[str, dict[str, Any]]:
        """The analyses that were run: name to results by model."""
        return {name: results for name in ANALYSIS_TYPES if (results := getattr(self, name))}

    def all_findings(self) -> Iterator[tuple[str, str, Finding]]:
        """Every finding as ``(analysis, model name, finding)``."""
        for model, findings in self.findings.items():
            yield from (("model", model, finding) for finding in findings)
        for name, results in self.analyses().items():
            for model, result in results.items():
                yield from ((name, model, finding) for finding in getattr(result, "findings", ()))
        for name, value in self.plugins.items():
            yield from ((name, model, finding) for model, finding in plugin_findings(value, self.model_names))

    def to_document(self, *, inline_arrays: bool = False) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The results as strict JSON values, and the large arrays that they name.

        Args:
            inline_arrays: Write large arrays into the JSON values too.
        """
        store = ArrayStore(inline_all=inline_arrays)
        document: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "models": list(self.model_names)}
        for name, results in self.analyses().items():
            document[name] = {model: _entry(result, store) for model, result in results.items()}
        if self.comparison is not None:
            document["comparison"] = _entry(self.comparison, store)
        if self.training_history:
            document["training_history"] = encode(self.training_history, store)
        document["findings"] = plain(self.findings)
        document["plugins"] = {name: encode_plugin(value) for name, value in self.plugins.items()}
        document["provenance"] = plain(self.provenance)
        document["measured"] = plain(self.measured) | self._measured_of_results(store)
        # A plugin's own names also stand at the top, as the guide promises.
        return {**document["plugins"], **document}, store.arrays

    def _measured_of_results(self, store: ArrayStore) -> dict[str, Any]:
        """By analysis and model, what the results hold that may differ between two equal runs."""
        parts = {
            name: {model: part for model, result in results.items() if (part := encode_measured(result, store))}
            for name, results in self.analyses().items()
        }
        return {name: part for name, part in parts.items() if part}

    def to_json(self, path: str | Path, *, inline_arrays: bool = False) -> Path:
        """Save atomically: the JSON file, and `analysis_arrays.npz` beside it where there are large arrays.

        Args:
            path: The JSON file, or the folder that gets `analysis_results.json`.
            inline_arrays: Write large arrays into the JSON file too.

        Returns:
            Path of the JSON file.

        Raises:
            OutputError: If the folder cannot be written.
        """
        path = Path(path)
        path = path / JSON_NAME if path.is_dir() or not path.suffix else path
        document, arrays = self.to_document(inline_arrays=inline_arrays)
        try:
            write_document(path, json.dumps(document, indent=1, allow_nan=False), arrays)
        except OSError as error:
            raise OutputError(f"The results cannot be written to {path.parent}: {error.strerror}.") from error
        return path

    @classmethod
    def load(cls, path: str | Path) -> AnalysisResults:
        """Read saved results; needs neither Keras nor matplotlib.

        Args:
            path: The JSON file, or the folder that holds it.

        Raises:
            DataError: If the file cannot be read, or was written by a later version.
        """
        path = Path(path)
        path = path / JSON_NAME if path.is_dir() else path
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            arrays = load_arrays(arrays_path(path))
        except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
            raise DataError(f"No results can be read from {path}: {error}.") from error
        if not isinstance(document, dict) or "schema_version" not in document:
            raise DataError(f"{path} holds no results of keras-analyzer: it has no schema_version.")
        version = str(document["schema_version"])
        if version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
            raise DataError(f"{path} has schema version {version}; this release reads {SCHEMA_VERSION}. Update it.")
        try:
            return cls._from_document(document, arrays)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise DataError(
                f"{path} is damaged: {type(error).__name__}: {error}. Run the analysis again; "
                "analysis_results.schema.json says what the file should look like."
            ) from error

    @classmethod
    def _from_document(cls, document: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> AnalysisResults:
        results = cls(tuple(document["models"]))
        measured = dict(document.get("measured", {}))
        for name, hint in ANALYSIS_TYPES.items():
            parts = measured.pop(name, {})
            entries = {model: entry | parts.get(model, {}) for model, entry in document.get(name, {}).items()}
            setattr(results, name, {model: _result(hint, entry, arrays) for model, entry in entries.items()})
        if "comparison" in document:
            results.comparison = _result(Comparison, document["comparison"], arrays)
        results.training_history = decode(dict[str, History], document.get("training_history", {}), arrays)
        findings = document.get("findings", {})
        results.findings = decode(dict[str, tuple[Finding, ...]], findings, arrays)
        for name, value in document.get("plugins", {}).items():
            setattr(results, name, decode_plugin(value))
        results.provenance = document.get("provenance", {})
        results.measured = measured
        return results

    def to_frame(self, what: str = "performance") -> pd.DataFrame:
        """A tidy table.

        Args:
            what: An analysis, ``"comparison"`` (one row per pair of models), ``"findings"``, or the name of a plugin's
                results.

        Raises:
            DataError: If there is no such table.
        """
        import pandas as pd

        if what == "findings":
            rows = [{"analysis": a, "model": m, **dataclasses.asdict(f)} for a, m, f in self.all_findings()]
            return pd.DataFrame(rows, columns=["analysis", "model", "kind", "layer", "severity", "evidence", "message"])
        if what in self.plugins:
            return pd.DataFrame(plugin_rows(self.plugins[what], self.model_names))
        if what == "comparison":
            return pd.DataFrame(self.comparison.rows() if isinstance(self.comparison, Comparison) else [])
        if what not in ANALYSIS_TYPES:
            known = [*ANALYSIS_TYPES, "comparison", "findings", *self.plugins]
            raise DataError(f"There is no table {what!r}. Known: {', '.join(known)}.")
        return pd.DataFrame([row for model, result in getattr(self, what).items() for row in _rows(model, result)])

    def _repr_html_(self) -> str:
        """The performance table and the findings, for notebooks; every name is escaped."""
        table = self.to_frame("performance").to_html(escape=True, index=False, float_format="%.4g")
        items = "".join(
            f"<li><b>{html.escape(model)}</b> {html.escape(f.layer or '')}: {html.escape(f.message)}</li>"
            for _, model, f in self.all_findings()
            if f.severity != "info"
        )
        return f"{table}<ul>{items}</ul>"

    def __repr__(self) -> str:
        done = ", ".join(f"{name} ({len(results)})" for name, results in self.analyses().items())
        return f"AnalysisResults(models={list(self.model_names)}, analyses: {done or 'none'})"


RESERVED = frozenset(vars(AnalysisResults())) | frozenset(vars(AnalysisResults)) | frozenset(_DOCUMENT_KEYS)
"""Attribute names that a plugin may not take."""


def for_outputs(results: Mapping[str, Any]) -> Any:
    """The result of a model: itself for one output, `MultiOutput` for several."""
    return next(iter(results.values())) if len(results) == 1 else MultiOutput(outputs=dict(results))


def _entry(result: Any, store: ArrayStore) -> dict[str, Any]:
    if isinstance(result, Skipped | Failed):
        return encode_absent(result)
    if isinstance(result, MultiOutput):
        outputs = {name: _entry(output, store) for name, output in result.outputs.items()}
        return {"status": "ok", "reason": None, "findings": plain(result.findings), "outputs": outputs}
    return {"status": "ok", "reason": None, **encode(result, store)}


def _result(hint: Any, entry: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Any:
    if entry["status"] == "skipped":
        return Skipped(entry["reason"])
    if entry["status"] == "failed":
        return Failed(entry["error"], entry["where"])
    if "outputs" in entry and "type" not in entry:
        return MultiOutput(outputs={name: _result(hint, output, arrays) for name, output in entry["outputs"].items()})
    return decode(hint, entry, arrays)


def _rows(model: str, result: Any) -> list[dict[str, Any]]:
    if isinstance(result, Skipped | Failed):
        return [{"model": model, "status": result.status, "reason": result.reason}]
    if isinstance(result, MultiOutput):
        return [{**row, "output": name} for name, output in result.outputs.items() for row in _rows(model, output)]
    rows = result.rows() if hasattr(result, "rows") else [flat_row(result)]
    return [{"model": model, "status": "ok", **row} for row in rows]
