"""Rules over results: ``"calibration.ece > 0.05"`` names what must not be.

A rule is evaluated for every model, and for every output of a model with several. What could not be evaluated (skipped,
failed, undefined, without an interval) is said to be so; it never passes.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Self

from analyzer.data_types.plugins import absent, plugin_findings
from analyzer.data_types.values import Finding, Severity
from analyzer.errors import ConfigError

Status = Literal["passed", "failed", "not evaluated"]

OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
ENDS = ("value", "low", "high", "n")
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "error")
BETWEEN_MODELS = "comparison"
"""The one section of a document that is not keyed by model."""

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RULE = re.compile(
    rf"\s*(?P<path>[^<>=!:]+?)\s*(?::\s*(?P<end>\w+)\s*)?(?P<operator>>=|<=|==|!=|>|<)\s*(?P<limit>{_NUMBER}|true|false)\s*"
)
_EXAMPLE = "write a quantity, a comparison and a number, as in 'calibration.ece > 0.05' or 'calibration.ece:low > 0.05'"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A condition under which a model fails.

    Attributes:
        path: Where the quantity stands, from the name of the analysis on: ``("calibration", "ece")``.
        end: The part of an estimate that is compared: ``"value"``, ``"low"``, ``"high"`` or ``"n"``.
        comparison: A key of `OPERATORS`.
        limit: What the quantity is compared with.
        text: The rule as it was written.
    """

    path: tuple[str, ...]
    end: str
    comparison: str
    limit: float
    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a rule.

        Args:
            text: ``"<analysis>.<field>[.<field>…][:low|:high|:n] <operator> <number>"``. ``findings`` in place of a
                field counts findings by severity: ``"findings.error > 0"`` those of all analyses,
                ``"weights.findings.warning > 2"`` those of one. ``true`` and ``false`` stand for 1 and 0.

        Raises:
            ConfigError: If the text is no rule.
        """
        match = _RULE.fullmatch(text)
        if match is None:
            raise ConfigError(f"The rule {text!r} cannot be read: {_EXAMPLE}.")
        path = tuple(part.strip() for part in match["path"].split("."))
        end = match["end"] or "value"
        if end not in ENDS:
            raise ConfigError(f"The rule {text!r} asks for {end!r} of an estimate; there is {', '.join(ENDS)}.")
        if not all(path) or len(path) < 2:
            raise ConfigError(f"The rule {text!r} names no quantity of an analysis: {_EXAMPLE}.")
        if path[-2] == "findings" and (path[-1] not in SEVERITIES or len(path) > 3):
            raise ConfigError(
                f"The rule {text!r}: findings are counted by severity, as in 'findings.error > 0' or "
                f"'weights.findings.warning > 0'; there is {', '.join(SEVERITIES)}."
            )
        limit = {"true": 1.0, "false": 0.0}.get(match["limit"])
        limit = float(match["limit"]) if limit is None else limit
        if not math.isfinite(limit):
            raise ConfigError(f"The rule {text!r} compares with a number that is not finite.")
        return cls(path=path, end=end, comparison=match["operator"], limit=limit, text=text.strip())

    @property
    def analysis(self) -> str:
        """Name of the analysis; ``"findings"`` where findings of all analyses are counted."""
        return self.path[0]

    @property
    def counts_findings(self) -> bool:
        """Whether the rule counts findings rather than reads a number."""
        return self.path[-2] == "findings"

    def holds(self, value: float) -> bool:
        """Whether a value meets the condition, which is to say: fails."""
        return OPERATORS[self.comparison](value, self.limit)


@dataclass(frozen=True, kw_only=True)
class RuleOutcome:
    """What became of a rule at one model.

    Attributes:
        rule: The rule.
        model: Name of the model; None for a rule between models.
        output: Name of the output, where the model has several.
        status: ``"passed"``, ``"failed"`` or ``"not evaluated"``.
        value: The number that was compared; None where there was none.
        reason: Why it was not evaluated; None otherwise.
    """

    rule: Rule
    model: str | None
    output: str | None
    status: Status
    value: float | None
    reason: str | None

    @property
    def message(self) -> str:
        """The outcome in one line."""
        who = "between models" if self.model is None else self.model
        who = who if self.output is None else f"{who}, output {self.output}"
        if self.status == "not evaluated":
            return f"{who}: {self.status}: {self.rule.text!r}: {self.reason}"
        return f"{who}: {self.status}: {self.rule.text!r} at {self.value:.6g}"


class _MissingError(Exception):
    """There is no number where the rule points; the message says why."""


def evaluate(rules: Sequence[Rule], document: Mapping[str, Any]) -> tuple[RuleOutcome, ...]:
    """Hold rules against results.

    Args:
        rules: The rules.
        document: A results document, as in `analysis_results.json` or from `AnalysisResults.to_document`.

    Returns:
        One outcome per rule, model and output, rules in the order given.
    """
    return tuple(outcome for rule in rules for outcome in _outcomes(rule, document))


def _outcomes(rule: Rule, document: Mapping[str, Any]) -> Iterator[RuleOutcome]:
    if rule.analysis == BETWEEN_MODELS:
        entry = document.get(BETWEEN_MODELS)
        if rule.counts_findings and entry is not None and entry["status"] == "ok":
            yield _outcome(rule, None, None, partial(_count, rule, entry["findings"]))
        else:
            yield _outcome(rule, None, None, partial(_number, rule, entry))
        return
    names = model_names(document)
    if not names:
        yield _outcome(rule, None, None, _nothing("there are no results of any model"))
    for model in names:
        if rule.counts_findings:
            yield _findings_outcome(rule, document, model)
        else:
            yield from _model_outcomes(rule, document, model)


def model_names(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the models of a document, in the order given."""
    return tuple(document.get("models", ()))


