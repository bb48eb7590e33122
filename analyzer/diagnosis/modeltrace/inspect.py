"""`inspect_model`: ModelTrace's eight measures of any Keras model, from one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analyzer.config import check_names, parse_task
from analyzer.data_types.inspection_report import EXPERIMENTS, Experiment, ModelInspection
from analyzer.data_types.values import Skipped
from analyzer.diagnosis.evidence import Evidence
from analyzer.diagnosis.modeltrace.activations import Settings, activation_statistics, shift_test
from analyzer.diagnosis.modeltrace.attribution import failure_attribution, failures
from analyzer.diagnosis.modeltrace.changes import drift, layer_sensitivity, modeltrace_score
from analyzer.diagnosis.modeltrace.outcomes import predicted
from analyzer.diagnosis.modeltrace.recording import Recorded, record
from analyzer.diagnosis.modeltrace.regression import cross_model_regression, matched_calls
from analyzer.diagnosis.modeltrace.sparsity import sparsity
from analyzer.diagnosis.modeltrace.subject import Subject, subject_of
from analyzer.diagnosis.suggestions import suggestions_of
from analyzer.errors import ConfigError, DataError
from analyzer.inspection import inputs
from analyzer.inspection.features import arranged_for, check_whole, open_on
from analyzer.inspection.guard import untouched_process
from analyzer.inspection.model_config import CompiledLosses
from analyzer.inspection.sources import ModelSources
from analyzer.inspection.view import open_model

if TYPE_CHECKING:
    import keras

Told = Callable[[str, int, int], None]

_NEEDS_X = frozenset(EXPERIMENTS) - {"sparsity"}
_NEEDS_SHIFTED = frozenset({"shift_test", "drift", "layer_sensitivity", "failure_attribution", "modeltrace_score"})
_NEEDS_PAIRS = _NEEDS_SHIFTED - {"shift_test"}


def inspect_model(
    model: keras.Model | str | Path,
    other: keras.Model | str | Path | None = None,
    x: Any = None,
    x_shifted: Any = None,
    experiments: Sequence[str] | None = None,
    *,
    y: Any = None,
    task: str | None = None,
    history: Any = None,
    suggest: bool = True,
    shifted_by: str | None = None,
    batch_size: int = 128,
    n_bootstrap: int = 1000,
    seed: int = 0,
    progress: Told | None = None,
) -> ModelInspection:
    """ModelTrace's eight measures, each in a form that does not depend on scale with the raw value beside it.

    The models and the process stay as they were. Activations are those of every layer that computes something, at
    inference; containers are not counted with their parts.

    Args:
        model: A built model, or the path of a ``.keras`` file.
        other: A second model, for the cross-model regression.
        x: Samples: one array, a list, or a dict by input name. Without, only sparsity is measured.
        x_shifted: Shifted samples. As many as in x are taken as pairs, the i-th being the shifted i-th sample; any
            other number only serves the shift test.
        experiments: Names out of `analyzer.data_types.inspection_report.EXPERIMENTS`; None for all that the data allow,
            the others being `Skipped` with their reason.
        y: Labels of x; failures are then real ones, and suggestions know what they cost.
        task: What the output predicts, as in `AnalysisConfig`; detected where it is not said.
        history: The training history, as `ModelAnalyzer` takes it; for a suggestion about the learning rate.
        suggest: Whether to look for suggestions: this prunes copies of the model and corrupts x.
        shifted_by: Where the shifted data come from, for people.
        batch_size: Most samples per batch, unless the model fixes it.
        n_bootstrap: Draws behind intervals; 0 for none.
        seed: Seed of every random choice.
        progress: Called with what is running, how much is done and how much there is.

    Returns:
        The measures and suggestions; see `ModelInspection`.

    Raises:
        ConfigError: If an experiment is unknown, or was named and lacks data or a model.
        DataError: If data do not fit the model.
        ModelError: If a model was never built or its file cannot be opened.
        DeviceMemoryError: If a single sample does not fit into memory.
    """
    check_whole("batch_size", batch_size)
    if isinstance(n_bootstrap, bool) or not isinstance(n_bootstrap, int) or n_bootstrap < 0:
        raise ConfigError(f"n_bootstrap={n_bootstrap!r}: expected a whole number of at least 0.")
    if task is not None:
        parse_task(task)
    missing = _missing(other, x, x_shifted)
    wanted = _wanted(experiments, missing)
    told = progress or (lambda _what, _done, _total: None)
    settings = Settings(n_bootstrap=n_bootstrap, seed=seed)
    name = _name(model, "model")
    sources = ModelSources({name: model})
    with sources.opened(name) as live, untouched_process():
        decides = x is not None and (suggest or "failure_attribution" in wanted)
        job = _Job(settings, batch_size, told, sources.losses(name) if decides else None, y, task)
        subject, shifted = None, None
        if x is not None:
            arranged = arranged_for(live, x)
            subject = subject_of(open_on(live, arranged), arranged)
            shifted = None if x_shifted is None else arranged_for(live, x_shifted)
            _check_labels(y, subject.n)
        view = open_model(live) if subject is None else subject.view
        missing |= _unpaired(subject, shifted)
        _refuse(wanted if experiments is not None else (), missing)
        done: dict[str, Experiment] = {}
        if "sparsity" in wanted:
            done["sparsity"] = sparsity(view)
        chosen = [one for one in wanted if one not in missing and one != "sparsity"]
        if chosen and subject is not None:
            with_other = other if "cross_model_regression" in chosen else None
            done |= job.measured(chosen, subject, shifted if set(chosen) & _NEEDS_SHIFTED else None, with_other)
        advice, no_advice = (
            suggestions_of(
                Evidence(
                    view=view,
                    arranged=None if subject is None else subject.arranged,
                    y=y,
                    shifted=shifted if "failure_attribution" not in missing else None,
                    history=history,
                    losses=job.losses,
                    task=task,
                    batch_size=batch_size,
                    n_bootstrap=n_bootstrap,
                    seed=seed,
                    told=told,
                )
            )
            if suggest
            else ((), {})
        )
    return ModelInspection(
        model=name,
        other=None if other is None else _name(other, "other"),
        n=0 if subject is None else subject.n,
        n_shifted=0 if shifted is None else inputs.count(shifted),
        shifted_by=shifted_by,
        seed=seed,
        experiments={one: done.get(one) or Skipped(missing[one]) for one in EXPERIMENTS if one in wanted},
        suggestions=advice,
        suggestions_skipped=no_advice,
    )


@dataclass(frozen=True)
class _Job:
    """What the measures of activations share."""

    settings: Settings
    batch_size: int
    told: Told
    losses: CompiledLosses
    y: Any
    task: str | None

    def measured(
        self, chosen: Sequence[str], subject: Subject, shifted: Any, other: keras.Model | str | Path | None
    ) -> dict[str, Experiment]:
        """All measures of one run."""
        if other is None:
            return self._measured(chosen, self._recorded(subject, shifted, None, {}), shifted, "")
        name = _name(other, "other")
        with ModelSources({name: other}).opened(name) as live:
            arranged = arranged_for(live, subject.arranged)
            second = subject_of(open_on(live, arranged), arranged)
            matches, how = matched_calls(subject, second)
            return self._measured(chosen, self._recorded(subject, shifted, second, matches), shifted, how)

    def _recorded(self, subject: Subject, shifted: Any, other: Subject | None, matches: dict[str, str]) -> Recorded:
        return record(
            subject, shifted, other, matches, batch_size=self.batch_size, seed=self.settings.seed, told=self.told
        )

    def _measured(self, chosen: Sequence[str], recorded: Recorded, shifted: Any, how: str) -> dict[str, Experiment]:
        settings = self.settings
        makers: dict[str, Callable[[], Experiment]] = {
            "activation_statistics": lambda: activation_statistics(recorded, settings),
            "shift_test": lambda: shift_test(recorded, settings),
            "drift": lambda: drift(recorded, settings),
            "cross_model_regression": lambda: cross_model_regression(recorded, settings, how),
            "layer_sensitivity": lambda: layer_sensitivity(recorded, settings),
            "failure_attribution": lambda: self._attribution(recorded, shifted),
            "modeltrace_score": lambda: modeltrace_score(recorded, settings),
        }
        found = {}
        for i, name in enumerate(chosen):
            self.told("measures", i, len(chosen))
            found[name] = makers[name]()
        self.told("measures", len(chosen), len(chosen))
        return found

    def _attribution(self, recorded: Recorded, shifted: Any) -> Experiment:
        clean, after = (
            predicted(
                recorded.subject.view,
                each,
                self.y,
                losses=self.losses,
                batch_size=self.batch_size,
                task=self.task,
            )
            for each in (recorded.subject.arranged, shifted)
        )
        return failure_attribution(recorded, self.settings, failures(clean, after))


def _wanted(experiments: Sequence[str] | None, missing: dict[str, str]) -> tuple[str, ...]:
    """Names of what is asked for, each once, in ModelTrace's order."""
    if experiments is None:
        return EXPERIMENTS
    named = [experiments] if isinstance(experiments, str) else list(experiments)
    if not named or not all(isinstance(name, str) for name in named):
        raise ConfigError(f"experiments={experiments!r}: expected names out of {', '.join(EXPERIMENTS)}; None for all.")
    check_names(named, EXPERIMENTS, what="experiment")
    _refuse(named, missing)
    return tuple(name for name in EXPERIMENTS if name in named)


