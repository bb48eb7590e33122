"""One audit of small models with somebody's analysis in it, and everything that it did besides."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from analyzer.analyzers.base import BaseAnalyzer
from analyzer.analyzers.registry import analyzer_classes
from analyzer.config import AnalysisConfig
from analyzer.data_types import AnalysisResults
from analyzer.data_types.results import ANALYSIS_TYPES
from analyzer.inspection.guard import untouched_process
from analyzer.model_analyzer import ModelAnalyzer
from analyzer.testing import footprint, specimens
from analyzer.testing.watching import listening
from analyzer.visualizers.isolation import open_figures

OURS = (*ANALYSIS_TYPES, "comparison")
"""Where our own analyses put their results."""

_MEMBERS = {"similarity": "comparison"}
_MOST_KEPT = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """What came out of an audit, and what it did besides.

    Attributes:
        results: The results.
        set_by_it: What the analysis set: value by attribute name.
        document: The results as JSON values.
        loaded: The same after a file was written and read.
        problems: What the coordinator had to complain about.
        written: Files that were opened for writing, the results' own excepted.
        figures: How many figures were left open.
        moved: What of the models or the process is not as it was.
        changed_data: Whether inputs or labels were changed.
    """

    results: AnalysisResults
    set_by_it: Mapping[str, Any]
    document: Mapping[str, Any]
    loaded: Mapping[str, Any]
    problems: tuple[str, ...]
    written: tuple[str, ...]
    figures: int
    moved: tuple[str, ...]
    changed_data: bool


_kept: dict[tuple[Any, ...], Run] = {}


def audit(
    cls: type[BaseAnalyzer], models: Mapping[str, str], *, with_data: bool = True, repetition: int = 0, **options: Any
) -> Run:
    """Audit small models with an analysis; equal calls are run once.

    Args:
        cls: The analysis.
        models: Model name to kind, a key of `specimens.BUILDERS`.
        with_data: Whether data are given.
        repetition: Tells apart runs that are to be equal.
        options: Fields of `AnalysisConfig` that differ from quiet ones.
    """
    key = (cls, tuple(models.items()), with_data, repetition, repr(sorted(options.items())))
    if key not in _kept:
        if len(_kept) >= _MOST_KEPT:
            _kept.clear()
        modules, environment = set(sys.modules), dict(os.environ)
        run = _audit(cls, models, with_data=with_data, **options)
        if run.moved and set(sys.modules) - modules:
            # A package that is imported late may set variables of the environment, once in a process.
            os.environ.clear()
            os.environ.update(environment)
            run = _audit(cls, models, with_data=with_data, **options)
        _kept[key] = run
    return _kept[key]


def _audit(cls: type[BaseAnalyzer], kinds: Mapping[str, str], *, with_data: bool, **options: Any) -> Run:
    with untouched_process(), tempfile.TemporaryDirectory() as folder:
        return _audit_into(Path(folder).resolve(), cls, kinds, with_data=with_data, **options)


def _audit_into(
    folder: Path, cls: type[BaseAnalyzer], kinds: Mapping[str, str], *, with_data: bool, **options: Any
) -> Run:
    made = {name: specimens.build(kind) for name, kind in kinds.items()}
    models: dict[str, keras.Model] = {name: specimen.model for name, specimen in made.items()}
    data = next(iter(made.values())).data if with_data else None
    quiet = {"save_plots": False, "progress": False, "verbose": False, "n_bootstrap": 20, "deterministic": True}
    config = AnalysisConfig(**{**quiet, **options})
    is_known = analyzer_classes().get(cls.name) is cls
    before = {name: footprint.both(model) for name, model in models.items()}
    arrays, figures = _bytes_of(data), open_figures()
    analyzer = ModelAnalyzer(models, None, config, folder / "out", analyzers=None if is_known else [cls])
    with listening() as (messages, written):
        results = analyzer.analyze(data, analysis_types=[cls.name])
    left = tuple(
        f"{name}: {key}" for name in models for key in footprint.moved(before[name], footprint.both(models[name]))
    )
    document, _ = results.to_document(inline_arrays=True)
    results.to_json(folder / "again", inline_arrays=True)
    loaded, _ = AnalysisResults.load(folder / "again").to_document(inline_arrays=True)
    own = {name: getattr(results, name) for name in (_MEMBERS.get(cls.name, cls.name),) if name in OURS}
    return Run(
        results=results,
        set_by_it=own or results.plugins,
        document=document,
        loaded=loaded,
        problems=tuple(message for message in messages if repr(cls.name) in message or "the need" in message),
        written=tuple(path for path in written if not path.startswith(str(folder / "out" / ""))) + _strangers(folder),
        figures=len(open_figures() - figures),
        moved=left,
        changed_data=_bytes_of(data) != arrays,
    )


def _bytes_of(data: Any) -> list[bytes]:
    if data is None:
        return []
    return [np.asarray(leaf).tobytes() for leaf in keras.tree.flatten((data.x_data, data.y_data))]


def _strangers(folder: Path) -> tuple[str, ...]:
    """Files beside the results that the coordinator did not write."""
    expected = {"analysis_results.json", "analysis_arrays.npz"}
    return tuple(path.name for path in (folder / "out").iterdir() if path.name not in expected)