def analyses(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The sections of a document that hold one entry with a status per model.

    Of a plugin, whose entries may look like anything, only those that were skipped or failed are there.
    """
    plugins = _plugins(document)
    for name, value in plugins.items():
        entries = value if isinstance(value, Mapping) else {}
        if missing := {model: entry for model, entry in entries.items() if absent(entry) is not None}:
            yield name, missing
    for name, entries in document.items():
        section = entries.values() if isinstance(entries, Mapping) and name not in (*plugins, "plugins") else ()
        if section and all(isinstance(entry, Mapping) and "status" in entry for entry in section):
            yield name, entries


def findings_of_plugins(document: Mapping[str, Any], model: str) -> Iterator[tuple[str, Finding]]:
    """Findings that plugins made of a model, each with the name of the plugin's results.

    Args:
        document: A results document.
        model: Name of the model.
    """
    for name, value in _plugins(document).items():
        yield from ((name, finding) for _, finding in plugin_findings(value, (model,)))


def _plugins(document: Mapping[str, Any]) -> Mapping[str, Any]:
    return document.get("plugins") or {}


def _model_outcomes(rule: Rule, document: Mapping[str, Any], model: str) -> Iterator[RuleOutcome]:
    section = document.get(rule.analysis)
    entry = section.get(model) if isinstance(section, Mapping) else None
    if isinstance(entry, Mapping):
        entry = {**entry, **document.get("measured", {}).get(rule.analysis, {}).get(model, {})}
    if isinstance(entry, Mapping) and isinstance(entry.get("outputs"), Mapping):
        for output, part in entry["outputs"].items():
            yield _outcome(rule, model, output, partial(_number, rule, part))
    else:
        yield _outcome(rule, model, None, partial(_number, rule, entry))


def _outcome(rule: Rule, model: str | None, output: str | None, number: Callable[[], float]) -> RuleOutcome:
    value, reason = None, None
    try:
        value = number()
    except _MissingError as missing:
        reason = str(missing)
    status: Status = "not evaluated" if value is None else "failed" if rule.holds(value) else "passed"
    return RuleOutcome(rule=rule, model=model, output=output, status=status, value=value, reason=reason)


def _nothing(reason: str) -> Callable[[], float]:
    def number() -> float:
        raise _MissingError(reason)

    return number


# ---- reading numbers


def _number(rule: Rule, entry: Any) -> float:
    path = rule.path[1:]
    if entry is None:
        raise _MissingError(f"the analysis {rule.analysis!r} has no result")
    if isinstance(entry, Mapping) and entry.get("status") in ("skipped", "failed"):
        raise _MissingError(f"the analysis {rule.analysis!r} {_was(entry)}")
    found = list(_lookup(entry, path))
    if not found:
        raise _MissingError(f"there is no {'.'.join(path)!r} in {rule.analysis!r}")
    return _as_number(found[0], rule)


def _was(entry: Mapping[str, Any]) -> str:
    return f"was skipped: {entry.get('reason')}" if entry["status"] == "skipped" else f"failed: {entry.get('reason')}"


def _lookup(node: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """Everything that a path can mean: a key may contain dots, and an item of a list goes by id, name or place."""
    if not path:
        yield node
    elif isinstance(node, Mapping):
        for length in range(1, len(path) + 1):
            key = ".".join(path[:length])
            if key in node:
                yield from _lookup(node[key], path[length:])
    elif isinstance(node, list):
        for length in range(1, len(path) + 1):
            for place, item in enumerate(node):
                if ".".join(path[:length]) in _handles(place, item):
                    yield from _lookup(item, path[length:])


def _handles(place: int, item: Any) -> tuple[str, ...]:
    words = (item.get("id"), item.get("name"), item.get("layer")) if isinstance(item, Mapping) else ()
    return (str(place), *(word for word in words if isinstance(word, str)))


def _as_number(value: Any, rule: Rule) -> float:
    name = ".".join(rule.path)
    if isinstance(value, Mapping) and "value" in value and "n" in value:
        if value.get(rule.end) is None:
            undefined = f"{name} is undefined for these data" if rule.end == "value" else f"{name} has no interval"
            raise _MissingError(undefined)
        value = value[rule.end]
    elif rule.end != "value":
        raise _MissingError(f"{name} is no estimate and has no {rule.end!r}")
    if value is None:
        raise _MissingError(f"{name} is missing")
    if not isinstance(value, int | float):
        raise _MissingError(f"{name} is not a number")
    return float(value)


# ---- counting findings


def _findings_outcome(rule: Rule, document: Mapping[str, Any], model: str) -> RuleOutcome:
    everywhere = rule.analysis == "findings"
    entries = {
        name: section[model]
        for name, section in analyses(document)
        if model in section and (everywhere or name == rule.analysis)
    }
    found = [finding for entry in entries.values() for finding in entry.get("findings", ())]
    found += document.get("findings", {}).get(model, ()) if everywhere else ()
    of_plugins = [f for name, f in findings_of_plugins(document, model) if everywhere or name == rule.analysis]
    found += [{"severity": finding.severity} for finding in of_plugins]
    outcome = _outcome(rule, model, None, partial(_count, rule, found))
    broken = [name for name, entry in entries.items() if entry["status"] == "failed"]
    by_plugin = _plugins(document).get(rule.analysis)
    has_plugin = isinstance(by_plugin, Mapping) and model in by_plugin and model not in entries
    if not has_plugin and not any(entry["status"] == "ok" for entry in entries.values()):
        return _outcome(rule, model, None, _nothing("no analysis that could find anything has a result"))
    # An analysis that broke may have had more to report: only a count that fails already is certain.
    if broken and outcome.status == "passed":
        return _outcome(rule, model, None, _nothing(f"{', '.join(broken)} failed and may have found more"))
    return outcome


def _count(rule: Rule, findings: Sequence[Mapping[str, Any]]) -> float:
    return float([finding["severity"] for finding in findings].count(rule.path[-1]))