def _missing(other: Any, x: Any, x_shifted: Any) -> dict[str, str]:
    """Why an experiment is not possible, by name."""
    found = {}
    for name in EXPERIMENTS:
        if name in _NEEDS_X and x is None:
            found[name] = "It needs samples: give x."
        elif name in _NEEDS_SHIFTED and x_shifted is None:
            found[name] = "It needs shifted samples: give x_shifted."
        elif name == "cross_model_regression" and other is None:
            found[name] = "It needs a second model: give other."
    return found


def _unpaired(subject: Subject | None, shifted: Any) -> dict[str, str]:
    if subject is None or shifted is None or inputs.count(shifted) == subject.n:
        return {}
    why = (
        f"It compares pairs of samples, and there are {subject.n} in x and {inputs.count(shifted)} in x_shifted: give "
        "the same samples in the same order, or take shift_test, which needs no pairs."
    )
    return dict.fromkeys(_NEEDS_PAIRS, why)


def _refuse(named: Sequence[str], missing: dict[str, str]) -> None:
    for name in named:
        if name in missing:
            raise ConfigError(f"experiments={name!r}: {missing[name]}")


def _check_labels(y: Any, n: int) -> None:
    if y is not None and hasattr(y, "__len__") and not isinstance(y, dict) and len(y) != n:
        raise DataError(f"There are {n} samples in x and {len(y)} labels in y: give one label per sample.")


def _name(model: Any, fallback: str) -> str:
    if isinstance(model, str | Path):
        return Path(model).stem or fallback
    name = getattr(model, "name", None)
    return name if isinstance(name, str) and name else fallback
