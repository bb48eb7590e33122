"""`compare_methods`: which explanation to trust for a model, measured."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.config import Progress as ProgressSetting
from analyzer.config import check_names
from analyzer.data_types.explanation_quality import QualityScore
from analyzer.data_types.method_comparison import RANDOM, MethodComparison
from analyzer.errors import AnalyzerError, ConfigError, Unsupported
from analyzer.inspection import inputs
from analyzer.inspection.features import arranged_for, check_whole, open_on, opened
from analyzer.inspection.guard import untouched_process
from analyzer.inspection.inputs import input_names
from analyzer.inspection.view import ModelView
from analyzer.measures.random_streams import stream
from analyzer.progress import Progress
from analyzer.relevance.evaluation.explained_score import ExplainedScore
from analyzer.relevance.evaluation.method_bench import METRICS, Bench, Noise, Run, Subject
from analyzer.relevance.evaluation.method_verdict import cautions, differences, verdict
from analyzer.relevance.evaluation.removal import Baseline, Features, removal_of
from analyzer.relevance.presets import Preset
from analyzer.relevance.program_cache import kept_programs
from analyzer.relevance.targets import Target, resolve

if TYPE_CHECKING:
    pass

_CLASSES = ("binary", "multiclass", "multilabel")


def compare_methods(
    model: keras.Model | str | Path,
    x: Any,
    methods: Sequence[str | Preset] | Mapping[str, str | Preset] = ("auto", "input_x_gradient", "gradient"),
    *,
    target: Any = "predicted",
    metrics: Sequence[str] | None = None,
    task: str | None = None,
    n_samples: int = 64,
    features: Features = "auto",
    baseline: Baseline = "auto",
    channel_axis: int = -1,
    steps: int = 20,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    unknown: str = "raise",
    batch_size: int = 32,
    n_bootstrap: int = 1000,
    level: float = 0.05,
    seed: int = 0,
    progress: ProgressSetting = True,
) -> MethodComparison:
    """Which explanation to trust for this model.

    Every method explains the same decisions, and so does noise. The verdict rests on one measure: the area between the
    perturbation curves (ABPC; Schulz et al. 2020), compared between all pairs of methods and with the noise, sample by
    sample, by sign-flip tests with Holm's correction. The other measures are there to read, and to caution.

    Args:
        model: A built model, or the path of a ``.keras`` file.
        x: Samples, as for `analyzer.explain`.
        methods: Methods and presets, as for `analyzer.explain`; or by the name that they get in the table.
        target: One target, as for `analyzer.explain`; predicted classes stay those of the unperturbed samples.
        metrics: Some of `METRICS`; None for all.
        task: As for `analyzer.explain`.
        n_samples: Most samples; of more, a seeded random choice is explained.
        features: What one feature is; see `analyzer.relevance.evaluation.removal.removal_of`.
        baseline: What stands in place of a feature; see there.
        channel_axis: Axis of the channels of images and series.
        steps: Points of perturbation curves after the first.
        options: Options of methods by their name in the table.
        unknown: As for `analyzer.explain`.
        batch_size: Most samples per batch.
        n_bootstrap: Draws behind each interval.
        level: Level of the verdict.
        seed: Seed of samples, noise, subsets and intervals.
        progress: Whether bars are drawn, or who is told of each step.

    Returns:
        The scores, their paired differences and the verdict. A method that cannot explain the model is listed in
        ``failed`` with its reason.

    Raises:
        ConfigError: If an option has no such value.
        DataError: If x does not fit the model.
        ModelError: If the model was never built or its file cannot be opened.
        Unsupported: If none of the methods can explain the model.
    """
    named = _named(methods)
    wanted = METRICS if metrics is None else tuple(dict.fromkeys(("abpc", *metrics)))
    check_names(wanted, METRICS, what="metric")
    check_names(options or {}, list(named), what="method in options")
    for name, value in (("n_samples", n_samples), ("steps", steps), ("batch_size", batch_size)):
        check_whole(name, value)
    if not 0 < level < 1:
        raise ConfigError(f"level={level!r}: expected a number between 0 and 1, e.g. 0.05.")
    with opened(model) as live, kept_programs(), Progress(progress) as bars:
        with untouched_process():
            arranged = arranged_for(live, x)
            rows = _chosen_rows(inputs.count(arranged), n_samples, seed)
            arranged = inputs.take(arranged, rows)
            view = open_on(live, arranged)
            resolved = resolve(view, _target_of(target, rows, inputs.count(arranged)), len(rows), task=task)
        if resolved.k != 1:
            raise ConfigError(f"target={target!r}: methods are compared on one target at a time.")
        subject = _subject(view, arranged, resolved, target, batch_size)
        try:
            bench = Bench(
                subject=subject,
                removal=removal_of(subject.inputs, features=features, baseline=baseline, channel_axis=channel_axis),
                metrics=wanted,
                steps=steps,
                common={"n_bootstrap": n_bootstrap, "seed": seed},
                told=bars.step,
            )
            shared = {"task": task, "unknown": unknown, "batch_size": batch_size, "seed": seed}
            runs = {
                name: Run(subject=subject, method=method, shared={**shared, "options": (options or {}).get(name)})
                for name, method in named.items()
            }
            return _compared(bench, runs, level)
        finally:
            subject.score.release()


def _compared(bench: Bench, runs: Mapping[str, Run], level: float) -> MethodComparison:
    scores: dict[str, dict[str, QualityScore]] = {}
    failed, seconds = {}, {}
    for name, run in runs.items():
        started = time.perf_counter()
        try:
            maps = run.maps(bench.removal.whole)
            seconds[name] = time.perf_counter() - started
            scores[name] = bench.measure(name, run, maps)
        except AnalyzerError as error:
            failed[name] = str(error)
    if not scores:
        raise Unsupported(f"None of the methods can explain the model: {failed}.")
    noise = Noise(removal=bench.removal, rng=stream(bench.common["seed"], 1))
    scores[RANDOM] = bench.measure(RANDOM, noise, noise.maps(None))
    pairs = differences(scores, **bench.common)
    subject = bench.subject
    return MethodComparison(
        model=subject.view.model.name,
        target=subject.score.target.text,
        n=bench.removal.n,
        seed=bench.common["seed"],
        baseline=bench.removal.baseline,
        scores=scores,
        differences=pairs,
        verdict=verdict(scores, pairs, level),
        cautions=cautions(scores),
        failed=failed,
        skipped=bench.skipped,
        seconds=seconds,
    )


def _subject(view: ModelView, arranged: Any, resolved: Target, target: Any, batch_size: int) -> Subject:
    score = ExplainedScore(view, resolved, batch_size).fixed(arranged)
    index = score.target.index
    # What the classes are now known to be, in the form that `explain` takes.
    known = index is not None and resolved.task in _CLASSES and len(resolved.shape) <= 1
    fixed: Any = np.array(index[0]) if known and index is not None else target
    if known and isinstance(target, Mapping):
        fixed = {next(iter(target)): fixed}
    classes = 2 if resolved.task == "binary" else int(np.prod(resolved.shape, dtype=np.int64))
    return Subject(
        view=view,
        arranged=arranged,
        inputs=dict(zip(input_names(view.model, arranged), map(np.asarray, keras.tree.flatten(arranged)), strict=True)),
        score=score,
        target=fixed,
        n_classes=classes if known else None,
    )


def _named(methods: Sequence[str | Preset] | Mapping[str, str | Preset]) -> dict[str, str | Preset]:
    if isinstance(methods, str | Preset):
        methods = [methods]
    if not isinstance(methods, Mapping):
        names = [one.name if isinstance(one, Preset) else str(one) for one in methods]
        if len(set(names)) != len(names):
            raise ConfigError(f"methods={names!r}: names repeat. Give a dict with a name for each.")
        methods = dict(zip(names, methods, strict=True))
    if not methods or RANDOM in methods:
        raise ConfigError(f"methods={list(methods)!r}: expected at least one; {RANDOM!r} is always compared.")
    return dict(methods)


def _chosen_rows(n: int, at_most: int, seed: int) -> NDArray[np.int64]:
    rows = np.arange(n)
    return rows if n <= at_most else np.sort(stream(seed).choice(n, at_most, replace=False))


def _target_of(target: Any, rows: NDArray[np.int64], n: int) -> Any:
    """A target for each sample, for those that were chosen."""
    if isinstance(target, Mapping):
        return {name: _target_of(one, rows, n) for name, one in target.items()}
    if isinstance(target, np.ndarray) and target.ndim == 1 and len(target) > rows.max(initial=-1):
        return target[rows]
    return target
