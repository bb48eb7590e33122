"""`ModelAnalyzer`: from models, data and options to results, files and figures."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from analyzer import provenance
from analyzer.analyzers.base import REFERENCE, BaseAnalyzer, failed
from analyzer.analyzers.isolation import checked_needs, gather_for, record_failure, run_alone
from analyzer.analyzers.registry import analyzer_classes, check_analyzer_class, is_built_in
from analyzer.backends import engine
from analyzer.comparison.objectives import Objectives
from analyzer.comparison.pareto import pareto
from analyzer.comparison.stored import add_pareto, as_results, store_pareto
from analyzer.config import ANALYSES, AnalysisConfig, check_names
from analyzer.data_types import AnalysisResults, DataInput, MultiOutput, Skipped
from analyzer.data_types.history import History, read_history
from analyzer.errors import ConfigError, DataError, OutputError
from analyzer.inspection import inputs, open_model
from analyzer.inspection.gather import gather
from analyzer.inspection.guard import untouched_process
from analyzer.inspection.needs import Context, Need, Predictions
from analyzer.inspection.outputs import OutputHints, check_labels
from analyzer.inspection.sources import ModelSources
from analyzer.plugins import BROKEN, described
from analyzer.progress import Progress
from analyzer.visualizers.base import BaseVisualizer
from analyzer.visualizers.isolation import draw_alone
from analyzer.visualizers.pareto_visualizer import Figure, ParetoVisualizer
from analyzer.visualizers.registry import check_visualizer_class, visualizer_classes
from analyzer.visualizers.style import model_colors

logger = logging.getLogger("analyzer")

ALWAYS = ("performance", "similarity")
"""Analyses without a switch: they cost nothing beyond what the others gather."""


class ModelAnalyzer:
    """Audits models: opens them without touching them, analyses, saves and draws.

    Args:
        models: Model name to a built `keras.Model`, or to the path of a ``.keras`` file. Any name that is not empty is
            legal.
        training_history: Model name to its training history: a Keras ``History``, its dict, a CSVLogger file, a
            pandas frame, or a list of those for several seeds.
        config: Options; the defaults where None.
        output_dir: Folder for `analysis_results.json`, `analysis_arrays.npz` and the figures.
        analyzers: Further `BaseAnalyzer` classes to run.
        visualizers: Further `BaseVisualizer` classes to draw.

    Raises:
        ModelError: If there is no model, a file does not exist, or a model was never built.
        DataError: If a training history cannot be read or belongs to no model.
        ConfigError: If an analyzer or visualizer is not a subclass of its base, or its name is taken.
    """

    def __init__(
        self,
        models: Mapping[str, Any],
        training_history: Mapping[str, Any] | None = None,
        config: AnalysisConfig | None = None,
        output_dir: str | Path = "analysis_results",
        *,
        analyzers: Sequence[type[BaseAnalyzer]] | None = None,
        visualizers: Sequence[type[BaseVisualizer]] | None = None,
    ) -> None:
        self.config = config or AnalysisConfig()
        self.models = ModelSources(models)
        self.output_dir = Path(output_dir)
        self.training_history = _read_histories(training_history, list(self.models), self.config)
        self.results = AnalysisResults(tuple(self.models))
        self._further_analyzers = _checked(analyzers, check_analyzer_class)
        self._further_visualizers = _checked(visualizers, check_visualizer_class)

    def analyze(
        self, data: Any = None, reference_data: Any = None, *, analysis_types: Sequence[str] | None = None
    ) -> AnalysisResults:
        """Run the analyses, save the results, then draw.

        Args:
            data: A `DataInput`, or anything that `DataInput.from_object` reads. Without data, what needs data is
                skipped with its reason.
            reference_data: Data to compare these with, in the same forms; at most ``n_samples`` of them are looked at.
                The shift analysis asks whether the data still come from where these did; with ``evaluate_train`` they
                are the data that the models were trained on, and are evaluated too.
            analysis_types: Names of the analyses to run instead of those that the configuration switches on.

        Returns:
            The results, which are also saved in the output folder.

        Raises:
            DataError: If the data fit none of the models, or ``evaluate_train`` misses data.
            ModelError: If none of the models can be opened.
            ConfigError: If an analysis is unknown.
            OutputError: If the output folder cannot be written; found out before any computing.
        """
        chosen = self._chosen(analysis_types, compares=reference_data is not None)
        sample = None if data is None else DataInput.from_object(data).sample(self.config.n_samples, self.config.seed)
        reference = self._reference(reference_data, sample, chosen)
        _check_writable(self.output_dir)
        started = time.perf_counter()
        results = AnalysisResults(tuple(self.models))
        results.training_history = self.training_history
        deterministic = engine().deterministic() if self.config.deterministic else contextlib.nullcontext()
        with untouched_process(), deterministic, Progress(self.config.progress) as progress:
            analyzers, needs, compared = self._prepared(chosen, sample, results)
            if reference is None:
                compared = []
            elif not compared:
                logger.warning("reference_data are not used: none of the analyses that run compares data with others")
            cache = self._gather(_Asked(needs, compared), sample, reference, results, progress)
            self._analyze(analyzers, sample, results, cache, progress)
        add_pareto(results, at_least=self.config.pareto_analysis_threshold)
        results.provenance = provenance.describe(self.config, self.models.facts, sample, list(chosen), reference)
        results.measured["seconds"] = {**results.measured.get("seconds", {}), "total": time.perf_counter() - started}
        results.measured["date"] = provenance.now()
        self.results = results
        results.to_json(self.output_dir, inline_arrays=self.config.json_include_per_sample_data)
        if self.config.save_plots:
            self._draw()
        return results

    def create_pareto_analysis(self, objectives: Objectives | None = None, save_plot: bool = True) -> Figure:
        """Find and draw the best trade-offs between objectives among the models of the latest results.

        Args:
            objectives: Names (``["accuracy", "ece", "parameters"]``), or ``"max"`` and ``"min"`` by name or path; by
                default peak performance against overfitting index. See `analyzer.comparison.pareto.pareto`.
            save_plot: Write the figure as ``pareto_analysis.<format>``, and the results with the analysis in them.

        Returns:
            The Matplotlib figure.

        Raises:
            ConfigError: If an objective is unknown, or its direction.
            DataError: If no model has a value for every objective: before `analyze`, or with the reasons.
            OutputError: If the output folder cannot be written.
        """
        found = pareto(self.results, objectives)
        store_pareto(self.results, found)
        colors = model_colors(list(self.models))
        visualizer = ParetoVisualizer(as_results(found), self.config, self.output_dir, colors)
        figure = visualizer.figure()
        if save_plot:
            self.results.to_json(self.output_dir, inline_arrays=self.config.json_include_per_sample_data)
            visualizer.save(figure)
        return figure

    def create_summary_dashboard(self) -> Path:
        """Draw the summary dashboard from the latest results, and return its path."""
        config = dataclasses.replace(self.config, save_plots=True)
        colors = model_colors(list(self.models))
        visualizer_classes()["summary"](self.results, config, self.output_dir, colors).create_visualizations()
        return self.output_dir / f"summary_dashboard.{self.config.save_format}"

    def get_summary_statistics(self) -> dict[str, Any]:
        """The headline numbers of the latest results by model; missing ones are None."""
        return {
            "n_models": len(self.models),
            "model_performance": {name: _headline(self.results, name) for name in self.models},
            "findings": [
                {"analysis": analysis, "model": model, "kind": f.kind, "layer": f.layer, "severity": f.severity}
                for analysis, model, f in self.results.all_findings()
                if f.severity != "info"
            ],
        }

    def _chosen(self, analysis_types: Sequence[str] | None, *, compares: bool) -> dict[str, type[BaseAnalyzer]]:
        classes = analyzer_classes() | {cls.name: cls for cls in self._further_analyzers}
        if analysis_types is not None:
            check_names(list(analysis_types), list(classes), what="analysis")
            return {name: cls for name, cls in classes.items() if name in analysis_types or name in ALWAYS}
        off = {name for name in ANALYSES if not getattr(self.config, f"analyze_{name}")}
        if not compares:
            # Nobody who gives one set of data wants to read for every model that there is no other.
            off.add("shift")
        return {name: cls for name, cls in classes.items() if name not in off}

    def _reference(
        self, reference_data: Any, sample: DataInput | None, chosen: Mapping[str, type[BaseAnalyzer]]
    ) -> DataInput | None:
        """The data to compare with, drawn as the data are."""
        reference = None if reference_data is None else DataInput.from_object(reference_data)
        evaluated = self.config.evaluate_train and "training_dynamics" in chosen
        for what, given in (("data", sample), ("reference_data", reference)):
            if evaluated and (given is None or given.y_data is None):
                raise DataError(
                    f"evaluate_train=True compares the training data with data held out, but {what} "
                    f"{'were not given' if given is None else 'have no labels'}: "
                    "call analyze((x_test, y_test), reference_data=(x_train, y_train))."
                )
        return reference and reference.sample(self.config.n_samples, self.config.seed)

    def _prepared(
        self, chosen: Mapping[str, type[BaseAnalyzer]], sample: DataInput | None, results: AnalysisResults
    ) -> tuple[list[BaseAnalyzer], list[Need], list[Need]]:
        """The analyzers that can be made, what they need, and what of reference data too, each need once.

        A broken one never loses another.
        """
        analyzers: list[BaseAnalyzer] = []
        needs: dict[Need, None] = {}
        compared: dict[Need, None] = {}
        for name, cls in chosen.items():
            try:
                analyzer = cls(self.models, self.config)
                # Our own say per model what they cannot do without data.
                idle = not is_built_in(analyzer) and sample is None and analyzer.requires_data()
                needs |= dict.fromkeys(() if idle else checked_needs(analyzer.needs()))
                compared |= dict.fromkeys(() if idle else checked_needs(analyzer.compared_needs()))
            except BROKEN as error:  # somebody else's class must not break the run
                if isinstance(error, ConfigError) and cls.__module__.startswith("analyzer."):
                    # An option that an analysis of ours refuses is the user's to correct, before anything runs.
                    raise
                logger.warning("analysis %s failed: %s: %s", described(cls), type(error).__name__, error)
                record_failure(results, name, failed(error))
                continue
            if idle:
                record_failure(results, name, Skipped("No data were given."))
                continue
            analyzers.append(analyzer)
        return analyzers, list(needs), list(compared)

    def _gather(
        self,
        asked: _Asked,
        sample: DataInput | None,
        reference: DataInput | None,
        results: AnalysisResults,
        progress: Progress,
    ) -> dict[str, dict[Any, Any]]:
        """One pass per model for all needs; a model that cannot be opened or run keeps its error as material."""
        cache: dict[str, dict[Any, Any]] = {}
        seconds: dict[str, float] = {}
        for name in self.models:
            started = time.perf_counter()
            try:
                cache[name] = self._gather_model(name, asked, sample, reference, results, progress)
            except Exception as error:  # noqa: BLE001 - one broken model must not lose another; raised below if all are
                logger.warning("model %r cannot be analysed: %s", name, error)
                cache[name] = dict.fromkeys([*asked.of_data, "predictions"], error) | {"compile_config": {}}
            seconds[name] = time.perf_counter() - started
        errors = [cache[name]["predictions"] for name in cache]
        if all(isinstance(error, Exception) for error in errors):
            raise errors[0]
        results.measured["seconds"] = {"gather": seconds}
        self._warn_of_unknown_names(cache)
        return cache

    def _warn_of_unknown_names(self, cache: Mapping[str, Any]) -> None:
        """A task for a name that is neither a model nor an output has no effect; say so."""
        outputs = {name for found in cache.values() for name in _output_names(found.get(Predictions()))}
        for option in ("task", "from_logits"):
            said = getattr(self.config, option)
            for name in sorted(set(said if isinstance(said, Mapping) else ()) - set(self.models) - outputs):
                logger.warning("%s names %r, which is neither a model nor an output of one: ignored", option, name)

    def _gather_model(
        self,
        name: str,
        asked: _Asked,
        sample: DataInput | None,
        reference: DataInput | None,
        results: AnalysisResults,
        progress: Progress,
    ) -> dict[Any, Any]:
        with self.models.opened(name) as model:
            arranged = None if sample is None else inputs.arrange(model, sample.x_data)
            one = None if arranged is None else inputs.take(arranged, slice(0, inputs.fixed_batch_size(model) or 1))
            view = open_model(model, one)
            hints = OutputHints(
                model_name=name,
                task=self.config.task,
                from_logits=self.config.from_logits,
                losses=self.models.losses(name),
                class_names=tuple(self.config.class_names or ()),
            )
            if sample is not None and sample.y_data is not None:
                check_labels(view.heads, sample, hints)
            context = Context(
                view=view,
                data=sample,
                arranged=arranged,
                hints=hints,
                seed=self.config.seed,
                batch_size=self.config.batch_size,
                progress=lambda what, done, total: progress.step(f"{name}: {what}", done, total),
            )
            gathered = gather_for(context, asked.of_data)
            results.findings[name] = tuple(gathered.findings)
            return {
                **gathered.material,
                "predictions": _raw_predictions(gathered.material.get(Predictions())),
                "compile_config": self.models.compile_config(name),
                REFERENCE: {} if reference is None else _gather_reference(context, reference, asked.compared),
            }

    def _analyze(
        self,
        analyzers: Sequence[BaseAnalyzer],
        sample: DataInput | None,
        results: AnalysisResults,
        cache: Mapping[str, Any],
        progress: Progress,
    ) -> None:
        for analyzer in analyzers:
            started = time.perf_counter()
            analyzer.progress = progress.step
            if problems := run_alone(analyzer, results, sample, cache):
                logger.warning("analysis %s failed: %s", described(analyzer), "; ".join(problems))
            results.measured["seconds"].setdefault("analyses", {})[analyzer.name] = time.perf_counter() - started

    def _draw(self) -> None:
        """Every figure, each on its own: a broken one is a warning that names it."""
        classes = visualizer_classes() | {cls.name: cls for cls in self._further_visualizers}
        for cls in classes.values():
            colors = model_colors(list(self.models))
            if problems := draw_alone(cls, self.results, self.config, self.output_dir, colors):
                logger.warning("figure %s failed: %s", described(cls), "; ".join(problems))


class _Asked(NamedTuple):
    """What the analyses asked for.

    Attributes:
        needs: Of the data.
        compared: Of the data and of the reference data.
    """

    needs: Sequence[Need]
    compared: Sequence[Need]

    @property
    def of_data(self) -> list[Need]:
        """Everything that is gathered from the data, each need once."""
        return list(dict.fromkeys([*self.needs, *self.compared]))


def _gather_reference(context: Context, reference: DataInput, needs: Sequence[Need]) -> dict[Any, Any]:
    """The same of the reference data; what is wrong with these costs no other result."""
    try:
        check_labels(context.view.heads, reference, context.hints)
        arranged = inputs.arrange(context.view.model, reference.x_data)
        return gather(dataclasses.replace(context, data=reference, arranged=arranged), needs).material
    except Exception as error:  # noqa: BLE001 - becomes the material, which the analysis reports
        logger.warning("model %r: reference_data cannot be used: %s", context.hints.model_name, error)
        return dict.fromkeys(needs, error)


def _output_names(material: Any) -> list[str]:
    return list(material) if isinstance(material, Mapping) else []


def _raw_predictions(material: Any) -> Any:
    """Raw outputs for plugins: an array, or a dict of arrays by output name; None where there are none."""
    if not isinstance(material, Mapping):
        return None
    raw = {name: output.raw for name, output in material.items()}
    return next(iter(raw.values())) if len(raw) == 1 else raw


def _headline(results: AnalysisResults, name: str) -> dict[str, Any]:
    performance = _first_output(results.performance.get(name))
    calibration = _first_output(results.calibration.get(name))
    weights = results.weights.get(name)

    def value(result: Any, attribute: str) -> float | None:
        estimate = getattr(result, attribute, None)
        return estimate if estimate is None or isinstance(estimate, float | int) else estimate.value

    return {
        "accuracy": value(performance, "accuracy"),
        "loss": value(performance, "loss"),
        "ece": value(calibration, "ece"),
        "brier": value(calibration, "brier"),
        "mean_entropy": value(calibration, "mean_entropy"),
        "health": value(getattr(weights, "health", None), "score"),
        "parameters": value(getattr(weights, "totals", None), "total"),
    }


def _first_output(result: Any) -> Any:
    return next(iter(result.outputs.values())) if isinstance(result, MultiOutput) else result


def _read_histories(
    histories: Mapping[str, Any] | None, names: Sequence[str], config: AnalysisConfig
) -> dict[str, History]:
    for name in histories or {}:
        if name not in names:
            raise DataError(f"training_history names {name!r}, but the models are {', '.join(map(repr, names))}.")
    directions = config.metric_directions or {}
    read = {
        name: source if isinstance(source, History) else read_history(source, directions=directions)
        for name, source in (histories or {}).items()
    }
    for metric in sorted(set(directions) - {metric for history in read.values() for metric in history.metrics}):
        logger.warning("metric_directions names %r, which no training history has: ignored", metric)
    return read


def _checked(classes: Sequence[Any] | None, check: Callable[[object], None]) -> list[Any]:
    names: dict[str, Any] = {}
    for cls in classes or ():
        check(cls)
        if names.setdefault(cls.name, cls) is not cls:
            raise ConfigError(f"Two classes are named {cls.name!r}. Give one of them another `name`.")
    return list(names.values())


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".keras-analyzer-probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(
            f"The output folder {str(folder)!r} cannot be written: {error.strerror}. Choose another output_dir."
        ) from error
