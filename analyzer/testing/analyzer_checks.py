"""What an analysis owes its users, one check for each rule; a check raises `AssertionError` with the rule it names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from analyzer.analyzers.base import BaseAnalyzer
from analyzer.analyzers.isolation import checked_needs
from analyzer.analyzers.registry import analyzer_classes, check_analyzer_class
from analyzer.config import AnalysisConfig
from analyzer.data_types import Failed, Skipped
from analyzer.errors import AnalyzerError, ConfigError
from analyzer.testing.comparing import difference, require, unfit
from analyzer.testing.runs import Run, audit
from analyzer.testing.specimens import KINDS

PAIR = {"first": "functional", "second": "nested"}


def check_name_is_legal(cls: type[BaseAnalyzer]) -> None:
    """The class is a `BaseAnalyzer`, and its name is a word that nobody else has."""
    if isinstance(cls, type) and analyzer_classes().get(getattr(cls, "name", "")) is cls:
        return
    try:
        check_analyzer_class(cls)
    except ConfigError as error:
        raise AssertionError(f"{cls!r} breaks the rule 'the name is legal': {error}") from error


def check_it_can_be_made(cls: type[BaseAnalyzer]) -> None:
    """It is made from models and options, computes nothing then, and says as a bool whether it requires data."""
    rule = "it can be made without looking at a model"
    try:
        said = cls(_NoModels(), AnalysisConfig()).requires_data()
    except Exception as error:
        raise AssertionError(f"{cls.__qualname__} breaks the rule {rule!r}: {type(error).__name__}: {error}") from error
    require(isinstance(said, bool), cls, "requires_data() returns a bool", f"it returned {said!r}")


class _NoModels(Mapping[str, Any]):
    """Models that must not be asked for yet."""

    def __getitem__(self, name: str) -> Any:
        raise AssertionError(f"a model was opened in __init__, requires_data() or needs() (asked for {name!r})")

    def __iter__(self) -> Any:
        return iter(("model",))

    def __len__(self) -> int:
        return 1


def check_needs_are_frozen(cls: type[BaseAnalyzer]) -> None:
    """What it needs are frozen dataclasses, equal each time, so that equal needs are served once."""
    try:
        one, other = (
            checked_needs((*fresh.needs(), *fresh.compared_needs()))
            for fresh in (cls(_NoModels(), AnalysisConfig()) for _ in range(2))
        )
    except AnalyzerError as error:
        raise AssertionError(f"{cls.__qualname__} breaks the rule 'needs are frozen dataclasses': {error}") from error
    for need in one:
        frozen = getattr(getattr(need, "__dataclass_params__", None), "frozen", False)
        require(frozen, cls, "needs are frozen dataclasses", f"{need!r} is none")
    require(one == other, cls, "needs are equal each time they are asked for", f"{one!r} and {other!r}")


def check_every_kind_of_model(cls: type[BaseAnalyzer]) -> None:
    """It runs on every kind of model, or says by `Unsupported` why not, and sets results."""
    for kind in KINDS:
        run = audit(cls, {"model": kind})
        rule = "it runs on every kind of model, or skips it with a reason"
        require(not run.problems, cls, rule, f"on a {kind} model: {'; '.join(run.problems)}")
        broken = _failures(run, "model")
        require(not broken, cls, rule, f"on a {kind} model: {broken}")
        require(run.set_by_it, cls, "analyze() sets results", f"on a {kind} model nothing was set: set results.<name>")


def check_without_data(cls: type[BaseAnalyzer]) -> None:
    """requires_data() is honest: without data an analysis that does not require any has results."""
    run = audit(cls, {"model": "functional"}, with_data=False)
    rule = "requires_data() is honest"
    required = cls(_NoModels(), AnalysisConfig()).requires_data()
    broken = [*run.problems, *_failures(run, "model")]
    require(not broken, cls, rule, f"it says {required}, and without data: {'; '.join(broken)}")
    held = [_entry(value, "model") for value in run.set_by_it.values()]
    if required:
        require(
            all(isinstance(entry, Skipped) for entry in held), cls, rule, "it says True, and has results all the same"
        )


def check_results_survive_a_file(cls: type[BaseAnalyzer]) -> None:
    """Results are numbers, words, lists, mappings, arrays and dataclasses of those, and the same after a file."""
    rule = "results are JSON and the same when loaded"
    for kind in ("functional", "two_outputs"):
        run = audit(cls, {"model": kind})
        lost = [message for message in run.problems if "cannot be written as JSON" in message]
        require(not lost, cls, rule, "; ".join(lost))
        for name, value in run.set_by_it.items():
            require(not (found := unfit(value, f"results.{name}")), cls, rule, str(found))
        require(not (found := difference(run.document, run.loaded)), cls, rule, f"after loading {found}")


def check_same_seed_same_results(cls: type[BaseAnalyzer]) -> None:
    """The same models, data, options and seed give the same results."""
    one, other = (audit(cls, {"model": "functional"}, repetition=i) for i in range(2))
    found = difference(_own(one), _own(other))
    require(not found, cls, "the same seed gives the same results", f"in two equal runs {found}")


def check_order_of_models(cls: type[BaseAnalyzer]) -> None:
    """The order in which models are given does not matter to what is said of each."""
    one, other = audit(cls, PAIR), audit(cls, dict(reversed(PAIR.items())))
    found = difference(_own(one), _own(other))
    require(not found, cls, "the order of models does not matter", f"given in two orders {found}")


def check_nothing_is_touched(cls: type[BaseAnalyzer]) -> None:
    """Models, data, random states, settings and filters are bit-identical afterwards."""
    for kind in KINDS:
        run = audit(cls, {"model": kind})
        moved = ", ".join(run.moved)
        require(not moved, cls, "models and process are untouched", f"on a {kind} model these changed: {moved}")
        require(not run.changed_data, cls, "data are untouched", f"on a {kind} model inputs or labels were changed")


def check_no_files_no_figures(cls: type[BaseAnalyzer]) -> None:
    """It writes no file and opens no figure: the coordinator saves, visualizers draw."""
    run = audit(cls, {"model": "functional"})
    require(not run.written, cls, "an analysis writes no files", f"it wrote {', '.join(run.written)}")
    require(not run.figures, cls, "an analysis opens no figures", f"it left {run.figures} open")


def check_one_broken_model(cls: type[BaseAnalyzer]) -> None:
    """A model that cannot be run does not lose another: see `BaseAnalyzer.each_model`."""
    rule = "one broken model does not lose another"
    for models in ({"good": "functional", "bad": "broken"}, {"bad": "broken", "good": "functional"}):
        run, alone = audit(cls, models), audit(cls, {"good": "functional"})
        require(not run.problems, cls, rule, "; ".join(run.problems))
        for name, value in alone.set_by_it.items():
            entry = _entry(value, "good")
            if entry is not None and not isinstance(entry, Skipped | Failed):
                now = _entry(run.set_by_it.get(name), "good")
                lost = now is None or isinstance(now, Skipped | Failed)
                require(not lost, cls, rule, f"results.{name}['good'] is {now!r}, and beside no other it was there")


def check_only_its_own_results(cls: type[BaseAnalyzer]) -> None:
    """It sets its own results, and nothing that belongs to another."""
    run = audit(cls, {"model": "functional"})
    taken = [message for message in run.problems if "is reserved" in message or "not its own" in message]
    require(not taken, cls, "an analysis sets only its own results", "; ".join(taken))


ANALYZER_CHECKS: list[Callable[[type[BaseAnalyzer]], None]] = [
    check_name_is_legal,
    check_it_can_be_made,
    check_needs_are_frozen,
    check_only_its_own_results,
    check_results_survive_a_file,
    check_every_kind_of_model,
    check_without_data,
    check_same_seed_same_results,
    check_order_of_models,
    check_nothing_is_touched,
    check_no_files_no_figures,
    check_one_broken_model,
]
"""Every check, the quick ones first: ``@pytest.mark.parametrize("check", ANALYZER_CHECKS)``."""


def check_analyzer(cls: type[BaseAnalyzer]) -> None:
    """Check that an analysis keeps the rules that `ModelAnalyzer` and its users rely on.

    It is run on small models of several kinds, which takes some seconds to a minute.

    Args:
        cls: A subclass of `BaseAnalyzer`.

    Raises:
        AssertionError: For the first rule that is broken; the message names it.
    """
    for check in ANALYZER_CHECKS:
        check(cls)


def _own(run: Run) -> dict[str, Any]:
    """What the analysis set, as JSON values; what lies between models may follow their order."""
    plugins = run.document["plugins"]
    return {name: plugins.get(name, run.document.get(name)) for name in run.set_by_it if name != "comparison"}


def _entry(value: Any, model: str) -> Any:
    return value.get(model) if isinstance(value, Mapping) else value


def _failures(run: Run, model: str) -> list[str]:
    """Reasons of results that failed, those of single outputs included."""
    entries = [_entry(value, model) for value in run.set_by_it.values()]
    parts = [part for entry in entries for part in getattr(entry, "outputs", {}).values()]
    return [entry.reason for entry in [*entries, *parts] if isinstance(entry, Failed)]
